//! One service's batch in progress: what is counted so far, and who comes next.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::{Cluster, Index, Totals};
use crate::eligible::{Own, fixed, has_room, verdict};
use crate::fair::Fair;
use crate::floor::{Finalist, Floor, Shelf};
use crate::hash::slot_seed;
use crate::pending::Pending;
use crate::plan::CHOICES;
use crate::refusal::Refusal;
use crate::request::{MaxPerNode, Request};
use crate::roster::Roster;
use crate::spread::Spread;

/// What happens at one slot of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Somebody has claimed it and is starting it.
    Holder(Index),
    Orphan,
}

#[derive(Debug)]
pub(crate) struct Batch<'c> {
    pub(crate) cluster: &'c Cluster,
    pub(crate) request: &'c Request,
    roster: &'c Roster,
    /// Slots still to be walked, in order.
    pub(crate) steps: BTreeMap<u32, Step>,
    pub(crate) spread: Spread<'c>,
    /// For each leaf, once it was needed.
    floors: Vec<Option<Floor>>,
    counted: Counted,
    pub(crate) fair: Fair,
    /// Scratch: leaves in the order in which they are due.
    order: Vec<usize>,
    /// The last reason for which nothing was left, as long as nothing has changed since.
    stuck: Option<Arc<Pending>>,
}

/// What is counted on each host so far.
#[derive(Debug)]
enum Counted {
    /// Hosts whose count is not simply that of the roster. A look at few hosts costs nothing for the others.
    Changed(BTreeMap<Index, Own>),
    /// Every host, side by side in memory: for plans that look at all of them.
    All(Vec<Own>),
}

impl<'c> Batch<'c> {
    /// `orphans` in any order; one that the roster has as starting is taken as held.
    pub(crate) fn new(
        cluster: &'c Cluster,
        request: &'c Request,
        roster: &'c Roster,
        orphans: &[u32],
    ) -> Self {
        let plain = request.constraints.is_empty() && request.platforms.is_empty();
        let (mut spread, mut totals) = if plain && request.preferences.is_empty() {
            (Spread::over_zones(cluster, request), cluster.totals)
        } else {
            let suited: Vec<Index> =
                cluster.indexes().filter(|at| fixed(cluster, request, *at)).collect();
            let mut totals = Totals::default();
            for at in &suited {
                totals.add_host(cluster.host_at(*at), cluster.weight(*at), cluster.load_at(*at));
            }
            (Spread::over(cluster, request, &suited), totals)
        };
        spread.count_roster(cluster, roster);
        let mut steps: BTreeMap<u32, Step> =
            orphans.iter().map(|orphan| (*orphan, Step::Orphan)).collect();
        let mut changed = BTreeMap::new();
        for (slot, node) in roster.starting() {
            let Some(at) = cluster.index(node) else {
                // Held by somebody outside the view: nothing to count, and not ours to place.
                steps.remove(&slot);
                continue;
            };
            steps.insert(slot, Step::Holder(at));
            let own: &mut Own = changed
                .entry(at)
                .or_insert_with(|| Own { count: roster.on(node), ..Own::default() });
            own.shift -= 1;
            if spread.leaf_of(at).is_some() && cluster.is_open(at) {
                totals.remove_replica(request);
            }
        }
        let batch = u32::try_from(steps.len()).unwrap_or(u32::MAX);
        let fair = Fair::new(&totals, request, batch, roster.settled() + u64::from(batch));
        let floors = vec![None; spread.leaves()];
        let counted = Counted::Changed(changed);
        let order = Vec::new();
        Self { cluster, request, roster, steps, spread, floors, counted, fair, order, stuck: None }
    }

    /// As [`Self::new`], for a plan that will look at most hosts.
    pub(crate) fn whole(
        cluster: &'c Cluster,
        request: &'c Request,
        roster: &'c Roster,
        orphans: &[u32],
    ) -> Self {
        let mut batch = Self::new(cluster, request, roster, orphans);
        batch.spread_out();
        batch
    }

    /// Prepares for looking at most hosts.
    pub(crate) fn spread_out(&mut self) {
        let Counted::Changed(changed) = &self.counted else { return };
        let mut all = vec![Own::default(); self.cluster.keys.len()];
        for (at, count) in self.roster.hosts(self.cluster) {
            all[at as usize].count = count;
        }
        for (at, own) in changed {
            all[*at as usize] = *own;
        }
        self.counted = Counted::All(all);
    }

    /// What is counted on a host so far.
    pub(crate) fn own(&self, at: Index) -> Own {
        match &self.counted {
            Counted::All(all) => all[at as usize],
            Counted::Changed(changed) => changed.get(&at).copied().unwrap_or_else(|| Own {
                count: self.roster.on(self.cluster.id(at)),
                ..Own::default()
            }),
        }
    }

