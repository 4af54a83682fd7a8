//! What is stopped, adopted and claimed again when a node or its engine was away in between: each script
//! is a finding of the simulator, or of reading, written down. The checks watch promise 3 and the epochs.

use node::slot::TaskState;
use serde_json::json;
use simulations::engine::EngineManner;
use simulations::operators::service;
use simulations::run::RunSpec;
use simulations::script::{Script, h};
use simulations::time::Span;

fn containers(script: &Script, host: u32) -> usize {
    script.run.world.hosts[host as usize].engine.containers().count()
}

/// Seed 3394: of two ended containers of a slot the older displaced the newer one, which was removed with
/// the only word about the epoch it had served under. With the clock set back that epoch was undercut.
#[test]
fn the_newest_ended_container_outlives_the_older_ones_and_so_does_its_epoch() {
    let mut spec = RunSpec::plain(61, 1);
    spec.engine.start = (Span::secs(5), Span::secs(6));
    let mut script = Script::with(&spec);
    script.create_web(1);
    for back_ms in [0, 0, 3_000, 6_000] {
        script.crash(h(0));
        script.run.world.hosts[0].clock_off_ms -= back_ms;
        script.boot(h(0));
        // The next crash comes before the new container is there and after the old one was removed.
        script.pass(if back_ms == 3_000 { 5 } else { 20 });
    }
    script.wait_whole(30);
    script.done();
}

/// Seed 3423: a node that stood still heard first that the new container of a start-first update was ready
/// and stopped the old one; only then did it hear that the new one had died meanwhile.
#[test]
fn a_node_that_stood_still_stops_nothing_for_what_was_ready_then() {
    let mut spec = service("web", "sim/web", 1);
    spec["UpdateConfig"] = json!({ "Order": "start-first" });
    let mut script = Script::of(62, 1);
    let web = script.create(h(0), spec);
    script.wait_whole(20);
    let old = script.running(h(0));
    script
        .update(h(0), web, |spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["V=2"]))
        .expect("alone it may");
    let jobs = |script: &Script| {
        let host = &script.run.world.hosts[0];
        host.engine.jobs_of(host.boots).count()
    };
    while jobs(&script) == 0 {
        script.run.pass(Span::ms(1));
    }
    script.freeze(h(0), true);
    script.wait("the new one is ready", 10, |script| script.running(h(0)).len() == 2);
    let new = script.running(h(0)).difference(&old).copied().next().expect("two run");
    let engine = &script.run.world.hosts[0].engine;
    let container = engine.containers().find(|c| c.task == new).map(|c| c.id.clone());
    let container = container.expect("it runs");
    script.engine(h(0), |engine, chance, out| engine.kill(&container, chance, out));
    script.pass(5);
    script.freeze(h(0), false);
    script.run.pass(Span::ms(200));
    assert!(script.running(h(0)).is_superset(&old), "the old one goes on");
    script.wait("it is replaced by one that lives", 30, |script| {
        script.whole().is_ok() && script.running(h(0)).is_disjoint(&old)
    });
    script.pass(60);
    script.done();
}

/// Seed 29: shoal was restarted in the middle of a start-first update, found the old container and the new one,
/// which was not healthy yet, and took the new one for what fills the slot.
#[test]
fn what_is_not_healthy_yet_does_not_replace_what_serves_when_shoal_is_restarted() {
    let mut spec = service("web", "sim/web", 1);
    spec["UpdateConfig"] = json!({ "Order": "start-first" });
    spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"] = json!({ "Test": ["CMD", "true"] });
    let mut script = Script::of(66, 1);
    let web = script.create(h(0), spec);
    script.wait_whole(30);
    let old = script.running(h(0));
    script
        .update(h(0), web, |spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["V=2"]))
        .expect("alone it may");
    script.wait("both run", 20, |script| script.running(h(0)).len() == 2);
    assert_eq!(script.counts(web), [1], "and the new one is not healthy yet");
    script.kill_shoal(h(0));
    script.start_shoal(h(0));
    script.wait("the update is done", 60, |script| {
        script.whole().is_ok() && script.running(h(0)).is_disjoint(&old)
    });
    script.pass(60);
    script.done();
}

