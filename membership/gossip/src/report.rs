//! What this crate tells the daemon, which passes most of it to the core as inputs.

use std::net::SocketAddr;

use bytes::Bytes;
use membership::fact::SignedFact;
use membership::id::{Incarnation, NodeId};
use membership::message::Message;

use crate::calls::CallWriter;
use crate::dial::DialError;

/// How many reports wait for the daemon. When they are that many, datagrams are dropped and counted
/// and streams wait, which holds their senders back.
pub const REPORTS: usize = 1024;

#[derive(Debug)]
pub enum FromGossip {
    /// From an admitted peer, over its own authenticated connection. Facts inside carry their
    /// owners' valid signatures; those that did not were left out and counted.
    Message { from: NodeId, message: Message },
    /// A verified fact that chitchat brought and that is later than what it brought before.
    Fact(SignedFact),
    /// A connection to the peer came up, or it came back as a later incarnation or with another
    /// address (then without a `Disconnected` in between).
    Connected {
        peer: NodeId,
        incarnation: Incarnation,
        /// Where it says that it is reached.
        addr: SocketAddr,
        /// Where its packets come from.
        observed: SocketAddr,
    },
    /// The last connection to the peer ended.
    Disconnected { peer: NodeId, reason: DisconnectReason },
    /// Answer to [`crate::GossipHandle::ask_host`].
    HostAnswer { target: NodeId, answer: HostAnswer },
    /// A peer asks for something that is answered on a stream of its own.
    Call { from: NodeId, request: Bytes, answer: CallWriter },
    /// A seed could not be joined. Repeated only when the reason changes; it is tried on for ever.
    SeedFailed { seed: String, error: DialError },
    /// A seed that is a member answered; reported once for each success after a failure.
    SeedJoined { seed: String, peer: NodeId },
    /// chitchat's task ended and may only be started again under an incarnation that was never used:
    /// draw one greater than `above`, persist it and hand it to
    /// [`crate::GossipHandle::set_incarnation`]. Until then facts travel by push alone.
    IncarnationNeeded { reason: String, above: Incarnation },
    /// chitchat runs again under the new incarnation and holds what had been published before: the
    /// core may publish all its facts again under the new incarnation.
    Restarted { incarnation: Incarnation },
    /// A node was kept out because this gossip group is full. Reported once a minute at most.
    GroupFull { members: usize, refused: Option<NodeId> },
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DisconnectReason {
    /// The peer said that it stops or leaves.
    Stopped,
    /// Nothing was heard from it for ten seconds.
    Silent,
    /// Its process was started again: the new one did not know the connection.
    Restarted,
    /// It was closed for what the peer sent or because it was removed.
    Refused(String),
    Other(String),
}

/// What the host of an unreachable node said when it was asked outside QUIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAnswer {
    /// "Port unreachable": the host is there, its shoal process is not.
    Refused,
    /// Nothing: the host is gone, cut off or drops silently, or shoal still has the port.
    Silent,
}
