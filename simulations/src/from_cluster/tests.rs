use super::*;
use crate::cores;
use crate::scenario::play::play;
use crate::scenario::{Scenario, library};

fn node(n: u64, labels: &Value, set: &Value) -> Value {
    json!({
        "ID": format!("{n:025}"),
        "Version": { "Index": 7 },
        "Spec": { "Labels": set, "Role": "manager", "Availability": if n == 2 { "drain" } else { "active" } },
        "Description": {
            "Hostname": format!("box{n}"),
            "Platform": { "Architecture": "x86_64", "OS": "linux" },
            "Resources": { "NanoCPUs": 4_000_000_000u64, "MemoryBytes": 8_589_934_592u64 },
            "Engine": { "EngineVersion": "28.0.0", "Labels": labels },
        },
        "Status": { "State": if n == 5 { "down" } else { "ready" }, "Addr": "10.0.0.1" },
    })
}

fn answers() -> Answers {
    let service = |name: &str, replicas: u64| {
        json!({ "ID": name, "Version": { "Index": 1 }, "Spec": {
            "Name": name,
            "TaskTemplate": {
                "ContainerSpec": { "Image": "nginx:1.27" },
                "Resources": { "Reservations": { "NanoCPUs": 100_000_000u64 } },
                "Placement": { "Constraints": if name == "db" { json!(["node.labels.disk==ssd"]) } else { json!([]) } },
            },
            "Mode": { "Replicated": { "Replicas": replicas } },
        }})
    };
    let nothing = json!({});
    Answers {
        nodes: json!([
            node(0, &json!({ "rack": "r1" }), &json!({ "disk": "ssd" })),
            node(1, &json!({ "rack": "r1" }), &nothing),
            node(2, &json!({ "rack": "r2" }), &nothing),
            node(3, &json!({ "rack": "r2" }), &nothing),
            node(5, &nothing, &nothing),
        ]),
        services: json!([
            service("web", 8),
            service("db", 1),
            json!({ "ID": "x", "Spec": { "Name": "odd" } })
        ]),
        tasks: json!([
            { "Status": { "State": "running" } },
            { "Status": { "State": "failed" } },
            { "NodeID": format!("{:025}", 5), "Status": { "State": "running" } },
        ]),
        status: json!({ "members": [{ "id": format!("{:025}", 0), "zone": "east" }, { "id": "?", "zone": "west" }] }),
    }
}

#[test]
fn nodes_and_services_arrive_as_they_are() {
    let cluster = Cluster::read(&answers()).unwrap();
    let hosts = &cluster.layout.hosts;
    assert_eq!(hosts.len(), 4, "the one that is down is left out");
    assert_eq!((hosts[0].name.as_str(), hosts[0].zone.as_str()), ("box0", "east"));
    assert_eq!(hosts[1].capacity, Resources { cpu_milli: 4_000, memory_bytes: 8 << 30 });
    assert_eq!(cluster.layout.racks(), ["r1", "r2"]);
    assert_eq!(cluster.layout.node_specs[&HostIx(0)]["Labels"], json!({ "disk": "ssd" }));
    assert_eq!(cluster.layout.node_specs[&HostIx(2)]["Availability"], "drain");
    assert!(!cluster.layout.node_specs.contains_key(&HostIx(1)));
    assert_eq!(cluster.services.len(), 2);
    assert_eq!(cluster.largest(), Some(("web".to_owned(), 8)));
    let notes = cluster.notes.join("\n");
    assert!(notes.contains("box5 is down") && notes.contains("odd is left out"), "{notes}");
    assert!(notes.contains("4 nodes, 2 services; 1 replica runs there now"), "{notes}");
}

#[test]
fn what_is_no_cluster_is_refused_in_words() {
    let one = Answers { nodes: json!([node(0, &json!({}), &json!({}))]), ..answers() };
    assert!(Cluster::read(&one).unwrap_err().contains("at least two"));
    let odd = Answers { nodes: json!({ "message": "x" }), ..answers() };
    assert!(Cluster::read(&odd).unwrap_err().contains("GET /nodes"));
    // Anything may come over a socket; none of it panics.
    for value in [json!([null]), json!([[]]), json!([{ "Description": 3 }]), json!("x")] {
        let garbage = Answers {
            nodes: value.clone(),
            services: value.clone(),
            tasks: value.clone(),
            status: value,
        };
        let _ = Cluster::read(&garbage);
    }
}

#[test]
fn names_of_the_scenario_that_the_cluster_does_not_have_are_given_away() {
    let mut cluster = Cluster::read(&answers()).unwrap();
    let file = library::file("zone-loss").unwrap();
    let written = Scenario::on("zone-loss", &file, None).unwrap().layout;
    cluster.give_names(&written);
    assert_eq!(
        cluster.layout.group("zone-2").map(<[HostIx]>::len),
        Some(1),
        "the one zone there is"
    );
    assert_eq!(cluster.layout.group("host-1"), Some(&[HostIx(0)][..]));
    assert_eq!(cluster.layout.group("host-12"), Some(&[HostIx(3)][..]));
    let notes = cluster.notes.join("\n");
    assert!(notes.contains("'zone-2' of the scenario is here box0"), "{notes}");
}

#[test]
fn every_named_scenario_can_be_played_on_any_cluster() {
    for (name, _) in library::LIBRARY {
        let file = library::file(name).unwrap();
        let cluster = Cluster::read(&answers()).unwrap();
        let scenario = Scenario::on(name, &file, Some(cluster)).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(scenario.layout.hosts.len(), 4, "{name}");
    }
}

#[test]
fn a_rack_of_the_cluster_is_lost_and_its_replicas_come_back() {
    let file = library::file("rack-loss").unwrap();
    let cluster = Cluster::read(&answers()).unwrap();
    let scenario = Scenario::on("rack-loss", &file, Some(cluster)).unwrap();
    let played = play(&scenario, 1, false, None, cores::real(cores::settings()));
    assert_eq!(played.outcome.count, 0, "{:#?}", played.outcome.violations);
    assert_eq!(played.sheet.wanted, 9);
    assert!(played.sheet.moves.lost > 0);
}

/// What a service names and the simulated cluster does not have would keep its tasks from starting.
#[test]
fn services_are_taken_over_without_secrets_configs_and_networks() {
    let mut answers = answers();
    let spec = &mut answers.services[0]["Spec"];
    spec["TaskTemplate"]["ContainerSpec"]["Secrets"] = json!([{ "SecretID": format!("{:025}", 9), "SecretName": "key", "File": { "Name": "key" } }]);
    spec["TaskTemplate"]["Networks"] = json!([{ "Target": format!("{:025}", 8) }]);
    let cluster = Cluster::read(&answers).unwrap();
    let notes = cluster.notes.join("\n");
    assert!(notes.contains("web is simulated without its networks, secrets"), "{notes}");
    let file = library::file("rack-loss").unwrap();
    let scenario = Scenario::on("rack-loss", &file, Some(cluster)).unwrap();
    let played = play(&scenario, 1, false, None, cores::real(cores::settings()));
    assert_eq!((played.outcome.count, played.sheet.wanted), (0, 9));
}
