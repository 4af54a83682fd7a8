//! A run of a large cluster from its settled beginning over the loss to the end, and its figures.

use std::cell::Cell;

use super::checks::zones_are_even;
use super::world::Fleet;
use super::{FleetReport, FleetSpec, Traffic};
use crate::time::{At, Span};

/// How long the cluster is watched while nothing happens.
const IDLE: Span = Span::secs(5);
/// How long it may take to recover, and how long it is watched afterwards.
const PATIENCE: Span = Span::secs(180);
const AFTERWARDS: Span = Span::secs(5);
/// How often it is told how far the recovery is, where that was asked for.
const TELLS_EVERY: Span = Span::secs(2);

impl Fleet {
    pub(super) fn run(mut self, spec: &FleetSpec) -> FleetReport {
        // Whatever the start left over is done with.
        self.until(self.now + Span::secs(5), |_| false);
        let (before, since) = (self.traffic(), self.now);
        self.until(self.now + IDLE, |_| false);
        let [idle, idle_gossip] = self.traffic_since(before, since);
        let missing = self.checks.missing();
        if missing > 0 {
            self.checks.found(self.now, "boot", format!("{missing} slots do not run exactly once"));
        }
        let (starts, stops) = (self.checks.starts, self.checks.stops);
        let zones_before = self.kill(spec);
        let (lost_at, before) = (self.now, self.traffic());
        self.tell(spec, "lost");
        let told = Cell::new(lost_at);
        self.until(lost_at + PATIENCE, |fleet| {
            if fleet.now.since(told.get()) >= TELLS_EVERY {
                told.set(fleet.now);
                fleet.tell(spec, "on the way");
            }
            fleet.checks.all_back()
        });
        self.tell(spec, "recovered");
        self.until(self.now + AFTERWARDS, |_| false);
        self.checks.end(self.now);
        let uneven = self.uneven(&zones_before);
        let [busy, busy_gossip] = self.traffic_since(before, lost_at);
        let checks = &self.checks;
        let within = |per_mille| checks.recovered_within(per_mille);
        FleetReport {
            trace: self.trace.hex(),
            violations: checks.violations.clone(),
            count: checks.count,
            killed: spec.hosts - self.alive as usize,
            lost: checks.lost,
            detected: self.detected(lost_at),
            recovered: (|| Some((within(0)?, within(500)?, within(990)?, within(1000)?)))(),
            starts: checks.starts - starts,
            stops: checks.stops - stops,
            twins: checks.twins,
            uneven,
            doubted: self.doubted.len() as u64,
            idle,
            busy,
            idle_gossip,
            busy_gossip,
            lasted: Span(self.now.0),
        }
    }

    #[allow(clippy::print_stderr, reason = "telling how far it is was asked for")]
    fn tell(&self, spec: &FleetSpec, what: &str) {
        if spec.tell {
            let checks = &self.checks;
            eprintln!(
                "{:>12}  {what}: {} lost, {} back, {} down, {} starts, {} violations",
                self.now.to_string(),
                checks.lost,
                checks.recovered.len(),
                self.cohorts.iter().map(|c| c.down).max().unwrap_or(0),
                checks.starts,
                checks.count,
            );
        }
    }

    /// Probes and pushes, and gossip, of all nodes so far.
    fn traffic(&mut self) -> [Traffic; 2] {
        self.cost.pass(self.now);
        [self.sent, self.cost.sent()]
    }

    fn traffic_since(&mut self, before: [Traffic; 2], since: At) -> [Traffic; 2] {
        let per = (self.now.since(since).as_ms() * self.alive / 1000).max(1);
        let now = self.traffic();
        [0, 1].map(|n| Traffic {
            messages: (now[n].messages - before[n].messages) / per,
            bytes: (now[n].bytes - before[n].bytes) / per,
        })
    }

    /// The first, the middle and the last time at which a cohort held a lost host for down.
    fn detected(&self, lost_at: At) -> Option<(Span, Span, Span)> {
        let all: usize = self.verdicts.iter().map(|(_, more)| more).sum();
        let first = self.verdicts.first()?.0;
        let mut seen = 0;
        let middle = self.verdicts.iter().find(|(_, more)| {
            seen += more;
            2 * seen >= all
        })?;
        let last = self.verdicts.last()?.0;
        Some((first.since(lost_at), middle.0.since(lost_at), last.since(lost_at)))
    }

    /// Takes a share of the hosts away, at one moment. Gives what was left of each service in each zone.
    fn kill(&mut self, spec: &FleetSpec) -> Vec<Vec<u64>> {
        let killed = (spec.hosts * spec.kill_per_mille as usize).div_ceil(1000).min(spec.hosts - 1);
        // The last ones, as in the ordinary outage: ids are drawn, so they are anybody, of all zones.
        for n in spec.hosts - killed..spec.hosts {
            self.trace.note(self.now, true, format_args!("h{n} is lost"));
            self.hosts[n].node = None;
            let engine = std::mem::take(&mut self.hosts[n].engine);
            for (_, container) in engine.containers().filter(|(_, c)| !c.given_up) {
                let spot = self.spot(container.place);
                self.checks.gone(self.now, n, spot, true);
            }
            for container in engine.starting().filter(|c| !c.given_up) {
                let spot = self.spot(container.place);
                self.checks.gone(self.now, n, spot, false);
            }
            self.alive -= 1;
        }
        self.cost.left(self.now, self.alive);
        self.in_zones()
    }

    /// Replicas of each service in each zone.
    fn in_zones(&self) -> Vec<Vec<u64>> {
        let zones = self.plot.sites.iter().map(|site| site.zone).max().unwrap_or(0) + 1;
        let mut counts = vec![vec![0; zones]; self.plot.services.len()];
        for (n, host) in self.hosts.iter().enumerate().filter(|(_, host)| host.node.is_some()) {
            for (_, container) in host.engine.containers().filter(|(_, c)| !c.given_up) {
                counts[self.spot(container.place).service][self.plot.sites[n].zone] += 1;
            }
        }
        counts
    }

    /// Services with zones less even than one decider would have left them; far less even is a violation.
    fn uneven(&mut self, before: &[Vec<u64>]) -> u64 {
        let mut weights = vec![0; before.first().map_or(0, Vec::len)];
        for (host, site) in self.hosts.iter().zip(&self.plot.sites) {
            weights[site.zone] += if host.node.is_some() { site.weight() } else { 0 };
        }
        let mut uneven = 0;
        for (n, after) in self.in_zones().into_iter().enumerate() {
            uneven += u64::from(!zones_are_even(&before[n], &after, &weights, 0));
            if !zones_are_even(&before[n], &after, &weights, 2 + after.iter().sum::<u64>() / 20) {
                let text = format!("service {n} stands {after:?}, and stood {:?}", before[n]);
                self.checks.found(self.now, "zones", text);
            }
        }
        uneven
    }
}
