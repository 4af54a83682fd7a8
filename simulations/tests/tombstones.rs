//! What is removed is forgotten in the end, on every disk, and does not come back with a node that was
//! away all the while. Days of virtual time: everything regular is slowed down, or this would take minutes.

use membership::detector::Timing;
use membership::time::Millis;
use node::Settings;
use simulations::cores;
use simulations::gossip::Pace;
use simulations::operators::service;
use simulations::run::RunSpec;
use simulations::script::{Script, h};
use simulations::time::Span;
use simulations::world::Fidelity;

const HOUR: u64 = 3_600;

fn slow() -> Settings {
    Settings {
        timing: Timing { probe_interval: Millis(5_000), ..Timing::lan() },
        sync_interval: Millis(60_000),
        resync: Millis(600_000),
        rebalance_every: Millis(60_000),
        ..cores::settings()
    }
}

/// Tombstones and other records on a host's disk.
fn on_disk(script: &Script, host: u32) -> (usize, usize) {
    let records = &script.run.world.hosts[host as usize].disk.content().records;
    let gone = records.values().filter(|record| record.is_tombstone()).count();
    (gone, records.len() - gone)
}

#[test]
fn what_was_removed_leaves_every_disk_and_does_not_come_back_with_one_who_was_away_for_a_day() {
    let mut spec = RunSpec::plain(71, 3);
    spec.gossip = Fidelity::Modelled(Pace { interval: Span::secs(30), ..Pace::default() });
    let mut script = Script::with_settings(&spec, slow());
    let web = script.create_web(3);
    let other = script.create(h(1), service("other", "sim/web", 3));
    script.wait_whole(60);
    let early = script.create(h(1), service("early", "sim/web", 1));
    script.wait_whole(60);
    script.remove(h(0), early).expect("all are there");
    script.pass(120);
    assert_eq!(on_disk(&script, 2).0, 2, "spec and count of the one, as tombstones");
    script.crash(h(2));
    script.wait("replaced", 120, |script| script.slots(web, &[h(0), h(1)]).len() == 3);
    script.remove(h(0), other).expect("two are there");
    script.pass(10 * HOUR);
    assert_eq!(on_disk(&script, 0).0, 4, "the second is known to two");
    script.pass(17 * HOUR);
    // The third may still hold what was removed: neither its silence nor the day is enough.
    assert_eq!((on_disk(&script, 0).0, on_disk(&script, 1).0), (4, 4));
    script.boot(h(2));
    // Nothing of what was removed is left but tombstones, and those it needed no longer than the others.
    let live = on_disk(&script, 0).1;
    script.wait("it has heard of the removal", 600, |script| {
        script.whole().is_ok() && script.counts(other) == [0, 0, 0] && on_disk(script, 2).1 == live
    });
    script.wait("all have forgotten", 2 * HOUR, |script| {
        (0..3).all(|host| on_disk(script, host) == (0, live))
    });
    // Nor does it come back with a restart of everybody.
    (0..3).for_each(|host| script.kill_shoal(h(host)));
    (0..3).for_each(|host| script.start_shoal(h(host)));
    script.pass(3 * HOUR);
    assert_eq!(script.counts(other), [0, 0, 0]);
    assert_eq!(script.counts(web).iter().sum::<usize>(), 3);
    assert!((0..3).all(|host| on_disk(&script, host) == (0, live)));
    assert!(script.now() > simulations::time::At::ZERO + Span::secs(30 * HOUR));
    script.done();
}
