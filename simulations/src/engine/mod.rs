//! A simulated container engine with the part of the daemon that speaks to it.
//!
//! It does what docker and its driver do as far as the core can tell: starts take time and only a few
//! run at once, containers die, fall ill, or are removed by somebody else, the engine hangs or
//! restarts, the driver gives up after a deadline although the engine may still carry the call out.
//! Containers outlive the shoal process and die with their host.
//!
//! [`Engine`] keeps no clock: what is to happen later is handed to the caller in [`Out`] and comes back
//! through [`Engine::on`].

mod container;
mod job;
mod network;

pub use container::{Container, Manner};
pub use job::{Job, JobId};

use std::collections::{BTreeMap, VecDeque};

use membership::id::{NetworkId, ServiceId, TaskId};
use node::io::Input;
use node::network::engine::EngineNetwork;
use node::runtime::{
    ActionId, ActionResult, ContainerHealth, ContainerState, RuntimeAction, RuntimeEvent,
    StartFailure,
};
use node::slot::Place;

use crate::chance::Chance;
use crate::time::Span;

/// Starts of the shoal process on a host, counted: an answer to an earlier one reaches nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Boot(pub u64);

/// How many calls the driver has under way at once; more wait (the real one's knee is at 4 to 8).
const CALLS_AT_ONCE: usize = 8;
/// The driver gives a start or stop up after this.
const ACTION_DEADLINE: Span = Span::secs(60);
/// The driver says that the engine is lost when it was silent for this long.
const SILENCE: Span = Span::secs(10);

/// What the engine wants to be told later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineEvent {
    JobEnds(JobId),
    Deadline(JobId),
    /// The container falls over by itself. The number is its generation: a later one is not meant.
    Exits {
        container: String,
        generation: u64,
        code: i32,
    },
    Health {
        container: String,
        generation: u64,
        health: ContainerHealth,
    },
    /// The driver notices a silence that began with this hang.
    Silent {
        hang: u64,
    },
    /// The daemon of the engine is up again.
    Up {
        hang: u64,
    },
}

/// What an engine does to the world when it is called.
#[derive(Debug, Default)]
pub struct Out {
    pub later: Vec<(Span, EngineEvent)>,
    /// For the shoal process of this boot.
    pub inputs: Vec<(Boot, Input)>,
    /// For the checks.
    pub changes: Vec<Change>,
}

/// What became of a container, as an outsider asking the engine would see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub task: TaskId,
    pub place: Place,
    pub what: Became,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Became {
    Started,
    Ready,
    NotReady,
    /// It fell over by itself, turned unhealthy, or its image does not exist.
    Fell,
    /// It runs no more, or was asked to stop: what it reserved is free.
    Ended,
    Gone,
}

/// Whether the engine answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    #[default]
    Answers,
    /// Takes calls and answers none; what was under way stands still.
    Hangs,
    /// Its process is gone.
    Stopped,
}

/// How quick an engine is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineManner {
    pub start: (Span, Span),
    pub stop: (Span, Span),
    /// Starts that fail for no reason of the service's, per thousand.
    pub start_fails: u32,
    /// Events that never reach the driver, per thousand.
    pub events_lost: u32,
    /// Whatever is started dies within seconds.
    pub all_crash: bool,
    /// Services behave as their image says (crash, fall ill, ...); off after healing.
    pub images_act: bool,
}

impl Default for EngineManner {
    fn default() -> Self {
        Self {
            start: (Span::ms(200), Span::ms(1500)),
            stop: (Span::ms(50), Span::secs(2)),
            start_fails: 0,
            events_lost: 0,
            all_crash: false,
            images_act: true,
        }
    }
}

