//! How one service stands: the best live claim on each slot, the slots that need somebody, and who holds
//! the rest, counted.
//!
//! Kept up to date place by place: a claim, a member or a host that changes costs what it touches, and
//! not what the service or the cluster has. [`Standing::touch`] looks at one place from scratch and
//! replaces what was noted about it, so the order of changes does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership::id::{NodeId, ServiceId};
use membership::time::Instant;
use placement::{Cluster, Held, Request, Roster, misplaced, race};

use crate::claims::strength;
use crate::members::Members;
use crate::services::Service;
use crate::slot::{Claim, Phase, Place, Slot, TemplateId};
use crate::spec::{Mode, ServiceSpec};

pub(crate) fn serves(claim: &Claim) -> bool {
    matches!(claim.phase, Phase::Ready | Phase::Complete)
}

/// What of a service decides how it stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub request: Request,
    pub mode: Mode,
    pub replicas: u32,
    /// Of a replicated job: the slots that are due.
    pub due: Arc<BTreeSet<u32>>,
    pub template: TemplateId,
    /// A rollout is under way.
    pub rolling: bool,
}

impl Wanted {
    pub(crate) fn of(service: &Service) -> Option<Self> {
        let spec = service.active()?;
        Some(Self {
            request: crate::hosts::request(service.id, spec),
            mode: spec.mode,
            replicas: spec.replicas,
            due: service.job.as_ref().map(|job| Arc::clone(&job.due)).unwrap_or_default(),
            template: spec.template,
            rolling: service.rollout.as_ref().is_some_and(crate::rollout::Rollout::is_running),
        })
    }

    /// The number under which a wanted slot races; `None` for one that is not wanted.
    fn index(&self, slot: Slot) -> Option<u32> {
        match (self.mode, slot) {
            (Mode::Replicated, Slot::Index(index)) => {
                (1..=self.replicas).contains(&index).then_some(index)
            }
            (Mode::ReplicatedJob, Slot::Index(index)) => self.due.contains(&index).then_some(index),
            (Mode::Global | Mode::GlobalJob, Slot::Node(_)) => Some(0),
            _ => None,
        }
    }

    /// The numbered slots that are wanted.
    fn numbered(&self) -> Vec<u32> {
        match self.mode {
            Mode::Replicated => (1..=self.replicas).collect(),
            Mode::ReplicatedJob => self.due.iter().copied().collect(),
            Mode::Global | Mode::GlobalJob => Vec::new(),
        }
    }

    /// The claim takes room on its host. What has ended of a job takes none any more.
    fn weighs(&self, claim: &Claim) -> bool {
        !(self.mode.is_job() && claim.phase == Phase::Complete)
    }
}

/// Whether the spec of a service that runs for ever wants this slot to run.
pub(crate) fn is_wanted(spec: &ServiceSpec, slot: Slot) -> bool {
    match (spec.mode, slot) {
        (Mode::Replicated, Slot::Index(index)) => (1..=spec.replicas).contains(&index),
        (Mode::Global, Slot::Node(_)) => true,
        _ => false,
    }
}

/// The claims on one slot that count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Seat {
    /// Live members that claim it, by id.
    live: Vec<NodeId>,
    /// Those of them whose hosts are known: it is counted in their load.
    loaded: Vec<NodeId>,
    /// The best of them, if the slot is wanted.
    best: Option<NodeId>,
    /// As it stands in the roster.
    counted: Option<Held>,
}

/// A wanted slot that somebody must take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Open {
    pub index: u32,
    /// It is still served by this node, which has to let go of it.
    pub relieves: Option<NodeId>,
    /// Since when it has been in need, by this view.
    pub since: Instant,
}

/// One service's slots, as the view has them.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    pub wanted: Wanted,
    seats: BTreeMap<Slot, Seat>,
    /// Slots that somebody must take, with the node that has to let go.
    open: BTreeMap<u32, Option<NodeId>>,
    /// Since when slots have been in need, those included for which relief is on its way.
    needy_since: BTreeMap<u32, Instant>,
    /// Slots that several live members claim.
    contested: BTreeSet<Slot>,
    /// Slots whose best claim is of another template.
    outdated: BTreeSet<Slot>,
    roster: Roster,
}

