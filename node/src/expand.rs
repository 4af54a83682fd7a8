//! Which parts of a task template may hold templates, and with what they are filled in.
//!
//! As in Swarm: hostname, environment, and of mounts the source, the target and what a volume is
//! created with. Checked when a service is created or updated, with made-up ids; filled in where the
//! task starts. What cannot be filled in then rejects the task with the reason.

use serde_json::{Map, Value, json};

use crate::services::Service;
use crate::slot::Place;
use crate::start::Starter;
use crate::template::{TemplateError, expand};

/// The words of one task: what `{{.Service.Name}}` and its kin stand for.
pub(crate) fn words(
    starter: &Starter,
    service: &Service,
    place: Place,
    task: &str,
    name: &str,
) -> Value {
    json!({
        "Service": {
            "ID": place.service.to_string(),
            "Name": service.name(),
            "Labels": labels(&service.shown),
        },
        "Node": {
            "ID": starter.node.to_string(),
            "Hostname": starter.hostname,
            "Platform": { "OS": starter.os, "Architecture": starter.arch },
        },
        "Task": { "ID": task, "Name": name, "Slot": place.slot.to_string() },
    })
}

fn labels(spec: &Value) -> Value {
    let given = spec.get("Labels").filter(|labels| labels.is_object());
    given.cloned().unwrap_or_else(|| Value::Object(Map::new()))
}

/// Checks the templates of a service's spec, as Docker's API takes it.
///
/// # Errors
/// The field, and what is wrong in it.
pub fn check_templates(spec: &Value) -> Result<(), TemplateError> {
    let words = json!({
        "Service": {
            "ID": "service", "Name": spec.get("Name").and_then(Value::as_str).unwrap_or_default(),
            "Labels": labels(spec),
        },
        "Node": {
            "ID": "node", "Hostname": "host",
            "Platform": { "OS": "linux", "Architecture": "x86_64" },
        },
        "Task": { "ID": "task", "Name": "task", "Slot": "1" },
    });
    let mut template = spec.get("TaskTemplate").cloned().unwrap_or_default();
    expand_template(&mut template, &words)
}

/// Fills in the templates of a `TaskTemplate`.
///
/// # Errors
/// The field, and what is wrong in it.
pub(crate) fn expand_template(template: &mut Value, words: &Value) -> Result<(), TemplateError> {
    let Some(container) = template.get_mut("ContainerSpec").and_then(Value::as_object_mut) else {
        return Ok(());
    };
    if let Some(hostname) = container.get_mut("Hostname") {
        fill("ContainerSpec.Hostname", hostname, words)?;
    }
    for (n, env) in list(container.get_mut("Env")).enumerate() {
        fill(&format!("ContainerSpec.Env[{n}]"), env, words)?;
    }
    for (n, mount) in list(container.get_mut("Mounts")).enumerate() {
        expand_mount(&format!("ContainerSpec.Mounts[{n}]"), mount, words)?;
    }
    Ok(())
}

fn list(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

fn expand_mount(field: &str, mount: &mut Value, words: &Value) -> Result<(), TemplateError> {
    for name in ["Source", "Target"] {
        if let Some(text) = mount.get_mut(name) {
            fill(&format!("{field}.{name}"), text, words)?;
        }
    }
    for path in ["/VolumeOptions/Labels", "/VolumeOptions/DriverConfig/Options"] {
        let values = mount.pointer_mut(path).and_then(Value::as_object_mut);
        for (name, value) in values.into_iter().flatten() {
            fill(&format!("{field}{}.{name}", path.replace('/', ".")), value, words)?;
        }
    }
    Ok(())
}

fn fill(field: &str, value: &mut Value, words: &Value) -> Result<(), TemplateError> {
    let Some(text) = value.as_str() else { return Ok(()) };
    let filled = expand(text, words).map_err(|e| TemplateError(format!("{field}: {e}")))?;
    *value = Value::String(filled);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(container: Value) -> Value {
        json!({
            "Name": "web", "Labels": {"tier": "front"},
            "TaskTemplate": {"ContainerSpec": container},
        })
    }

    #[test]
    fn the_fields_that_swarm_expands_are_expanded() {
        let mut template = json!({"ContainerSpec": {
            "Hostname": "{{.Task.Slot}}",
            "Env": ["A={{.Task.Slot}}", "B=plain"],
            "Dir": "{{.Task.Slot}}",
            "Mounts": [{
                "Source": "v{{.Task.Slot}}", "Target": "/{{.Task.Slot}}",
                "VolumeOptions": {
                    "Labels": {"l": "{{.Task.Slot}}"},
                    "DriverConfig": {"Name": "local", "Options": {"o": "x{{.Task.Slot}}"}},
                },
            }],
        }});
        expand_template(&mut template, &json!({"Task": {"Slot": "7"}})).unwrap();
        let container = &template["ContainerSpec"];
        assert_eq!(container["Hostname"], "7");
        assert_eq!(container["Env"], json!(["A=7", "B=plain"]));
        assert_eq!(container["Dir"], "{{.Task.Slot}}", "not one of Swarm's");
        let mount = &container["Mounts"][0];
        assert_eq!((&mount["Source"], &mount["Target"]), (&json!("v7"), &json!("/7")));
        assert_eq!(mount["VolumeOptions"]["Labels"]["l"], "7");
        assert_eq!(mount["VolumeOptions"]["DriverConfig"]["Options"]["o"], "x7");
    }

    #[test]
    fn a_bad_template_is_refused_with_its_field() {
        for (container, says) in [
            (json!({"Hostname": "{{.Task.Slto}}"}), "ContainerSpec.Hostname"),
            (json!({"Env": ["A=1", "B={{.Service.Labels.none}}"]}), "ContainerSpec.Env[1]"),
            (json!({"Mounts": [{"Source": "{{x"}]}), "ContainerSpec.Mounts[0].Source"),
        ] {
            let error = check_templates(&spec(container)).unwrap_err().to_string();
            assert!(error.starts_with(says), "{error}");
        }
        assert_eq!(check_templates(&spec(json!({"Env": ["A={{.Service.Labels.tier}}"]}))), Ok(()));
        for odd in [json!(null), json!([]), json!({"TaskTemplate": 1}), spec(json!({"Env": [1]}))] {
            assert_eq!(check_templates(&odd), Ok(()));
        }
    }
}
