//! Foresight: what the cluster would do, and why things are where they are, asked without touching
//! anything.
//!
//! [`Node::picture`] copies what this node believes of members, services and claims; it is quick, so
//! that the loop is not held up, and the rest is worked out on the copy, in any thread. The same rules
//! are used as in a pass (`reconcile`), so the answer is what every node would plan if the world
//! changed at this instant: [`changes`] says what may be supposed, [`outlook`] what follows, [`why`] why
//! a slot is where it is.

pub mod changes;
pub mod outlook;
mod report;
pub mod why;

#[cfg(test)]
mod tests;

pub use changes::{Change, ChangeError, NewHost};
pub use outlook::{Foresight, HostOutlook, Move, MoveKind, ServiceOutlook, Stop, Waiting};

use std::cmp::Reverse;
use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId, TaskId};
use membership::member::MemberState;
use membership::time::{Millis, Wall};
use placement::{Cluster, Held, Host, Request, race};

use crate::claims::strength;
use crate::hosts::{host, request, weight_of};
use crate::node::Node;
use crate::rollout::Rollout;
use crate::services::Service;
use crate::slot::{Claim, Epoch, Phase, Slot};
use crate::spec::{Mode, Partition};
use crate::views::Availability;

/// What one node believes, at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The node that believes it.
    pub me: NodeId,
    pub members: BTreeMap<NodeId, PicturedMember>,
    pub services: BTreeMap<ServiceId, PicturedService>,
    /// Members that were lost within the brake's window before the picture was taken.
    pub lost: usize,
    pub patience: Patience,
    /// What makes this view less than whole just now, in the operator's words.
    pub caveats: Vec<String>,
}

/// Settings that say when something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    pub fence_after: Millis,
    pub fence_wait: Millis,
    /// How long the view must be quiet before load is evened out; `None` if it never is.
    pub even_after: Option<Millis>,
    pub stagger: Millis,
}

#[derive(Clone, Debug)]
pub struct PicturedMember {
    pub name: String,
    pub state: MemberState,
    pub reason: String,
    pub availability: Availability,
    /// Admitted, and neither left nor removed: it counts for the majority.
    pub belongs: bool,
    /// It counts as alive for the majority.
    pub counted: bool,
    pub settling: bool,
    /// `None` for a member that has not been heard of since this node started.
    pub host: Option<Host>,
}

#[derive(Clone, Debug)]
pub struct PicturedService {
    pub name: String,
    /// `None` for a service that this node does not run on its reading; `idle` then says why.
    pub wants: Option<Wants>,
    pub idle: Option<String>,
    /// Of a job, whose tasks come and go and are not foreseen: what each that runs takes on its host.
    pub job: Option<Request>,
    /// Everybody who claims a slot; the best live claim first, then the other live ones by node, then
    /// those of members that are gone.
    pub claims: BTreeMap<Slot, Vec<Holding>>,
    /// Why slots are not placed, by this node's last plan.
    pub pending: BTreeMap<Slot, String>,
}

#[derive(Clone, Debug)]
pub struct Wants {
    pub request: Request,
    pub mode: Mode,
    /// Replicated services only.
    pub replicas: u32,
    pub partition: Partition,
    /// A rolling update is under way.
    pub rolling: bool,
}

/// One claim on a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    pub node: NodeId,
    /// What its node says counts: it is not down.
    pub live: bool,
    pub epoch: Epoch,
    pub phase: Phase,
    /// Attempts that failed in a row.
    pub failures: u32,
    pub task: TaskId,
    /// When that attempt was made, and since when it is in its state, by its node's clock.
    pub created: Wall,
    pub since: Wall,
    /// Why it does not run, if it says so.
    pub error: Option<String>,
}

impl Holding {
    /// It serves, or has done its work.
    pub fn serves(&self) -> bool {
        matches!(self.phase, Phase::Ready | Phase::Complete)
    }
}

impl Node {
    /// Copies what foresight needs. Costs one step for each claim of the cluster.
    pub fn picture(&self) -> Picture {
        let members: BTreeMap<NodeId, PicturedMember> = self
            .view
            .members
            .iter()
            .map(|(id, known)| {
                let counted = id == self.me || known.profile.is_some();
                let member = PicturedMember {
                    name: known.settings.name.clone().unwrap_or_else(|| known.name()),
                    state: known.state,
                    reason: known.reason.clone(),
                    availability: known.settings.availability,
                    belongs: known.belongs(),
                    counted: counted && known.belongs() && known.state.holds_claims(),
                    settling: known.is_settling(),
                    host: host(id, known),
                };
                (id, member)
            })
            .collect();
        let mut picture = Picture {
            me: self.me,
            members,
            services: BTreeMap::new(),
            lost: self.view.losses.lately(self.timers.last_handled),
            patience: Patience {
                fence_after: self.settings.fence_after,
                fence_wait: self.settings.fence_wait,
                even_after: (self.settings.rebalance_every > Millis::ZERO)
                    .then_some(self.settings.rebalance_after),
                stagger: self.settings.stagger,
            },
            caveats: self.caveats(),
        };
        let cluster = picture.empty_cluster();
        picture.services = self
            .view
            .services
            .iter()
            .map(|service| (service.id, self.picture_service(service, &cluster)))
            .collect();
        picture
    }

