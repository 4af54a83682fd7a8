//! Who watches whom.
//!
//! Every member has a place on each of [`K`] rings, drawn by hashing its id with the ring's number; on
//! each ring the next member watches it. The watchers of a member are thereby a pure function of the
//! set of members, spread evenly, and a join or a leave changes only a handful of them (Suresh et al.,
//! "Stable and Consistent Membership at Scale with Rapid", ATC 2018). Small clusters watch each other
//! all-to-all.

use std::collections::BTreeSet;

use crate::id::NodeId;

/// How many observers a member has, where there are enough others.
pub const K: usize = 10;

/// The rings over one set of members, kept so that many questions about one set cost one sorting.
#[derive(Clone, Debug, Default)]
pub struct Rings {
    rings: Vec<Vec<(u64, NodeId)>>,
    members: BTreeSet<NodeId>,
}

impl Rings {
    pub fn new(members: &BTreeSet<NodeId>) -> Self {
        let _ = members;
        Self::default()
    }

    /// The members that probe `target`: exactly min([`K`], others) distinct ones, never `target`.
    pub fn observers_of(&self, target: NodeId) -> BTreeSet<NodeId> {
        let _ = target;
        BTreeSet::new()
    }

    /// The members that `me` probes: the inverse of [`Self::observers_of`].
    pub fn observed_by(&self, me: NodeId) -> BTreeSet<NodeId> {
        let _ = me;
        BTreeSet::new()
    }
}

/// [`Rings::observers_of`] for a single question.
pub fn observers_of(target: NodeId, members: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    Rings::new(members).observers_of(target)
}

/// [`Rings::observed_by`] for a single question.
pub fn observed_by(me: NodeId, members: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    Rings::new(members).observed_by(me)
}
