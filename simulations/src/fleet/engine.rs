//! The engines of a large cluster: as slow as those of the ordinary simulation ([`crate::engine`]), with so
//! little in each container that a million fit. They do not fail, and images do nothing of their own.

use std::collections::{BTreeMap, VecDeque};

use membership::id::TaskId;
use membership::time::Wall;
use node::runtime::{
    ActionId, ActionResult, ContainerHealth, ContainerState, Found, RuntimeAction,
};
use node::slot::{Epoch, Place, TemplateId};

use crate::chance::Chance;
use crate::engine::EngineManner;
use crate::time::Span;

/// Calls under way at once, as in the ordinary simulation.
const CALLS_AT_ONCE: usize = 8;

#[derive(Clone, Copy, Debug)]
pub struct Container {
    pub place: Place,
    pub epoch: Epoch,
    pub template: TemplateId,
    pub created: Wall,
    pub number: u32,
    /// Given up by its node: it is not counted on any more.
    pub given_up: bool,
}

/// One call of a driver.
#[derive(Clone, Copy, Debug)]
pub enum Call {
    Prepare,
    /// No service of a fleet has files: there is nothing to bring up to date.
    Refresh,
    Start(TaskId),
    Stop(TaskId),
    List,
}

#[derive(Debug, Default)]
pub struct Engine {
    containers: BTreeMap<TaskId, Container>,
    starting: BTreeMap<TaskId, Container>,
    waiting: VecDeque<(ActionId, Call)>,
    running: usize,
    numbers: u32,
}

impl Engine {
    /// Puts a container there that has been running since before.
    pub fn has(&mut self, task: TaskId, mut container: Container) {
        self.numbers += 1;
        container.number = self.numbers;
        self.containers.insert(task, container);
    }

    pub fn containers(&self) -> impl Iterator<Item = (TaskId, &Container)> {
        self.containers.iter().map(|(task, container)| (*task, container))
    }

    /// What is being started.
    pub fn starting(&self) -> impl Iterator<Item = &Container> {
        self.starting.values()
    }

    pub fn starts(&self, task: TaskId) -> Option<&Container> {
        self.starting.get(&task)
    }

    /// A node says that it gives a task up; the stop comes later if it is still being started. Gives what
    /// was counted on so far, if anything was.
    pub fn give_up(&mut self, task: TaskId) -> Option<Container> {
        let container = self.containers.get_mut(&task).filter(|found| !found.given_up);
        if let Some(container) = container {
            container.given_up = true;
            return Some(*container);
        }
        let starting = self.starting.get_mut(&task).filter(|found| !found.given_up)?;
        starting.given_up = true;
        None
    }

    /// Takes an action of a core.
    pub fn act(&mut self, id: ActionId, action: &RuntimeAction) {
        let call = match action {
            RuntimeAction::Start(start) => {
                self.numbers += 1;
                let container = Container {
                    place: Place { service: start.service, slot: start.slot },
                    epoch: start.epoch,
                    template: start.template,
                    created: start.created,
                    number: self.numbers,
                    given_up: false,
                };
                self.starting.insert(start.task, container);
                Call::Start(start.task)
            }
            RuntimeAction::Stop { task, .. } | RuntimeAction::Remove { task, .. } => {
                Call::Stop(*task)
            }
            RuntimeAction::Prepare { .. } => Call::Prepare,
            RuntimeAction::Refresh { .. } => Call::Refresh,
            // There are no networks in a fleet: nothing is ever wanted of them.
            RuntimeAction::List | RuntimeAction::Networks { .. } => Call::List,
        };
        self.waiting.push_back((id, call));
    }

    /// The calls that begin now, with how long they take.
    pub fn begin(
        &mut self,
        manner: EngineManner,
        chance: &mut Chance,
    ) -> Vec<(Span, ActionId, Call)> {
        let mut begun = Vec::new();
        while self.running < CALLS_AT_ONCE {
            let Some((id, call)) = self.waiting.pop_front() else { break };
            self.running += 1;
            let takes = match call {
                Call::Start(_) => chance.tailed(manner.start.0, manner.start.1),
                Call::Stop(_) => chance.tailed(manner.stop.0, manner.stop.1),
                // Its image is there: nothing to fetch.
                Call::Prepare | Call::Refresh => chance.tailed(Span::ms(2), Span::ms(50)),
                Call::List => chance.tailed(Span::ms(5), Span::ms(100)),
            };
            begun.push((takes, id, call));
        }
        begun
    }

    /// A call is over: its answer.
    pub fn end(&mut self, call: Call, name: impl Fn(Place) -> String) -> ActionResult {
        self.running -= 1;
        match call {
            Call::Start(task) => match self.starting.remove(&task) {
                Some(container) => {
                    self.containers.insert(task, container);
                    ActionResult::Started(Box::new(found(task, &container, &name)))
                }
                None => ActionResult::Stopped,
            },
            Call::Stop(task) => {
                self.containers.remove(&task);
                ActionResult::Stopped
            }
            Call::Prepare => ActionResult::Prepared,
            Call::Refresh => ActionResult::Refreshed,
            Call::List => self.listed(name),
        }
    }

    pub fn listed(&self, name: impl Fn(Place) -> String) -> ActionResult {
        ActionResult::Listed(self.containers().map(|(task, c)| found(task, c, &name)).collect())
    }
}

fn found(task: TaskId, container: &Container, name: &impl Fn(Place) -> String) -> Found {
    Found {
        container: format!("c{}", container.number),
        task,
        service: container.place.service,
        service_name: name(container.place),
        slot: container.place.slot,
        epoch: container.epoch,
        template: container.template,
        created: container.created,
        state: ContainerState::Running { health: ContainerHealth::None },
        started: Some(container.created),
        stopping: container.given_up,
        pid: None,
        ports: Vec::new(),
        addresses: Vec::new(),
    }
}
