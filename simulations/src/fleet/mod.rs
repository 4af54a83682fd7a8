//! Very large clusters: ten thousand real cores that share a few views.
//!
//! Every host runs the product's own [`node::Node`]: it probes, doubts itself, works out whose turn it is,
//! claims, starts and publishes. What makes ten thousand of them fit one machine is that nodes which have
//! heard the same share one view ([`node::cohort`]): hosts are dealt out to a few cohorts, and news reaches
//! a cohort after a delay drawn from what the ordinary simulation shows ([`news`]). Probes go over every
//! edge; a host that runs answers them within the links' round trip. Engines take the time that they take in
//! the ordinary simulation ([`engine`]), and fail at nothing.
//!
//! A run begins with a settled cluster ([`boot`]), loses a share of its hosts at one moment, and ends some
//! time after every slot runs again. [`checks`] look at all of it.
//!
//! Left out, and so not shown by a run: links that lose or delay more than a switch does, partitions,
//! commands, updates, evening out, and whether one gossip group could carry so many members (it cannot: see
//! docs/ARCHITECTURE.md on 969).

pub mod boot;
mod carry;
pub mod checks;
pub mod cost;
pub mod engine;
pub mod measure;
pub mod news;
mod outcome;
mod world;

use membership::time::Wall;

use crate::checks::Violation;
use crate::time::Span;

/// The wall clock of a run starts here: 2026-01-01T00:00:00Z.
pub const WALL_START: Wall = Wall(crate::host::WALL_ORIGIN_MS);

/// A large cluster, and what it loses.
#[derive(Clone, Debug)]
pub struct FleetSpec {
    pub seed: u64,
    pub hosts: usize,
    pub replicas: usize,
    /// Services of equal size.
    pub services: usize,
    pub zones: usize,
    pub cohorts: usize,
    /// Hosts lost, per thousand.
    pub kill_per_mille: u32,
    /// Tell how far the run is, on the standard error stream.
    pub tell: bool,
}

impl FleetSpec {
    /// Services of a hundred replicas each, three zones, three cohorts.
    pub fn of(seed: u64, hosts: usize, replicas: usize, kill_per_mille: u32) -> Self {
        let services = (replicas / 100).max(1);
        Self { seed, hosts, replicas, services, zones: 3, cohorts: 3, kill_per_mille, tell: false }
    }
}

/// What came of it. All times from the loss.
#[derive(Clone, Debug)]
pub struct FleetReport {
    pub trace: String,
    pub violations: Vec<Violation>,
    pub count: u64,
    pub killed: usize,
    pub lost: u64,
    /// Until a cohort held a lost host for down: the first, the middle one, the last.
    pub detected: Option<(Span, Span, Span)>,
    /// Until lost slots ran again: the first, half of them, 99 in 100, the last.
    pub recovered: Option<(Span, Span, Span, Span)>,
    pub starts: u64,
    pub stops: u64,
    pub twins: u64,
    /// Services whose zones are less even than one decider would have left them.
    pub uneven: u64,
    /// Nodes that doubted themselves.
    pub doubted: u64,
    /// Per node and second, probes and pushes: while idle, and from the loss to the end.
    pub idle: Traffic,
    pub busy: Traffic,
    /// The same of gossip, by its model.
    pub idle_gossip: Traffic,
    pub busy_gossip: Traffic,
    pub lasted: Span,
}

/// Messages and bytes that leave one node in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub messages: u64,
    pub bytes: u64,
}

impl FleetReport {
    /// The last line of a run.
    pub fn line(&self, seed: u64) -> String {
        format!("seed {seed} trace {} violations {}", self.trace, self.count)
    }
}

/// Runs it.
pub fn run(spec: &FleetSpec) -> FleetReport {
    world::Fleet::new(spec).run(spec)
}