    fn picture_service(&self, service: &Service, cluster: &Cluster) -> PicturedService {
        let spec = service.active();
        let job = spec.filter(|spec| spec.mode.is_job()).map(|spec| request(service.id, spec));
        let wants = spec.filter(|spec| !spec.mode.is_job()).map(|spec| Wants {
            request: request(service.id, spec),
            mode: spec.mode,
            replicas: spec.replicas,
            partition: spec.partition,
            rolling: service.rollout.as_ref().is_some_and(Rollout::is_running),
        });
        let idle = match (&service.spec, service.shadowed_by) {
            (Err(reason), _) => Some(format!("this node cannot read its spec: {reason}")),
            (Ok(_), Some(other)) => {
                Some(format!("an older service bears its name ({other}): it runs nothing"))
            }
            (Ok(_), None) if job.is_some() => Some(
                "it is a job: its tasks come and go, and where the next ones run is decided when their turn comes"
                    .to_owned(),
            ),
            (Ok(_), None) => None,
        };
        let claims = self.view.claims.slots(service.id).map(|(slot, holders)| {
            let mut all: Vec<(NodeId, &Claim)> = holders.iter().map(|(n, c)| (*n, &**c)).collect();
            let live = |node: NodeId| self.view.members.holds_claims(node);
            let index = if let Slot::Index(index) = slot { index } else { 0 };
            let best = all.iter().filter(|(node, _)| live(*node)).max_by_key(|(node, claim)| {
                strength(claim, *node, race(service.id, index, *node, weight_of(cluster, *node)))
            });
            let best = best.map(|(node, _)| *node);
            all.sort_by_key(|(node, _)| (Reverse(Some(*node) == best), !live(*node), *node));
            let holding = |(node, claim): (NodeId, &Claim)| holding(node, live(node), claim);
            (slot, all.into_iter().map(holding).collect())
        });
        PicturedService {
            name: service.name().to_owned(),
            wants,
            idle,
            job,
            claims: claims.collect(),
            pending: self
                .pending_reasons(service)
                .into_iter()
                .map(|(index, text)| (Slot::Index(index), text))
                .collect(),
        }
    }

    fn caveats(&self) -> Vec<String> {
        let mut caveats = Vec::new();
        if self.settling.on() {
            caveats.push("this node has just started and still asks its peers".to_owned());
        }
        if self.detector.holds_back(self.timers.last_handled) {
            caveats.push("this node doubts its own connection".to_owned());
        }
        for node in self.view.members.unheard(self.me, self.timers.last_handled) {
            caveats.push(format!("what {} runs is not known yet", self.node_name(node)));
        }
        caveats
    }
}

fn holding(node: NodeId, live: bool, claim: &Claim) -> Holding {
    Holding {
        node,
        live,
        epoch: claim.epoch,
        phase: claim.phase,
        failures: claim.failures,
        task: claim.task.id,
        created: claim.task.created,
        since: claim.task.since,
        error: claim.task.error.clone(),
    }
}

impl Picture {
    /// What people call a node.
    pub fn name(&self, node: NodeId) -> String {
        match self.members.get(&node) {
            Some(member) if !member.name.is_empty() => member.name.clone(),
            _ => node.to_string(),
        }
    }

    /// (alive, all) members, as `majority` counts them.
    pub fn quorum(&self) -> (usize, usize) {
        let belong = self.members.values().filter(|member| member.belongs);
        let alive = belong.clone().filter(|member| member.counted).count();
        (alive, belong.count())
    }

    fn has_majority(&self) -> bool {
        let (alive, all) = self.quorum();
        alive * 2 > all
    }

    fn empty_cluster(&self) -> Cluster {
        Cluster::new(self.members.values().filter_map(|member| member.host.clone()))
    }

    /// Hosts with the load of every live claim.
    fn cluster(&self) -> Cluster {
        let mut cluster = self.empty_cluster();
        for service in self.services.values() {
            let wanted = service.wants.as_ref().map(|wants| &wants.request);
            let Some(request) = wanted.or(service.job.as_ref()) else { continue };
            let ended = |claim: &Holding| service.job.is_some() && claim.phase == Phase::Complete;
            for claim in service.claims.values().flatten().filter(|c| c.live && !ended(c)) {
                cluster.add_load(claim.node, request);
            }
        }
        cluster
    }
}

impl PicturedService {
    /// The best live claim on a slot.
    pub fn holder(&self, slot: Slot) -> Option<&Holding> {
        self.claims.get(&slot)?.first().filter(|claim| claim.live)
    }

    /// The live claims on each numbered slot, the best first.
    fn held(&self) -> BTreeMap<u32, Vec<Held>> {
        let live = |claims: &[Holding]| -> Vec<Held> {
            let live = claims.iter().filter(|claim| claim.live);
            live.map(|claim| Held { node: claim.node, settled: claim.serves() }).collect()
        };
        self.claims
            .iter()
            .filter_map(|(slot, claims)| match slot {
                Slot::Index(index) => Some((*index, live(claims))),
                Slot::Node(_) => None,
            })
            .filter(|(_, claims)| !claims.is_empty())
            .collect()
    }
}
