//! Why is this replica here, and not there? Every host with its verdict for one slot.

use std::collections::BTreeMap;
use std::fmt;

use membership::id::{NodeId, ServiceId};

use crate::batch::{Batch, Step};
use crate::cluster::{Cluster, Index, plus, shifted};
use crate::eligible::{reserved, verdict};
use crate::hash::race;
use crate::plan::Held;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::roster::Roster;

/// The verdicts on one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    pub service: ServiceId,
    pub slot: u32,
    /// Who holds it now. It stays there whatever the rest says: a running replica does not move
    /// because another host would be better.
    pub holder: Option<Held>,
    /// Candidates first, in rank order; then the others that could take it, by race; then the refused.
    pub hosts: Vec<HostVerdict>,
}

/// One host's verdict: as if the slot were free now, and all others as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostVerdict {
    pub node: NodeId,
    pub name: String,
    pub zone: String,
    /// Replicas of the service in its zone (among hosts that suit), and on it; without this slot.
    pub zone_replicas: u64,
    pub replicas: u32,
    pub weight: u32,
    /// Its place in the race for this slot among all hosts, from 0.
    pub race_place: u32,
    /// Tasks it would run, of all services, with this replica.
    pub tasks: u64,
    /// What would be reserved on it with this replica, in percent; `None` where its capacity is unknown.
    pub cpu_percent: Option<u64>,
    pub memory_percent: Option<u64>,
    /// One more lifts it a quarter above its fair share: it is asked after others on its level.
    pub above_fair_share: bool,
    pub verdict: Verdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// From 0, the planned owner.
    Candidate {
        rank: u32,
    },
    /// Could take it, but others come first.
    Later,
    Refused(Refusal),
}

/// Explains `slot` of the service. `held` and `orphans` as for [`crate::plan()`]; if the slot is held, it
/// is explained as though its holder gave it up.
pub fn explain(
    cluster: &Cluster,
    request: &Request,
    held: &BTreeMap<u32, Held>,
    orphans: &[u32],
    slot: u32,
) -> Explanation {
    let mut others = held.clone();
    let holder = others.remove(&slot);
    let mut free = cluster.clone();
    if let Some(holder) = holder {
        free.remove_load(holder.node, request);
    }
    let mut asked = orphans.to_vec();
    asked.push(slot);
    asked.retain(|slot| !others.get(slot).is_some_and(|held| held.settled));
    let roster = Roster::of(&free, &others);
    let mut batch = Batch::whole(&free, request, &roster, &asked);
    let earlier: Vec<(u32, Step)> = batch.steps.range(..slot).map(|(s, t)| (*s, *t)).collect();
    for (slot, step) in earlier {
        let owner = match step {
            Step::Holder(at) => Some(at),
            Step::Orphan => batch.choose(slot).ok().map(|candidates| candidates[0]),
        };
        if let Some(at) = owner {
            batch.pass(at);
        }
    }
    let ranks = batch.choose(slot).unwrap_or_default();
    let mut order: Vec<Index> = free.indexes().collect();
    order.sort_by_key(|at| (race(request.service, slot, free.id(*at), free.weight(*at)), *at));
    let mut hosts: Vec<HostVerdict> = order
        .iter()
        .enumerate()
        .map(|(place, at)| host_verdict(&batch, *at, slot, place as u32, &ranks))
        .collect();
    hosts.sort_by_key(|host| match &host.verdict {
        Verdict::Candidate { rank } => (0, *rank),
        Verdict::Later => (1, host.race_place),
        Verdict::Refused(_) => (2, host.race_place),
    });
    Explanation { service: request.service, slot, holder, hosts }
}

fn host_verdict(
    batch: &Batch<'_>,
    at: Index,
    slot: u32,
    race_place: u32,
    ranks: &[Index],
) -> HostVerdict {
    let (cluster, request) = (batch.cluster, batch.request);
    let (host, own) = (cluster.host_at(at), batch.own(at));
    let verdict = match verdict(cluster, request, at, own) {
        Err(refusal) => Verdict::Refused(refusal),
        Ok(()) if request.passed_over.contains(&(slot, host.id)) => {
            Verdict::Refused(Refusal::PassedOver)
        }
        Ok(()) => match ranks.iter().position(|other| *other == at) {
            Some(rank) => Verdict::Candidate { rank: rank as u32 },
            None => Verdict::Later,
        },
    };
    let after = plus(reserved(cluster, request, at, own), request.resources, 1);
    let tasks = shifted(u64::from(cluster.load_at(at).tasks), 1, own.shift + 1);
    HostVerdict {
        node: host.id,
        name: host.name.clone(),
        zone: host.zone.clone(),
        zone_replicas: batch.spread.leaf_of(at).map_or(0, |leaf| batch.spread.replicas(leaf)),
        replicas: own.count,
        weight: cluster.weight(at),
        race_place,
        tasks,
        cpu_percent: percent(after.cpu_milli, host.capacity.cpu_milli),
        memory_percent: percent(after.memory_bytes, host.capacity.memory_bytes),
        above_fair_share: batch.fair.is_over(cluster, request, at, own),
        verdict,
    }
}

fn percent(part: u64, whole: u64) -> Option<u64> {
    let percent = (u128::from(part) * 100).checked_div(u128::from(whole))?;
    u64::try_from(percent).ok()
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |node: NodeId| {
            let host = self.hosts.iter().find(|host| host.node == node);
            host.map_or_else(|| node.to_string(), |host| host.name.clone())
        };
        match self.holder {
            Some(Held { node, settled: true }) => {
                writeln!(f, "slot {} runs on {} and stays there", self.slot, name(node))?;
                writeln!(f, "if it had to be placed now:")?;
            }
            Some(Held { node, settled: false }) => {
                writeln!(f, "slot {} is being started by {}", self.slot, name(node))?;
                writeln!(f, "if that fails:")?;
            }
            None => writeln!(f, "slot {} is held by nobody", self.slot)?,
        }
        for host in &self.hosts {
            writeln!(f, "  {host}")?;
        }
        Ok(())
    }
}

impl fmt::Display for HostVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Candidate { rank: 0 } => write!(f, "{} is first", self.name)?,
            Verdict::Candidate { rank } => write!(f, "{} is backup {rank}", self.name)?,
            Verdict::Later => write!(f, "{} comes later", self.name)?,
            Verdict::Refused(refusal) => return write!(f, "{} {refusal}", self.name),
        }
        write!(f, ": holds {} of this service", self.replicas)?;
        if !self.zone.is_empty() {
            write!(f, ", its zone {} holds {}", self.zone, self.zone_replicas)?;
        }
        let tasks = if self.tasks == 1 { "task" } else { "tasks" };
        write!(f, ", would run {} {tasks}", self.tasks)?;
        for (percent, what) in [(self.cpu_percent, "cores"), (self.memory_percent, "memory")] {
            if let Some(percent) = percent {
                write!(f, ", {percent}% of its {what} reserved")?;
            }
        }
        if self.above_fair_share {
            f.write_str(" (above its fair share)")?;
        }
        write!(f, ", place {} in the race", self.race_place + 1)
    }
}
