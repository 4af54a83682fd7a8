//! From two pictures to an answer: plans the later one and says how it differs from the earlier.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{NodeId, ServiceId};
use membership::member::{MemberState, Resources};
use placement::{Cluster, Evening, Load, Outlook, Seats, Work, even_out, foresee};

use super::changes::describe;
use super::outlook::{Foresight, HostOutlook, Move, MoveKind, ServiceOutlook, Stop, Waiting};
use super::{Change, Picture, PicturedService, Wants};
use crate::slot::Slot;
use crate::spec::{Mode, Partition};
use crate::takeover::brakes;

/// Moves of evening out that are worked out at most.
const MOST_EVENINGS: usize = 2_000;
/// From this part of a host's cores or memory on it is called tight: 9/10.
const TIGHT: (u128, u128) = (9, 10);

/// Both pictures, and the later one planned.
struct Comparison<'p> {
    before: &'p Picture,
    after: &'p Picture,
    majority: bool,
}

pub(super) fn compare(before: &Picture, after: Picture, changes: &[Change]) -> Foresight {
    let this = Comparison { before, after: &after, majority: after.has_majority() };
    let mut works = this.works();
    let mut cluster = after.cluster();
    let outlooks = foresee(&mut cluster, &mut works);
    this.stop_fenced(&mut cluster, &mut works);
    let at_once = (cluster.clone(), works.clone());
    let calm = this.calm();
    let evenings = match calm {
        Ok(()) => even_out(&mut cluster, &mut works, MOST_EVENINGS),
        Err(_) => Vec::new(),
    };
    let none = Outlook::default();
    let mut services: Vec<ServiceOutlook> = after
        .services
        .iter()
        .map(|(id, service)| {
            let outlook = outlooks.get(id).unwrap_or(&none);
            let mut found = this.service(*id, service, outlook);
            found.later = later(*id, &evenings);
            let seats = [at_once.1.get(id), works.get(id)];
            let [at_once, end] = seats.map(|work| work.map(spread).unwrap_or_default());
            found.spread =
                [before.services.get(id).map(spread_now).unwrap_or_default(), at_once, end];
            found.running.1 = found.spread[1].values().map(|count| u64::from(*count)).sum();
            found
        })
        .collect();
    services.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let hosts = this.hosts([&before.cluster(), &at_once.0, &cluster]);
    let moving = services.iter().filter(|service| !service.global && !service.moves.is_empty());
    let notes = this.notes(changes, moving.count(), &evenings, calm.err());
    Foresight {
        supposed: describe(&after, changes),
        services,
        hosts,
        quorum: after.quorum(),
        notes,
    }
}

fn later(service: ServiceId, evenings: &[Evening]) -> Vec<Move> {
    let mine = evenings.iter().filter(|evening| evening.service == service);
    mine.map(|evening| Move {
        slot: Slot::Index(evening.slot),
        kind: MoveKind::Evens,
        from: Some(evening.from),
        to: evening.to,
        backups: Vec::new(),
    })
    .collect()
}

fn spread(work: &Work) -> BTreeMap<NodeId, u32> {
    let nodes: Vec<NodeId> = match &work.seats {
        Seats::Slots { held, .. } => {
            held.values().filter_map(|claims| claims.first()).map(|held| held.node).collect()
        }
        Seats::EachHost { on } => on.iter().copied().collect(),
    };
    counted(nodes)
}

fn spread_now(service: &PicturedService) -> BTreeMap<NodeId, u32> {
    let Some(wants) = &service.wants else { return BTreeMap::new() };
    let slots = service.claims.keys().filter(|slot| wants.has(**slot));
    counted(slots.filter_map(|slot| service.holder(*slot)).map(|claim| claim.node))
}

fn counted(nodes: impl IntoIterator<Item = NodeId>) -> BTreeMap<NodeId, u32> {
    let mut counts = BTreeMap::new();
    for node in nodes {
        *counts.entry(node).or_insert(0) += 1;
    }
    counts
}

impl Wants {
    /// The slot is one of those that are wanted.
    pub(super) fn has(&self, slot: Slot) -> bool {
        match slot {
            Slot::Index(index) => {
                self.mode == Mode::Replicated && (1..=self.replicas).contains(&index)
            }
            Slot::Node(_) => self.mode == Mode::Global,
        }
    }
}

