//! Networks of the cluster under faults: addresses stay apart, and every host is told of what runs.

use membership::id::NetworkId;
use node::command::{Command, Reply};
use serde_json::{Value, json};
use simulations::cores;
use simulations::links::HostIx;
use simulations::mutants::{Mutation, mutant};
use simulations::operators::{Act, Draft, service};
use simulations::run::{Outcome, Run, RunSpec};
use simulations::schedule::Schedule;
use simulations::script::{Script, h};
use simulations::time::Span;
use simulations::world::Maker;

fn network(script: &mut Script, on: HostIx, name: &str, subnet: Option<&str>) -> NetworkId {
    let config: Vec<Value> = subnet.iter().map(|subnet| json!({ "Subnet": subnet })).collect();
    let spec = json!({ "Name": name, "Driver": "overlay", "IPAM": { "Config": config } });
    match script.command(on, Command::CreateNetwork { spec }) {
        Ok(Reply::NetworkCreated { id }) => id,
        other => panic!("the network was answered {other:?}"),
    }
}

fn on(mut spec: Value, networks: &[NetworkId]) -> Value {
    let targets = networks.iter().map(|id| json!({ "Target": id.to_string() }));
    spec["TaskTemplate"]["Networks"] = json!(targets.collect::<Vec<_>>());
    spec
}

fn published(mut spec: Value, port: u16) -> Value {
    spec["EndpointSpec"] = json!({ "Ports": [{ "TargetPort": 80, "PublishedPort": port }] });
    spec
}

fn wait_true(script: &mut Script, secs: u64) {
    script.wait_whole(secs);
    let why = |script: &Script| script.run.networks_are_true();
    let took = script.run.until_true(Span::secs(secs), |run| run.networks_are_true().is_ok());
    assert!(took.is_some(), "at {}: {:?}", script.now(), why(script));
}

#[test]
fn every_host_is_told_of_what_runs_through_crashes_cuts_updates_and_restarts() {
    for seed in [4_101, 4_102, 4_103] {
        let mut script = Script::of(seed, 4);
        let back = network(&mut script, h(0), "back", None);
        let small = network(&mut script, h(1), "small", Some("10.77.5.0/24"));
        // The node that is asked may not have heard of the other's network yet.
        script.pass(3);
        let web = published(on(service("web", "sim/web", 8), &[back, small]), 8080);
        let web = script.create(h(2), web);
        script.create(h(3), on(service("db", "sim/web", 3), &[back]));
        wait_true(&mut script, 120);
        script.crash(h(1));
        script.pass(30);
        script.boot(h(1));
        script.kill_shoal(h(2));
        script.pass(5);
        script.start_shoal(h(2));
        wait_true(&mut script, 200);
        let cut = script.cut_off(&[h(0)]);
        script.pass(40);
        script.mend(cut);
        wait_true(&mut script, 200);
        let changed = script.update(h(3), web, |spec| {
            spec["TaskTemplate"]["ForceUpdate"] = json!(1);
        });
        assert!(changed.is_ok(), "{changed:?}");
        script.pass(60);
        wait_true(&mut script, 300);
        script.scale(h(0), web, 2).expect("it is scaled");
        script.remove(h(0), web).expect("it is removed");
        wait_true(&mut script, 100);
        script.done();
    }
}

#[test]
fn both_sides_of_a_cut_use_a_network_and_their_addresses_stay_apart() {
    let mut collided = 0;
    for seed in [4_201, 4_202, 4_203] {
        let mut script = Script::of(seed, 4);
        // So few blocks that some bring two hosts to the same.
        let small = network(&mut script, h(0), "small", Some("10.77.5.0/24"));
        script.pass(3);
        let cut = script.cut_off(&[h(0), h(1)]);
        script.pass(20);
        script.create(h(0), on(service("left", "sim/web", 50), &[small]));
        script.create(h(2), on(service("right", "sim/web", 50), &[small]));
        script.pass(60);
        script.mend(cut);
        script.run.pass(Span::ms(1));
        collided += script.run.shared_addresses().len();
        wait_true(&mut script, 200);
        script.done();
    }
    assert!(collided > 0, "nothing was to be mended");
}

