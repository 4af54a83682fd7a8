//! Several services in one pass.
//!
//! The plan of one service depends on the load that the others put on the hosts. When a host fails, many
//! services have orphans at once, and each node plans while the claims of the others arrive; if every
//! new claim changed the load under every other service's plan, two nodes would seldom agree. So the
//! batch of a pass is that of [`crate::plan()`] in the large: what is ready is counted first, and services
//! with orphans or with replicas still starting are walked in the order of their ids, each one seeing
//! the replicas of those before it, claimed or planned, and none of those after it. Claims that follow
//! the plan then change nothing for any service of the pass.

use std::collections::BTreeMap;

use membership::id::ServiceId;

use crate::cluster::Cluster;
use crate::plan::{Held, Plan, plan};
use crate::request::Request;

/// One service of a pass; see [`crate::plan()`] for `held` and `orphans`.
#[derive(Clone, Debug)]
pub struct Job<'j> {
    pub request: &'j Request,
    pub held: &'j BTreeMap<u32, Held>,
    pub orphans: &'j [u32],
}

/// Plans all services that have orphans or replicas still starting; their order does not matter, and
/// of two jobs for one service the later stands.
///
/// Loads in `cluster` count every *settled* claim of every service and no other. Afterwards they also
/// count what is starting and what was planned.
pub fn plan_all<'j>(
    cluster: &mut Cluster,
    jobs: impl IntoIterator<Item = Job<'j>>,
) -> BTreeMap<ServiceId, Plan> {
    let jobs: BTreeMap<ServiceId, Job<'j>> =
        jobs.into_iter().map(|job| (job.request.service, job)).collect();
    let mut plans = BTreeMap::new();
    for (service, job) in jobs {
        for held in job.held.values().filter(|held| !held.settled) {
            cluster.add_load(held.node, job.request);
        }
        let plan = plan(cluster, job.request, job.held, job.orphans);
        for owner in plan.choices.values().filter_map(|candidates| candidates.first()) {
            cluster.add_load(*owner, job.request);
        }
        plans.insert(service, plan);
    }
    plans
}
