//! One edge: what this node's latest probes of one member came to.

use super::Timing;
use super::report::EdgeState;
use crate::id::Incarnation;

/// After so many questions without a refusal the host counts as silent again. More than one, because
/// Linux sends at most about one "port unreachable" a second to one asker.
const SILENT_AFTER_ASKS: u32 = 4;

/// How many probes in a row may be void before the next counts after all: a loop that is late all the
/// time must still notice that a member is gone.
const MAX_VOIDS_IN_A_ROW: u32 = 3;

/// A member that this node probes.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) incarnation: Incarnation,
    /// The latest results, newest in the lowest bit, 1 for a failure.
    results: u32,
    known: u32,
    down: bool,
    voids: u32,
    /// Questions to the host since it last refused; `None` if it never did.
    asks_since_refusal: Option<u32>,
}

impl Observed {
    pub(super) fn new(incarnation: Incarnation) -> Self {
        Self { incarnation, results: 0, known: 0, down: false, voids: 0, asks_since_refusal: None }
    }

    pub(super) fn record(&mut self, failed: bool, timing: &Timing) {
        // 32 results fit; a profile with a longer window gets 31.
        let window = timing.window.clamp(1, 31);
        self.results = (self.results << 1 | u32::from(failed)) & ((1 << window) - 1);
        self.known = (self.known + 1).min(window);
        self.voids = 0;
        let failures = self.results.count_ones();
        if failures >= timing.edge_down_at {
            self.down = true;
        } else if failures <= timing.edge_up_at {
            self.down = false;
            self.asks_since_refusal = None;
        }
    }

    /// A probe's answer may lie unread because this node was late. True if the probe shall not count.
    pub(super) fn excuse(&mut self) -> bool {
        self.voids += 1;
        self.voids <= MAX_VOIDS_IN_A_ROW
    }

    pub(super) fn host_asked(&mut self) {
        self.asks_since_refusal = self.asks_since_refusal.map(|n| n.saturating_add(1));
    }

    pub(super) fn host_refused(&mut self) {
        self.asks_since_refusal = Some(0);
    }

    pub(super) fn is_down(&self) -> bool {
        self.down
    }

    /// The latest two probes failed: one alone is loss.
    pub(super) fn is_failing(&self) -> bool {
        self.known >= 2 && self.results & 0b11 == 0b11
    }

    /// It is down and has not answered since: no hurry with the next probe.
    pub(super) fn is_silent(&self) -> bool {
        self.down && self.results & 1 == 1
    }

    /// What to report about it, if anything.
    pub(super) fn state(&self) -> Option<EdgeState> {
        let refusing = self.asks_since_refusal.is_some_and(|asks| asks < SILENT_AFTER_ASKS);
        self.down.then_some(if refusing { EdgeState::Refused } else { EdgeState::Down })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(results: &[bool]) -> Observed {
        let mut edge = Observed::new(Incarnation(1));
        results.iter().for_each(|failed| edge.record(*failed, &Timing::lan()));
        edge
    }

    #[test]
    fn six_failures_in_ten_are_down_and_seven_answers_are_up() {
        assert!(!fed(&[true; 5]).is_down());
        assert!(fed(&[true; 6]).is_down());
        assert!(!fed(&[true, true, true, false, false, false, false, false, true, true]).is_down());
        let mut edge = fed(&[true; 10]);
        for answered in 1..=7 {
            assert!(edge.is_down(), "after {answered} answers");
            edge.record(false, &Timing::lan());
        }
        assert!(!edge.is_down());
    }

    #[test]
    fn old_results_fall_out_of_the_window() {
        let mut edge = fed(&[true; 5]);
        (0..10).for_each(|_| edge.record(false, &Timing::lan()));
        (0..5).for_each(|_| edge.record(true, &Timing::lan()));
        assert!(!edge.is_down());
    }

    #[test]
    fn a_refusal_is_forgotten_when_the_host_falls_silent() {
        let mut edge = fed(&[true; 6]);
        assert_eq!(edge.state(), Some(EdgeState::Down));
        edge.host_refused();
        assert_eq!(edge.state(), Some(EdgeState::Refused));
        (0..SILENT_AFTER_ASKS).for_each(|_| edge.host_asked());
        assert_eq!(edge.state(), Some(EdgeState::Down));
    }
}
