//! Where replicas lie: evenly, within what hosts hold, where constraints allow, away from drained hosts.

use node::assets::AssetKind;
use node::command::{Command, Reply};
use node::files::Content;
use node::slot::TaskState;
use serde_json::json;
use simulations::operators::assets::digest;
use simulations::operators::service;
use simulations::run::RunSpec;
use simulations::script::{Script, h};
use simulations::seen::Seen;

#[test]
fn replicas_over_equal_hosts_differ_by_at_most_one_for_every_count() {
    let mut script = Script::of(21, 5);
    let web = script.create_web(1);
    for replicas in [2, 3, 4, 5, 6, 7, 11, 13, 16, 24, 25, 26, 49, 50, 20, 9, 8, 1] {
        script.scale(h(replicas as u32 % 5), web, replicas).expect("scaled");
        script.wait("scaled, once each", 60, |script| {
            script.counts(web).iter().sum::<usize>() == replicas as usize && script.whole().is_ok()
        });
        script.wait("even", 120, |script| script.run.even().is_ok() && script.whole().is_ok());
    }
    script.done();
}

#[test]
fn what_does_not_fit_is_pending_with_the_reason_and_runs_when_there_is_room() {
    let mut script = Script::of(22, 3);
    let mut spec = service("big", "sim/web", 7);
    // Each host holds 8 cores: two of these.
    spec["TaskTemplate"]["Resources"] =
        json!({ "Reservations": { "NanoCPUs": 3_500_000_000_i64 } });
    let big = script.create(h(0), spec);
    script.wait("six run", 30, |script| script.counts(big) == [2, 2, 2]);
    script.pass(20);
    let pending: Vec<_> =
        script.tasks(h(1)).into_iter().filter(|t| t.state() == TaskState::Pending).collect();
    assert_eq!(pending.len(), 1);
    let reason =
        pending[0].status.error.clone().unwrap_or_else(|| pending[0].status.message.clone());
    assert!(reason.to_lowercase().contains("cpu") || reason.contains("core"), "{reason}");
    script.scale(h(2), big, 6).expect("scaled");
    script.wait_whole(10);
    script.done();
}

#[test]
fn constraints_hold_and_zones_come_first() {
    let mut spec = RunSpec::plain(23, 6);
    for (n, host) in spec.hosts.iter_mut().enumerate() {
        host.zone = format!("z{}", n / 2);
        host.labels.insert("disk".to_owned(), if n % 2 == 0 { "ssd" } else { "hdd" }.to_owned());
    }
    let mut script = Script::with(&spec);
    let web = script.create_web(9);
    let counts = script.counts(web);
    let zones: Vec<usize> = counts.chunks(2).map(|zone| zone.iter().sum()).collect();
    assert_eq!(zones, [3, 3, 3]);
    let mut fast = service("fast", "sim/web", 6);
    fast["TaskTemplate"]["Placement"] = json!({ "Constraints": ["engine.labels.disk==ssd"] });
    let fast = script.create(h(1), fast);
    script.wait_whole(30);
    assert_eq!(script.counts(fast), [2, 0, 2, 0, 2, 0]);
    script.done();
}

#[test]
fn a_drained_host_is_emptied_new_before_old_and_filled_again() {
    let mut script = Script::of(24, 4);
    let web = script.create_web(12);
    script.availability(h(1), h(2), "drain");
    script.wait("empty", 60, |script| script.counts(web)[2] == 0);
    script.wait_whole(10);
    script.pass(60);
    assert_eq!(script.counts(web), [4, 4, 0, 4]);
    script.availability(h(0), h(2), "active");
    script.wait("even again", 200, |script| script.whole().is_ok() && script.run.even().is_ok());
    script.done();
}

