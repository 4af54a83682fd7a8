//! What a node is told when it starts, and why it may refuse to.

use std::net::SocketAddr;
use std::time::Duration;

use membership::id::{CellId, Incarnation};

use crate::identity::NodeKey;
use crate::token::Token;

/// Which network the cluster lives on. Sets the intervals below; the daemon's `--profile`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pace {
    /// All nodes on one machine: tests and `shoal demo`.
    Local,
    /// One site, round trips below some 10 ms.
    #[default]
    Lan,
    /// Several sites, round trips of up to some 300 ms.
    Wan,
}

impl Pace {
    /// How often chitchat compares notes with three other nodes while the cluster is small:
    /// 100 ms, 500 ms or 1 s. [`crate::facts::gossip_interval`] says how it grows.
    pub const fn gossip_interval(self) -> Duration {
        match self {
            Self::Local => Duration::from_millis(100),
            Self::Lan => Duration::from_millis(500),
            Self::Wan => Duration::from_secs(1),
        }
    }

    /// What QUIC takes a round trip to be before it has measured one. A lost first packet is sent
    /// again after three times this: 60 ms, 300 ms or 1 s.
    pub(crate) const fn initial_rtt(self) -> Duration {
        match self {
            Self::Local => Duration::from_millis(20),
            Self::Lan => Duration::from_millis(100),
            Self::Wan => Duration::from_millis(333),
        }
    }

    /// How long a handshake may take, and the greeting after it: 2 s, 3 s or 8 s each.
    pub(crate) const fn dial_deadline(self) -> Duration {
        match self {
            Self::Local => Duration::from_secs(2),
            Self::Lan => Duration::from_secs(3),
            Self::Wan => Duration::from_secs(8),
        }
    }
}

/// Everything that [`crate::Gossip::start`] needs.
#[derive(Debug)]
pub struct Config {
    pub key: NodeKey,
    pub token: Token,
    /// Persisted by the daemon, raised at each start and never used twice: it is chitchat's
    /// generation, and two runs under one generation never agree again.
    pub incarnation: Incarnation,
    pub cell: CellId,
    /// Where the UDP socket is bound. Port 0 lets the system choose; an unspecified IPv6 address
    /// takes IPv4 as well.
    pub listen: SocketAddr,
    /// Where others are told to reach this node. Port 0 stands for the port that was bound, an
    /// unspecified IP for the address with which this host reaches its first seed (or, without
    /// seeds, the outer world).
    pub advertise: SocketAddr,
    /// `HOST:PORT` of members to join, any will do; names are resolved again at each attempt.
    pub seeds: Vec<String>,
    pub pace: Pace,
}

/// Why a node did not start. Nothing was left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot listen on {addr}/udp: the address is in use. Another shoal node or another program has it: stop that one, or choose another with --listen IP:PORT"
    )]
    AddressInUse { addr: SocketAddr },
    #[error(
        "cannot listen on {addr}/udp: {source}. Choose an address that this host has with --listen IP:PORT"
    )]
    Listen { addr: SocketAddr, source: std::io::Error },
    #[error(
        "cannot tell under which address the other nodes reach this host ({source}): say it with --advertise IP:PORT"
    )]
    NoAdvertise { source: std::io::Error },
    #[error(
        "'{seed}' is not HOST:PORT: correct --join. A member's address is in its `shoal status`"
    )]
    BadSeed { seed: String },
    #[error(
        "this node's key cannot be used for TLS ({reason}): it is damaged, restore it from a backup or remove the data directory to start as a new node"
    )]
    Key { reason: String },
}

impl StartError {
    /// What a failed bind of `addr` means.
    pub(crate) fn listen(addr: SocketAddr) -> impl FnOnce(std::io::Error) -> Self {
        move |source| match source.kind() {
            std::io::ErrorKind::AddrInUse => Self::AddressInUse { addr },
            _ => Self::Listen { addr, source },
        }
    }
}
