//! One node's own share of a plan, without working out everybody else's.
//!
//! After a failure every survivor asks only: which of the orphans are for me? The answer is exactly the
//! part of [`crate::plan()`] that names it, and three shortcuts make it cheap:
//! 1. *Other zones.* Which zone a slot goes to depends on counts alone, not on hashes. Zones do not
//!    disturb each other as long as none of them runs out of room, which is checked first.
//! 2. *Other hosts.* A slot is not mine if enough others of my zone stand before me: as many as a slot
//!    has candidates, and one more for each slot placed before it in my zone, since each of those takes
//!    at most one of them away. For most slots a few dozen hashes find them, whatever the zone's size.
//! 3. Only if some slot may be mine, my zone (and no other) is planned as far as that slot.
//!
//! Where a shortcut's condition does not hold (a zone with few hosts or little room) the whole plan is
//! made; that is the case in small clusters, where it costs next to nothing.

use std::collections::BTreeMap;

use membership::id::NodeId;

use crate::batch::{Batch, Step};
use crate::cluster::{Cluster, Index};
use crate::eligible::has_room;
use crate::floor::Shelf;
use crate::hash::{Race, draw, slot_seed};
use crate::plan::{CHOICES, Held, plan_orphans};
use crate::request::{MaxPerNode, Request};
use crate::roster::Roster;

/// The slots for which `me` is a candidate, with all their candidates in rank order: exactly those
/// choices of [`crate::plan()`] for the same view that name `me`. Gives no reasons for pending slots.
pub fn plan_mine(
    cluster: &Cluster,
    request: &Request,
    held: &BTreeMap<u32, Held>,
    orphans: &[u32],
    me: NodeId,
) -> BTreeMap<u32, Vec<NodeId>> {
    let settled = |slot: &u32| held.get(slot).is_some_and(|held| held.settled);
    let orphans: Vec<u32> = orphans.iter().copied().filter(|slot| !settled(slot)).collect();
    plan_my_orphans(cluster, request, &Roster::of(cluster, held), &orphans, me)
}

/// [`plan_mine`] over a roster that is kept up to date: the cost grows with the orphans, neither with the
/// cluster nor with the service. See [`crate::plan::plan_orphans`] for `orphans`.
pub fn plan_my_orphans(
    cluster: &Cluster,
    request: &Request,
    roster: &Roster,
    orphans: &[u32],
    me: NodeId,
) -> BTreeMap<u32, Vec<NodeId>> {
    let none = BTreeMap::new();
    let Some(at) = cluster.index(me).filter(|at| cluster.is_open(*at)) else { return none };
    let batch = Batch::new(cluster, request, roster, orphans);
    let Some(leaf) = batch.spread.leaf_of(at) else { return none };
    // Loads only grow while a batch is walked: no room now, no room later.
    let Some(shelf) = batch.shelf(at) else { return none };
    let share = Share::new(batch, at, leaf, shelf);
    match share.last_possible() {
        Ok(None) => none,
        Ok(Some(last)) => share.work_out(last),
        Err(ZoneMayRunOut) => {
            let mut choices = plan_orphans(cluster, request, roster, orphans).choices;
            choices.retain(|_, candidates| candidates.contains(&me));
            choices
        }
    }
}

/// Zones may disturb each other: the whole plan is needed.
struct ZoneMayRunOut;

struct Share<'c> {
    batch: Batch<'c>,
    me: Index,
    leaf: usize,
    /// Where I stand before the batch.
    shelf: Shelf,
    /// Each slot with the leaf it goes to, if it goes to any.
    leaves: BTreeMap<u32, Option<usize>>,
}

impl<'c> Share<'c> {
    fn new(batch: Batch<'c>, me: Index, leaf: usize, shelf: Shelf) -> Self {
        let mut spread = batch.spread.clone();
        let leaf_of = |(slot, step): (&u32, &Step)| {
            let leaf = match step {
                Step::Holder(at) => spread.leaf_of(*at).filter(|_| batch.cluster.is_open(*at)),
                Step::Orphan => spread.first(),
            };
            if let Some(leaf) = leaf {
                spread.count_in(leaf, 1);
            }
            (*slot, leaf)
        };
        let leaves = batch.steps.iter().map(leaf_of).collect();
        Self { batch, me, leaf, shelf, leaves }
    }

    /// The last slot for which I may be a candidate.
    fn last_possible(&self) -> Result<Option<u32>, ZoneMayRunOut> {
        let mut placed = BTreeMap::new();
        for leaf in self.leaves.values().flatten() {
            *placed.entry(*leaf).or_insert(0usize) += 1;
        }
        let passed_over = self.batch.request.passed_over.len();
        for (leaf, placed) in placed {
            if !self.has_room_for(leaf, placed, CHOICES + passed_over) {
                return Err(ZoneMayRunOut);
            }
        }
        // From the end: in a large batch the last slots may well be mine, and that is enough to know.
        let mut before = self.leaves.values().filter(|leaf| **leaf == Some(self.leaf)).count();
        for (slot, leaf) in self.leaves.iter().rev() {
            if *leaf != Some(self.leaf) {
                continue;
            }
            before -= 1;
            if self.batch.steps.get(slot) == Some(&Step::Orphan)
                && !self.is_beaten(*slot, CHOICES + passed_over + before)
            {
                return Ok(Some(*slot));
            }
        }
        Ok(None)
    }

