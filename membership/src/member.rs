//! What the cluster says about a node: the facts that a member publishes about itself, and the state
//! that the others agree on.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId};
use crate::record::Digest;
use crate::time::{Instant, Wall};

/// What a host can hold, or what something needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a core.
    pub cpu_milli: u64,
    pub memory_bytes: u64,
}

/// What a member says about itself and seldom changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// What people call it. Unique only by custom: two hosts may bear one name.
    pub name: String,
    /// Where its QUIC endpoint is reached. May change from one incarnation to the next.
    pub addr: SocketAddr,
    /// `--zone`, empty when none was given.
    pub zone: String,
    /// `--label`: the host's own labels (`engine.labels.*` and placement).
    pub labels: BTreeMap<String, String>,
    /// Declared capacity: what placement ranks by.
    pub capacity: Resources,
    pub os: String,
    pub arch: String,
    /// "docker" or "process".
    pub runtime: String,
    pub engine_version: String,
    pub shoal_version: String,
    /// Versions this node can speak and compute; the cluster uses the lowest that all know.
    pub protocol_version: u16,
    pub placement_version: u16,
    pub started: Wall,
}

/// What the member's container engine is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EngineState {
    Ok,
    /// It does not answer; its containers may still serve.
    Unavailable {
        since: Wall,
        reason: String,
    },
}

/// What a member says about itself that changes now and then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    pub engine: EngineState,
    /// It was told to leave and is handing over.
    pub leaving: bool,
    /// It has started or was cut off, and does not take anything over until it has asked its peers.
    pub settling: bool,
    /// What its replicas reserve, by its own exact count.
    pub reserved: Resources,
    /// Root of its desired state: equal roots mean equal records.
    pub root: Digest,
}

/// What the cluster thinks of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MemberState {
    Alive,
    /// Some of its observers cannot reach it, or its shoal process is gone while its host answers:
    /// nothing new is put there, nothing is stopped.
    Unstable,
    /// Agreed to be gone: its slots are orphans.
    Down,
    /// It, or an operator, asked for its replicas to be moved away.
    Draining,
    /// It said goodbye.
    Left,
}

impl MemberState {
    /// Its claims count: what it says it runs, it is believed to run.
    pub fn holds_claims(self) -> bool {
        matches!(self, Self::Alive | Self::Unstable | Self::Draining)
    }
}

/// One line of the view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    pub incarnation: Incarnation,
    pub profile: Profile,
    pub health: Health,
    pub state: MemberState,
    /// Why it is in this state, in the operator's words.
    pub reason: String,
    /// When this node's view put it there.
    pub since: Instant,
    pub since_wall: Wall,
}
