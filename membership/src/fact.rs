//! Observed state: what a node says about itself.
//!
//! A fact is one value under one key, written only by the node it is about. Facts travel two ways:
//! pushed over open connections as soon as they change, and through chitchat, which repairs what a
//! push missed. chitchat lets any member write any key, so each fact is signed by its owner and
//! carries a rising sequence number; whoever passes it on passes the signature on.
//!
//! Values are small on purpose: chitchat silently stops delivering a node's later keys behind a value
//! that is larger than one of its messages. What may grow (claims) is split over several keys.

use serde::{Deserialize, Serialize};

use crate::id::{CellId, Incarnation, NetworkId, NodeId, ServiceId};
use crate::wire;

/// The largest value that is published under one key, in bytes before any text encoding.
pub const MAX_FACT_BYTES: usize = 12 * 1024;

const SIGNING_DOMAIN: &[u8] = b"shoal fact 1\0";

/// What a fact is about. Append only: the order is part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum FactKey {
    /// [`crate::member::Profile`]: name, address, capacity, labels, versions. Changes rarely.
    Profile,
    /// [`crate::member::Health`]: engine state, leaving, record root. Changes now and then.
    Health,
    /// [`crate::detector::EdgeReport`]: which observed members do not answer this node.
    Edges,
    /// The node's claims on slots of one service, in parts of at most [`MAX_FACT_BYTES`].
    Claims { service: ServiceId, part: u16 },
    /// Tasks of one service that ended on this node, newest first.
    History { service: ServiceId },
    /// Which blocks of a network's addresses the node has.
    Blocks { network: NetworkId },
    /// The addresses of the node's tasks of one service, in the parts that its claims have.
    Endpoints { service: ServiceId, part: u16 },
}

impl FactKey {
    /// The first version of the protocol whose nodes understand it: others cannot read a message that holds it.
    pub fn since_protocol(&self) -> u16 {
        match self {
            Self::Profile
            | Self::Health
            | Self::Edges
            | Self::Claims { .. }
            | Self::History { .. } => 1,
            Self::Blocks { .. } | Self::Endpoints { .. } => 3,
        }
    }
}

/// One fact with the evidence that its owner wrote it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedFact {
    pub cell: CellId,
    pub owner: NodeId,
    pub incarnation: Incarnation,
    /// Rises with every publication of one incarnation, over all keys.
    pub seq: u64,
    pub key: FactKey,
    /// `None` withdraws the key.
    pub value: Option<Vec<u8>>,
    /// Ed25519 over [`SignedFact::signed_bytes`]; empty only inside the simulator.
    pub signature: Vec<u8>,
}

impl SignedFact {
    /// True if this is later news from its owner than `other`, under the same key.
    pub fn supersedes(&self, other: &Self) -> bool {
        (self.incarnation, self.seq) > (other.incarnation, other.seq)
    }
    /// What the signature covers: everything but itself, behind a prefix that keeps the signature from
    /// being taken for one over anything else.
    pub fn signed_bytes(&self) -> Vec<u8> {
        let covered =
            (self.cell, self.owner, self.incarnation, self.seq, self.key, self.value.as_ref());
        let mut bytes = SIGNING_DOMAIN.to_vec();
        bytes.extend(wire::canonical_bytes(&covered));
        bytes
    }
}
