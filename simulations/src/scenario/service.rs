//! A service of a scenario as Docker's spec, which is what the simulated operators hand to a node.

use node::spec::ServiceSpec;
use serde_json::{Value, json};

use super::amount;
use super::file::Service;
use super::problem::{Problems, nearest};

/// How the containers of a service behave; the engine of the simulator reads it from the image's name.
pub const BEHAVIOURS: [(&str, &str); 8] = [
    ("web", "serves until it is stopped"),
    ("crash", "ends with an error within seconds of every start"),
    ("flaky", "three starts in ten end within 20 s"),
    ("flaky-job", "does its work for up to 20 s and fails three times in ten"),
    ("job", "does its work for up to 20 s and ends with 0"),
    ("missing", "its image does not exist"),
    ("slow", "its image takes 5 to 90 s to pull"),
    ("sick", "turns unhealthy now and then, where it has a health check"),
];

pub(super) fn spec(service: &Service, place: &str, problems: &mut Problems) -> Value {
    let behaves = service.behaves.as_deref().unwrap_or("web");
    let known = BEHAVIOURS.map(|(name, _)| name);
    if !known.contains(&behaves) {
        let hint = nearest(behaves, known).map(|near| format!("; did you mean '{near}'?"));
        let text =
            format!("'{behaves}' is not one of {}{}", known.join(", "), hint.unwrap_or_default());
        problems.add(place, "behaves", text);
    }
    let global = service.global.unwrap_or(false);
    if global && service.replicas.is_some() {
        problems.add(
            place,
            "replicas",
            "a global service has one on each node: leave `replicas` out",
        );
    }
    let mut spec = json!({
        "Name": service.name,
        "TaskTemplate": { "ContainerSpec": { "Image": format!("sim/{behaves}") } },
        "Mode": if global {
            json!({ "Global": {} })
        } else {
            json!({ "Replicated": { "Replicas": service.replicas.unwrap_or(1) } })
        },
    });
    let task = &mut spec["TaskTemplate"];
    if service.health_check.unwrap_or(false) {
        task["ContainerSpec"]["Healthcheck"] = json!({ "Test": ["CMD", "true"] });
    }
    if let Some(cpus) = service.cpus {
        let milli = problems.take(place, "cpus", amount::cores(cpus));
        task["Resources"]["Reservations"]["NanoCPUs"] = json!(milli.saturating_mul(1_000_000));
    }
    if let Some(memory) = &service.memory {
        let bytes = problems.take(place, "memory", amount::bytes(memory));
        task["Resources"]["Reservations"]["MemoryBytes"] = json!(bytes);
    }
    if !service.constraints.is_empty() {
        task["Placement"]["Constraints"] = json!(service.constraints);
    }
    if !service.spread.is_empty() {
        let spread =
            service.spread.iter().map(|by| json!({ "Spread": { "SpreadDescriptor": by } }));
        task["Placement"]["Preferences"] = spread.collect();
    }
    if let Some(most) = service.max_per_node {
        task["Placement"]["MaxReplicas"] = json!(most);
    }
    if let Some(partition) = &service.partition {
        spec["Labels"] = json!({ node::spec::PARTITION_LABEL: partition });
    }
    if let Some(update) = &service.update {
        let delay = update.delay.as_deref().unwrap_or("0");
        let delay = problems.take(&format!("{place}.update"), "delay", amount::span(delay));
        spec["UpdateConfig"] = json!({
            "Parallelism": update.parallelism.unwrap_or(1),
            "Order": update.order.as_deref().unwrap_or("stop-first"),
            "Delay": delay.0.saturating_mul(1_000),
            "FailureAction": "continue",
        });
    }
    // The node itself has the last word on what a service may be.
    if let Err(error) = ServiceSpec::parse(&spec) {
        problems.add(place, "", error.0);
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        let service: Service = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut problems = Problems::default();
        let spec = spec(&service, "services[1]", &mut problems);
        problems.end("test").map(|()| spec).map_err(|e| e.to_string())
    }

    #[test]
    fn everything_that_can_be_said_arrives_in_the_spec() {
        let spec = read(
            "name = 'db'\nreplicas = 3\nbehaves = 'sick'\ncpus = 0.5\nmemory = '1GiB'\nconstraints = ['node.labels.disk==ssd']\nspread = ['node.labels.rack']\nmax_per_node = 1\npartition = 'fenced'\nhealth_check = true\nupdate = { order = 'start-first', delay = '1s', parallelism = 2 }",
        )
        .unwrap();
        let parsed = ServiceSpec::parse(&spec).unwrap();
        assert_eq!((parsed.replicas, parsed.max_per_node), (3, 1));
        assert_eq!(parsed.reservation.cpu_milli, 500);
        assert_eq!(parsed.update.delay.0, 1_000);
        assert!(parsed.update.start_first && parsed.partition == node::spec::Partition::Fenced);
        assert_eq!(parsed.spread, ["node.labels.rack"]);
    }

    #[test]
    fn what_the_node_would_refuse_is_refused_at_once() {
        for (text, says) in [
            ("name = '-x'", "services[1]"),
            ("name = 'x'\nbehaves = 'wep'", "did you mean 'web'?"),
            ("name = 'x'\nglobal = true\nreplicas = 3", "services[1].replicas"),
            ("name = 'x'\npartition = 'half'", "not one of available, majority, fenced"),
            ("name = 'x'\nconstraints = ['a=b']", "expected one operator"),
            ("name = 'x'\nupdate = { order = 'sideways' }", "sideways"),
            ("name = 'x'\nmemory = 'much'", "services[1].memory"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
