//! A random run as a list: which hosts there are, and which fault or command comes when.
//!
//! The list is drawn from a seed before the run begins ([`Schedule::draw`]), which is what lets it be saved
//! as a file, cut and replayed: a step that is taken out does not reshuffle the others, as it
//! would if everything were drawn while the run goes on. What links, disks, engines and cores do is
//! still drawn from the seed, each from its own stream.

mod draw;
mod file;
pub mod shrink;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use file::FileError;

use crate::chance::{Chance, Stream};
use crate::faults::{Fault, Ground, KINDS, Kind, Mix};
use crate::operators::{Act, Desk};
use crate::run::{Outcome, Run, RunSpec, Watcher};
use crate::time::{At, Span};
use crate::world::Maker;

/// The version that files are written in.
pub const VERSION: u16 = 1;

/// Hosts come up before this.
const UP_MS: u64 = 8_000;
/// Operators work alone before faults begin.
const CALM_MS: u64 = 20_000;

/// One thing that is done to the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    Fault(Fault),
    /// By an operator, on the host of this number or the next one that answers.
    Operator {
        on: u32,
        act: Act,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Since the start of the run.
    pub at_ms: u64,
    #[serde(rename = "do")]
    pub what: What,
}

/// A whole run, but for what its seed adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    pub version: u16,
    pub seed: u64,
    /// Hosts from the beginning; those that join later have the numbers after these.
    pub hosts: u32,
    #[serde(default)]
    pub spare: u32,
    /// Hosts are spread over so many zones, and stand so many to a rack; 0 for none.
    #[serde(default)]
    pub zones: u32,
    #[serde(default)]
    pub per_rack: u32,
    #[serde(default)]
    pub clocks_off_ms: u64,
    /// Engine events that are lost, and starts that fail for no reason, per thousand.
    #[serde(default)]
    pub events_lost: u32,
    #[serde(default)]
    pub start_fails: u32,
    /// Healing begins so long after the start.
    pub heal_ms: u64,
    #[serde(default)]
    pub steps: Vec<Step>,
}

impl Schedule {
    /// The random run of a seed: a small cluster, operators at work, and minutes of faults.
    pub fn draw(seed: u64) -> Self {
        Self::draw_for(seed, None)
    }

    /// The same with this many seconds of faults.
    pub fn draw_for(seed: u64, fault_secs: Option<u64>) -> Self {
        let mut chance = Chance::new(seed, Stream::Workload);
        let hosts = [2, 3, 3, 4, 5, 5, 7, 9][chance.index(8)];
        let clocks_off_ms = chance.between(0, 500);
        let zones = if chance.per_mille(300) { 3 } else { 0 };
        let per_rack = if chance.per_mille(300) { 2 } else { 0 };
        let most_replicas = chance.between(2, 12);
        let events_lost = [0, 0, 0, 20][chance.index(4)];
        let start_fails = [0, 0, 50][chance.index(3)];
        let fault_secs = fault_secs.unwrap_or_else(|| chance.between(60, 400));
        let heal_ms = UP_MS + CALM_MS + fault_secs * 1000;
        let mut faults = Chance::new(seed, Stream::Faults);
        let mix = Mix::draw(&mut faults);
        let joins = mix.rates.iter().any(|(kind, _)| *kind == Kind::JoinStorm);
        let spare = if joins { chance.between(1, u64::from(hosts)) as u32 } else { 0 };
        let mut schedule = Self {
            version: VERSION,
            seed,
            hosts,
            spare,
            zones,
            per_rack,
            clocks_off_ms,
            events_lost,
            start_fails,
            heal_ms,
            steps: Vec::new(),
        };
        schedule.draw_faults(&mix, &mut faults);
        schedule.draw_acts(most_replicas);
        schedule.draw_jobs(most_replicas);
        schedule.steps.sort_by_key(|step| step.at_ms);
        schedule.draw_assets();
        schedule.draw_networks();
        schedule
    }

    fn draw_faults(&mut self, mix: &Mix, chance: &mut Chance) {
        let ground = Ground::of(self.spec(false).hosts.iter().take(self.hosts as usize));
        for (kind, longest) in &mix.rates {
            let mut at_ms = UP_MS + CALM_MS + chance.span(Span::ZERO, *longest).as_ms();
            while at_ms < self.heal_ms {
                let what = What::Fault(Fault::draw(*kind, &ground, chance));
                self.steps.push(Step { at_ms, what });
                at_ms += Mix::pause(*longest, chance).as_ms();
            }
        }
    }

