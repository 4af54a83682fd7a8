//! Docker reads the names of JSON fields without regard to case, and clients rely on it: docker-py
//! sends `"replicated"` where the API says `"Replicated"`. Known names are put into the API's own
//! spelling before anything else looks at a spec; what is not known stays as it came.

use serde_json::{Map, Value};

/// The fields that the structs of a spec have (not the keys of maps such as labels).
const NAMES: &[&str] = &[
    "Name",
    "Labels",
    "TaskTemplate",
    "Mode",
    "UpdateConfig",
    "RollbackConfig",
    "Networks",
    "EndpointSpec",
    "ContainerSpec",
    "PluginSpec",
    "NetworkAttachmentSpec",
    "Resources",
    "RestartPolicy",
    "Placement",
    "ForceUpdate",
    "Runtime",
    "LogDriver",
    "Image",
    "Command",
    "Args",
    "Hostname",
    "Env",
    "Dir",
    "User",
    "Groups",
    "Privileges",
    "TTY",
    "OpenStdin",
    "ReadOnly",
    "Mounts",
    "StopSignal",
    "StopGracePeriod",
    "Healthcheck",
    "Hosts",
    "DNSConfig",
    "Secrets",
    "Configs",
    "Isolation",
    "Init",
    "Sysctls",
    "CapabilityAdd",
    "CapabilityDrop",
    "Ulimits",
    "OomScoreAdj",
    "Replicated",
    "Global",
    "ReplicatedJob",
    "GlobalJob",
    "Replicas",
    "MaxConcurrent",
    "TotalCompletions",
    "Parallelism",
    "Delay",
    "FailureAction",
    "Monitor",
    "MaxFailureRatio",
    "Order",
    "Limits",
    "Reservations",
    "NanoCPUs",
    "MemoryBytes",
    "Pids",
    "GenericResources",
    "Condition",
    "MaxAttempts",
    "Window",
    "Constraints",
    "Preferences",
    "Spread",
    "SpreadDescriptor",
    "MaxReplicas",
    "Platforms",
    "OS",
    "Architecture",
    "Options",
    "Ports",
    "Protocol",
    "TargetPort",
    "PublishedPort",
    "PublishMode",
    "Type",
    "Source",
    "Target",
    "Consistency",
    "BindOptions",
    "VolumeOptions",
    "TmpfsOptions",
    "Propagation",
    "NoCopy",
    "DriverConfig",
    "Subpath",
    "SizeBytes",
    "Test",
    "Interval",
    "Timeout",
    "Retries",
    "StartPeriod",
    "StartInterval",
    "CredentialSpec",
    "SELinuxContext",
    "Nameservers",
    "Search",
    "Role",
    "Availability",
];

/// Fields whose keys are people's own words.
const MAPS: &[&str] = &["Labels", "Options", "Sysctls", "DriverOpts"];

/// Structs are at most this deep in a spec; what lies deeper is nothing of Docker's.
const MAX_DEPTH: usize = 16;

/// Puts the names of known fields into the API's spelling, throughout.
pub(super) fn canonical(value: &mut Value) {
    walk(value, MAX_DEPTH);
}

fn walk(value: &mut Value, depth: usize) {
    if depth == 0 {
        return;
    }
    match value {
        Value::Array(list) => list.iter_mut().for_each(|item| walk(item, depth - 1)),
        Value::Object(map) => {
            if map.keys().any(|key| spelling(key).is_some_and(|known| known != key)) {
                *map = respelled(std::mem::take(map));
            }
            for (_, inner) in map.iter_mut().filter(|(key, _)| !MAPS.contains(&key.as_str())) {
                walk(inner, depth - 1);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn spelling(key: &str) -> Option<&'static str> {
    NAMES.iter().find(|name| name.eq_ignore_ascii_case(key)).copied()
}

/// Of two spellings of one field the last one counts, as in Go.
fn respelled(map: Map<String, Value>) -> Map<String, Value> {
    let known = |key: String| spelling(&key).map_or(key, str::to_owned);
    map.into_iter().map(|(key, value)| (known(key), value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn known_names_get_their_spelling_and_peoples_words_stay() {
        let mut spec = json!({
            "name": "web",
            "Mode": {"replicated": {"replicas": 2}},
            "Labels": {"name": "kept", "mode": "kept"},
            "TaskTemplate": {"containerspec": {"image": "x", "Mounts": [{"target": "/a"}], "sysctls": {"dir": "1"}}},
            "FromTheFuture": {"image": "?"},
        });
        canonical(&mut spec);
        assert_eq!(
            spec,
            json!({
                "Name": "web",
                "Mode": {"Replicated": {"Replicas": 2}},
                "Labels": {"name": "kept", "mode": "kept"},
                "TaskTemplate": {"ContainerSpec": {"Image": "x", "Mounts": [{"Target": "/a"}], "Sysctls": {"dir": "1"}}},
                "FromTheFuture": {"Image": "?"},
            })
        );
    }

    #[test]
    fn what_is_spelt_right_is_not_touched() {
        let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"TTY": true}}, "x": [1, null]});
        let mut same = spec.clone();
        canonical(&mut same);
        assert_eq!(same.to_string(), spec.to_string());
    }
}
