//! From everybody's edge reports to one verdict for each member.
//!
//! A member is down when at least nine in ten of the edges that count are down. The reports of members
//! that are down themselves do not count: they are old news. So who is down depends on who is down, and
//! the answer is found in two steps, both starting from everybody who is accused by anybody.
//!
//! 1. Clear whoever is spoken for by enough observers that are not accused, or cleared, even if every
//!    accusation against it were true. A voice cleared is one more voice for others, so this only ever
//!    clears more, and its outcome does not depend on the order: the greatest consistent set. Trust
//!    spreads from this node itself, which is never in the set.
//! 2. Of the rest, clear whoever is not accused by nine in ten of the observers that are outside the set:
//!    those that are accused by members that are down, and by nobody else.
//!
//! That decides rightly when observers crash together with the observed, down to a single survivor, and
//! it is a pure function of the reports: equal reports, equal verdicts.
//!
//! One more thing is needed where not everybody observes everybody. Cut off from most of a cluster, a
//! few nodes still hold the old reports of members that none of them observes, and these vouch for
//! others. Such *witnesses* are probed in addition by stand-ins: whoever would observe them if only
//! unaccused members existed.

use std::collections::{BTreeMap, BTreeSet};

use super::report::{EdgeReport, EdgeState};
use crate::id::{Incarnation, NodeId};
use crate::observers::Rings;

/// How many witnesses that it does not accuse yet one node probes in addition. The rest of them has its turn when
/// these are accused: whom a node accuses it goes on probing, for who is not probed is not accused either, and
/// would speak for others again.
const MAX_CHECKS: usize = 64;

/// A report as it was received.
#[derive(Clone, Debug)]
pub(super) struct Received {
    pub(super) incarnation: Incarnation,
    pub(super) report: EdgeReport,
}

/// How many counted edges of a member there are, and how many of them are down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) of: usize,
    pub(super) down: usize,
    /// Of those that are down, how many say that the host refuses.
    pub(super) refused: usize,
}

impl Tally {
    /// At least nine in ten, rounded up, of at least one.
    pub(super) fn is_down(self) -> bool {
        self.of > 0 && self.down >= (9 * self.of).div_ceil(10)
    }

    /// At least three in ten, rounded up: Rapid's lower threshold.
    pub(super) fn is_unstable(self) -> bool {
        self.down > 0 && self.down >= (3 * self.of).div_ceil(10)
    }

    pub(super) fn is_refused(self) -> bool {
        2 * self.refused > self.down
    }
}

