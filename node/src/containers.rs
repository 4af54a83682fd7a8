//! What the runtime reports, brought to the slots this node holds: containers that started, turned
//! healthy or unhealthy, died or vanished. (`adopt`: those that are found and that nobody here stands for.)
//!
//! Everything here is level-triggered: a [`Found`] is the whole present state of one container, and
//! hearing it twice changes nothing. The slow resync (`List`) passes through the same code as events.

use std::collections::BTreeSet;

use membership::id::{ServiceId, TaskId};
use membership::time::{Instant, Millis, Now};

use crate::held::{Leaving, Run, Stage};
use crate::local::{Doing, End, Local};
use crate::runtime::{
    ActionId, ActionResult, ContainerHealth, ContainerState, Found, StartFailure,
};
use crate::services::{Service, Services};
use crate::slot::{Place, TaskState, short_text};
use crate::spec::{Restart, RestartCondition};

/// How long a stop that failed waits before it is tried again.
const STOP_RETRY: Millis = Millis(3_000);

/// How long a task that ended is remembered, so that a list made before its end does not bring it back.
const GONE_MEMORY: Millis = Millis(120_000);

/// The restart policy of a service that this node does not know (any more): nothing is restarted.
pub(crate) const NO_RESTART: Restart =
    Restart { condition: RestartCondition::Never, delay: None, max_attempts: 0, window: None };

pub(crate) fn restart_of(services: &Services, place: Place) -> Restart {
    services.get(place.service).and_then(Service::active).map_or(NO_RESTART, |spec| spec.restart)
}

impl Local {
    /// An action came back.
    pub(crate) fn done(
        &mut self,
        id: ActionId,
        result: ActionResult,
        services: &Services,
        now: Now,
    ) {
        let Some(doing) = self.doing.remove(&id) else { return };
        match (doing, result) {
            (Doing::Start(_, task), ActionResult::Started(found)) => {
                self.started(task, &found, services, now);
            }
            (Doing::Start(place, task), ActionResult::StartFailed { why, message }) => {
                self.start_failed(place, task, why, &message, services, now);
            }
            (Doing::Prepare(place, task), ActionResult::Prepared) => {
                self.prepared(place, task, id);
            }
            (Doing::Prepare(place, task), ActionResult::StartFailed { why, message }) => {
                self.prepare_failed(place, task, why, message, services, now);
            }
            (Doing::Prepare(place, task), other) => {
                let text = format!("the runtime answered a fetch with {other:?}");
                let why = StartFailure::EngineUnavailable;
                self.prepare_failed(place, task, why, text, services, now);
            }
            (Doing::Stop(task), ActionResult::Stopped) => self.stopped(task, now.at),
            (Doing::Stop(task), ActionResult::StopFailed { .. }) => self.stop_failed(task, now.at),
            (Doing::List { asked }, ActionResult::Listed(found)) => {
                self.listed(asked, found, services, now);
            }
            // Answered where the rest is known of networks.
            (Doing::Networks, _) => {}
            (Doing::Refresh { place, task, editions }, result) => {
                let failed = match &result {
                    ActionResult::Refreshed => None,
                    ActionResult::RefreshFailed { message } => Some(message.as_str()),
                    _ => Some("the runtime answered something else"),
                };
                self.refreshed(place, task, editions, failed, now);
            }
            // What was tidied is gone or will be found again by the next resync.
            (Doing::Tidy | Doing::List { .. }, _) => {}
            (Doing::Start(place, task), other) => {
                let text = format!("the runtime answered a start with {other:?}");
                self.start_failed(place, task, StartFailure::DidNotStart, &text, services, now);
            }
            (Doing::Stop(task), _) => self.stop_failed(task, now.at),
        }
    }

    fn started(&mut self, task: TaskId, found: &Found, services: &Services, now: Now) {
        if let Some(leaving) = self.leaving.get_mut(&task) {
            // It was given up while it was being started.
            leaving.starting = false;
            leaving.status.container = Some(found.container.clone());
            leaving.retry_at = now.at;
            self.push_stops(now.at);
            return;
        }
        self.container(found, services, now);
    }

