//! Starts with and without their addresses.

use std::net::Ipv4Addr;

use membership::id::NetworkId;

use super::*;

const BACK: NetworkId = NetworkId(7);

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 5, 3, last)
}

fn starts(n: u128, wants: &[NetworkId], has: &[(u8, u32)]) -> Seen {
    let has = has.iter().map(|(last, block)| (BACK, address(*last), *block));
    let (place, task) = (place(), task(n));
    Seen::Addressed { host: A, task, place, wants: wants.to_vec(), has: has.collect() }
}

fn uses(blocks: &[u32]) -> Seen {
    Seen::Blocks { host: A, network: BACK, blocks: blocks.to_vec() }
}

#[test]
fn a_start_without_its_address_or_with_one_that_it_may_not_have_is_seen() {
    let found = |seen: Vec<Seen>| {
        let mut script = Script::new();
        script.sees(seen);
        script.found()
    };
    assert!(found(vec![uses(&[3]), starts(1, &[BACK], &[(9, 3)])]).is_empty());
    assert!(found(vec![uses(&[3]), starts(1, &[], &[(9, 3)])]).is_empty(), "a published port");
    assert_eq!(found(vec![uses(&[3]), starts(1, &[BACK], &[])]), ["networks"], "it is missing");
    assert_eq!(found(vec![starts(1, &[BACK], &[(9, 3)])]), ["networks"], "it has no block");
    let elsewhere = vec![uses(&[3, 4]), starts(1, &[BACK], &[(9, 5)])];
    assert_eq!(found(elsewhere), ["networks"], "another one's block");
    let twice = |between: Vec<Seen>| {
        let mut seen = vec![uses(&[3]), starts(1, &[BACK], &[(9, 3)])];
        seen.extend(runs(A, 1));
        seen.extend(between);
        seen.push(starts(2, &[BACK], &[(9, 3)]));
        found(seen)
    };
    assert_eq!(twice(Vec::new()), ["networks"], "it runs there with this address");
    let ended = vec![became(A, 1, Became::NotReady), became(A, 1, Became::Ended)];
    assert!(twice(ended).is_empty(), "it ran");
}

#[test]
fn what_has_lost_its_address_may_be_stopped_or_started_beside_and_nothing_else() {
    for (blocks, breaks) in [(vec![4], false), (vec![3, 4], true), (Vec::new(), false)] {
        let mut script = Script::new();
        script.sees([uses(&[3]), starts(1, &[BACK], &[(9, 3)])]).sees(runs(A, 1)).passes(1);
        script.sees([uses(&blocks), stop(A, 1, view())]);
        assert_eq!(script.found().contains(&"make before break"), breaks, "{blocks:?}");
        let mut script = Script::new();
        script.sees([uses(&[3]), starts(1, &[BACK], &[(9, 3)])]).sees(runs(A, 1)).passes(6);
        script.sees([uses(&blocks), start(A, 2, view())]);
        assert_eq!(script.found().contains(&"adopted"), breaks, "{blocks:?}");
    }
}