/// Everything that is held against anybody, with who may speak about whom.
#[derive(Debug)]
pub(super) struct Evidence<'a> {
    whose: Option<NodeId>,
    rings: &'a Rings,
    /// By the accused, then by the accuser.
    accusations: BTreeMap<NodeId, BTreeMap<NodeId, EdgeState>>,
    /// The regular observers of the accused, and of some who were.
    observers: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl<'a> Evidence<'a> {
    /// Accusations by and of present members, of the incarnation that they have now. `observers` is what
    /// an earlier [`Self::into_observers`] gave, for the same rings.
    pub(super) fn gather(
        whose: Option<NodeId>,
        members: &BTreeMap<NodeId, Incarnation>,
        rings: &'a Rings,
        mut observers: BTreeMap<NodeId, BTreeSet<NodeId>>,
        reports: &BTreeMap<NodeId, Received>,
    ) -> Self {
        let mut accusations: BTreeMap<NodeId, BTreeMap<NodeId, EdgeState>> = BTreeMap::new();
        for (owner, received) in reports.iter().filter(|(owner, _)| members.contains_key(owner)) {
            for (target, edge) in &received.report.edges {
                if target != owner && members.get(target) == Some(&edge.incarnation) {
                    accusations.entry(*target).or_default().insert(*owner, edge.state);
                }
            }
        }
        for target in accusations.keys() {
            observers.entry(*target).or_insert_with(|| rings.observers_of(*target));
        }
        Self { whose, rings, accusations, observers }
    }

    pub(super) fn into_observers(self) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        self.observers
    }

    /// The members that are down; never whoever's this is.
    pub(super) fn down(&self) -> BTreeSet<NodeId> {
        let mut down = self.suspects();
        loop {
            let left: BTreeSet<NodeId> =
                down.iter().copied().filter(|id| self.tally(*id, &down).is_down()).collect();
            if left.len() == down.len() {
                return down;
            }
            down = left;
        }
    }

    /// The greatest set of accused whose defence comes from within the set: step 1.
    fn suspects(&self) -> BTreeSet<NodeId> {
        let mut suspects: BTreeSet<NodeId> = self.accusations.keys().copied().collect();
        if let Some(whose) = self.whose {
            suspects.remove(&whose);
        }
        let mut defended: BTreeMap<NodeId, usize> =
            suspects.iter().map(|id| (*id, self.silent(*id, &suspects))).collect();
        // For whom each suspect would speak, were it cleared. Looked up once: large partitions are
        // cleared in many small steps.
        let mut clients: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
        for target in &suspects {
            let observers = self.observers.get(target).into_iter().flatten();
            for observer in
                observers.filter(|id| suspects.contains(id) && !self.accuses(**id, *target))
            {
                clients.entry(*observer).or_default().push(*target);
            }
        }
        let is_cleared = |id: &NodeId, defended: &BTreeMap<NodeId, usize>| {
            let believed = self.accusations.get(id).map_or(0, BTreeMap::len);
            let of = believed + defended.get(id).copied().unwrap_or_default();
            !Tally { of, down: believed, refused: 0 }.is_down()
        };
        let mut cleared: Vec<NodeId> =
            suspects.iter().copied().filter(|id| is_cleared(id, &defended)).collect();
        while let Some(id) = cleared.pop() {
            if !suspects.remove(&id) {
                continue;
            }
            for client in clients.remove(&id).unwrap_or_default() {
                *defended.entry(client).or_default() += 1;
                if suspects.contains(&client) && is_cleared(&client, &defended) {
                    cleared.push(client);
                }
            }
        }
        suspects
    }

    fn accuses(&self, observer: NodeId, target: NodeId) -> bool {
        self.accusations.get(&target).is_some_and(|accusers| accusers.contains_key(&observer))
    }

    /// How many regular observers of `target` outside `down` do not accuse it.
    fn silent(&self, target: NodeId, down: &BTreeSet<NodeId>) -> usize {
        let observers = self.observers.get(&target).into_iter().flatten();
        observers.filter(|id| !down.contains(id) && !self.accuses(**id, target)).count()
    }

    /// The edges of `target` whose observers are not in `down`.
    pub(super) fn tally(&self, target: NodeId, down: &BTreeSet<NodeId>) -> Tally {
        let mut tally = Tally::default();
        let Some(accusers) = self.accusations.get(&target) else { return tally };
        for (_, state) in accusers.iter().filter(|(id, _)| !down.contains(id)) {
            tally.of += 1;
            tally.down += 1;
            tally.refused += usize::from(*state == EdgeState::Refused);
        }
        tally.of += self.silent(target, down);
        tally
    }

    pub(super) fn accused(&self) -> impl Iterator<Item = NodeId> + use<'_> {
        self.accusations.keys().copied()
    }

    /// Whom members must probe although they are not their observers: witnesses for which they stand in. Of
    /// one node's own evidence only what that node must do.
    pub(super) fn checks(&self, down: &BTreeSet<NodeId>) -> BTreeMap<NodeId, BTreeSet<NodeId>> {
        let mut witnesses = BTreeSet::new();
        for (target, accusers) in self.accusations.iter().filter(|(id, _)| !down.contains(id)) {
            let silent = self.observers.get(target).into_iter().flatten();
            witnesses.extend(silent.filter(|id| {
                Some(**id) != self.whose && !accusers.contains_key(id) && !down.contains(id)
            }));
        }
        let mut checks: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        if witnesses.is_empty() {
            return checks;
        }
        let mut fresh: BTreeMap<NodeId, usize> = BTreeMap::new();
        let unaccused = |id| Some(id) == self.whose || !self.accusations.contains_key(&id);
        let stand_ins = self.rings.restricted_to(unaccused);
        let left_alone = self.left_alone();
        for witness in witnesses {
            let mut asked = stand_ins.observers_of(witness);
            asked.extend(left_alone.iter().copied().filter(|id| *id != witness));
            for stand_in in asked {
                if self.whose.is_some_and(|whose| whose != stand_in) {
                    continue;
                }
                if !self.accuses(stand_in, witness) {
                    let fresh = fresh.entry(stand_in).or_default();
                    if *fresh == MAX_CHECKS {
                        continue;
                    }
                    *fresh += 1;
                }
                checks.entry(stand_in).or_default().insert(witness);
            }
        }
        checks
    }

    /// Unaccused members that accuse most of those they observe: what is left of a cluster, perhaps. That others
    /// are unaccused means little to them, and they stand in for everybody.
    fn left_alone(&self) -> Vec<NodeId> {
        let accusers: BTreeSet<NodeId> =
            self.accusations.values().flat_map(BTreeMap::keys).copied().collect();
        let unaccused = accusers.into_iter().filter(|id| match self.whose {
            Some(whose) => *id == whose,
            None => !self.accusations.contains_key(id),
        });
        unaccused
            .filter(|id| {
                let observed = self.rings.observed_by(*id);
                let down = observed.iter().filter(|target| self.accuses(*id, **target)).count();
                2 * down > observed.len()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detector::Edge;
    use proptest::prelude::*;

    fn members(n: u128) -> BTreeMap<NodeId, Incarnation> {
        (1..=n).map(|id| (NodeId(id), Incarnation(1))).collect()
    }

    fn reports(down_edges: &[(u128, u128)]) -> BTreeMap<NodeId, Received> {
        let mut reports = BTreeMap::new();
        for (owner, target) in down_edges {
            let edge = Edge { incarnation: Incarnation(1), state: EdgeState::Down };
            reports
                .entry(NodeId(*owner))
                .or_insert(Received { incarnation: Incarnation(1), report: EdgeReport::default() })
                .report
                .edges
                .insert(NodeId(*target), edge);
        }
        reports
    }

    /// The down members as `me` of `n` sees them.
    fn down(me: u128, n: u128, down_edges: &[(u128, u128)]) -> Vec<u128> {
        let members = members(n);
        let rings = Rings::new(&members.keys().copied().collect());
        let reports = reports(down_edges);
        let evidence =
            Evidence::gather(Some(NodeId(me)), &members, &rings, BTreeMap::new(), &reports);
        evidence.down().iter().map(|id| id.0).collect()
    }

    #[test]
    fn in_small_clusters_all_must_agree() {
        assert_eq!(down(1, 2, &[(1, 2)]), [2]);
        assert_eq!(down(1, 3, &[(1, 3)]), [0; 0]);
        assert_eq!(down(1, 3, &[(1, 3), (2, 3)]), [3]);
        assert_eq!(down(1, 5, &[(1, 5), (2, 5), (3, 5)]), [0; 0]);
    }

    #[test]
    fn who_is_down_is_not_heard() {
        // 2 and 3 crash at once; the last survivor decides alone.
        assert_eq!(down(1, 3, &[(1, 2), (1, 3)]), [2, 3]);
        // 1 was cut off from 2 and 3, who accuse it: neither their word nor 1's alone can move the other.
        let cut = [(1, 2), (1, 3), (2, 1), (3, 1)];
        assert_eq!(down(1, 3, &cut), [2, 3]);
        assert_eq!(down(2, 3, &cut), [1]);
    }

    #[test]
    fn of_ten_observers_nine_suffice() {
        let all: Vec<(u128, u128)> = (2..=11).map(|owner| (owner, 1)).collect();
        assert_eq!(down(2, 11, &all[..9]), [1]);
        assert_eq!(down(2, 11, &all[..8]), [0; 0]);
    }

    #[test]
    fn a_raised_incarnation_refutes() {
        let mut members = members(2);
        members.insert(NodeId(2), Incarnation(2));
        let rings = Rings::new(&members.keys().copied().collect());
        let reports = reports(&[(1, 2)]);
        assert!(
            Evidence::gather(Some(NodeId(1)), &members, &rings, BTreeMap::new(), &reports)
                .down()
                .is_empty()
        );
    }

    proptest! {
        /// Step 1 against a naive oracle: the union of all sets that are consistent with themselves.
        #[test]
        fn suspects_are_the_greatest_consistent_set((n, edges) in accusations()) {
            let accusers = |target| edges.iter().filter(|(_, t)| *t == target).count();
            let mut greatest = BTreeSet::new();
            for bits in 0u32..1 << n {
                let set: Vec<u128> = (2..=n).filter(|id| bits >> (id - 1) & 1 == 1).collect();
                let consistent = set.iter().all(|target| {
                    let defended = (1..=n)
                        .filter(|o| o != target && !set.contains(o) && !edges.contains(&(*o, *target)))
                        .count();
                    let accused = accusers(*target);
                    accused > 0 && 10 * accused >= 9 * (accused + defended)
                });
                if consistent {
                    greatest.extend(set.into_iter().map(NodeId));
                }
            }
            let (members, reports) = (members(n), reports(&edges));
            let rings = Rings::new(&members.keys().copied().collect());
            let evidence = Evidence::gather(Some(NodeId(1)), &members, &rings, BTreeMap::new(), &reports);
            prop_assert_eq!(evidence.suspects(), greatest);
        }

        /// Whoever is called down is so by those who are not, this node included.
        #[test]
        fn the_answer_agrees_with_itself((n, edges) in accusations()) {
            let answer = down(1, n, &edges);
            for target in &answer {
                let mut counted = (1..=n).filter(|o| o != target && !answer.contains(o));
                // So few that nine in ten are all.
                prop_assert!(counted.all(|observer| edges.contains(&(observer, *target))));
                prop_assert!(edges.contains(&(1, *target)));
            }
        }
    }

    fn accusations() -> impl Strategy<Value = (u128, Vec<(u128, u128)>)> {
        (2u128..7, proptest::collection::btree_set((1u128..7, 1u128..7), 0..25)).prop_map(
            |(n, set)| {
                let edges = set.into_iter().filter(|(a, b)| a != b && *a <= n && *b <= n);
                (n, edges.collect())
            },
        )
    }

    /// Whom each of the living believes to be down when all others died at once, round after round of probes: what
    /// a node observes or stands in for fails, and what it probes no more it accuses no more.
    fn agreed_after(n: u128, living: &[u128], rounds: usize) -> Option<usize> {
        let members = members(n);
        let rings = Rings::new(&members.keys().copied().collect());
        let is_dead = |id: &NodeId| !living.contains(&id.0);
        let mut checks: BTreeMap<NodeId, BTreeSet<NodeId>> = BTreeMap::new();
        for round in 0..rounds {
            let mut edges = Vec::new();
            for me in living {
                let mut probed = rings.observed_by(NodeId(*me));
                probed.extend(checks.remove(&NodeId(*me)).unwrap_or_default());
                edges.extend(probed.into_iter().filter(is_dead).map(|target| (*me, target.0)));
            }
            let reports = reports(&edges);
            let all_agree = living.iter().all(|me| {
                let whose = Some(NodeId(*me));
                let evidence = Evidence::gather(whose, &members, &rings, BTreeMap::new(), &reports);
                let down = evidence.down();
                checks.extend(evidence.checks(&down).into_iter().filter(|(of, _)| of.0 == *me));
                down.len() + living.len() == members.len()
            });
            if all_agree {
                return Some(round);
            }
        }
        None
    }

    #[test]
    fn the_few_that_are_left_agree_that_all_others_are_gone() {
        for (n, living) in [
            (30, vec![7]),
            (78, vec![5, 20, 40, 60, 78]),
            (100, vec![1]),
            (100, vec![17, 18, 19]),
            (300, vec![150]),
            (300, vec![1, 100, 200, 300]),
        ] {
            let agreed = agreed_after(n, &living, 40);
            assert!(agreed.is_some(), "{} of {n} never agree", living.len());
        }
    }

    #[test]
    fn one_liar_among_the_observers_changes_nothing() {
        // 12 accuses everybody, so everybody is accused; 1 has really crashed.
        let n = 12;
        let members: BTreeSet<NodeId> = (1..=n).map(NodeId).collect();
        let observers = Rings::new(&members).observers_of(NodeId(1));
        let mut edges: Vec<(u128, u128)> = observers.iter().map(|o| (o.0, 1)).collect();
        edges.extend((1..n).map(|target| (12, target)));
        for me in 2..=11 {
            assert_eq!(down(me, n, &edges), [1]);
        }
    }
}
