//! The cluster is cut in two: what each side may do, and how the sides meet again.

use node::slot::Slot;
use serde_json::json;
use simulations::operators::service;
use simulations::script::{Script, h};

#[test]
fn both_sides_run_an_available_service_whole_and_one_of_each_is_left_after_the_heal() {
    let mut script = Script::of(31, 5);
    let web = script.create_web(10);
    let cut = script.cut_off(&[h(0), h(1)]);
    script.wait("both sides whole", 60, |script| {
        script.slots(web, &[h(0), h(1)]).len() == 10
            && script.slots(web, &[h(2), h(3), h(4)]).len() == 10
    });
    script.pass(60);
    script.mend(cut);
    script.wait_whole(60);
    script.pass(200);
    script.done();
}

#[test]
fn only_the_larger_side_runs_a_majority_service_anew() {
    let mut script = Script::of(32, 5);
    let mut spec = service("db", "sim/web", 5);
    spec["Labels"] = json!({ "shoal.partition": "majority" });
    let db = script.create(h(0), spec);
    script.wait_whole(30);
    let small = [h(0), h(1)];
    let kept = script.slots(db, &small);
    let cut = script.cut_off(&small);
    script.wait("the larger side is whole", 60, |script| {
        script.slots(db, &[h(2), h(3), h(4)]).len() == 5
    });
    script.pass(60);
    assert_eq!(
        script.slots(db, &small),
        kept,
        "the smaller side keeps its own and takes nothing over"
    );
    script.mend(cut);
    script.wait_whole(60);
    script.pass(200);
    script.done();
}

#[test]
fn a_fenced_service_is_stopped_in_the_smaller_part_before_the_larger_starts_it() {
    let mut script = Script::of(33, 5);
    let mut spec = service("db", "sim/web", 5);
    spec["Labels"] = json!({ "shoal.partition": "fenced" });
    let db = script.create(h(0), spec);
    script.wait_whole(30);
    let (small, large) = ([h(0), h(1)], [h(2), h(3), h(4)]);
    let cut = script.cut_off(&small);
    script.wait("the larger side is whole", 120, |script| {
        let (here, there) = (script.slots(db, &small), script.slots(db, &large));
        assert!(here.is_disjoint(&there), "never twice: {here:?} {there:?}");
        there.len() == 5
    });
    script.mend(cut);
    script.wait_whole(60);
    script.pass(200);
    script.done();
}

/// A process that starts in the smaller part does not know for how long it has been one.
#[test]
fn a_fenced_service_is_stopped_in_time_although_shoal_was_restarted_meanwhile() {
    let mut script = Script::of(37, 5);
    let mut spec = service("db", "sim/web", 5);
    spec["Labels"] = json!({ "shoal.partition": "fenced" });
    let db = script.create(h(0), spec);
    script.wait_whole(30);
    let (small, large) = ([h(0), h(1)], [h(2), h(3), h(4)]);
    // In a cluster that is whole a restart touches nothing.
    let before = script.actions();
    for host in small {
        script.kill_shoal(host);
        script.pass(10);
        script.start_shoal(host);
    }
    script.pass(60);
    assert_eq!(script.actions(), before);
    let cut = script.cut_off(&small);
    script.pass(5);
    small.iter().for_each(|host| script.kill_shoal(*host));
    script.pass(22);
    small.iter().for_each(|host| script.start_shoal(*host));
    script.wait("the larger side is whole", 120, |script| {
        let (here, there) = (script.slots(db, &small), script.slots(db, &large));
        assert!(here.is_disjoint(&there), "never twice: {here:?} {there:?}");
        there.len() == 5
    });
    script.mend(cut);
    script.wait_whole(60);
    script.pass(200);
    script.done();
}

#[test]
fn edits_of_both_sides_meet_one_wins_everywhere_and_the_other_is_kept() {
    let mut script = Script::of(34, 4);
    let web = script.create_web(4);
    let cut = script.cut_off(&[h(0), h(1)]);
    script.pass(20);
    let env = |value: &'static str| {
        move |spec: &mut serde_json::Value| {
            spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([value]);
        }
    };
    script.update(h(0), web, env("SIDE=left")).expect("any part takes commands");
    script.pass(2);
    script.update(h(3), web, env("SIDE=right")).expect("any part takes commands");
    script.scale(h(1), web, 6).expect("and the count is another register");
    script.pass(20);
    script.mend(cut);
    script.wait("one spec everywhere", 30, |script| {
        let agreed = script.run.agreed();
        agreed.is_ok_and(|agreed| {
            agreed.values().all(|(desired, _, spec)| *desired == 6 && spec.contains("SIDE=right"))
        })
    });
    script.wait_whole(60);
    for n in 0..4 {
        let process = script.run.world.hosts[n].process.as_ref().expect("runs");
        let kept = process.core.conflicts();
        let mine: Vec<_> = kept.iter().filter(|conflict| conflict.service == Some(web)).collect();
        assert!(
            mine.iter()
                .any(|c| c.body.as_ref().is_some_and(|b| b.to_string().contains("SIDE=left"))),
            "h{n}: {kept:?}"
        );
    }
    script.pass(60);
    script.done();
}

#[test]
fn what_one_side_removes_is_gone_for_both_after_the_heal() {
    let mut script = Script::of(35, 4);
    let web = script.create_web(8);
    let cut = script.cut_off(&[h(0)]);
    script.pass(20);
    script.remove(h(2), web).expect("removed");
    script.pass(20);
    assert_eq!(script.slots(web, &[h(0)]).len(), 8, "the cut-off side has not heard");
    script.mend(cut);
    script.wait("gone", 30, |script| script.counts(web).iter().sum::<usize>() == 0);
    script.pass(120);
    script.done();
}

#[test]
fn a_name_taken_on_both_sides_belongs_to_the_older_and_the_other_says_why_it_waits() {
    let mut script = Script::of(36, 4);
    let cut = script.cut_off(&[h(0), h(1)]);
    script.pass(10);
    let left = script.create(h(0), service("web", "sim/web", 2));
    script.pass(3);
    let right = script.create(h(3), service("web", "sim/web", 3));
    script.pass(10);
    script.mend(cut);
    script.wait("only the older runs", 60, |script| {
        script.counts(left).iter().sum::<usize>() == 2
            && script.counts(right).iter().sum::<usize>() == 0
    });
    script.pass(60);
    script.remove(h(2), left).expect("removed");
    script.wait("the other takes its place", 60, |script| {
        script.slots(right, &[h(0), h(1), h(2), h(3)]) == (1..=3).map(Slot::Index).collect()
    });
    script.done();
}
