//! Making connections: one attempt with its deadline, and why it failed.

use std::net::SocketAddr;

use membership::id::{CellId, NodeId};

/// Why a node could not be connected to, in words for the operator. Attempts go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    #[error(
        "the name '{host}' cannot be resolved ({reason}): check the spelling and this host's DNS, or give an IP address"
    )]
    Name { host: String, reason: String },
    #[error(
        "nothing answers at {addr}/udp: check that shoal runs there, the address and port, and that no firewall drops UDP in between"
    )]
    Unreachable { addr: SocketAddr },
    #[error(
        "the member at {addr} does not accept this node's token: it belongs to another cluster (or speaks a version that this shoal does not know). Get the token with `shoal token` on that member"
    )]
    OtherToken { addr: SocketAddr },
    #[error(
        "what answers at {addr} does not hold this cluster's token: it is a member of another cluster, or not shoal at all"
    )]
    NotAMember { addr: SocketAddr },
    #[error("the member at {addr} is of another cluster: nothing was exchanged")]
    OtherCluster { addr: SocketAddr },
    #[error("the member at {addr} is of cell {theirs}, this node of cell {ours}: join a member of its own cell", theirs = .theirs.0, ours = .ours.0)]
    OtherCell { addr: SocketAddr, theirs: CellId, ours: CellId },
    #[error(
        "the member at {addr} speaks protocol versions {theirs:?}, this node {ours:?}: upgrade the older of the two"
    )]
    Version { addr: SocketAddr, theirs: (u16, u16), ours: (u16, u16) },
    #[error(
        "this node was removed from the cluster, the member at {addr} says: to join again as a new node, remove its data directory"
    )]
    Removed { addr: SocketAddr },
    #[error(
        "the group of the member at {addr} is full ({members} members): it takes no more, start a second cluster"
    )]
    Full { addr: SocketAddr, members: usize },
    #[error(
        "another running process holds this node's key and is connected to the member at {addr}: was the data directory copied? Each node needs its own"
    )]
    Superseded { addr: SocketAddr },
    #[error("{addr} is this node itself")]
    Myself { addr: SocketAddr },
    #[error("at {addr} answers {found}, not {wanted}: the address has changed hands")]
    OtherNode { addr: SocketAddr, wanted: NodeId, found: NodeId },
    #[error("the member at {addr} closed the connection: {reason}")]
    Closed { addr: SocketAddr, reason: String },
    #[error("this node is shutting down")]
    ShuttingDown,
}
