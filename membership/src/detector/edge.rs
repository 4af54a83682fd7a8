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

/// How many failures bring the edge of a stand-in down. Its word is only one more against ten silent
/// observers, so it may be quick; and it must, for a partition is recognised one layer of witnesses at a
/// time.
const STAND_IN_DOWN_AT: u32 = 3;

/// An edge that comes and goes is up again only after up to 2^5 windows of answers.
const MAX_PROBATION_DOUBLINGS: u32 = 5;
/// After so many good results in a row earlier returns are forgotten.
const FORGIVEN_AFTER: u32 = 1_000;

/// A member that this node probes.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    pub(super) incarnation: Incarnation,
    is_stand_in: bool,
    /// The latest results, newest in the lowest bit, 1 for a failure.
    results: u32,
    known: u32,
    down: bool,
    /// Results in a row for which the window was good enough to be up.
    good_for: u32,
    /// How often the edge came up again lately.
    returns: u32,
    voids: u32,
    /// Questions to the host since it last refused; `None` if it never did.
    asks_since_refusal: Option<u32>,
}

impl Observed {
    pub(super) fn new(incarnation: Incarnation, is_stand_in: bool) -> Self {
        Self {
            incarnation,
            is_stand_in,
            results: 0,
            known: 0,
            down: false,
            good_for: 0,
            returns: 0,
            voids: 0,
            asks_since_refusal: None,
        }
    }

    pub(super) fn record(&mut self, failed: bool, timing: &Timing) {
        // 32 results fit; a profile with a longer window gets 31.
        let window = timing.window.clamp(1, 31);
        self.results = (self.results << 1 | u32::from(failed)) & ((1 << window) - 1);
        self.known = (self.known + 1).min(window);
        self.voids = 0;
        let failures = self.results.count_ones();
        let down_at = match self.is_stand_in {
            true => STAND_IN_DOWN_AT.min(timing.edge_down_at),
            false => timing.edge_down_at,
        };
        self.good_for =
            if failures <= timing.edge_up_at { self.good_for.saturating_add(1) } else { 0 };
        if failures >= down_at {
            self.down = true;
        } else if self.down && self.good_for >= self.probation(timing) {
            self.down = false;
            self.returns += 1;
            self.asks_since_refusal = None;
        } else if !self.down && self.good_for >= FORGIVEN_AFTER {
            self.returns = 0;
        }
    }

    /// How many results in a row the window must be good for before the edge is up: at first one, then
    /// more from return to return. All nodes see the edge alike, so the damping is here and not in the
    /// verdict, where two nodes could come to differ.
    fn probation(&self, timing: &Timing) -> u32 {
        match self.returns {
            0 => 1,
            n => timing.window << n.min(MAX_PROBATION_DOUBLINGS),
        }
    }

    /// A probe's answer may lie unread because this node was late. True if the probe shall not count.
    pub(super) fn excuse(&mut self) -> bool {
        self.voids += 1;
        self.voids <= MAX_VOIDS_IN_A_ROW
    }

    /// The member says that it is well, or was started again: what it did before is not held against it,
    /// except that it comes and goes.
    pub(super) fn renew(&mut self, incarnation: Incarnation) {
        *self = Self { returns: self.returns, ..Self::new(incarnation, self.is_stand_in) };
    }

    /// The rings say now whether this node is its observer or stands in for one.
    pub(super) fn stand_in(&mut self, is_stand_in: bool) {
        self.is_stand_in = is_stand_in;
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
        let mut edge = Observed::new(Incarnation(1), false);
        results.iter().for_each(|failed| edge.record(*failed, &Timing::lan()));
        edge
    }

    #[test]
    fn six_failures_in_ten_are_down_and_nine_answers_are_up() {
        assert!(!fed(&[true; 5]).is_down());
        assert!(fed(&[true; 6]).is_down());
        assert!(!fed(&[true, true, true, false, false, false, false, false, true, true]).is_down());
        let mut edge = fed(&[true; 10]);
        for answered in 1..=9 {
            assert!(edge.is_down(), "after {answered} answers");
            edge.record(false, &Timing::lan());
        }
        assert!(!edge.is_down());
    }

    #[test]
    fn an_edge_that_comes_and_goes_is_on_probation_for_longer_and_longer() {
        let mut edge = fed(&[]);
        let mut waits = Vec::new();
        for _ in 0..8 {
            (0..10).for_each(|_| edge.record(true, &Timing::lan()));
            assert!(edge.is_down());
            let mut wait = 0;
            while edge.is_down() {
                edge.record(false, &Timing::lan());
                wait += 1;
            }
            waits.push(wait);
        }
        assert_eq!(waits, [9, 28, 48, 88, 168, 328, 328, 328]);
        (0..FORGIVEN_AFTER).for_each(|_| edge.record(false, &Timing::lan()));
        (0..6).for_each(|_| edge.record(true, &Timing::lan()));
        (0..9).for_each(|_| edge.record(false, &Timing::lan()));
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
