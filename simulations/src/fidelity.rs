//! Whether the modelled gossip tells the truth: the same cluster, the same news and the same outage under
//! chitchat itself and under the model, side by side.
//!
//! What carries facts decides how soon news that the pushes missed is everywhere, and what it costs. So
//! compared are: the time until a fact is known to half, 99% and all of the nodes, over gossip alone
//! and over pushes and gossip together; detection and recovery after an outage; messages and bytes of
//! gossip while nothing happens.

use membership::fact::FactKey;
use node::io::Input;
use node::runtime::RuntimeEvent;
use serde::{Deserialize, Serialize};

use crate::cores;
use crate::gossip::Pace;
use crate::links::HostIx;
use crate::outage::{OutageReport, OutageSpec, run as outage};
use crate::run::{Run, RunSpec};
use crate::time::{At, Span};
use crate::world::Fidelity;

/// How far the two may lie apart, in percent of the greater one...
pub const MARGIN_PERCENT: u64 = 25;
/// ... where they lie apart by more than this: a round of gossip, less than which nobody notices. In
/// milliseconds for times; figures that are no times get no such allowance.
pub const MARGIN_MS: u64 = 400;

/// One figure under both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    pub what: String,
    pub unit: String,
    /// `None` where it did not come about.
    pub real: Option<u64>,
    pub modelled: Option<u64>,
    pub agree: bool,
}

impl Pair {
    fn of(what: &str, unit: &str, [real, modelled]: [Option<u64>; 2]) -> Self {
        let agree = match (real, modelled) {
            (Some(real), Some(modelled)) => {
                let apart = real.abs_diff(modelled);
                let small = unit == "ms" && apart <= MARGIN_MS;
                small || apart * 100 <= real.max(modelled) * MARGIN_PERCENT
            }
            (real, modelled) => real == modelled,
        };
        Self { what: what.to_owned(), unit: unit.to_owned(), real, modelled, agree }
    }
}

/// Both, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    pub hosts: usize,
    pub seed: u64,
    pub pairs: Vec<Pair>,
}

impl Comparison {
    pub fn agrees(&self) -> bool {
        self.pairs.iter().all(|pair| pair.agree)
    }
}

/// What was shown when the model was last changed; the report of a run has it.
const KEPT: &str = include_str!("fidelity/kept.json");

/// The comparisons that are kept with the program.
pub fn kept() -> Vec<Comparison> {
    serde_json::from_str(KEPT).unwrap_or_default()
}

/// Pieces of news whose spreading is watched, one after the other.
const NEWS: usize = 11;
/// Outages, each with a seed of its own: when the last one hears is chance.
const OUTAGES: u64 = 3;
/// How long one is watched: long enough for everybody to know, and for rounds to become rare again; and no
/// multiple of the time between two rounds, so that news comes at all times in between.
const WATCHED: Span = Span::ms(20_137);
/// Datagrams lost, per thousand, so that gossip has something to mend.
const LOSS: u32 = 50;

/// One piece of news in a run: since when, and when each host knew it.
#[derive(Debug, Default)]
struct Spread {
    gossip: [Vec<u64>; 3],
    any: [Vec<u64>; 3],
}

