//! Anti-entropy between two nodes over a network that loses, doubles and reorders.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use membership::clock::{Clock, Stamp};
use membership::id::{CellId, NodeId};
use membership::message::{Envelope, Message};
use membership::record::{Key, Kind, Record};
use membership::registers::Registers;
use membership::sync::{self, MAX_ANSWER_BYTES, MAX_BATCH_BYTES, SyncMessage};
use membership::time::Wall;
use membership::wire;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const WALL: u64 = 1_800_000_000_000;

fn record(id: u128, ms: u64, writer: u128, body: Option<Vec<u8>>) -> Record {
    Record {
        cell: CellId(0),
        key: Key { kind: Kind::Service, id },
        stamp: Stamp { ms: WALL + ms, counter: 0 },
        writer: NodeId(writer),
        ancestors: Vec::new(),
        body,
    }
}

/// One round opened by `from`, each message lost with `loss` in 100 and sometimes doubled or late.
/// Returns how many messages were sent and how many bytes.
fn round(
    nodes: &mut [Registers; 2],
    from: usize,
    loss: u32,
    rng: &mut ChaCha8Rng,
) -> (usize, usize) {
    let mut network = vec![(1 - from, Message::Sync(sync::start(&nodes[from])))];
    let (mut sent, mut bytes) = (0, 0);
    while !network.is_empty() {
        let (to, message) = network.swap_remove(rng.random_range(0..network.len()));
        sent += 1;
        assert!(sent < 100_000, "the round does not end");
        let envelope = Envelope { cell: CellId(0), message };
        bytes += wire::encode(&envelope).unwrap().len();
        if rng.random_range(0..100) < loss {
            continue;
        }
        if rng.random_range(0..100) < loss / 4 {
            network.push((to, envelope.message.clone()));
        }
        match envelope.message {
            Message::Sync(step) => {
                let answers = sync::answer(&nodes[to], &step);
                network.extend(answers.into_iter().map(|answer| (1 - to, answer)));
            }
            Message::Records { records, confirm } => {
                assert!(!confirm);
                records.into_iter().for_each(|r| drop(nodes[to].merge(r)));
            }
            other => panic!("unexpected {other:?}"),
        }
    }
    (sent, bytes)
}

fn holdings(registers: &Registers) -> Vec<Record> {
    registers.iter().cloned().collect()
}

fn some_records() -> impl Strategy<Value = Vec<Record>> {
    let one = (0..60u128, 0..5u64, 1..4u128, proptest::option::weighted(0.8, any::<u8>()))
        .prop_map(|(id, ms, writer, body)| record(id << 64, ms, writer, body.map(|b| vec![b])));
    proptest::collection::vec(one, 0..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..Default::default() })]

    #[test]
    fn repeated_rounds_make_both_sides_equal(
        left in some_records(), right in some_records(), loss in 0..60u32, seed: u64,
    ) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut nodes = [left, right].map(|records| Registers::load(CellId(0), records));
        let mut rounds = 0;
        while nodes[0].root() != nodes[1].root() {
            round(&mut nodes, rounds % 2, loss, &mut rng);
            rounds += 1;
            prop_assert!(rounds < 400);
        }
        prop_assert_eq!(holdings(&nodes[0]), holdings(&nodes[1]));
        // Without loss one round moves everything; a second may be needed for the conflicts that both
        // sides then find.
        prop_assert!(loss > 0 || rounds <= 3, "{} rounds", rounds);
        let (sent, bytes) = round(&mut nodes, 0, 0, &mut rng);
        prop_assert!(sent == 1 && bytes < 32, "equal nodes: {} messages, {} bytes", sent, bytes);
    }

    #[test]
    fn a_step_made_up_by_a_peer_is_answered_within_bounds(
        buckets in proptest::collection::vec(any::<(u8, u128)>(), 0..600),
        keys in proptest::collection::vec(any::<u128>(), 0..2000),
    ) {
        let registers = Registers::load(CellId(0), (0..300u128).map(|id| record(id, 1, 1, Some(vec![0; 64]))));
        let keys = keys.into_iter().map(|id| Key { kind: Kind::Service, id: id % 600 }).collect();
        let buckets = buckets.into_iter().map(|(b, d)| (b, membership::record::Digest(d))).collect();
        for step in [SyncMessage::Buckets(buckets), SyncMessage::Want(keys)] {
            for answer in sync::answer(&registers, &step) {
                let sent = wire::encode(&Envelope { cell: CellId(0), message: answer }).unwrap();
                prop_assert!(sent.len() <= MAX_BATCH_BYTES);
            }
        }
    }
}

