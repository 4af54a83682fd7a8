//! Rolling updates: an old task is not given up for a new one that cannot be made.

use std::collections::BTreeSet;

use membership::id::TaskId;
use node::slot::TaskState;
use serde_json::{Value, json};
use simulations::script::{Script, h};
use simulations::time::Span;

fn running(script: &Script) -> BTreeSet<TaskId> {
    (0..3).flat_map(|host| script.running(h(host))).collect()
}

fn image(name: &str, order: &str) -> impl FnOnce(&mut Value) {
    move |spec| {
        spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!(name);
        spec["UpdateConfig"] =
            json!({ "Parallelism": 0, "Order": order, "FailureAction": "pause" });
    }
}

#[test]
fn an_update_to_an_image_that_is_not_to_be_had_stops_nothing_in_either_order() {
    for (seed, order) in [(81, "stop-first"), (82, "start-first")] {
        let mut script = Script::of(seed, 3);
        let web = script.create_web(6);
        let (before, stops) = (running(&script), script.actions().1);
        script.update(h(0), web, image("sim/missing", order)).expect("nobody knows it yet");
        script.wait("it is seen to fail", 30, |script| {
            let failed = |task: &node::views::TaskView| {
                task.state() == TaskState::Rejected
                    && task.status.error.as_ref().is_some_and(|e| e.contains("No such image"))
            };
            script.tasks(h(1)).iter().any(failed)
        });
        script.pass(60);
        assert_eq!((running(&script), script.actions().1), (before, stops), "{order}");
        script.done();
    }
}

#[test]
fn a_slow_pull_does_not_keep_a_slot_empty() {
    let mut script = Script::of(83, 3);
    let web = script.create_web(3);
    let before = running(&script);
    script.update(h(0), web, image("sim/slow", "stop-first")).expect("all are there");
    let mut empty = Span::ZERO;
    script.wait("all are new", 200, |script| {
        if script.counts(web).iter().sum::<usize>() < 3 {
            empty += Span::ms(100);
        }
        script.whole().is_ok() && running(script).is_disjoint(&before)
    });
    // Three stops of at most two seconds and starts of at most one and a half, at different times.
    assert!(empty < Span::secs(12), "{empty}");
    script.pass(30);
    script.done();
}
