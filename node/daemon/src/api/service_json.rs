//! A service as Docker's API shows it.

use node::views::{ServiceView, UpdateStatus};
use serde_json::{Map, Value, json};

use super::defaults::insert_defaults;
use super::rfc3339;

/// What a client asked to see beside the service itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Show {
    /// `status=true`: `ServiceStatus`. docker-py insists that it is absent otherwise.
    pub(super) status: bool,
    /// `insertDefaults=true`
    pub(super) defaults: bool,
}

pub(super) fn service(view: &ServiceView, show: Show) -> Value {
    let mut spec = (*view.spec).clone();
    if show.defaults {
        insert_defaults(&mut spec);
    }
    let mut out = Map::new();
    out.insert("ID".to_owned(), json!(view.id.to_string()));
    out.insert("Version".to_owned(), json!({ "Index": view.version }));
    out.insert("CreatedAt".to_owned(), json!(rfc3339::from_wall(view.created)));
    out.insert("UpdatedAt".to_owned(), json!(rfc3339::from_wall(view.updated)));
    out.insert("Endpoint".to_owned(), endpoint(&view.spec["EndpointSpec"]));
    out.insert("Spec".to_owned(), spec);
    if let Some(previous) = &view.previous_spec {
        out.insert("PreviousSpec".to_owned(), (**previous).clone());
    }
    if let Some(status) = &view.update_status {
        out.insert("UpdateStatus".to_owned(), update_status(status));
    }
    if show.status {
        out.insert(
            "ServiceStatus".to_owned(),
            json!({
                "RunningTasks": view.running,
                "DesiredTasks": view.desired,
                "CompletedTasks": view.completed,
            }),
        );
    }
    Value::Object(out)
}

/// Empty for a service without ports, as Swarm's. Else the ports as the spec wants them, with Docker's defaults. Ports in host mode that the engine
/// chooses stay 0 here; the real ones are in each task's `PortStatus`.
fn endpoint(spec: &Value) -> Value {
    let wanted = spec["Ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ports: Vec<Value> = wanted.iter().map(port).collect();
    let mut out = Map::new();
    if ports.is_empty() {
        out.insert("Spec".to_owned(), json!({}));
    } else {
        out.insert("Spec".to_owned(), spec.clone());
        out.insert("Ports".to_owned(), Value::Array(ports));
    }
    Value::Object(out)
}

fn port(wanted: &Value) -> Value {
    let mut port = wanted.as_object().cloned().unwrap_or_default();
    for (key, default) in [("Protocol", "tcp"), ("PublishMode", "ingress")] {
        if port.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
            port.insert(key.to_owned(), json!(default));
        }
    }
    Value::Object(port)
}

fn update_status(status: &UpdateStatus) -> Value {
    let mut out = json!({
        "State": status.state,
        "StartedAt": rfc3339::from_wall(status.started),
        "Message": status.message,
    });
    if let Some(completed) = status.completed {
        out["CompletedAt"] = json!(rfc3339::from_wall(completed));
    }
    out
}

/// "replicated" or "global", as the `mode` filter calls them.
pub(super) fn mode_name(spec: &Value) -> &'static str {
    if spec["Mode"]["Global"].is_null() { "replicated" } else { "global" }
}
