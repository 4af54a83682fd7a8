//! Containers and hosts fail; what is wanted runs again, each slot once, and nothing else is touched.

use std::collections::BTreeSet;

use membership::id::TaskId;
use membership::member::MemberState;
use node::slot::TaskState;
use serde_json::json;
use simulations::engine::{Engine, EngineManner};
use simulations::links::{HostIx, Quality};
use simulations::operators::service;
use simulations::run::RunSpec;
use simulations::script::{Script, h};
use simulations::time::Span;

fn first_container(script: &Script, host: HostIx) -> String {
    let engine: &Engine = &script.run.world.hosts[host.i()].engine;
    engine
        .containers()
        .find(|c| c.is_running())
        .map(|c| c.id.clone())
        .expect("something runs there")
}

fn everything(script: &Script, hosts: u32) -> Vec<BTreeSet<TaskId>> {
    (0..hosts).map(|n| script.running(h(n))).collect()
}

#[test]
fn a_container_that_dies_is_replaced_on_its_host_and_nothing_else_moves() {
    let mut script = Script::of(1, 3);
    script.create_web(6);
    let before = everything(&script, 3);
    let container = first_container(&script, h(1));
    script.engine(h(1), |engine, chance, out| engine.kill(&container, chance, out));
    assert!(script.whole().is_err());
    script.wait_whole(10);
    let after = everything(&script, 3);
    assert_eq!((&before[0], &before[2]), (&after[0], &after[2]));
    assert_eq!(before[1].intersection(&after[1]).count(), 1);
    script.pass(60);
    script.done();
}

#[test]
fn a_container_that_somebody_removes_comes_back() {
    let mut script = Script::of(2, 3);
    script.create_web(6);
    let container = first_container(&script, h(2));
    script.engine(h(2), |engine, chance, out| engine.remove_behind(&container, chance, out));
    script.wait_whole(10);
    script.done();
}

#[test]
fn a_crash_loop_is_restarted_with_growing_pauses_and_said_to_fail() {
    let mut script = Script::of(3, 3);
    script.create(h(0), service("bad", "sim/crash", 1));
    script.pass(10);
    let early = script.actions().0;
    script.pass(200);
    let (starts, _) = script.actions();
    assert!(early >= 2, "it is tried again at once: {early}");
    assert!(starts - early < 30, "and then less and less often: {starts}");
    let failed = script.tasks(h(1)).into_iter().find(|task| task.state() == TaskState::Failed);
    assert!(failed.is_some_and(|task| task.status.error.is_some()), "with the reason");
    script.done();
}

#[test]
fn a_silent_crash_costs_what_was_on_the_host_and_nothing_more() {
    let mut script = Script::of(4, 5);
    let web = script.create_web(20);
    let before = everything(&script, 5);
    script.crash(h(3));
    let survivors = [h(0), h(1), h(2), h(4)];
    let took = script.wait("all replaced", 15, |script| script.slots(web, &survivors).len() == 20);
    assert!(took < Span::secs(6), "{took}");
    let (starts, stops) = script.actions();
    assert_eq!(starts, 20 + before[3].len() as u64, "each lost replica is started once");
    assert_eq!(stops, 0, "and nothing is stopped");
    for host in survivors {
        assert!(script.running(host).is_superset(&before[host.i()]));
    }
    let counts = script.counts(web);
    let (least, most) = (survivors.map(|s| counts[s.i()]).into_iter().min(), counts.iter().max());
    assert!(most.unwrap_or(&0) - least.unwrap_or(0) <= 1, "{counts:?}");
    script.done();
}

#[test]
fn small_trouble_changes_nothing() {
    let mut script = Script::of(5, 5);
    script.create_web(10);
    let before = everything(&script, 5);
    let calm = script.actions();
    let nothing_moved = |script: &Script, what: &str| {
        assert_eq!(script.actions(), calm, "{what}");
        assert_eq!(everything(script, 5), before, "{what}");
    };
    script.freeze(h(1), true);
    script.run.pass(Span::ms(1_000));
    script.freeze(h(1), false);
    script.pass(20);
    nothing_moved(&script, "frozen for a second");
    script.run.world.hosts[2].slow = Span::ms(5);
    script.pass(20);
    script.run.world.hosts[2].slow = Span::ZERO;
    nothing_moved(&script, "a slow loop");
    script.run.world.links.set_base(Quality { loss: 50, ..Quality::default() });
    script.pass(300);
    script.run.world.links.set_base(Quality::default());
    nothing_moved(&script, "5% loss");
    script.run.world.hosts[3].disk.set_manner(simulations::disk::DiskManner {
        write: (Span::secs(1), Span::secs(5)),
        ..simulations::disk::DiskManner::default()
    });
    script.pass(20);
    nothing_moved(&script, "a slow disk");
    script.done();
}

#[test]
fn a_long_freeze_is_replaced_and_after_the_thaw_each_slot_runs_once() {
    let mut script = Script::of(6, 5);
    let web = script.create_web(10);
    script.freeze(h(2), true);
    let others = [h(0), h(1), h(3), h(4)];
    script.wait("replaced", 15, |script| script.slots(web, &others).len() == 10);
    script.pass(30);
    let (starts, _) = script.actions();
    script.freeze(h(2), false);
    script.wait_whole(30);
    assert_eq!(
        script.actions().0,
        starts,
        "a thawed node sees itself alone for a moment and starts nothing"
    );
    script.pass(200);
    script.done();
}

