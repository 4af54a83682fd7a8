//! Before an old task is stopped for a new one, what the new one needs is fetched: an image that is missing,
//! or takes minutes to come, must not cost a slot its running task (Swarm does alike). An update that
//! starts the new task first needs none of this, for there the old one waits for the new anyway.

use membership::id::TaskId;
use membership::time::Now;

use crate::containers::restart_of;
use crate::held::{Run, Stage};
use crate::local::{Doing, End, Local};
use crate::runtime::{ActionId, RuntimeAction, StartFailure};
use crate::services::{Service, Services};
use crate::slot::{Place, TaskState};

impl Local {
    /// Has what the next attempt of a slot needs fetched.
    pub(crate) fn prepare(&mut self, place: Place, service: &Service, now: Now) {
        let Some(next) = self.held.get(&place).and_then(|held| held.next.as_ref()) else { return };
        let (task, template_json) = (next.id(), next.recipe.template_json.clone());
        let registry_auth = service.body.registry_auth.clone();
        let order = RuntimeAction::Prepare { task, template_json, registry_auth };
        let id = self.act(Doing::Prepare(place, task), order);
        if let Some(run) = self.run_mut(place, task) {
            run.stage = Stage::Preparing(id);
            run.since = now.at;
            run.set(TaskState::Preparing, "preparing", now.wall);
        }
    }

    fn preparing(&mut self, place: Place, task: TaskId) -> Option<&mut Run> {
        self.run_mut(place, task).filter(|run| matches!(run.stage, Stage::Preparing(_)))
    }

    pub(crate) fn prepared(&mut self, place: Place, task: TaskId, id: ActionId) {
        if let Some(run) = self.preparing(place, task).filter(|r| r.stage == Stage::Preparing(id)) {
            run.stage = Stage::Prepared;
            self.changed.insert(place.service);
        }
    }

    pub(crate) fn prepare_failed(
        &mut self,
        place: Place,
        task: TaskId,
        why: StartFailure,
        message: String,
        services: &Services,
        now: Now,
    ) {
        if self.preparing(place, task).is_none() {
            return;
        }
        if why == StartFailure::EngineUnavailable {
            // That says nothing about the task. Once more in a while.
            let pause = self.settings.restart_delay;
            if let Some(held) = self.held.get_mut(&place) {
                held.next = None;
                held.not_before = now.at + pause;
            }
            return;
        }
        let end = End { state: TaskState::Rejected, exit_code: None, text: message, failed: true };
        self.ended(place, task, &end, restart_of(services, place), now);
    }
}
