//! The slots this node holds and the containers it runs for them: the transitions.
//!
//! `Local` knows nothing of other nodes. The reconciler tells it which slots to hold, refresh and
//! release; the runtime tells it what became of containers; it answers with runtime actions and with
//! the claims and history that the others shall know. A task is one attempt and is never restarted:
//! when it ends, a new one fills the slot after a delay that grows with each failure in a row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership::id::{NodeId, ServiceId, TaskId};
use membership::time::{Instant, Millis, Now};
use rand::{Rng, RngExt};

use crate::assets::Assets;
use crate::containers::NO_RESTART;
use crate::files::{Editions, TaskFiles, editions};
use crate::held::{Held, Kept, Leaving, Run, Stage};
use crate::runtime::{ActionId, RuntimeAction};
use crate::services::Service;
use crate::settings::Settings;
use crate::slot::{Claim, Epoch, Place, Slot, TaskState, TaskStatus, short_text};
use crate::spec::{Restart, RestartCondition};
use crate::start::{Recipe, Starter, start_task};

/// What an action in flight is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Prepare(Place, TaskId),
    Start(Place, TaskId),
    Stop(TaskId),
    /// The files of a running task are brought to these editions of its configs.
    Refresh {
        place: Place,
        task: TaskId,
        editions: Editions,
    },
    /// What an ended task left behind is removed; nobody waits for it.
    Tidy,
    List {
        asked: Instant,
    },
}

/// A task that entered a new state, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) place: Place,
    pub(crate) task: TaskId,
    pub(crate) state: TaskState,
    pub(crate) text: String,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(crate) struct End {
    pub(crate) state: TaskState,
    pub(crate) exit_code: Option<i32>,
    pub(crate) text: String,
    /// Counts as a failure (a removed container or a bad exit), not as a success.
    pub(crate) failed: bool,
}

#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) held: BTreeMap<Place, Held>,
    pub(crate) leaving: BTreeMap<TaskId, Leaving>,
    pub(crate) history: BTreeMap<ServiceId, Vec<TaskStatus>>,
    pub(crate) kept: BTreeMap<Place, Kept>,
    /// Tasks that ended a short while ago, and when.
    pub(crate) gone: BTreeMap<TaskId, Instant>,
    pub(crate) doing: BTreeMap<ActionId, Doing>,
    pub(crate) engine_ok: bool,
    /// What the services of the tasks here are called: a removed one is still spoken of for a while.
    pub(crate) names: BTreeMap<ServiceId, String>,
    /// What the engine was heard to say may be older than this: until it has listed everything anew,
    /// nothing that serves is stopped for it.
    pub(crate) look_since: Option<Instant>,
    /// Services whose claims or history changed since the last publication.
    pub(crate) changed: BTreeSet<ServiceId>,
    pub(crate) changes: Vec<Change>,
    pub(crate) out: Vec<(ActionId, RuntimeAction)>,
    next_action: u64,
    pub(crate) settings: Settings,
    pub(crate) starter: Starter,
}

impl Local {
    pub(crate) fn new(settings: Settings, starter: Starter) -> Self {
        Self {
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            history: BTreeMap::new(),
            kept: BTreeMap::new(),
            gone: BTreeMap::new(),
            doing: BTreeMap::new(),
            engine_ok: true,
            names: BTreeMap::new(),
            look_since: None,
            changed: BTreeSet::new(),
            changes: Vec::new(),
            out: Vec::new(),
            next_action: 0,
            settings,
            starter,
        }
    }

    pub(crate) fn act(&mut self, doing: Doing, action: RuntimeAction) -> ActionId {
        self.next_action += 1;
        let id = ActionId(self.next_action);
        self.doing.insert(id, doing);
        self.out.push((id, action));
        id
    }

    pub(crate) fn list(&mut self, at: Instant) {
        if !self.doing.values().any(|d| matches!(d, Doing::List { .. })) {
            self.act(Doing::List { asked: at }, RuntimeAction::List);
        }
    }

    pub(crate) fn log(&mut self, place: Place, status: &TaskStatus) {
        let text = status.error.clone().unwrap_or_else(|| status.message.clone());
        self.changes.push(Change { place, task: status.id, state: status.state, text });
        self.changed.insert(place.service);
    }

    /// Claims a slot. The caller has made sure that nobody better does.
    pub(crate) fn hold(
        &mut self,
        place: Place,
        epoch: Epoch,
        at: Instant,
        relieves: Option<NodeId>,
    ) {
        let held = self.held.entry(place).or_insert_with(|| Held::new(epoch, at));
        held.epoch = held.epoch.max(epoch);
        held.relieves = relieves;
        self.changed.insert(place.service);
    }

