//! What this node holds: for each slot it claims, the present attempt to run it, the one that is to
//! replace it, and how the attempts before went. Data and small questions; `local` has the transitions.

use std::net::Ipv4Addr;

use membership::id::{NetworkId, NodeId, TaskId};
use membership::time::{Instant, Millis, Wall};

use crate::files::Editions;
use crate::runtime::ActionId;
use crate::slot::{Claim, Epoch, Phase, Place, Slot, TaskState, TaskStatus, TemplateId};
use crate::start::Recipe;

/// How far one attempt has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The runtime was told to fetch what it needs. Its predecessor runs on meanwhile.
    Preparing(ActionId),
    /// What it needs is here: its predecessor may be stopped.
    Prepared,
    /// Waits for its turn: only so many containers are started at once.
    Queued,
    /// The runtime was told to start it.
    Starting(ActionId),
    /// Its container runs and has yet to report healthy.
    Warming,
    /// It serves.
    Ready,
}

/// One attempt to fill a slot.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub status: TaskStatus,
    pub recipe: Recipe,
    pub stage: Stage,
    /// When it entered its stage.
    pub since: Instant,
    /// When its container was first seen running.
    pub running_since: Option<Instant>,
    /// Which replaced configs it has; `None` when an earlier process of this node started it.
    pub editions: Option<Editions>,
    /// No replacement of its files is tried before this.
    pub refresh_at: Instant,
    /// What it has on the networks of the cluster; empty until it is started.
    pub addresses: Vec<(NetworkId, Ipv4Addr)>,
}

impl Run {
    pub(crate) fn id(&self) -> TaskId {
        self.status.id
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// No container was ordered for it yet.
    pub(crate) fn is_ahead(&self) -> bool {
        matches!(self.stage, Stage::Preparing(_) | Stage::Prepared | Stage::Queued)
    }

    pub(crate) fn set(&mut self, state: TaskState, message: &str, wall: Wall) {
        if self.status.state != state {
            self.status.since = wall;
        }
        self.status.state = state;
        message.clone_into(&mut self.status.message);
    }
}

/// A slot that this node claims.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub epoch: Epoch,
    /// The present attempt; `None` while a restart delay runs or its predecessor is being stopped.
    pub run: Option<Run>,
    /// The attempt that replaces `run`: once it is ready (start-first updates), or once what it needs is
    /// on this host (stop-first).
    pub next: Option<Run>,
    /// The attempt that must be gone before another may start (stop-first updates, host ports).
    pub waits_for: Option<TaskId>,
    /// Failed attempts in a row.
    pub failures: u32,
    /// When each attempt that failed did, for the spec's limit over a window.
    pub failed_at: Vec<Instant>,
    /// No attempt starts before this.
    pub not_before: Instant,
    /// This claim was made to take the slot off another node that still serves it.
    pub relieves: Option<NodeId>,
    /// The slot's work is done and the outcome stands.
    pub outcome: Option<TaskStatus>,
    /// The last attempt that ended, shown while there is no present one.
    pub last: Option<TaskStatus>,
    /// Since when no attempt of this claim has been ready.
    pub unready_since: Instant,
    /// The claim was restated from a container that had ended when it was found: this node may have
    /// claimed again since and forgotten it with its memory, so the next attempt draws a new epoch.
    pub restated: bool,
    /// Of a job: nothing is started before this, so that a better claim made at the same time is heard of.
    pub settles_at: Option<Instant>,
    /// Of a job: when it was first seen to be recorded that the slot has ended.
    pub recorded: Option<Instant>,
}

impl Held {
    pub(crate) fn new(epoch: Epoch, at: Instant) -> Self {
        Self {
            epoch,
            run: None,
            next: None,
            waits_for: None,
            failures: 0,
            failed_at: Vec::new(),
            not_before: at,
            relieves: None,
            outcome: None,
            last: None,
            unready_since: at,
            restated: false,
            settles_at: None,
            recorded: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        if self.outcome.is_some() {
            Phase::Complete
        } else if self.is_ready() {
            Phase::Ready
        } else {
            Phase::Starting
        }
    }

    /// Something was started for it, or its work is done: what is found beside that is one too many.
    pub(crate) fn is_taken(&self) -> bool {
        self.outcome.is_some() || self.run.as_ref().is_some_and(|run| !run.is_ahead())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.run.as_ref().is_some_and(Run::is_ready)
    }

    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.run.iter().chain(self.next.iter())
    }

    pub(crate) fn runs_mut(&mut self) -> impl Iterator<Item = &mut Run> {
        self.run.iter_mut().chain(self.next.iter_mut())
    }

    /// What the others are told.
    pub(crate) fn claim(&self, slot: Slot) -> Option<Claim> {
        let task = self
            .outcome
            .as_ref()
            .or(self.run.as_ref().map(|r| &r.status))
            .or(self.next.as_ref().map(|r| &r.status))
            .or(self.last.as_ref())?;
        Some(Claim {
            slot,
            epoch: self.epoch,
            phase: self.phase(),
            failures: self.failures,
            task: task.clone(),
        })
    }
}

/// A container on its way out.
#[derive(Clone, Debug)]
pub(crate) struct Leaving {
    pub place: Place,
    pub status: TaskStatus,
    pub grace: Millis,
    /// The action under way; `None` while waiting for `retry_at`.
    pub action: Option<ActionId>,
    pub retry_at: Instant,
    pub tries: u32,
    /// It was being started when it was given up: stop it as soon as the start is answered.
    pub starting: bool,
    /// The engine was away when it was decided. What it was decided for may have passed: the container
    /// is looked at and the decision made again before it is carried out.
    pub decide_again: bool,
    /// Nobody else gets these until it is gone.
    pub addresses: Vec<(NetworkId, Ipv4Addr)>,
}

impl Leaving {
    /// To be stopped now.
    pub(crate) fn new(place: Place, status: TaskStatus, grace: Millis, at: Instant) -> Self {
        Self {
            place,
            status,
            grace,
            action: None,
            retry_at: at,
            tries: 0,
            starting: false,
            decide_again: false,
            addresses: Vec::new(),
        }
    }

    /// Its stop may be ordered, once `retry_at` has come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.action.is_none() && !self.starting && !self.decide_again
    }
}

/// The newest container of a slot that has ended: kept for its logs, and because its label is the only
/// durable word about the epoch under which this node held the slot last.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub task: TaskId,
    pub template: TemplateId,
    pub container: String,
    pub epoch: Epoch,
    pub created: Wall,
}
