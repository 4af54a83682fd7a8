//! What `GET /services/{id}?insertDefaults=true` shows beside what the operator said.
//!
//! Only `docker service inspect` asks for it. Without the parameter these must be absent: clients send
//! back what they read, and a default written down would no longer follow a change of defaults.

use serde_json::{Map, Value, json};

const SECOND: i64 = 1_000_000_000;

/// Adds Swarm's defaults to a spec, where the spec is silent.
pub(super) fn insert_defaults(spec: &mut Value) {
    let Some(spec) = spec.as_object_mut() else { return };
    if let Some(Value::Object(template)) = spec.get_mut("TaskTemplate") {
        if let Some(Value::Object(container)) = template.get_mut("ContainerSpec") {
            silent(container, "StopGracePeriod", json!(10 * SECOND));
            silent(container, "DNSConfig", json!({}));
        }
        merge(
            template,
            "RestartPolicy",
            &json!({ "Condition": "any", "Delay": 5 * SECOND, "MaxAttempts": 0 }),
        );
    }
    let rollout = json!({
        "Parallelism": 1,
        "FailureAction": "pause",
        "Monitor": 5 * SECOND,
        "MaxFailureRatio": 0,
        "Order": "stop-first",
    });
    merge(spec, "UpdateConfig", &rollout);
    merge(spec, "RollbackConfig", &rollout);
}

fn silent(map: &mut Map<String, Value>, key: &str, value: Value) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value);
    }
}

fn merge(map: &mut Map<String, Value>, key: &str, defaults: &Value) {
    silent(map, key, json!({}));
    if let (Some(Value::Object(inner)), Value::Object(defaults)) = (map.get_mut(key), defaults) {
        for (name, value) in defaults {
            silent(inner, name, value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silent_fields_get_defaults_and_spoken_ones_stay() {
        let mut spec = json!({
            "TaskTemplate": {"ContainerSpec": {"Image": "x"}, "RestartPolicy": {"Condition": "none"}},
            "UpdateConfig": {"Parallelism": 0},
        });
        insert_defaults(&mut spec);
        assert_eq!(spec["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"], 10 * SECOND);
        assert_eq!(
            spec["TaskTemplate"]["RestartPolicy"],
            json!({"Condition": "none", "Delay": 5 * SECOND, "MaxAttempts": 0})
        );
        assert_eq!(spec["UpdateConfig"]["Parallelism"], 0);
        assert_eq!(spec["UpdateConfig"]["Monitor"], 5 * SECOND);
        assert_eq!(spec["RollbackConfig"]["Order"], "stop-first");
    }
}
