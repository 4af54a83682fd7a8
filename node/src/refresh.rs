//! Configs that were replaced in place: the tasks that have them as files get the new content, and
//! the signal that was asked for.
//!
//! Level-triggered like everything here: each pass compares what a task has with what it should have.
//! A task that an earlier process started is told once more; the runtime looks at the files and
//! neither writes nor signals where nothing differs.

use std::sync::Arc;

use membership::id::TaskId;
use membership::time::{Millis, Now};
use serde_json::Value;

use crate::files::{Editions, TaskFiles, editions};
use crate::held::{Run, Stage};
use crate::local::{Doing, Local};
use crate::node::Node;
use crate::runtime::RuntimeAction;
use crate::services::Service;
use crate::slot::{Place, TemplateId};
use crate::spec::{ServiceSpec, template_id};
use crate::start::filled_template;

/// How long a replacement that failed waits before it is tried again.
const AGAIN: Millis = Millis(5_000);

/// What a task was started with, as far as the records still say.
type Started = (TemplateId, Arc<Value>);

impl Node {
    /// Brings the files of this service's running tasks up to date.
    pub(crate) fn refresh_files(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        self.refresh_those_of(service, &(spec.template, service.task_template.clone()), now);
        // While an update is under way, or paused, what has not been replaced keeps up as well. What is older
        // than that stays as it is until it is replaced: nobody knows any more what it was started with.
        let places = self.local.places(service.id);
        let others = places.iter().filter_map(|place| self.local.held.get(place));
        if others.flat_map(|held| held.runs()).any(|run| run.status.template != spec.template)
            && let Some(previous) = before(service)
        {
            self.refresh_those_of(service, &previous, now);
        }
    }

    fn refresh_those_of(&mut self, service: &Service, started: &Started, now: Now) {
        let (id, template) = started;
        let wanted = editions(template, &self.view.assets);
        if wanted.is_empty() {
            return;
        }
        for place in self.local.places(service.id) {
            let Some(held) = self.local.held.get(&place) else { continue };
            let behind: Vec<TaskId> = held
                .runs()
                .filter(|run| matches!(run.stage, Stage::Warming | Stage::Ready))
                .filter(|run| run.status.template == *id)
                .filter(|run| run.editions.as_ref() != Some(&wanted))
                .map(Run::id)
                .collect();
            for task in behind {
                self.refresh_task(place, task, service, template, &wanted, now);
            }
        }
    }

    fn refresh_task(
        &mut self,
        place: Place,
        task: TaskId,
        service: &Service,
        template: &Value,
        wanted: &Editions,
        now: Now,
    ) {
        let busy = |d: &Doing| matches!(d, Doing::Refresh { task: t, .. } if *t == task);
        if self.local.doing.values().any(busy) || !self.local.engine_ok {
            return;
        }
        let Some(run) = self.local.run_mut(place, task) else { return };
        if now.at < run.refresh_at {
            let at = run.refresh_at;
            self.look_again(service.id, at);
            return;
        }
        let container = run.status.container.clone().unwrap_or_default();
        let Ok(files) = TaskFiles::gather(template, &self.view.assets) else {
            return;
        };
        let Ok(filled) = filled_template(&self.local.starter, service, place, task, template)
        else {
            return;
        };
        let files = Arc::new(TaskFiles { files, ..filled.files });
        let doing = Doing::Refresh { place, task, editions: wanted.clone() };
        self.local.act(doing, RuntimeAction::Refresh { task, container, files });
    }
}

/// The template before the present one. What runs of a job is of the present one always.
fn before(service: &Service) -> Option<Started> {
    let previous = service.body.previous.as_ref().filter(|_| service.job.is_none())?;
    let template = previous.get("TaskTemplate").cloned().unwrap_or_default();
    Some((template_id(previous), Arc::new(template)))
}

impl Local {
    pub(crate) fn refreshed(
        &mut self,
        place: Place,
        task: TaskId,
        editions: Editions,
        failed: Option<&str>,
        now: Now,
    ) {
        let Some(run) = self.run_mut(place, task) else { return };
        match failed {
            None => {
                run.editions = Some(editions);
                run.status.error = None;
            }
            Some(why) => {
                run.refresh_at = now.at + AGAIN;
                run.status.error = Some(crate::slot::short_text(why));
            }
        }
        // Another edition may have come meanwhile.
        self.changed.insert(place.service);
    }
}
