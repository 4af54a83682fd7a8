//! Medians over the rounds, and the ratios that are promised.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::Result;
use serde::Serialize;

use crate::measure::{Figures, LAST_BOUND};

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    replicas: usize,
    hosts: usize,
    cores: usize,
    systems: BTreeMap<&'static str, Vec<Figures>>,
}

/// A figure's name and how to read it.
type Column = (&'static str, fn(&Figures) -> Option<f64>);

const COLUMNS: [Column; 4] = [
    ("create", |figures| figures.create),
    ("crash, first", |figures| figures.crash_first),
    ("crash, all", |figures| figures.crash_all),
    ("one left, all", |figures| figures.last_all),
];

impl Report {
    pub(crate) fn new(replicas: usize, hosts: usize) -> Report {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Report { replicas, hosts, cores, systems: BTreeMap::new() }
    }

    pub(crate) fn add(&mut self, system: &'static str, figures: Figures) {
        self.systems.entry(system).or_default().push(figures);
    }

    pub(crate) fn json(&self) -> Result<Vec<u8>> {
        Ok(serde_json::to_vec_pretty(self)?)
    }

    /// The median of a figure over the rounds; none when it was not reached in most of them.
    fn median(&self, system: &str, figure: fn(&Figures) -> Option<f64>) -> Option<f64> {
        let rounds = self.systems.get(system)?;
        // Not reached is worse than any time.
        let mut values: Vec<f64> =
            rounds.iter().map(|one| figure(one).unwrap_or(f64::INFINITY)).collect();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().filter(|value| value.is_finite())
    }

    fn ratio(
        &self,
        f: &mut fmt::Formatter<'_>,
        what: &str,
        other: &str,
        figure: fn(&Figures) -> Option<f64>,
        promised: f64,
    ) -> fmt::Result {
        let (ours, theirs) = (self.median("shoal", figure), self.median(other, figure));
        let (Some(ours), Some(theirs)) = (ours, theirs) else { return Ok(()) };
        let ratio = ours / theirs;
        let verdict = if ratio <= promised { "kept" } else { "MISSED" };
        writeln!(
            f,
            "{what}: {ratio:.2} of {other}'s time (promised: at most {promised:.2}): {verdict}"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} replicas on {} hosts, {} cores; medians in seconds",
            self.replicas, self.hosts, self.cores
        )?;
        write!(f, "{:<8}{:>7}", "", "rounds")?;
        COLUMNS.iter().try_for_each(|(name, _)| write!(f, "{name:>15}"))?;
        writeln!(f)?;
        for (system, rounds) in &self.systems {
            write!(f, "{system:<8}{:>7}", rounds.len())?;
            for (_, figure) in COLUMNS {
                match self.median(system, figure) {
                    Some(seconds) => write!(f, "{seconds:>15.1}")?,
                    None => write!(f, "{:>15}", "-")?,
                }
            }
            writeln!(f)?;
        }
        let bound = LAST_BOUND.as_secs();
        writeln!(f, "(one left: a dash is not within {bound} s, or nobody who could)")?;
        self.ratio(f, "create to all running", "bare", |one| one.create, 1.05)?;
        self.ratio(f, "crash to first replacement", "swarm", |one| one.crash_first, 0.2)?;
        self.ratio(f, "crash to all running", "swarm", |one| one.crash_all, 1.0 / 3.0)?;
        let idle = (
            self.median("shoal", |one| one.idle_mb),
            self.median("shoal", |one| one.idle_cpu_percent),
        );
        if let (Some(mb), Some(percent)) = idle {
            writeln!(
                f,
                "idle node: {mb:.1} MB (promised: 30), {percent:.2}% of a core (promised: 1)"
            )?;
        }
        Ok(())
    }
}
