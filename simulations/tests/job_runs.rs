//! Jobs: each slot runs to its end once, whoever dies, and nothing is run again afterwards. The check
//! `jobs` watches all the while; here is counted what was started.

use membership::id::ServiceId;
use membership::record::Kind;
use node::slot::{Slot, TaskState};
use node::views::ServiceView;
use serde_json::{Value, json};
use simulations::script::{Script, h};

fn job(image: &str, slots: u64, most: u64) -> Value {
    json!({
        "Name": "job",
        "TaskTemplate": { "ContainerSpec": { "Image": image } },
        "Mode": { "ReplicatedJob": { "TotalCompletions": slots, "MaxConcurrent": most } },
    })
}

fn view(script: &Script, host: u32, id: ServiceId) -> ServiceView {
    let process = script.run.world.hosts[host as usize].process.as_ref().expect("it runs");
    process.core.services().into_iter().find(|view| view.id == id).expect("it knows of it")
}

/// Slots that are complete, as a node tells.
fn complete(script: &Script, host: u32, id: ServiceId) -> Vec<Slot> {
    let present = view(script, host, id).job.map(|job| job.iteration);
    let tasks = script.tasks(h(host)).into_iter().filter(|task| {
        task.service == id && task.state() == TaskState::Complete && task.iteration == present
    });
    let mut slots: Vec<Slot> = tasks.map(|task| task.slot()).collect();
    slots.sort();
    slots
}

fn records(script: &Script, host: u32) -> usize {
    let content = script.run.world.hosts[host as usize].disk.content();
    let live =
        |r: &&membership::record::Record| r.key.kind == Kind::Completions && !r.is_tombstone();
    content.records.values().filter(live).count()
}

/// All is done, and for minutes nothing is started.
fn stays_done(script: &mut Script, starts: u64) {
    script.wait_whole(120);
    assert_eq!(script.actions().0, starts, "started so far");
    script.pass(180);
    assert_eq!(script.actions().0, starts, "started since");
}

#[test]
fn so_many_at_once_and_each_slot_once() {
    let mut script = Script::of(901, 3);
    let id = script.create(h(1), job("sim/job", 7, 2));
    let mut most = 0;
    script.wait("done", 200, |script| {
        most = most.max(script.counts(id).iter().sum::<usize>());
        script.whole().is_ok()
    });
    assert_eq!(most, 2);
    stays_done(&mut script, 7);
    for host in 0..3 {
        assert_eq!(complete(&script, host, id), (0..7).map(Slot::Index).collect::<Vec<_>>());
        let view = view(&script, host, id);
        assert_eq!((view.running, view.desired, view.completed), (0, 2, 7));
    }
    script.done();
}

#[test]
fn what_has_ended_is_not_run_again_when_its_host_dies_nor_when_all_come_back() {
    for seed in 910..916 {
        let mut script = Script::of(seed, 3);
        let id = script.create(h(0), job("sim/job", 9, 3));
        script.wait("half done", 100, |script| view(script, 0, id).completed >= 4);
        let there = script.id(h(2));
        let lost = script
            .tasks(h(0))
            .into_iter()
            .filter(|task| task.node == Some(there) && task.state() != TaskState::Complete);
        let lost = lost.count() as u64;
        script.crash(h(2));
        script.wait("done without it", 200, |script| {
            (0..2).all(|host| view(script, host, id).completed == 9)
        });
        // What ran there is begun again, and nothing else.
        let starts = script.actions().0;
        assert!((9..=9 + lost).contains(&starts), "{starts} starts, {lost} lost");
        script.boot(h(2));
        script.pass(40);
        (0..3).for_each(|n| script.crash(h(n)));
        script.pass(20);
        (0..3).for_each(|n| script.boot(h(n)));
        script.pass(20);
        stays_done(&mut script, starts);
        script.done();
    }
}

#[test]
fn the_word_of_a_host_that_dies_right_after_counts() {
    let mut script = Script::of(902, 3);
    let id = script.create(h(0), job("sim/job", 1, 1));
    script.wait("it runs", 30, |script| script.counts(id).contains(&1));
    let holder = script.counts(id).iter().position(|count| *count == 1).expect("somewhere") as u32;
    let other = (holder + 1) % 3;
    // From the others' first word of it on, whatever became of the record.
    script.wait("heard of", 60, |script| view(script, other, id).completed == 1);
    script.crash(h(holder));
    script.pass(60);
    assert_eq!(script.actions().0, 1);
    script.boot(h(holder));
    stays_done(&mut script, 1);
    script.done();
}

