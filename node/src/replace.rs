//! Replacing one task of this node that is out of date, once its rollout permits: start-first beside the old
//! one, or stop-first as soon as what the new one needs is on this host.

use membership::time::Now;

use crate::held::{Run, Stage};
use crate::network::Trouble;
use crate::node::Node;
use crate::services::Service;
use crate::slot::Place;
use crate::spec::{Partition, ServiceSpec};

impl Node {
    /// A task whose address turned out to be another node's too is replaced: by one beside it, where its engine's
    /// network stays and no port is in the way.
    pub(crate) fn readdress(
        &mut self,
        place: Place,
        service: &Service,
        spec: &ServiceSpec,
        now: Now,
    ) -> bool {
        let Some(held) = self.local.held.get(&place) else { return false };
        let Some(run) = held.run.as_ref().filter(|_| held.next.is_none()) else { return false };
        // The work of a job is not begun anew for it.
        let Some(trouble) = self.trouble(&run.addresses).filter(|_| !spec.mode.is_job()) else {
            return false;
        };
        if now.at < held.not_before {
            return true;
        }
        let beside = spec.host_ports.iter().all(|port| port.published == 0);
        if trouble == Trouble::Lost && beside && !run.is_ahead() {
            self.local.attempt(place, service, now, &mut self.rng, true);
            return true;
        }
        let Some(held) = self.local.held.get_mut(&place) else { return false };
        let Some(run) = held.run.take() else { return false };
        held.unready_since = now.at;
        if !run.is_ahead() {
            held.waits_for = Some(run.id());
            held.last = Some(run.status.clone());
        }
        let why = "its address is used by another node too";
        self.local.stop_run(place, run, now, why, spec.stop_grace);
        self.dirty.insert(place.service);
        true
    }

    /// Rolling update of one slot: stop-first, or start-first beside the old task.
    pub(crate) fn replace_outdated(
        &mut self,
        place: Place,
        service: &Service,
        spec: &ServiceSpec,
        permitted: bool,
        now: Now,
    ) {
        let Some(held) = self.local.held.get_mut(&place) else { return };
        let outdated = |run: &Run| run.recipe.template != spec.template;
        if let Some(next) = held.next.take_if(|next| outdated(next)) {
            self.local.stop_run(place, next, now, "overtaken by a newer update", spec.stop_grace);
        }
        let Some(held) = self.local.held.get_mut(&place) else { return };
        if !permitted || !held.run.as_ref().is_some_and(outdated) {
            return;
        }
        // Where it may not be started anew it is not stopped for something new either.
        if spec.partition != Partition::Available && !self.view.members.has_majority() {
            return;
        }
        let back = service.rollout.as_ref().is_some_and(|r| r.state.name().starts_with("rollback"));
        let config = if back { spec.rollback } else { spec.update };
        let beside = config.start_first && spec.host_ports.iter().all(|p| p.published == 0);
        let runs = held.run.as_ref().is_some_and(|run| !run.is_ahead());
        if runs {
            // Failures of the old template neither delay the first attempt of the new nor count against it.
            let failed_before = held.last.as_ref().is_some_and(|l| l.template == spec.template);
            if held.next.is_none() && !failed_before {
                held.failures = 0;
                held.failed_at.clear();
                held.not_before = now.at;
            }
            if held.next.is_none() && now.at >= held.not_before && (beside || self.local.engine_ok)
            {
                self.local.attempt(place, service, now, &mut self.rng, true);
                if !beside {
                    self.local.prepare(place, service, now);
                }
            }
        }
        let Some(held) = self.local.held.get_mut(&place) else { return };
        if beside && runs {
            // The spec may have turned from stop-first meanwhile.
            if let Some(next) = held.next.as_mut().filter(|next| next.is_ahead()) {
                next.stage = Stage::Queued;
            }
            return;
        }
        // Stop-first: not before what the new one needs is here. What was never started is replaced at once.
        let prepared = held.next.as_ref().is_some_and(|next| next.stage == Stage::Prepared);
        if runs && !prepared {
            return;
        }
        let Some(run) = held.run.take() else { return };
        held.failures = 0;
        held.unready_since = now.at;
        if runs {
            held.waits_for = Some(run.id());
            held.last = Some(run.status.clone());
        }
        held.run = held.next.take().map(|next| Run { stage: Stage::Queued, ..next });
        self.local.stop_run(place, run, now, "replaced by a newer task", spec.stop_grace);
        self.dirty.insert(place.service);
    }
}
