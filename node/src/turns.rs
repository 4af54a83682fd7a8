//! Whose turn it is: taking slots that nobody holds, or whose holder must let go of them.
//!
//! Every node works out its own share of the plan from its view; the first candidate of a slot claims it
//! at once, the next ones after a stagger each without a better one's claim. Why a slot waits is worked out
//! when somebody asks.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::time::{Instant, Now};
use placement::plan_orphans;

use crate::held::Held;
use crate::node::Node;
use crate::reconcile::LOOK_AGAIN;
use crate::services::Service;
use crate::slot::{Epoch, Place, Slot};
use crate::spec::{Partition, ServiceSpec};
use crate::standing::Open;
use crate::takeover::braked;

impl Node {
    /// Takes those slots that nobody holds, or whose holder must let go, and that are this node's turn.
    pub(crate) fn take_open(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        let id = service.id;
        let Some(standing) = self.view.standing(id) else { return };
        let open: Vec<Open> = standing.open().collect();
        if open.is_empty() {
            return;
        }
        let unknown = spec.mode.is_job() && !self.knows_what_ended(now);
        if unknown || self.may_take_over(service, spec, now.at).is_err() {
            self.look_again(id, now.at + LOOK_AGAIN);
            return;
        }
        let mine = self.view.share(id, self.me);
        let mut ended = Vec::new();
        for slot in open {
            let place = Place { service: id, slot: Slot::Index(slot.index) };
            if let Some(end) = spec.mode.is_job().then(|| self.witnessed_end(place, spec)).flatten()
            {
                ended.push(end);
                continue;
            }
            // What it has claimed and the view has not heard of yet.
            if self.local.held.contains_key(&place) {
                continue;
            }
            let Some(choices) = mine.get(&slot.index) else { continue };
            let Some(rank) = choices.iter().position(|node| *node == self.me) else { continue };
            let due = self.due(place, spec, (rank, choices.len()), slot, now.at);
            let may = slot.relieves.and_then(|_| self.takeovers.may_relieve_at(place));
            let due = may.map_or(due, |may| due.max(may));
            if now.at < due {
                self.look_again(id, due);
                continue;
            }
            let busy =
                slot.relieves.is_some() && self.reliefs_under_way() >= self.settings.max_starting;
            if busy || !self.has_room(place, spec) {
                self.look_again(id, now.at + LOOK_AGAIN);
                continue;
            }
            self.claim(place, slot.relieves, now);
            if spec.mode.is_job() {
                self.let_claim_settle(place, now);
            }
        }
        if !ended.is_empty() {
            self.record_ends(service, spec, ended, now);
        }
    }

    /// When it is this node's turn: `rank` of so many candidates.
    fn due(
        &self,
        place: Place,
        spec: &ServiceSpec,
        (rank, candidates): (usize, usize),
        slot: Open,
        at: Instant,
    ) -> Instant {
        let given_up = self.takeovers.failures_before(place, at).is_some();
        let rank = if given_up { rank + candidates } else { rank };
        let opens = self.view.opens_at(place, spec, slot, self.settings.fence_wait, at);
        let known = self.doubt.over.filter(|_| spec.mode.is_job()).unwrap_or_default();
        opens.max(known) + self.settings.stagger * rank as u64
    }

    /// This node's own last word, on its exact load beside this place: what it claimed a moment ago is in it,
    /// whatever the view has heard, and so is what is still being stopped.
    pub(crate) fn has_room(&self, place: Place, spec: &ServiceSpec) -> bool {
        let leaving = self.local.leaving.values().map(|leaving| leaving.place);
        let others = self.occupied().chain(leaving);
        self.fits_beside(others.filter(|other| *other != place).collect(), place, spec)
    }

    /// The same, once what is being stopped is gone.
    pub(crate) fn will_have_room(&self, place: Place, spec: &ServiceSpec) -> bool {
        let others = self.occupied().filter(|other| *other != place);
        self.fits_beside(others.collect(), place, spec)
    }

    fn fits_beside(&self, others: BTreeSet<Place>, place: Place, spec: &ServiceSpec) -> bool {
        let reserved = self.reserved_by(others.iter().copied());
        let (each, capacity) = (spec.reservation, self.profile.capacity);
        let fits = |capacity: u64, reserved: u64, each: u64| {
            capacity == 0 || each == 0 || reserved.saturating_add(each) <= capacity
        };
        let ports = |spec: &ServiceSpec| -> Vec<_> {
            let published = spec.host_ports.iter().filter(|port| port.published != 0);
            published.map(|port| (port.protocol, port.published)).collect()
        };
        let wanted = ports(spec);
        let port_taken = !wanted.is_empty()
            && others.iter().any(|other| {
                let service = self.view.services.get(other.service);
                let taken = service.and_then(Service::active).map(ports).unwrap_or_default();
                taken.iter().any(|port| wanted.contains(port))
            });
        let most = usize::try_from(spec.max_per_node).unwrap_or(usize::MAX);
        let same = others.iter().filter(|other| other.service == place.service).count();
        let crowded = most > 0 && same >= most;
        fits(capacity.cpu_milli, reserved.cpu_milli, each.cpu_milli)
            && fits(capacity.memory_bytes, reserved.memory_bytes, each.memory_bytes)
            && !port_taken
            && !crowded
    }

