//! Desired state: what operators and stewards asked for, one register at a time.
//!
//! A record is one whole value of one register. Of two records for the same key the one with the
//! greater (stamp, writer) stands, on every node, whatever the order in which they arrive: that makes
//! merging commutative, associative and idempotent (a join-semilattice; the laws are property-tested
//! in `registers`). Last-writer-wins alone loses edits silently, so each record also carries the
//! digests of its ancestors: a loser that the winner does not descend from was written concurrently
//! and is kept as a conflict until somebody dismisses it.
//!
//! The body is bytes. What is inside (the JSON that a client sent, a replica count) is the business
//! of the `node` crate; an older node carries fields it does not know without touching them.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::clock::Stamp;
use crate::id::{CellId, NodeId};
use crate::wire;

/// The largest body of a record, in bytes. Docker's own limits (500 KiB for a secret, 1000 KiB for a
/// config) fit.
pub const MAX_BODY_BYTES: usize = 1024 * 1024 + 64 * 1024;

/// How many ancestors a record names. A node that missed more edits than this in a row reports a
/// conflict that may be none: too many warnings rather than a lost edit.
pub const MAX_ANCESTORS: usize = 32;

/// What kind of thing a register holds. Append only: the order is part of the wire format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    /// A service's spec, as JSON.
    Service,
    /// A service's replica count, apart from its spec so that a deploy and an autoscaler never conflict.
    Scale,
    /// How far a rolling update has come; written by the service's steward.
    Rollout,
    /// Labels, role and availability that operators gave a node.
    NodeSettings,
    /// That a node was admitted, left or was removed.
    Admission,
    /// A losing concurrent edit, kept until dismissed.
    Conflict,
    /// Settings of the whole cluster.
    Cluster,
    Network,
    Secret,
    Config,
    Volume,
    /// Which slots of a job have ended on the node that writes it.
    Completions,
}

/// The name of one register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    pub kind: Kind,
    pub id: u128,
}

/// The first 128 bits of the SHA-256 of a record's encoded form.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Digest(pub u128);

impl Digest {
    /// The digest of any bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let hash = Sha256::digest(bytes);
        let mut first = [0u8; 16];
        first.copy_from_slice(&hash[..16]);
        Self(u128::from_be_bytes(first))
    }
}

/// One value of one register, as written by one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub cell: CellId,
    pub key: Key,
    pub stamp: Stamp,
    pub writer: NodeId,
    /// What this record was written over, nearest first; empty for the first of its key. The head of
    /// the list is the parent. At most [`MAX_ANCESTORS`].
    pub ancestors: Vec<Digest>,
    /// `None` is a tombstone: the thing was removed, and stays removed.
    pub body: Option<Vec<u8>>,
}

impl Record {
    /// The total order that decides which of two records for a key stands.
    pub fn order(&self) -> (Stamp, NodeId) {
        (self.stamp, self.writer)
    }

    /// What names this record among the ancestors of later ones: the first 128 bits of the SHA-256 of
    /// its encoded form.
    pub fn digest(&self) -> Digest {
        Digest::of_bytes(&wire::canonical_bytes(self))
    }

    pub fn is_tombstone(&self) -> bool {
        self.body.is_none()
    }
}
