//! Who watches whom.
//!
//! Every member has a place on each of [`K`] rings, drawn by hashing its id with the ring's number; on
//! each ring the next member watches it. The watchers of a member are thereby a pure function of the
//! set of members, spread evenly, and a join or a leave changes only a handful of them (Suresh et al.,
//! "Stable and Consistent Membership at Scale with Rapid", ATC 2018). Rapid lets one member sit on
//! several rings of another and so have fewer observers; here the rings are walked on until there are
//! [`K`] different ones. Small clusters watch each other all-to-all.

use std::collections::BTreeSet;

use crate::id::NodeId;

/// How many observers a member has, where there are enough others.
pub const K: usize = 10;

/// The rings over one set of members, kept so that many questions about one set cost one sorting.
#[derive(Clone, Debug, Default)]
pub struct Rings {
    /// Each ring in the order of its hash.
    rings: Vec<Vec<(u64, NodeId)>>,
    members: BTreeSet<NodeId>,
}

impl Rings {
    pub fn new(members: &BTreeSet<NodeId>) -> Self {
        let rings = (0..K).map(|ring| {
            let mut places: Vec<_> = members.iter().map(|m| (place(ring, *m), *m)).collect();
            places.sort_unstable();
            places
        });
        Self { rings: rings.collect(), members: members.clone() }
    }

    /// Adds one member; much cheaper than building the rings anew.
    pub fn insert(&mut self, id: NodeId) {
        if self.members.insert(id) {
            self.rings.resize_with(K, Vec::new);
            for (ring, places) in self.rings.iter_mut().enumerate() {
                let here = (place(ring, id), id);
                places.insert(places.partition_point(|p| *p < here), here);
            }
        }
    }

    /// Takes one member out.
    pub fn remove(&mut self, id: NodeId) {
        if self.members.remove(&id) {
            self.rings.iter_mut().for_each(|places| places.retain(|(_, m)| *m != id));
        }
    }

    /// So few members that each observes all others.
    pub fn is_all_to_all(&self) -> bool {
        self.members.len() <= K + 1
    }

    /// The rings as they would be if only `eligible` members existed: who must look when the regular
    /// observers cannot be asked.
    pub fn restricted_to(&self, eligible: impl Fn(NodeId) -> bool) -> Self {
        let members = self.members.iter().copied().filter(|id| eligible(*id)).collect();
        let keep = |places: &Vec<(u64, NodeId)>| {
            places.iter().copied().filter(|(_, id)| eligible(*id)).collect()
        };
        Self { rings: self.rings.iter().map(keep).collect(), members }
    }

    /// The members that probe `target`: exactly min([`K`], others) distinct ones, never `target`. It need
    /// not be a member itself.
    pub fn observers_of(&self, target: NodeId) -> BTreeSet<NodeId> {
        if self.is_all_to_all() {
            return self.members.iter().copied().filter(|id| *id != target).take(K).collect();
        }
        // One walker for each ring, starting behind the target. In each round every ring hands in its
        // next member, until there are enough or all rings have gone round once.
        let mut walkers: Vec<_> = self
            .rings
            .iter()
            .enumerate()
            .map(|(ring, places)| {
                let here = (place(ring, target), target);
                let start = places.partition_point(|p| *p <= here);
                let (before, behind) = places.split_at(start);
                behind.iter().chain(before).map(|(_, id)| *id).filter(|id| *id != target)
            })
            .collect();
        let mut observers = BTreeSet::new();
        loop {
            let mut idle = true;
            for walker in &mut walkers {
                if observers.len() == K {
                    return observers;
                }
                if let Some(next) = walker.next() {
                    observers.insert(next);
                    idle = false;
                }
            }
            if idle {
                return observers;
            }
        }
    }