impl Picture {
    /// What of the picture placement works on.
    fn works_where(&self, majority: bool) -> BTreeMap<ServiceId, Work> {
        let work = |service: &PicturedService| {
            let wants = service.wants.as_ref()?;
            let seats = match wants.mode {
                Mode::Replicated | Mode::ReplicatedJob => {
                    Seats::Slots { count: wants.replicas, held: service.held() }
                }
                Mode::Global | Mode::GlobalJob => {
                    let live = service.claims.values().flatten().filter(|claim| claim.live);
                    Seats::EachHost { on: live.map(|claim| claim.node).collect() }
                }
            };
            Some(Work {
                request: wants.request.clone(),
                seats,
                may_start: majority || wants.partition == Partition::Available,
                may_pull: !wants.rolling,
            })
        };
        let works = self.services.iter();
        works.filter_map(|(id, service)| Some((*id, work(service)?))).collect()
    }
}

impl Comparison<'_> {
    fn works(&self) -> BTreeMap<ServiceId, Work> {
        self.after.works_where(self.majority)
    }

    fn is_fenced_off(&self, service: &PicturedService) -> bool {
        let fenced = |wants: &Wants| wants.partition == Partition::Fenced;
        !self.majority && service.wants.as_ref().is_some_and(fenced)
    }

    /// In the smaller part a fenced service stops what it has.
    fn stop_fenced(&self, cluster: &mut Cluster, works: &mut BTreeMap<ServiceId, Work>) {
        for (id, work) in works.iter_mut() {
            if !self.after.services.get(id).is_some_and(|service| self.is_fenced_off(service)) {
                continue;
            }
            for (node, count) in spread(work) {
                (0..count).for_each(|_| _ = cluster.remove_load(node, &work.request));
            }
            match &mut work.seats {
                Seats::Slots { held, .. } => held.clear(),
                Seats::EachHost { on } => on.clear(),
            }
        }
    }

    fn service(
        &self,
        id: ServiceId,
        service: &PicturedService,
        outlook: &Outlook,
    ) -> ServiceOutlook {
        let was = self.before.services.get(&id).unwrap_or(service);
        let mut found = ServiceOutlook {
            id,
            name: service.name.clone(),
            global: service.wants.as_ref().is_some_and(|wants| wants.mode == Mode::Global),
            wanted: (0, 0),
            running: (spread_now(was).values().map(|count| u64::from(*count)).sum(), 0),
            moves: Vec::new(),
            stops: Vec::new(),
            pending: Vec::new(),
            later: Vec::new(),
            spread: Default::default(),
            remarks: service.idle.iter().cloned().collect(),
        };
        let Some(wants) = &service.wants else { return found };
        let replicas_before = was.wants.as_ref().map_or(0, |wants| wants.replicas);
        if found.global {
            self.global(service, outlook, &mut found);
            let ends = found.stops.len() as u64;
            let here = found.running.0;
            found.wanted = (here, (here + found.moves.len() as u64).saturating_sub(ends));
        } else {
            found.wanted = (u64::from(replicas_before), u64::from(wants.replicas));
            self.moves(was, service, outlook, &mut found);
            self.waiting(was, service, outlook, &mut found);
        }
        self.stops(service, wants, &mut found);
        self.remarks(wants, &mut found);
        found
    }

    fn moves(
        &self,
        was: &PicturedService,
        service: &PicturedService,
        outlook: &Outlook,
        found: &mut ServiceOutlook,
    ) {
        for (slot, candidates) in &outlook.chosen {
            let Some((to, backups)) = candidates.split_first() else { continue };
            let slot_name = Slot::Index(*slot);
            let lost = || was.holder(slot_name).map(|claim| claim.node);
            let (kind, from) = match outlook.leaving.get(slot) {
                Some((from, _)) => (MoveKind::Relieves, Some(*from)),
                None if lost().is_some() && service.holder(slot_name).is_none() => {
                    (MoveKind::Replaces, lost())
                }
                None => (MoveKind::Starts, None),
            };
            let backups = backups.to_vec();
            found.moves.push(Move { slot: slot_name, kind, from, to: *to, backups });
        }
        for (slot, (from, to)) in &outlook.relieving {
            found.moves.push(Move {
                slot: Slot::Index(*slot),
                kind: MoveKind::Relieves,
                from: Some(*from),
                to: *to,
                backups: Vec::new(),
            });
        }
        found.moves.sort_by_key(|one| one.slot);
    }

    fn waiting(
        &self,
        was: &PicturedService,
        service: &PicturedService,
        outlook: &Outlook,
        found: &mut ServiceOutlook,
    ) {
        let (alive, all) = self.after.quorum();
        let barred = format!(
            "no majority: {alive} of {all} members could be reached, and this service starts only where more than half can"
        );
        let slots: BTreeSet<u32> = outlook.pending.keys().chain(&outlook.barred).copied().collect();
        for slot in slots {
            let reason = outlook.pending.get(&slot).map_or(barred.clone(), |why| why.to_string());
            let slot_name = Slot::Index(slot);
            let (stays_on, why) = match outlook.leaving.get(&slot) {
                Some((node, refusal)) => {
                    (Some(*node), format!("{} {refusal}: {reason}", self.after.name(*node)))
                }
                None => (None, reason),
            };
            let wanted = was.wants.as_ref().is_some_and(|wants| wants.has(slot_name));
            let already = wanted && was.holder(slot_name).is_none();
            found.pending.push(Waiting { slot: slot_name, stays_on, already, why });
        }
        if !self.is_fenced_off(service) {
            return;
        }
        // What is stopped then waits as well.
        let kept = service.claims.keys().filter(|slot| service.holder(**slot).is_some());
        let wanted = |slot: &&Slot| service.wants.as_ref().is_some_and(|wants| wants.has(**slot));
        let told: BTreeSet<Slot> = found.pending.iter().map(|waiting| waiting.slot).collect();
        for slot in kept.filter(wanted).filter(|slot| !told.contains(slot)) {
            let (stays_on, already) = (None, false);
            found.pending.push(Waiting { slot: *slot, stays_on, already, why: barred.clone() });
        }
        found.pending.sort_by_key(|waiting| waiting.slot);
    }

    fn global(&self, service: &PicturedService, outlook: &Outlook, found: &mut ServiceOutlook) {
        found.moves.extend(outlook.starts_on.iter().map(|node| Move {
            slot: Slot::Node(*node),
            kind: MoveKind::Starts,
            from: None,
            to: *node,
            backups: Vec::new(),
        }));
        let was = self.before.services.get(&found.id);
        let lost = service.claims.keys().filter(|slot| {
            service.holder(**slot).is_none() && was.is_some_and(|was| was.holder(**slot).is_some())
        });
        for slot in lost {
            let Slot::Node(node) = *slot else { continue };
            let why = "lost with its host; a global service is not moved".to_owned();
            found.stops.push(Stop { slot: *slot, node, why });
        }
        found.stops.extend(outlook.ends_on.iter().map(|(node, refusal)| Stop {
            slot: Slot::Node(*node),
            node: *node,
            why: format!("{} {refusal}", self.after.name(*node)),
        }));
    }

    /// What is not wanted any more, and what a fenced service gives up.
    fn stops(&self, service: &PicturedService, wants: &Wants, found: &mut ServiceOutlook) {
        let (alive, all) = self.after.quorum();
        let fenced = self.is_fenced_off(service);
        for slot in service.claims.keys() {
            let Some(holder) = service.holder(*slot) else { continue };
            let why = if fenced {
                format!(
                    "fenced: only {alive} of {all} members could be reached; it stops after {}",
                    self.after.patience.fence_after
                )
            } else if !wants.has(*slot) {
                "not wanted any more: scaled down".to_owned()
            } else {
                continue;
            };
            found.stops.retain(|stop| stop.slot != *slot);
            found.stops.push(Stop { slot: *slot, node: holder.node, why });
        }
        found.stops.sort_by_key(|stop| stop.slot);
    }

    fn remarks(&self, wants: &Wants, found: &mut ServiceOutlook) {
        let replaced = found.moves.iter().any(|one| one.kind == MoveKind::Replaces);
        if wants.partition == Partition::Fenced && replaced {
            found.remarks.push(format!(
                "fenced: what is lost starts elsewhere only after {}",
                self.after.patience.fence_wait
            ));
        }
        if wants.rolling {
            found.remarks.push("a rolling update is under way".to_owned());
        }
    }

    /// Whether load would be evened out at all, and why not.
    fn calm(&self) -> Result<(), String> {
        if self.after.patience.even_after.is_none() {
            return Err("load is not evened out afterwards: that is switched off".to_owned());
        }
        let restless = self.after.members.values().find(|member| {
            member.state == MemberState::Unstable || member.settling && member.state.holds_claims()
        });
        match restless {
            Some(member) => Err(format!(
                "load is not evened out while {} is not well: {}",
                member.name, member.reason
            )),
            None => Ok(()),
        }
    }

    fn hosts(&self, clusters: [&Cluster; 3]) -> Vec<HostOutlook> {
        let mut hosts: Vec<HostOutlook> = self
            .after
            .members
            .iter()
            .filter(|(_, member)| member.belongs)
            .filter_map(|(id, member)| {
                let host = member.host.as_ref()?;
                let loads = clusters.map(|cluster| cluster.load(*id).cloned().unwrap_or_default());
                Some(HostOutlook {
                    id: *id,
                    name: member.name.clone(),
                    zone: host.zone.clone(),
                    state: (self.before.members.get(id).map(|was| was.state), member.state),
                    capacity: host.capacity,
                    tight: is_tight(host.capacity, &loads),
                    loads,
                })
            })
            .collect();
        hosts.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        hosts
    }

    fn notes(
        &self,
        changes: &[Change],
        moving: usize,
        evenings: &[Evening],
        not_calm: Option<String>,
    ) -> Vec<String> {
        let mut notes: Vec<String> = self.before.caveats.clone();
        let killed: Vec<NodeId> = changes
            .iter()
            .filter_map(|change| if let Change::Kill(node) = change { Some(*node) } else { None })
            .collect();
        for node in &killed {
            let state = self.before.members.get(node).map(|member| member.state);
            if state == Some(MemberState::Down) {
                notes.push(format!("{} is down already", self.after.name(*node)));
            }
        }
        let (alive, all) = self.after.quorum();
        if !self.majority {
            notes.push(format!(
                "no majority: {alive} of {all} members could be reached; services that ask for one start nothing, and fenced ones stop"
            ));
        }
        let lost = self.before.lost + killed.len();
        if let Some(spread) = brakes(all, lost).filter(|_| !killed.is_empty()) {
            notes.push(format!(
                "the brake would apply: {lost} of {all} members lost looks like a partition, so takeovers are spread over {spread}"
            ));
        }
        if killed.len() > 1 {
            notes.push(
                "the hosts are taken to be lost at one instant; if they are found to be gone one after the other, the same replicas move, but some may go to other hosts".to_owned(),
            );
        }
        if changes.iter().any(|change| matches!(change, Change::Add(_))) {
            notes.push(
                "a new host's id takes part in the races and is not known before it is there: how much it takes is foreseen, not which replicas".to_owned(),
            );
        }
        if moving > 1 {
            notes.push(
                "several services move at once, and among hosts that are equally good for one the least loaded is chosen: how many replicas each host gets, and which move, is foreseen; two replicas may change places if one host hears of the others' choices before it makes its own".to_owned(),
            );
        }
        if evenings.len() >= MOST_EVENINGS {
            notes.push(format!("evening out goes on after the first {MOST_EVENINGS} moves"));
        }
        notes.extend(not_calm);
        notes
    }
}

/// Nearly all of it is reserved in the end, and more than now.
fn is_tight(capacity: Resources, loads: &[Load; 3]) -> bool {
    let (part, whole) = TIGHT;
    let tight = |capacity: u64, before: u64, after: u64| {
        capacity > 0 && after > before && u128::from(after) * whole >= u128::from(capacity) * part
    };
    let [before, at_once, _] = loads.each_ref().map(|load| load.reserved);
    tight(capacity.cpu_milli, before.cpu_milli, at_once.cpu_milli)
        || tight(capacity.memory_bytes, before.memory_bytes, at_once.memory_bytes)
}