    /// Gives a slot up: stops what runs for it and forgets the claim.
    pub(crate) fn release(&mut self, place: Place, now: Now, why: &str, grace: Millis) {
        let Some(held) = self.held.remove(&place) else { return };
        for run in held.run.into_iter().chain(held.next) {
            self.stop_run(place, run, now, why, grace);
        }
        if let Some(Kept { task, container, .. }) = self.kept.remove(&place) {
            self.tidy(task, container);
        }
        self.changed.insert(place.service);
    }

    /// Sends a run on its way out, whatever stage it is in.
    pub(crate) fn stop_run(&mut self, place: Place, run: Run, now: Now, why: &str, grace: Millis) {
        let (ahead, starting) = (run.is_ahead(), matches!(run.stage, Stage::Starting(_)));
        let mut status = run.status;
        status.state = TaskState::Shutdown;
        status.since = now.wall;
        status.message = short_text(why);
        self.log(place, &status);
        if ahead {
            return;
        }
        self.send_out(Leaving { starting, ..Leaving::new(place, status, grace, now.at) }, now.at);
    }

    /// Stops a container, now or as soon as the engine can be asked to.
    pub(crate) fn send_out(&mut self, leaving: Leaving, at: Instant) {
        self.leaving.insert(leaving.status.id, leaving);
        self.push_stops(at);
    }

    /// Removes what an ended task left behind.
    pub(crate) fn tidy(&mut self, task: TaskId, container: String) {
        self.act(Doing::Tidy, RuntimeAction::Remove { task, container });
    }

    /// Issues the stops that are due.
    pub(crate) fn push_stops(&mut self, at: Instant) {
        if !self.engine_ok {
            return;
        }
        let due: Vec<TaskId> = self
            .leaving
            .iter()
            .filter(|(_, l)| l.is_waiting() && l.retry_at <= at)
            .map(|(id, _)| *id)
            .collect();
        for task in due {
            let Some(leaving) = self.leaving.get(&task) else { continue };
            let grace = leaving.grace;
            // A start whose answer was lost has no container id; its name and labels find it.
            let container = leaving.status.container.clone().unwrap_or_default();
            let id = self.act(Doing::Stop(task), RuntimeAction::Stop { task, container, grace });
            if let Some(leaving) = self.leaving.get_mut(&task) {
                leaving.action = Some(id);
                leaving.tries += 1;
            }
        }
    }

    /// A new attempt for a slot that has none and may have one. `next`: beside the one that runs.
    pub(crate) fn attempt(
        &mut self,
        place: Place,
        service: &Service,
        now: Now,
        rng: &mut impl Rng,
        next: bool,
    ) {
        let Some(recipe) = Recipe::of(service) else { return };
        self.names.insert(service.id, service.name().to_owned());
        let Some(held) = self.held.get_mut(&place) else { return };
        let status = TaskStatus {
            id: TaskId(rng.random()),
            slot: place.slot,
            template: recipe.template,
            created: now.wall,
            state: TaskState::Assigned,
            since: now.wall,
            message: "waiting for its turn to start".to_owned(),
            error: None,
            container: None,
            pid: None,
            exit_code: None,
            ports: Vec::new(),
        };
        let run = Run {
            status,
            recipe,
            stage: Stage::Queued,
            since: now.at,
            running_since: None,
            editions: None,
            refresh_at: now.at,
        };
        if next {
            held.next = Some(run);
        } else {
            held.run = Some(run);
        }
        self.changed.insert(place.service);
    }

    /// Starts queued attempts while there is room for more at once.
    pub(crate) fn start_queued(
        &mut self,
        now: Now,
        assets: &Assets,
        service: impl Fn(ServiceId) -> Option<Service>,
    ) {
        let busy = self.doing.values().filter(|d| matches!(d, Doing::Start(..))).count();
        let room = self.settings.max_starting.saturating_sub(busy);
        if room == 0 || !self.engine_ok {
            return;
        }
        // What runs in a slot and was to be stopped may yet be what fills it.
        let undecided: BTreeSet<Place> =
            self.leaving.values().filter(|l| l.decide_again).map(|l| l.place).collect();
        let queued: Vec<(Place, TaskId)> = self
            .held
            .iter()
            .filter(|(place, _)| !undecided.contains(place))
            .filter(|(_, held)| held.waits_for.is_none())
            .flat_map(|(place, held)| held.runs().map(|run| (*place, run)))
            .filter(|(_, run)| run.stage == Stage::Queued)
            .map(|(place, run)| (place, run.id()))
            .collect();
        let mut known: BTreeMap<ServiceId, Option<Service>> = BTreeMap::new();
        let mut room = room;
        for (place, task) in queued {
            if room == 0 {
                return;
            }
            let service =
                known.entry(place.service).or_insert_with(|| service(place.service)).clone();
            if let Some(service) = service {
                // What waits for a file takes no room from what can start.
                let before = self.doing.len();
                self.start(place, task, &service, assets, now);
                room -= self.doing.len().saturating_sub(before).min(room);
            }
        }
    }

