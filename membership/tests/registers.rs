//! The laws of the registers, for histories as a cluster makes them: nodes edit what they hold, and
//! records reach other nodes late, doubled, out of order, or only at the end.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::{BTreeMap, BTreeSet};

use membership::clock::{Clock, Stamp};
use membership::id::{CellId, NodeId};
use membership::record::{Digest, Key, Kind, Record};
use membership::registers::Registers;
use membership::time::Wall;
use proptest::prelude::*;

const WALL: Wall = Wall(1_800_000_000_000);
const NODES: usize = 3;

fn key(id: u128) -> Key {
    Key { kind: Kind::Service, id }
}

/// One node: its registers and its clock, which runs `skew` ahead.
struct Node {
    id: NodeId,
    registers: Registers,
    clock: Clock,
    wall: Wall,
}

impl Node {
    fn new(index: usize) -> Self {
        Self {
            id: NodeId(index as u128 + 1),
            registers: Registers::new(CellId(0)),
            clock: Clock::default(),
            wall: Wall(WALL.0 + 7_000 * index as u64),
        }
    }

    /// Merges and returns everything that changed.
    fn take(&mut self, record: &Record) -> Vec<Record> {
        record.check(self.wall).unwrap();
        self.clock.observe(record.stamp, self.wall).unwrap();
        let would = self.registers.would_change(record);
        let merge = self.registers.merge(record.clone());
        assert_eq!(would, merge.changed || merge.conflict.is_some());
        merge.changed.then(|| record.clone()).into_iter().chain(merge.conflict).collect()
    }

    fn edit(&mut self, key: Key, body: Option<Vec<u8>>) -> Vec<Record> {
        let draft = self.registers.draft(key, body, self.id, &mut self.clock, self.wall).unwrap();
        let Some(record) = draft else { return Vec::new() };
        let changed = self.take(&record);
        assert_eq!(changed, vec![record], "a draft stands at once and conflicts with nothing");
        changed
    }
}

#[derive(Clone, Debug)]
enum Step {
    Edit {
        node: usize,
        key: u128,
        body: Option<u8>,
    },
    /// Some record made so far reaches some node, perhaps once more.
    Deliver {
        node: usize,
        pick: usize,
    },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let edit = (0..NODES, 0..2u128, proptest::option::weighted(0.8, 0..4u8))
        .prop_map(|(node, key, body)| Step::Edit { node, key, body });
    let deliver = (0..NODES, any::<usize>()).prop_map(|(node, pick)| Step::Deliver { node, pick });
    proptest::collection::vec(prop_oneof![edit, deliver], 1..60)
}

/// Plays the steps; returns the nodes, all edits that were acknowledged, and all records made.
fn play(steps: &[Step]) -> (Vec<Node>, Vec<Record>, Vec<Record>) {
    let mut nodes: Vec<Node> = (0..NODES).map(Node::new).collect();
    let (mut edits, mut pool) = (Vec::new(), Vec::new());
    for step in steps {
        match step {
            Step::Edit { node, key: id, body } => {
                let made = nodes[*node].edit(key(*id), body.map(|byte| vec![byte]));
                edits.extend(made.clone());
                pool.extend(made);
            }
            Step::Deliver { node, pick } if !pool.is_empty() => {
                let record: Record = pool[pick % pool.len()].clone();
                let made = nodes[*node].take(&record);
                pool.extend(made);
            }
            Step::Deliver { .. } => {}
        }
    }
    (nodes, edits, pool)
}

/// Every node tells every other everything it holds until nothing changes.
fn exchange(nodes: &mut [Node]) {
    loop {
        let held: Vec<Record> = nodes.iter().flat_map(|n| n.registers.iter().cloned()).collect();
        let mut changed = false;
        for node in nodes.iter_mut() {
            for record in &held {
                changed |= !node.take(record).is_empty();
            }
        }
        if !changed {
            return;
        }
    }
}

fn holdings(registers: &Registers) -> Vec<Record> {
    registers.iter().cloned().collect()
}

