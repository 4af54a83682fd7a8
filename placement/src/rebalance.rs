//! What should move although nothing failed: off hosts that may no longer hold it, and onto hosts that
//! stand empty. Both are done by the node that takes the slot over, which starts its own replica before
//! the old one stops.
//!
//! A failure never moves what still runs, so a host that returns stays empty until something is pulled
//! there. [`pull`] names one move at a time, and only to the host that needs it most. Two kinds of move
//! exist, and together they come to an end, because each lowers a quantity that the other does not
//! raise:
//! 1. *evenness*: the service itself is uneven, and the move makes it less so (see `spread::gain`);
//! 2. *load*: the service is as even after the move as before, but a host above the average becomes
//!    less full, and I do not become as full as it was. Only below nine tenths of the average, and only
//!    when two tasks more would still leave me there: small differences are not worth a restart.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;

use crate::batch::Batch;
use crate::cluster::{Cluster, Index};
use crate::eligible::{Own, fixed, suits};
use crate::hash::race;
use crate::host::{Accepts, Closed};
use crate::plan::Held;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::roster::Roster;
use crate::spread;

/// Below this part of the average load a host pulls: 9/10.
const HUNGRY: (u64, u64) = (9, 10);

/// A slot to take over from a host that holds it and is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pull {
    pub slot: u32,
    pub from: NodeId,
}

/// Why a slot must leave `node`, which holds it; `None` if it may stay. A slot leaves a host that is
/// draining, or that no longer satisfies constraints or platforms. It stays on one that is paused,
/// unstable or settling, whose engine does not answer, or that is over its capacity; what was on a
/// host that is down or gone is an orphan, not misplaced.
pub fn misplaced(cluster: &Cluster, request: &Request, node: NodeId) -> Option<Refusal> {
    let at = cluster.index(node)?;
    match &cluster.host_at(at).accepts {
        Accepts::No(Closed::Draining) => Some(Refusal::Closed(Closed::Draining)),
        Accepts::No(Closed::Down | Closed::Left) => None,
        _ => suits(cluster, request, at).err(),
    }
}

/// The one slot of the service that `me` should take over now, if any.
///
/// `held` has every slot. One that is being handed over is passed as held by its new node, unsettled:
/// so each node sees the moves under way, and calling again after each claim names the next. Only
/// settled slots are pulled, and only from hosts that suit the request and take new replicas
/// themselves; others keep what they have, or are cleared by [`misplaced`]. Loads in `cluster` count
/// every claim, as for [`crate::plan()`]. How many moves may run at once is the caller's budget.
pub fn pull(
    cluster: &Cluster,
    request: &Request,
    held: &BTreeMap<u32, Held>,
    me: NodeId,
) -> Option<Pull> {
    let me = cluster.index(me)?;
    if !fixed(cluster, request, me) {
        return None;
    }
    let roster = all_settled(cluster, held);
    let table = Table::new(cluster, request, held, &roster);
    let takers = table.takers();
    table.even_out(&takers, me).or_else(|| table.even_load(&takers, me))
}

/// The next move that any host would make, and who makes it: the first by id of those whom [`pull`]
/// gives one. Costs about as much as asking one host.
pub fn next_pull(
    cluster: &Cluster,
    request: &Request,
    held: &BTreeMap<u32, Held>,
) -> Option<(NodeId, Pull)> {
    let roster = all_settled(cluster, held);
    let table = Table::new(cluster, request, held, &roster);
    let takers = table.takers();
    // Nobody else pulls but the neediest of a group and the emptiest of all.
    let mut neediest: BTreeMap<usize, ((u64, u64, Index), Index)> = BTreeMap::new();
    for taker in &takers {
        let entry = (table.need(taker.at), taker.at);
        let least = neediest.entry(taker.leaf).or_insert(entry);
        *least = (*least).min(entry);
    }
    let emptiest = takers.iter().min_by_key(|t| (table.fullness(t.at, 0), t.at)).map(|t| t.at);
    let able: BTreeSet<Index> = neediest.into_values().map(|(_, at)| at).chain(emptiest).collect();
    able.into_iter().find_map(|at| {
        let pull = table.even_out(&takers, at).or_else(|| table.even_load(&takers, at))?;
        Some((cluster.id(at), pull))
    })
}

/// Counts replicas that are still starting like those that are ready.
fn all_settled(cluster: &Cluster, held: &BTreeMap<u32, Held>) -> Roster {
    let settled = held.iter().map(|(slot, held)| (*slot, Held { settled: true, ..*held }));
    Roster::of(cluster, &settled.collect())
}

/// Everybody's replicas of the service, settled or not.
struct Table<'c> {
    batch: Batch<'c>,
    /// For each host that may give: its settled slots.
    givers: BTreeMap<Index, Vec<u32>>,
}

/// A host that could take one more.
#[derive(Clone, Copy, Debug)]
struct Taker {
    at: Index,
    leaf: usize,
}

impl<'c> Table<'c> {
    /// `roster` counts everything that is held as settled.
    fn new(
        cluster: &'c Cluster,
        request: &'c Request,
        held: &BTreeMap<u32, Held>,
        roster: &'c Roster,
    ) -> Self {
        let batch = Batch::whole(cluster, request, roster, &[]);
        let mut givers: BTreeMap<Index, Vec<u32>> = BTreeMap::new();
        for (slot, held) in held.iter().filter(|(_, held)| held.settled) {
            if let Some(at) = cluster.index(held.node)
                && cluster.is_open(at)
                && batch.spread.leaf_of(at).is_some()
            {
                givers.entry(at).or_default().push(*slot);
            }
        }
        Self { batch, givers }
    }