    fn start_failed(
        &mut self,
        place: Place,
        task: TaskId,
        why: StartFailure,
        message: &str,
        services: &Services,
        now: Now,
    ) {
        if let Some(leaving) = self.leaving.get_mut(&task) {
            // Nothing runs, but a container may have been created: the stop finds it by name.
            leaving.starting = false;
            leaving.retry_at = now.at;
            self.push_stops(now.at);
            return;
        }
        // An engine that had been given up carried the first order out after all: the task runs, and
        // only the repeated order failed (its name is taken, by itself).
        let runs = |run: &mut Run| matches!(run.stage, Stage::Warming | Stage::Ready);
        if self.run_mut(place, task).is_some_and(runs) {
            return;
        }
        if why == StartFailure::EngineUnavailable {
            if let Some(run) = self.run_mut(place, task) {
                run.stage = Stage::Queued;
                run.since = now.at;
                run.set(TaskState::Assigned, "waiting for the container engine", now.wall);
                run.status.error = Some(short_text(message));
            }
            self.changed.insert(place.service);
            return;
        }
        let state = match why {
            StartFailure::NoSuchImage | StartFailure::BadSpec => TaskState::Rejected,
            StartFailure::DidNotStart | StartFailure::EngineUnavailable => TaskState::Failed,
        };
        let end = End { state, exit_code: None, text: message.to_owned(), failed: true };
        self.ended(place, task, &end, restart_of(services, place), now);
    }

    pub(crate) fn stopped(&mut self, task: TaskId, at: Instant) {
        let Some(leaving) = self.leaving.remove(&task) else { return };
        self.gone.insert(task, at);
        for (place, held) in self.held.iter_mut() {
            if held.waits_for == Some(task) {
                held.waits_for = None;
                self.changed.insert(place.service);
            }
        }
        self.remember(leaving.place.service, leaving.status);
    }

    fn stop_failed(&mut self, task: TaskId, at: Instant) {
        if let Some(leaving) = self.leaving.get_mut(&task) {
            leaving.action = None;
            leaving.retry_at = at + STOP_RETRY;
        }
    }

    /// The present state of one container of ours.
    pub(crate) fn container(&mut self, found: &Found, services: &Services, now: Now) {
        if let Some(leaving) = self.leaving.get(&found.task) {
            if leaving.decide_again {
                self.decide_again(found, services, now);
            }
            return;
        }
        if self.gone.contains_key(&found.task) {
            // An engine that was given up may carry a start out after the stop found nothing.
            if matches!(found.state, ContainerState::Running { .. }) {
                let place = Place { service: found.service, slot: found.slot };
                self.send_off(place, found, services, now);
            }
            return;
        }
        let Some(place) = self.place_of(found.task) else {
            self.unknown(found, services, now);
            return;
        };
        match found.state {
            // A crash between create and start leaves this; while a start is under way it is normal.
            ContainerState::Created => {}
            ContainerState::Running { health } => self.runs(place, found, health, services, now),
            ContainerState::Paused => {}
            ContainerState::Exited { code, out_of_memory } => {
                self.exited(place, found, code, out_of_memory, services, now);
            }
        }
    }

    pub(crate) fn runs(
        &mut self,
        place: Place,
        found: &Found,
        health: ContainerHealth,
        services: &Services,
        now: Now,
    ) {
        if health == ContainerHealth::Unhealthy {
            self.unhealthy(place, found, services, now);
            return;
        }
        let ready = health != ContainerHealth::Starting;
        let Some(run) = self.run_mut(place, found.task) else { return };
        if run.is_ahead() || matches!(run.stage, Stage::Starting(_)) {
            run.since = now.at;
            run.running_since = Some(now.at);
        }
        let stage = if ready || run.is_ready() { Stage::Ready } else { Stage::Warming };
        let news = run.stage != stage || run.status.container.as_ref() != Some(&found.container);
        run.stage = stage;
        run.status.container = Some(found.container.clone());
        run.status.pid = found.pid.or(run.status.pid);
        run.status.ports.clone_from(&found.ports);
        run.status.error = None;
        if stage == Stage::Ready {
            run.set(TaskState::Running, "started", now.wall);
        } else {
            run.set(TaskState::Starting, "waiting for its first healthy report", now.wall);
        }
        if news {
            let status = run.status.clone();
            self.log(place, &status);
            self.settle_start_first(place, services, now);
        }
    }

    /// The new attempt of a start-first update is ready: it takes the old one's place.
    pub(crate) fn settle_start_first(&mut self, place: Place, services: &Services, now: Now) {
        // A node that stood still hears of what was ready then, and may not be any more.
        if self.look_since.is_some() {
            return;
        }
        let Some(held) = self.held.get_mut(&place) else { return };
        if !held.next.as_ref().is_some_and(Run::is_ready) {
            return;
        }
        held.failures = 0;
        let old = held.run.take();
        held.run = held.next.take();
        if let Some(old) = old {
            let grace = grace_of(services, place);
            self.stop_run(place, old, now, "replaced by a newer task", grace);
        }
    }

