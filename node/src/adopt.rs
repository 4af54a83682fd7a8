//! Containers that are found and that no present attempt stands for: after a restart of shoal, when an
//! engine answers again, by the slow resync. What is wanted is adopted, the rest is sent off.
//!
//! A list is also what doubts are settled by. A stop that was decided while the engine was away is
//! decided again from what the list shows, for what it was decided for may have passed: a better twin
//! that was ready then may be gone. (In foca each delayed event carries the evidence that it is still
//! valid, runtime.rs; here the evidence is looked at anew.) What the engine has begun to stop is marked
//! as such on the container itself and is never taken back.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use membership::id::TaskId;
use membership::time::{Instant, Now};

use crate::containers::grace_of;
use crate::held::{Held, Kept, Leaving, Run, Stage};
use crate::local::Local;
use crate::runtime::{ContainerHealth, ContainerState, Found};
use crate::services::{Service, Services};
use crate::slot::{Place, TaskState, TaskStatus};
use crate::start::Recipe;

impl Local {
    /// The engine answers (again): everything may have changed meanwhile.
    pub(crate) fn engine_back(&mut self, at: Instant) {
        self.engine_ok = true;
        for leaving in self.leaving.values_mut().filter(|l| l.is_waiting()) {
            leaving.decide_again = true;
        }
        self.look_anew(at);
    }

    /// Asks for everything there is, for what was heard so far may be old.
    pub(crate) fn look_anew(&mut self, at: Instant) {
        self.look_since = Some(at);
        self.list(at);
    }

    /// Everything of ours in the engine. `asked` is when the question was put: what began later may
    /// be missing from the answer.
    pub(crate) fn listed(
        &mut self,
        asked: Instant,
        mut found: Vec<Found>,
        services: &Services,
        now: Now,
    ) {
        let present: BTreeSet<TaskId> = found.iter().map(|f| f.task).collect();
        let lost: Vec<TaskId> = self
            .held
            .values()
            .flat_map(Held::runs)
            .filter(|run| matches!(run.stage, Stage::Warming | Stage::Ready) && run.since < asked)
            .map(Run::id)
            .filter(|task| !present.contains(task))
            .collect();
        for task in lost {
            self.removed(task, services, now);
        }
        let vanished: Vec<TaskId> = self
            .leaving
            .iter()
            .filter(|(task, leaving)| leaving.decide_again && !present.contains(task))
            .map(|(task, _)| *task)
            .collect();
        for task in vanished {
            self.stopped(task, now.at);
        }
        // First what is known, so that a slot whose attempt has ended is seen to be empty. Of two running
        // containers of one slot the one that serves is adopted, and of two that do the one that is wanted
        // now: the other is most likely being stopped by an order of the process before this one. What is
        // not healthy yet replaces nothing that is. Of those that ended the newest counts.
        found.sort_by_key(|f| {
            let spec = services.get(f.service).and_then(Service::active);
            let current = spec.is_some_and(|spec| spec.template == f.template);
            let runs = !matches!(f.state, ContainerState::Exited { .. });
            let healthy = matches!(
                f.state,
                ContainerState::Running {
                    health: ContainerHealth::None | ContainerHealth::Healthy
                }
            );
            let known = self.place_of(f.task).is_some();
            let serves = healthy && !f.stopping;
            Reverse((known, runs, serves, runs && current, f.epoch, f.created, f.task))
        });
        for found in &found {
            let stopped_since = self.gone.get(&found.task).is_some_and(|gone| *gone >= asked);
            if !stopped_since {
                self.container(found, services, now);
            }
        }
        match self.look_since {
            Some(since) if asked < since => self.list(now.at),
            Some(_) => {
                self.look_since = None;
                let waiting = |held: &Held| held.next.as_ref().is_some_and(Run::is_ready);
                let places: Vec<Place> =
                    self.held.iter().filter(|(_, h)| waiting(h)).map(|(place, _)| *place).collect();
                for place in places {
                    self.settle_start_first(place, services, now);
                }
            }
            None => {}
        }
    }