#[test]
fn one_changed_record_among_thousands_costs_little() {
    let all = (0..5_000u128).map(|id| record(id * 0x1234_5678_9ABC, 1, 1, Some(vec![7; 500])));
    let mut nodes = [Registers::load(CellId(0), all.clone()), Registers::load(CellId(0), all)];
    nodes[0].merge(record(0, 2, 1, Some(vec![8; 500])));
    let (sent, bytes) = round(&mut nodes, 1, 0, &mut ChaCha8Rng::seed_from_u64(1));
    assert_eq!(nodes[0].root(), nodes[1].root());
    assert!(sent <= 6 && bytes < 10_000, "{sent} messages, {bytes} bytes");
}

#[test]
fn an_empty_node_gets_everything_in_bounded_pieces() {
    let large = (0..40u128).map(|id| record(id << 100, 1, 1, Some(vec![1; 600 * 1024])));
    let small = (0..3_000u128).map(|id| record(id * 0x1_0001 + 1, 1, 1, Some(vec![2; 1_000])));
    let full = Registers::load(CellId(0), large.chain(small));
    let empty = Registers::new(CellId(0));
    let mut rounds = 0;
    let mut nodes = [full, empty];
    while nodes[0].root() != nodes[1].root() {
        round(&mut nodes, 1, 0, &mut ChaCha8Rng::seed_from_u64(rounds));
        rounds += 1;
        assert!(rounds < 10);
    }
    let everything = SyncMessage::Want(nodes[0].iter().map(|r| r.key).collect());
    let answer = sync::answer(&nodes[0], &everything);
    let sizes: Vec<usize> = answer
        .iter()
        .map(|m| wire::encode(&Envelope { cell: CellId(0), message: m.clone() }).unwrap().len())
        .collect();
    assert!(sizes.iter().sum::<usize>() <= MAX_ANSWER_BYTES);
}

#[test]
fn a_node_back_from_days_away_learns_of_a_removal_nobody_counts_any_more() {
    let key = Key { kind: Kind::Service, id: 9 };
    let (mut here, mut clock) = (Registers::new(CellId(0)), Clock::default());
    let mut write = |body| {
        let draft = here.draft(key, body, NodeId(1), &mut clock, Wall(WALL)).unwrap().unwrap();
        here.merge(draft.clone());
        draft
    };
    let away = Registers::load(CellId(0), [write(Some(vec![1]))]);
    write(None);
    here.expire(Wall(WALL + 3 * 24 * 3_600_000));
    let mut nodes = [here, away];
    for opener in 0..2 {
        let mut nodes = nodes.clone();
        round(&mut nodes, opener, 0, &mut ChaCha8Rng::seed_from_u64(3));
        assert!(nodes[1].get(&key).is_some_and(Record::is_tombstone));
    }
    // Both hold it now, and hold it alike as soon as both let it expire.
    round(&mut nodes, 0, 0, &mut ChaCha8Rng::seed_from_u64(3));
    nodes[1].expire(Wall(WALL + 3 * 24 * 3_600_000));
    assert_eq!(nodes[0].root(), nodes[1].root());
}

#[test]
fn a_stamp_used_twice_by_one_writer_still_converges() {
    let twice = [1u8, 2].map(|byte| record(1, 1, 1, Some(vec![byte])));
    let mut nodes = twice.map(|r| Registers::load(CellId(0), [r]));
    for opener in 0..3 {
        round(&mut nodes, opener % 2, 0, &mut ChaCha8Rng::seed_from_u64(5));
    }
    assert_eq!(holdings(&nodes[0]), holdings(&nodes[1]));
}
