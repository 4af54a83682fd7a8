//! A task as Docker's API shows it.

use node::network::NetworkView;
use node::slot::{PortStatus, Slot, TaskStatus};
use node::views::TaskView;
use serde_json::{Map, Value, json};

use super::network_json::attachments;
use super::rfc3339;

pub(super) fn task(view: &TaskView, networks: &[NetworkView]) -> Value {
    let mut out = Map::new();
    let status = &view.status;
    out.insert("ID".to_owned(), json!(status.id.to_string()));
    out.insert("Version".to_owned(), json!({ "Index": view.version }));
    out.insert("CreatedAt".to_owned(), json!(rfc3339::from_wall(status.created)));
    out.insert("UpdatedAt".to_owned(), json!(rfc3339::from_wall(status.since)));
    out.insert("Labels".to_owned(), json!({}));
    out.insert("Spec".to_owned(), template(&view.template));
    out.insert("ServiceID".to_owned(), json!(view.service.to_string()));
    if let Slot::Index(index) = status.slot {
        out.insert("Slot".to_owned(), json!(index));
    }
    if let Some(node) = node_of(view) {
        out.insert("NodeID".to_owned(), json!(node));
    }
    out.insert("Status".to_owned(), task_status(status));
    out.insert("DesiredState".to_owned(), json!(view.desired.name()));
    let attachments = attachments(view, networks);
    if !attachments.is_empty() {
        out.insert("NetworksAttachments".to_owned(), Value::Array(attachments));
    }
    if let Some(iteration) = view.iteration {
        out.insert("JobIteration".to_owned(), json!({ "Index": iteration }));
    }
    Value::Object(out)
}

/// The node that runs it; for a global service also the one that is to run it, because clients make
/// the task's name of it.
fn node_of(view: &TaskView) -> Option<String> {
    match (view.node, view.status.slot) {
        (Some(node), _) | (None, Slot::Node(node)) => Some(node.to_string()),
        (None, Slot::Index(_)) => None,
    }
}

/// `docker service ps` reads `Spec.ContainerSpec.Image` without looking whether it is there.
fn template(template: &Value) -> Value {
    let mut spec = template.clone();
    if !spec["ContainerSpec"].is_object() {
        if !spec.is_object() {
            spec = json!({});
        }
        spec["ContainerSpec"] = json!({});
    }
    spec
}

fn task_status(status: &TaskStatus) -> Value {
    let mut out = Map::new();
    out.insert("Timestamp".to_owned(), json!(rfc3339::from_wall(status.since)));
    out.insert("State".to_owned(), json!(status.state.name()));
    out.insert("Message".to_owned(), json!(status.message));
    if let Some(error) = &status.error {
        out.insert("Err".to_owned(), json!(error));
    }
    if let Some(container) = &status.container {
        out.insert(
            "ContainerStatus".to_owned(),
            json!({
                "ContainerID": container,
                "PID": status.pid.unwrap_or_default(),
                "ExitCode": status.exit_code.unwrap_or_default(),
            }),
        );
    }
    let ports: Vec<Value> = status.ports.iter().map(port).collect();
    out.insert(
        "PortStatus".to_owned(),
        if ports.is_empty() { json!({}) } else { json!({ "Ports": ports }) },
    );
    Value::Object(out)
}

fn port(port: &PortStatus) -> Value {
    let protocol = port.protocol.name();
    json!({
        "Protocol": protocol,
        "TargetPort": port.target,
        "PublishedPort": port.published,
        "PublishMode": "host",
    })
}
