//! The figures of one run as they are shown, kept as a baseline and compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Figures, Moves, percentile};
use crate::run::Outcome;
use crate::time::Span;
use crate::world::Traffic;

/// The layout of a stored [`Sheet`]; raised when a figure changes its meaning.
pub const SHEET_VERSION: u32 = 1;

/// Some durations, in virtual milliseconds. All are `None` when nothing was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    pub count: u64,
    pub p50_ms: Option<u64>,
    pub p99_ms: Option<u64>,
    pub max_ms: Option<u64>,
}

impl Times {
    pub fn of(spans: &[Span]) -> Self {
        let mut sorted = spans.to_vec();
        sorted.sort();
        let at = |percent| percentile(&sorted, percent).map(Span::as_ms);
        Self { count: sorted.len() as u64, p50_ms: at(50), p99_ms: at(99), max_ms: at(100) }
    }
}

/// How many of the wanted replicas were ready, in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub least_per_mille: u64,
    pub latest_per_mille: u64,
}

impl Default for Running {
    fn default() -> Self {
        Self { least_per_mille: 1000, latest_per_mille: 1000 }
    }
}

impl Running {
    pub(super) fn look(&mut self, wanted: u64, ready: u64) {
        self.latest_per_mille =
            (ready * 1000).checked_div(wanted).map_or(1000, |share| share.min(1000));
        self.least_per_mille = self.least_per_mille.min(self.latest_per_mille);
    }
}

/// Ready replicas on the hosts that act, at the end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balance {
    pub hosts: u64,
    pub least: u64,
    pub most: u64,
    pub replicas: u64,
}

impl Balance {
    pub fn of(counts: impl Iterator<Item = usize>) -> Self {
        let counts: Vec<u64> = counts.map(|count| count as u64).collect();
        Self {
            hosts: counts.len() as u64,
            least: counts.iter().min().copied().unwrap_or(0),
            most: counts.iter().max().copied().unwrap_or(0),
            replicas: counts.iter().sum(),
        }
    }
}

/// What one kind of message cost: in all, and for each node and second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wire {
    pub messages: u64,
    pub bytes: u64,
    pub messages_per_node_second: f64,
    pub bytes_per_node_second: f64,
}

/// How fast the simulation went; differs from machine to machine, so nothing is compared with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pace {
    pub real_ms: u64,
    /// Virtual hours for each real second.
    pub hours_per_second: f64,
}

/// The figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sheet {
    pub version: u32,
    /// What was run: a scenario's name, or the command.
    pub what: String,
    pub seed: u64,
    pub trace: String,
    pub violations: u64,
    pub hosts: u64,
    /// Replicas wanted at the end.
    pub wanted: u64,
    pub simulated_ms: u64,
    /// From the loss to the first verdict of anybody, and to that of each observer.
    pub first_detected: Times,
    pub detected: Times,
    /// From the first slot that was not served any more to the first that was again, and to all.
    pub first_recovered: Times,
    pub recovered: Times,
    /// For each slot that was not served for a while.
    pub gaps: Times,
    /// After healing, until every slot ran exactly once.
    pub settled_ms: Option<u64>,
    pub duplicate_seconds: u64,
    pub gap_seconds: u64,
    /// Over the timeline, without the first filling.
    pub running: Running,
    pub starts: u64,
    pub stops: u64,
    pub moves: Moves,
    pub false_verdicts: u64,
    pub balance: Balance,
    pub acknowledged: u64,
    pub refused: u64,
    pub faults: BTreeMap<String, u64>,
    pub wire: BTreeMap<String, Wire>,
    pub pace: Option<Pace>,
}

/// What went over the wire, by kind and in all.
pub fn of_kinds(traffic: &Traffic, hosts: u64, lasted: Span) -> BTreeMap<String, Wire> {
    let node_seconds = hosts as f64 * lasted.as_ms() as f64 / 1000.0;
    let per = |amount: u64| {
        if node_seconds > 0.0 {
            (amount as f64 / node_seconds * 100.0).round() / 100.0
        } else {
            0.0
        }
    };
    let wire = |messages, bytes| Wire {
        messages,
        bytes,
        messages_per_node_second: per(messages),
        bytes_per_node_second: per(bytes),
    };
    let mut kinds: BTreeMap<String, Wire> = traffic
        .kinds()
        .into_iter()
        .filter(|(_, sent)| sent.messages > 0)
        .map(|(kind, sent)| (kind.to_owned(), wire(sent.messages, sent.bytes)))
        .collect();
    let (messages, bytes) =
        (traffic.messages + traffic.gossip_messages, traffic.bytes + traffic.gossip_bytes);
    kinds.insert("all".to_owned(), wire(messages, bytes));
    kinds
}

impl Sheet {
    /// The figures of a run that has ended.
    pub fn of(what: &str, outcome: &Outcome, real: Option<std::time::Duration>) -> Self {
        let figures: &Figures = &outcome.figures;
        let hosts = outcome.hosts as u64;
        let hours = outcome.lasted.as_ms() as f64 / 3_600_000.0;
        Self {
            version: SHEET_VERSION,
            what: what.to_owned(),
            seed: outcome.seed,
            trace: outcome.trace.clone(),
            violations: outcome.count,
            hosts,
            wanted: figures.latest.0,
            simulated_ms: outcome.lasted.as_ms(),
            first_detected: Times::of(&figures.detection.first),
            detected: Times::of(&figures.detection.each),
            first_recovered: Times::of(&figures.episodes.first),
            recovered: Times::of(&figures.episodes.full),
            gaps: Times::of(&figures.closed_gaps),
            settled_ms: figures.settled_after.map(Span::as_ms),
            duplicate_seconds: figures.duplicate_seconds,
            gap_seconds: figures.gap_seconds,
            running: figures.running,
            starts: figures.starts,
            stops: figures.stops,
            moves: figures.moves(),
            false_verdicts: figures.false_verdicts,
            balance: figures.balance,
            acknowledged: figures.acknowledged,
            refused: figures.refused,
            faults: figures.faults_by_kind.clone(),
            wire: of_kinds(&outcome.traffic, hosts, outcome.lasted),
            pace: real.map(|real| Pace {
                real_ms: u64::try_from(real.as_millis()).unwrap_or(u64::MAX),
                hours_per_second: (hours / real.as_secs_f64().max(0.001) * 1000.0).round() / 1000.0,
            }),
        }
    }
}
