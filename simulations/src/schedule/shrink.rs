//! Cutting a failing run down to what it takes: fewer faults and commands, fewer hosts, less time.
//!
//! Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002):
//! leave out ever smaller parts of the list for as long as the run still fails in the same way, that is,
//! with a violation of the same check.

use super::{Schedule, Step, What};
use crate::run::Outcome;
use crate::world::Maker;

/// How a run fails: the check that is violated first.
pub fn failure(outcome: &Outcome) -> Option<&'static str> {
    outcome.violations.first().map(|violation| violation.check)
}

/// What came of shrinking.
#[derive(Clone, Debug)]
pub struct Shrunk {
    pub schedule: Schedule,
    pub outcome: Outcome,
    /// Runs that it took.
    pub runs: u32,
}

struct Shrinker<'a> {
    maker: &'a dyn Fn() -> Maker,
    check: &'static str,
    best: Schedule,
    outcome: Outcome,
    runs: u32,
    most_runs: u32,
}

/// Cuts `schedule` down, which failed with `outcome`, in at most so many runs. `None` when it did not fail.
pub fn shrink(
    schedule: &Schedule,
    outcome: Outcome,
    most_runs: u32,
    maker: &dyn Fn() -> Maker,
) -> Option<Shrunk> {
    let check = failure(&outcome)?;
    let mut shrinker =
        Shrinker { maker, check, best: schedule.clone(), outcome, runs: 0, most_runs };
    shrinker.end_at_once();
    loop {
        let before = shrinker.best.clone();
        shrinker.fewer_steps();
        shrinker.fewer_hosts();
        shrinker.milder_faults();
        shrinker.end_at_once();
        if shrinker.best == before || shrinker.runs >= most_runs {
            break;
        }
    }
    Some(Shrunk { schedule: shrinker.best, outcome: shrinker.outcome, runs: shrinker.runs })
}

impl Shrinker<'_> {
    /// Keeps a candidate if it still fails in the same way.
    fn try_one(&mut self, candidate: Schedule) -> bool {
        if candidate == self.best || self.runs >= self.most_runs {
            return false;
        }
        self.runs += 1;
        let outcome = candidate.run(false, (self.maker)());
        let same = outcome.violations.iter().any(|violation| violation.check == self.check);
        if same {
            self.best = candidate;
            self.outcome = outcome;
        }
        same
    }

    fn fewer_steps(&mut self) {
        let mut part = self.best.steps.len().div_ceil(2);
        while part > 0 {
            let mut from = 0;
            while from < self.best.steps.len() {
                let mut candidate = self.best.clone();
                let to = (from + part).min(candidate.steps.len());
                candidate.steps.drain(from..to);
                if !self.try_one(candidate) {
                    from = to;
                }
            }
            part = if part == 1 { 0 } else { part.div_ceil(2) };
        }
    }

    fn fewer_hosts(&mut self) {
        let without_spare = Schedule { spare: 0, ..self.best.clone() };
        self.try_one(without_spare);
        while self.best.hosts > 1 && self.best.spare == 0 {
            let mut candidate = self.best.clone();
            candidate.hosts -= 1;
            candidate.fit();
            if !self.try_one(candidate) {
                break;
            }
        }
        for plain in [
            Schedule { zones: 0, ..self.best.clone() },
            Schedule { per_rack: 0, ..self.best.clone() },
            Schedule { clocks_off_ms: 0, ..self.best.clone() },
            Schedule { events_lost: 0, ..self.best.clone() },
            Schedule { start_fails: 0, ..self.best.clone() },
        ] {
            let merged = Schedule { steps: self.best.steps.clone(), ..plain };
            self.try_one(merged);
        }
    }

    /// Shorter faults, fewer replicas.
    fn milder_faults(&mut self) {
        for n in 0..self.best.steps.len() {
            for _ in 0..3 {
                let mut candidate = self.best.clone();
                let Some(step) = candidate.steps.get_mut(n) else { return };
                step.milder();
                if !self.try_one(candidate) {
                    break;
                }
            }
        }
    }

    /// Heals soon after the last step, and leaves out the time in which nothing is done.
    fn end_at_once(&mut self) {
        let last = self.best.steps.last().map_or(0, |step| step.at_ms);
        for rest_ms in [1_000, 30_000, 120_000] {
            let heal_ms = (last.max(super::UP_MS) + rest_ms).min(self.best.heal_ms);
            if self.try_one(Schedule { heal_ms, ..self.best.clone() }) {
                break;
            }
        }
        for n in 0..self.best.steps.len() {
            let before = if n == 0 { super::UP_MS } else { self.best.steps[n - 1].at_ms };
            let gap = self.best.steps[n].at_ms.saturating_sub(before);
            if gap < 2_000 {
                continue;
            }
            let mut candidate = self.best.clone();
            candidate.steps[n..].iter_mut().for_each(|step| step.at_ms -= gap / 2);
            candidate.heal_ms -= gap / 2;
            self.try_one(candidate);
        }
    }
}

impl Schedule {
    /// Nothing that names a host which is not there, and no more replicas than fit.
    fn fit(&mut self) {
        let hosts = self.hosts;
        self.steps.retain_mut(|step| match &mut step.what {
            What::Fault(fault) => {
                let had = fault.hosts.len();
                fault.hosts.retain(|host| *host < hosts);
                had == 0 || !fault.hosts.is_empty()
            }
            What::Operator { on, act } => {
                *on = (*on).min(hosts.saturating_sub(1));
                if let crate::operators::Act::Create { draft, .. } = act {
                    draft.fit(u64::from(hosts));
                }
                true
            }
        });
    }
}

impl Step {
    fn milder(&mut self) {
        match &mut self.what {
            What::Fault(fault) => fault.lasts_ms /= 2,
            What::Operator { act: crate::operators::Act::Create { draft, .. }, .. } => {
                draft.replicas = draft.replicas.div_ceil(2);
            }
            What::Operator { .. } => {}
        }
    }
}
