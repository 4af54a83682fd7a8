//! One pass over one service: what of it should run here, compared with what does.
//!
//! Planned from scratch each time, from the view, the records and the claims; nothing is remembered
//! but since when a slot has needed somebody. The order of the steps is the order of the promises:
//! first give up what is not this node's any more, then take what is, then see that what is held runs.

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId};
use membership::member::MemberState;
use membership::time::{Instant, Millis, Now};
use placement::{Cluster, Held as Holder, Request, misplaced, plan, race};

use crate::claims::strength;
use crate::hosts::{request, weight_of};
use crate::node::Node;
use crate::rollout::Rollout;
use crate::services::Service;
use crate::slot::{Claim, Epoch, Phase, Place, Slot};
use crate::spec::{Mode, Partition, ServiceSpec};

/// The best claim of each wanted slot that a live member holds.
pub(crate) type Best = BTreeMap<Slot, (NodeId, Claim)>;

/// How soon a decision that had to wait for something without a time is looked at again.
const LOOK_AGAIN: Millis = Millis(200);

/// A wanted slot that somebody must take.
#[derive(Clone, Copy, Debug)]
struct Open {
    index: u32,
    /// It is still served by this node, which has to let go of it.
    relieves: Option<NodeId>,
}

fn serves(claim: &Claim) -> bool {
    matches!(claim.phase, Phase::Ready | Phase::Complete)
}

impl Node {
    pub(crate) fn look_again(&mut self, service: ServiceId, at: Instant) {
        let entry = self.timers.look_again.entry(service).or_insert(at);
        *entry = (*entry).min(at);
    }

    pub(crate) fn reconcile(&mut self, id: ServiceId, now: Now) {
        let Some(service) = self.services.get(id).cloned() else {
            self.release_all(id, now, "its service was removed");
            self.forget(id);
            return;
        };
        if let Some(other) = service.shadowed_by {
            self.release_all(id, now, "an older service bears its name");
            let text = format!(
                "its name is taken by service {other}, which was created first on another side of a partition: remove one of the two, or create this one again under another name"
            );
            self.pending.insert(Place { service: id, slot: Slot::Index(1) }, text);
            return;
        }
        let spec = match &service.spec {
            Ok(spec) => spec.clone(),
            Err(reason) => {
                // Written by a newer shoal, most likely: what runs goes on.
                let text = format!("this node cannot read its spec: {reason}");
                self.pending.insert(Place { service: id, slot: Slot::Index(1) }, text);
                return;
            }
        };
        self.fence(id, &spec, now);
        match spec.mode {
            Mode::Replicated => self.reconcile_replicated(&service, &spec, now),
            Mode::Global => self.reconcile_global(&service, &spec, now),
        }
        for place in self.local.places(id) {
            self.ensure_runs(place, &service, &spec, now);
        }
        self.steward(&service, &spec, now);
    }

    fn release_all(&mut self, id: ServiceId, now: Now, why: &str) {
        let grace = self.grace(id);
        for place in self.local.places(id) {
            self.local.release(place, now, why, grace);
        }
        self.pending.retain(|place, _| place.service != id);
    }

    fn forget(&mut self, id: ServiceId) {
        self.takeovers.forget_service(id);
        self.stewarding.remove(&id);
        self.claims.forget_service(id);
        self.timers.look_again.remove(&id);
        // The others keep what it tells of removed services no longer than this node does.
        if self.local.history.remove(&id).is_some() {
            self.local.changed.insert(id);
        }
    }

    fn grace(&self, id: ServiceId) -> Millis {
        self.services
            .get(id)
            .and_then(|s| s.spec.as_ref().ok())
            .map_or(Millis(10_000), |spec| spec.stop_grace)
    }

    /// `fenced`: the smaller side of a partition stops its own after a fixed time.
    fn fence(&mut self, id: ServiceId, spec: &ServiceSpec, now: Now) {
        if spec.partition != Partition::Fenced || self.local.places(id).is_empty() {
            return;
        }
        let Some(since) = self.minority_since else { return };
        let at = since + self.settings.fence_after;
        if now.at < at {
            self.look_again(id, at);
            return;
        }
        let (alive, all) = self.members.quorum();
        let why = format!("fenced: only {alive} of {all} members can be reached from here");
        self.release_all(id, now, &why);
    }