#[test]
fn a_change_executes_it_anew_and_so_does_a_new_number() {
    let mut script = Script::of(903, 3);
    let id = script.create(h(0), job("sim/job", 3, 3));
    script.wait_whole(60);
    let force = |spec: &mut Value| {
        let before = spec["TaskTemplate"]["ForceUpdate"].as_u64().unwrap_or(0);
        spec["TaskTemplate"]["ForceUpdate"] = json!(before + 1);
    };
    script.update(h(1), id, force).expect("taken");
    script.wait("begun anew", 30, |script| view(script, 2, id).completed < 3);
    script.wait_whole(60);
    assert_eq!(script.actions().0, 6);
    assert_eq!(view(&script, 0, id).job.map(|job| job.iteration), Some(1));
    script.scale(h(2), id, 2).expect("taken");
    script.wait("begun anew", 30, |script| view(script, 0, id).completed < 2);
    script.wait_whole(60);
    assert_eq!(complete(&script, 1, id), [Slot::Index(0), Slot::Index(1)]);
    // The same once more while it runs: what runs is stopped, and counts for nothing.
    script.update(h(0), id, force).expect("taken");
    script.wait("begun anew", 30, |script| script.counts(id).iter().sum::<usize>() == 2);
    script.update(h(0), id, force).expect("taken");
    script.wait_whole(90);
    assert_eq!(view(&script, 0, id).job.map(|job| job.iteration), Some(4));
    // Nothing is changed by an update that says the same.
    let starts = script.actions().0;
    script.update(h(0), id, |_| ()).expect("taken");
    stays_done(&mut script, starts);
    script.done();
}

#[test]
fn failures_follow_the_restart_policy() {
    for (policy, attempts) in [
        (json!({ "Condition": "none" }), 1),
        (json!({ "Condition": "on-failure", "MaxAttempts": 2, "Delay": 100_000_000 }), 3),
    ] {
        let mut script = Script::of(904, 3);
        let mut spec = job("sim/crash", 2, 2);
        spec["TaskTemplate"]["RestartPolicy"] = policy;
        let id = script.create(h(0), spec);
        script.pass(60);
        assert_eq!(script.actions().0, 2 * attempts);
        let seen = view(&script, 1, id);
        assert_eq!((seen.running, seen.completed), (0, 0));
        // That it failed for good outlives the host, too.
        (0..3).for_each(|n| script.crash(h(n)));
        (0..3).for_each(|n| script.boot(h(n)));
        script.pass(60);
        assert_eq!(script.actions().0, 2 * attempts);
        let failed = script.tasks(h(2)).into_iter().filter(|t| t.state() == TaskState::Failed);
        assert!(failed.count() as u64 >= 2);
        script.done();
    }
}

#[test]
fn a_drained_host_stops_its_slot_before_another_begins_it() {
    let mut script = Script::of(905, 2);
    let mut spec = job("sim/web", 1, 1);
    spec["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] = json!(5_000_000_000_u64);
    let id = script.create(h(0), spec);
    script.wait("it runs", 30, |script| script.counts(id).contains(&1));
    let holder = script.counts(id).iter().position(|count| *count == 1).expect("somewhere") as u32;
    script.availability(h(0), h(holder), "drain");
    let mut most = 0;
    script.wait("elsewhere", 60, |script| {
        let runs = |n: u32| {
            let containers = script.run.world.hosts[n as usize].engine.containers();
            containers.filter(|c| c.service == id && c.is_running()).count()
        };
        most = most.max(runs(0) + runs(1));
        script.counts(id)[1 - holder as usize] == 1
    });
    assert_eq!(most, 1);
    script.remove(h(0), id).expect("taken");
    script.pass(30);
    script.done();
}

#[test]
fn a_global_job_runs_once_on_every_node_that_was_there() {
    let mut script = Script::of(906, 4);
    script.pass(20);
    script.crash(h(3));
    script.pass(20);
    let mut spec = job("sim/job", 1, 1);
    spec["Mode"] = json!({ "GlobalJob": {} });
    let id = script.create(h(0), spec);
    script.wait("done by three", 60, |script| view(script, 0, id).completed == 3);
    script.pass(60);
    assert_eq!(script.actions().0, 3);
    // It was there before, and does its part late.
    script.boot(h(3));
    script.wait("done by all", 60, |script| view(script, 0, id).completed == 4);
    script.crash(h(1));
    script.pass(20);
    script.boot(h(1));
    script.pass(20);
    stays_done(&mut script, 4);
    script.done();
}

#[test]
fn what_is_recorded_goes_with_the_execution_and_with_the_service() {
    let mut script = Script::of(907, 3);
    let id = script.create(h(0), job("sim/job", 6, 6));
    script.wait_whole(60);
    script.pass(5);
    assert!(records(&script, 0) >= 2, "somebody has run something");
    // One slot is left to one node: the others have nothing to say any more.
    script.scale(h(0), id, 1).expect("taken");
    script.wait("only what is of this execution", 120, |script| {
        script.whole().is_ok() && (0..3).all(|host| records(script, host) == 1)
    });
    script.remove(h(1), id).expect("taken");
    script.wait("nothing", 60, |script| (0..3).all(|host| records(script, host) == 0));
    script.pass(60);
    let containers = script.run.world.hosts.iter().map(|host| host.engine.containers().count());
    assert_eq!(containers.sum::<usize>(), 0);
    script.done();
}

#[test]
fn in_the_smaller_part_a_job_that_wants_a_majority_waits() {
    let mut script = Script::of(908, 3);
    let cut = script.cut_off(&[h(2)]);
    script.pass(20);
    let mut spec = job("sim/job", 5, 2);
    spec["Labels"] = json!({ "shoal.partition": "majority" });
    let id = script.create(h(0), spec);
    script.wait("done", 120, |script| view(script, 0, id).completed == 5);
    script.mend(cut);
    script.pass(30);
    assert_eq!(script.actions().0, 5);
    stays_done(&mut script, 5);
    script.done();
}
