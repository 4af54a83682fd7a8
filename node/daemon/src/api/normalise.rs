//! The few things that are added to a service's spec before it is stored.
//!
//! A spec is the operator's words: it is stored and echoed as it came, fields unknown to us included.
//! Only what Docker itself fills in is filled in here, so that clients that read their spec back find
//! what they would find at Docker, and so that the same stack deployed twice compares equal.

use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};

use super::field_names::canonical;
use crate::predefined;

/// Fills in Docker's defaults. What has the wrong type is left alone: `validate` refuses it.
pub(super) fn normalise(spec: &mut Value) {
    canonical(spec);
    let Some(spec) = spec.as_object_mut() else { return };
    network_ids(spec);
    fill(spec, "Labels", json!({}));
    fill(spec, "Mode", json!({ "Replicated": {} }));
    if let Some(Value::Object(mode)) = spec.get_mut("Mode") {
        let modes = ["Replicated", "Global", "ReplicatedJob", "GlobalJob"];
        if !modes.iter().any(|name| has_value(mode, name)) {
            mode.insert("Replicated".to_owned(), json!({}));
        }
        // Without a number the CLI fails with "unrecognized service mode".
        if let Some(Value::Object(replicated)) = mode.get_mut("Replicated") {
            fill(replicated, "Replicas", json!(1));
        }
        // Without these it crashes.
        if let Some(Value::Object(job)) = mode.get_mut("ReplicatedJob") {
            fill(job, "MaxConcurrent", json!(1));
            let most = job.get("MaxConcurrent").cloned().unwrap_or_default();
            fill(job, "TotalCompletions", most);
        }
    }
    for config in ["UpdateConfig", "RollbackConfig"] {
        if let Some(Value::Object(config)) = spec.get_mut(config) {
            fill_text(config, "FailureAction", "pause");
            fill_text(config, "Order", "stop-first");
        }
    }
    // Stack files say nothing of it, and read it back from a Swarm.
    if let Some(Value::Object(endpoint)) = spec.get_mut("EndpointSpec") {
        fill_text(endpoint, "Mode", "vip");
    }
    fill(spec, "TaskTemplate", json!({}));
    if let Some(Value::Object(template)) = spec.get_mut("TaskTemplate") {
        fill_text(template, "Runtime", "container");
        fill(template, "ForceUpdate", json!(0));
        network_ids(template);
        if let Some(Value::Object(container)) = template.get_mut("ContainerSpec") {
            fill_text(container, "Isolation", "default");
            if let Some(Value::String(image)) = container.get_mut("Image") {
                *image = with_tag(image);
            }
        }
    }
}

/// Networks are named by their ids; stack files name them by name.
fn network_ids(attached: &mut Map<String, Value>) {
    for network in attached.get_mut("Networks").and_then(Value::as_array_mut).into_iter().flatten()
    {
        if let Some(Value::String(target)) = network.get_mut("Target")
            && let Some(name) = predefined::shown(target)
        {
            *target = predefined::id(name);
        }
    }
}

fn has_value(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key).is_some_and(|value| !value.is_null())
}

fn fill(map: &mut Map<String, Value>, key: &str, value: Value) {
    if !has_value(map, key) {
        map.insert(key.to_owned(), value);
    }
}

/// Only over nothing, null or an empty string; another type is left for `validate` to refuse.
fn fill_text(map: &mut Map<String, Value>, key: &str, value: &str) {
    if map.get(key).is_none_or(|there| there.is_null() || there == "") {
        map.insert(key.to_owned(), json!(value));
    }
}

