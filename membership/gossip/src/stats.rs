//! Counters for `shoal status`, and what was dropped and why.

use std::net::SocketAddr;
use std::time::Duration;

use membership::id::{Incarnation, NodeId};

/// One connection, as `shoal status` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionStats {
    pub peer: NodeId,
    pub incarnation: Incarnation,
    /// Where the peer says that it is reached.
    pub addr: SocketAddr,
    /// Where its packets come from.
    pub observed: SocketAddr,
    /// QUIC's smoothed round-trip time.
    pub rtt: Duration,
    /// How long the connection has been up.
    pub up_for: Duration,
    /// This node made the connection, not the peer.
    pub dialled: bool,
}

/// Messages and bytes of one class, frame tags included, QUIC's own overhead not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub messages_in: u64,
    pub bytes_in: u64,
    pub messages_out: u64,
    pub bytes_out: u64,
}

/// What this node did not pass on since it started, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops {
    /// A message for a peer that was not connected in time.
    pub unconnected: u64,
    /// A peer's queue was full: its oldest gossip or its newest message was dropped.
    pub queue_full: u64,
    /// The daemon did not take reports fast enough: datagrams were dropped.
    pub reports_full: u64,
    /// A message was larger than may be sent.
    pub too_large: u64,
    /// A stream was not taken or not delivered within its deadline.
    pub slow_stream: u64,
    /// Frames that could not be decoded; each closes its connection.
    pub malformed: u64,
    /// Facts with a wrong signature or under another node's name.
    pub forged_facts: u64,
    /// Datagrams beyond what one peer may send in a second.
    pub flooded: u64,
    /// Connections refused at the handshake or the greeting.
    pub refused: u64,
    /// Digest entries of chitchat for more members than a group holds, or under wrong names.
    pub gossip_entries: u64,
    /// Containers' packets: no connection to the host in time, no room, or nobody here who takes them.
    pub packets: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub connections: Vec<ConnectionStats>,
    /// The core's messages that went as datagrams.
    pub datagrams: Traffic,
    /// The core's messages that went as streams.
    pub streams: Traffic,
    /// chitchat's messages, both ways of carrying together.
    pub chitchat: Traffic,
    /// Containers' packets on encrypted networks.
    pub packets: Traffic,
    pub drops: Drops,
    /// Members that chitchat holds state of, this node included.
    pub gossip_members: usize,
    /// How often chitchat had to be started again.
    pub chitchat_restarts: u64,
}
