//! Rolling updates: an old task is not given up for a new one that cannot be made.

use std::collections::BTreeSet;

use membership::id::{ServiceId, TaskId};
use membership::member::MemberState;
use node::assets::AssetKind;
use node::command::{Command, Reply};
use node::files::Content;
use node::slot::TaskState;
use serde_json::{Value, json};
use simulations::links::HostIx;
use simulations::operators::assets::digest;
use simulations::operators::service;
use simulations::script::{Script, h};
use simulations::seen::Seen;
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

/// The host whose node drives a service's updates, by the rule that all nodes go by.
fn steward(script: &Script, service: ServiceId, hosts: &[HostIx]) -> HostIx {
    let ids = hosts.iter().map(|host| script.id(*host));
    let chosen = placement::steward(service, ids).expect("somebody is there");
    *hosts.iter().find(|host| script.id(**host) == chosen).expect("it is one of them")
}

fn rollout(script: &Script, on: HostIx, service: ServiceId) -> String {
    let process = script.run.world.hosts[on.i()].process.as_ref().expect("it runs");
    let view = process.core.services().into_iter().find(|view| view.id == service);
    view.and_then(|view| view.update_status).map(|status| status.state).unwrap_or_default()
}

#[test]
fn an_update_goes_on_though_one_steward_after_the_other_dies_half_way() {
    for seed in 84..90 {
        let mut script = Script::of(seed, 5);
        let web = script.create_web(10);
        let before: BTreeSet<TaskId> = (0..5).flat_map(|host| script.running(h(host))).collect();
        let change = |spec: &mut Value| {
            spec["TaskTemplate"]["ContainerSpec"]["Image"] = json!("sim/next");
            spec["UpdateConfig"] = json!({ "Parallelism": 1, "Order": "stop-first" });
        };
        script.update(h(0), web, change).expect("all are there");
        let mut alive: Vec<HostIx> = (0..5).map(h).collect();
        for replaced in [3, 6] {
            script.wait("some are new", 200, |script| {
                let running = alive.iter().flat_map(|host| script.running(*host));
                running.filter(|task| !before.contains(task)).count() >= replaced
            });
            let dies = steward(&script, web, &alive);
            alive.retain(|host| *host != dies);
            assert_eq!(rollout(&script, alive[0], web), "updating", "it is not half way");
            let old = |script: &Script| {
                let running = alive.iter().flat_map(|host| script.running(*host));
                running.filter(|task| before.contains(task)).count()
            };
            let left = old(&script);
            script.crash(dies);
            // Until the crash is seen nobody goes on: what was permitted is all that is replaced meanwhile.
            script.wait("the crash is seen", 60, |script| {
                // By anybody: the next steward may see it before the others do.
                let seen = |host: &HostIx| script.state_of(*host, dies) == Some(MemberState::Down);
                let seen = alive.iter().any(seen);
                let is = old(script);
                assert!(seen || is + 1 >= left, "{is} of {left} old ones are left");
                seen
            });
        }
        script.wait("all are new, each once", 300, |script| {
            let mut running = alive.iter().flat_map(|host| script.running(*host));
            let ready = alive.iter().map(|host| script.counts(web)[host.i()]).sum::<usize>();
            let each_once = script.slots(web, &alive).len() == 10 && ready == 10;
            each_once && running.all(|task| !before.contains(&task))
        });
        script.wait("it is completed", 60, |script| {
            alive.iter().all(|host| rollout(script, *host, web) == "completed")
        });
        for host in (0..5).map(h).filter(|host| !alive.contains(host)) {
            script.boot(host);
        }
        script.wait_whole(200);
        script.done();
    }
}

/// Seed 100605: a config replaced in place did not reach the tasks that a paused update had left as they were.
#[test]
fn a_config_reaches_what_a_paused_update_has_left() {
    let mut script = Script::of(91, 3);
    let content = |text: &str| Content::new(text.as_bytes());
    let spec = json!({ "Name": "site", "Labels": {} });
    let create = Command::CreateAsset { kind: AssetKind::Config, spec, content: content("old") };
    let Ok(Reply::AssetCreated { id }) = script.command(h(0), create) else {
        panic!("the config is not taken")
    };
    for text in ["old", "new"] {
        let content = digest(&content(text));
        script.run.world.seen.push(Seen::Offered { asset: id, content });
    }
    let mut web = service("web", "sim/web", 4);
    web["TaskTemplate"]["ContainerSpec"]["Configs"] = json!([
        { "ConfigID": id.to_string(), "ConfigName": "site", "File": { "Name": "site" } },
    ]);
    let web = script.create(h(1), web);
    script.wait_whole(60);
    script.update(h(0), web, image("sim/missing", "stop-first")).expect("nobody knows it yet");
    script.wait("it is paused", 60, |script| rollout(script, h(1), web) == "paused");
    let process = script.run.world.hosts[0].process.as_ref().expect("it runs");
    let version =
        process.core.assets().into_iter().find(|view| view.id == id).map(|view| view.version);
    let version = version.expect("it was created");
    let signal = Some("HUP".to_owned());
    let replace = Command::ReplaceConfig { id, version, content: content("new"), signal };
    script.command(h(0), replace).expect("taken");
    let all_new = |script: &Script| {
        let hosts = script.run.world.hosts.iter();
        let containers = hosts.flat_map(|host| host.engine.containers());
        containers
            .filter(|container| container.is_running())
            .all(|container| container.configs.get(&id).is_some_and(|c| c.bytes() == b"new"))
    };
    assert!(!all_new(&script), "nothing ran with the old one");
    script.wait("all have the new content", 30, |script| all_new(script));
    assert_eq!(script.counts(web).iter().sum::<usize>(), 4);
    script.done();
}