impl Standing {
    /// Without a single claim.
    pub(crate) fn new(wanted: Wanted, at: Instant) -> Self {
        let slots = wanted.numbered();
        Self {
            wanted,
            seats: BTreeMap::new(),
            open: slots.iter().map(|index| (*index, None)).collect(),
            needy_since: slots.iter().map(|index| (*index, at)).collect(),
            contested: BTreeSet::new(),
            outdated: BTreeSet::new(),
            roster: Roster::default(),
        }
    }

    /// Keeps in mind since when slots were in need before the service changed.
    pub(crate) fn remember_needs(&mut self, before: &Self) {
        for (index, since) in &mut self.needy_since {
            if let Some(earlier) = before.needy_since.get(index) {
                *since = *earlier;
            }
        }
    }

    /// Looks at one place from scratch.
    pub(crate) fn touch(
        &mut self,
        place: Place,
        holders: &[(NodeId, Arc<Claim>)],
        members: &Members,
        cluster: &mut Cluster,
        at: Instant,
    ) {
        let slot = place.slot;
        let old = self.seats.remove(&slot).unwrap_or_default();
        let live: Vec<(NodeId, &Claim)> = holders
            .iter()
            .filter(|(node, _)| members.holds_claims(*node))
            .map(|(node, claim)| (*node, claim.as_ref()))
            .collect();
        let mut seat =
            Seat { live: live.iter().map(|(node, _)| *node).collect(), ..Seat::default() };
        let heavy = live.iter().filter(|(_, claim)| self.wanted.weighs(claim));
        seat.loaded = heavy.map(|(node, _)| *node).collect();
        for gone in old.loaded.iter().filter(|node| !seat.loaded.contains(node)) {
            cluster.remove_load(*gone, &self.wanted.request);
        }
        seat.loaded.retain(|node| {
            old.loaded.contains(node) || cluster.add_load(*node, &self.wanted.request)
        });
        let best = self.wanted.index(slot).and_then(|index| {
            let strongest = strongest(place.service, index, live.iter().copied(), cluster);
            seat.best = strongest.map(|(node, _)| node);
            strongest
        });
        note(&mut self.contested, slot, seat.live.len() > 1);
        let outdated = best.is_some_and(|(_, c)| c.task.template != self.wanted.template);
        note(&mut self.outdated, slot, outdated);
        if let (Slot::Index(index), false) = (slot, self.wanted.mode.is_global()) {
            // A holder whose profile has not come yet: nothing can be counted there.
            let held = self.settle_need(index, best, &seat.live, cluster, at);
            seat.counted = held.filter(|held| cluster.host(held.node).is_some());
            self.recount(index, old.counted, seat.counted, cluster);
        }
        if !seat.live.is_empty() {
            self.seats.insert(slot, seat);
        }
    }

    /// Whether a slot needs somebody; gives who holds it as far as plans are concerned.
    fn settle_need(
        &mut self,
        index: u32,
        best: Option<(NodeId, &Claim)>,
        live: &[NodeId],
        cluster: &Cluster,
        at: Instant,
    ) -> Option<Held> {
        self.open.remove(&index);
        if self.wanted.index(Slot::Index(index)).is_none() {
            self.needy_since.remove(&index);
            return None;
        }
        let Some((node, claim)) = best else {
            self.open.insert(index, None);
            self.needy_since.entry(index).or_insert(at);
            return None;
        };
        // What runs of a job is not begun again beside itself: its node stops it first and lets go.
        let stays =
            self.wanted.mode.is_job() || misplaced(cluster, &self.wanted.request, node).is_none();
        if stays {
            self.needy_since.remove(&index);
            return Some(Held { node, settled: serves(claim) });
        }
        self.needy_since.entry(index).or_insert(at);
        if let Some(relief) = live.iter().find(|other| **other != node) {
            return Some(Held { node: *relief, settled: false });
        }
        // What does not serve has nothing to hand over, but is not another node's to judge: its holder
        // lets go when it sees a better claim.
        self.open.insert(index, Some(node));
        None
    }

