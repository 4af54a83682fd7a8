//! An engine that hangs, goes away and comes back: played by a relay in front of the real one.

use std::time::{Duration, Instant};

use daemon::runtime::{Owner, Runtime};
use membership::id::{ClusterId, NodeId};
use node::runtime::{ActionResult, ContainerState, RuntimeAction, RuntimeEvent, StartFailure};

use crate::bench::{BOUND, Bench, docker, random, task};
use crate::relay::Relay;

fn back(event: &RuntimeEvent) -> bool {
    matches!(event, RuntimeEvent::EngineBack { .. })
}

fn lost(event: &RuntimeEvent) -> bool {
    matches!(event, RuntimeEvent::EngineLost { .. })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_engine_is_noticed_and_holds_nothing_up() {
    let relay = Relay::new();
    let mut bench = relay.bench().await;
    let running = task(&["sleep", "1000"]);
    let found = bench.start(&running).await;
    relay.hung.send_replace(true);
    let begun = Instant::now();
    let start = bench.act(RuntimeAction::Start(Box::new(task(&["sleep", "1000"]))));
    let stop = bench.stop(running.task, &found.container, 1000).await;
    assert!(matches!(stop, ActionResult::StopFailed { .. }), "{stop:?}");
    let result = bench.done(start).await;
    assert!(
        matches!(result, ActionResult::StartFailed { why: StartFailure::EngineUnavailable, .. }),
        "{result:?}"
    );
    bench.event("loss", lost).await;
    let noticed = begun.elapsed();
    assert!(noticed < Duration::from_secs(11), "noticed after {noticed:?}");
    // While it is lost, answers come at once.
    let again = Instant::now();
    let (why, _) = bench.start_fails(&task(&["sleep", "1000"])).await;
    assert_eq!(why, StartFailure::EngineUnavailable);
    assert!(again.elapsed() < Duration::from_secs(1));
    assert!(bench.runtime.host().await.is_err());
    // What happens meanwhile is found afterwards.
    docker(&["kill", &found.container]);
    relay.hung.send_replace(false);
    bench.event("return", back).await;
    let listed = bench.list().await;
    let state = listed.iter().find(|f| f.task == running.task).unwrap().state;
    assert_eq!(state, ContainerState::Exited { code: 137, out_of_memory: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_engine_is_noticed_at_once_and_its_return_soon() {
    let mut relay = Relay::new();
    let mut bench = relay.bench().await;
    let begun = Instant::now();
    relay.close().await;
    bench.event("loss", lost).await;
    assert!(begun.elapsed() < Duration::from_secs(2), "noticed after {:?}", begun.elapsed());
    std::fs::remove_file(relay.socket()).unwrap();
    relay.open();
    bench.event("return", back).await;
    bench.start(&task(&["sleep", "1000"])).await;
}

/// dockerd need not be up when shoal starts; not even its socket need be there.
#[tokio::test]
async fn an_engine_may_come_later() {
    let mut relay = Relay::new();
    relay.close().await;
    std::fs::remove_file(relay.socket()).unwrap();
    let owner = Owner { cluster: ClusterId(random()), node: NodeId(random()) };
    let mut bench = Bench::at(&relay.socket(), owner);
    let event = bench.event("loss", lost).await;
    let RuntimeEvent::EngineLost { reason } = event else { unreachable!() };
    assert!(reason.contains("docker.sock"), "{reason}");
    relay.open();
    bench.event("engine", back).await;
    bench.start(&task(&["sleep", "1000"])).await;
}

/// Only the stream breaks; the engine is well. No loss is reported, and nothing is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_event_stream_misses_nothing() {
    let mut relay = Relay::new();
    let mut bench = relay.bench().await;
    let victim = task(&["sleep", "1000"]);
    let found = bench.start(&victim).await;
    // Nobody can ask while the relay is closed, and it is open again before anybody asks twice.
    relay.close().await;
    docker(&["rm", "-f", &found.container]);
    let _ = std::fs::remove_file(relay.socket());
    relay.open();
    let gone =
        |e: &RuntimeEvent| matches!(e, RuntimeEvent::Removed { task, .. } if *task == victim.task);
    tokio::time::timeout(BOUND, bench.event("removal", gone)).await.unwrap();
}