/// Hosts that join while they cannot hear of each other may take the same first block, and with it the same address
/// of their own: one of them has to make the network anew.
#[test]
fn hosts_that_joined_on_both_sides_of_a_cut_end_up_with_blocks_of_their_own() {
    let mut collided = 0;
    for seed in 4_251..4_257 {
        let mut spec = RunSpec::plain(seed, 4);
        spec.absent.extend([h(2), h(3)]);
        let mut run = Run::new(&spec, cores::real(cores::settings()));
        run.pass(Span::secs(15));
        let mut script = Script { run };
        let small = network(&mut script, h(0), "small", Some("10.77.5.0/25"));
        script.pass(3);
        let cut = script.cut_off(&[h(0), h(2)]);
        script.pass(20);
        (2..4).for_each(|host| script.boot(h(host)));
        script.pass(20);
        script.create(h(0), on(service("left", "sim/web", 4), &[small]));
        script.create(h(1), on(service("right", "sim/web", 4), &[small]));
        script.pass(40);
        let own = |script: &Script, host: usize| {
            let process = script.run.world.hosts[host].process.as_ref();
            let picture = process.map(|process| process.core.network_picture());
            picture.and_then(|all| all.networks.get(&small).map(|one| one.gateway))
        };
        collided += usize::from(own(&script, 2).is_some() && own(&script, 2) == own(&script, 3));
        script.mend(cut);
        wait_true(&mut script, 200);
        script.done();
    }
    assert!(collided > 0, "nothing was to be mended");
}

#[test]
fn a_port_and_a_network_are_given_once() {
    let mut script = Script::of(4_301, 3);
    let back = network(&mut script, h(0), "back", None);
    script.create(h(0), published(on(service("web", "sim/web", 2), &[back]), 8080));
    let again = script.try_create(h(0), published(service("other", "sim/web", 1), 8080));
    let why = again.expect_err("the port was given twice").message;
    assert!(why.contains("port '8080' is already in use by service 'web'"), "{why}");
    let removed = script.command(h(0), Command::RemoveNetwork { id: back });
    let why = removed.expect_err("it was removed").message;
    assert!(why.contains("network back is in use by service"), "{why}");
    let spec = json!({ "Name": "back", "Driver": "overlay" });
    let named = script.command(h(0), Command::CreateNetwork { spec });
    assert!(named.expect_err("a second one").message.contains("already exists"));
    script.done();
}

#[test]
fn networks_that_are_removed_with_their_services_leave_nothing_in_the_engines() {
    for seed in [4_351, 4_352, 4_353] {
        let mut script = Script::of(seed, 3);
        let back = network(&mut script, h(0), "back", None);
        script.pass(3);
        let web = script.create(h(0), on(service("web", "sim/web", 6), &[back]));
        wait_true(&mut script, 60);
        // Its containers are still being stopped when the network is removed, and nothing else is on one.
        script.remove(h(0), web).expect("it is removed");
        let removed = script.command(h(0), Command::RemoveNetwork { id: back });
        assert!(removed.is_ok(), "{removed:?}");
        script.wait("the engines' networks to be gone", 100, |script| {
            script.run.world.hosts.iter().all(|host| host.engine.networks().next().is_none())
        });
        // Made while a host was away, and removed before it was back: its engine still has it.
        let front = network(&mut script, h(0), "front", None);
        script.pass(3);
        let web = script.create(h(0), on(service("web", "sim/web", 6), &[front]));
        wait_true(&mut script, 60);
        script.crash(h(2));
        script.pass(20);
        script.remove(h(0), web).expect("it is removed");
        let removed = script.command(h(0), Command::RemoveNetwork { id: front });
        assert!(removed.is_ok(), "{removed:?}");
        script.boot(h(2));
        script.wait("the network of the host that was away to be gone", 200, |script| {
            script.run.world.hosts.iter().all(|host| host.engine.networks().next().is_none())
        });
        script.done();
    }
}

