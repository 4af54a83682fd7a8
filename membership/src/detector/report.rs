//! What an observer publishes: the members that do not answer it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Incarnation, NodeId};

/// How many down edges one report names at most, so that it fits a fact. Above that the ones with the
/// greatest ids are left out: a node that cannot reach 400 members is hardly an authority on them.
pub const MAX_REPORTED_EDGES: usize = 400;

/// How an observed member fails to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum EdgeState {
    /// Silence.
    Down,
    /// The host answers that nobody listens there: only the shoal process is gone.
    Refused,
}

/// One member that does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    /// The incarnation that did not answer; says nothing about a later one.
    pub incarnation: Incarnation,
    pub state: EdgeState,
}

/// The observed members whose edge is not up, by id. Whoever is not named is up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EdgeReport {
    pub edges: BTreeMap<NodeId, Edge>,
}