#[derive(Debug, Default)]
pub struct Engine {
    pub manner: EngineManner,
    mood: Mood,
    networks: BTreeMap<NetworkId, EngineNetwork>,
    /// Counts hangs and stops, so that a late notice of an earlier one is recognised.
    hang: u64,
    /// The driver has said that the engine is lost and not yet that it is back.
    said_lost: bool,
    containers: BTreeMap<String, Container>,
    /// `sim/slow` has been fetched once.
    has_slow_image: bool,
    next_container: u64,
    jobs: BTreeMap<JobId, Job>,
    next_job: u64,
    waiting: VecDeque<JobId>,
    running: usize,
    /// What came due while the engine hung.
    held: Vec<EngineEvent>,
    /// Whom to tell: the shoal process that is attached, if any.
    listener: Option<Boot>,
}

impl Engine {
    pub fn new(manner: EngineManner) -> Self {
        Self { manner, ..Self::default() }
    }

    pub fn mood(&self) -> Mood {
        self.mood
    }

    pub fn containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    pub fn jobs_of(&self, boot: Boot) -> impl Iterator<Item = &Job> {
        self.jobs.values().filter(move |job| job.boot == boot)
    }

    /// A shoal process attaches: it hears from now on what happens, and first whether the engine is
    /// there at all.
    pub fn attach(&mut self, boot: Boot, out: &mut Out) {
        self.listener = Some(boot);
        self.said_lost = self.mood == Mood::Stopped;
        if self.said_lost {
            self.tell(RuntimeEvent::EngineLost { reason: "connection refused".to_owned() }, out);
        } else {
            self.tell(RuntimeEvent::EngineBack { version: VERSION.to_owned() }, out);
        }
        if self.mood == Mood::Hangs {
            out.later.push((SILENCE, EngineEvent::Silent { hang: self.hang }));
        }
    }

    /// The shoal process is gone. Calls that wait are never made; of those under way the engine
    /// carries some out to the end, and leaves some between create and start.
    pub fn detach(&mut self, chance: &mut Chance) {
        self.listener = None;
        for id in std::mem::take(&mut self.waiting) {
            self.jobs.remove(&id);
        }
        for job in self.jobs.values_mut() {
            job.answered = true;
            job.half = chance.per_mille(300);
        }
    }

    fn tell(&mut self, event: RuntimeEvent, out: &mut Out) {
        if let Some(boot) = self.listener {
            out.inputs.push((boot, Input::Runtime(event)));
        }
    }

    /// An event of the event stream, which may be lost and says nothing while the engine hangs.
    fn tell_event(&mut self, event: RuntimeEvent, chance: &mut Chance, out: &mut Out) {
        if self.mood == Mood::Answers && !chance.per_mille(self.manner.events_lost) {
            self.tell(event, out);
        }
    }

    /// Takes an action of the core.
    pub fn act(
        &mut self,
        boot: Boot,
        id: ActionId,
        action: RuntimeAction,
        chance: &mut Chance,
        out: &mut Out,
    ) {
        if self.mood == Mood::Stopped {
            let result = job::refusal(&action, "connection refused");
            out.inputs.push((boot, Input::Done { id, result }));
            return;
        }
        let job_id = JobId(self.next_job);
        self.next_job += 1;
        self.jobs.insert(
            job_id,
            Job { boot, action_id: id, action, begun: false, answered: false, half: false },
        );
        self.waiting.push_back(job_id);
        out.later.push((ACTION_DEADLINE, EngineEvent::Deadline(job_id)));
        self.begin_waiting(chance, out);
    }

    fn begin_waiting(&mut self, chance: &mut Chance, out: &mut Out) {
        while self.mood == Mood::Answers && self.running < CALLS_AT_ONCE {
            let Some(id) = self.waiting.pop_front() else { return };
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.begun = true;
            self.running += 1;
            let takes = job.duration(self.manner, self.has_slow_image, chance);
            if let RuntimeAction::Stop { task, container, .. } = &job.action {
                let (task, container) = (*task, container.clone());
                self.begin_stop(task, &container, out);
            }
            out.later.push((takes, EngineEvent::JobEnds(id)));
        }
    }