    /// The slots held here that take room: those that ended, of jobs, take none.
    pub(crate) fn occupied(&self) -> impl Iterator<Item = Place> + '_ {
        let is_job = |id| self.view.services.get(id).is_some_and(|service| service.job.is_some());
        let ended =
            move |place: &Place, held: &Held| held.outcome.is_some() && is_job(place.service);
        self.local
            .held
            .iter()
            .filter(move |(place, held)| !ended(place, held))
            .map(|(place, _)| *place)
    }

    pub(crate) fn reliefs_under_way(&self) -> usize {
        self.local.held.values().filter(|h| h.relieves.is_some() && !h.is_ready()).count()
    }

    pub(crate) fn claim(&mut self, place: Place, relieves: Option<NodeId>, now: Now) {
        let wall = self.wall(now);
        let drawn = self.clock.rise(wall);
        let epoch = Epoch(drawn.max(self.view.claims.highest(place).0 + 1));
        self.local.hold(place, epoch, now.at, relieves);
        // Beside one that serves it is tried in earnest: what failed before must not end it before it begins.
        if relieves.is_none()
            && let Some(failures) = self.takeovers.failures_before(place, now.at)
            && let Some(held) = self.local.held.get_mut(&place)
        {
            held.failures = failures;
        }
    }

    /// Whether this node may start what others may be running, and why not.
    fn may_take_over(
        &self,
        service: &Service,
        spec: &ServiceSpec,
        at: Instant,
    ) -> Result<(), String> {
        if self.settling.on() {
            return Err("this node has just started and asks its peers first".to_owned());
        }
        if self.leaving.is_some() {
            return Err("this node is leaving".to_owned());
        }
        if self.detector.holds_back(at) {
            return Err(
                "this node doubts its own connection and holds back for a few seconds".to_owned()
            );
        }
        let older = service.created.ms <= self.started.wall.0;
        if let Some(unheard) = self.view.members.unheard(self.me, at).next().filter(|_| older) {
            let name = self.node_name(unheard);
            return Err(format!("waiting to hear from {name} what it runs"));
        }
        if spec.partition != Partition::Available && !self.view.members.has_majority() {
            let (alive, all) = self.view.members.quorum();
            return Err(format!(
                "no majority: {alive} of {all} members can be reached from here, and this service starts only where more than half can"
            ));
        }
        Ok(())
    }

    /// Why slots of a service wait, as this node sees it, in the operator's words: for those of which it can
    /// tell.
    pub(crate) fn pending_reasons(&self, service: &Service) -> BTreeMap<u32, String> {
        let one = |text: String| BTreeMap::from([(1, text)]);
        if let Some(other) = service.shadowed_by {
            return one(format!(
                "its name is taken by service {other}, which was created first on another side of a partition: remove one of the two, or create this one again under another name"
            ));
        }
        let spec = match &service.spec {
            Ok(spec) => spec,
            Err(reason) => return one(format!("this node cannot read its spec: {reason}")),
        };
        let Some(standing) = self.view.standing(service.id) else { return BTreeMap::new() };
        let open: Vec<u32> =
            standing.open().filter(|o| o.relieves.is_none()).map(|o| o.index).collect();
        if open.is_empty() {
            return BTreeMap::new();
        }
        let doubt = "asking the other nodes what of this job has ended";
        let known = !spec.mode.is_job() || !self.doubts_what_ended(self.timers.last_handled);
        let may = self.may_take_over(service, spec, self.timers.last_handled);
        if let Err(why) = may.and_then(|()| known.then_some(()).ok_or_else(|| doubt.to_owned())) {
            return open.into_iter().map(|index| (index, why.clone())).collect();
        }
        let all: Vec<u32> = standing.open().map(|o| o.index).collect();
        let request = &standing.wanted.request;
        let plan = plan_orphans(&self.view.cluster, request, standing.roster(), &all);
        let mut reasons: BTreeMap<u32, String> =
            plan.pending.iter().map(|(index, reason)| (*index, reason.to_string())).collect();
        let members = self.view.members.quorum().1;
        if let Some(spread) = self.view.losses.brake(members, self.timers.last_handled) {
            let was_held = |index: &u32| {
                let place = Place { service: service.id, slot: Slot::Index(*index) };
                self.view.claims.highest(place) > Epoch(0)
            };
            for index in open.into_iter().filter(was_held) {
                reasons.entry(index).or_insert_with(|| braked(members, spread));
            }
        }
        reasons
    }
}