    fn start(&mut self, place: Place, task: TaskId, service: &Service, assets: &Assets, now: Now) {
        let Some(held) = self.held.get(&place) else { return };
        let epoch = held.epoch;
        let Some(run) = held.runs().find(|r| r.id() == task) else { return };
        let created = run.status.created;
        let template = Arc::clone(&run.recipe.template_json);
        let files = match TaskFiles::gather(&template, assets) {
            Ok(files) => files,
            // The record of the service may come before those of its secrets and configs.
            Err(why) => return self.wait_for_files(place, task, &why, now),
        };
        let order =
            start_task(&self.starter, service, place, epoch, task, created, &run.recipe, files);
        let order = match order {
            Ok(order) => order,
            Err(why) => {
                let end = End {
                    state: TaskState::Rejected,
                    exit_code: None,
                    text: why.to_string(),
                    failed: true,
                };
                let restart = service.active().map_or(NO_RESTART, |spec| spec.restart);
                self.ended(place, task, &end, restart, now);
                return;
            }
        };
        let id = self.act(Doing::Start(place, task), RuntimeAction::Start(Box::new(order)));
        let found = self.held.get_mut(&place).and_then(|h| h.runs_mut().find(|r| r.id() == task));
        if let Some(run) = found {
            run.stage = Stage::Starting(id);
            run.since = now.at;
            run.editions = Some(editions(&template, assets));
            run.status.error = None;
            run.set(TaskState::Preparing, "preparing", now.wall);
        }
        self.changed.insert(place.service);
    }

    fn wait_for_files(&mut self, place: Place, task: TaskId, why: &str, now: Now) {
        let Some(run) = self.run_mut(place, task) else { return };
        if run.status.error.as_deref() != Some(why) {
            run.set(TaskState::Assigned, "waiting for what it is to get as files", now.wall);
            run.status.error = Some(short_text(why));
            self.changed.insert(place.service);
        }
    }

    /// Which slot a present attempt belongs to.
    pub(crate) fn place_of(&self, task: TaskId) -> Option<Place> {
        self.held
            .iter()
            .find(|(_, held)| held.runs().any(|run| run.id() == task))
            .map(|(place, _)| *place)
    }

    pub(crate) fn run_mut(&mut self, place: Place, task: TaskId) -> Option<&mut Run> {
        self.held.get_mut(&place)?.runs_mut().find(|run| run.id() == task)
    }

    /// An attempt is over. Decides what follows from the restart policy.
    pub(crate) fn ended(
        &mut self,
        place: Place,
        task: TaskId,
        end: &End,
        restart: Restart,
        now: Now,
    ) {
        let settings = self.settings.clone();
        let Some(held) = self.held.get_mut(&place) else { return };
        let was_next = held.next.as_ref().is_some_and(|r| r.id() == task);
        let run = if was_next { held.next.take() } else { held.run.take_if(|r| r.id() == task) };
        let Some(mut run) = run else { return };
        run.status.exit_code = end.exit_code.or(run.status.exit_code);
        run.set(end.state, "ended", now.wall);
        run.status.error = Some(short_text(&end.text)).filter(|t| !t.is_empty());
        let lived = run.running_since.map_or(Millis::ZERO, |since| now.at.since(since));
        if lived >= settings.stable_after {
            held.failures = 0;
        }
        let again = decide_restart(held, end, restart, &settings, now);
        self.gone.insert(task, now.at);
        held.last = Some(run.status.clone());
        if !again && !was_next {
            held.outcome = Some(run.status.clone());
        }
        if !was_next {
            held.unready_since = now.at;
        }
        let epoch = held.epoch;
        self.keep_container(place, &run.status, epoch);
        self.remember(place.service, run.status.clone());
        self.log(place, &run.status);
    }

    /// Keeps the last ended container of a slot for its logs and removes the one before.
    fn keep_container(&mut self, place: Place, status: &TaskStatus, epoch: Epoch) {
        let Some(container) = status.container.clone() else { return };
        self.keep(place, Kept { task: status.id, container, epoch, created: status.created });
    }

    pub(crate) fn keep(&mut self, place: Place, kept: Kept) {
        if let Some(Kept { task, container, .. }) = self.kept.insert(place, kept) {
            self.tidy(task, container);
        }
    }