    /// The container that an action means: by its id, or by the task in its labels where the answer
    /// that would have told the id was lost.
    fn named(&self, task: TaskId, container: &str) -> Option<String> {
        if self.containers.contains_key(container) {
            return Some(container.to_owned());
        }
        self.containers.values().find(|found| found.task == task).map(|found| found.id.clone())
    }

    /// From the first moment of a stop the container is not counted on any more.
    fn begin_stop(&mut self, task: TaskId, container: &str, out: &mut Out) {
        let Some(container) = self.named(task, container) else { return };
        if let Some(found) = self.containers.get_mut(&container) {
            found.stopping = true;
            found.marked = true;
            found.note(out);
        }
    }

    /// Something that was asked for in [`Out::later`] has come due.
    pub fn on(&mut self, event: EngineEvent, chance: &mut Chance, out: &mut Out) {
        match event {
            EngineEvent::Deadline(id) => self.deadline(id, chance, out),
            EngineEvent::Silent { hang } => {
                if self.hang == hang && self.mood == Mood::Hangs && !self.said_lost {
                    self.said_lost = true;
                    self.tell(
                        RuntimeEvent::EngineLost { reason: "no answer for 10 s".to_owned() },
                        out,
                    );
                }
            }
            EngineEvent::Up { hang } => {
                if self.hang == hang {
                    self.answers_again(chance, out);
                }
            }
            EngineEvent::JobEnds(_) if self.mood == Mood::Hangs => self.held.push(event),
            EngineEvent::JobEnds(id) => self.job_ends(id, chance, out),
            EngineEvent::Exits { container, generation, code } => {
                // A job that was to fail, and is healed before it does, does its work after all: it would
                // run for ever otherwise.
                let is_job = self.containers.get(&container).is_some_and(Container::is_job);
                let code = if is_job && !self.manner.images_act { 0 } else { code };
                if self.manner.images_act || code == 0 {
                    self.exits(&container, Some(generation), code, chance, out);
                }
            }
            EngineEvent::Health { container, generation, health } => {
                self.health(&container, generation, health, chance, out);
            }
        }
    }

