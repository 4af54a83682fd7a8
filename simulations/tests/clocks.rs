//! Wall clocks are wrong, and changes are made on those very hosts: whatever a clock shows, all nodes end up
//! with the same services at once, not when the time of the clock that was ahead has come.

use serde_json::json;
use simulations::links::HostIx;
use simulations::operators::service;
use simulations::script::{Script, h};

const HOUR_MS: i64 = 3_600_000;

fn turn(script: &mut Script, host: HostIx, by_ms: i64) {
    script.run.world.turn_clock(host, by_ms);
    script.run.note(simulations::seen::Seen::Disturbed);
}

/// Every host wants this many replicas of its only service.
fn all_want(script: &Script, replicas: u64) -> bool {
    let on = |host: &simulations::host::Host| {
        let process = host.process.as_ref();
        process.map(|process| process.core.services()[0].desired)
    };
    script.run.world.hosts.iter().all(|host| on(host) == Some(replicas))
}

/// The clock-jump scenario in earlier days: what was scaled on a host whose clock was an hour ahead counted there
/// and nowhere else, for an hour; and what was changed there after its clock was set right was refused.
#[test]
fn a_scale_on_a_host_whose_clock_is_an_hour_ahead_counts_everywhere() {
    for hosts in [2, 3, 5] {
        let mut script = Script::of(90 + hosts as u64, hosts);
        let web = script.create_web(4);
        turn(&mut script, h(0), HOUR_MS);
        script.scale(h(0), web, 6).expect("it is taken");
        script.wait("all know of it", 5, |script| all_want(script, 6));
        script.scale(h(1), web, 5).expect("another host writes over it");
        script.wait("all know of it", 5, |script| all_want(script, 5));
        script.scale(h(0), web, 7).expect("and the first over that");
        script.wait("all know of it", 5, |script| all_want(script, 7));
        script.wait_whole(20);
        turn(&mut script, h(0), -HOUR_MS);
        script.scale(h(0), web, 8).expect("its own clock counts again");
        script.wait("all know of it", 5, |script| all_want(script, 8));
        script.wait_whole(20);
        script.pass(60);
        script.done();
    }
}

/// One that starts with a wrong clock learns what the others' show with the rest that it asks for.
#[test]
fn a_host_that_starts_with_its_clock_ahead_is_no_exception() {
    let mut script = Script::of(97, 3);
    let web = script.create_web(4);
    script.kill_shoal(h(1));
    turn(&mut script, h(1), HOUR_MS);
    script.start_shoal(h(1));
    script.pass(10);
    script
        .update(h(1), web, |spec| spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!(["V=2"]))
        .expect("taken");
    let other = script.create(h(1), service("other", "sim/web", 2));
    script.wait_whole(60);
    assert_eq!(script.counts(other).iter().sum::<usize>(), 2);
    script.done();
}
