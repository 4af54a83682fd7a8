//! Why not: the reason one host is refused, and the sum of them when no host is left, in the words
//! that Swarm's users look for, followed by what Swarm leaves out.

use std::collections::BTreeMap;
use std::fmt;

use membership::id::NodeId;

use crate::host::Closed;
use crate::request::HostPort;

/// Why one host cannot take a replica. Ordered as the checks are made; the first that fails is told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// It takes nothing new.
    Closed(Closed),
    /// The first constraint that does not hold.
    Constraint {
        constraint: String,
    },
    Platform {
        os: String,
        arch: String,
    },
    /// Free and wanted, in thousandths of a core.
    Cpu {
        free_milli: u64,
        wanted_milli: u64,
    },
    /// Free and wanted, in bytes.
    Memory {
        free_bytes: u64,
        wanted_bytes: u64,
    },
    HostPort(HostPort),
    /// It holds as many replicas of the service as it may.
    MaxPerNode {
        limit: u32,
    },
    /// It declined this slot, or failed to start it, a short while ago.
    PassedOver,
    /// No such host in the view.
    Unknown,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed(closed) => closed.fmt(f),
            Self::Constraint { constraint } => write!(f, "does not satisfy {constraint}"),
            Self::Platform { os, arch } => write!(f, "runs {os}/{arch}, which the image does not"),
            Self::Cpu { free_milli, wanted_milli } => {
                write!(f, "has {} of {} CPUs free", cpus(*free_milli), cpus(*wanted_milli))
            }
            Self::Memory { free_bytes, wanted_bytes } => {
                write!(f, "has {} of {} free", Bytes(*free_bytes), Bytes(*wanted_bytes))
            }
            Self::HostPort(port) => write!(f, "has port {port} in use"),
            Self::MaxPerNode { limit } => write!(f, "holds {limit} of at most {limit} replicas"),
            Self::PassedOver => {
                f.write_str("declined or failed to start it and is passed over for a while")
            }
            Self::Unknown => f.write_str("is not a member"),
        }
    }
}

/// How many of the largest free amounts a message names.
const NAMED: usize = 5;

/// No host can take the slot: all refusals, counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Every host of the cluster, under the reason it was refused for.
    pub refused: BTreeMap<NodeId, Refusal>,
}

/// Reasons in the granularity of Swarm's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    Closed,
    Resources,
    Constraint,
    Platform,
    HostPort,
    MaxPerNode,
    PassedOver,
}

impl Refusal {
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Closed(_) | Self::Unknown => RefusalKind::Closed,
            Self::Cpu { .. } | Self::Memory { .. } => RefusalKind::Resources,
            Self::Constraint { .. } => RefusalKind::Constraint,
            Self::Platform { .. } => RefusalKind::Platform,
            Self::HostPort(_) => RefusalKind::HostPort,
            Self::MaxPerNode { .. } => RefusalKind::MaxPerNode,
            Self::PassedOver => RefusalKind::PassedOver,
        }
    }
}

impl Pending {
    /// How many hosts were refused for each kind of reason.
    pub fn counts(&self) -> BTreeMap<RefusalKind, u32> {
        let mut counts = BTreeMap::new();
        for refusal in self.refused.values() {
            *counts.entry(refusal.kind()).or_insert(0) += 1;
        }
        counts
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no suitable node")?;
        let mut counts: Vec<_> = self.counts().into_iter().collect();
        // Swarm names the most frequent reason first.
        counts.sort_by_key(|(kind, count)| (u32::MAX - count, *kind));
        for (place, (kind, count)) in counts.iter().enumerate() {
            f.write_str(if place == 0 { " (" } else { "; " })?;
            write_count(f, *kind, *count)?;
        }
        if !counts.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

fn write_count(f: &mut fmt::Formatter<'_>, kind: RefusalKind, count: u32) -> fmt::Result {
    let nodes = if count == 1 { "node" } else { "nodes" };
    match kind {
        RefusalKind::Closed => write!(f, "{count} {nodes} not available for new tasks"),
        RefusalKind::Resources => write!(f, "insufficient resources on {count} {nodes}"),
        RefusalKind::Constraint => {
            write!(f, "scheduling constraints not satisfied on {count} {nodes}")
        }
        RefusalKind::Platform => write!(f, "unsupported platform on {count} {nodes}"),
        RefusalKind::HostPort => write!(f, "host-mode port already in use on {count} {nodes}"),
        RefusalKind::MaxPerNode => f.write_str("max replicas per node limit exceed"),
        RefusalKind::PassedOver => write!(f, "passed over on {count} {nodes}"),
    }
}

/// Thousandths of a core as a decimal: 1500 is "1.5".
fn cpus(milli: u64) -> String {
    decimal(milli, 1000)
}

/// `value / unit` with at most one digit after the point (two below one half), rounded down.
fn decimal(value: u64, unit: u64) -> String {
    let whole = value / unit;
    let rest = value % unit;
    let tenth = rest * 10 / unit;
    let hundredth = rest * 100 / unit % 10;
    match (whole, tenth, hundredth) {
        (_, 0, 0) => format!("{whole}"),
        (0, _, h) if h != 0 => format!("0.{tenth}{h}"),
        (_, 0, _) => format!("{whole}"),
        _ => format!("{whole}.{tenth}"),
    }
}

/// A number of bytes as people write it.
#[derive(Clone, Copy)]
struct Bytes(u64);

const UNITS: [(&str, u64); 4] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 >= *unit) {
            Some((name, unit)) => write!(f, "{} {name}", decimal(self.0, *unit)),
            None => write!(f, "{} B", self.0),
        }
    }
}