    fn recount(&mut self, index: u32, old: Option<Held>, new: Option<Held>, cluster: &Cluster) {
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.roster.release(index, old.node, old.settled);
        }
        if let Some((new, host)) = new.and_then(|new| Some((new, cluster.host(new.node)?))) {
            self.roster.hold(index, host, new.settled);
        }
    }

    /// The host that holds it moves to another zone: it is counted anew when it is touched next.
    pub(crate) fn uncount(&mut self, slot: Slot, node: NodeId) {
        let (Some(seat), Slot::Index(index)) = (self.seats.get_mut(&slot), slot) else { return };
        if let Some(held) = seat.counted.take_if(|held| held.node == node) {
            self.roster.release(index, held.node, held.settled);
        }
    }

    /// Takes all that this service puts on hosts away.
    pub(crate) fn unload(&self, cluster: &mut Cluster) {
        for node in self.seats.values().flat_map(|seat| &seat.loaded) {
            cluster.remove_load(*node, &self.wanted.request);
        }
    }

    /// Equal but for since when.
    #[cfg(test)]
    pub(crate) fn stands_like(&self, other: &Self) -> bool {
        let needy = |s: &Self| s.needy_since.keys().copied().collect::<Vec<_>>();
        self.wanted == other.wanted
            && self.seats == other.seats
            && self.open == other.open
            && needy(self) == needy(other)
            && self.contested == other.contested
            && self.outdated == other.outdated
            && self.roster == other.roster
    }

    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The slots that somebody must take.
    pub(crate) fn open(&self) -> impl Iterator<Item = Open> + '_ {
        self.open.iter().map(|(index, relieves)| Open {
            index: *index,
            relieves: *relieves,
            since: self.needy_since.get(index).copied().unwrap_or_default(),
        })
    }

    /// The best live claim's holder.
    pub(crate) fn holder(&self, slot: Slot) -> Option<NodeId> {
        self.seats.get(&slot)?.best
    }

    /// Wanted slots with their best holders.
    pub(crate) fn held(&self) -> impl Iterator<Item = (Slot, NodeId)> + '_ {
        self.seats.iter().filter_map(|(slot, seat)| Some((*slot, seat.best?)))
    }

    /// Every slot is served by one member, which may go on doing so.
    pub(crate) fn is_whole(&self) -> bool {
        self.contested.is_empty()
            && self.needy_since.is_empty()
            && self.roster.settled() == u64::from(self.wanted.replicas)
    }

    /// Several live members claim it.
    pub(crate) fn is_contested(&self, slot: Slot) -> bool {
        self.contested.contains(&slot)
    }

    pub(crate) fn has_outdated(&self) -> bool {
        !self.outdated.is_empty()
    }

    /// It may concern nodes that hold none of its slots.
    pub(crate) fn is_restless(&self) -> bool {
        self.wanted.mode.is_global()
            || self.wanted.rolling
            || !self.open.is_empty()
            || !self.outdated.is_empty()
    }
}

fn note(set: &mut BTreeSet<Slot>, slot: Slot, belongs: bool) {
    if belongs {
        set.insert(slot);
    } else {
        set.remove(&slot);
    }
}

/// The claim that stands of several on one slot.
pub(crate) fn strongest<'c>(
    service: ServiceId,
    index: u32,
    mut claims: impl Iterator<Item = (NodeId, &'c Claim)>,
    cluster: &Cluster,
) -> Option<(NodeId, &'c Claim)> {
    let mut best = claims.next()?;
    let strength_of = |(node, claim): (NodeId, &'c Claim)| {
        let weight = crate::hosts::weight_of(cluster, node);
        strength(claim, node, race(service, index, node, weight))
    };
    for claim in claims {
        if strength_of(claim) > strength_of(best) {
            best = claim;
        }
    }
    Some(best)
}