#[test]
fn what_no_block_is_left_for_waits_and_says_why() {
    // Three blocks for hosts, and four hosts.
    let mut script = Script::of(4_401, 4);
    let tiny = network(&mut script, h(0), "tiny", Some("10.77.5.0/26"));
    let mut all = on(service("all", "sim/web", 1), &[tiny]);
    all["Mode"] = json!({ "Global": {} });
    let id = script.create(h(0), all);
    script.wait("three run and one waits", 60, |script| {
        let tasks = script.tasks(h(0));
        let waits = tasks.iter().filter(|task| {
            let why = task.status.error.as_deref().unwrap_or_default();
            task.service == id && why.contains("network tiny has no free addresses")
        });
        script.counts(id).iter().sum::<usize>() == 3 && waits.count() == 1
    });
    script.remove(h(0), id).expect("it is removed");
    script.wait_whole(60);
    script.done();
}

/// The comparison can fail.
#[test]
fn a_host_that_is_told_an_old_picture_is_found_out() {
    let run = |how: Option<Mutation>| {
        let sound = how.is_none();
        let maker = match how {
            Some(how) => mutant(how, cores::settings()),
            None => cores::real(cores::settings()),
        };
        let mut run = Run::new(&RunSpec::plain(4_501, 3), maker);
        run.pass(Span::secs(15));
        let web = published(service("web", "sim/web", 4), 8080);
        run.operators.create(&mut run.world, h(0), web);
        run.pass(Span::secs(60));
        // A broken one keeps the first that it drew, from before there was anything to tell.
        assert_eq!(run.networks_are_true().is_ok(), sound);
        run.world.power_off(h(2));
        run.pass(Span::secs(60));
        run.networks_are_true()
    };
    assert_eq!(run(None), Ok(()));
    assert!(run(Some(Mutation::KeepsItsPicture)).is_err());
}

/// A service with more replicas than a block has addresses, which is reached at a port, and rest.
fn with_networks(maker: Maker) -> Vec<&'static str> {
    let mut run = Run::new(&RunSpec::plain(4_601, 3), maker);
    run.pass(Span::secs(15));
    let subnet = Some("10.77.0.0/24".to_owned());
    let create = Act::CreateNetwork { network: 1, subnet };
    assert!(run.operators.act(&mut run.world, 0, &create));
    run.pass(Span::secs(3));
    let draft = Draft { networks: vec![1], port: Some(8_000), ..Draft::web(90) };
    assert!(run.operators.act(&mut run.world, 1, &Act::Create { service: 1, draft }));
    run.pass(Span::secs(60));
    run.heal();
    run.demand_liveness();
    found(run.finish())
}

fn found(outcome: Outcome) -> Vec<&'static str> {
    let mut checks: Vec<&'static str> =
        outcome.violations.into_iter().map(|violation| violation.check).collect();
    checks.sort();
    checks.dedup();
    checks
}

#[test]
fn one_that_overlooks_networks_or_what_others_have_of_them_is_seen() {
    assert_eq!(with_networks(cores::real(cores::settings())), Vec::<&str>::new());
    for how in [Mutation::OverlooksNetworks, Mutation::DeafToBlocks, Mutation::KeepsItsPicture] {
        let checks = with_networks(mutant(how, cores::settings()));
        assert!(checks.contains(&"networks"), "{how:?}: {checks:?}");
    }
}

/// In random runs, too.
#[test]
fn a_random_run_sees_them_as_well() {
    let run = |how: Option<Mutation>| {
        let schedule = Schedule::draw_for(5, Some(60));
        let settings = cores::settings();
        let maker =
            how.map_or_else(|| cores::real(settings.clone()), |how| mutant(how, settings.clone()));
        found(schedule.run(false, maker))
    };
    assert_eq!(run(None), Vec::<&str>::new());
    for how in [Mutation::OverlooksNetworks, Mutation::KeepsItsPicture] {
        let checks = run(Some(how));
        assert!(checks.contains(&"networks"), "{how:?}: {checks:?}");
    }
}