    fn deadline(&mut self, id: JobId, chance: &mut Chance, out: &mut Out) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if !job.answered {
            job.answered = true;
            let result = job::refusal(&job.action, "no answer within 60 s");
            out.inputs.push((job.boot, Input::Done { id: job.action_id, result }));
        }
        if !job.begun {
            self.jobs.remove(&id);
            self.waiting.retain(|waiting| *waiting != id);
        }
        self.begin_waiting(chance, out);
    }

    fn job_ends(&mut self, id: JobId, chance: &mut Chance, out: &mut Out) {
        let Some(job) = self.jobs.remove(&id) else { return };
        self.running = self.running.saturating_sub(1);
        let result = match &job.action {
            RuntimeAction::Start(start) => self.start(start, job.half, chance, out),
            RuntimeAction::Prepare { template_json, .. } => self.fetched(template_json),
            RuntimeAction::Stop { task, container, .. }
            | RuntimeAction::Remove { task, container } => {
                if let Some(container) = self.named(*task, container) {
                    self.remove(&container, chance, out);
                }
                ActionResult::Stopped
            }
            RuntimeAction::Refresh { task, container, files } => {
                let name = self.named(*task, container);
                let found = name.and_then(|name| self.containers.get_mut(&name));
                if let Some(found) = found.filter(|found| found.is_running()) {
                    for file in &files.files {
                        found.configs.insert(file.id, file.content.clone());
                    }
                }
                ActionResult::Refreshed
            }
            RuntimeAction::Networks { wanted } => self.bring_networks(wanted.as_deref()),
            RuntimeAction::List => {
                ActionResult::Listed(self.containers.values().map(Container::found).collect())
            }
        };
        if !job.answered {
            out.inputs.push((job.boot, Input::Done { id: job.action_id, result }));
        }
        self.begin_waiting(chance, out);
    }

    fn start(
        &mut self,
        start: &node::runtime::StartTask,
        half: bool,
        chance: &mut Chance,
        out: &mut Out,
    ) -> ActionResult {
        let manner = Manner::of(&start.template_json);
        let manner = if self.manner.all_crash { manner.crashing() } else { manner };
        if let Err((why, message)) = self.may_start(start, &manner, chance) {
            if why == StartFailure::NoSuchImage {
                let place = Place { service: start.service, slot: start.slot };
                out.changes.push(Change { task: start.task, place, what: Became::Fell });
            }
            return ActionResult::StartFailed { why, message };
        }
        self.next_container += 1;
        self.has_slow_image |= manner == Manner::SlowPull;
        let id = format!("c{:06}", self.next_container);
        let mut container = Container::new(id.clone(), start, manner, self.next_container);
        if half {
            self.containers.insert(id, container);
            return ActionResult::Stopped;
        }
        self.make_networks(start);
        container.run(self.manner.images_act, chance, out);
        let found = container.found();
        container.note(out);
        self.containers.insert(id, container);
        self.tell_event(RuntimeEvent::Container(Box::new(found.clone())), chance, out);
        ActionResult::Started(Box::new(found))
    }

    fn may_start(
        &self,
        start: &node::runtime::StartTask,
        manner: &Manner,
        chance: &mut Chance,
    ) -> Result<(), (StartFailure, String)> {
        if self.containers.values().any(|other| other.name == start.name) {
            return Err((
                StartFailure::DidNotStart,
                format!("Conflict. The container name \"/{}\" is already in use", start.name),
            ));
        }
        if matches!(manner, Manner::Missing) && self.manner.images_act {
            return Err(no_such_image());
        }
        if chance.per_mille(self.manner.start_fails) {
            return Err((StartFailure::DidNotStart, "OCI runtime create failed".to_owned()));
        }
        if let Some(address) = self.address_in_use(start) {
            return Err((StartFailure::DidNotStart, format!("Address already in use: {address}")));
        }
        let taken = start.ports.iter().filter(|port| port.published != 0).find(|port| {
            self.containers.values().filter(|other| other.is_running()).any(|other| {
                other
                    .ports
                    .iter()
                    .any(|own| (own.protocol, own.published) == (port.protocol, port.published))
            })
        });
        match taken {
            Some(port) => Err((
                StartFailure::DidNotStart,
                format!("port {} is already allocated", port.published),
            )),
            None => Ok(()),
        }
    }

    fn exits(
        &mut self,
        container: &str,
        generation: Option<u64>,
        code: i32,
        chance: &mut Chance,
        out: &mut Out,
    ) {
        let Some(found) = self.containers.get_mut(container) else { return };
        if generation.is_some_and(|wanted| wanted != found.generation) || !found.is_running() {
            return;
        }
        if generation.is_some() {
            out.changes.push(found.change(Became::Fell));
        }
        found.state =
            ContainerState::Exited { code, out_of_memory: code == 137 && chance.per_mille(100) };
        found.note(out);
        let news = RuntimeEvent::Container(Box::new(found.found()));
        self.tell_event(news, chance, out);
    }

    fn health(
        &mut self,
        container: &str,
        generation: u64,
        health: ContainerHealth,
        chance: &mut Chance,
        out: &mut Out,
    ) {
        if health == ContainerHealth::Unhealthy && !self.manner.images_act {
            return;
        }
        let Some(found) = self.containers.get_mut(container) else { return };
        if found.generation != generation || !found.is_running() {
            return;
        }
        if health == ContainerHealth::Unhealthy {
            out.changes.push(found.change(Became::Fell));
        }
        found.state = ContainerState::Running { health };
        found.note(out);
        let news = RuntimeEvent::Container(Box::new(found.found()));
        self.tell_event(news, chance, out);
    }

    fn remove(&mut self, container: &str, chance: &mut Chance, out: &mut Out) {
        let Some(mut gone) = self.containers.remove(container) else { return };
        if gone.is_running() {
            gone.state = ContainerState::Exited { code: 143, out_of_memory: false };
            let news = RuntimeEvent::Container(Box::new(gone.found()));
            self.tell_event(news, chance, out);
        }
        gone.note(out);
        out.changes.push(gone.change(Became::Gone));
        self.tell_event(RuntimeEvent::Removed { task: gone.task, container: gone.id }, chance, out);
    }

    /// Somebody on the host removes a container without asking shoal.
    pub fn remove_behind(&mut self, container: &str, chance: &mut Chance, out: &mut Out) {
        if self.mood == Mood::Answers {
            self.remove(container, chance, out);
        }
    }

    /// The process inside dies.
    pub fn kill(&mut self, container: &str, chance: &mut Chance, out: &mut Out) {
        self.exits(container, None, 137, chance, out);
    }

    /// Stops answering. [`EngineEvent::Up`] is up to the caller, see [`Engine::recover`].
    pub fn hang(&mut self, out: &mut Out) {
        if self.mood == Mood::Answers {
            self.mood = Mood::Hangs;
            self.hang += 1;
            out.later.push((SILENCE, EngineEvent::Silent { hang: self.hang }));
        }
    }

    /// Its process ends; without live-restore it takes its containers down. Everything under way
    /// fails at once.
    pub fn stop(&mut self, containers_too: bool, chance: &mut Chance, out: &mut Out) {
        if self.mood == Mood::Stopped {
            return;
        }
        self.mood = Mood::Stopped;
        self.hang += 1;
        self.running = 0;
        self.held.clear();
        self.waiting.clear();
        for (_, job) in std::mem::take(&mut self.jobs) {
            if !job.answered {
                let result = job::refusal(&job.action, "EOF");
                out.inputs.push((job.boot, Input::Done { id: job.action_id, result }));
            }
        }
        // A stop that was under way ends with the engine that carried it out.
        for container in self.containers.values_mut().filter(|container| container.is_running()) {
            container.stopping = false;
            container.note(out);
        }
        if containers_too {
            let all: Vec<String> = self.containers.keys().cloned().collect();
            all.iter().for_each(|container| self.exits(container, None, 137, chance, out));
        }
        if !self.said_lost {
            self.said_lost = true;
            self.tell(RuntimeEvent::EngineLost { reason: "event stream ended".to_owned() }, out);
        }
    }

    /// Answers again, now.
    pub fn recover(&mut self, chance: &mut Chance, out: &mut Out) {
        self.answers_again(chance, out);
    }

    fn answers_again(&mut self, chance: &mut Chance, out: &mut Out) {
        if self.mood == Mood::Answers {
            return;
        }
        self.mood = Mood::Answers;
        self.hang += 1;
        for event in std::mem::take(&mut self.held) {
            self.on(event, chance, out);
        }
        if self.said_lost {
            self.said_lost = false;
            self.tell(RuntimeEvent::EngineBack { version: VERSION.to_owned() }, out);
        }
        self.begin_waiting(chance, out);
    }

    /// Power is gone: everything in memory with it. Containers are found exited at the next boot.
    pub fn power_lost(&mut self, chance: &mut Chance, out: &mut Out) {
        self.listener = None;
        let mut silent = Out::default();
        self.stop(true, chance, &mut silent);
        out.changes.append(&mut silent.changes);
        self.said_lost = false;
    }

    /// The disk was replaced: no containers are left.
    pub fn wipe(&mut self, out: &mut Out) {
        self.networks.clear();
        for (_, mut gone) in std::mem::take(&mut self.containers) {
            gone.stopping = true;
            gone.note(out);
            out.changes.push(gone.change(Became::Gone));
        }
    }

    /// The number of containers of a service that run here and are not being stopped.
    pub fn running_of(&self, service: ServiceId) -> usize {
        self.containers
            .values()
            .filter(|c| c.service == service && c.is_running() && !c.stopping)
            .count()
    }
}

fn no_such_image() -> (StartFailure, String) {
    (StartFailure::NoSuchImage, "No such image".to_owned())
}

const VERSION: &str = "28.0.0-simulated";

#[cfg(test)]
mod tests;
