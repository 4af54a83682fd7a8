//! Another process that bears this node's key: a copied disk, or a life of this node that it has forgotten.
//!
//! What the other one said under a higher incarnation stands, so this node draws one above it and says everything
//! anew. Where the other one lives it does the same, and the two would take turns as fast as news travels, each turn
//! told to everybody. So the first draw comes at once, for mostly nobody answers it, and each further one only after
//! a pause that doubles up to a minute, with a part of it left to chance so that the two do not draw together.

use membership::id::Incarnation;
use membership::time::{Instant, Millis};

/// The pause after the second draw.
const FIRST_PAUSE: Millis = Millis(1_000);
const LONGEST_PAUSE: Millis = Millis(60_000);
/// When none was needed for this long, the next one is drawn at once again.
const QUIET: Millis = Millis(180_000);

/// What is heard of another process with this node's key.
#[derive(Debug, Default)]
pub(crate) struct Double {
    /// The highest incarnation that it spoke under and that is not outdone yet, and when it is to be.
    due: Option<(Incarnation, Instant)>,
    /// When this node last outdid it, and the pause after that.
    last: Option<(Instant, Millis)>,
}

impl Double {
    /// It spoke under this incarnation. `chance` is any number, drawn for this.
    pub(crate) fn heard(&mut self, incarnation: Incarnation, chance: u64, at: Instant) {
        if let Some((highest, _)) = &mut self.due {
            *highest = (*highest).max(incarnation);
            return;
        }
        let after = match &mut self.last {
            Some((last, pause)) if at.since(*last) < QUIET => {
                *pause = Millis((pause.0 * 2).clamp(FIRST_PAUSE.0, LONGEST_PAUSE.0));
                let half = pause.0 / 2;
                at.max(*last + Millis(half + chance % (half + 1)))
            }
            _ => {
                self.last = None;
                at
            }
        };
        self.due = Some((incarnation, after));
    }

    /// The incarnation to outdo, once it is time.
    pub(crate) fn take_due(&mut self, at: Instant) -> Option<Incarnation> {
        let (incarnation, _) = self.due.take_if(|(_, due)| *due <= at)?;
        let pause = self.last.map_or(Millis::ZERO, |(_, pause)| pause);
        self.last = Some((at, pause));
        Some(incarnation)
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.due.map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_word_from_an_earlier_life_is_outdone_at_once_and_by_the_highest() {
        let mut double = Double::default();
        assert_eq!(double.take_due(Instant(5)), None);
        double.heard(Incarnation(7), 3, Instant(10));
        double.heard(Incarnation(9), 3, Instant(10));
        double.heard(Incarnation(8), 3, Instant(10));
        assert_eq!(double.next_wake(), Some(Instant(10)));
        assert_eq!(double.take_due(Instant(10)), Some(Incarnation(9)));
        assert_eq!((double.take_due(Instant(99)), double.next_wake()), (None, None));
    }

    proptest! {
        #[test]
        fn one_that_answers_every_time_costs_a_draw_in_half_a_minute(chances: [u64; 60]) {
            let mut double = Double::default();
            let mut draws = Vec::new();
            let mut at = Instant(1_000);
            for (n, chance) in (1u64..).zip(chances) {
                double.heard(Incarnation(n), chance, at);
                at = at.max(double.next_wake().unwrap());
                assert_eq!(double.take_due(at), Some(Incarnation(n)));
                draws.push(at.0);
                at += Millis(5);
            }
            let pauses: Vec<u64> = draws.windows(2).map(|pair| pair[1] - pair[0]).collect();
            prop_assert!(pauses[..3].iter().all(|pause| *pause <= 4_000), "{pauses:?}");
            prop_assert!(pauses[7..].iter().all(|p| (30_000..=60_000).contains(p)), "{pauses:?}");
            // After minutes without one the next is drawn at once.
            let later = at + QUIET;
            double.heard(Incarnation(99), 1, later);
            prop_assert_eq!(double.next_wake(), Some(later));
        }
    }
}