    /// The best live claim on each wanted slot.
    pub(crate) fn best_claims(&self, id: ServiceId, spec: &ServiceSpec, cluster: &Cluster) -> Best {
        let mut best = Best::new();
        for (slot, holders) in self.claims.slots(id) {
            let index = match (spec.mode, slot) {
                (Mode::Replicated, Slot::Index(index)) if (1..=spec.replicas).contains(&index) => {
                    index
                }
                (Mode::Global, Slot::Node(_)) => 0,
                _ => continue,
            };
            let strongest = holders
                .iter()
                .filter(|(node, _)| self.members.holds_claims(**node))
                .max_by_key(|(node, claim)| {
                    let race = race(id, index, **node, weight_of(cluster, **node));
                    strength(claim, **node, race)
                });
            if let Some((node, claim)) = strongest {
                best.insert(slot, (*node, claim.clone()));
            }
        }
        best
    }

    fn reconcile_replicated(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        let id = service.id;
        for place in self.local.places(id) {
            let wanted = matches!(place.slot, Slot::Index(i) if (1..=spec.replicas).contains(&i));
            if !wanted {
                self.local.release(place, now, "not wanted any more: scaled down", spec.stop_grace);
            }
        }
        self.take_own_claims();
        let mut cluster = self.refresh_cluster();
        let best = self.best_claims(id, spec, &cluster);
        self.give_way(id, spec, &best, now);
        let request = request(id, spec);
        self.take_open(service, spec, &mut cluster, &request, &best, now);
        self.cluster = if self.local.changed.contains(&id) { None } else { Some(cluster) };
    }

    /// Drops what somebody else holds better: at once what does not serve yet, and what serves only
    /// when the better one serves too.
    fn give_way(&mut self, id: ServiceId, spec: &ServiceSpec, best: &Best, now: Now) {
        for place in self.local.places(id) {
            let Some((node, claim)) = best.get(&place.slot) else { continue };
            let Some(held) = self.local.held.get_mut(&place) else { continue };
            if *node == self.me {
                if held.is_ready() {
                    held.relieves = None;
                }
                continue;
            }
            // What is known of the others may be as old as the pause: a node that asks stops nothing
            // that serves.
            if self.settling.on() && held.is_ready() {
                continue;
            }
            if held.relieves == Some(*node) && serves(claim) {
                if held.failures == 0 {
                    continue;
                }
                let failures = held.failures;
                self.takeovers.give_up(place, failures, &self.settings, now.at);
            }
            let why = format!("its slot is held by {}", self.node_name(*node));
            self.local.release(place, now, &why, spec.stop_grace);
        }
    }

