//! The container runtimes: what carries out the core's [`RuntimeAction`]s and reports what it sees.
//!
//! There are two: [`docker`] talks to a Docker engine, [`process`] runs a service's command as plain
//! child processes of the host. Both only do as they are told and both report over one bounded
//! channel: the end of every action ([`Report::Done`]) and whatever changes unasked
//! ([`Report::Event`]). Neither touches anything that does not carry this node's id *and* this
//! cluster's id, for several nodes may share one engine and one host.
//!
//! [`Runtime::act`] never blocks and never waits: an action runs in a task of its own, behind a limit
//! on how many run at once, and each call that it makes has a deadline.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use async_trait::async_trait;
use membership::id::{ClusterId, NodeId, TaskId};
use membership::member::Resources;
use node::runtime::{ActionId, ActionResult, RuntimeAction, RuntimeEvent};

use crate::api::backend::{LogOptions, LogStream};

pub mod docker;
pub mod process;
pub mod spec;

mod admission;
mod frames;
mod memory_files;
mod ownership;
mod reports;
mod wallclock;

pub use admission::{MAX_WAITING_ACTIONS, starts_at_once};
pub use frames::LOG_QUEUE;
pub use memory_files::{FilesError, Layout, MemoryFiles};

/// How many reports wait for the loop. When it is full the runtime's tasks wait with theirs; nothing
/// is dropped, and the engine is asked for less meanwhile.
pub const REPORT_QUEUE: usize = 256;

/// Whose containers these are: the two ids that each of them must carry to be touched at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    pub cluster: ClusterId,
    pub node: NodeId,
}

/// What a runtime tells the loop.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// Goes into the core as `Input::Done`. Exactly one for each accepted action.
    Done { id: ActionId, result: ActionResult },
    /// Goes into the core as `Input::Runtime`.
    Event(RuntimeEvent),
}

/// What the runtime knows of the host it works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostInfo {
    /// All that the host has, before anything is set aside for the host itself.
    pub capacity: Resources,
    pub hostname: String,
    /// As Docker writes it: `linux`.
    pub os: String,
    /// As Docker writes it: `x86_64`, `aarch64`.
    pub arch: String,
    pub engine_version: String,
    /// The engine's own labels (`engine.labels.*` in constraints).
    pub labels: BTreeMap<String, String>,
}

/// Why the runtime could not say anything about its host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    #[error(
        "the Docker engine at {engine} does not answer: {reason}. Nothing was changed; shoal goes on asking. Is dockerd running, and may this user open its socket?"
    )]
    EngineUnavailable { engine: String, reason: String },
    #[error("cannot read {what} of this host: {reason}")]
    Host { what: &'static str, reason: String },
}

/// A container runtime. Dropping the last handle ends its tasks and touches no container.
#[async_trait]
pub trait Runtime: fmt::Debug + Send + Sync {
    /// Takes an action and returns at once. Its end comes as [`Report::Done`] with the same id.
    /// More than [`MAX_WAITING_ACTIONS`] at a time are refused (as a failed result, not silently).
    fn act(&self, id: ActionId, action: RuntimeAction);

    /// Asks the host what it has. Answers within 15 s, or with an error.
    async fn host(&self) -> Result<HostInfo, HostError>;

    /// The output of the container that this node made for `task`, while it has not been removed. The
    /// stream says what is wrong as its only item; dropping it ends the reading.
    fn logs(&self, task: TaskId, options: LogOptions) -> LogStream;

    /// Where other hosts reach this one, once that is known.
    fn reached_at(&self, _address: IpAddr) {}

    /// This node has left: takes down what it made for networks of the cluster and nobody uses. In words what is still
    /// there.
    async fn leave_networks(&self) -> Vec<String> {
        Vec::new()
    }

    /// "docker" or "process", as members publish it.
    fn name(&self) -> &'static str;
}
