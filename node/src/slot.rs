//! Slots, epochs, claims and tasks: who runs what, as the node that runs it says.
//!
//! A *slot* is a numbered place of a service; a *task* is one attempt to fill it and is never
//! restarted. A *claim* is "I run this slot", written only by the node that runs it. Of two claims on
//! one slot the better is the greater of (ready, epoch, rank order), on every node; the holder of the
//! worse one drains and stops once the better one is ready, never before.

use std::fmt;

use membership::id::{NodeId, ServiceId, TaskId};
use membership::time::Wall;
use membership::wire::Versioned;
use serde::{Deserialize, Serialize};

/// A place of a service: numbered from 1 for replicated services, one on each host for global ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Slot {
    Index(u32),
    Node(NodeId),
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index(index) => write!(f, "{index}"),
            Self::Node(node) => write!(f, "{node}"),
        }
    }
}

/// One slot of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub service: ServiceId,
    pub slot: Slot,
}

/// The rising number of a claim. Drawn from the hybrid logical clock, so that it stays above every
/// earlier one even if the node that takes over has never heard of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Epoch(pub u64);

/// A digest of what of a spec makes a task: a task whose template differs from the service's is out
/// of date and is replaced by the rollout.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct TemplateId(pub u64);

impl fmt::Display for TemplateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How far the holder of a slot has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// The holder means to run the slot, and no container of it is ready yet: being started, waiting
    /// for its first healthy report, or waiting out a restart delay.
    Starting,
    /// A container of the slot is running (and healthy, where it can tell).
    Ready,
    /// The slot's work is done and stays done (a job, or exit 0 under `on-failure`).
    Complete,
}

/// Swarm's task states, with Swarm's meaning and order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum TaskState {
    New,
    Allocated,
    Pending,
    Assigned,
    Accepted,
    Preparing,
    Ready,
    Starting,
    Running,
    Complete,
    Shutdown,
    Failed,
    Rejected,
    Remove,
    Orphaned,
}

impl TaskState {
    /// As Docker's API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Allocated => "allocated",
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Preparing => "preparing",
            Self::Ready => "ready",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
            Self::Remove => "remove",
            Self::Orphaned => "orphaned",
        }
    }

    /// The task has ended and will not change again.
    pub fn is_over(self) -> bool {
        self >= Self::Complete
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As Docker's API spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// A port of a container that is open on its host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortStatus {
    pub protocol: Protocol,
    pub target: u16,
    pub published: u16,
}

/// What is known of one task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskStatus {
    pub id: TaskId,
    pub slot: Slot,
    pub template: TemplateId,
    pub created: Wall,
    pub state: TaskState,
    /// When it entered `state`, by the wall clock of the node that runs it.
    pub since: Wall,
    /// What is happening, in Swarm's words where Swarm has them. At most [`MAX_TEXT_BYTES`].
    pub message: String,
    /// Why it is not running. At most [`MAX_TEXT_BYTES`].
    pub error: Option<String>,
    /// The runtime's name for it: a Docker container id, or the process runtime's.
    pub container: Option<String>,
    pub pid: Option<u32>,
    pub exit_code: Option<i32>,
    pub ports: Vec<PortStatus>,
}

/// The longest message or error that a task status carries, in bytes: facts must stay small.
pub const MAX_TEXT_BYTES: usize = 240;

/// Cuts a text to [`MAX_TEXT_BYTES`] at a character boundary.
pub fn short_text(text: &str) -> String {
    let mut end = text.len().min(MAX_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].trim().to_owned()
}

/// "I run this slot."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub slot: Slot,
    pub epoch: Epoch,
    pub phase: Phase,
    /// Attempts of the present template that failed in a row on this node. The steward of a rollout
    /// reads it; everybody else sees why a slot is not ready.
    pub failures: u32,
    pub task: TaskStatus,
}

/// The value of a [`membership::fact::FactKey::Claims`] fact: one part of a node's claims on a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimPart {
    pub claims: Vec<Claim>,
}

impl Versioned for ClaimPart {
    const TAG: u8 = b'c';
    const VERSION: u8 = 1;
    const LIMIT: usize = membership::fact::MAX_FACT_BYTES;
}

/// The value of a [`membership::fact::FactKey::History`] fact: tasks that ended, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    pub ended: Vec<TaskStatus>,
}

impl Versioned for History {
    const TAG: u8 = b'h';
    const VERSION: u8 = 1;
    const LIMIT: usize = membership::fact::MAX_FACT_BYTES;
}
