//! What the core asks of a container runtime, and what a runtime tells the core.
//!
//! Three implementers exist: `docker` and `process` in the daemon, and the simulated one. A runtime
//! decides nothing: it starts what it is told to start, reports what it sees of the containers that
//! carry this node's id, and never touches any other.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use membership::id::{NetworkId, ServiceId, TaskId};
use membership::time::{Millis, Wall};
use serde_json::Value;

use crate::files::TaskFiles;
use crate::network::engine::{EngineNetwork, FoundNetwork, TaskNetwork};
use crate::registry_auth::RegistryAuth;
use crate::slot::{Epoch, PortStatus, Slot, TemplateId};

/// Ties a result to the action it answers. Never reused within one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActionId(pub u64);

/// Labels that every container of ours carries, beside Swarm's own.
pub mod label {
    use std::net::Ipv4Addr;

    use membership::id::NetworkId;

    /// Which node started it: several nodes may share one engine (the demo does).
    pub const NODE: &str = "shoal.node.id";
    pub const CLUSTER: &str = "shoal.cluster.id";
    pub const SLOT: &str = "shoal.slot";
    pub const EPOCH: &str = "shoal.epoch";
    pub const TEMPLATE: &str = "shoal.template";
    pub const CREATED: &str = "shoal.created";
    /// Its addresses on networks of the cluster.
    pub const ADDRESSES: &str = "shoal.addresses";
    /// On an engine's network: which network of the cluster it stands for.
    pub const NETWORK: &str = "shoal.network.id";
    pub const SWARM_NODE_ID: &str = "com.docker.swarm.node.id";
    pub const SWARM_SERVICE_ID: &str = "com.docker.swarm.service.id";
    pub const SWARM_SERVICE_NAME: &str = "com.docker.swarm.service.name";
    pub const SWARM_TASK: &str = "com.docker.swarm.task";
    pub const SWARM_TASK_ID: &str = "com.docker.swarm.task.id";
    pub const SWARM_TASK_NAME: &str = "com.docker.swarm.task.name";

    /// The value of [`ADDRESSES`]: `<network>=<address>`, with commas between.
    pub fn of_addresses(addresses: impl Iterator<Item = (NetworkId, Ipv4Addr)>) -> String {
        addresses.map(|(id, address)| format!("{id}={address}")).collect::<Vec<_>>().join(",")
    }

    /// Reads what [`of_addresses`] wrote; `None` for anything else.
    pub fn addresses(text: &str) -> Option<Vec<(NetworkId, Ipv4Addr)>> {
        let one = |part: &str| {
            let (id, address) = part.split_once('=')?;
            Some((id.parse().ok()?, address.parse().ok()?))
        };
        text.split(',').map(one).collect()
    }
}

