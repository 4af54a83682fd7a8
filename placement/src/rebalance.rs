//! What should move although nothing failed: off hosts that may no longer hold it, and onto hosts that
//! stand empty. Both are done by the node that takes the slot over, which starts its own replica before
//! the old one stops.

use membership::id::NodeId;

use crate::cluster::Cluster;
use crate::eligible::suits;
use crate::host::{Accepts, Closed};
use crate::refusal::Refusal;
use crate::request::Request;

/// Why a slot must leave `node`, which holds it; `None` if it may stay. A slot leaves a host that is
/// draining, or that no longer satisfies constraints or platforms. It stays on one that is paused,
/// unstable or settling, whose engine does not answer, or that is over its capacity; what was on a
/// host that is down or gone is an orphan, not misplaced.
pub fn misplaced(cluster: &Cluster, request: &Request, node: NodeId) -> Option<Refusal> {
    let at = cluster.index(node)?;
    match &cluster.host_at(at).accepts {
        Accepts::No(Closed::Draining) => Some(Refusal::Closed(Closed::Draining)),
        _ => suits(cluster, request, at).err(),
    }
}