fn median(times: &[u64]) -> Option<u64> {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// After how many milliseconds half, 99% and all of `hosts` knew.
fn marks(mut times: Vec<At>, since: At, hosts: usize) -> [Option<u64>; 3] {
    times.sort_unstable();
    [hosts.div_ceil(2), (hosts * 99).div_ceil(100), hosts].map(|count| {
        count.checked_sub(1).and_then(|last| times.get(last)).map(|at| at.since(since).as_ms())
    })
}

/// What one fidelity shows, in the order of the table.
fn measure(
    hosts: usize,
    seed: u64,
    gossip: Fidelity,
) -> Vec<(&'static str, &'static str, Option<u64>)> {
    let mut figures = Vec::new();
    let mut spec = RunSpec { gossip, ..RunSpec::plain(seed, hosts) };
    spec.quality.loss = LOSS;
    let mut run = Run::new(&spec, cores::real(cores::settings()));
    run.until(At(30_000_000));
    let before = run.world.traffic;
    run.pass(Span::secs(60));
    let node_seconds = hosts as u64 * 60;
    let idle = (
        (run.world.traffic.gossip_messages - before.gossip_messages) * 100 / node_seconds,
        (run.world.traffic.gossip_bytes - before.gossip_bytes) / node_seconds,
    );
    let mut spread = Spread::default();
    for n in 0..NEWS {
        let owner = HostIx((n * hosts / NEWS) as u32);
        run.world.watch_next(owner, FactKey::Profile);
        let version = format!("28.1.{n}");
        run.world.feed(owner, Input::Runtime(RuntimeEvent::EngineBack { version }));
        let since = run.world.now;
        run.pass(WATCHED);
        let Some(watched) = run.world.watched.take() else { continue };
        let by_gossip = marks(watched.gossip.values().copied().collect(), since, hosts - 1);
        let mut first = watched.pushed;
        for (host, at) in watched.gossip {
            let known = first.entry(host).or_insert(at);
            *known = at.min(*known);
        }
        let by_any = marks(first.into_values().collect(), since, hosts - 1);
        for n in 0..3 {
            spread.gossip[n].extend(by_gossip[n]);
            spread.any[n].extend(by_any[n]);
        }
    }
    let [half, most, all] = &spread.gossip;
    figures.push(("gossip alone: known to 50%", "ms", median(half)));
    figures.push(("gossip alone: known to 99%", "ms", median(most)));
    figures.push(("gossip alone: known to all", "ms", median(all)));
    let [half, most, all] = &spread.any;
    figures.push(("pushes and gossip: known to 50%", "ms", median(half)));
    figures.push(("pushes and gossip: known to 99%", "ms", median(most)));
    figures.push(("pushes and gossip: known to all", "ms", median(all)));
    figures.push(("gossip of an idle node, messages per 100 s", "", Some(idle.0)));
    figures.push(("gossip of an idle node, bytes per s", "", Some(idle.1)));
    let outages: Vec<OutageReport> = (seed..seed + OUTAGES)
        .map(|seed| {
            let spec = OutageSpec {
                seed,
                hosts,
                replicas: hosts as u64 * 4,
                kill_per_mille: 100,
                back_after: None,
                gossip,
                tell: false,
            };
            outage(&spec, cores::real(cores::settings()))
        })
        .collect();
    let middle = |of: fn(&OutageReport) -> Option<Span>| {
        let times: Vec<u64> = outages.iter().filter_map(of).map(Span::as_ms).collect();
        // One that never came about is no time, and must not be left out of account.
        (times.len() == outages.len()).then(|| median(&times)).flatten()
    };
    let violations = outages.iter().map(|report| report.outcome.count).sum();
    figures.push(("outage: first verdict", "ms", middle(|r| r.detected.map(|(first, _)| first))));
    figures.push(("outage: last verdict", "ms", middle(|r| r.detected.map(|(_, last)| last))));
    figures.push(("outage: first replica replaced", "ms", middle(|r| r.first_recovered)));
    figures.push(("outage: all replaced", "ms", middle(|r| r.recovered)));
    figures.push(("outage: violations", "", Some(violations)));
    figures
}

/// Runs both. With real gossip the figures are the same again only where its randomness comes from a seed, as
/// in the program `simulations`.
pub fn compare(hosts: usize, seed: u64) -> Comparison {
    let real = measure(hosts, seed, Fidelity::Real);
    let modelled = measure(hosts, seed, Fidelity::Modelled(Pace::default()));
    let pairs = real
        .into_iter()
        .zip(modelled)
        .map(|((what, unit, real), (.., modelled))| Pair::of(what, unit, [real, modelled]));
    Comparison { hosts, seed, pairs: pairs.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apart_is_apart_by_both_measures() {
        let agree = |unit, real, modelled| Pair::of("x", unit, [real, modelled]).agree;
        assert!(agree("ms", Some(100), Some(490)), "a round of gossip");
        assert!(!agree("ms", Some(1_000), Some(1_500)));
        assert!(agree("", Some(80), Some(100)) && !agree("", Some(70), Some(100)));
        assert!(!agree("ms", None, Some(5)) && agree("ms", None, None));
    }

    #[test]
    fn what_is_kept_is_read_and_agrees() {
        let kept = kept();
        assert!(!kept.is_empty());
        for comparison in kept {
            assert!(comparison.pairs.len() > 10, "{comparison:?}");
            for pair in &comparison.pairs {
                let again = Pair::of(&pair.what, &pair.unit, [pair.real, pair.modelled]);
                assert!(again == *pair && pair.agree, "{pair:?}");
            }
        }
    }

    #[test]
    fn marks_are_the_times_at_which_that_many_knew() {
        let times = (1..=4).map(|n| At(n * 1_000_000)).collect();
        assert_eq!(marks(times, At(500_000), 5), [Some(2_500), None, None]);
    }
}
