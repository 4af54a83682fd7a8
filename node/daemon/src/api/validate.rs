//! Whether a spec can be accepted, in Docker's words where Docker has them.
//!
//! Types are checked by reading the spec into bollard's models, which are generated from Docker's own
//! API description; meaning is checked here. What is right but has no meaning in shoal is
//! [`unsupported`]'s business.

use bollard::models::{EndpointSpec, ServiceSpec, TaskSpec, TaskSpecResources};
use node::MAX_JOB_SLOTS;
use node::spec::{MAX_REPLICAS, PARTITION_LABEL};
use placement::Constraint;
use serde_json::Value;

use super::error::ApiError;
use super::{unsupported, validate_container};

/// Swarm's: a service name is one component of a DNS name.
const MAX_NAME_BYTES: usize = 63;
/// A thousandth of a core, in Docker's unit.
const MIN_NANO_CPUS: i64 = 1_000_000;
const MIN_MEMORY_BYTES: i64 = 4 * 1024 * 1024;

/// Checks a spec that went through `normalise`.
pub(super) fn validate(spec: &Value) -> Result<(), ApiError> {
    if !spec.is_object() {
        return Err(ApiError::bad("the service spec must be a JSON object"));
    }
    unsupported::refuse(spec)?;
    words(spec)?;
    let typed: ServiceSpec = serde_path(spec)?;
    name(typed.name.as_deref().unwrap_or_default())?;
    partition(spec)?;
    mode(spec)?;
    let template = typed.task_template.unwrap_or_default();
    match &template.container_spec {
        Some(container) => {
            validate_container::validate(container)?;
            // The models spell it otherwise than clients do, and so do not see it.
            validate_container::health(&spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"])?;
        }
        // Docker's words for a template that says of no kind of task what it is.
        None => return Err(ApiError::bad("mismatched Runtime and *Spec fields")),
    }
    resources(template.resources.as_ref())?;
    restart(&template)?;
    placement(&template)?;
    rollout("update", &spec["UpdateConfig"])?;
    rollout("rollback", &spec["RollbackConfig"])?;
    endpoint(typed.endpoint_spec.as_ref())
}

/// What may be one of a few words: Docker's answer to any other is better than that of the types.
fn words(spec: &Value) -> Result<(), ApiError> {
    let orders = ["", "stop-first", "start-first"];
    let actions = ["", "pause", "continue", "rollback"];
    for (kind, config) in [("update", "UpdateConfig"), ("rollback", "RollbackConfig")] {
        let text = |field: &str| spec[config][field].as_str().unwrap_or_default();
        let (order, action) = (text("Order"), text("FailureAction"));
        if !orders.contains(&order) {
            return Err(ApiError::bad(format!("unrecognized {kind} order {order}")));
        }
        if !actions.contains(&action) || (action == "rollback" && kind == "rollback") {
            return Err(ApiError::bad(format!("unrecognized {kind} failure action {action}")));
        }
    }
    let condition = spec["TaskTemplate"]["RestartPolicy"]["Condition"].as_str().unwrap_or_default();
    if ["", "none", "on-failure", "any"].contains(&condition) {
        Ok(())
    } else {
        Err(ApiError::bad(format!("invalid RestartCondition: \"{condition}\"")))
    }
}

fn serde_path(spec: &Value) -> Result<ServiceSpec, ApiError> {
    use serde::Deserialize;
    ServiceSpec::deserialize(spec)
        .map_err(|error| ApiError::bad(format!("cannot read the service spec: {error}")))
}

fn name(name: &str) -> Result<(), ApiError> {
    if name.len() > MAX_NAME_BYTES {
        return Err(ApiError::bad("name must be 63 characters or fewer"));
    }
    let inside = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    if ends(bytes.first()) && ends(bytes.last()) && bytes.iter().all(|b| inside(*b)) {
        Ok(())
    } else {
        Err(ApiError::bad("name must be valid as a DNS name component"))
    }
}

fn partition(spec: &Value) -> Result<(), ApiError> {
    match spec["Labels"][PARTITION_LABEL].as_str() {
        None | Some("available" | "majority" | "fenced") => Ok(()),
        Some(other) => Err(ApiError::bad(format!(
            "invalid label {PARTITION_LABEL}='{other}': expected available, majority or fenced"
        ))),
    }
}

fn mode(spec: &Value) -> Result<(), ApiError> {
    let mode = &spec["Mode"];
    let modes = ["Replicated", "Global", "ReplicatedJob", "GlobalJob"];
    let set: Vec<&str> = modes.into_iter().filter(|name| !mode[name].is_null()).collect();
    let [set] = set[..] else {
        return Err(ApiError::bad(match set[..] {
            [] => "must specify service mode: Replicated, Global, ReplicatedJob or GlobalJob",
            _ => "must specify only one service mode",
        }));
    };
    let amounts: &[(&str, u64)] = match set {
        "Replicated" => &[("Replicas", MAX_REPLICAS)],
        "ReplicatedJob" => &[("MaxConcurrent", MAX_JOB_SLOTS), ("TotalCompletions", MAX_JOB_SLOTS)],
        _ => &[],
    };
    for (field, most) in amounts {
        let value = &mode[set][field];
        if value.as_u64().is_none_or(|amount| amount > *most) {
            return Err(ApiError::bad(format!(
                "invalid {field} {value}: expected a number from 0 to {most}"
            )));
        }
    }
    if set.ends_with("Job") && !spec["UpdateConfig"].is_null() {
        return Err(ApiError::bad("Jobs may not have an update config"));
    }
    Ok(())
}

fn resources(resources: Option<&TaskSpecResources>) -> Result<(), ApiError> {
    let limits = resources.and_then(|r| r.limits.as_ref());
    let reserved = resources.and_then(|r| r.reservations.as_ref());
    amounts(limits.and_then(|l| l.nano_cpus), limits.and_then(|l| l.memory_bytes))?;
    amounts(reserved.and_then(|r| r.nano_cpus), reserved.and_then(|r| r.memory_bytes))?;
    if limits.and_then(|l| l.pids).is_some_and(|pids| pids < 0) {
        return Err(ApiError::bad("invalid pids limit: must not be negative"));
    }
    Ok(())
}

fn amounts(nano_cpus: Option<i64>, memory: Option<i64>) -> Result<(), ApiError> {
    match nano_cpus {
        None | Some(0 | MIN_NANO_CPUS..) => {}
        Some(nanos) => {
            let (whole, rest) = (nanos / 1_000_000_000, (nanos % 1_000_000_000).abs());
            let cpus = format!("{whole}.{rest:09}");
            let cpus = cpus.trim_end_matches('0').trim_end_matches('.');
            return Err(ApiError::bad(format!("invalid cpu value {cpus}: Must be at least 0.001")));
        }
    }
    match memory {
        None | Some(0 | MIN_MEMORY_BYTES..) => Ok(()),
        Some(bytes) => {
            Err(ApiError::bad(format!("invalid memory value {bytes}: Must be at least 4MiB")))
        }
    }
}

fn restart(template: &TaskSpec) -> Result<(), ApiError> {
    let Some(policy) = &template.restart_policy else { return Ok(()) };
    for (name, value) in [
        ("restart-delay", policy.delay),
        ("restart-window", policy.window),
        ("restart-max-attempts", policy.max_attempts),
    ] {
        if value.is_some_and(|v| v < 0) {
            return Err(ApiError::bad(format!("TaskSpec: {name} cannot be negative")));
        }
    }
    Ok(())
}

fn placement(template: &TaskSpec) -> Result<(), ApiError> {
    let Some(placement) = &template.placement else { return Ok(()) };
    for text in placement.constraints.iter().flatten() {
        Constraint::parse(text)
            .map_err(|error| ApiError::bad(format!("{error} (in the constraint '{text}')")))?;
    }
    if placement.max_replicas.is_some_and(|max| max < 0) {
        return Err(ApiError::bad("invalid MaxReplicas: must not be negative"));
    }
    Ok(())
}

fn rollout(kind: &str, config: &Value) -> Result<(), ApiError> {
    for (name, field) in
        [("parallelism", "Parallelism"), ("delay", "Delay"), ("monitor", "Monitor")]
    {
        if config[field].as_i64().is_some_and(|v| v < 0) {
            return Err(ApiError::bad(format!("TaskSpec: {kind}-{name} cannot be negative")));
        }
    }
    if config["MaxFailureRatio"].as_f64().is_some_and(|ratio| !(0.0..=1.0).contains(&ratio)) {
        return Err(ApiError::bad(format!(
            "TaskSpec: {kind}-maxfailureratio cannot be less than 0 or bigger than 1"
        )));
    }
    Ok(())
}

fn endpoint(endpoint: Option<&EndpointSpec>) -> Result<(), ApiError> {
    let ports = endpoint.and_then(|e| e.ports.as_deref()).unwrap_or_default();
    let mut seen = std::collections::BTreeSet::new();
    for port in ports {
        let target = port.target_port.unwrap_or_default();
        let published = port.published_port.unwrap_or_default();
        if !(1..=65_535).contains(&target) || !(0..=65_535).contains(&published) {
            return Err(ApiError::bad(format!(
                "invalid port: target {target} must be 1 to 65535, published {published} 0 to 65535"
            )));
        }
        let protocol = port.protocol.map(|p| p.to_string()).unwrap_or_default();
        let protocol = if protocol.is_empty() { "tcp".to_owned() } else { protocol };
        if published != 0 && !seen.insert((published, protocol)) {
            return Err(ApiError::bad("EndpointSpec: duplicate published ports provided"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::normalise::normalise;
    use serde_json::json;

    fn check(change: impl FnOnce(&mut Value)) -> Result<(), ApiError> {
        let mut spec = json!({
            "Name": "web",
            "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}},
        });
        change(&mut spec);
        normalise(&mut spec);
        validate(&spec)
    }

    #[test]
    fn a_plain_spec_is_fine() {
        assert_eq!(check(|_| {}), Ok(()));
    }

    #[test]
    fn bad_specs_are_refused_in_dockers_words() {
        let cases: &[(&str, Value, &str)] = &[
            ("/Name", json!("-web"), "valid as a DNS name component"),
            ("/Name", json!("a".repeat(64)), "63 characters or fewer"),
            ("/Name", json!("we b"), "valid as a DNS name component"),
            ("/Name", json!(5), "cannot read the service spec"),
            ("/TaskTemplate/ContainerSpec/Image", json!(""), "image reference must be provided"),
            ("/TaskTemplate/ContainerSpec/Env", json!("A=1"), "cannot read the service spec"),
            (
                "/TaskTemplate/Placement",
                json!({"Constraints": ["node.role"]}),
                "constraint expected one operator from ==, !=",
            ),
            (
                "/TaskTemplate/RestartPolicy",
                json!({"Condition": "never"}),
                "invalid RestartCondition: \"never\"",
            ),
            (
                "/TaskTemplate/RestartPolicy",
                json!({"Delay": -1}),
                "restart-delay cannot be negative",
            ),
            (
                "/TaskTemplate/Resources",
                json!({"Limits": {"NanoCPUs": 1}}),
                "Must be at least 0.001",
            ),
            (
                "/TaskTemplate/Resources",
                json!({"Reservations": {"MemoryBytes": 1024}}),
                "at least 4MiB",
            ),
            (
                "/TaskTemplate/ContainerSpec/Healthcheck",
                json!({"Interval": 1000}),
                "Interval in Healthcheck cannot be less than 1ms",
            ),
            ("/UpdateConfig", json!({"MaxFailureRatio": 1.5}), "update-maxfailureratio"),
            ("/UpdateConfig", json!({"Order": "sideways"}), "unrecognized update order sideways"),
            (
                "/RollbackConfig",
                json!({"FailureAction": "rollback"}),
                "unrecognized rollback failure action rollback",
            ),
            ("/RollbackConfig", json!({"Delay": -5}), "rollback-delay cannot be negative"),
            ("/Mode", json!({"Replicated": {"Replicas": 2_000_000}}), "invalid Replicas"),
            ("/Mode", json!({"Replicated": {"Replicas": -1}}), "invalid Replicas"),
            ("/Mode", json!({"Replicated": {}, "Global": {}}), "only one service mode"),
            ("/Mode", json!({"Replicated": {}, "GlobalJob": {}}), "only one service mode"),
            ("/Mode", json!({"ReplicatedJob": {"MaxConcurrent": -1}}), "invalid MaxConcurrent"),
            (
                "/Mode",
                json!({"ReplicatedJob": {"MaxConcurrent": 1, "TotalCompletions": 200_000}}),
                "invalid TotalCompletions",
            ),
            ("/Labels", json!({"shoal.partition": "some"}), "available, majority or fenced"),
            (
                "/EndpointSpec",
                json!({"Ports": [{"TargetPort": 0, "PublishMode": "host"}]}),
                "invalid port",
            ),
            (
                "/EndpointSpec",
                json!({"Ports": [
                {"TargetPort": 1, "PublishedPort": 80, "PublishMode": "host"},
                {"TargetPort": 2, "PublishedPort": 80, "PublishMode": "host"}]}),
                "duplicate published ports",
            ),
        ];
        for (pointer, value, words) in cases {
            let error = check(|spec| {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                spec.pointer_mut(parent).unwrap()[key] = value.clone();
            })
            .unwrap_err();
            assert_eq!(error.status, 400, "{pointer} {value}");
            assert!(error.message.contains(words), "{pointer}: {}", error.message);
        }
    }

    #[test]
    fn no_shape_of_json_panics() {
        for spec in [json!(null), json!([1]), json!({"Mode": 3, "Labels": [], "TaskTemplate": "x"})]
        {
            assert!(validate(&spec).is_err());
        }
    }
}
