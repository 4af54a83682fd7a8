//! Why not: the reason for which one host is refused. [`crate::pending`] sums them up.

use std::fmt;

use crate::host::Closed;
use crate::request::HostPort;
use crate::units::{Bytes, cpus};

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
