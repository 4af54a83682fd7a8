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
use crate::network::Handout;
use crate::noted::Noted;
use crate::restart::decide_restart;
use crate::runtime::{ActionId, RuntimeAction};
use crate::services::Service;
use crate::settings::Settings;
use crate::slot::{Claim, Epoch, Place, Slot, TaskState, TaskStatus, short_text};
use crate::spec::Restart;
use crate::start::{Recipe, Starter, start_task};

/// What an action in flight is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Prepare(Place, TaskId),
    Start(Place, TaskId),
    Stop(TaskId),
    /// The engine's networks are looked at, and brought in step with what is wanted.
    Networks,
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
    pub(crate) held: Noted<BTreeMap<Place, Held>>,
    pub(crate) leaving: Noted<BTreeMap<TaskId, Leaving>>,
    /// When something of these two is due next, for as long as nobody touches them.
    due: Option<Instant>,
    pub(crate) history: BTreeMap<ServiceId, Vec<TaskStatus>>,
    /// How many tasks of a slot are told of, with the one that it has now.
    pub(crate) retention: usize,
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
            held: Noted::default(),
            leaving: Noted::default(),
            due: None,
            history: BTreeMap::new(),
            retention: settings.history,
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
        self.tidy_kept(place);
        self.changed.insert(place.service);
    }

    /// Forgets the claim on a slot whose work is done. Its container is kept for its logs.
    pub(crate) fn retire(&mut self, place: Place) {
        self.held.remove(&place);
        self.changed.insert(place.service);
    }

    /// Removes the container that was kept of a slot.
    pub(crate) fn tidy_kept(&mut self, place: Place) {
        if let Some(Kept { task, container, .. }) = self.kept.remove(&place) {
            self.tidy(task, container);
        }
    }

    /// The slots of a service of which an ended container is kept.
    pub(crate) fn kept_places(&self, service: ServiceId) -> Vec<Place> {
        self.kept.range(first_place(service)..=last_place(service)).map(|(p, _)| *p).collect()
    }

    /// Sends a run on its way out, whatever stage it is in.
    pub(crate) fn stop_run(&mut self, place: Place, run: Run, now: Now, why: &str, grace: Millis) {
        let (ahead, starting) = (run.is_ahead(), matches!(run.stage, Stage::Starting(_)));
        // Whoever sends it work hears that it goes before it goes.
        let drains = run.recipe.drains && run.is_ready() && !run.addresses.is_empty();
        let at = if drains { now.at + self.settings.drain() } else { now.at };
        let addresses = run.addresses;
        let mut status = run.status;
        status.state = TaskState::Shutdown;
        status.since = now.wall;
        status.message = short_text(why);
        self.log(place, &status);
        if ahead {
            return;
        }
        self.send_out(
            Leaving { starting, addresses, ..Leaving::new(place, status, grace, at) },
            now.at,
        );
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
        if !self.engine_ok || self.rests(at) {
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
            addresses: Vec::new(),
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
        handout: &mut Handout,
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
            .filter(|(_, held)| held.settles_at.is_none_or(|at| at <= now.at))
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
                self.start(place, task, &service, assets, handout, now);
                room -= self.doing.len().saturating_sub(before).min(room);
            }
        }
    }

    fn start(
        &mut self,
        place: Place,
        task: TaskId,
        service: &Service,
        assets: &Assets,
        handout: &mut Handout,
        now: Now,
    ) {
        let Some(held) = self.held.get(&place) else { return };
        let epoch = held.epoch;
        let Some(run) = held.runs().find(|r| r.id() == task) else { return };
        let created = run.status.created;
        let template = Arc::clone(&run.recipe.template_json);
        let files = match TaskFiles::gather(&template, assets) {
            Ok(files) => files,
            // The record of the service may come before those of its secrets and configs.
            Err(why) => {
                let what = "waiting for what it is to get as files";
                return self.wait_for(place, task, what, &why, now);
            }
        };
        let given = match handout.give(&run.recipe, &run.addresses) {
            Ok(given) => given,
            Err(why) => {
                let what = "waiting for an address";
                return self.wait_for(place, task, what, &why, now);
            }
        };
        let addresses = given.networks.iter().map(|n| (n.network.id, n.address)).collect();
        let order = start_task(
            &self.starter,
            service,
            place,
            epoch,
            task,
            created,
            &run.recipe,
            files,
            given,
        );
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
            // Ordered again, an engine may find what it made at the first order: with the files of then.
            run.editions.get_or_insert_with(|| editions(&template, assets));
            run.addresses = addresses;
            run.status.error = None;
            run.set(TaskState::Preparing, "preparing", now.wall);
        }
        self.changed.insert(place.service);
    }

    fn wait_for(&mut self, place: Place, task: TaskId, what: &str, why: &str, now: Now) {
        let Some(run) = self.run_mut(place, task) else { return };
        if run.status.error.as_deref() != Some(why) {
            run.set(TaskState::Assigned, what, now.wall);
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
        let (task, template, created) = (status.id, status.template, status.created);
        self.keep(place, Kept { task, template, container, epoch, created });
    }

    pub(crate) fn keep(&mut self, place: Place, kept: Kept) {
        if let Some(Kept { task, container, .. }) = self.kept.insert(place, kept) {
            self.tidy(task, container);
        }
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
        if self.rests(at) {
            return Vec::new();
        }
        let due = |h: &Held| {
            h.run.is_none() && h.outcome.is_none() && h.waits_for.is_none() && h.not_before <= at
        };
        let mut services: Vec<ServiceId> =
            self.held.iter().filter(|(_, h)| due(h)).map(|(place, _)| place.service).collect();
        services.dedup();
        services
    }

    /// Nothing here has been touched since it was worked out what is due next, and that is yet to come.
    pub(crate) fn rests(&self, at: Instant) -> bool {
        self.is_known() && self.due.is_none_or(|due| due > at)
    }

    fn is_known(&self) -> bool {
        !self.is_touched()
    }

    /// What is held or on its way out may have changed.
    pub(crate) fn is_touched(&self) -> bool {
        self.held.is_touched() || self.leaving.is_touched()
    }

    /// Works out what is due next and keeps it, where something was touched.
    pub(crate) fn note_due(&mut self) {
        if !self.is_known() {
            self.due = self.work_out_due();
            self.held.note();
            self.leaving.note();
        }
    }

    /// The next time at which something here is due.
    pub(crate) fn next_wake(&self) -> Option<Instant> {
        if !self.is_known() {
            return self.work_out_due();
        }
        debug_assert_eq!(self.due, self.work_out_due(), "kept, and not what it would be now");
        self.due
    }

    fn work_out_due(&self) -> Option<Instant> {
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

fn first_place(service: ServiceId) -> Place {
    Place { service, slot: Slot::Index(0) }
}

fn last_place(service: ServiceId) -> Place {
    Place { service, slot: Slot::Node(NodeId(u128::MAX)) }
}