#[test]
fn host_after_host_dies_down_to_the_last_which_runs_all_and_takes_commands() {
    let mut script = Script::of(7, 4);
    let web = script.create_web(12);
    for host in [h(0), h(3), h(1)] {
        script.crash(host);
        let left: Vec<HostIx> =
            (0..4).map(h).filter(|host| script.run.world.hosts[host.i()].powered).collect();
        script.wait("all on the survivors", 40, |script| script.slots(web, &left).len() == 12);
    }
    script.scale(h(2), web, 14).expect("the last one is a whole cluster");
    script.wait("scaled", 20, |script| script.slots(web, &[h(2)]).len() == 14);
    let other = script.create(h(2), service("other", "sim/web", 2));
    script.wait("the other too", 20, |script| script.slots(other, &[h(2)]).len() == 2);
    for host in [h(0), h(1), h(3)] {
        script.boot(host);
    }
    script.wait("each slot once", 60, |script| script.whole().is_ok());
    script.wait("load is evened out", 300, |script| {
        script.run.even().is_ok() && script.whole().is_ok()
    });
    script.pass(60);
    script.done();
}

#[test]
fn a_shoal_that_is_killed_and_back_in_time_restarts_and_moves_nothing() {
    let mut script = Script::of(8, 3);
    script.create_web(9);
    let before = everything(&script, 3);
    let calm = script.actions();
    script.kill_shoal(h(1));
    script.pass(10);
    assert_eq!(script.state_of(h(0), h(1)), Some(MemberState::Unstable), "its host answers");
    script.start_shoal(h(1));
    script.pass(30);
    script.wait_whole(1);
    assert_eq!(everything(&script, 3), before);
    assert_eq!(script.actions(), calm);
    script.done();
}

#[test]
fn a_shoal_that_stays_away_is_replaced_and_gives_its_own_up_when_it_returns() {
    let mut script = Script::of(9, 3);
    let web = script.create_web(9);
    script.kill_shoal(h(1));
    script
        .wait("replaced after its grace", 60, |script| script.slots(web, &[h(0), h(2)]).len() == 9);
    script.start_shoal(h(1));
    script.wait_whole(60);
    script.pass(200);
    script.done();
}

#[test]
fn a_hung_engine_is_told_apart_from_a_lost_host() {
    let mut script = Script::of(10, 3);
    let web = script.create_web(9);
    let before = everything(&script, 3);
    let calm = script.actions();
    script.engine(h(0), |engine, _, out| engine.hang(out));
    script.wait("seen by the others", 20, |script| {
        script.state_of(h(2), h(0)) == Some(MemberState::Unstable)
    });
    script.pass(20);
    script.engine(h(0), |engine, chance, out| engine.recover(chance, out));
    script.wait("seen to be back", 10, |script| {
        script.state_of(h(2), h(0)) == Some(MemberState::Alive)
    });
    script.pass(30);
    assert_eq!(
        (everything(&script, 3), script.actions()),
        (before, calm),
        "its containers served all the while"
    );
    assert_eq!(script.counts(web), [3, 3, 3]);
    script.done();
}

#[test]
fn a_restarted_engine_without_its_containers_has_them_again() {
    let mut script = Script::of(11, 3);
    script.create_web(9);
    script.engine(h(0), |engine, chance, out| engine.stop(true, chance, out));
    script.pass(3);
    script.engine(h(0), |engine, chance, out| engine.recover(chance, out));
    script.wait_whole(30);
    script.pass(60);
    script.done();
}

#[test]
fn an_unhealthy_container_is_replaced() {
    let mut spec = service("sick", "sim/sick", 4);
    spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"] = json!({ "Test": ["CMD", "true"] });
    let mut script = Script::of(12, 3);
    let sick = script.create(h(0), spec);
    script.wait_whole(30);
    let tasks: BTreeSet<TaskId> = (0..3).flat_map(|n| script.running(h(n))).collect();
    script.wait("one turned unhealthy", 90, |script| script.counts(sick).iter().sum::<usize>() < 4);
    script.run.world.hosts.iter_mut().for_each(|host| host.engine.manner.images_act = false);
    script.wait_whole(60);
    let now: BTreeSet<TaskId> = (0..3).flat_map(|n| script.running(h(n))).collect();
    assert_ne!(tasks, now);
    script.done();
}

#[test]
fn a_host_that_returns_adopts_or_gives_up_and_load_is_evened_out_new_before_old() {
    let mut spec = RunSpec::plain(13, 4);
    spec.engine = EngineManner { start: (Span::ms(500), Span::secs(3)), ..spec.engine };
    let mut script = Script::with(&spec);
    let web = script.create_web(16);
    script.crash(h(3));
    script.wait("replaced", 20, |script| script.slots(web, &[h(0), h(1), h(2)]).len() == 16);
    script.pass(10);
    script.boot(h(3));
    script.wait("evened out", 200, |script| script.whole().is_ok() && script.run.even().is_ok());
    let (starts, _) = script.actions();
    assert_eq!(starts, 16 + 4 + 4, "four were lost, four came back");
    script.pass(120);
    assert_eq!(script.actions().0, starts, "and then nothing moves");
    script.done();
}

#[test]
fn a_large_loss_in_a_large_cluster_slows_takeovers_and_is_shown() {
    let mut script = Script::of(14, 25);
    let web = script.create(h(0), service("web", "sim/web", 50));
    script.wait_whole(60);
    (19..25).for_each(|host| script.crash(h(host)));
    let left: Vec<HostIx> = (0..19).map(h).collect();
    let says = |script: &mut Script| {
        let waits = |error: &String| error.contains("more than a fifth of the 25 members");
        script.tasks(h(0)).iter().any(|task| task.status.error.as_ref().is_some_and(waits))
    };
    script.wait("the reason is shown", 20, says);
    let took = script.wait("replaced", 60, |script| script.slots(web, &left).len() == 50);
    assert!(took > Span::secs(5), "spread over half a minute: {took}");
    assert!(!says(&mut script));
    script.done();
}
