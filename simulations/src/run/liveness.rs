//! What is demanded once everything is healed: all nodes agree on what is wanted, every slot of it runs
//! exactly once and nothing else runs, the replicas lie evenly, and nothing happens any more.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{NodeId, ServiceId};
use membership::member::MemberState;
use node::slot::{Place, Slot};
use node::spec::{Mode, ServiceSpec};
use node::views::{DesiredState, TaskView};

use super::Run;
use crate::host::Host;
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::{ShortPlace, ShortTask};

/// How long the cluster has to bring everything up after healing. Restart delays of up to a minute and
/// a start that hung until its deadline fit in twice over.
const SETTLE: Span = Span::secs(300);
/// Without an action for this long the cluster counts as having come to rest.
const REST: Span = Span::secs(90);
/// Evening out may go on for this long.
const REST_LIMIT: Span = Span::secs(1_200);
/// For how long it then has to be silent.
const SILENCE: Span = Span::secs(120);

/// A service as a node sees it, by what has to be equal everywhere.
type Wanted = BTreeMap<ServiceId, (u64, Mode, String)>;

impl Run {
    fn wanted_by(&self, host: HostIx) -> Option<Wanted> {
        let process = self.world.hosts[host.i()].process.as_ref()?;
        let views = process.core.services().into_iter().filter(|view| view.shadowed_by.is_none());
        Some(
            views
                .filter_map(|view| {
                    let mode = ServiceSpec::parse(&view.spec).ok()?.mode;
                    // How much of a global job is still wanted depends on how far it has come.
                    let desired = if mode == Mode::GlobalJob { 0 } else { view.desired };
                    Some((view.id, (desired, mode, view.spec.to_string())))
                })
                .collect(),
        )
    }

    /// What all nodes agree is wanted; in words where they do not.
    pub fn agreed(&self) -> Result<Wanted, String> {
        let stays = |host: &&Host| !(host.left || host.spare || host.outsider);
        if let Some(host) = self.world.hosts.iter().filter(stays).find(|host| !host.acts()) {
            return Err(format!("{} does not run", host.ix));
        }
        self.agreed_by_those_who_act()
    }