    /// Whether at least `spare` hosts of a leaf have room left after any `placed` placements.
    fn has_room_for(&self, leaf: usize, placed: usize, spare: usize) -> bool {
        let members = self.batch.spread.members(leaf);
        let enough = placed.saturating_add(spare);
        let open = members.iter().filter(|at| self.room(**at, 1) > 0).take(enough).count();
        if open >= enough {
            return true;
        }
        // More placements than hosts: then it matters how much each can take. At worst the hosts with
        // the least room fill up first.
        let most = placed as u64 + 1;
        let mut rooms: Vec<u64> = members.iter().map(|at| self.room(*at, most)).collect();
        rooms.sort_unstable();
        let mut left = placed as u64;
        let gone = rooms.iter().take_while(|room| {
            let fills = **room <= left;
            left = left.saturating_sub(**room);
            fills
        });
        let gone = gone.count();
        rooms.len() - gone >= spare
    }

    /// How many replicas a host can take below its limits; at most `most`.
    fn room(&self, at: Index, most: u64) -> u64 {
        let Batch { cluster, request, .. } = &self.batch;
        let own = self.batch.own(at);
        if !has_room(cluster, request, at, own) {
            return 0;
        }
        let limit = match request.max_per_node {
            Some(MaxPerNode::Soft(limit) | MaxPerNode::Hard(limit)) => {
                u64::from(limit.saturating_sub(own.count))
            }
            None => most,
        };
        let ports = if request.host_ports.is_empty() { most } else { 1 };
        let (capacity, wants) = (cluster.capacity(at), request.resources);
        let reserved = crate::eligible::reserved(cluster, request, at, own);
        let fit = |capacity: u64, reserved: u64, wanted: u64| {
            if capacity == 0 || wanted == 0 {
                return most;
            }
            capacity.saturating_sub(reserved) / wanted
        };
        most.min(limit)
            .min(ports)
            .min(fit(capacity.cpu_milli, reserved.cpu_milli, wants.cpu_milli))
            .min(fit(capacity.memory_bytes, reserved.memory_bytes, wants.memory_bytes))
    }

    /// Whether `enough` others stand before me in the race for a slot, on my rung or all on lower ones.
    fn is_beaten(&self, slot: u32, enough: usize) -> bool {
        let Batch { cluster, request, spread, .. } = &self.batch;
        if enough >= spread.members(self.leaf).len() {
            return false;
        }
        let seed = slot_seed(request.service, slot);
        let hash = |at: Index| draw(seed, cluster.keys[at as usize]);
        let my_hash = hash(self.me);
        let mine = (Race::at(my_hash, self.shelf.weight.0), self.me);
        let (mut lower, mut beside) = (0, 0);
        for at in spread.members(self.leaf) {
            let weight = cluster.weight(*at);
            let hash = hash(*at);
            // Of equal weight the greater hash wins: spares most of the logarithms.
            if weight == self.shelf.weight.0 && hash < my_hash || *at == self.me {
                continue;
            }
            if (Race::at(hash, weight), *at) > mine {
                continue;
            }
            let Some(shelf) = self.batch.shelf(*at) else { continue };
            match shelf.rung().cmp(&self.shelf.rung()) {
                std::cmp::Ordering::Less => lower += 1,
                std::cmp::Ordering::Equal => beside += 1,
                std::cmp::Ordering::Greater => {}
            }
            if lower >= enough || beside >= enough {
                return true;
            }
        }
        false
    }

    /// Plans my leaf as far as slot `last`; the other leaves only count.
    fn work_out(self, last: u32) -> BTreeMap<u32, Vec<NodeId>> {
        let Self { mut batch, me, leaf, leaves, .. } = self;
        batch.spread_out();
        let mut choices = BTreeMap::new();
        let steps = std::mem::take(&mut batch.steps);
        for (slot, step) in steps.range(..=last) {
            match (step, leaves.get(slot).copied().flatten()) {
                (Step::Holder(at), _) => batch.pass(*at),
                (Step::Orphan, Some(other)) if other != leaf => batch.spread.count_in(other, 1),
                (Step::Orphan, Some(_)) => {
                    let Ok(candidates) = batch.choose(*slot) else { continue };
                    batch.pass(candidates[0]);
                    if candidates.contains(&me) {
                        let names = candidates.iter().map(|at| batch.cluster.id(*at)).collect();
                        choices.insert(*slot, names);
                    }
                }
                (Step::Orphan, None) => {}
            }
        }
        choices
    }
}
