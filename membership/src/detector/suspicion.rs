//! A node doubts itself before it accuses others (Lifeguard: Dadgar, Phillips, Currey, 2017).
//!
//! Two reasons for doubt: most of what it probes does not answer, or its own loop stood still. Either
//! makes it hold accusations and takeovers back, for a bounded time: the last survivor of three must
//! go on alone, and a host that is always a little late must not be mute for ever.

use super::Timing;
use crate::time::{Instant, Millis};

/// After a hold for lateness, lateness shorter than the hold itself starts no other one for this many times
/// its length.
const REST_FACTOR: u64 = 3;

#[derive(Clone, Debug, Default)]
pub(super) struct Suspicion {
    /// Since when most probes fail, short recoveries included.
    lonely_since: Option<Instant>,
    /// Since when they do not any more. `None` while they do.
    answered_since: Option<Instant>,
    late_until: Option<Instant>,
}

impl Suspicion {
    /// How many of the members that should answer fail to, at the moment.
    pub(super) fn observe(&mut self, failing: usize, others: usize, now: Instant, timing: &Timing) {
        if 2 * failing > others {
            self.lonely_since.get_or_insert(now);
            self.answered_since = None;
        } else {
            let since = *self.answered_since.get_or_insert(now);
            // Those that were given up do not count any more, which looks like a recovery until the next
            // are given up: one doubt must not be followed by another for the same cause.
            if now >= since + timing.self_suspect_hold {
                self.lonely_since = None;
            }
        }
    }

    /// Most of those that should answer fail to.
    pub(super) fn is_lonely(&self) -> bool {
        self.lonely_since.is_some() && self.answered_since.is_none()
    }

    /// The loop stood still for `late`.
    pub(super) fn froze(&mut self, late: Millis, now: Instant, timing: &Timing) {
        let hold = timing.self_suspect_hold;
        let rested = self.late_until.is_none_or(|end| now >= end + hold * REST_FACTOR);
        if rested || late >= hold {
            self.late_until = Some(now + hold);
        }
    }

    pub(super) fn holds_back(&self, now: Instant, timing: &Timing) -> bool {
        let lonely = self.lonely_since.is_some_and(|since| now < since + timing.self_suspect_hold);
        lonely || self.late_until.is_some_and(|end| now < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loneliness_is_held_back_once_and_not_for_ever() {
        let (mut doubt, timing) = (Suspicion::default(), Timing::lan());
        doubt.observe(1, 2, Instant(0), &timing);
        assert!(!doubt.holds_back(Instant(0), &timing), "one of two is not most");
        doubt.observe(2, 2, Instant(1_000), &timing);
        assert!(doubt.holds_back(Instant(3_999), &timing));
        doubt.observe(2, 2, Instant(3_999), &timing);
        assert!(!doubt.holds_back(Instant(4_000), &timing));
        // Two are given up, the third fails a little later: the same cause.
        doubt.observe(0, 1, Instant(4_100), &timing);
        doubt.observe(1, 1, Instant(5_000), &timing);
        assert!(!doubt.holds_back(Instant(5_000), &timing));
        // Long after it is another.
        doubt.observe(0, 1, Instant(6_000), &timing);
        doubt.observe(0, 1, Instant(9_000), &timing);
        doubt.observe(1, 1, Instant(9_500), &timing);
        assert!(doubt.holds_back(Instant(9_500), &timing));
    }

    #[test]
    fn a_host_that_is_always_late_may_act_most_of_the_time() {
        let (mut doubt, timing) = (Suspicion::default(), Timing::lan());
        let held = (0..60_000)
            .step_by(1_000)
            .filter(|now| {
                doubt.froze(timing.freeze, Instant(*now), &timing);
                doubt.holds_back(Instant(*now), &timing)
            })
            .count();
        assert!((10..=20).contains(&held), "{held} of 60");
    }
}
