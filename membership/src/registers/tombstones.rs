//! When a tombstone may be forgotten.
//!
//! Too early, and a node that missed it brings the removed thing back. So a tombstone goes only when it
//! is old *and* every member said, after it had grown old, that it holds the same records as this node
//! (Garage does alike, and calls the age alone a weakness: doc/book/design/internals.md).
//!
//! Nodes forget at different times, which must not make their roots differ: a tombstone leaves the
//! root when it is old, by everybody's clock in the same hour. That is safe because a node that
//! missed it still counts the removed record, so the roots differ exactly as long as it matters.

use super::Registers;
use crate::record::{Digest, Key, Record};
use crate::time::{Millis, Wall};

/// How old a tombstone must be before it is forgotten.
pub const TOMBSTONE_AGE: Millis = Millis::from_secs(24 * 60 * 60);

/// Tombstones leave the root at full hours, so that clocks a second apart disagree about one for a
/// second in an hour at most.
const STEP_MS: u64 = 60 * 60 * 1000;

impl Registers {
    pub(super) fn is_expired(&self, record: &Record) -> bool {
        record.is_tombstone() && record.stamp.ms < self.horizon.0
    }

    /// Stops counting tombstones older than [`TOMBSTONE_AGE`] in the root, and counts them again where the
    /// clock was set back by more than an hour: what one wrong clock calls old is young to all others. To be
    /// called every minute or so; cheap except once an hour.
    pub fn expire(&mut self, wall: Wall) {
        let horizon = Wall(wall.0.saturating_sub(TOMBSTONE_AGE.0) / STEP_MS * STEP_MS);
        let jitter = horizon < self.horizon && self.horizon.0 - horizon.0 <= STEP_MS;
        if horizon == self.horizon || jitter {
            return;
        }
        self.horizon = horizon;
        let tombstones: Vec<(Key, Digest)> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.record.is_tombstone())
            .map(|(key, entry)| (*key, entry.digest))
            .collect();
        for (key, digest) in tombstones {
            let old = self.get(&key).is_some_and(|record| self.is_expired(record));
            self.buckets.set(key, (!old).then_some(digest));
            if old {
                self.old.insert(key);
            } else {
                self.old.remove(&key);
            }
        }
    }

    /// How many tombstones wait to be forgotten.
    pub fn waiting_to_be_forgotten(&self) -> usize {
        self.old.len()
    }

    /// Forgets the tombstones that are older than [`TOMBSTONE_AGE`] and that every member is known to
    /// have, and returns them, for the caller to delete from disk.
    ///
    /// `heard` has one entry for each other member that has not left, down ones included: the root it
    /// last published, and when that was last known to be true (now, for a member that is alive; the time
    /// it went down, for one that is down, which therefore keeps every younger tombstone in place).
    pub fn collect_garbage(
        &mut self,
        wall: Wall,
        heard: impl IntoIterator<Item = (Digest, Wall)>,
    ) -> Vec<Record> {
        self.expire(wall);
        let mut agreed_at = wall;
        for (root, at) in heard {
            if root != self.root() {
                return Vec::new();
            }
            agreed_at = agreed_at.min(at);
        }
        let forgotten: Vec<Key> = self
            .old
            .iter()
            .filter(|key| {
                self.get(key).is_some_and(|r| agreed_at.since(Wall(r.stamp.ms)) > TOMBSTONE_AGE)
            })
            .copied()
            .collect();
        let mut gone = Vec::with_capacity(forgotten.len());
        for key in forgotten {
            self.old.remove(&key);
            self.buckets.remove(&key);
            gone.extend(self.entries.remove(&key).map(|entry| entry.record));
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::id::{CellId, NodeId};
    use crate::record::Kind;

    const DAY: u64 = TOMBSTONE_AGE.0;
    const START: Wall = Wall(1_800_000_000_000);
    const KEY: Key = Key { kind: Kind::Service, id: 7 };

    /// Registers in which something was written and removed at `START`.
    fn removed() -> (Registers, Record) {
        let (mut registers, mut clock) = (Registers::new(CellId(0)), Clock::default());
        let mut write = |registers: &mut Registers, body| {
            let draft = registers.draft(KEY, body, NodeId(1), &mut clock, START);
            let record = draft.unwrap().unwrap();
            registers.merge(record.clone());
            record
        };
        let written = write(&mut registers, Some(vec![1]));
        write(&mut registers, None);
        (registers, written)
    }

    fn keys(records: Vec<Record>) -> Vec<Key> {
        records.into_iter().map(|record| record.key).collect()
    }

    fn later(ms: u64) -> Wall {
        Wall(START.0 + ms)
    }

    #[test]
    fn an_old_tombstone_goes_when_all_have_said_so() {
        let (mut registers, _) = removed();
        let now = later(DAY + STEP_MS);
        assert!(registers.collect_garbage(later(DAY - 1), []).is_empty());
        // A member that was last heard before the tombstone was old may have missed it.
        let early = (Digest(0), later(DAY - 1));
        assert!(registers.collect_garbage(now, [(Digest(0), now), early]).is_empty());
        // So may one whose root differs.
        assert!(registers.collect_garbage(now, [(Digest(9), now)]).is_empty());
        assert_eq!(keys(registers.collect_garbage(now, [(Digest(0), now)])), [KEY]);
        assert!(registers.is_empty());
    }

    #[test]
    fn forgetting_does_not_change_the_root() {
        let (mut one, _) = removed();
        let mut other = one.clone();
        let now = later(DAY + STEP_MS);
        one.expire(now);
        assert_eq!(keys(other.collect_garbage(now, [])), [KEY]);
        assert_eq!(one.root(), other.root());
        assert_ne!(one.len(), other.len());
    }

    #[test]
    fn a_clock_that_was_days_ahead_for_a_while_makes_nothing_old() {
        let (mut registers, _) = removed();
        let root = registers.root();
        registers.expire(later(3 * DAY));
        assert_eq!((registers.root(), registers.waiting_to_be_forgotten()), (Digest(0), 1));
        registers.expire(later(5_000));
        assert_eq!((registers.root(), registers.waiting_to_be_forgotten()), (root, 0));
        // Seconds to and fro at the full hour are no such thing.
        let hour = later(DAY + STEP_MS - START.0 % STEP_MS);
        registers.expire(hour);
        assert_eq!(registers.root(), Digest(0));
        registers.expire(Wall(hour.0 - 1_000));
        assert_eq!(registers.root(), Digest(0));
    }

    #[test]
    fn what_is_written_again_over_an_old_tombstone_counts_again() {
        let (mut registers, _) = removed();
        let now = later(DAY + STEP_MS);
        registers.expire(now);
        let mut clock = Clock::default();
        let again = registers.draft(KEY, Some(vec![2]), NodeId(1), &mut clock, now);
        registers.merge(again.unwrap().unwrap());
        assert_ne!(registers.root(), Digest(0));
        assert!(registers.collect_garbage(now, []).is_empty());
    }

    #[test]
    fn a_removed_record_that_comes_back_late_meets_the_old_tombstone() {
        let (mut registers, written) = removed();
        registers.expire(later(DAY + STEP_MS));
        assert!(!registers.merge(written).changed);
        assert!(registers.get(&KEY).is_some_and(Record::is_tombstone));
    }
}
