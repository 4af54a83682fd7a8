//! One pass over one service: what of it should run here, compared with what does.
//!
//! Planned from scratch each time, from the view, the records and the claims; nothing is remembered
//! but since when a slot has needed somebody. The order of the steps is the order of the promises:
//! first give up what is not this node's any more, then take what is, then see that what is held runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use membership::id::{NodeId, ServiceId};
use membership::member::MemberState;
use membership::time::{Instant, Millis, Now};
use placement::{misplaced, plan};

use crate::held::{Run, Stage};
use crate::hosts::request;
use crate::node::Node;
use crate::services::Service;
use crate::slot::{Claim, Place, Slot};
use crate::spec::{Mode, Partition, ServiceSpec};
use crate::standing::{is_wanted, serves, strongest};

/// How soon a decision that had to wait for something without a time is looked at again.
pub(crate) const LOOK_AGAIN: Millis = Millis(200);

impl Node {
    pub(crate) fn look_again(&mut self, service: ServiceId, at: Instant) {
        self.timers.look_again.no_later_than(service, at);
    }

    pub(crate) fn reconcile(&mut self, id: ServiceId, now: Now) {
        let Some(service) = self.view.services.get(id).cloned() else {
            self.release_all(id, now, "its service was removed");
            self.forget(id);
            return;
        };
        if service.shadowed_by.is_some() {
            self.release_all(id, now, "an older service bears its name");
            return;
        }
        // One that cannot be read was written by a newer shoal, most likely: what runs goes on.
        let Ok(spec) = service.spec.clone() else { return };
        self.fence(id, &spec, now);
        match spec.mode {
            Mode::Replicated => self.reconcile_replicated(&service, &spec, now),
            Mode::Global => self.reconcile_global(&service, &spec, now),
            Mode::ReplicatedJob | Mode::GlobalJob => self.reconcile_job(&service, &spec, now),
        }
        for place in self.local.places(id) {
            self.ensure_runs(place, &service, &spec, now);
        }
        self.refresh_files(&service, &spec, now);
        // What runs of a job is never replaced: a change is a new execution.
        if !spec.mode.is_job() {
            self.steward(&service, &spec, now);
        }
    }

    fn release_all(&mut self, id: ServiceId, now: Now, why: &str) {
        let grace = self.grace(id);
        for place in self.local.places(id) {
            self.local.release(place, now, why, grace);
        }
        for place in self.local.kept_places(id) {
            self.local.tidy_kept(place);
        }
    }

    fn forget(&mut self, id: ServiceId) {
        self.takeovers.forget_service(id);
        self.stewarding.remove(&id);
        self.view.claims.forget_service(id);
        self.timers.look_again.forget(id);
        // The others keep what it tells of removed services no longer than this node does.
        if self.local.history.remove(&id).is_some() {
            self.local.changed.insert(id);
        }
    }

    fn grace(&self, id: ServiceId) -> Millis {
        self.view
            .services
            .get(id)
            .and_then(|s| s.spec.as_ref().ok())
            .map_or(Millis(10_000), |spec| spec.stop_grace)
    }

    /// `fenced`: the smaller side of a partition stops its own after a fixed time.
    fn fence(&mut self, id: ServiceId, spec: &ServiceSpec, now: Now) {
        if spec.partition != Partition::Fenced || self.local.places(id).is_empty() {
            return;
        }
        let Some(since) = self.view.minority_since else { return };
        // A process that starts in the smaller part cannot know since when it has been one, and the larger part
        // may be about to take over: it is given little more time than it takes to find the others.
        let at = if self.view.had_majority {
            since + self.settings.fence_after
        } else {
            since + Millis(self.settings.fence_after.0 / 2)
        };
        if now.at < at {
            self.look_again(id, at);
            return;
        }
        let (alive, all) = self.view.members.quorum();
        let why = format!("fenced: only {alive} of {all} members can be reached from here");
        self.release_all(id, now, &why);
    }

    fn reconcile_replicated(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        for place in self.local.places(service.id) {
            if !is_wanted(spec, place.slot) {
                self.local.release(place, now, "not wanted any more: scaled down", spec.stop_grace);
            }
        }
        self.give_way(service.id, spec, now);
        self.take_open(service, spec, now);
    }

    /// Drops what somebody else holds better: at once what does not serve yet, and what serves only
    /// when the better one serves too.
    pub(crate) fn give_way(&mut self, id: ServiceId, spec: &ServiceSpec, now: Now) {
        for place in self.local.places(id) {
            let better = self.better_claim(place);
            let Some(held) = self.local.held.get_mut(&place) else { continue };
            // The end of a job's slot is worth more than any attempt at it.
            if spec.mode.is_job() && held.outcome.is_some() {
                continue;
            }
            let Some((node, claim)) = better else {
                // Nobody is relieved by it any more: it serves, or the other has gone.
                let live = |(n, _): &&(NodeId, Arc<Claim>)| {
                    *n != self.me && self.view.members.holds_claims(*n)
                };
                if held.is_ready() || !self.view.claims.on(place).iter().any(|c| live(&c)) {
                    held.relieves = None;
                }
                continue;
            };
            // What is known of the other may be as old as this node's pause or the other's absence: nothing
            // that serves is stopped for it until it has been asked again.
            let absent_until = self.returned.get(&node).copied().filter(|until| now.at < *until);
            if held.is_ready() && (self.settling.on() || absent_until.is_some()) {
                if let Some(until) = absent_until {
                    self.look_again(id, until);
                }
                continue;
            }
            if held.relieves == Some(node) && serves(&claim) {
                if held.failures == 0 {
                    continue;
                }
                let failures = held.failures;
                self.takeovers.give_up(place, failures, &self.settings, now.at);
            }
            if held.is_ready() {
                self.takeovers.taken(place, now.at);
            }
            let why = format!("its slot is held by {}", self.node_name(node));
            self.local.release(place, now, &why, spec.stop_grace);
        }
    }