/// The edits that nobody can miss: what stands and what is shown as a conflict, whatever these were
/// built upon, and edits that said the same as one of them.
fn accounted_for(registers: &Registers, edits: &[Record]) -> BTreeSet<Digest> {
    let shown = registers.conflicts().into_iter().map(|conflict| conflict.loser);
    let mut open: Vec<Record> = registers.iter().cloned().chain(shown).collect();
    let mut accounted = BTreeSet::new();
    while let Some(record) = open.pop() {
        if accounted.insert(record.digest()) {
            let ancestor = |e: &&Record| record.ancestors.contains(&e.digest());
            let twin = |e: &&Record| e.key == record.key && e.body == record.body;
            open.extend(edits.iter().filter(|e| ancestor(e) || twin(e)).cloned());
        }
    }
    accounted
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn all_nodes_end_equal_and_no_edit_vanishes(steps in steps()) {
        let (mut nodes, edits, _) = play(&steps);
        exchange(&mut nodes);
        for node in &nodes[1..] {
            prop_assert_eq!(node.registers.root(), nodes[0].registers.root());
            prop_assert_eq!(holdings(&node.registers), holdings(&nodes[0].registers));
        }
        let accounted = accounted_for(&nodes[0].registers, &edits);
        for edit in &edits {
            prop_assert!(accounted.contains(&edit.digest()), "lost: {:?}", edit);
        }
    }

    #[test]
    fn the_order_of_arrival_decides_nothing(
        steps in steps(),
        shuffle in proptest::collection::vec(any::<(u16, u16)>(), 1..80),
    ) {
        let (_, _, pool) = play(&steps);
        prop_assume!(!pool.is_empty());
        let mut forward = Node::new(0);
        pool.iter().for_each(|record| { forward.take(record); });
        let mut shuffled = pool.clone();
        for (a, b) in shuffle {
            let (a, b) = (usize::from(a) % shuffled.len(), usize::from(b) % shuffled.len());
            shuffled.swap(a, b);
            shuffled.push(shuffled[a].clone());
        }
        let mut other = Node::new(0);
        shuffled.iter().for_each(|record| { other.take(record); });
        for id in 0..2 {
            prop_assert_eq!(forward.registers.get(&key(id)), other.registers.get(&key(id)));
        }
        let mut both = [forward, other];
        exchange(&mut both);
        prop_assert_eq!(both[0].registers.root(), both[1].registers.root());
    }

    /// The semilattice laws hold for any records at all, made by a buggy writer too: stamps used twice,
    /// ancestors that never were.
    #[test]
    fn what_stands_is_a_join(records in proptest::collection::vec(any_record(), 1..30), cut: usize) {
        let merged = |parts: &[&[Record]]| {
            let mut registers = Registers::new(CellId(0));
            for record in parts.iter().copied().flatten() {
                registers.merge(record.clone());
            }
            let winners: BTreeMap<Key, Digest> = registers
                .iter()
                .filter(|r| r.key.kind == Kind::Service)
                .map(|r| (r.key, r.digest()))
                .collect();
            winners
        };
        let (a, b) = records.split_at(cut % records.len());
        prop_assert_eq!(merged(&[a, b]), merged(&[b, a]));
        prop_assert_eq!(merged(&[a, b, a, b, b]), merged(&[a, b]));
        // And it is the greatest of what came in, by a naive look.
        let mut naive: BTreeMap<Key, &Record> = BTreeMap::new();
        for record in &records {
            let best = naive.entry(record.key).or_insert(record);
            if (best.order(), best.digest()) < (record.order(), record.digest()) {
                *best = record;
            }
        }
        let naive: BTreeMap<Key, Digest> = naive.iter().map(|(k, r)| (*k, r.digest())).collect();
        prop_assert_eq!(merged(&[a, b]), naive);
    }

    /// The root kept up to date by XOR is the root computed from scratch.
    #[test]
    fn the_root_is_that_of_what_is_held(steps in steps()) {
        let (nodes, ..) = play(&steps);
        for node in nodes {
            let fresh = Registers::load(CellId(0), holdings(&node.registers));
            prop_assert_eq!(fresh.root(), node.registers.root());
            prop_assert_eq!(fresh.len(), node.registers.len());
            prop_assert_eq!(fresh.conflicts(), node.registers.conflicts());
        }
    }
}

fn any_record() -> impl Strategy<Value = Record> {
    let body = proptest::option::of(proptest::collection::vec(0..3u8, 0..2));
    let ancestors = proptest::collection::vec((0..4u128).prop_map(Digest), 0..3);
    (0..2u128, 0..4u64, 0..3u128, ancestors, body).prop_map(|(id, ms, writer, ancestors, body)| {
        let stamp = Stamp { ms: WALL.0 + ms, counter: 0 };
        Record { cell: CellId(0), key: key(id), stamp, writer: NodeId(writer), ancestors, body }
    })
}

/// Two nodes that both hold a first edit.
fn pair() -> (Node, Node) {
    let (mut a, mut b) = (Node::new(0), Node::new(1));
    for record in a.edit(key(1), Some(b"first".to_vec())) {
        b.take(&record);
    }
    (a, b)
}

