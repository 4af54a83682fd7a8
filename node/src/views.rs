//! What the core shows to its readers (the API, the command line, the simulator's checks): plain
//! copies, made on demand, from which nothing can be changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use membership::id::{AssetId, NodeId, ServiceId, TaskId};
use membership::member::{Health, MemberState, Profile};
use membership::time::Wall;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::assets::AssetKind;
use crate::files::Content;
use crate::slot::{PortStatus, Slot, TaskState, TaskStatus};

#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView {
    pub id: ServiceId,
    /// Docker's `Version.Index`: rises with every accepted write, as any node sees it.
    pub version: u64,
    pub created: Wall,
    pub updated: Wall,
    pub name: String,
    /// As stored and echoed, with the replica count of the scale register in it.
    pub spec: Arc<Value>,
    pub previous_spec: Option<Arc<Value>>,
    pub update_status: Option<UpdateStatus>,
    pub running: u64,
    pub desired: u64,
    /// Of a job: slots of its present execution that ran to their end. Else: slots whose work is done.
    pub completed: u64,
    pub job: Option<JobView>,
    /// Set when another service of this name, created earlier, keeps this one from running.
    pub shadowed_by: Option<ServiceId>,
    /// Ports that are open on every node, with what was chosen where the spec leaves it open.
    pub published: Vec<PortStatus>,
}

/// Which execution of a job a service is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobView {
    /// 0, and one more with each execution.
    pub iteration: u64,
    /// When this one was asked for.
    pub executed: Wall,
}

/// How far a rolling update has come, in Docker's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// updating, paused, completed, rollback_started, rollback_paused, rollback_completed
    pub state: String,
    pub started: Wall,
    pub completed: Option<Wall>,
    pub message: String,
}

/// What Swarm calls the desired state of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DesiredState {
    Ready,
    Running,
    Complete,
    Shutdown,
    Remove,
}

impl DesiredState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Complete => "complete",
            Self::Shutdown => "shutdown",
            Self::Remove => "remove",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    pub service: ServiceId,
    pub service_name: String,
    /// `None` while pending.
    pub node: Option<NodeId>,
    pub status: TaskStatus,
    pub desired: DesiredState,
    /// Made from the service's present template (or one that differs in nothing that matters).
    pub up_to_date: bool,
    /// Of a job: the execution that it belongs to.
    pub iteration: Option<u64>,
    /// The TaskTemplate it was made from where that is still known, else the present one.
    pub template: Arc<Value>,
    pub version: u64,
}

impl TaskView {
    pub fn id(&self) -> TaskId {
        self.status.id
    }

    pub fn slot(&self) -> Slot {
        self.status.slot
    }

    pub fn state(&self) -> TaskState {
        self.status.state
    }
}

/// Docker's availability of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    #[default]
    Active,
    Pause,
    Drain,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MemberView {
    pub id: NodeId,
    pub is_me: bool,
    pub state: MemberState,
    pub reason: String,
    pub since: Wall,
    /// `None` for a member that is known from disk only and has not been heard of since.
    pub profile: Option<Profile>,
    pub health: Option<Health>,
    pub name: String,
    /// The name that an operator gave it (`Spec.Name`), where one did.
    pub given_name: Option<String>,
    pub addr: String,
    pub role: String,
    pub availability: Availability,
    pub labels: BTreeMap<String, String>,
    pub version: u64,
    pub created: Wall,
    pub updated: Wall,
    /// Replicas it says it runs.
    pub replicas: u32,
}

/// A secret or config.
#[derive(Clone, Debug, PartialEq)]
pub struct AssetView {
    pub kind: AssetKind,
    pub id: AssetId,
    pub version: u64,
    pub created: Wall,
    pub updated: Wall,
    pub name: String,
    /// As stored and echoed: without `Data`.
    pub spec: Arc<Value>,
    /// Of a secret: sealed.
    pub content: Content,
    /// Another one of this name was created earlier and is found by it.
    pub shadowed_by: Option<AssetId>,
}

/// A losing concurrent edit that waits to be looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct ConflictView {
    pub id: u128,
    /// "CONFLICT web: the edit of 14:02:11 by host-a was superseded by host-b's of 14:02:12 ..."
    pub text: String,
    pub service: Option<ServiceId>,
    pub writer: NodeId,
    pub when: Wall,
    /// What was lost, as JSON where it is JSON.
    pub body: Option<Value>,
}