    fn draw_acts(&mut self, most_replicas: u64) {
        let mut chance = Chance::new(self.seed, Stream::Operators);
        let mut desk = Desk::new(5, most_replicas, self.hosts);
        let mut at_ms = UP_MS + 1_000;
        while at_ms < self.heal_ms {
            let on = chance.below(u64::from(self.hosts)) as u32;
            if let Some(act) = desk.draw(&mut chance) {
                self.steps.push(Step { at_ms, what: What::Operator { on, act } });
            }
            at_ms += chance.tailed(Span::ms(200), Span::secs(20)).as_ms();
        }
    }

    /// How the run is set up.
    pub fn spec(&self, tell: bool) -> RunSpec {
        let all = (self.hosts + self.spare) as usize;
        let mut spec = RunSpec {
            tell,
            spare: self.spare as usize,
            clocks_off_ms: self.clocks_off_ms,
            ..RunSpec::plain(self.seed, all)
        };
        for (n, host) in spec.hosts.iter_mut().enumerate() {
            let number = n as u32;
            if let Some(zone) = number.checked_rem(self.zones) {
                host.zone = format!("z{zone}");
            }
            if let Some(rack) = number.checked_div(self.per_rack) {
                host.labels.insert("rack".to_owned(), format!("r{rack}"));
            }
            let disk = if n % 2 == 0 { "ssd" } else { "hdd" };
            host.labels.insert("disk".to_owned(), disk.to_owned());
        }
        spec.engine.events_lost = self.events_lost;
        spec.engine.start_fails = self.start_fails;
        spec
    }

    /// Runs it, all checks on.
    pub fn run(&self, tell: bool, maker: Maker) -> Outcome {
        self.watched(tell, maker, None)
    }

    /// Runs it while somebody looks on.
    pub fn watched(&self, tell: bool, maker: Maker, watcher: Option<Box<dyn Watcher>>) -> Outcome {
        let mut run = Run::new(&self.spec(tell), maker);
        if let Some(watcher) = watcher {
            run.watch(watcher);
        }
        run.world.trace.note(
            At::ZERO,
            true,
            format_args!("{} hosts, {:?}", self.hosts, self.count_faults()),
        );
        run.follow(&self.steps);
        run.until(At::ZERO + Span::ms(self.heal_ms));
        run.heal();
        run.demand_liveness();
        run.finish()
    }

    /// How many faults of each kind are on the list.
    pub fn count_faults(&self) -> BTreeMap<Kind, u64> {
        let mut counts = BTreeMap::new();
        for kind in KINDS {
            let of = |step: &&Step| matches!(&step.what, What::Fault(fault) if fault.kind == kind);
            let count = self.steps.iter().filter(of).count() as u64;
            if count > 0 {
                counts.insert(kind, count);
            }
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_list_and_every_kind_is_drawn_by_some_seed() {
        assert_eq!(Schedule::draw(5), Schedule::draw(5));
        assert_ne!(Schedule::draw(5).steps, Schedule::draw(6).steps);
        let mut counts = BTreeMap::new();
        for seed in 1..200 {
            let schedule = Schedule::draw(seed);
            assert!(schedule.steps.is_sorted_by_key(|step| step.at_ms));
            counts.extend(schedule.count_faults());
        }
        assert_eq!(counts.len(), KINDS.len(), "{counts:?}");
    }

    #[test]
    fn some_runs_have_networks_and_what_they_are_for() {
        let mut said = std::collections::BTreeSet::new();
        let mut with = 0;
        for seed in 1..100 {
            let steps = Schedule::draw(seed).steps;
            let acts = steps.iter().filter_map(|step| match &step.what {
                What::Operator { act, .. } => Some(act),
                What::Fault(_) => None,
            });
            let mut any = false;
            for act in acts {
                match act {
                    Act::CreateNetwork { subnet, .. } => {
                        any = true;
                        said.insert(if subnet.is_some() { "a range" } else { "no range" });
                    }
                    Act::RemoveNetwork { .. } => drop(said.insert("removed")),
                    Act::Attach { .. } => drop(said.insert("attached later")),
                    Act::Create { draft, .. } if !draft.networks.is_empty() => {
                        said.insert("attached");
                    }
                    Act::Create { draft, .. } if draft.port.is_some() => drop(said.insert("port")),
                    _ => {}
                }
            }
            with += u32::from(any);
        }
        assert_eq!(said.len(), 6, "{said:?}");
        assert!((20..60).contains(&with), "{with}");
    }
}