#[test]
fn of_two_concurrent_edits_one_is_shown_until_dismissed() {
    let (mut a, mut b) = pair();
    let lost = a.edit(key(1), Some(b"a".to_vec()));
    let won = b.edit(key(1), Some(b"b".to_vec()));
    let made = a.take(&won[0]);
    assert_eq!(made.len(), 2, "the winner and the conflict are to be stored and passed on");
    // The node that wrote the winner finds the very same conflict by itself.
    assert_eq!(b.take(&lost[0]), vec![made[1].clone()]);

    let open = a.registers.conflicts();
    assert_eq!(open.len(), 1);
    assert_eq!((open[0].key, &open[0].loser), (key(1), &lost[0]));
    assert_eq!(a.registers.get(&key(1)), Some(&won[0]));

    let dismissal = a.edit(open[0].id, None);
    b.take(&dismissal[0]);
    // The loser turning up again does not bring the conflict back.
    for node in [&mut a, &mut b] {
        assert!(node.take(&lost[0]).is_empty());
        assert!(node.registers.conflicts().is_empty());
    }
}

#[test]
fn an_edit_on_top_of_another_is_no_conflict_whatever_arrives_first() {
    let (mut a, mut b) = pair();
    let second = a.edit(key(1), Some(b"second".to_vec()));
    let third = a.edit(key(1), Some(b"third".to_vec()));
    b.take(&third[0]);
    assert!(b.take(&second[0]).is_empty());
    assert!(b.registers.conflicts().is_empty());
}

#[test]
fn the_later_of_two_lost_edits_speaks_for_the_earlier() {
    let (mut a, mut b) = pair();
    let first = a.edit(key(1), Some(b"a1".to_vec()));
    let second = a.edit(key(1), Some(b"a2".to_vec()));
    let won = b.edit(key(1), Some(b"b".to_vec()));
    // b hears of both, so both are kept; a, who knows how they relate, keeps one.
    b.take(&first[0]);
    b.take(&second[0]);
    a.take(&won[0]);
    let mut nodes = [a, b];
    exchange(&mut nodes);
    for node in &mut nodes {
        let open = node.registers.conflicts();
        assert_eq!(open.len(), 1);
        assert_eq!(open[0].loser, second[0]);
        assert_eq!(open[0].covers.len(), 1);
        // Dismissed with what it covers, nothing resurfaces.
        for id in open[0].covers.iter().chain([&open[0].id]) {
            node.edit(*id, None);
        }
        assert!(node.registers.conflicts().is_empty());
    }
}

#[test]
fn an_edit_that_is_built_upon_after_all_is_no_open_conflict() {
    let (mut a, mut b) = pair();
    let one = a.edit(key(1), Some(b"a1".to_vec()));
    let two = b.edit(key(1), Some(b"b".to_vec()));
    // A third node sees both while a goes on from its own: now b's edit is the one that lost.
    let mut c = Node::new(2);
    for record in one.iter().chain(&two) {
        c.take(record);
    }
    assert_eq!(c.registers.conflicts().len(), 1);
    a.wall = Wall(a.wall.0 + 20_000);
    let three = a.edit(key(1), Some(b"a2".to_vec()));
    c.wall = a.wall;
    c.take(&three[0]);
    let open: Vec<Record> = c.registers.conflicts().into_iter().map(|o| o.loser).collect();
    assert_eq!(open, two);
}

#[test]
fn a_write_that_changes_nothing_is_no_record() {
    let (mut a, _) = pair();
    assert!(a.edit(key(1), Some(b"first".to_vec())).is_empty());
    assert!(a.edit(key(2), None).is_empty(), "removing what never was");
    assert_eq!(a.edit(key(1), None).len(), 1);
    assert!(a.edit(key(1), None).is_empty(), "removing twice");
    assert_eq!(a.registers.live(Kind::Service).count(), 0);
    assert_eq!(a.registers.len(), 1);
}

#[test]
fn stewards_and_equal_edits_make_no_conflicts() {
    let (mut a, mut b) = pair();
    let rollout = Key { kind: Kind::Rollout, id: 1 };
    let mut made = a.edit(rollout, Some(b"1".to_vec()));
    made.extend(a.edit(key(5), Some(b"same".to_vec())));
    b.edit(rollout, Some(b"2".to_vec()));
    b.edit(key(5), Some(b"same".to_vec()));
    for record in &made {
        b.take(record);
    }
    assert!(b.registers.conflicts().is_empty());
}

#[test]
fn long_histories_keep_a_bounded_list_of_ancestors() {
    let (mut a, _) = pair();
    let mut digests = BTreeSet::new();
    for n in 0..100u8 {
        let record = a.edit(key(1), Some(vec![n])).remove(0);
        assert!(record.ancestors.len() <= membership::record::MAX_ANCESTORS);
        assert!(digests.insert(record.digest()));
    }
}
