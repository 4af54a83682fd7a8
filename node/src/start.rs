//! From a slot and a template to a container: its name, its labels, and Swarm's Go templates filled
//! in. A pure mapping; the runtime translates the result for its engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use membership::id::{ClusterId, NodeId, TaskId};
use membership::time::Wall;
use serde_json::Value;

use crate::runtime::{StartTask, label};
use crate::services::Service;
use crate::slot::{Epoch, Place, PortStatus, TemplateId};

/// Who starts it: what the templates and labels need to know of this node.
#[derive(Clone, Debug)]
pub(crate) struct Starter {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub hostname: String,
    pub os: String,
    pub arch: String,
}

/// What a task is made from, fixed when the task is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub template: TemplateId,
    pub template_json: Arc<Value>,
    pub ports: Vec<PortStatus>,
}

impl Recipe {
    pub(crate) fn of(service: &Service) -> Option<Self> {
        let spec = service.active()?;
        Some(Self {
            template: spec.template,
            template_json: Arc::clone(&service.task_template),
            ports: spec.host_ports.clone(),
        })
    }
}

/// The order for the runtime.
pub(crate) fn start_task(
    starter: &Starter,
    service: &Service,
    place: Place,
    epoch: Epoch,
    task: TaskId,
    created: Wall,
    recipe: &Recipe,
) -> StartTask {
    let service_name = service.name().to_owned();
    let name = format!("{service_name}.{}.{task}", place.slot);
    let words = template_words(starter, service, place, task, &name);
    let mut template = (*recipe.template_json).clone();
    fill_templates(&mut template, &words);
    StartTask {
        labels: labels(starter, service, place, epoch, task, created, recipe, &template, &name),
        task,
        service: place.service,
        service_name,
        slot: place.slot,
        epoch,
        template: recipe.template,
        created,
        name,
        template_json: Arc::new(template),
        ports: recipe.ports.clone(),
    }
}

#[expect(
    clippy::too_many_arguments,
    reason = "one label for each; a struct would only rename them"
)]
fn labels(
    starter: &Starter,
    service: &Service,
    place: Place,
    epoch: Epoch,
    task: TaskId,
    created: Wall,
    recipe: &Recipe,
    template: &Value,
    name: &str,
) -> BTreeMap<String, String> {
    let own =
        template.get("ContainerSpec").and_then(|c| c.get("Labels")).and_then(Value::as_object);
    let mut labels: BTreeMap<String, String> = own
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    // Ours last: a container spec cannot pretend to be another task.
    labels.extend(
        [
            (label::NODE, starter.node.to_string()),
            (label::CLUSTER, starter.cluster.to_string()),
            (label::SLOT, place.slot.to_string()),
            (label::EPOCH, epoch.0.to_string()),
            (label::TEMPLATE, recipe.template.to_string()),
            (label::CREATED, created.0.to_string()),
            (label::SWARM_NODE_ID, starter.node.to_string()),
            (label::SWARM_SERVICE_ID, place.service.to_string()),
            (label::SWARM_SERVICE_NAME, service.name().to_owned()),
            (label::SWARM_TASK, String::new()),
            (label::SWARM_TASK_ID, task.to_string()),
            (label::SWARM_TASK_NAME, name.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels
}

fn template_words(
    starter: &Starter,
    service: &Service,
    place: Place,
    task: TaskId,
    task_name: &str,
) -> Vec<(String, String)> {
    let mut words: Vec<(String, String)> = [
        (".Service.ID", place.service.to_string()),
        (".Service.Name", service.name().to_owned()),
        (".Node.ID", starter.node.to_string()),
        (".Node.Hostname", starter.hostname.clone()),
        (".Node.Platform.OS", starter.os.clone()),
        (".Node.Platform.Architecture", starter.arch.clone()),
        (".Task.ID", task.to_string()),
        (".Task.Name", task_name.to_owned()),
        (".Task.Slot", place.slot.to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let labels = service.shown.get("Labels").and_then(Value::as_object);
    for (key, value) in labels.into_iter().flatten() {
        words.push((
            format!(".Service.Labels.{key}"),
            value.as_str().unwrap_or_default().to_owned(),
        ));
    }
    words
}

/// Fills `{{.Task.Slot}}` and its kin in the places where Swarm does: hostname, environment and
/// mounts.
fn fill_templates(template: &mut Value, words: &[(String, String)]) {
    let Some(container) = template.get_mut("ContainerSpec").and_then(Value::as_object_mut) else {
        return;
    };
    if let Some(hostname) = container.get_mut("Hostname") {
        fill(hostname, words);
    }
    for env in container.get_mut("Env").and_then(Value::as_array_mut).into_iter().flatten() {
        fill(env, words);
    }
    for mount in container.get_mut("Mounts").and_then(Value::as_array_mut).into_iter().flatten() {
        for field in ["Source", "Target"] {
            if let Some(text) = mount.get_mut(field) {
                fill(text, words);
            }
        }
    }
}

fn fill(value: &mut Value, words: &[(String, String)]) {
    let Some(text) = value.as_str() else { return };
    if !text.contains("{{") {
        return;
    }
    let mut out = String::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        let Some(len) = rest[open..].find("}}") else { break };
        let inner = rest[open + 2..open + len].trim();
        out.push_str(&rest[..open]);
        match words.iter().find(|(word, _)| word == inner) {
            Some((_, value)) => out.push_str(value),
            // Not ours to judge: what is no known template stays as it was written.
            None => out.push_str(&rest[open..open + len + 2]),
        }
        rest = &rest[open + len + 2..];
    }
    out.push_str(rest);
    *value = Value::String(out);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_and_unknown_ones_left() {
        let words = vec![(".Task.Slot".to_owned(), "7".to_owned())];
        let mut value = Value::from("web-{{ .Task.Slot }}-{{.Other}}-{{open");
        fill(&mut value, &words);
        assert_eq!(value, "web-7-{{.Other}}-{{open");
    }
}
