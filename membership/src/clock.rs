//! The hybrid logical clock that stamps records.
//!
//! A stamp is a wall-clock millisecond with a counter behind it, and is always greater than every
//! stamp its maker has seen: an edit made after reading another one sorts after it, whatever the two
//! hosts' clocks say (Kulkarni et al., "Logical Physical Clocks", 2014). A stamp far ahead of the
//! local clock is refused: otherwise one host with a bad clock would win every edit for years.

use serde::{Deserialize, Serialize};

use crate::time::{Millis, Wall};

/// How far ahead of the local clock a stamp may be before it is refused.
pub const MAX_AHEAD: Millis = Millis(30_000);

const COUNTER_BITS: u32 = 12;
/// 2024-01-01T00:00:00Z. Indexes count from here, so that they stay below 2^53 until the year 2093.
const INDEX_ORIGIN_MS: u64 = 1_704_067_200_000;

/// When a record was written: wall-clock milliseconds, then a counter below 4096.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Stamp {
    pub ms: u64,
    pub counter: u16,
}

impl Stamp {
    /// The stamp as one number that rises with the stamp and fits in 53 bits, for Docker's
    /// `Version.Index` and for epochs. Clients read it as a JSON number.
    pub fn index(self) -> u64 {
        (self.ms.saturating_sub(INDEX_ORIGIN_MS) << COUNTER_BITS)
            | u64::from(self.counter & ((1 << COUNTER_BITS) - 1))
    }

    fn next(self) -> Self {
        if u32::from(self.counter) + 1 < (1 << COUNTER_BITS) {
            Self { ms: self.ms, counter: self.counter + 1 }
        } else {
            Self { ms: self.ms + 1, counter: 0 }
        }
    }
}

/// A stamp that was refused because it lies too far ahead of the local clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its stamp is {ahead} ahead of this host's clock (more than {MAX_AHEAD}): one of the two clocks is wrong; nothing was changed"
)]
pub struct TooFarAhead {
    pub ahead: Millis,
}

/// The clock of one node.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    last: Stamp,
    /// The last stamp of those that go by the wall clock alone, because `last` lies too far ahead of it.
    sane: Stamp,
}

impl Clock {
    /// A clock that goes on above `last`, the greatest stamp found on disk, with the exception that
    /// [`tick`](Self::tick) makes for stamps from the future.
    pub fn starting_after(last: Stamp) -> Self {
        Self { last, sane: Stamp::default() }
    }

    /// A new stamp, greater than all that this clock has made or seen, but for those that lie more than
    /// [`MAX_AHEAD`] in front of `wall`: they were made or taken while the wall clock was wrong, nobody takes
    /// one like them, and a host that went by them could change nothing until their time has come.
    pub fn tick(&mut self, wall: Wall) -> Stamp {
        let physical = Stamp { ms: wall.0, counter: 0 };
        let after = |last: Stamp| if physical > last { physical } else { last.next() };
        let next = after(self.last);
        if Millis(next.ms.saturating_sub(wall.0)) > MAX_AHEAD {
            self.sane = after(self.sane);
            return self.sane;
        }
        self.last = next;
        next
    }

    /// A new stamp that sorts after this one as well: what is written over something must, however far ahead
    /// of a wall clock that jumped back that lies.
    pub fn tick_after(&mut self, present: Stamp, wall: Wall) -> Stamp {
        let stamp = self.tick(wall);
        if stamp > present { stamp } else { present.next() }
    }

    /// A number that is greater than all that this clock has made or seen, however far ahead: for epochs, which
    /// only rise.
    pub fn rise(&mut self, wall: Wall) -> u64 {
        let physical = Stamp { ms: wall.0, counter: 0 };
        self.last = if physical > self.last { physical } else { self.last.next() };
        self.last.index()
    }

    /// Takes note of a stamp from elsewhere.
    ///
    /// # Errors
    /// [`TooFarAhead`] when the stamp is more than [`MAX_AHEAD`] in front of `wall`; the clock is then
    /// unchanged.
    pub fn observe(&mut self, stamp: Stamp, wall: Wall) -> Result<(), TooFarAhead> {
        let ahead = Millis(stamp.ms.saturating_sub(wall.0));
        if ahead > MAX_AHEAD {
            return Err(TooFarAhead { ahead });
        }
        self.last = self.last.max(stamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn stamps_and_indexes_only_rise(walls in proptest::collection::vec(1_704_067_200_000u64..1_704_067_210_000, 1..200)) {
            let mut clock = Clock::default();
            let mut before = Stamp::default();
            for wall in walls {
                let stamp = clock.tick(Wall(wall));
                prop_assert!(stamp > before);
                prop_assert!(stamp.index() > before.index());
                prop_assert!(stamp.index() < 1 << 53);
                before = stamp;
            }
        }
    }

    #[test]
    fn a_stamp_too_far_ahead_is_refused_and_changes_nothing() {
        let mut clock = Clock::default();
        let bad = Stamp { ms: 2_000_000_000_000, counter: 0 };
        assert!(clock.observe(bad, Wall(1_900_000_000_000)).is_err());
        assert!(clock.tick(Wall(1_900_000_000_000)) < bad);
    }

    #[test]
    fn what_lies_too_far_ahead_is_written_over_and_not_gone_by() {
        let (wall, hour) = (1_900_000_000_000, 3_600_000);
        let future = Stamp { ms: wall + hour, counter: 0 };
        let mut clock = Clock::starting_after(future);
        let mut before = Stamp::default();
        for step in [0, 0, 5, 5, 4, 20_000] {
            let stamp = clock.tick(Wall(wall + step));
            assert!(before < stamp && stamp < Stamp { ms: wall + 30_000, counter: 0 }, "{stamp:?}");
            before = stamp;
        }
        assert!(clock.tick_after(future, Wall(wall)) > future);
        assert!(clock.rise(Wall(wall)) > future.index());
        // Near enough it counts again.
        let near = clock.tick(Wall(wall + hour - 10_000));
        assert!(near > future && near > before);
    }

    #[test]
    fn a_full_counter_borrows_a_millisecond() {
        let mut clock = Clock::starting_after(Stamp { ms: 5, counter: 4095 });
        assert_eq!(clock.tick(Wall(5)), Stamp { ms: 6, counter: 0 });
    }
}
