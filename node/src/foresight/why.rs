//! Why a replica is where it is, or nowhere: who holds it, what a fresh placement would say, and what
//! follows from the difference.

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId};
use placement::{
    Behind, Cluster, Held, HostVerdict, Verdict, behind, eligible, explain, misplaced, next_pull,
};

use super::{Holding, Picture, PicturedService, Wants};
use crate::slot::{Phase, Slot};
use crate::spec::{Mode, Partition};

/// The answer to "why is it there".
#[derive(Clone, Debug)]
pub struct Why {
    pub service: ServiceId,
    pub service_name: String,
    pub slot: Slot,
    /// Everybody who claims it, the one that counts first.
    pub holders: Vec<Holding>,
    pub fate: Fate,
    /// The fate in a sentence or two.
    pub text: String,
    /// Every host: candidates in rank order, then the others that could, then those that cannot.
    pub hosts: Vec<HostWhy>,
}

/// What becomes of it as things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays, and a fresh placement would choose its host as well.
    StaysFirst,
    /// It stays, though a fresh placement would choose another host: what runs is not moved for that.
    StaysSticky,
    /// Its host must let go of it and another one can take it.
    Leaves { to: NodeId },
    /// Its host must let go of it and nobody can take it.
    Stuck,
    /// It stops there: a global service is not moved.
    Ends,
    /// Being handed over.
    HandedOver { to: NodeId },
    /// It will be pulled to even out load.
    Pulled { to: NodeId },
    /// Nobody holds it; this node's turn is first.
    Due { to: NodeId },
    /// Nobody holds it and nobody can.
    Waits,
    /// Not wanted any more.
    Unwanted,
    /// Nothing of the service is run.
    Idle,
}

impl Fate {
    pub fn name(self) -> &'static str {
        match self {
            Self::StaysFirst => "stays, first choice",
            Self::StaysSticky => "stays, sticky",
            Self::Leaves { .. } => "leaves",
            Self::Stuck => "cannot leave",
            Self::Ends => "ends",
            Self::HandedOver { .. } => "being handed over",
            Self::Pulled { .. } => "will be pulled",
            Self::Due { .. } => "due",
            Self::Waits => "waits",
            Self::Unwanted => "not wanted",
            Self::Idle => "not run",
        }
    }

    /// Where it goes, if it goes anywhere.
    pub fn to(self) -> Option<NodeId> {
        match self {
            Self::Leaves { to }
            | Self::HandedOver { to }
            | Self::Pulled { to }
            | Self::Due { to } => Some(to),
            _ => None,
        }
    }
}

/// One host's verdict, with the reason for its place in the order.
#[derive(Clone, Debug)]
pub struct HostWhy {
    pub node: NodeId,
    pub name: String,
    pub holds_it: bool,
    /// From 0, for candidates.
    pub rank: Option<u32>,
    /// Replicas of the service there and weight and so on; `None` for global services.
    pub figures: Option<HostVerdict>,
    /// Why it is behind the one before, or refused, or first.
    pub reason: String,
}

impl Picture {
    /// The slots of a service that are wanted or held, in order.
    pub fn slots(&self, service: ServiceId) -> Vec<Slot> {
        let Some(service) = self.services.get(&service) else { return Vec::new() };
        let mut slots: Vec<Slot> = service.claims.keys().copied().collect();
        if let Some(wants) = &service.wants {
            match wants.mode {
                mode if !mode.is_global() => {
                    slots.extend((1..=wants.replicas).map(Slot::Index));
                }
                _ => slots.extend(self.members.keys().copied().map(Slot::Node)),
            }
        }
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// For explaining slots: counts the loads once, for all of them.
    pub fn explainer(&self) -> Explainer<'_> {
        Explainer { picture: self, cluster: self.cluster() }
    }
}

/// Explains slots of one picture.
#[derive(Debug)]
pub struct Explainer<'p> {
    picture: &'p Picture,
    cluster: Cluster,
}

impl Explainer<'_> {
    /// Explains one slot; `None` if there is no such service. A slot that the service does not have is
    /// explained as not wanted. Costs one step for each host and each replica of the service.
    pub fn why(&self, service: ServiceId, slot: Slot) -> Option<Why> {
        let pictured = self.picture.services.get(&service)?;
        let mut why = Why {
            service,
            service_name: pictured.name.clone(),
            slot,
            holders: pictured.claims.get(&slot).cloned().unwrap_or_default(),
            fate: Fate::Idle,
            text: pictured.idle.clone().unwrap_or_default(),
            hosts: Vec::new(),
        };
        let Some(wants) = &pictured.wants else { return Some(why) };
        let (picture, cluster) = (self.picture, &self.cluster);
        let asking = Asking { picture, service: pictured, wants, cluster };
        match slot {
            Slot::Index(index) => asking.replica(index, &mut why),
            Slot::Node(node) => asking.on_host(node, &mut why),
        }
        Some(why)
    }
}

