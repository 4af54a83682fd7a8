//! Plans that a shared view keeps: one for all its nodes, for as long as nothing departs from it.
//!
//! A plan stays true while claims follow it (see [`placement::plan()`]): a slot that its first candidate has
//! claimed changes nothing for the others. It is made anew when somebody else took a slot, when a slot
//! opened that it does not speak of, when hosts opened or closed, and when it has grown old, because loads
//! have changed since.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{NodeId, ServiceId};
use membership::time::{Instant, Millis};
use placement::{plan_my_orphans, plan_orphans};

use crate::slot::{Epoch, Place, Slot};
use crate::spec::{Partition, ServiceSpec};
use crate::standing::Open;
use crate::view::View;

/// How many staggers a plan is kept.
const KEPT_STAGGERS: u64 = 5;

/// Candidates of open slots, in rank order.
pub(crate) type Choices = BTreeMap<u32, Vec<NodeId>>;

/// A plan with what it was made from.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    choices: Choices,
    /// The slots of which each node is a candidate.
    by_node: BTreeMap<NodeId, Vec<u32>>,
    /// Slots that nobody can take.
    pending: BTreeSet<u32>,
    made: Instant,
    hosts: u64,
    departed: bool,
}

impl View {
    /// The open slots of a service of which `me` is a candidate, with all candidates in rank order.
    pub(crate) fn share(&self, id: ServiceId, me: NodeId) -> Choices {
        if let Some(kept) = self.plans.get(&id) {
            let mine = kept.by_node.get(&me).into_iter().flatten();
            let choice = |slot: &u32| Some((*slot, kept.choices.get(slot)?.clone()));
            return mine.filter_map(choice).collect();
        }
        let Some(standing) = self.standing(id).filter(|_| !self.is_shared()) else {
            return Choices::new();
        };
        let open: Vec<u32> = standing.open().map(|open| open.index).collect();
        let request = &standing.wanted.request;
        plan_my_orphans(&self.cluster, request, standing.roster(), &open, me)
    }

    /// The service's slots changed: drops from its plan what was carried out, and notes what departed from it.
    pub(crate) fn review_plan(&mut self, id: ServiceId) {
        let Some(mut kept) = self.plans.remove(&id) else { return };
        let Some(standing) = self.standing(id) else { return };
        let open: BTreeSet<u32> = standing.open().map(|open| open.index).collect();
        if open.is_empty() {
            return;
        }
        let taken: Vec<u32> =
            kept.choices.keys().copied().filter(|slot| !open.contains(slot)).collect();
        for slot in taken {
            let first = kept.choices.remove(&slot).and_then(|c| c.first().copied());
            kept.departed |= standing.holder(Slot::Index(slot)) != first;
        }
        kept.departed |= open
            .iter()
            .any(|slot| !kept.choices.contains_key(slot) && !kept.pending.contains(slot));
        self.plans.insert(id, kept);
    }

    /// All candidates of some open slots, from a plan that is as good as new.
    pub(crate) fn candidates(
        &mut self,
        id: ServiceId,
        slots: &[u32],
        at: Instant,
    ) -> BTreeSet<NodeId> {
        let hosts = self.hosts_version;
        let stands = self.plans.get(&id).is_some_and(|kept| {
            !kept.departed && kept.hosts == hosts && at < kept.made + self.stagger * KEPT_STAGGERS
        });
        if !stands {
            self.keep_plan(id, at);
        }
        let Some(kept) = self.plans.get(&id) else { return BTreeSet::new() };
        slots.iter().filter_map(|slot| kept.choices.get(slot)).flatten().copied().collect()
    }

    fn keep_plan(&mut self, id: ServiceId, at: Instant) {
        self.plans.remove(&id);
        let Some(standing) = self.standing(id) else { return };
        let open: Vec<u32> = standing.open().map(|open| open.index).collect();
        let request = &standing.wanted.request;
        let plan = plan_orphans(&self.cluster, request, standing.roster(), &open);
        let mut by_node: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
        for (slot, candidates) in &plan.choices {
            candidates.iter().for_each(|node| by_node.entry(*node).or_default().push(*slot));
        }
        let kept = Kept {
            choices: plan.choices,
            by_node,
            pending: plan.pending.into_keys().collect(),
            made: at,
            hosts: self.hosts_version,
            departed: false,
        };
        self.plans.insert(id, kept);
    }

    /// When the first candidate of an open slot may take it.
    pub(crate) fn opens_at(
        &self,
        place: Place,
        spec: &ServiceSpec,
        open: Open,
        fence_wait: Millis,
        at: Instant,
    ) -> Instant {
        let mut due = open.since;
        let was_held = self.claims.highest(place) > Epoch(0);
        if open.relieves.is_none() && was_held {
            if spec.partition == Partition::Fenced {
                due += fence_wait;
            }
            if let (Slot::Index(index), Some(spread)) =
                (place.slot, self.losses.brake(self.members.quorum().1, at))
            {
                let spot = (place.service.0 as u64) ^ (u64::from(index) * 0x9e37_79b9);
                due += Millis(spot % spread.0.max(1));
            }
        }
        due
    }
}