    /// Hosts with room, below their limits, and not above their fair share: a plan would not put
    /// another replica there either.
    fn takers(&self) -> Vec<Taker> {
        let leaves = 0..self.batch.spread.leaves();
        leaves
            .flat_map(|leaf| self.batch.spread.members(leaf).iter().map(move |at| (leaf, *at)))
            .filter(|(_, at)| self.batch.shelf(*at).is_some_and(|s| !s.at_limit && !s.full))
            .map(|(leaf, at)| Taker { at, leaf })
            .collect()
    }

    fn fill(&self, at: Index) -> (u64, u64) {
        let count = self.batch.own(at).count;
        (u64::from(count), u64::from(self.batch.cluster.weight(at)))
    }

    /// How full a host is with `more` replicas than it has.
    fn fullness(&self, at: Index, more: i64) -> u64 {
        let Batch { cluster, request, fair, .. } = &self.batch;
        let own = Own { shift: more, ..self.batch.own(at) };
        fair.fine_fullness(cluster, request, at, own)
    }

    /// Lower is emptier: level, then load, then id.
    fn need(&self, at: Index) -> (u64, u64, Index) {
        let (count, weight) = self.fill(at);
        ((count << 32) / weight, self.fullness(at, 0), at)
    }

    /// A move that makes the service more even: to the group that is behind, or within my own.
    fn even_out(&self, takers: &[Taker], me: Index) -> Option<Pull> {
        let leaf = self.batch.spread.leaf_of(me)?;
        let neediest = takers.iter().filter(|t| t.leaf == leaf).min_by_key(|t| self.need(t.at))?;
        if neediest.at != me {
            return None;
        }
        let mut order = Vec::new();
        self.batch.spread.order(&mut order);
        let behind = order.iter().find(|leaf| takers.iter().any(|t| t.leaf == **leaf))?;
        if *behind == leaf {
            for ahead in order.iter().rev() {
                if self.batch.spread.gain(*ahead, leaf) == Ordering::Greater
                    && let Some(pull) = self.pull_from(*ahead, me, |_| true)
                {
                    return Some(pull);
                }
            }
        }
        self.pull_from(leaf, me, |giver| {
            spread::gain(self.fill(giver), self.fill(me)) == Ordering::Greater
        })
    }

    /// From the fullest host of a leaf that `may` give.
    fn pull_from(&self, leaf: usize, me: Index, may: impl Fn(Index) -> bool) -> Option<Pull> {
        let mut givers: Vec<Index> = self.givers.keys().copied().collect();
        givers.retain(|at| *at != me && self.batch.spread.leaf_of(*at) == Some(leaf) && may(*at));
        // The giver's last replica counts, as in `gain`.
        givers.sort_by_key(|at| {
            let (count, weight) = self.fill(*at);
            (Reverse((count.saturating_sub(1) << 32) / weight), Reverse(self.fullness(*at, 0)), *at)
        });
        givers.into_iter().find_map(|giver| self.best_slot(giver, me))
    }

    /// A move that leaves the service as even as it is and evens out the hosts' total load.
    fn even_load(&self, takers: &[Taker], me: Index) -> Option<Pull> {
        let emptiest = takers.iter().min_by_key(|t| (self.fullness(t.at, 0), t.at))?;
        if emptiest.at != me {
            return None;
        }
        let average = self.average()?;
        let (part, whole) = HUNGRY;
        if self.fullness(me, 2).saturating_mul(whole) > average.saturating_mul(part) {
            return None;
        }
        let leaf = self.batch.spread.leaf_of(me)?;
        let mut givers: Vec<(u64, Index)> = self
            .givers
            .keys()
            .filter(|at| **at != me && self.keeps_even(**at, me, leaf))
            .map(|at| (self.fullness(*at, 0), *at))
            // I end below nine tenths of the average, so below where the giver was.
            .filter(|(full, at)| *full > average && self.fullness(*at, -1) < *full)
            .collect();
        givers.sort_by_key(|(full, at)| (Reverse(*full), *at));
        givers.into_iter().find_map(|(_, giver)| self.best_slot(giver, me))
    }

    fn keeps_even(&self, giver: Index, me: Index, my_leaf: usize) -> bool {
        let Some(leaf) = self.batch.spread.leaf_of(giver) else { return false };
        let groups = self.batch.spread.gain(leaf, my_leaf);
        // Between leaves the groups decide, but a host must not end up above where the giver was.
        groups != Ordering::Less && spread::gain(self.fill(giver), self.fill(me)) != Ordering::Less
    }

    /// Mean fullness of the hosts that suit the request, by weight.
    fn average(&self) -> Option<u64> {
        let (mut sum, mut weights) = (0u128, 0u128);
        for leaf in 0..self.batch.spread.leaves() {
            for at in self.batch.spread.members(leaf) {
                let weight = u128::from(self.batch.cluster.weight(*at));
                sum += u128::from(self.fullness(*at, 0)) * weight;
                weights += weight;
            }
        }
        u64::try_from(sum.checked_div(weights)?).ok()
    }

    /// Of the giver's slots the one that I would win most clearly.
    fn best_slot(&self, giver: Index, me: Index) -> Option<Pull> {
        let Batch { cluster, request, .. } = &self.batch;
        let (node, weight) = (cluster.id(me), cluster.weight(me));
        let slots = self.givers.get(&giver)?.iter().copied();
        let slot = slots
            .filter(|slot| !request.passed_over.contains(&(*slot, node)))
            .min_by_key(|slot| race(request.service, *slot, node, weight))?;
        Some(Pull { slot, from: cluster.id(giver) })
    }
}
