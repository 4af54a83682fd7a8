//! A service as Docker's API shows it.

use node::network::NetworkView;
use node::slot::PortStatus;
use node::views::{ServiceView, UpdateStatus};
use serde_json::{Map, Value, json};

use super::defaults::insert_defaults;
use super::network_json::virtual_addresses;
use super::rfc3339;

/// What a client asked to see beside the service itself.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Show {
    /// `status=true`: `ServiceStatus`. docker-py insists that it is absent otherwise.
    pub(super) status: bool,
    /// `insertDefaults=true`
    pub(super) defaults: bool,
}

pub(super) fn service(view: &ServiceView, networks: &[NetworkView], show: Show) -> Value {
    let mut spec = (*view.spec).clone();
    if show.defaults {
        insert_defaults(&mut spec);
    }
    let mut out = Map::new();
    out.insert("ID".to_owned(), json!(view.id.to_string()));
    out.insert("Version".to_owned(), json!({ "Index": view.version }));
    out.insert("CreatedAt".to_owned(), json!(rfc3339::from_wall(view.created)));
    out.insert("UpdatedAt".to_owned(), json!(rfc3339::from_wall(view.updated)));
    out.insert("Endpoint".to_owned(), endpoint(view, networks));
    out.insert("Spec".to_owned(), spec);
    if let Some(previous) = &view.previous_spec {
        out.insert("PreviousSpec".to_owned(), (**previous).clone());
    }
    if let Some(status) = &view.update_status {
        out.insert("UpdateStatus".to_owned(), update_status(status));
    }
    if let Some(job) = &view.job {
        out.insert(
            "JobStatus".to_owned(),
            json!({
                "JobIteration": { "Index": job.iteration },
                "LastExecution": rfc3339::from_wall(job.executed),
            }),
        );
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
fn endpoint(view: &ServiceView, networks: &[NetworkView]) -> Value {
    let spec = &view.spec["EndpointSpec"];
    let wanted = spec["Ports"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ports: Vec<Value> = wanted.iter().map(|wanted| port(wanted, &view.published)).collect();
    let addresses = virtual_addresses(view, networks);
    let mut out = Map::new();
    if ports.is_empty() && addresses.is_empty() {
        out.insert("Spec".to_owned(), json!({}));
    } else {
        out.insert("Spec".to_owned(), spec.clone());
    }
    if !ports.is_empty() {
        out.insert("Ports".to_owned(), Value::Array(ports));
    }
    if !addresses.is_empty() {
        out.insert("VirtualIPs".to_owned(), Value::Array(addresses));
    }
    Value::Object(out)
}

/// `chosen`: the ports that are open on every node, those that the spec leaves open included.
fn port(wanted: &Value, chosen: &[PortStatus]) -> Value {
    let mut port = wanted.as_object().cloned().unwrap_or_default();
    for (key, default) in [("Protocol", "tcp"), ("PublishMode", "ingress")] {
        if port.get(key).and_then(Value::as_str).is_none_or(str::is_empty) {
            port.insert(key.to_owned(), json!(default));
        }
    }
    if port["PublishMode"] == "ingress" && wanted["PublishedPort"].as_u64().unwrap_or(0) == 0 {
        let target = wanted["TargetPort"].as_u64();
        let found = chosen.iter().find(|chosen| {
            Some(u64::from(chosen.target)) == target && port["Protocol"] == chosen.protocol.name()
        });
        if let Some(found) = found {
            port.insert("PublishedPort".to_owned(), json!(found.published));
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

/// What the `mode` filter and the CLI call it.
pub(super) fn mode_name(spec: &Value) -> &'static str {
    let names =
        [("Global", "global"), ("ReplicatedJob", "replicated-job"), ("GlobalJob", "global-job")];
    let set = names.into_iter().find(|(mode, _)| !spec["Mode"][mode].is_null());
    set.map_or("replicated", |(_, name)| name)
}
