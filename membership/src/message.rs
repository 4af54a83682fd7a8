//! What one node's core says to another's. Encoded by [`crate::wire`], carried by the `gossip` crate:
//! small messages as QUIC datagrams (which may be lost), larger ones as streams.
//!
//! Every message may arrive twice, late, out of order or not at all; handling one twice changes
//! nothing. Append only: the order of the variants is part of the wire format.

use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::fact::SignedFact;
use crate::id::{CellId, NodeId};
use crate::record::{Key, Record};
use crate::sync::SyncMessage;
use crate::time::Wall;

/// A message with the cell it belongs to. The sender is known from the connection, never from here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    pub cell: CellId,
    pub message: Message,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Are you there? Answered by [`Message::Ack`] from the core itself, so that a stuck loop does
    /// not look alive because its network task still runs.
    Ping {
        seq: u64,
    },
    Ack {
        seq: u64,
    },
    /// Please ping `target` for me; answered by [`Message::IndirectAck`] if it answers.
    PingFor {
        seq: u64,
        target: NodeId,
    },
    IndirectAck {
        seq: u64,
        target: NodeId,
    },
    /// Urgent news about observed state.
    Facts(Vec<SignedFact>),
    /// Urgent news about desired state. Whoever has put them on its disk answers `Stored` to the
    /// sender when `confirm` is set.
    Records {
        records: Vec<Record>,
        confirm: bool,
    },
    /// These records are on the sender's disk.
    Stored(Vec<(Key, Stamp, NodeId)>),
    /// Anti-entropy of desired state.
    Sync(SyncMessage),
    /// The sender is going away on purpose and has handed over what it ran.
    Leaving,
    /// Asks for every fact the receiver holds: a node that starts or was cut off asks before it acts.
    Hello {
        want_facts: bool,
    },
    /// Answer to `Hello`, beside the facts it asked for: there are so many of them. It may overtake them.
    Welcome {
        facts: u32,
    },
    /// What the sender's wall clock shows; `asks`: and what does yours? Since protocol 2.
    Time {
        wall: Wall,
        asks: bool,
    },
}