/// Seed 2418: a removal lost against an edit made at the same time on the other side of a cut. The service
/// is there again, everywhere, and so is the removal, as a conflict.
#[test]
fn a_removal_that_lost_against_a_later_edit_is_shown_as_a_conflict() {
    let mut script = Script::of(63, 2);
    let web = script.create_web(2);
    let cut = script.cut_off(&[h(0)]);
    script.pass(10);
    script.remove(h(0), web).expect("one side removes it");
    script.pass(2);
    script
        .update(h(1), web, |spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["V=2"]))
        .expect("the other edits it later");
    script.mend(cut);
    script.wait("it is whole again", 60, |script| {
        script.whole().is_ok() && script.counts(web).iter().sum::<usize>() == 2
    });
    script.pass(40);
    for host in &script.run.world.hosts {
        let conflicts = host.process.as_ref().map(|process| process.core.conflicts());
        let texts: Vec<String> =
            conflicts.unwrap_or_default().into_iter().map(|conflict| conflict.text).collect();
        assert!(texts.iter().any(|text| text.contains("the removal made on host-0")), "{texts:?}");
    }
    script.done();
}

/// Seen in design: a better twin was ready when the stop was decided and the engine did not answer; when
/// it answers again the twin is gone, and the stop would end the only replica.
#[test]
fn a_stop_that_had_to_wait_for_its_engine_is_decided_again() {
    let mut script = Script::of(64, 2);
    let web = script.create_web(1);
    let (here, there) = if script.counts(web)[0] == 1 { (h(0), h(1)) } else { (h(1), h(0)) };
    let kept = script.running(here);
    script.engine(here, |engine, _, out| engine.hang(out));
    script.wait("relieved by the other", 120, |script| script.counts(web) == [1, 1]);
    script.pass(5);
    let stops = script.actions().1;
    script.crash(there);
    script.pass(10);
    script.engine(here, |engine, chance, out| engine.recover(chance, out));
    script.pass(20);
    assert_eq!((script.running(here), script.actions().1), (kept, stops), "it serves on");
    script.boot(there);
    script.wait_whole(60);
    script.done();
}

/// Seen in design: shoal was restarted while it stopped a container, found it running, and told everybody
/// that the slot was served there.
#[test]
fn what_is_being_stopped_is_not_adopted_after_a_restart() {
    let mut spec = RunSpec::plain(65, 2);
    spec.engine = EngineManner { stop: (Span::secs(8), Span::secs(9)), ..spec.engine };
    let mut script = Script::with(&spec);
    let web = script.create_web(1);
    let (here, there) = if script.counts(web)[0] == 1 { (h(0), h(1)) } else { (h(1), h(0)) };
    script.availability(there, here, "drain");
    script.wait("relieved by the other", 20, |script| script.slots(web, &[there]).len() == 1);
    script.pass(1);
    assert_eq!(containers(&script, here.0), 1, "it takes its time to stop");
    script.kill_shoal(here);
    script.start_shoal(here);
    let id = script.id(here);
    for _ in 0..100 {
        script.run.pass(Span::ms(100));
        let claimed = |task: &node::views::TaskView| {
            task.node == Some(id) && task.state() == TaskState::Running
        };
        let told = script.tasks(there).into_iter().any(|task| claimed(&task));
        let own = script.tasks(here).into_iter().any(|task| claimed(&task));
        assert!(!own, "adopted at {}", script.now());
        assert!(!told || containers(&script, here.0) == 1, "told at {}", script.now());
    }
    script.wait_whole(30);
    assert_eq!(containers(&script, here.0), 0);
    script.pass(60);
    script.done();
}

/// Seed 220072: a drained host's replicas had failed on all the others some minutes before. These claimed them,
/// remembered the failures, gave them back, and claimed them again, a hundred times a second.
#[test]
fn what_failed_here_is_not_taken_from_who_serves_it_again_and_again() {
    let mut script = Script::of(66, 3);
    for host in [0, 1] {
        script.run.world.hosts[host].engine.manner.all_crash = true;
    }
    let web = script.create(h(0), service("web", "sim/web", 3));
    script.wait("all run where they can", 600, |script| script.counts(web) == [0, 0, 3]);
    for host in [0, 1] {
        script.run.world.hosts[host].engine.manner.all_crash = false;
    }
    let (starts, stops) = script.actions();
    script.availability(h(1), h(2), "drain");
    let mut least = 3;
    script.wait("the drained host is empty", 90, |script| {
        least = least.min(script.slots(web, &[h(0), h(1), h(2)]).len());
        script.counts(web)[2] == 0 && script.whole().is_ok()
    });
    assert_eq!(least, 3, "slots that served all the while");
    // A slot may be begun on two hosts at once where both have waited equally long.
    let (started, stopped) = script.actions();
    assert!(
        started - starts <= 6 && stopped - stops <= 6,
        "{started} - {starts}, {stopped} - {stops}"
    );
    script.done();
}
