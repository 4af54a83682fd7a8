//! The plan of one service: who may take each orphaned slot, in order, or why nobody can.
//!
//! Every node computes this for itself while the claims of the others trickle in, so a claim that
//! follows the plan must not change the rest of it. Therefore the replicas that are ready are counted
//! first; the orphans and the replicas that are still starting form one batch that is walked in the
//! order of slots. A starting replica counts on its holder when its slot is passed, an orphan on its
//! planned owner: an orphan that turns into a claim by its planned owner leaves all other choices as
//! they were.
//!
//! For each orphan: the group that is behind (preferences, then zones; see `spread`), in it the least
//! filled hosts (see `floor`), among those the first [`CHOICES`] of the race that are not far above the
//! average load, the least loaded of these first. What does not fill [`CHOICES`] is filled up from
//! hosts above the average, from higher levels, from other groups, and from hosts at their soft limit.

use std::collections::BTreeMap;
use std::sync::Arc;

use membership::id::NodeId;

use crate::batch::{Batch, Step};
use crate::cluster::Cluster;
use crate::pending::Pending;
use crate::request::Request;
use crate::roster::Roster;

/// How many hosts of the race are compared by load (d of the power of d choices), and at least how many
/// candidates a slot has where there are so many. Twice as many add little: the gain of more choices
/// falls off double-logarithmically (Mitzenmacher 2001). `benches/plan.rs` prints what comes of it.
pub const CHOICES: usize = 8;

/// Who holds a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub node: NodeId,
    /// True once it is ready; false while it is claimed and still starting.
    pub settled: bool,
}

/// Candidates or a reason for each slot that was asked for, never both, never neither.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In rank order: the first is the planned owner, the others step in when it does not claim.
    /// Never empty, fewer than twice [`CHOICES`].
    pub choices: BTreeMap<u32, Vec<NodeId>>,
    /// Shared, because one reason often stands for many slots.
    pub pending: BTreeMap<u32, Arc<Pending>>,
}

/// Plans the orphans of one service.
///
/// `held` has every slot that somebody holds and that shall stay where it is. `orphans` are the slots
/// to place, in any order; one that is also in `held` is taken as held, and left out of the
/// plan. A slot that must leave its host is passed as an orphan.
///
/// Loads in `cluster` count every claim of every service, also those of this one, settled or not, each
/// of this one's with `request`'s own resources and ports.
pub fn plan(
    cluster: &Cluster,
    request: &Request,
    held: &BTreeMap<u32, Held>,
    orphans: &[u32],
) -> Plan {
    let settled = |slot: &u32| held.get(slot).is_some_and(|held| held.settled);
    // Held by somebody outside the view: not ours to place either.
    let elsewhere = |slot: &u32| held.get(slot).is_some_and(|h| cluster.host(h.node).is_none());
    let orphans: Vec<u32> =
        orphans.iter().copied().filter(|slot| !settled(slot) && !elsewhere(slot)).collect();
    plan_orphans(cluster, request, &Roster::of(cluster, held), &orphans)
}

/// [`plan`] over a roster that is kept up to date. None of `orphans` may be settled in it; one that is
/// starting in it is taken as held.
pub fn plan_orphans(
    cluster: &Cluster,
    request: &Request,
    roster: &Roster,
    orphans: &[u32],
) -> Plan {
    let mut batch = Batch::whole(cluster, request, roster, orphans);
    let mut plan = Plan::default();
    for (slot, step) in std::mem::take(&mut batch.steps) {
        match step {
            Step::Holder(at) => batch.pass(at),
            Step::Orphan => match batch.choose(slot) {
                Ok(candidates) => {
                    batch.pass(candidates[0]);
                    let names = candidates.iter().map(|at| cluster.id(*at)).collect();
                    plan.choices.insert(slot, names);
                }
                Err(pending) => {
                    plan.pending.insert(slot, pending);
                }
            },
        }
    }
    plan
}