    fn unhealthy(&mut self, place: Place, found: &Found, services: &Services, now: Now) {
        let Some(run) = self.run_mut(place, found.task) else { return };
        run.status.container = None;
        let code = run.status.exit_code;
        let mut status = run.status.clone();
        let addresses = run.addresses.clone();
        let end = End {
            state: TaskState::Failed,
            exit_code: code,
            text: "task: unhealthy container: its health check failed as often in a row as the spec allows".to_owned(),
            failed: true,
        };
        self.ended(place, found.task, &end, restart_of(services, place), now);
        status.container = Some(found.container.clone());
        status.state = TaskState::Failed;
        status.error = Some(end.text);
        // Its port or volume may be what the next attempt needs.
        if let Some(held) = self.held.get_mut(&place)
            && held.run.is_none()
        {
            held.waits_for = Some(found.task);
        }
        let leaving = Leaving::new(place, status, grace_of(services, place), now.at);
        self.send_out(Leaving { addresses, ..leaving }, now.at);
    }

    pub(crate) fn exited(
        &mut self,
        place: Place,
        found: &Found,
        code: i32,
        out_of_memory: bool,
        services: &Services,
        now: Now,
    ) {
        if let Some(run) = self.run_mut(place, found.task) {
            run.status.container = Some(found.container.clone());
            run.running_since.get_or_insert(now.at);
        }
        let end = exit_end(code, out_of_memory);
        self.ended(place, found.task, &end, restart_of(services, place), now);
    }

    /// A container of ours vanished: somebody removed it behind our back.
    pub(crate) fn removed(&mut self, task: TaskId, services: &Services, now: Now) {
        if self.leaving.contains_key(&task) {
            return;
        }
        let Some(place) = self.place_of(task) else { return };
        if let Some(run) = self.run_mut(place, task) {
            if run.is_ahead() || matches!(run.stage, Stage::Starting(_)) {
                return;
            }
            run.status.container = None;
        }
        let end = End {
            state: TaskState::Failed,
            exit_code: None,
            text: "its container was removed from outside".to_owned(),
            failed: true,
        };
        self.ended(place, task, &end, restart_of(services, place), now);
    }

    /// Forgets tasks that have been gone for so long that no late answer can speak of them.
    pub(crate) fn forget_gone(&mut self, at: Instant) {
        self.gone.retain(|_, since| at.since(*since) < GONE_MEMORY);
        let held = self.held.keys().map(|place| place.service);
        let leaving = self.leaving.values().map(|leaving| leaving.place.service);
        let spoken_of: BTreeSet<ServiceId> = held.chain(leaving).collect();
        self.names.retain(|service, _| spoken_of.contains(service));
    }

    /// Attempts that neither start nor turn healthy in time count as failed.
    pub(crate) fn expire_starts(&mut self, services: &Services, now: Now) {
        if self.rests(now.at) {
            return;
        }
        let limit = self.settings.start_timeout;
        let late: Vec<(Place, TaskId, bool)> = self
            .held
            .iter()
            .flat_map(|(place, held)| held.runs().map(|run| (*place, run)))
            .filter(|(_, r)| matches!(r.stage, Stage::Warming | Stage::Starting(_)))
            .filter(|(_, r)| now.at.since(r.since) >= limit)
            .map(|(place, r)| (place, r.id(), matches!(r.stage, Stage::Starting(_))))
            .collect();
        for (place, task, starting) in late {
            let Some(run) = self.run_mut(place, task) else { continue };
            let (status, addresses) = (run.status.clone(), run.addresses.clone());
            let what = if starting { "did not start" } else { "did not report healthy" };
            let end = End {
                state: TaskState::Failed,
                exit_code: None,
                text: format!("{what} within {limit}"),
                failed: true,
            };
            run.status.container = None;
            self.ended(place, task, &end, restart_of(services, place), now);
            let grace = grace_of(services, place);
            let leaving = Leaving::new(place, status, grace, now.at);
            let leaving = Leaving { starting, addresses, ..leaving };
            self.send_out(leaving, now.at);
        }
    }
}

pub(crate) fn grace_of(services: &Services, place: Place) -> Millis {
    services
        .get(place.service)
        .and_then(|s| s.spec.as_ref().ok())
        .map_or(Millis(10_000), |spec| spec.stop_grace)
}

fn exit_end(code: i32, out_of_memory: bool) -> End {
    let text = match (code, out_of_memory) {
        (0, _) => String::new(),
        (code, false) => format!("task: non-zero exit ({code})"),
        (code, true) => format!("task: non-zero exit ({code}): out of memory"),
    };
    let state = if code == 0 { TaskState::Complete } else { TaskState::Failed };
    End { state, exit_code: Some(code), text, failed: code != 0 }
}
