//! What is refused, and what is never touched.

use node::runtime::{ActionResult, ContainerHealth, ContainerState, StartFailure, label};
use serde_json::json;

use crate::bench::{Bench, IMAGE, docker, inspect, task, task_of};

#[tokio::test]
async fn an_image_that_is_nowhere_is_no_such_image() {
    let mut bench = Bench::new();
    let task = task_of(json!({"ContainerSpec": {"Image": "shoal-no-such-image:latest"}}));
    let (why, message) = bench.start_fails(&task).await;
    assert_eq!(why, StartFailure::NoSuchImage);
    assert!(message.starts_with("No such image: shoal-no-such-image:latest"), "{message}");
    assert!(bench.containers().is_empty());
}

/// The tag leads to other bytes than the digest says: running them would be wrong.
#[tokio::test]
async fn a_pinned_digest_is_never_replaced_by_its_tag() {
    let mut bench = Bench::new();
    let id = docker(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
    let with = |digest: &str| {
        task_of(
            json!({"ContainerSpec": {"Image": format!("{IMAGE}@{digest}"), "Command": ["sleep", "1000"]}}),
        )
    };
    let (why, message) = bench.start_fails(&with(&format!("sha256:{}", "0".repeat(64)))).await;
    assert_eq!(why, StartFailure::NoSuchImage, "{message}");
    // These are the very bytes.
    bench.start(&with(&id)).await;
}

#[tokio::test]
async fn a_spec_that_the_engine_or_shoal_refuses_is_a_bad_spec() {
    let mut bench = Bench::new();
    let refused = [
        (
            json!({"Mounts": [{"Type": "bind", "Source": "/no/such/dir", "Target": "/x"}]}),
            "does not exist",
        ),
        (json!({"CapabilityAdd": ["CAP_NONSENSE"]}), "CAP_NONSENSE"),
        (json!({"Env": [5]}), "ContainerSpec.Env[0]: 5 is not a text"),
    ];
    for (mut spec, expected) in refused {
        spec["Image"] = json!(IMAGE);
        spec["Command"] = json!(["sleep", "1000"]);
        let (why, message) = bench.start_fails(&task_of(json!({ "ContainerSpec": spec }))).await;
        assert_eq!(why, StartFailure::BadSpec, "{message}");
        assert!(message.contains(expected), "{message}");
    }
    assert!(bench.containers().is_empty());
}

#[tokio::test]
async fn a_program_that_does_not_start_leaves_no_container() {
    let mut bench = Bench::new();
    let (why, message) = bench.start_fails(&task(&["/no/such/program"])).await;
    assert_eq!(why, StartFailure::DidNotStart);
    assert!(message.starts_with("starting container failed: "), "{message}");
    assert!(bench.containers().is_empty());
}

#[tokio::test]
async fn a_port_that_is_taken_is_a_start_that_failed() {
    use node::slot::{PortStatus, Protocol};
    let mut bench = Bench::new();
    let taken = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let published = taken.local_addr().unwrap().port();
    let mut task = task(&["sleep", "1000"]);
    task.ports = vec![PortStatus { protocol: Protocol::Tcp, target: 80, published }];
    let (why, message) = bench.start_fails(&task).await;
    assert_eq!(why, StartFailure::DidNotStart, "{message}");
    assert!(message.contains("address already in use"), "{message}");
    assert!(bench.containers().is_empty());
}

#[tokio::test]
async fn a_second_start_of_a_task_finds_the_first() {
    let mut bench = Bench::new();
    let task = task(&["sleep", "1000"]);
    let first = bench.start(&task).await;
    let second = bench.start(&task).await;
    assert_eq!((&first.container, first.state), (&second.container, second.state));
    assert_eq!(bench.containers().len(), 1);
}

/// A crash between create and start leaves a created container; its task goes on from there.
#[tokio::test]
async fn a_start_goes_on_from_a_created_container() {
    let mut bench = Bench::new();
    let task = task(&["sleep", "1000"]);
    let labels = [
        (label::NODE, bench.owner.node.to_string()),
        (label::CLUSTER, bench.owner.cluster.to_string()),
        (label::SLOT, "1".into()),
        (label::EPOCH, "7".into()),
        (label::TEMPLATE, "8".into()),
        (label::CREATED, "1".into()),
        (label::SWARM_TASK_ID, task.task.to_string()),
        (label::SWARM_SERVICE_ID, task.service.to_string()),
        (label::SWARM_SERVICE_NAME, "web".into()),
    ];
    let labels = labels.map(|(name, value)| format!("--label={name}={value}"));
    let mut args = vec!["create", "--name", &task.name];
    args.extend(labels.iter().map(String::as_str));
    args.extend([IMAGE, "sleep", "1000"]);
    let created = docker(&args);
    assert_eq!(bench.list().await[0].state, ContainerState::Created);
    let found = bench.start(&task).await;
    assert_eq!(found.container, created);
    assert_eq!(found.state, ContainerState::Running { health: ContainerHealth::None });
}

#[tokio::test]
async fn what_is_not_this_nodes_is_neither_listed_nor_stopped() {
    let mut bench = Bench::new();
    let mine = task(&["sleep", "1000"]);
    let found = bench.start(&mine).await;
    let cluster = format!("--label={}={}", label::CLUSTER, bench.owner.cluster);
    let node = format!("--label={}={}", label::NODE, bench.owner.node);
    let run = |labels: &[&str], name: &str| {
        let mut args = vec!["run", "-d", "--name", name];
        args.extend(labels);
        args.extend([IMAGE, "sleep", "1000"]);
        docker(&args)
    };
    let other_node = format!("--label={}=0000000000000000000000001", label::NODE);
    let strangers = [
        run(&[&cluster, &other_node], &format!("other-{}", mine.task)),
        // It claims to be ours and does not say which task it is.
        run(&[&cluster, &node], &format!("garbled-{}", mine.task)),
    ];
    let neighbour = task(&["sleep", "1000"]);
    let taken = run(&[&cluster], &neighbour.name);
    let listed = bench.list().await;
    assert_eq!(listed.iter().map(|one| &one.container).collect::<Vec<_>>(), [&found.container]);
    for stranger in strangers.iter().chain([&taken]) {
        let result = bench.stop(mine.task, stranger, 0).await;
        assert!(matches!(result, ActionResult::StopFailed { .. }), "{result:?}");
        assert_eq!(inspect(stranger, "{{.State.Status}}"), "running");
    }
    // Its own container under another task's id: somebody is confused, and nothing is stopped.
    let result = bench.stop(neighbour.task, &found.container, 0).await;
    assert!(matches!(result, ActionResult::StopFailed { .. }), "{result:?}");
    // A name that a stranger has.
    let (why, message) = bench.start_fails(&neighbour).await;
    assert_eq!(why, StartFailure::DidNotStart);
    assert!(message.contains("docker rm"), "{message}");
    assert_eq!(inspect(&taken, "{{.State.Status}}"), "running");
}