/// A container to create and start.
#[derive(Clone, Debug, PartialEq)]
pub struct StartTask {
    pub task: TaskId,
    pub service: ServiceId,
    pub service_name: String,
    pub slot: Slot,
    pub epoch: Epoch,
    pub template: TemplateId,
    pub created: Wall,
    /// Container name, unique on the host: `<service>.<slot>.<task>`. A second start under one name
    /// is refused by the engine, which makes the name a lock against starting twice.
    pub name: String,
    /// All labels that the container gets: ours, Swarm's and those of the container spec.
    pub labels: BTreeMap<String, String>,
    /// The service's `TaskTemplate` as the client sent it, with Go templates in hostname, env and
    /// mounts already expanded.
    pub template_json: Arc<Value>,
    /// What the image's registry wants to see, if it has to be asked.
    pub registry_auth: Option<RegistryAuth>,
    /// `--publish mode=host`: ports to open on this host. `published` 0 lets the engine choose.
    pub ports: Vec<PortStatus>,
    /// Secrets and configs that the task gets as files.
    pub files: Arc<TaskFiles>,
    /// Networks of the cluster, each with the task's address on it.
    pub networks: Vec<TaskNetwork>,
    /// Whom it asks for names, in this order, before those that the spec names; empty: as the engine has it.
    pub name_servers: Vec<Ipv4Addr>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeAction {
    /// See that what a start of this task would have to fetch first, its image, is on this host. Answered by
    /// [`ActionResult::Prepared`], or by [`ActionResult::StartFailed`] as its start would be.
    Prepare { task: TaskId, template_json: Arc<Value>, registry_auth: Option<RegistryAuth> },
    /// Create and start. Answered by [`ActionResult::Started`] as soon as the container runs; its
    /// health comes later, as [`RuntimeEvent::Container`].
    Start(Box<StartTask>),
    /// Ask to stop, kill after `grace`, and remove. Answered by [`ActionResult::Stopped`], also when
    /// there was nothing left to stop.
    Stop { task: TaskId, container: String, grace: Millis },
    /// Remove what a task that ended left behind, keeping nothing. Answered by `Stopped`.
    Remove { task: TaskId, container: String },
    /// See that a running task has these files, and send it the signals of those that differed. What
    /// it does not have as a file is not given to it. Answered by [`ActionResult::Refreshed`].
    Refresh { task: TaskId, container: String, files: Arc<TaskFiles> },
    /// Everything that carries this node's id, in whatever state.
    List,
    /// See that the engine has these networks and none of the cluster's others, but those that containers are
    /// attached to; `None`: only look. Answered by [`ActionResult::Networks`].
    Networks { wanted: Option<Vec<EngineNetwork>> },
}

/// What a container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerState {
    /// Created and not started (a crash between the two calls leaves this).
    Created,
    Running {
        health: ContainerHealth,
    },
    Paused,
    Exited {
        code: i32,
        out_of_memory: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerHealth {
    /// It has no health check: running is healthy.
    None,
    Starting,
    Healthy,
    Unhealthy,
}

/// A container of ours, as the runtime sees it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub container: String,
    pub task: TaskId,
    pub service: ServiceId,
    pub service_name: String,
    pub slot: Slot,
    pub epoch: Epoch,
    pub template: TemplateId,
    pub created: Wall,
    pub state: ContainerState,
    /// When its process began to run, by the engine's word; `None` before, and where nobody knows.
    pub started: Option<Wall>,
    /// Its stop has been begun, by this process of shoal or by an earlier one: it is not to be counted
    /// on, though it may run for as long as its grace time.
    pub stopping: bool,
    pub pid: Option<u32>,
    pub ports: Vec<PortStatus>,
    /// What it has on networks of the cluster.
    pub addresses: Vec<(NetworkId, Ipv4Addr)>,
}

/// Why a start failed, as far as it changes what is done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFailure {
    /// The image is not here and could not be fetched. The task is `rejected`.
    NoSuchImage,
    /// The spec asks for something the engine refuses (a bad mount, an unknown option): `rejected`.
    BadSpec,
    /// The container was created and could not be started (no such program, port taken): `failed`.
    DidNotStart,
    /// The engine did not answer in time or is not there: says nothing about the task.
    EngineUnavailable,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ActionResult {
    Prepared,
    Started(Box<Found>),
    StartFailed {
        why: StartFailure,
        message: String,
    },
    Stopped,
    /// The container may still be running.
    StopFailed {
        message: String,
    },
    Refreshed,
    RefreshFailed {
        message: String,
    },
    Listed(Vec<Found>),
    ListFailed {
        message: String,
    },
    /// The networks of the cluster that the engine has now, and which could not be made or taken down, with the
    /// reason.
    Networks {
        found: Vec<FoundNetwork>,
        failed: Vec<String>,
    },
    NetworksFailed {
        message: String,
    },
}

/// What a runtime reports unasked. A lost event costs time only: the slow resync (`List`) mends it.
#[derive(Clone, Debug, PartialEq)]
pub enum RuntimeEvent {
    /// A container of ours changed; this is all of its present state.
    Container(Box<Found>),
    /// A container of ours was removed.
    Removed { task: TaskId, container: String },
    /// The engine stopped answering, with the reason in words.
    EngineLost { reason: String },
    /// The engine answers (again); everything may have changed meanwhile, so the core lists.
    EngineBack { version: String },
}