    /// Takes those slots that nobody holds, or whose holder must let go, and that are this node's turn.
    fn take_open(
        &mut self,
        service: &Service,
        spec: &ServiceSpec,
        cluster: &mut Cluster,
        request: &Request,
        best: &Best,
        now: Now,
    ) {
        let id = service.id;
        let (open, held) = self.open_slots(spec, cluster, request, best);
        self.pending.retain(|place, _| place.service != id);
        if open.is_empty() {
            return;
        }
        let indexes: Vec<u32> = open.iter().map(|o| o.index).collect();
        let planned = plan(cluster, request, &held, &indexes);
        let may = self.may_take_over(service, spec, now);
        let brake = self.takeovers.brake(self.members.quorum().1, now.at);
        for slot in open {
            let place = Place { service: id, slot: Slot::Index(slot.index) };
            let since = self.takeovers.since(place, now.at);
            if slot.relieves.is_none() {
                if let Some(reason) = planned.pending.get(&slot.index) {
                    self.pending.insert(place, reason.to_string());
                }
                if let Err(why) = &may {
                    self.pending.insert(place, why.clone());
                }
            }
            if may.is_err() {
                self.look_again(id, now.at + LOOK_AGAIN);
                continue;
            }
            let Some(choices) = planned.choices.get(&slot.index) else { continue };
            let Some(rank) = choices.iter().position(|node| *node == self.me) else { continue };
            let due = self.due(place, spec, since, rank, choices.len(), slot, brake, now.at);
            if now.at < due {
                self.look_again(id, due);
                continue;
            }
            if slot.relieves.is_some() && self.reliefs_under_way() >= self.settings.max_starting {
                self.look_again(id, now.at + LOOK_AGAIN);
                continue;
            }
            self.claim(place, slot.relieves, now);
            cluster.add_load(self.me, request);
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all that a turn depends on, each once")]
    fn due(
        &self,
        place: Place,
        spec: &ServiceSpec,
        since: Instant,
        rank: usize,
        candidates: usize,
        slot: Open,
        brake: Option<Millis>,
        at: Instant,
    ) -> Instant {
        let given_up = self.takeovers.failures_before(place, at).is_some();
        let rank = if given_up { rank + candidates } else { rank };
        let mut due = since + self.settings.stagger * rank as u64;
        let was_held = self.claims.highest(place) > Epoch(0);
        if slot.relieves.is_none() && was_held {
            if spec.partition == Partition::Fenced {
                due += self.settings.fence_wait;
            }
            if let Some(spread) = brake {
                let spot = (place.service.0 as u64) ^ (u64::from(slot.index) * 0x9e37_79b9);
                due += Millis(spot % spread.0.max(1));
            }
        }
        due
    }

    /// Splits the wanted slots: those to take, and those that are in good hands.
    fn open_slots(
        &mut self,
        spec: &ServiceSpec,
        cluster: &Cluster,
        request: &Request,
        best: &Best,
    ) -> (Vec<Open>, BTreeMap<u32, Holder>) {
        let id = request.service;
        let mut open = Vec::new();
        let mut held = BTreeMap::new();
        for index in 1..=spec.replicas {
            let place = Place { service: id, slot: Slot::Index(index) };
            let Some((node, claim)) = best.get(&place.slot) else {
                open.push(Open { index, relieves: None });
                continue;
            };
            if misplaced(cluster, request, *node).is_none() {
                self.takeovers.settled(place);
                held.insert(index, Holder { node: *node, settled: serves(claim) });
                continue;
            }
            let relief = self
                .claims
                .on(place)
                .into_iter()
                .flatten()
                .map(|(other, _)| *other)
                .find(|other| other != node && self.members.holds_claims(*other));
            match relief {
                Some(node) => {
                    held.insert(index, Holder { node, settled: false });
                }
                // What does not serve has nothing to hand over, but is not this node's to judge:
                // its holder lets go when it sees a better claim.
                None => open.push(Open { index, relieves: Some(*node) }),
            }
        }
        (open, held)
    }

    /// How many of those who claim a slot count: what a member that is gone last said does not.
    fn live(&self, holders: &BTreeMap<NodeId, Claim>) -> usize {
        holders.keys().filter(|node| self.members.holds_claims(**node)).count()
    }

    fn reliefs_under_way(&self) -> usize {
        self.local.held.values().filter(|h| h.relieves.is_some() && !h.is_ready()).count()
    }

    pub(crate) fn claim(&mut self, place: Place, relieves: Option<NodeId>, now: Now) {
        let drawn = self.clock.tick(now.wall).index();
        let epoch = Epoch(drawn.max(self.claims.highest(place).0 + 1));
        self.local.hold(place, epoch, now.at, relieves);
        if let Some(failures) = self.takeovers.failures_before(place, now.at)
            && let Some(held) = self.local.held.get_mut(&place)
        {
            held.failures = failures;
        }
    }

    /// Whether this node may start what others may be running, and why not.
    fn may_take_over(&self, service: &Service, spec: &ServiceSpec, now: Now) -> Result<(), String> {
        if self.settling.on() {
            return Err("this node has just started and asks its peers first".to_owned());
        }
        if self.leaving.is_some() {
            return Err("this node is leaving".to_owned());
        }
        if self.detector.holds_back(now.at) {
            return Err(
                "this node doubts its own connection and holds back for a few seconds".to_owned()
            );
        }
        let older = service.created.ms <= self.started.wall.0;
        if let Some(unheard) = self.members.unheard(now.at).next().filter(|_| older) {
            let name = self.node_name(unheard);
            return Err(format!("waiting to hear from {name} what it runs"));
        }
        if spec.partition != Partition::Available && !self.members.has_majority() {
            let (alive, all) = self.members.quorum();
            return Err(format!(
                "no majority: {alive} of {all} members can be reached from here, and this service starts only where more than half can"
            ));
        }
        Ok(())
    }

    fn reconcile_global(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        let id = service.id;
        let mine = Place { service: id, slot: Slot::Node(self.me) };
        for place in self.local.places(id) {
            if place != mine {
                self.local.release(place, now, "not wanted any more", spec.stop_grace);
            }
        }
        let cluster = self.refresh_cluster();
        let request = request(id, spec);
        self.pending.retain(|place, _| place.service != id);
        if self.local.held.contains_key(&mine) {
            if let Some(reason) = misplaced(&cluster, &request, self.me) {
                self.local.release(mine, now, &format!("this node {reason}"), spec.stop_grace);
            }
        } else if let Err(why) = self.may_start_global(spec) {
            self.pending.insert(mine, why);
            self.look_again(id, now.at + LOOK_AGAIN);
        } else {
            // A node that does not fit has no slot: nothing is pending there.
            if placement::eligible(&cluster, &request, self.me).is_ok() {
                self.claim(mine, None, now);
            }
        }
        self.cluster = if self.local.changed.contains(&id) { None } else { Some(cluster) };
    }

    fn may_start_global(&self, spec: &ServiceSpec) -> Result<(), String> {
        if self.settling.on() || self.leaving.is_some() {
            return Err("this node has just started, or is leaving".to_owned());
        }
        if spec.partition != Partition::Available && !self.members.has_majority() {
            return Err("no majority of the members can be reached from here".to_owned());
        }
        Ok(())
    }

    /// Sees that a slot this node holds runs, and runs what it should.
    fn ensure_runs(&mut self, place: Place, service: &Service, spec: &ServiceSpec, now: Now) {
        let permitted =
            service.rollout.as_ref().is_some_and(|r| r.permits(spec.template, place.slot));
        let Some(held) = self.local.held.get_mut(&place) else { return };
        if let Some(outcome) = &held.outcome {
            if outcome.template == spec.template || !permitted {
                return;
            }
            held.outcome = None;
            held.failures = 0;
        }
        if held.run.is_some() {
            self.replace_outdated(place, service, spec, permitted, now);
            return;
        }
        if held.last.as_ref().is_some_and(|last| last.template != spec.template) {
            // `last` stays until there is a new attempt: without either the slot would have no claim, its
            // steward would count it as done, and somebody else would take it.
            held.failures = 0;
            held.failed_at.clear();
            held.not_before = now.at;
        }
        if held.waits_for.is_some() || now.at < held.not_before {
            return;
        }
        let minority = spec.partition != Partition::Available && !self.members.has_majority();
        if self.settling.on() || minority {
            held.not_before = now.at + LOOK_AGAIN;
            return;
        }
        if self.gives_up(place, spec, now) {
            return;
        }
        let restated =
            self.local.held.get_mut(&place).map(|held| std::mem::take(&mut held.restated));
        if restated == Some(true) {
            self.claim(place, None, now);
        }
        self.local.attempt(place, service, now, &mut self.rng, false);
    }

    /// A slot that fails here again and again, or whose node is draining, goes back to the others if
    /// one of them could run it.
    fn gives_up(&mut self, place: Place, spec: &ServiceSpec, now: Now) -> bool {
        let Some(held) = self.local.held.get(&place) else { return false };
        let Slot::Index(index) = place.slot else { return false };
        let draining = self.members.state(self.me) == Some(MemberState::Draining);
        let failures = held.failures;
        // Every `give_up_after` failures, so that a crash loop goes round rather than back and forth.
        let failing = failures > 0 && failures.is_multiple_of(self.settings.give_up_after);
        if !failing && !draining {
            return false;
        }
        let cluster = self.refresh_cluster();
        let mut request = request(place.service, spec);
        request.passed_over.insert((index, self.me));
        let others = !plan(&cluster, &request, &BTreeMap::new(), &[index]).choices.is_empty();
        self.cluster = Some(cluster);
        if !others {
            return false;
        }
        let why =
            if draining { "this node is draining" } else { "it failed here too often in a row" };
        self.takeovers.give_up(place, failures + 1, &self.settings, now.at);
        self.local.release(place, now, why, spec.stop_grace);
        self.dirty.insert(place.service);
        true
    }

    /// Rolling update of one slot: stop-first, or start-first beside the old task.
    fn replace_outdated(
        &mut self,
        place: Place,
        service: &Service,
        spec: &ServiceSpec,
        permitted: bool,
        now: Now,
    ) {
        let Some(held) = self.local.held.get_mut(&place) else { return };
        let outdated = |run: &crate::held::Run| run.recipe.template != spec.template;
        if let Some(next) = held.next.take_if(|next| outdated(next)) {
            self.local.stop_run(place, next, now, "overtaken by a newer update", spec.stop_grace);
        }
        let Some(held) = self.local.held.get_mut(&place) else { return };
        if !permitted || !held.run.as_ref().is_some_and(outdated) {
            return;
        }
        let back = service.rollout.as_ref().is_some_and(|r| r.state.name().starts_with("rollback"));
        let config = if back { spec.rollback } else { spec.update };
        if config.start_first && spec.host_ports.iter().all(|p| p.published == 0) {
            // Failures of the old template neither delay the first attempt of the new nor count against it.
            let failed_before = held.last.as_ref().is_some_and(|l| l.template == spec.template);
            if held.next.is_none() && !failed_before {
                held.failures = 0;
                held.failed_at.clear();
                held.not_before = now.at;
            }
            let may = held.next.is_none() && now.at >= held.not_before;
            if may {
                self.local.attempt(place, service, now, &mut self.rng, true);
            }
            return;
        }
        let Some(run) = held.run.take() else { return };
        held.failures = 0;
        held.unready_since = now.at;
        if run.stage != crate::held::Stage::Queued {
            held.waits_for = Some(run.id());
            held.last = Some(run.status.clone());
        }
        self.local.stop_run(place, run, now, "replaced by a newer task", spec.stop_grace);
        self.dirty.insert(place.service);
    }

    /// Evens load out: a node that came back empty takes over, one by one, what others have too much of.
    pub(crate) fn rebalance(&mut self, now: Now) {
        let quiet = now.at.since(self.timers.view_changed) >= self.settings.rebalance_after;
        // What a member that is gone said last, that it is settling most likely, stands for ever.
        let calm = self
            .members
            .iter()
            .filter(|(_, k)| k.state.holds_claims())
            .all(|(_, k)| k.state != MemberState::Unstable && !k.is_settling());
        let free = self.reliefs_under_way() < REBALANCE_AT_ONCE;
        if !quiet || !calm || !free || self.settling.on() || self.leaving.is_some() {
            return;
        }
        let cluster = self.refresh_cluster();
        let ids: Vec<ServiceId> = self.services.ids().collect();
        let mut pulled = None;
        for id in ids {
            let Some(spec) = self.services.get(id).and_then(Service::active) else { continue };
            let rolling = self.services.get(id).and_then(|s| s.rollout.as_ref());
            if spec.mode != Mode::Replicated || rolling.is_some_and(Rollout::is_running) {
                continue;
            }
            let best = self.best_claims(id, spec, &cluster);
            let whole = best.len() == spec.replicas as usize
                && best.values().all(|(_, c)| serves(c))
                && !self.claims.slots(id).any(|(_, holders)| self.live(holders) > 1);
            if !whole {
                continue;
            }
            let held: BTreeMap<u32, Holder> = best
                .iter()
                .filter_map(|(slot, (node, _))| {
                    let Slot::Index(index) = slot else { return None };
                    // One that failed here is left where it is; another may take its place.
                    let place = Place { service: id, slot: *slot };
                    let settled = self.takeovers.failures_before(place, now.at).is_none();
                    Some((*index, Holder { node: *node, settled }))
                })
                .collect();
            if let Some(pull) = placement::pull(&cluster, &request(id, spec), &held, self.me) {
                pulled = Some((Place { service: id, slot: Slot::Index(pull.slot) }, pull.from));
                break;
            }
        }
        self.cluster = Some(cluster);
        if let Some((place, from)) = pulled {
            self.claim(place, Some(from), now);
            self.dirty.insert(place.service);
        }
    }
}

/// Slots that one node takes over at once to even load out.
const REBALANCE_AT_ONCE: usize = 2;