    /// Counts one replica of the batch on a host.
    pub(crate) fn pass(&mut self, at: Index) {
        let before = self.shelf(at);
        let own = self.own(at);
        let own = Own { count: own.count + 1, shift: own.shift + 1 };
        match &mut self.counted {
            Counted::All(all) => all[at as usize] = own,
            Counted::Changed(changed) => _ = changed.insert(at, own),
        }
        if !self.cluster.is_open(at) {
            return;
        }
        self.spread.count(at);
        self.stuck = None;
        let Some(leaf) = self.spread.leaf_of(at) else { return };
        let after = self.shelf(at);
        if let Some(floor) = &mut self.floors[leaf] {
            if let Some(before) = before {
                floor.remove(before, at);
            }
            if let Some(after) = after {
                floor.insert(after, self.cluster.keys[at as usize], at);
            }
        }
    }

    /// Where a host stands now; `None` if it has no room.
    pub(crate) fn shelf(&self, at: Index) -> Option<Shelf> {
        let own = self.own(at);
        if !has_room(self.cluster, self.request, at, own) {
            return None;
        }
        let weight = self.cluster.weight(at);
        let over = self.fair.is_over(self.cluster, self.request, at, own);
        let full = over && (own.count > 0 || !self.fair.entitles(weight));
        Some(Shelf {
            at_limit: matches!(self.request.max_per_node,
                Some(MaxPerNode::Soft(limit)) if own.count >= limit),
            full,
            level: if full { 0 } else { Shelf::level(own.count, weight) },
            over,
            weight: Reverse(weight),
        })
    }

    /// The candidates of an orphan, in rank order, at least one.
    pub(crate) fn choose(&mut self, slot: u32) -> Result<Vec<Index>, Arc<Pending>> {
        let skip = self.skipped(slot);
        if skip.is_empty()
            && let Some(pending) = &self.stuck
        {
            return Err(Arc::clone(pending));
        }
        let seed = slot_seed(self.request.service, slot);
        let mut order = std::mem::take(&mut self.order);
        self.spread.order(&mut order);
        let mut chosen = Vec::with_capacity(2 * CHOICES);
        'search: for at_limit in [false, true] {
            for leaf in &order {
                if !self.gather(*leaf, seed, at_limit, &skip, &mut chosen) {
                    break 'search;
                }
            }
        }
        self.order = order;
        if chosen.is_empty() {
            let pending = Arc::new(self.pending(&skip));
            if skip.is_empty() {
                self.stuck = Some(Arc::clone(&pending));
            }
            return Err(pending);
        }
        Ok(chosen)
    }

    /// Adds the candidates of one leaf; false once there are enough.
    fn gather(
        &mut self,
        leaf: usize,
        seed: u64,
        at_limit: bool,
        skip: &[Index],
        chosen: &mut Vec<Index>,
    ) -> bool {
        let floor = match self.floors[leaf].take() {
            Some(floor) => floor,
            None => self.build_floor(leaf),
        };
        let more = floor.finalists(seed, at_limit, skip, |rung| {
            self.least_loaded_first(rung);
            chosen.extend(rung.iter().map(|finalist| finalist.at));
            chosen.len() < CHOICES
        });
        self.floors[leaf] = Some(floor);
        more
    }

    fn build_floor(&self, leaf: usize) -> Floor {
        let members = self.spread.members(leaf).iter();
        Floor::new(members.filter_map(|at| {
            self.shelf(*at).map(|shelf| (shelf, self.cluster.keys[*at as usize], *at))
        }))
    }

    /// Among the first of the race the least loaded leads; the race settles what load does not.
    fn least_loaded_first(&self, rung: &mut [Finalist]) {
        rung.sort_by_cached_key(|finalist| {
            let own = self.own(finalist.at);
            let fullness = self.fair.fullness(self.cluster, self.request, finalist.at, own);
            (fullness, finalist.race, finalist.at)
        });
    }

    fn skipped(&self, slot: u32) -> Vec<Index> {
        let nodes = (slot, membership::id::NodeId(0))..=(slot, membership::id::NodeId(u128::MAX));
        let passed_over: &BTreeSet<_> = &self.request.passed_over;
        passed_over.range(nodes).filter_map(|(_, node)| self.cluster.index(*node)).collect()
    }

    /// Why nobody is left.
    fn pending(&self, skip: &[Index]) -> Pending {
        let mut pending = Pending::default();
        for at in self.cluster.indexes() {
            let own = self.own(at);
            let refusal = verdict(self.cluster, self.request, at, own).err();
            // Room but no candidate: only a host that was skipped is left to be that.
            debug_assert!(refusal.is_some() || skip.contains(&at));
            let name = &self.cluster.host_at(at).name;
            pending.add(name, refusal.unwrap_or(Refusal::PassedOver));
        }
        pending
    }
}