    /// The same, whoever does not run.
    pub(super) fn agreed_by_those_who_act(&self) -> Result<Wanted, String> {
        let mut agreed: Option<(HostIx, Wanted)> = None;
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            let Some(wanted) = self.wanted_by(host.ix) else { continue };
            match &agreed {
                None => agreed = Some((host.ix, wanted)),
                Some((first, theirs)) if *theirs != wanted => {
                    return Err(format!(
                        "{first} and {} see different services: {theirs:?} and {wanted:?}",
                        host.ix
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(agreed.map(|(_, wanted)| wanted).unwrap_or_default())
    }

    /// Every wanted slot is ready exactly once, and nothing else runs; in words where not.
    pub fn whole(&self) -> Result<(), String> {
        let mut places: BTreeSet<Place> = BTreeSet::new();
        // Services that want more than there is room for, or what is gone: what runs of them is nobody's mistake.
        let mut short_of_room: BTreeSet<ServiceId> = BTreeSet::new();
        let assets = self.agreed_assets()?;
        let networks = self.agreed_networks()?;
        for (service, (desired, mode, spec)) in self.agreed()? {
            let suited = self.suited(&spec);
            if Self::waits_for_files(&spec, &assets) || Self::waits_for_networks(&spec, &networks) {
                short_of_room.insert(service);
                continue;
            }
            self.has_present_files(service, &assets)?;
            match mode {
                Mode::Global => {
                    places.extend(
                        suited.nodes.iter().map(|node| Place { service, slot: Slot::Node(*node) }),
                    );
                }
                // Nothing of it is wanted any more, and so nothing of it may run.
                Mode::ReplicatedJob | Mode::GlobalJob => self.job_done(service, &suited.nodes)?,
                Mode::Replicated if suited.room < desired => {
                    short_of_room.insert(service);
                }
                Mode::Replicated => {
                    let slots = 1..=u32::try_from(desired).unwrap_or(u32::MAX);
                    places.extend(slots.map(|slot| Place { service, slot: Slot::Index(slot) }));
                }
            }
        }
        let picture = &self.checks.picture;
        for place in &places {
            let holders = picture.holders(*place);
            if holders.len() != 1 {
                return Err(format!("{} is ready on {holders:?}", ShortPlace(*place)));
            }
        }
        for (task, found) in &picture.tasks {
            let wanted = found.ready && places.contains(&found.place);
            if found.running && !wanted && !short_of_room.contains(&found.place.service) {
                return Err(format!(
                    "{} of {} runs on {} and should not",
                    ShortTask(*task),
                    ShortPlace(found.place),
                    found.host
                ));
            }
        }
        Ok(())
    }

    /// Every node says that each slot of a job has ended; in words where one does not.
    fn job_done(&self, service: ServiceId, nodes: &[NodeId]) -> Result<(), String> {
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            let Some(process) = &host.process else { continue };
            let view = process.core.services().into_iter().find(|view| view.id == service);
            let Some((view, job)) = view.and_then(|view| Some((view.clone(), view.job?))) else {
                return Err(format!("{} knows of no job {service}", host.ix));
            };
            let slots = view.spec["Mode"]["ReplicatedJob"]["TotalCompletions"].as_u64();
            let there = process
                .core
                .members()
                .into_iter()
                .filter(|member| nodes.contains(&member.id) && member.created <= job.executed);
            let wanted = slots.unwrap_or(there.count() as u64);
            if view.completed < wanted {
                let (done, ix) = (view.completed, host.ix);
                return Err(format!(
                    "{done} of {wanted} slots of job {service} are done, says {ix}"
                ));
            }
        }
        Ok(())
    }

    /// The replicas of each replicated service differ by at most one between hosts; in words if not.
    pub fn even(&self) -> Result<(), String> {
        let hosts: Vec<HostIx> =
            self.world.hosts.iter().filter(|host| host.acts()).map(|host| host.ix).collect();
        let kept_away = self.kept_away();
        let full = self.have_their_share(&hosts);
        // Zones come before hosts: what one that is full does not take, its zone does without.
        if full.contains(&true) && hosts.iter().any(|host| self.is_in_zone(*host)) {
            return Ok(());
        }
        let assets = self.agreed_assets()?;
        let networks = self.agreed_networks()?;
        for (service, (desired, mode, spec)) in self.agreed()? {
            // What failed on a node is kept from it for up to an hour, and may lie unevenly that long.
            let failed = kept_away.contains(&service)
                || Self::waits_for_files(&spec, &assets)
                || Self::waits_for_networks(&spec, &networks);
            if mode != Mode::Replicated || desired == 0 || failed || !self.suited(&spec).alike {
                continue;
            }
            let counts: Vec<usize> = hosts
                .iter()
                .map(|host| self.world.hosts[host.i()].engine.running_of(service))
                .collect();
            // Who has its share of everything together takes no more than one of any service.
            let may_take = counts.iter().zip(&full).filter(|(count, full)| **count == 0 || !**full);
            let least = may_take.map(|(count, _)| count).min();
            if let (Some(least), Some(most)) = (least, counts.iter().max())
                && most.saturating_sub(*least) > 1
            {
                let (claims, members) = (self.claims_on(service), self.unlike_alive());
                return Err(format!("replicas of {service} lie {counts:?}; {claims}; {members}"));
            }
        }
        Ok(())
    }

    /// Whether one replica more would lift each host a quarter above the average, all services together.
    /// Such a host is asked last, and evens nothing out.
    fn have_their_share(&self, hosts: &[HostIx]) -> Vec<bool> {
        let running = |host: &HostIx| {
            let containers = self.world.hosts[host.i()].engine.containers();
            containers.filter(|container| container.is_running()).count()
        };
        let loads: Vec<usize> = hosts.iter().map(running).collect();
        let bound = (loads.iter().sum::<usize>() * 5).div_ceil(4 * loads.len().max(1));
        loads.into_iter().map(|load| load + 1 > bound).collect()
    }

    fn is_in_zone(&self, host: HostIx) -> bool {
        !self.world.hosts[host.i()].spec.zone.is_empty()
    }

    /// Services of which some node keeps a slot away, because it failed there too often.
    fn kept_away(&self) -> BTreeSet<ServiceId> {
        let processes = self.world.hosts.iter().filter_map(|host| host.process.as_ref());
        processes.flat_map(|p| p.core.kept_away()).map(|place| place.service).collect()
    }

    /// Who holds what of a service, as each host sees it, where that differs from the first one's.
    fn claims_on(&self, service: ServiceId) -> String {
        let mut seen: Vec<(HostIx, String)> = Vec::new();
        for host in &self.world.hosts {
            let Some(process) = &host.process else { continue };
            let tasks = process
                .core
                .tasks()
                .into_iter()
                .filter(|task| task.service == service && !task.state().is_over());
            let lines: Vec<String> = tasks
                .map(|task| {
                    let on = task.node.and_then(|node| self.world.host_of(node));
                    format!("{} {on:?} {:?}", task.slot(), task.state())
                })
                .collect();
            let all = lines.join(", ");
            if seen.first().is_none_or(|(_, first)| *first != all) {
                seen.push((host.ix, all));
            }
        }
        format!("{seen:?}")
    }

    /// Members that some host does not simply call alive, for the reader of a violation.
    fn unlike_alive(&self) -> String {
        let mut lines = Vec::new();
        for host in &self.world.hosts {
            let members =
                host.process.as_ref().map(|process| process.core.members()).unwrap_or_default();
            for member in members {
                if member.state != MemberState::Left
                    && (member.state != MemberState::Alive || !member.reason.is_empty())
                {
                    lines.push(format!(
                        "{}: {} {:?} {}",
                        host.ix, member.name, member.state, member.reason
                    ));
                }
            }
        }
        lines.join(", ")
    }

    /// Equal views, equal plans: all nodes agree on who runs what and what is pending; in words if not.
    pub fn alike(&self) -> Result<(), String> {
        type Plan = BTreeSet<(ServiceId, Slot, Option<NodeId>)>;
        let mut first: Option<(HostIx, Plan)> = None;
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            let Some(process) = &host.process else { continue };
            let counts = |task: &TaskView| {
                !task.state().is_over()
                    && !matches!(task.desired, DesiredState::Shutdown | DesiredState::Remove)
            };
            let tasks = process.core.tasks().into_iter().filter(counts);
            let plan: Plan = tasks.map(|task| (task.service, task.slot(), task.node)).collect();
            match &first {
                None => first = Some((host.ix, plan)),
                Some((other, theirs)) if *theirs != plan => {
                    let apart: Vec<_> = theirs.symmetric_difference(&plan).take(3).collect();
                    return Err(format!("{other} and {} differ in {apart:?}", host.ix));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn demand_likeness(&mut self) {
        if let Err(why) = self.alike() {
            self.checks.found.push(self.world.now, "plans", why);
        }
    }

    /// Demands everything above, in turn, and reports what does not come about.
    pub fn demand_liveness(&mut self) {
        match self.until_true(SETTLE, |run| run.whole().is_ok()) {
            Some(took) => self.figures.settled_after = Some(took + Span::secs(10)),
            None => {
                let why = self.whole().err().unwrap_or_default();
                let at = self.world.now;
                self.checks.found.push(
                    at,
                    "exactly once",
                    format!("not within {SETTLE} after healing: {why}"),
                );
                self.demand_likeness();
                return;
            }
        }
        // A clock that was ahead when it was last asked stamps what is written after healing, too.
        self.let_the_future_come();
        // Where replicas need not lie evenly, nothing but time tells that evening out has ended.
        let whole_at = if self.all_alike() { At::ZERO } else { self.world.now };
        let rests = |run: &Self| run.world.now.since(run.figures.last_action.max(whole_at)) >= REST;
        let rest = self.until_true(REST_LIMIT, |run| rests(run) && run.even().is_ok());
        let at = self.world.now;
        if rest.is_none() {
            if !rests(self) {
                let text = format!("still starting or stopping {REST_LIMIT} after all was whole");
                self.checks.found.push(at, "rest", text);
                return;
            }
            if let Err(why) = self.even() {
                self.checks.found.push(at, "even", why);
            }
        }
        if let Err(why) = self.whole() {
            self.checks.found.push(at, "exactly once", format!("was, and is no more: {why}"));
        }
        self.demand_likeness();
        if let Err(why) = self.networks_are_true() {
            self.checks.found.push(at, "networks", why);
        }
        self.note(Seen::Settled { kept_away: self.kept_away() });
        self.pass(SILENCE);
    }
}
