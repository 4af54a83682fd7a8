//! Two processes with one key, a copied disk: they raise each other's incarnation, and ever more seldom, so that a
//! cluster in which nobody notices stays as quiet as any other.

use simulations::faults::{Fault, Kind};
use simulations::script::{Script, h};
use simulations::time::Span;

/// The incarnation that stands on each of the two disks.
fn drawn(script: &Script) -> Vec<u64> {
    let hosts = [1, 4].map(|n| &script.run.world.hosts[n]);
    hosts.map(|host| host.disk.content().incarnation.0).to_vec()
}

/// How often either of them draws a new one in so many seconds.
fn draws(script: &mut Script, secs: u64) -> usize {
    let mut before = drawn(script);
    let mut count = 0;
    for _ in 0..secs * 10 {
        script.run.pass(Span::ms(100));
        let now = drawn(script);
        count += before.iter().zip(&now).filter(|(before, now)| before != now).count();
        before = now;
    }
    count
}

#[test]
fn two_processes_with_one_key_take_turns_ever_more_seldom_until_one_is_gone() {
    for seed in [5_001, 5_002] {
        let mut script = Script::of(seed, 5);
        script.create_web(10);
        script.pass(30);
        let sent = |script: &Script| script.run.world.traffic.messages;
        let before = sent(&script);
        script.pass(100);
        let alone = sent(&script) - before;
        let (kind, hosts, lasts_ms) = (Kind::ClonedNode, vec![1, 4], 900_000);
        assert!(script.run.strike(&Fault { kind, hosts, lasts_ms, amount: 0 }));
        let first = draws(&mut script, 60);
        assert!(first >= 3, "they notice each other: {first}");
        script.pass(240);
        let before = sent(&script);
        let later = draws(&mut script, 300);
        let doubled = (sent(&script) - before) / 3;
        assert!((5..=22).contains(&later), "one each in half a minute to a minute: {later}");
        assert!(doubled < alone * 2, "{doubled} messages in place of {alone}");
        script.pass(310);
        assert_ne!(script.id(h(1)), script.id(h(4)), "the copy got an empty disk");
        script.wait_whole(200);
        script.done();
    }
}