/// One question about one service.
struct Asking<'p> {
    picture: &'p Picture,
    service: &'p PicturedService,
    wants: &'p Wants,
    cluster: &'p Cluster,
}

impl Asking<'_> {
    fn name(&self, node: NodeId) -> String {
        self.picture.name(node)
    }

    /// Wanted slots that are in good hands, and those that are not.
    fn split(&self) -> (BTreeMap<u32, Held>, Vec<u32>) {
        let mut held = BTreeMap::new();
        let claims = self.service.held();
        let mut open = Vec::new();
        for slot in 1..=self.wants.replicas {
            let best = claims.get(&slot).and_then(|claims| claims.first());
            match best.filter(|b| misplaced(self.cluster, &self.wants.request, b.node).is_none()) {
                Some(best) => _ = held.insert(slot, *best),
                None => open.push(slot),
            }
        }
        (held, open)
    }

    fn replica(&self, index: u32, why: &mut Why) {
        if !self.wants.has(Slot::Index(index)) {
            (why.fate, why.text) = (Fate::Unwanted, self.unwanted());
            return;
        }
        let request = &self.wants.request;
        let (held, open) = self.split();
        let found = explain(self.cluster, request, &held, &open, index);
        let first = found.hosts.first().filter(|h| matches!(h.verdict, Verdict::Candidate { .. }));
        let first = first.map(|host| host.node);
        let holder = self.service.holder(Slot::Index(index));
        (why.fate, why.text) = match holder {
            Some(holder) => self.of_held(index, holder, first, &held),
            None => self.of_orphan(index, first),
        };
        let holds = |node: NodeId| holder.is_some_and(|holder| holder.node == node);
        for (place, host) in found.hosts.iter().enumerate() {
            let before = place.checked_sub(1).and_then(|place| found.hosts.get(place));
            why.hosts.push(HostWhy {
                node: host.node,
                name: host.name.clone(),
                holds_it: holds(host.node),
                rank: if let Verdict::Candidate { rank } = host.verdict {
                    Some(rank)
                } else {
                    None
                },
                reason: self.reason(host, before),
                figures: Some(host.clone()),
            });
        }
    }

    fn unwanted(&self) -> String {
        match self.wants.mode {
            Mode::Global | Mode::GlobalJob => {
                "the service is global: its slots are the nodes".to_owned()
            }
            Mode::Replicated | Mode::ReplicatedJob => {
                let slots = self.wants.replicas;
                format!("the service has {slots} replicas, so there is no such slot (any more)")
            }
        }
    }

    fn reason(&self, host: &HostVerdict, before: Option<&HostVerdict>) -> String {
        match (&host.verdict, before) {
            (Verdict::Refused(refusal), _) => refusal.to_string(),
            (_, None) => "is first".to_owned(),
            (Verdict::Candidate { .. }, Some(before)) => {
                behind(self.cluster, &self.wants.request, before, host).to_string()
            }
            // Beyond the candidates hosts are listed by the race alone.
            (Verdict::Later, Some(_)) => match self.behind_the_last(host, before) {
                Some(behind) => behind.to_string(),
                None => "could take it, but enough others come first".to_owned(),
            },
        }
    }

    fn behind_the_last(&self, host: &HostVerdict, before: Option<&HostVerdict>) -> Option<Behind> {
        let last = before.filter(|b| matches!(b.verdict, Verdict::Candidate { .. }))?;
        Some(behind(self.cluster, &self.wants.request, last, host))
    }

    fn of_held(
        &self,
        index: u32,
        holder: &Holding,
        first: Option<NodeId>,
        held: &BTreeMap<u32, Held>,
    ) -> (Fate, String) {
        let here = self.name(holder.node);
        let others: Vec<&Holding> =
            self.service.claims.get(&Slot::Index(index)).map_or_else(Vec::new, |claims| {
                claims.iter().skip(1).filter(|claim| claim.live).collect()
            });
        let leaves = misplaced(self.cluster, &self.wants.request, holder.node);
        if let Some(other) = others.first() {
            let to = if leaves.is_some() || !holder.serves() { other.node } else { holder.node };
            let text = format!(
                "{here} and {} both claim it: the one whose claim is weaker stops as soon as the other is ready",
                self.name(other.node)
            );
            return (Fate::HandedOver { to }, text);
        }
        if let Some(refusal) = leaves {
            return match first {
                Some(to) => (
                    Fate::Leaves { to },
                    format!(
                        "{here} {refusal}, so it leaves: {} starts it first, then it stops here",
                        self.name(to)
                    ),
                ),
                None => (
                    Fate::Stuck,
                    format!("{here} {refusal}, so it should leave, but no other node can take it"),
                ),
            };
        }
        if !holder.serves() {
            let text = format!("{here} has claimed it and is starting it");
            return (Fate::StaysSticky, text);
        }
        if let Some(to) = self.pulled(index, held) {
            let text = format!(
                "{} stands emptier and will take it over to even out load, when the view has been quiet for a while",
                self.name(to)
            );
            return (Fate::Pulled { to }, text);
        }
        match first {
            Some(node) if node == holder.node => {
                let text = "a fresh placement would put it there as well".to_owned();
                (Fate::StaysFirst, text)
            }
            Some(node) => {
                let text = format!(
                    "a fresh placement would put it on {}; it stays because a running replica is not moved for that",
                    self.name(node)
                );
                (Fate::StaysSticky, text)
            }
            None => {
                let text = "it stays there; a fresh placement would find no node for it".to_owned();
                (Fate::StaysSticky, text)
            }
        }
    }

    /// Who would pull this slot next, of all that would be evened out of this service.
    fn pulled(&self, index: u32, held: &BTreeMap<u32, Held>) -> Option<NodeId> {
        let whole = held.len() == self.wants.replicas as usize && held.values().all(|h| h.settled);
        if !whole || self.wants.rolling || self.picture.patience.even_after.is_none() {
            return None;
        }
        let (mut cluster, mut held) = (self.cluster.clone(), held.clone());
        // Each move makes the service more even: there are no more of them than it has replicas.
        for _ in 0..held.len() {
            let (to, pull) = next_pull(&cluster, &self.wants.request, &held)?;
            if pull.slot == index {
                return Some(to);
            }
            cluster.add_load(to, &self.wants.request);
            cluster.remove_load(pull.from, &self.wants.request);
            held.insert(pull.slot, Held { node: to, settled: true });
        }
        None
    }

    fn of_orphan(&self, index: u32, first: Option<NodeId>) -> (Fate, String) {
        let told = self.service.pending.get(&Slot::Index(index)).cloned();
        let no_majority =
            self.wants.partition != Partition::Available && !self.picture.has_majority();
        match first {
            Some(_) if no_majority => (Fate::Waits, told.unwrap_or_default()),
            Some(to) => {
                let text = told.unwrap_or_else(|| {
                    format!(
                        "nobody holds it; {} is first, and each rank behind it waits {} longer for a better one's claim",
                        self.name(to),
                        self.picture.patience.stagger
                    )
                });
                (Fate::Due { to }, text)
            }
            None => (Fate::Waits, told.unwrap_or_else(|| "no node can take it".to_owned())),
        }
    }

    fn on_host(&self, node: NodeId, why: &mut Why) {
        if self.wants.mode != Mode::Global {
            (why.fate, why.text) =
                (Fate::Unwanted, "the service is replicated: its slots are numbers".to_owned());
            return;
        }
        let request = &self.wants.request;
        let holds = |node: NodeId| {
            self.service.holder(Slot::Node(node)).is_some_and(|holder| holder.node == node)
        };
        let refusal = |node: NodeId| {
            if holds(node) {
                misplaced(self.cluster, request, node)
            } else {
                eligible(self.cluster, request, node).err()
            }
        };
        let name = self.name(node);
        let told = self.service.pending.get(&Slot::Node(node)).cloned();
        (why.fate, why.text) = match (holds(node), refusal(node)) {
            (true, None) => (
                Fate::StaysFirst,
                format!("it runs once on every node that suits, and {name} does"),
            ),
            (true, Some(refusal)) => (
                Fate::Ends,
                format!("{name} {refusal}: it ends here, and a global service is not moved"),
            ),
            (false, Some(refusal)) => (Fate::Waits, format!("{name} {refusal}")),
            (false, None) => {
                let text = told.unwrap_or_else(|| format!("{name} suits and is about to start it"));
                (Fate::Due { to: node }, text)
            }
        };
        why.hosts = self
            .picture
            .members
            .iter()
            .filter(|(_, member)| member.belongs)
            .map(|(id, member)| HostWhy {
                node: *id,
                name: member.name.clone(),
                holds_it: holds(*id),
                rank: None,
                figures: None,
                reason: refusal(*id).map_or_else(|| "suits".to_owned(), |why| why.to_string()),
            })
            .collect();
    }
}

/// A phase in a word.
pub fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ready",
        Phase::Complete => "complete",
    }
}