    /// The members that `me` probes: the inverse of [`Self::observers_of`].
    pub fn observed_by(&self, me: NodeId) -> BTreeSet<NodeId> {
        if !self.members.contains(&me) {
            return BTreeSet::new();
        }
        if self.is_all_to_all() {
            return self.members.iter().copied().filter(|id| *id != me).collect();
        }
        // Every ring hands in a new observer in each round, so nobody's observers lie further than K
        // places behind it on any ring.
        let mut candidates = BTreeSet::new();
        for (ring, places) in self.rings.iter().enumerate() {
            let here = places.partition_point(|p| *p < (place(ring, me), me));
            let (before, behind) = places.split_at(here);
            candidates.extend(before.iter().rev().chain(behind.iter().rev()).take(K).map(|p| p.1));
        }
        candidates.retain(|target| *target != me && self.observers_of(*target).contains(&me));
        candidates
    }
}

/// [`Rings::observers_of`] for a single question.
pub fn observers_of(target: NodeId, members: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    Rings::new(members).observers_of(target)
}

/// [`Rings::observed_by`] for a single question.
pub fn observed_by(me: NodeId, members: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    Rings::new(members).observed_by(me)
}

/// Where a member sits on a ring. Part of the protocol: all nodes must compute the same.
fn place(ring: usize, id: NodeId) -> u64 {
    // Ids are hashes already; the finalizer of splitmix64 (Steele et al., 2014) makes the rings
    // independent of each other.
    let folded = (id.0 >> 64) as u64 ^ mix(id.0 as u64);
    mix(folded ^ mix(ring as u64 + 1))
}

fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(n: u128) -> BTreeSet<NodeId> {
        (1..=n).map(NodeId).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn everyone_has_k_different_others(ids in proptest::collection::btree_set(any::<u128>(), 0..30)) {
            let members: BTreeSet<NodeId> = ids.into_iter().map(NodeId).collect();
            let rings = Rings::new(&members);
            // Built up one by one, with one that comes and goes.
            let mut grown = Rings::default();
            members.iter().for_each(|id| grown.insert(*id));
            let passer_by = NodeId(u128::MAX / 2);
            if !members.contains(&passer_by) {
                grown.insert(passer_by);
                grown.remove(passer_by);
            }
            for target in &members {
                let observers = rings.observers_of(*target);
                prop_assert_eq!(observers.len(), K.min(members.len() - 1));
                prop_assert!(!observers.contains(target));
                prop_assert!(observers.is_subset(&members));
                for observer in &members {
                    prop_assert_eq!(&rings.observed_by(*observer), &grown.observed_by(*observer));
                    prop_assert_eq!(
                        observers.contains(observer),
                        rings.observed_by(*observer).contains(target)
                    );
                }
            }
        }

        #[test]
        fn restricted_rings_are_those_of_fewer_members(seed: u128, n in 12u128..60) {
            let fewer: BTreeSet<NodeId> =
                members(n).into_iter().filter(|m| seed >> m.0 & 1 == 1).collect();
            let restricted = Rings::new(&members(n)).restricted_to(|id| fewer.contains(&id));
            let fresh = Rings::new(&fewer);
            for target in members(n) {
                prop_assert_eq!(restricted.observers_of(target), fresh.observers_of(target));
            }
        }

        #[test]
        fn a_join_changes_few_watchers(n in 13u128..80) {
            let (before, after) = (Rings::new(&members(n - 1)), Rings::new(&members(n)));
            let changed: usize = members(n - 1)
                .iter()
                .map(|t| before.observers_of(*t).difference(&after.observers_of(*t)).count())
                .sum();
            // The newcomer takes about K places; each can cost one other observer its place.
            prop_assert!(changed <= 3 * K, "{} of {} changed", changed, K as u128 * n);
        }
    }

    #[test]
    fn the_work_is_spread() {
        let rings = Rings::new(&members(200));
        let most = members(200).iter().map(|m| rings.observed_by(*m).len()).max();
        assert!(most.is_some_and(|most| most <= 3 * K), "{most:?}");
    }

    #[test]
    fn the_places_are_frozen() {
        let watchers: Vec<u128> =
            observers_of(NodeId(1), &members(100)).iter().map(|id| id.0).collect();
        assert_eq!(watchers, [2, 6, 11, 22, 28, 42, 58, 61, 62, 82]);
    }
}
