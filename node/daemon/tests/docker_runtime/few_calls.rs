//! What is asked of the engine for a start and for a resync, and that what is not asked is still known.

use node::runtime::{ContainerHealth, ContainerState};
use node::slot::{PortStatus, Protocol};
use serde_json::json;

use crate::bench::{Bench, IMAGE, docker, random, task, task_of};
use crate::relay::Relay;

const RUNNING: ContainerState = ContainerState::Running { health: ContainerHealth::None };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_is_two_calls_and_a_resync_is_one() {
    let relay = Relay::new();
    let mut bench = relay.bench().await;
    // The first start of an image asks whether it has a health check.
    bench.start(&task(&["sleep", "1000"])).await;
    relay.take_looks();
    let second = task(&["sleep", "1000"]);
    let found = bench.start(&second).await;
    let started = format!("POST /containers/{}/start", found.container);
    // Where the engine's event overtakes its answer, the container is looked at once; the first one may be, whose
    // start the engine tells of late.
    let (looks, orders) = relay.take_looks();
    assert_eq!(orders, ["POST /containers/create".to_owned(), started]);
    assert!(looks <= 2, "{looks} looks");
    // A listing looks at what it has not seen, and what the engine tells of late is looked at once more. Soon nothing
    // is left to look at.
    let listed = bench.list().await;
    assert!(relay.take_looks().0 <= 4);
    let mut asked = Vec::new();
    for _ in 0..6 {
        assert_eq!(bench.list().await, listed);
        asked.push(relay.take_looks());
        if asked.last().is_some_and(|(looks, _)| *looks == 0) {
            break;
        }
    }
    assert_eq!(asked.last(), Some(&(0, vec!["GET /containers/json".to_owned()])), "{asked:?}");
    // What changed is looked at.
    docker(&["kill", &found.container]);
    bench.state(second.task, |state| matches!(state, ContainerState::Exited { .. })).await;
    relay.take_looks();
    let ended = bench.list().await;
    assert_eq!(ended.iter().filter(|one| one.state == RUNNING).count(), 1);
    let (looks, asked) = relay.take_looks();
    assert_eq!(asked, ["GET /containers/json"]);
    assert!((1..=3).contains(&looks), "{looks} looks");
}

#[tokio::test]
async fn an_end_that_comes_with_the_start_is_reported_after_it() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        let brief = task(&["true"]);
        bench.start(&brief).await;
        bench.state(brief.task, |state| matches!(state, ContainerState::Exited { .. })).await;
    }
}

#[tokio::test]
async fn a_health_check_that_came_with_a_newer_image_is_noticed() {
    let mut bench = Bench::new();
    let image = format!("shoal-runtime-check-{:x}:1", random());
    docker(&["tag", IMAGE, &image]);
    let check = json!({"ContainerSpec": {"Image": image, "Command": ["sleep", "1000"]}});
    let found = bench.start(&task_of(check.clone())).await;
    assert_eq!(found.state, RUNNING);
    docker(&["commit", "--change", "HEALTHCHECK CMD true", &found.container, &image]);
    // The engine tells of the image after it has it; what is started next may still be a moment too early.
    let mut states = Vec::new();
    for _ in 0..20 {
        states.push(bench.start(&task_of(check.clone())).await.state);
        if states.last() == Some(&ContainerState::Running { health: ContainerHealth::Starting }) {
            break;
        }
    }
    docker(&["rmi", "-f", &image]);
    let starting = ContainerState::Running { health: ContainerHealth::Starting };
    assert_eq!(states.last(), Some(&starting), "{states:?}");
}

#[tokio::test]
async fn ports_are_known_whoever_chose_them() {
    let mut bench = Bench::new();
    let port = |published| PortStatus { protocol: Protocol::Tcp, target: 80, published };
    let mut engine = task(&["sleep", "1000"]);
    engine.ports = vec![port(0)];
    let found = bench.start(&engine).await;
    assert!(found.ports.len() == 1 && found.ports[0].published != 0, "{:?}", found.ports);
    // The engine has just let go of this one.
    bench.stop(engine.task, &found.container, 0).await;
    let mut operator = task(&["sleep", "1000"]);
    operator.ports.clone_from(&found.ports);
    assert_eq!(bench.start(&operator).await.ports, operator.ports);
    assert_eq!(bench.list().await[0].ports, operator.ports);
}