    /// A container with our labels that no present attempt stands for: left by an earlier process of
    /// this node, or an ended one kept for its logs.
    pub(crate) fn unknown(&mut self, found: &Found, services: &Services, now: Now) {
        let place = Place { service: found.service, slot: found.slot };
        if self.kept.get(&place).is_some_and(|kept| kept.task == found.task) {
            return;
        }
        let wanted = services.get(found.service).filter(|s| s.active().is_some());
        let taken = self.held.get(&place).is_some_and(Held::is_taken);
        match (wanted, found.state) {
            (Some(service), ContainerState::Running { health })
                if !taken && !found.stopping && health != ContainerHealth::Unhealthy =>
            {
                self.adopt(place, found, service, now);
                self.runs(place, found, health, services, now);
                // It has run for longer than this process has known it.
                if let (Some(started), Some(run)) = (found.started, self.run_mut(place, found.task))
                {
                    run.status.since = started;
                }
            }
            (Some(_), ContainerState::Running { .. }) if !taken && found.stopping => {
                self.restate(place, found, now);
                self.send_off(place, found, services, now);
            }
            (Some(service), ContainerState::Exited { code, out_of_memory })
                if self.is_newest(place, found) =>
            {
                if taken {
                    self.raise_epoch(place, found);
                    let (task, container) = (found.task, found.container.clone());
                    let (epoch, created) = (found.epoch, found.created);
                    let template = found.template;
                    self.keep(place, Kept { task, template, container, epoch, created });
                    return;
                }
                if let (Some(job), Ok(spec)) = (&service.job, &service.spec) {
                    if spec.template != found.template {
                        self.tidy(found.task, found.container.clone());
                        return;
                    }
                    if job.ended.contains(place.slot) {
                        let (task, container) = (found.task, found.container.clone());
                        let (template, epoch, created) =
                            (found.template, found.epoch, found.created);
                        self.keep(place, Kept { task, template, container, epoch, created });
                        return;
                    }
                }
                self.adopt(place, found, service, now);
                self.exited(place, found, code, out_of_memory, services, now);
                // It ended while nobody looked (most likely with its host): that is no crash loop.
                if let Some(held) = self.held.get_mut(&place) {
                    held.failures = 0;
                    held.not_before = now.at;
                    held.restated = true;
                }
            }
            (_, ContainerState::Exited { .. }) => {
                self.raise_epoch(place, found);
                self.tidy(found.task, found.container.clone());
            }
            _ => self.send_off(place, found, services, now),
        }
    }

    fn is_newest(&self, place: Place, found: &Found) -> bool {
        let order = (found.epoch, found.created);
        self.kept.get(&place).is_none_or(|kept| (kept.epoch, kept.created) < order)
    }

    /// The slot was held under this epoch once: what is claimed now must not be older.
    fn raise_epoch(&mut self, place: Place, found: &Found) {
        if let Some(held) = self.held.get_mut(&place).filter(|held| held.epoch < found.epoch) {
            held.epoch = found.epoch;
            self.changed.insert(place.service);
        }
    }

    /// Takes a container over that an earlier process of this node started.
    fn adopt(&mut self, place: Place, found: &Found, service: &Service, now: Now) {
        let Some(mut recipe) = Recipe::of(service) else { return };
        recipe.template = found.template;
        self.names.insert(service.id, service.name().to_owned());
        self.hold(place, found.epoch, now.at, None);
        let run = Run {
            status: status_of(found, TaskState::Starting, "adopted", now),
            recipe,
            stage: Stage::Warming,
            since: now.at,
            running_since: Some(now.at),
            editions: None,
            refresh_at: now.at,
            addresses: found.addresses.clone(),
        };
        if let Some(held) = self.held.get_mut(&place) {
            held.run = Some(run);
            held.waits_for.take_if(|task| *task == found.task);
        }
    }

    /// An earlier process of this node was about to stop this, and may have been about to replace it: the
    /// slot stays claimed, as not ready, and whoever has a better claim takes it.
    fn restate(&mut self, place: Place, found: &Found, now: Now) {
        self.hold(place, found.epoch, now.at, None);
        if let Some(held) = self.held.get_mut(&place) {
            held.last = Some(status_of(found, TaskState::Shutdown, "being stopped", now));
            held.waits_for = Some(found.task);
            held.restated = true;
        }
    }

    /// A container that should not be there any more is stopped and removed.
    pub(crate) fn send_off(&mut self, place: Place, found: &Found, services: &Services, now: Now) {
        let status = status_of(found, TaskState::Shutdown, "left over", now);
        let leaving = Leaving::new(place, status, grace_of(services, place), now.at);
        let addresses = found.addresses.clone();
        self.send_out(Leaving { addresses, ..leaving }, now.at);
    }

    /// A stop that could not be carried out when it was decided. What still runs, was not begun to be
    /// stopped, and fills a slot that has nothing else here, is taken back; the next pass decides about
    /// it as about everything that is held. The rest is stopped now.
    pub(crate) fn decide_again(&mut self, found: &Found, services: &Services, now: Now) {
        let Some(leaving) = self.leaving.get_mut(&found.task) else { return };
        leaving.decide_again = false;
        leaving.status.container.get_or_insert_with(|| found.container.clone());
        let place = leaving.place;
        let wanted = services.get(place.service).is_some_and(|s| s.active().is_some());
        let taken = self.held.get(&place).is_some_and(Held::is_taken);
        let healthy = matches!(found.state, ContainerState::Running { health } if health != ContainerHealth::Unhealthy);
        let failed = self.gone.contains_key(&found.task);
        if wanted && !taken && healthy && !failed && !found.stopping {
            self.leaving.remove(&found.task);
            self.unknown(found, services, now);
        } else {
            self.push_stops(now.at);
        }
    }
}

fn status_of(found: &Found, state: TaskState, message: &str, now: Now) -> TaskStatus {
    TaskStatus {
        id: found.task,
        slot: found.slot,
        template: found.template,
        created: found.created,
        state,
        since: now.wall,
        message: message.to_owned(),
        error: None,
        container: Some(found.container.clone()),
        pid: found.pid,
        exit_code: None,
        ports: found.ports.clone(),
    }
}
