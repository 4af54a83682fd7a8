//! Everything at once: what the nodes would do if the view became this one.
//!
//! [`crate::plan()`] answers for one service. Here all services of a cluster are walked as the nodes
//! walk them, in the order of their ids, each one planned beside what those before it have claimed.
//! The answer is what every node works out for itself once it has the same view, so it foretells what
//! a failure, a drain or a new count moves, as long as claims do not overtake each other (a candidate
//! that is late or busy is stepped in for by the next in rank).
//!
//! Two steps, as in the cluster: [`foresee`] is what must happen, at once; [`even_out`] is what the
//! emptier hosts pull afterwards, when the view has been quiet for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership::id::{NodeId, ServiceId};

use crate::cluster::Cluster;
use crate::eligible::eligible;
use crate::pending::Pending;
use crate::plan::{Held, plan};
use crate::rebalance::{misplaced, next_pull};
use crate::refusal::Refusal;
use crate::request::Request;

/// One service as it stands, with what is wanted of it.
#[derive(Clone, Debug)]
pub struct Work {
    pub request: Request,
    pub seats: Seats,
    /// False where nothing of it may be started, whatever room there is (no majority).
    pub may_start: bool,
    /// False while it must not be evened out (a rollout is under way).
    pub may_pull: bool,
}

/// The places of a service, and who has them.
#[derive(Clone, Debug)]
pub enum Seats {
    /// Slots from 1 to `count`; for each who claims it, the best claim first, the others by id. Slots
    /// above `count` are not looked at.
    Slots { count: u32, held: BTreeMap<u32, Vec<Held>> },
    /// One on each host that suits.
    EachHost { on: BTreeSet<NodeId> },
}

/// What becomes of one service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Slots that are started somewhere, with their candidates in rank order; never an empty list.
    pub chosen: BTreeMap<u32, Vec<NodeId>>,
    /// Slots that must leave the host that holds them, and why. Those that are not in `chosen` find no
    /// other host and stay.
    pub leaving: BTreeMap<u32, (NodeId, Refusal)>,
    /// Slots that are being handed over already: from, to.
    pub relieving: BTreeMap<u32, (NodeId, NodeId)>,
    /// Slots that nobody can take.
    pub pending: BTreeMap<u32, Arc<Pending>>,
    /// Slots that nobody may start, though there may be room; those also in `leaving` stay.
    pub barred: BTreeSet<u32>,
    /// Global services: hosts that start one, and hosts that end theirs and why.
    pub starts_on: BTreeSet<NodeId>,
    pub ends_on: BTreeMap<NodeId, Refusal>,
}

/// A move of evening out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evening {
    pub service: ServiceId,
    pub slot: u32,
    pub from: NodeId,
    pub to: NodeId,
}

/// What happens at once.
///
/// Loads in `cluster` count every claim of every service. Afterwards they and the seats are those after
/// all moves are done. Costs what planning the services with open slots costs.
pub fn foresee(
    cluster: &mut Cluster,
    works: &mut BTreeMap<ServiceId, Work>,
) -> BTreeMap<ServiceId, Outlook> {
    for work in works.values_mut() {
        let Seats::Slots { count, held } = &mut work.seats else { continue };
        for gone in held.split_off(&count.saturating_add(1)).into_values().flatten() {
            cluster.remove_load(gone.node, &work.request);
        }
    }
    // What is still starting counts from its service's turn on, and not before: so claims
    // that follow the plan change nothing for the services walked earlier.
    each_starting(works, |node, request| cluster.remove_load(node, request));
    let mut outlooks = BTreeMap::new();
    for (id, work) in works.iter() {
        starting(work, &mut |node, request| cluster.add_load(node, request));
        let outlook = match &work.seats {
            Seats::Slots { count, held } => slots(cluster, work, *count, held),
            Seats::EachHost { on } => each_host(cluster, work, on),
        };
        let starts = outlook.chosen.values().filter_map(|candidates| candidates.first());
        for node in starts.chain(&outlook.starts_on) {
            cluster.add_load(*node, &work.request);
        }
        outlooks.insert(*id, outlook);
    }
    // Make before break: what is left behind is counted until everybody has claimed.
    for (work, outlook) in works.values_mut().zip(outlooks.values()) {
        settle(cluster, work, outlook);
    }
    outlooks
}

fn each_starting(
    works: &BTreeMap<ServiceId, Work>,
    mut change: impl FnMut(NodeId, &Request) -> bool,
) {
    for work in works.values() {
        starting(work, &mut change);
    }
}

/// Calls `change` for each claim that is not ready.
fn starting(work: &Work, change: &mut impl FnMut(NodeId, &Request) -> bool) {
    let Seats::Slots { held, .. } = &work.seats else { return };
    for claim in held.values().flatten().filter(|claim| !claim.settled) {
        change(claim.node, &work.request);
    }
}