    /// Another live member's claim on a slot of this node's that stands before its own. What this node
    /// holds counts as it is now, whatever the view has heard of it.
    fn better_claim(&self, place: Place) -> Option<(NodeId, Arc<Claim>)> {
        let Slot::Index(index) = place.slot else { return None };
        let others = || {
            let holders = self.view.claims.on(place).iter();
            holders.filter(|(n, _)| *n != self.me && self.view.members.holds_claims(*n))
        };
        others().next()?;
        let mine = self.local.held.get(&place).and_then(|held| held.claim(place.slot));
        let claims = others().map(|(node, claim)| (*node, claim.as_ref()));
        let claims = claims.chain(mine.as_ref().map(|claim| (self.me, claim)));
        let (node, _) = strongest(place.service, index, claims, &self.view.cluster)?;
        others().find(|(other, _)| *other == node).cloned()
    }

    fn reconcile_global(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        let id = service.id;
        let mine = Place { service: id, slot: Slot::Node(self.me) };
        for place in self.local.places(id) {
            if place != mine {
                self.local.release(place, now, "not wanted any more", spec.stop_grace);
            }
        }
        let request = request(id, spec);
        if self.local.held.contains_key(&mine) {
            if let Some(reason) = misplaced(&self.view.cluster, &request, self.me) {
                self.local.release(mine, now, &format!("this node {reason}"), spec.stop_grace);
            }
        } else if !self.may_start_global(spec) {
            self.look_again(id, now.at + LOOK_AGAIN);
        } else if placement::eligible(&self.view.cluster, &request, self.me).is_ok()
            && self.has_room(mine, spec)
        {
            // A node that does not fit has no slot: nothing is pending there.
            self.claim(mine, None, now);
        }
    }

    fn may_start_global(&self, spec: &ServiceSpec) -> bool {
        let minority = spec.partition != Partition::Available && !self.view.members.has_majority();
        !self.settling.on() && self.leaving.is_none() && !minority
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
            if self.readdress(place, service, spec, now) {
                return;
            }
            self.replace_outdated(place, service, spec, permitted, now);
            return;
        }
        if let Some(next) = held.next.take_if(|next| next.recipe.template == spec.template) {
            // The old task ended by itself while its successor was being made.
            let stage = if next.is_ahead() { Stage::Queued } else { next.stage };
            held.run = Some(Run { stage, ..next });
            self.local.changed.insert(place.service);
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
        let minority = spec.partition != Partition::Available && !self.view.members.has_majority();
        let unknown = spec.mode.is_job() && !self.knows_what_ended(now);
        if self.settling.on() || minority || unknown || self.may_run_elsewhere(place, now) {
            if let Some(held) = self.local.held.get_mut(&place) {
                held.not_before = now.at + LOOK_AGAIN;
            }
            return;
        }
        if self.gives_up(place, spec, now) || self.finds_no_room(place, spec, now) {
            return;
        }
        let restated =
            self.local.held.get_mut(&place).map(|held| std::mem::take(&mut held.restated));
        if restated == Some(true) {
            self.claim(place, None, now);
        }
        self.local.attempt(place, service, now, &mut self.rng, false);
    }

    /// What had ended, or was being stopped, when this process found it: the slot may have been given to another
    /// node since, and some node has not said yet what it runs. As for what looks like an orphan, see
    /// [`Node::take_open`].
    fn may_run_elsewhere(&self, place: Place, now: Now) -> bool {
        let restated = self.local.held.get(&place).is_some_and(|held| held.restated);
        let shared = matches!(place.slot, Slot::Index(_));
        restated && shared && self.view.members.unheard(self.me, now.at).next().is_some()
    }

    /// What was found after a restart, or is held since the spec asked for less, may be more than this node can
    /// run: what does not run goes back to the others, what does goes on.
    fn finds_no_room(&mut self, place: Place, spec: &ServiceSpec, now: Now) -> bool {
        if self.has_room(place, spec) {
            return false;
        }
        if self.will_have_room(place, spec) {
            if let Some(held) = self.local.held.get_mut(&place) {
                held.not_before = now.at + LOOK_AGAIN;
            }
            return true;
        }
        self.local.release(place, now, "this node has no room for it", spec.stop_grace);
        self.dirty.insert(place.service);
        true
    }

    /// A slot that fails here again and again, or whose node is draining, goes back to the others if
    /// one of them could run it.
    fn gives_up(&mut self, place: Place, spec: &ServiceSpec, now: Now) -> bool {
        let Some(held) = self.local.held.get(&place) else { return false };
        let Slot::Index(index) = place.slot else { return false };
        let draining = self.view.members.state(self.me) == Some(MemberState::Draining);
        let failures = held.failures;
        // Every `give_up_after` failures, so that a crash loop goes round rather than back and forth.
        // Where the attempts of a job are counted, they are counted in one place.
        let counted = spec.mode.is_job() && spec.restart.max_attempts > 0;
        let failing =
            failures > 0 && failures.is_multiple_of(self.settings.give_up_after) && !counted;
        if !failing && !draining {
            return false;
        }
        let mut request = request(place.service, spec);
        request.passed_over.insert((index, self.me));
        let others = plan(&self.view.cluster, &request, &BTreeMap::new(), &[index]);
        if others.choices.is_empty() {
            return false;
        }
        let why =
            if draining { "this node is draining" } else { "it failed here too often in a row" };
        self.takeovers.give_up(place, failures + 1, &self.settings, now.at);
        self.local.release(place, now, why, spec.stop_grace);
        self.dirty.insert(place.service);
        true
    }
}
