//! One node's own share of a plan.

use std::collections::BTreeMap;

use membership::id::NodeId;

use crate::cluster::Cluster;
use crate::plan::{Held, plan};
use crate::request::Request;

/// The slots for which `me` is a candidate, with all their candidates in rank order, as
/// [`crate::plan`] gives them.
pub fn plan_mine(
    cluster: &Cluster,
    request: &Request,
    held: &BTreeMap<u32, Held>,
    orphans: &[u32],
    me: NodeId,
) -> BTreeMap<u32, Vec<NodeId>> {
    let mut choices = plan(cluster, request, held, orphans).choices;
    choices.retain(|_, candidates| candidates.contains(&me));
    choices
}