fn slots(cluster: &Cluster, work: &Work, count: u32, claims: &BTreeMap<u32, Vec<Held>>) -> Outlook {
    let mut outlook = Outlook::default();
    let (mut open, mut held) = (Vec::new(), BTreeMap::new());
    for slot in 1..=count {
        let claims = claims.get(&slot).map(Vec::as_slice).unwrap_or_default();
        let Some((best, others)) = claims.split_first() else {
            open.push(slot);
            continue;
        };
        match (misplaced(cluster, &work.request, best.node), others.first()) {
            (None, _) => {
                held.insert(slot, *best);
            }
            (Some(_), Some(relief)) => {
                outlook.relieving.insert(slot, (best.node, relief.node));
                held.insert(slot, Held { node: relief.node, settled: false });
            }
            (Some(refusal), None) => {
                outlook.leaving.insert(slot, (best.node, refusal));
                open.push(slot);
            }
        }
    }
    if open.is_empty() {
        return outlook;
    }
    if !work.may_start {
        outlook.barred = open.into_iter().collect();
        return outlook;
    }
    let planned = plan(cluster, &work.request, &held, &open);
    outlook.pending = planned.pending;
    outlook.chosen = planned.choices;
    outlook
}

fn each_host(cluster: &Cluster, work: &Work, on: &BTreeSet<NodeId>) -> Outlook {
    let mut outlook = Outlook::default();
    for host in cluster.hosts() {
        if on.contains(&host.id) {
            if let Some(refusal) = misplaced(cluster, &work.request, host.id) {
                outlook.ends_on.insert(host.id, refusal);
            }
        } else if work.may_start && eligible(cluster, &work.request, host.id).is_ok() {
            outlook.starts_on.insert(host.id);
        }
    }
    outlook
}

/// Every claim is ready, each slot is held once, and whoever was relieved has let go.
fn settle(cluster: &mut Cluster, work: &mut Work, outlook: &Outlook) {
    match &mut work.seats {
        Seats::Slots { held, .. } => {
            for (slot, claims) in held.iter_mut() {
                let relief = outlook.relieving.get(slot).map(|(_, to)| *to);
                let chosen = outlook.chosen.get(slot).and_then(|c| c.first()).copied();
                let stays = chosen.or(relief).or(claims.first().map(|best| best.node));
                for old in claims.iter().filter(|old| Some(old.node) != stays) {
                    cluster.remove_load(old.node, &work.request);
                }
                *claims = stays.map(|node| Held { node, settled: true }).into_iter().collect();
            }
            for (slot, candidates) in &outlook.chosen {
                let node = candidates.first().copied();
                held.insert(
                    *slot,
                    node.map(|node| Held { node, settled: true }).into_iter().collect(),
                );
            }
        }
        Seats::EachHost { on } => {
            on.extend(&outlook.starts_on);
            for node in outlook.ends_on.keys() {
                on.remove(node);
                cluster.remove_load(*node, &work.request);
            }
        }
    }
}

/// What is pulled afterwards, in order, at most `most` moves; all of it if the answer is shorter.
///
/// Only services of which every slot is held once and ready take part, as in the cluster. Which of two
/// hosts is quicker decides there; here it is the one with the smaller id.
pub fn even_out(
    cluster: &mut Cluster,
    works: &mut BTreeMap<ServiceId, Work>,
    most: usize,
) -> Vec<Evening> {
    let mut moves = Vec::new();
    loop {
        let before = moves.len();
        for (service, work) in works.iter_mut() {
            let Seats::Slots { count, held: claims } = &mut work.seats else { continue };
            let Some(mut held) = whole(*count, claims).filter(|_| work.may_pull) else { continue };
            while moves.len() < most
                && let Some((to, pull)) = next_pull(cluster, &work.request, &held)
            {
                cluster.add_load(to, &work.request);
                cluster.remove_load(pull.from, &work.request);
                held.insert(pull.slot, Held { node: to, settled: true });
                moves.push(Evening { service: *service, slot: pull.slot, from: pull.from, to });
            }
            *claims = held.into_iter().map(|(slot, held)| (slot, vec![held])).collect();
        }
        if moves.len() == before || moves.len() >= most {
            return moves;
        }
    }
}

/// The holders of a service that has each slot once.
fn whole(count: u32, claims: &BTreeMap<u32, Vec<Held>>) -> Option<BTreeMap<u32, Held>> {
    let held: BTreeMap<u32, Held> = claims
        .iter()
        .filter_map(|(slot, claims)| match claims.as_slice() {
            [one] if one.settled && (1..=count).contains(slot) => Some((*slot, *one)),
            _ => None,
        })
        .collect();
    (held.len() == count as usize).then_some(held)
}