#[test]
fn a_rolling_update_replaces_every_task_and_loses_no_slot_when_it_starts_first() {
    let mut script = Script::of(25, 3);
    let mut spec = service("web", "sim/web", 6);
    spec["UpdateConfig"] = json!({ "Parallelism": 2, "Order": "start-first" });
    let web = script.create(h(0), spec);
    script.wait_whole(30);
    let before: Vec<_> = (0..3).map(|n| script.running(h(n))).collect();
    script
        .update(h(1), web, |spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["V=2"]))
        .expect("updated");
    let all = [h(0), h(1), h(2)];
    script.wait("all replaced", 120, |script| {
        assert_eq!(script.slots(web, &all).len(), 6, "at no time is a slot without a ready task");
        (0..3).all(|n| script.running(h(n)).is_disjoint(&before[n as usize]))
            && script.whole().is_ok()
    });
    script.pass(60);
    script.done();
}

#[test]
fn the_limit_for_each_node_holds_while_one_is_drained() {
    for hosts in [2, 3] {
        let mut script = Script::of(29, hosts);
        let mut spec = service("few", "sim/web", 2);
        spec["TaskTemplate"]["Placement"] = json!({ "MaxReplicas": 1 });
        let few = script.create(h(0), spec);
        script.wait_whole(30);
        let of = script.counts(few).iter().position(|count| *count == 1).unwrap_or(0);
        script.availability(h(1), h(of as u32), "drain");
        // With three hosts there is room elsewhere, whoever the plan names first.
        for _ in 0..60 {
            script.pass(1);
            assert!(script.counts(few).iter().all(|count| *count <= 1), "{:?}", script.counts(few));
        }
        let running: usize = script.counts(few).iter().sum();
        assert_eq!(running, 2, "what nobody else may run stays where it is");
        script.availability(h(1), h(of as u32), "active");
        script.wait_whole(60);
        script.done();
    }
}

/// Seed 230945: two slots that a host had claimed from a drained one waited for a config that was gone. The drained
/// host left, and the other one, which was still about to relieve it, took over nothing to even load out any more.
#[test]
fn what_waits_for_a_file_does_not_keep_its_host_from_evening_out() {
    let mut script = Script::of(29, 3);
    let (spec, content) = (json!({ "Name": "site", "Labels": {} }), Content::new(&b"old"[..]));
    let offered = digest(&content);
    let create = Command::CreateAsset { kind: AssetKind::Config, spec, content };
    let Ok(Reply::AssetCreated { id }) = script.command(h(0), create) else {
        panic!("the config is not taken")
    };
    script.run.world.seen.push(Seen::Offered { asset: id, content: offered });
    for host in [0, 2] {
        script.availability(h(0), h(host), "pause");
    }
    let mut site = service("site", "sim/web", 4);
    site["TaskTemplate"]["ContainerSpec"]["Configs"] = json!([
        { "ConfigID": id.to_string(), "ConfigName": "site", "File": { "Name": "site" } },
    ]);
    let site = script.create(h(0), site);
    script.wait("all on one", 60, |script| script.counts(site) == [0, 4, 0]);
    // The one side removes both, the other one changes the service later: it stays, and its config is gone.
    let cut = script.cut_off(&[h(2)]);
    script.pass(10);
    script.remove(h(2), site).expect("nobody else is there");
    script.command(h(2), Command::RemoveAsset { kind: AssetKind::Config, id }).expect("not in use");
    script.pass(5);
    script.update(h(0), site, |spec| spec["Labels"] = json!({ "a": "b" })).expect("taken");
    script.mend(cut);
    script.wait("the config is gone everywhere", 60, |script| {
        let hosts = script.run.world.hosts.iter();
        hosts.filter_map(|host| host.process.as_ref()).all(|p| p.core.assets().is_empty())
    });
    for (host, availability) in [(0, "active"), (2, "active"), (1, "drain")] {
        script.availability(h(0), h(host), availability);
    }
    script.pass(20);
    assert_eq!(script.counts(site), [0, 4, 0], "it serves until somebody can take over");
    script.crash(h(1));
    script.availability(h(0), h(0), "pause");
    let web = script.create(h(0), service("web", "sim/web", 4));
    script.wait("all on the only one", 60, |script| script.counts(web) == [0, 0, 4]);
    script.availability(h(2), h(0), "active");
    // It has claimed the others, and so has its share with one.
    script.wait("it takes one over", 200, |script| script.counts(web) == [1, 0, 3]);
    script.done();
}
