//! Many at once.

use std::time::Instant;

use node::runtime::{ActionResult, RuntimeAction};

use crate::bench::{Bench, task};
use membership::time::Millis;

/// Thirty starts together, then thirty stops of containers that ignore the signal, and a start in the
/// middle of them, which must not wait for their grace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_stops_does_not_keep_a_start_waiting() {
    const COUNT: usize = 30;
    let mut bench = Bench::new();
    // Process 1 without a handler ignores SIGTERM: each stop takes all of its grace.
    let tasks = (0..COUNT).map(|_| task(&["sleep", "1000"])).collect::<Vec<_>>();
    let starts = tasks.iter().map(|t| bench.act(RuntimeAction::Start(Box::new(t.clone()))));
    let starts = starts.collect::<Vec<_>>();
    let mut found = Vec::new();
    for id in starts {
        match bench.done(id).await {
            ActionResult::Started(one) => found.push(one),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(bench.list().await.len(), COUNT);
    let grace = Millis(20_000);
    let stops = found.iter().map(|f| {
        let (task, container) = (f.task, f.container.clone());
        bench.act(RuntimeAction::Stop { task, container, grace })
    });
    let stops = stops.collect::<Vec<_>>();
    let begun = Instant::now();
    let quick = bench.start(&task(&["sleep", "1000"])).await;
    assert!(begun.elapsed().as_millis() < u128::from(grace.0), "waited {:?}", begun.elapsed());
    for id in stops {
        assert_eq!(bench.done(id).await, ActionResult::Stopped);
    }
    // Together, not one grace after the other.
    assert!(begun.elapsed().as_millis() < 2 * u128::from(grace.0), "took {:?}", begun.elapsed());
    assert_eq!(bench.containers(), [quick.container]);
}