/// `nginx` becomes `nginx:latest`; what has a tag or a digest, or is an image id, stays.
pub(super) fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    let is_id = image.len() == 64 && image.bytes().all(|b| b.is_ascii_hexdigit());
    // With a blank in it it is no name, and is refused as it was written.
    if image.is_empty() || image.contains(' ') || last.contains(':') || image.contains('@') || is_id
    {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

const ADJECTIVES: &[&str] = &[
    "agile", "bold", "brisk", "calm", "clever", "deep", "eager", "fleet", "gentle", "glad", "keen",
    "lively", "merry", "nimble", "proud", "quick", "quiet", "silver", "swift", "wise",
];
const FISH: &[&str] = &[
    "anchovy", "barbel", "bleak", "bream", "capelin", "char", "dace", "garfish", "grayling",
    "gudgeon", "herring", "mackerel", "minnow", "mullet", "perch", "pilchard", "roach", "sardine",
    "smelt", "sprat",
];

/// A name for a service that was created without one.
pub(super) fn random_name() -> String {
    let mut rng = rand::rng();
    let adjective = ADJECTIVES.choose(&mut rng).copied().unwrap_or("quick");
    let fish = FISH.choose(&mut rng).copied().unwrap_or("herring");
    format!("{adjective}_{fish}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(mut spec: Value) -> Value {
        normalise(&mut spec);
        spec
    }

    #[test]
    fn fills_in_what_docker_fills_in() {
        let spec = json!({"Name": "web", "TaskTemplate": {"ContainerSpec": {"Image": "nginx"}}});
        assert_eq!(
            normalised(spec),
            json!({
                "Name": "web",
                "Labels": {},
                "Mode": {"Replicated": {"Replicas": 1}},
                "TaskTemplate": {
                    "ContainerSpec": {"Image": "nginx:latest", "Isolation": "default"},
                    "Runtime": "container",
                    "ForceUpdate": 0,
                },
            })
        );
    }

    #[test]
    fn keeps_every_word_of_the_operator() {
        let spec = json!({
            "Name": "web", "Labels": {"a": "b"}, "FromTheFuture": [1, {"x": null}],
            "Mode": {"Global": {}},
            "TaskTemplate": {
                "ContainerSpec": {"Image": "h:5000/a/b@sha256:0", "Isolation": "default", "New": 1},
                "Runtime": "container", "ForceUpdate": 7, "RestartPolicy": {"Delay": 1},
            },
            "UpdateConfig": {
                "MaxFailureRatio": 0.4, "FailureAction": "continue", "Order": "start-first",
            },
        });
        assert_eq!(normalised(spec.clone()), spec);
    }

    #[test]
    fn twice_is_once() {
        let once = normalised(json!({"Mode": {"Replicated": null}, "Labels": null}));
        assert_eq!(normalised(once.clone()), once);
        assert_eq!(once["Mode"], json!({"Replicated": {"Replicas": 1}}));
    }

    #[test]
    fn an_endpoint_has_a_mode_where_there_is_one() {
        let of = |endpoint: Value| {
            normalised(json!({ "EndpointSpec": endpoint }))["EndpointSpec"].take()
        };
        let ports = json!([{"TargetPort": 80, "PublishMode": "host"}]);
        assert_eq!(of(json!({})), json!({"Mode": "vip"}));
        assert_eq!(of(json!({"Ports": ports})), json!({"Mode": "vip", "Ports": ports}));
        assert_eq!(of(json!({"Mode": "dnsrr"})), json!({"Mode": "dnsrr"}));
        assert_eq!(of(Value::Null), Value::Null);
    }

    #[test]
    fn a_job_says_how_much_of_it_there_is() {
        for (given, filled) in [
            (json!({}), (1, 1)),
            (json!({"MaxConcurrent": 3}), (3, 3)),
            (json!({"TotalCompletions": 5}), (1, 5)),
        ] {
            let job = normalised(json!({"Mode": {"ReplicatedJob": given}}));
            let (most, total) = filled;
            let wanted = json!({"MaxConcurrent": most, "TotalCompletions": total});
            assert_eq!(job["Mode"], json!({ "ReplicatedJob": wanted }));
        }
    }

    #[test]
    fn the_engines_own_networks_get_their_ids() {
        let by = |target: &str| json!({"TaskTemplate": {"Networks": [{"Target": target}, {"Target": "x"}]}});
        let once = normalised(by("host"));
        assert_eq!(once["TaskTemplate"]["Networks"][0]["Target"], predefined::id("host"));
        assert_eq!(once["TaskTemplate"]["Networks"][1]["Target"], "x");
        assert_eq!(normalised(by(&predefined::id("host"))), once);
    }

    #[test]
    fn garbage_is_left_to_the_validator() {
        for spec in [json!(null), json!([]), json!("x"), json!({"TaskTemplate": 5, "Mode": []})] {
            normalised(spec);
        }
        let odd = normalised(json!({"TaskTemplate": {"Runtime": 5}}));
        assert_eq!(odd["TaskTemplate"]["Runtime"], 5);
    }

    #[test]
    fn images_get_a_tag_only_where_they_need_one() {
        for (image, with) in [
            ("busybox", "busybox:latest"),
            ("h:5000/a", "h:5000/a:latest"),
            ("a:1", "a:1"),
            ("a@sha256:00", "a@sha256:00"),
            ("", ""),
        ] {
            assert_eq!(with_tag(image), with);
        }
        let id = "0".repeat(64);
        assert_eq!(with_tag(&id), id);
    }
}
