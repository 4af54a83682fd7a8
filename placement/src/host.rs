//! A host as placement sees it: what it is, what it declares, and whether it takes anything new.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use membership::id::NodeId;
use membership::member::Resources;

/// One host. Everything in it comes from the member's profile, from records (labels, availability) and
/// from the view (`accepts`); nothing in it is load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub id: NodeId,
    pub name: String,
    /// Empty when none was given; hosts without a zone form one zone together.
    pub zone: String,
    /// Set by operators (`docker node update --label-add`): `node.labels.*`.
    pub node_labels: BTreeMap<String, String>,
    /// Set on the host itself (`--label`): `engine.labels.*`.
    pub engine_labels: BTreeMap<String, String>,
    /// "manager" or "worker", for `node.role`.
    pub role: String,
    pub os: String,
    /// As Go writes it (`amd64`) or as the kernel does (`x86_64`): both are understood.
    pub arch: String,
    pub ip: IpAddr,
    /// What it declares it can hold. A dimension of zero is unknown and sets no limit.
    pub capacity: Resources,
    pub accepts: Accepts,
}

/// Whether a host takes anything new. Never affects what it already holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accepts {
    Yes,
    No(Closed),
}

/// Why a host takes nothing new.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Closed {
    Down,
    Left,
    Draining,
    Paused,
    /// Some of its observers cannot reach it, or its shoal process is gone while the host answers.
    Unstable,
    /// It has started or was cut off and asks its peers before it takes anything.
    Settling,
    EngineUnavailable {
        reason: String,
    },
    /// It cannot compute the placement version the cluster uses.
    PlacementVersion {
        knows: u16,
    },
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Down => f.write_str("is down"),
            Self::Left => f.write_str("has left"),
            Self::Draining => f.write_str("is draining"),
            Self::Paused => f.write_str("is paused"),
            Self::Unstable => f.write_str("is unstable"),
            Self::Settling => f.write_str("has just come back and asks its peers first"),
            Self::EngineUnavailable { reason } => {
                write!(f, "has a container engine that does not answer ({reason})")
            }
            Self::PlacementVersion { knows } => {
                write!(f, "knows placement version {knows} only: upgrade it")
            }
        }
    }
}

impl Host {
    /// The host's share in races and levels: `min(cpu_milli, memory_MiB / 2)`, at least 1, rounded to
    /// four significant bits. Two GiB for each core is the ratio at which neither dimension leads; an
    /// unknown dimension (zero) does not count. Rounded, because hosts of one kind report memory that
    /// differs by a few MiB and are still equals. Depends on nothing but the host's own declaration.
    pub fn weight(&self) -> u32 {
        weight(self.capacity)
    }
}

/// [`Host::weight`] of a capacity.
pub fn weight(capacity: Resources) -> u32 {
    let by_memory = capacity.memory_bytes >> 21;
    let raw = match (capacity.cpu_milli, by_memory) {
        (0, 0) => 1,
        (0, memory) => memory,
        (cpu, 0) if capacity.memory_bytes == 0 => cpu,
        (cpu, memory) => cpu.min(memory),
    };
    // Cannot fail after the clamp; a host beyond it (268 million cores) counts as that.
    u32::try_from(four_bits(raw.clamp(1, 1 << 28))).unwrap_or(1 << 28)
}

/// Rounds to the nearest number with at most four significant bits, upward on a tie.
pub(crate) fn four_bits(value: u64) -> u64 {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(4);
    if shift == 0 {
        return value;
    }
    (value >> shift).saturating_add(value >> (shift - 1) & 1) << shift
}
