//! The same outage under other orchestrators' published rules: when they would notice it, and when the
//! replacements would run.
//!
//! These are models of documented settings, not measurements: each file says where its numbers come from,
//! and its tests hold it to anchors that were published or measured elsewhere. They leave out what the
//! documents do not speak of: image pulls, a busy control plane, a slow store. So they flatter.

mod kubernetes;
mod nomad;
mod swarm;

use serde::Serialize;

/// Hosts lost at one moment, out of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outage {
    pub hosts: u64,
    pub lost: u64,
    /// Replicas that ran on the lost hosts.
    pub replicas: u64,
    /// How long an engine takes for a start, least and most, in milliseconds.
    pub start_ms: (u64, u64),
}

/// Calls that an engine carries out at once, for all orchestrators alike.
const CALLS_AT_ONCE: u64 = 8;

impl Outage {
    /// From the order to the first replica that runs, and to the last one; the survivors share evenly.
    fn starts_ms(&self) -> ((u64, u64), (u64, u64)) {
        let survivors = self.hosts.saturating_sub(self.lost).max(1);
        let rounds = self.replicas.div_ceil(survivors).div_ceil(CALLS_AT_ONCE).max(1);
        let (least, most) = self.start_ms;
        ((least, most), (least * rounds, most * rounds))
    }

    /// The chance, in thousandths, that more than half of `voters` that were put on hosts at random are
    /// among the lost ones.
    fn majority_lost_per_mille(&self, voters: u64) -> u64 {
        let voters = voters.min(self.hosts);
        let needed = voters / 2 + 1;
        let choose = |n: u64, k: u64| -> f64 {
            if k > n { 0.0 } else { (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product() }
        };
        let all = choose(self.hosts, voters);
        let kept = self.hosts.saturating_sub(self.lost);
        let bad: f64 =
            (needed..=voters).map(|k| choose(self.lost, k) * choose(kept, voters - k)).sum();
        (bad / all * 1000.0).round() as u64
    }
}

/// From one time to another, in milliseconds since the outage.
pub type Window = (u64, u64);

/// What a model says about an outage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    pub name: &'static str,
    /// When the control plane takes the lost hosts for lost.
    pub noticed_ms: Option<Window>,
    /// When the first and the last replacement run.
    pub first_ms: Option<Window>,
    pub all_ms: Option<Window>,
    /// What else an operator would have to know.
    pub remarks: Vec<String>,
    /// The rule in a sentence.
    pub rule: &'static str,
    pub sources: &'static [&'static str],
}

/// What all models say.
pub fn forecasts(outage: &Outage) -> Vec<Forecast> {
    vec![swarm::forecast(outage), nomad::forecast(outage), kubernetes::forecast(outage)]
}

fn plus(a: Window, b: Window) -> Window {
    (a.0 + b.0, a.1 + b.1)
}

fn percent(per_mille: u64) -> String {
    format!("{}.{}%", per_mille / 10, per_mille % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chance_to_lose_a_majority_is_that_of_drawing_without_putting_back() {
        let outage = |hosts, lost| Outage { hosts, lost, replicas: 1, start_ms: (200, 1500) };
        assert_eq!(outage(3, 2).majority_lost_per_mille(3), 1000);
        assert_eq!(outage(3, 1).majority_lost_per_mille(3), 0);
        // Two or three of three voters among 3 of 9 hosts: (3*6 + 1) / 84.
        assert_eq!(outage(9, 3).majority_lost_per_mille(3), 226);
        assert_eq!(outage(2, 1).majority_lost_per_mille(3), 0);
    }

    #[test]
    fn survivors_share_the_starts() {
        let outage = Outage { hosts: 4, lost: 1, replicas: 30, start_ms: (200, 1000) };
        assert_eq!(outage.starts_ms(), ((200, 1000), (400, 2000)));
    }

    #[test]
    fn every_model_names_its_sources() {
        for forecast in
            forecasts(&Outage { hosts: 10, lost: 3, replicas: 30, start_ms: (200, 1500) })
        {
            assert!(!forecast.sources.is_empty() && !forecast.rule.is_empty(), "{}", forecast.name);
        }
    }
}
