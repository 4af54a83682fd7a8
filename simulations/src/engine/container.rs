//! One simulated container, and how the image it was made from behaves.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use membership::id::{AssetId, NetworkId, ServiceId, TaskId};
use membership::time::Wall;
use node::files::Content;
use node::runtime::{ContainerHealth, ContainerState, Found, StartTask};
use node::slot::{Epoch, Place, PortStatus, Slot, TemplateId};
use serde_json::Value;

use super::{Became, Change, EngineEvent, Out};
use crate::chance::Chance;
use crate::time::Span;

/// What a service does, written as its image: `sim/web`, `sim/crash`, `sim/flaky`, `sim/job`,
/// `sim/flaky-job`, `sim/missing`, `sim/slow`, `sim/sick`. Any other name is a well-behaved server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    Web,
    /// Dies within seconds of every start.
    Crash,
    /// Three starts in ten die within 20 s.
    Flaky,
    /// Does its work and ends with 0.
    Job,
    /// As `Job`, but three attempts in ten fail.
    FlakyJob,
    /// A job on an engine on which everything dies within seconds.
    CrashingJob,
    Missing,
    SlowPull,
    /// Turns unhealthy now and then, where it has a health check.
    Sick,
}

impl Manner {
    pub fn of(template: &Value) -> Self {
        let image = template["ContainerSpec"]["Image"].as_str().unwrap_or_default();
        match image.split(':').next().unwrap_or_default() {
            "sim/crash" => Self::Crash,
            "sim/flaky" => Self::Flaky,
            "sim/job" => Self::Job,
            "sim/flaky-job" => Self::FlakyJob,
            "sim/missing" => Self::Missing,
            "sim/slow" => Self::SlowPull,
            "sim/sick" => Self::Sick,
            _ => Self::Web,
        }
    }

    /// The same on an engine on which everything dies within seconds.
    pub(super) fn crashing(self) -> Self {
        match self {
            Self::Job | Self::FlakyJob | Self::CrashingJob => Self::CrashingJob,
            _ => Self::Crash,
        }
    }
}

fn has_health_check(template: &Value) -> bool {
    template["ContainerSpec"]["Healthcheck"]["Test"].as_array().is_some_and(|test| !test.is_empty())
}

#[derive(Clone, Debug)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub task: TaskId,
    pub service: ServiceId,
    pub service_name: String,
    pub slot: Slot,
    pub epoch: Epoch,
    pub template: TemplateId,
    pub created: Wall,
    pub state: ContainerState,
    pub ports: Vec<PortStatus>,
    /// On networks of the cluster.
    pub addresses: Vec<(NetworkId, Ipv4Addr)>,
    /// The configs that it has as files.
    pub configs: BTreeMap<AssetId, Content>,
    /// Being stopped on request: not counted on any more.
    pub stopping: bool,
    /// A stop of it has been begun at some time. Written on the container, so it outlives the stop, and
    /// the engine's process too.
    pub marked: bool,
    /// Unique over the run of an engine, so that a late event of an earlier container is recognised.
    pub generation: u64,
    manner: Manner,
    health_check: bool,
    was_counted: bool,
    was_ready: bool,
}

impl Container {
    pub(super) fn new(id: String, start: &StartTask, manner: Manner, generation: u64) -> Self {
        let mut next_port = 32_768 + (generation % 20_000) as u16;
        let ports = start.ports.iter().map(|port| {
            next_port += 1;
            PortStatus {
                published: if port.published == 0 { next_port } else { port.published },
                ..port.clone()
            }
        });
        Self {
            id,
            name: start.name.clone(),
            task: start.task,
            service: start.service,
            service_name: start.service_name.clone(),
            slot: start.slot,
            epoch: start.epoch,
            template: start.template,
            created: start.created,
            state: ContainerState::Created,
            ports: ports.collect(),
            addresses: start.networks.iter().map(|on| (on.network.id, on.address)).collect(),
            configs: start.files.files.iter().map(|f| (f.id, f.content.clone())).collect(),
            stopping: false,
            marked: false,
            generation,
            manner,
            health_check: has_health_check(&start.template_json),
            was_counted: false,
            was_ready: false,
        }
    }

