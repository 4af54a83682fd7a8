//! What a service asks of the hosts, in placement's words.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use membership::id::{NodeId, ServiceId};
use membership::member::Resources;
use serde::{Deserialize, Serialize};

use crate::constraint::Constraint;
use crate::host::Host;

/// What each replica of one service needs and wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    pub service: ServiceId,
    /// Reserved for each replica; zero asks for nothing in that dimension.
    pub resources: Resources,
    /// All must hold.
    pub constraints: Vec<Constraint>,
    /// Spread over the values of these labels before zones, the first one first. As in Swarm each
    /// value gets the same number, however many hosts bear it.
    pub preferences: Vec<Preference>,
    pub max_per_node: Option<MaxPerNode>,
    /// Ports published in host mode: one replica for each host.
    pub host_ports: BTreeSet<HostPort>,
    /// Any of these; empty for all.
    pub platforms: Vec<Platform>,
    /// For this slot this node is no candidate for now: it declined, or failed to start it.
    pub passed_over: BTreeSet<(u32, NodeId)>,
}

/// How many replicas of the service one host may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxPerNode {
    /// Exceeded when nothing else is left.
    Soft(u32),
    /// Never exceeded (Swarm's `--replicas-max-per-node`).
    Hard(u32),
}

/// Spread over the values of a label. Hosts without the label form one group together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preference {
    NodeLabel(String),
    EngineLabel(String),
}

/// A spread descriptor that names no label.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "placement preference '{0}' is not understood: expected node.labels.NAME or engine.labels.NAME"
)]
pub struct PreferenceError(String);

impl Preference {
    /// From a spread descriptor as Swarm writes it: `node.labels.NAME` or `engine.labels.NAME`.
    pub fn parse(descriptor: &str) -> Result<Self, PreferenceError> {
        let wrong = || PreferenceError(descriptor.chars().take(128).collect());
        let label = |prefix: &str| {
            let (head, name) = descriptor.split_at_checked(prefix.len())?;
            (head.eq_ignore_ascii_case(prefix) && !name.is_empty()).then(|| name.to_owned())
        };
        if let Some(name) = label("node.labels.") {
            return Ok(Self::NodeLabel(name));
        }
        label("engine.labels.").map(Self::EngineLabel).ok_or_else(wrong)
    }

    /// The group of `host`: its value of the label, empty without one.
    pub fn value<'h>(&self, host: &'h Host) -> &'h str {
        let (labels, name) = match self {
            Self::NodeLabel(name) => (&host.node_labels, name),
            Self::EngineLabel(name) => (&host.engine_labels, name),
        };
        labels.get(name).map_or("", String::as_str)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

/// A port of the host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct HostPort {
    pub protocol: Protocol,
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        write!(f, "{}/{protocol}", self.port)
    }
}

/// What an image runs on. An empty field fits every host.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Platform {
    pub os: String,
    pub arch: String,
}

impl Platform {
    pub fn fits(&self, host: &Host) -> bool {
        (self.os.is_empty() || self.os.eq_ignore_ascii_case(&host.os))
            && (self.arch.is_empty() || go_arch(&self.arch) == go_arch(&host.arch))
    }
}

/// Architectures have two names each, the kernel's and Go's.
fn go_arch(arch: &str) -> String {
    match arch.to_ascii_lowercase().as_str() {
        "x86_64" => "amd64".to_owned(),
        "aarch64" => "arm64".to_owned(),
        "i386" | "i686" => "386".to_owned(),
        other => other.to_owned(),
    }
}

/// Host ports in use, counted, because during a handover two replicas may name the same one.
pub type HostPorts = BTreeMap<HostPort, u32>;