    /// Adds an ended task to the history, newest first, and drops what exceeds the limit of its slot.
    pub(crate) fn remember(&mut self, service: ServiceId, status: TaskStatus) {
        let limit = self.settings.history;
        let slot = status.slot;
        let list = self.history.entry(service).or_default();
        list.retain(|old| old.id != status.id);
        list.insert(0, status);
        let mut seen = 0;
        list.retain(|old| {
            if old.slot == slot {
                seen += 1;
            }
            old.slot != slot || seen <= limit
        });
        list.truncate(HISTORY_PER_SERVICE);
        self.changed.insert(service);
    }

    /// This node's claims on a service.
    pub(crate) fn claims(&self, service: ServiceId) -> BTreeMap<Slot, Claim> {
        self.held
            .range(first_place(service)..=last_place(service))
            .filter_map(|(place, held)| Some((place.slot, held.claim(place.slot)?)))
            .collect()
    }

    /// Whether any slot of a service is held.
    pub(crate) fn holds(&self, service: ServiceId) -> bool {
        self.held.range(first_place(service)..=last_place(service)).next().is_some()
    }

    pub(crate) fn places(&self, service: ServiceId) -> Vec<Place> {
        self.held.range(first_place(service)..=last_place(service)).map(|(p, _)| *p).collect()
    }

    /// Services with a slot whose restart delay is over.
    pub(crate) fn due_services(&self, at: Instant) -> Vec<ServiceId> {
        let due = |h: &Held| {
            h.run.is_none() && h.outcome.is_none() && h.waits_for.is_none() && h.not_before <= at
        };
        let mut services: Vec<ServiceId> =
            self.held.iter().filter(|(_, h)| due(h)).map(|(place, _)| place.service).collect();
        services.dedup();
        services
    }

    /// The next time at which something here is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        let stops = self.leaving.values().filter(|l| l.is_waiting()).map(|l| l.retry_at);
        let delays = self
            .held
            .values()
            .filter(|h| h.run.is_none() && h.outcome.is_none() && h.waits_for.is_none())
            .map(|h| h.not_before);
        let late = self
            .held
            .values()
            .flat_map(Held::runs)
            .filter(|r| matches!(r.stage, Stage::Warming | Stage::Starting(_)))
            .map(|r| r.since + self.settings.start_timeout);
        stops.chain(delays).chain(late).min()
    }
}

/// The most ended tasks of one service that one node tells of: its history has to fit one fact.
pub(crate) const HISTORY_PER_SERVICE: usize = 40;

fn first_place(service: ServiceId) -> Place {
    Place { service, slot: Slot::Index(0) }
}

fn last_place(service: ServiceId) -> Place {
    Place { service, slot: Slot::Node(NodeId(u128::MAX)) }
}

/// Whether another attempt follows, and not before when. Counts the failure.
fn decide_restart(
    held: &mut Held,
    end: &End,
    restart: Restart,
    settings: &Settings,
    now: Now,
) -> bool {
    if end.failed {
        held.failures = held.failures.saturating_add(1);
    }
    let again = match restart.condition {
        RestartCondition::Any => true,
        RestartCondition::OnFailure => end.failed,
        RestartCondition::Never => false,
    };
    held.failed_at.push(now.at);
    if let Some(window) = restart.window {
        held.failed_at.retain(|at| now.at.since(*at) <= window);
    }
    // One attempt is the first start, each further one a restart.
    let restarts = u64::try_from(held.failed_at.len()).unwrap_or(u64::MAX);
    if held.failed_at.len() > MAX_COUNTED {
        held.failed_at.remove(0);
    }
    held.not_before = now.at + delay(held.failures, restart.delay, settings);
    again && (restart.max_attempts == 0 || restarts <= restart.max_attempts)
}

/// How many ends are remembered for `MaxAttempts`.
const MAX_COUNTED: usize = 1_000;

/// The restart delay: the spec's (or this node's) for the first failure, doubled with each further
/// one in a row, up to the node's limit or the spec's own delay where that is longer. A clean exit
/// waits the plain delay.
fn delay(failures: u32, wanted: Option<Millis>, settings: &Settings) -> Millis {
    let base = wanted.unwrap_or(settings.restart_delay);
    let most = base.max(settings.restart_delay_max);
    let doubled = base * (1u64 << failures.saturating_sub(1).min(16));
    doubled.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let settings = Settings::lan();
        let of = |n| delay(n, None, &settings);
        assert_eq!([of(0), of(1), of(2), of(3)], [500, 500, 1000, 2000].map(Millis));
        assert_eq!(of(40), settings.restart_delay_max);
        let own = Some(Millis(90_000));
        assert_eq!(delay(9, own, &settings), Millis(90_000));
    }
}
