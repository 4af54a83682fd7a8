//! Which blocks of a network's addresses this node takes, without asking anybody.
//!
//! Each node has an order of its own in which it tries blocks. It leaves alone what others have, also those that are
//! down, and what others would try first, so that nodes which know of the same members never choose the same block at
//! all. What it chose it publishes, and uses after a while in which nobody with a better right was heard: somebody who
//! uses it already, or also chose it and has the smaller id. If two use one block all the same (they did not know of
//! each other in a partition) the one who began later lets go of it, on every node's reckoning the same.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{NetworkId, NodeId};
use membership::time::{Instant, Wall};

use super::facts::Block;
use super::subnet::Cut;

/// A block of this node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mine {
    pub index: u32,
    /// When it was chosen and published.
    pub asked: Instant,
    /// Since when it is used.
    pub since: Option<Wall>,
}

impl Mine {
    pub(crate) fn is_settled(&self) -> bool {
        self.since.is_some()
    }

    pub(crate) fn shown(&self) -> Block {
        Block { index: self.index, since: self.since }
    }
}

/// What another node says that it has.
#[derive(Clone, Debug)]
pub(crate) struct Theirs<'a> {
    pub node: NodeId,
    pub blocks: &'a [Block],
    /// It can be heard: of two that use a block only somebody who is there makes the other let go.
    pub alive: bool,
}

/// Whose right to a block is better: the smaller one's.
fn right(since: Option<Wall>, node: NodeId) -> (bool, Option<Wall>, NodeId) {
    (since.is_none(), since, node)
}

/// Whether a block has to be let go of.
pub(crate) fn is_lost(me: NodeId, mine: &Mine, others: &[Theirs<'_>]) -> bool {
    let own = right(mine.since, me);
    others.iter().filter(|other| other.alive || !mine.is_settled()).any(|other| {
        let same = other.blocks.iter().filter(|block| block.index == mine.index);
        same.into_iter().any(|block| right(block.since, other.node) < own)
    })
}

/// The next block for this node; `None` when all are taken. `members`: who may want one too, this node among them.
pub(crate) fn choose(
    cut: Cut,
    network: NetworkId,
    me: NodeId,
    own: &[Mine],
    others: &[Theirs<'_>],
    members: &BTreeSet<NodeId>,
) -> Option<u32> {
    let mut taken: BTreeSet<u32> = others.iter().flat_map(|o| o.blocks).map(|b| b.index).collect();
    taken.extend(own.iter().map(|mine| mine.index));
    let has: BTreeSet<NodeId> = others.iter().map(|other| other.node).collect();
    // What those who have none yet would try first, in the order in which all of them reckon.
    let mut promised: BTreeMap<NodeId, u32> = BTreeMap::new();
    let mut held = taken.clone();
    for member in members.iter().filter(|member| !has.contains(member)) {
        let first = cut.candidates(network, *member).find(|index| !held.contains(index));
        let Some(first) = first else { break };
        held.insert(first);
        promised.insert(*member, first);
    }
    if let Some(first) = promised.get(&me).filter(|_| own.is_empty()) {
        return Some(*first);
    }
    let free = |avoid: &BTreeSet<u32>| cut.candidates(network, me).find(|n| !avoid.contains(n));
    free(&held).or_else(|| free(&taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NETWORK: NetworkId = NetworkId(5);

    fn cut(text: &str) -> Cut {
        Cut::of(text.parse().unwrap()).unwrap()
    }

    fn mine(index: u32, since: Option<u64>) -> Mine {
        Mine { index, asked: Instant(0), since: since.map(Wall) }
    }

    #[test]
    fn nodes_that_know_of_the_same_members_choose_different_blocks_without_a_word() {
        for (text, nodes) in [("10.5.0.0/16", 200), ("10.5.0.0/24", 15)] {
            let members: BTreeSet<NodeId> = (1..=nodes).map(NodeId).collect();
            let chosen: BTreeSet<u32> = members
                .iter()
                .filter_map(|me| choose(cut(text), NETWORK, *me, &[], &[], &members))
                .collect();
            assert_eq!(chosen.len(), nodes as usize, "{text}");
        }
    }

    #[test]
    fn what_others_have_is_left_alone_until_nothing_is_left() {
        let all = cut("10.5.0.0/24");
        let members = BTreeSet::from([NodeId(1), NodeId(2)]);
        let mut own: Vec<Mine> = Vec::new();
        let theirs = [Block { index: 3, since: Some(Wall(1)) }];
        let others = [Theirs { node: NodeId(2), blocks: &theirs, alive: false }];
        while let Some(index) = choose(all, NETWORK, NodeId(1), &own, &others, &members) {
            assert!(index != 3 && own.iter().all(|mine| mine.index != index));
            own.push(mine(index, None));
        }
        assert_eq!(own.len(), 14);
    }

    #[test]
    fn of_two_exactly_one_lets_go_and_never_for_somebody_who_is_not_there() {
        for (a, b) in [(None, None), (Some(7), None), (Some(7), Some(8)), (Some(7), Some(7))] {
            let lost = |me: u128, since, other: u128, theirs, alive| {
                let blocks = [Block { index: 9, since: Option::map(theirs, Wall) }];
                let others = [Theirs { node: NodeId(other), blocks: &blocks, alive }];
                is_lost(NodeId(me), &mine(9, since), &others)
            };
            assert!(lost(1, a, 2, b, true) != lost(2, b, 1, a, true), "{a:?} {b:?}");
            assert!(lost(2, b, 1, a, true), "{a:?} {b:?}");
            assert_eq!(lost(2, b, 1, a, false), b.is_none(), "{a:?} {b:?}");
        }
        let elsewhere = [Block { index: 8, since: Some(Wall(1)) }];
        let others = [Theirs { node: NodeId(1), blocks: &elsewhere, alive: true }];
        assert!(!is_lost(NodeId(2), &mine(9, None), &others));
    }
}
