//! The directed run behind `simulations run`: so many hosts run so many replicas, a share of the hosts
//! is lost at once, and the rest takes over. The figures are what an operator wants to know before he
//! trusts the cluster with a rack.

use membership::member::MemberState;

use crate::checks::Violation;
use crate::history::MarkKind;
use crate::links::HostIx;
use crate::operators::service;
use crate::run::{Outcome, Run, RunSpec, Watcher};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::{Fidelity, Maker, Traffic};

/// What is lost, and how.
#[derive(Clone, Debug)]
pub struct OutageSpec {
    pub seed: u64,
    pub hosts: usize,
    pub replicas: u64,
    /// Hosts lost, per thousand.
    pub kill_per_mille: u32,
    /// Hosts come back after this; never if `None`.
    pub back_after: Option<Span>,
    pub gossip: Fidelity,
    pub tell: bool,
}

/// What was measured, beyond [`Outcome`].
#[derive(Clone, Debug)]
pub struct OutageReport {
    pub outcome: Outcome,
    /// When the cluster had been filled, and figures begin to count.
    pub origin: At,
    pub killed: usize,
    pub lost_replicas: u64,
    /// From the command to all replicas ready.
    pub filled_after: Option<Span>,
    pub spread: (usize, usize),
    /// From the loss to the first and last verdict of a survivor about a lost host.
    pub detected: Option<(Span, Span)>,
    /// From the loss to the first replacement ready, and to all.
    pub first_recovered: Option<Span>,
    pub recovered: Option<Span>,
    /// Replicas of surviving hosts that were stopped during recovery: a failure moves what was lost only.
    pub moved_needlessly: u64,
    /// Per node and second while nothing happened.
    pub idle: Option<(u64, u64)>,
}

fn fail(run: &mut Run, check: &'static str, text: String) {
    let at = run.world.now;
    run.checks.found.violations.push(Violation { at, check, text });
}

/// Runs it.
pub fn run(spec: &OutageSpec, maker: Maker) -> OutageReport {
    watched(spec, maker, None)
}

/// Runs it while somebody looks on.
pub fn watched(spec: &OutageSpec, maker: Maker, watcher: Option<Box<dyn Watcher>>) -> OutageReport {
    let mut run_spec =
        RunSpec { tell: spec.tell, gossip: spec.gossip, ..RunSpec::plain(spec.seed, spec.hosts) };
    // Room for everything on the survivors.
    run_spec.hosts.iter_mut().for_each(|host| host.capacity.cpu_milli = 64_000);
    let mut run = Run::new(&run_spec, maker);
    if let Some(watcher) = watcher {
        run.watch(watcher);
    }
    run.until(At(15_000_000));
    let started = run.world.now;
    run.operators.create(&mut run.world, HostIx(0), service("web", "sim/web", spec.replicas));
    let limit = Span::secs(120 + spec.replicas / 2);
    let filled_after = run.until_true(limit, |run| run.ready() == spec.replicas);
    if filled_after.is_none() {
        let ready = run.ready();
        fail(&mut run, "fill", format!("{ready} of {} ready after {limit}", spec.replicas));
    }
    run.pass(Span::secs(5));
    let origin = run.world.now;
    run.figures.counts_from = Some(origin);
    let before = run.world.traffic;
    run.pass(Span::secs(20));
    let idle = per_node_second(before, run.world.traffic, spec.hosts, 20);
    let spread = run.spread();

    let killed = (spec.hosts * spec.kill_per_mille as usize).div_ceil(1000).min(spec.hosts - 1);
    let lost_from: Vec<HostIx> =
        run.world.hosts.iter().rev().take(killed).map(|host| host.ix).collect();
    let lost_replicas = spec.replicas - run.ready_outside(&lost_from);
    let stops_before = run.figures.stops;
    let lost_at = run.world.now;
    run.watch_verdicts();
    let text = format!("crash of {killed} hosts");
    run.mark(MarkKind::Fault, None, text, lost_from.clone());
    run.figures.fault("crash");
    for host in &lost_from {
        run.world.power_off(*host);
    }
    run.disturbed();
    let survivors_ready = spec.replicas - lost_replicas;
    let first_recovered = (lost_replicas > 0)
        .then(|| run.until_true(Span::secs(120), |run| run.ready() > survivors_ready))
        .flatten();
    let recovered = run
        .until_true(limit, |run| run.ready() == spec.replicas)
        .map(|_| run.world.now.since(lost_at));
    if recovered.is_none() {
        let ready = run.ready();
        fail(&mut run, "recovery", format!("{ready} of {} replicas ready", spec.replicas));
    }
    let moved_needlessly = run.figures.stops - stops_before;
    let detected = run
        .verdicts_about(&lost_from, started)
        .map(|(first, last)| (first.since(lost_at), last.since(lost_at)));
    if let Some(after) = spec.back_after {
        run.pass(after);
        run.mark(MarkKind::Heal, None, "everything is healed".to_owned(), Vec::new());
        run.heal();
        run.demand_liveness();
    }
    OutageReport {
        outcome: run.finish(),
        origin,
        killed,
        lost_replicas,
        filled_after,
        spread,
        detected,
        first_recovered,
        recovered,
        moved_needlessly,
        idle: Some(idle),
    }
}

fn per_node_second(before: Traffic, after: Traffic, hosts: usize, secs: u64) -> (u64, u64) {
    let per = hosts as u64 * secs;
    let messages =
        after.messages + after.gossip_messages - before.messages - before.gossip_messages;
    let bytes = after.bytes + after.gossip_bytes - before.bytes - before.gossip_bytes;
    (messages / per, bytes / per)
}

impl Run {
    /// Slots that are ready somewhere.
    pub fn ready(&self) -> u64 {
        self.checks.picture.ready.len() as u64
    }

    fn ready_outside(&self, lost: &[HostIx]) -> u64 {
        let outside =
            |place| self.checks.picture.holders(place).iter().any(|host| !lost.contains(host));
        self.checks.picture.ready.keys().filter(|place| outside(**place)).count() as u64
    }

    /// Least and most replicas on a host.
    fn spread(&self) -> (usize, usize) {
        let counts = self.world.hosts.iter().map(crate::host::Host::ready);
        (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0))
    }

    fn watch_verdicts(&mut self) {
        self.figures.verdicts.clear();
    }

    /// Something was done to the world by hand: the checks hear of it.
    pub fn disturbed(&mut self) {
        self.note(Seen::Disturbed);
    }

    /// When the first and the last verdict of "down" about any of these fell.
    fn verdicts_about(&self, hosts: &[HostIx], since: At) -> Option<(At, At)> {
        let ids: Vec<_> = hosts.iter().map(|host| self.world.hosts[host.i()].id).collect();
        let about = self.figures.verdicts.iter().filter(|(at, about, to)| {
            *at >= since && *to == MemberState::Down && ids.contains(about)
        });
        let times: Vec<At> = about.map(|(at, _, _)| *at).collect();
        Some((*times.iter().min()?, *times.iter().max()?))
    }
}
