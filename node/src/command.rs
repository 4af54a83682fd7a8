//! What operators (through the API) ask of a node, and the answers.
//!
//! Any node takes any command. A command that changes something is acknowledged when the change is on
//! the disks of two nodes (of one, where only one is alive).

use membership::id::{AssetId, NetworkId, NodeId, ServiceId};
use serde_json::Value;

use crate::assets::AssetKind;
use crate::files::Content;
use crate::registry_auth::{AuthChange, RegistryAuth};

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// `spec` is Docker's ServiceSpec as the client sent it.
    CreateService {
        spec: Value,
        auth: Option<RegistryAuth>,
    },
    /// `version` is what the client read; another value means somebody was quicker.
    UpdateService {
        id: ServiceId,
        version: u64,
        spec: Value,
        auth: AuthChange,
    },
    /// Back to the previous spec.
    RollbackService {
        id: ServiceId,
        version: u64,
    },
    RemoveService {
        id: ServiceId,
    },
    /// Docker's NodeSpec: Labels, Role, Availability, Name.
    UpdateNode {
        id: NodeId,
        version: u64,
        spec: Value,
    },
    /// Forget a member that is down or has left.
    RemoveNode {
        id: NodeId,
    },
    /// Hand over everything and go.
    Leave,
    /// Drop a conflict from the list.
    DismissConflict {
        id: u128,
    },
    /// `spec` is Docker's SecretSpec or ConfigSpec without `Data`; the content of a secret is sealed.
    CreateAsset {
        kind: AssetKind,
        spec: Value,
        content: Content,
    },
    /// Labels only.
    UpdateAsset {
        kind: AssetKind,
        id: AssetId,
        version: u64,
        spec: Value,
    },
    RemoveAsset {
        kind: AssetKind,
        id: AssetId,
    },
    /// Another content for a config, in place: running tasks get the file replaced and the signal.
    ReplaceConfig {
        id: AssetId,
        version: u64,
        content: Content,
        signal: Option<String>,
    },
    /// `spec` is the body of Docker's network create.
    CreateNetwork {
        spec: Value,
    },
    RemoveNetwork {
        id: NetworkId,
    },
    /// A plain container of this node's engine is about to be attached: see that the network is there.
    AttachHere {
        id: NetworkId,
    },
    /// Docker's cluster Spec (only what has a meaning here acts; the rest is echoed).
    UpdateCluster {
        version: u64,
        spec: Value,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Created { id: ServiceId, warnings: Vec<String> },
    AssetCreated { id: AssetId },
    NetworkCreated { id: NetworkId },
    Done { warnings: Vec<String> },
}

/// What kind of refusal, so that the API can choose Docker's status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// 400
    Invalid,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 409
    Conflict,
    /// Docker answers 500; the text ends with "update out of sequence".
    OutOfSequence,
    /// 501: has no meaning here; the text says what to do instead.
    NotSupported,
    /// 503: could not be made safe; the text says what is true now.
    NotStored,
    /// 503: too many commands are waiting.
    Busy,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    pub kind: Refused,
    pub message: String,
}

impl CommandError {
    pub fn new(kind: Refused, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
