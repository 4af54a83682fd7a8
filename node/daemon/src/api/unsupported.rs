//! What a spec may ask for that has no meaning here (yet): refused with 501, never dropped silently.
//!
//! A field that is stored and not acted on is a promise broken where nobody looks. Each refusal holds
//! the words "not supported" and says what to do instead.

use serde_json::Value;

use super::error::ApiError;
use crate::predefined;

/// Finds the first thing in a spec that shoal cannot do.
pub(super) fn refuse(spec: &Value) -> Result<(), ApiError> {
    let template = &spec["TaskTemplate"];
    runtime(template)?;
    driver_options(spec)?;
    privileges(&template["ContainerSpec"])?;
    mounts(&template["ContainerSpec"]["Mounts"])?;
    if is_filled(&template["Resources"]["Reservations"]["GenericResources"]) {
        return Err(ApiError::unsupported(
            "reserving generic resources",
            "give the hosts that have them a label (shoal up --label gpu=true) and constrain the service to engine.labels.gpu==true",
        ));
    }
    Ok(())
}

/// What plain processes cannot have: networks of the cluster, and ports that are open on every node.
pub(super) fn refuse_networks(spec: &Value) -> Result<(), ApiError> {
    networks(spec)?;
    ports(&spec["EndpointSpec"])
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => map.values().any(|inner| !inner.is_null()),
        Value::String(text) => !text.is_empty(),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

fn runtime(template: &Value) -> Result<(), ApiError> {
    let runtime = template["Runtime"].as_str().unwrap_or_default();
    if !matches!(runtime, "" | "container") || is_filled(&template["PluginSpec"]) {
        return Err(ApiError::unsupported(
            &format!("the task runtime '{}'", if runtime.is_empty() { "plugin" } else { runtime }),
            "install plugins on each host with docker plugin install",
        ));
    }
    if is_filled(&template["NetworkAttachmentSpec"]) {
        return Err(ApiError::unsupported(
            "a network attachment task",
            "run the container as a service",
        ));
    }
    Ok(())
}

fn driver_options(spec: &Value) -> Result<(), ApiError> {
    let lists = [&spec["Networks"], &spec["TaskTemplate"]["Networks"]];
    if lists
        .iter()
        .filter_map(|list| list.as_array())
        .flatten()
        .any(|one| is_filled(&one["DriverOpts"]))
    {
        return Err(ApiError::unsupported(
            "an option for one service's place on a network (driver-opt)",
            "leave it out",
        ));
    }
    Ok(())
}

/// The host's own networks are everywhere; a process has no others.
fn networks(spec: &Value) -> Result<(), ApiError> {
    let lists = [&spec["Networks"], &spec["TaskTemplate"]["Networks"]];
    for network in lists.into_iter().filter_map(Value::as_array).flatten() {
        let target = network["Target"].as_str().unwrap_or_default();
        if predefined::named(target).is_none() {
            return Err(ApiError::unsupported(
                &format!("attaching a service to the network '{target}'"),
                "this node runs its services as plain processes, which share the host's network; leave it out, or run nodes with Docker",
            ));
        }
    }
    Ok(())
}

fn privileges(container: &Value) -> Result<(), ApiError> {
    if is_filled(&container["Privileges"]["CredentialSpec"]) {
        return Err(ApiError::unsupported(
            "a credential spec (gMSA)",
            "it exists on Windows hosts only",
        ));
    }
    let isolation = container["Isolation"].as_str().unwrap_or_default();
    if !matches!(isolation, "" | "default") {
        return Err(ApiError::unsupported(
            &format!("the isolation '{isolation}'"),
            "it exists on Windows hosts only; use default",
        ));
    }
    Ok(())
}

fn mounts(mounts: &Value) -> Result<(), ApiError> {
    for mount in mounts.as_array().into_iter().flatten() {
        if let Some(kind @ ("cluster" | "npipe" | "image")) = mount["Type"].as_str() {
            return Err(ApiError::unsupported(
                &format!("a mount of type {kind}"),
                "use bind, volume or tmpfs",
            ));
        }
    }
    Ok(())
}

fn ports(endpoint: &Value) -> Result<(), ApiError> {
    for port in endpoint["Ports"].as_array().into_iter().flatten() {
        if port["PublishMode"].as_str().unwrap_or("ingress") != "host" {
            let target = &port["TargetPort"];
            let published = port["PublishedPort"].as_u64().unwrap_or_default();
            return Err(ApiError::unsupported(
                "publishing a port in ingress mode",
                &format!(
                    "this node runs its services as plain processes, and nothing would answer on every node; publish it on the hosts that run a replica: --publish mode=host,target={target},published={published}"
                ),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_refusal_names_the_thing_and_a_way_out() {
        for (spec, word) in [
            (json!({"TaskTemplate": {"Runtime": "plugin"}}), "plugin"),
            (
                json!({"TaskTemplate": {"NetworkAttachmentSpec": {"ContainerID": "x"}}}),
                "attachment",
            ),
            (json!({"Networks": [{"Target": "x", "DriverOpts": {"a": "b"}}]}), "driver-opt"),
            (json!({"TaskTemplate": {"ContainerSpec": {"Isolation": "hyperv"}}}), "hyperv"),
            (
                json!({"TaskTemplate": {"ContainerSpec": {"Mounts": [{"Type": "cluster"}]}}}),
                "cluster",
            ),
            (
                json!({"TaskTemplate": {"Resources": {"Reservations": {"GenericResources": [{}]}}}}),
                "generic",
            ),
            (
                json!({"TaskTemplate": {"ContainerSpec": {"Privileges": {"CredentialSpec": {"File": "x"}}}}}),
                "credential",
            ),
        ] {
            let error = refuse(&spec).unwrap_err();
            assert_eq!(error.status, 501, "{spec}");
            assert!(error.message.contains("not supported"), "{}", error.message);
            assert!(error.message.contains(word), "{}", error.message);
        }
    }

    #[test]
    fn processes_have_no_networks() {
        for (spec, word) in [
            (json!({"TaskTemplate": {"Networks": [{"Target": "x"}]}}), "network 'x'"),
            (json!({"Networks": [{"Target": "x"}]}), "network 'x'"),
            (json!({"EndpointSpec": {"Ports": [{"TargetPort": 80}]}}), "mode=host,target=80"),
        ] {
            let error = refuse_networks(&spec).unwrap_err();
            assert_eq!(error.status, 501, "{spec}");
            assert!(error.message.contains(word), "{}", error.message);
        }
        let host = json!({"Networks": [{"Target": "host"}]});
        assert_eq!(refuse_networks(&host), Ok(()));
    }

    #[test]
    fn what_clients_send_empty_is_not_a_wish() {
        let spec = json!({
            "Mode": {"Replicated": {"Replicas": 1}},
            "Networks": [{"Target": "host"}],
            "TaskTemplate": {
                "Runtime": "container", "Networks": null,
                "ContainerSpec": {"Secrets": [], "Privileges": {"CredentialSpec": null, "SELinuxContext": null}},
            },
            "EndpointSpec": {"Mode": "vip", "Ports": [{"PublishMode": "host", "TargetPort": 80}]},
        });
        assert_eq!(refuse(&spec), Ok(()));
    }
}