    pub fn is_running(&self) -> bool {
        matches!(self.state, ContainerState::Running { .. })
    }

    /// Serves: running, healthy where it can tell, and not asked to stop.
    pub fn is_ready(&self) -> bool {
        use ContainerHealth::{Healthy, None};
        !self.stopping && matches!(self.state, ContainerState::Running { health: None | Healthy })
    }

    /// Does its work and ends.
    pub(super) fn is_job(&self) -> bool {
        matches!(self.manner, Manner::Job | Manner::FlakyJob | Manner::CrashingJob)
    }

    pub fn place(&self) -> Place {
        Place { service: self.service, slot: self.slot }
    }

    pub(super) fn run(&mut self, images_act: bool, chance: &mut Chance, out: &mut Out) {
        let health =
            if self.health_check { ContainerHealth::Starting } else { ContainerHealth::None };
        self.state = ContainerState::Running { health };
        let (container, generation) = (self.id.clone(), self.generation);
        if self.health_check {
            let health = ContainerHealth::Healthy;
            let after = chance.tailed(Span::ms(500), Span::secs(8));
            out.later.push((
                after,
                EngineEvent::Health { container: container.clone(), generation, health },
            ));
        }
        let exits = |after, code| {
            (after, EngineEvent::Exits { container: container.clone(), generation, code })
        };
        if images_act && self.manner == Manner::CrashingJob {
            out.later.push(exits(chance.tailed(Span::ms(50), Span::secs(5)), 1));
            return;
        }
        // That it ends is what it is for, also when nothing goes wrong any more.
        if self.is_job() {
            let fails = images_act && self.manner == Manner::FlakyJob && chance.per_mille(300);
            let after = chance.span(Span::secs(1), Span::secs(20));
            out.later.push(exits(after, i32::from(fails)));
            return;
        }
        if !images_act {
            return;
        }
        match self.manner {
            Manner::Crash => out.later.push(exits(chance.tailed(Span::ms(50), Span::secs(5)), 1)),
            Manner::Flaky if chance.per_mille(300) => {
                out.later.push(exits(chance.tailed(Span::ms(50), Span::secs(20)), 1));
            }
            Manner::Sick if chance.per_mille(500) => {
                let health = ContainerHealth::Unhealthy;
                let after = chance.span(Span::secs(10), Span::secs(60));
                out.later.push((after, EngineEvent::Health { container, generation, health }));
            }
            _ => {}
        }
    }

    pub(super) fn change(&self, what: Became) -> Change {
        Change { task: self.task, place: self.place(), what }
    }

    /// Tells the checks when the container began or ceased to run, and to be ready.
    pub(super) fn note(&mut self, out: &mut Out) {
        let counted = self.is_running() && !self.stopping;
        if counted && !self.was_counted {
            out.changes.push(self.change(Became::Started));
        }
        let ready = self.is_ready();
        if ready != self.was_ready {
            self.was_ready = ready;
            out.changes.push(self.change(if ready { Became::Ready } else { Became::NotReady }));
        }
        if !counted && self.was_counted {
            out.changes.push(self.change(Became::Ended));
        }
        self.was_counted = counted;
    }

    pub(super) fn found(&self) -> Found {
        Found {
            container: self.id.clone(),
            task: self.task,
            service: self.service,
            service_name: self.service_name.clone(),
            slot: self.slot,
            epoch: self.epoch,
            template: self.template,
            created: self.created,
            state: self.state,
            started: None,
            stopping: self.marked,
            pid: None,
            ports: self.ports.clone(),
            addresses: self.addresses.clone(),
        }
    }
}
