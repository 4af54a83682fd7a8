//! What a record must satisfy before it may be merged, whoever wrote it.

use crate::clock::{MAX_AHEAD, Stamp, TooFarAhead};
use crate::id::NodeId;
use crate::record::{Kind, MAX_ANCESTORS, MAX_BODY_BYTES, Record};
use crate::time::{Millis, Wall};

use super::conflict;

/// How much larger than other bodies that of a conflict may be: it is a whole record.
const CONFLICT_EXTRA_BYTES: usize = 4 * 1024;
/// Counters of stamps stay below this, see [`Stamp::index`].
const COUNTER_LIMIT: u16 = 1 << 12;

/// Why a record was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("a record written by node {writer} was refused: {reason}")]
    TooFarAhead { writer: NodeId, reason: TooFarAhead },
    #[error(
        "a record written by node {writer} was refused: its body has {bytes} bytes and {limit} are allowed; nothing was changed"
    )]
    BodyTooLarge { writer: NodeId, bytes: usize, limit: usize },
    #[error(
        "a record written by node {writer} was refused: it names {count} ancestors and {MAX_ANCESTORS} are allowed; nothing was changed"
    )]
    TooManyAncestors { writer: NodeId, count: usize },
    #[error(
        "a record written by node {writer} was refused: the counter {} of its stamp is not below {COUNTER_LIMIT}; nothing was changed",
        stamp.counter
    )]
    BadStamp { writer: NodeId, stamp: Stamp },
    #[error(
        "a record written by node {writer} was refused: it is filed as a conflict but does not hold the edit it is named after; nothing was changed"
    )]
    NotAConflict { writer: NodeId },
}

impl Record {
    /// Whether a record from a peer, or one's own draft, may be merged.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn check(&self, wall: Wall) -> Result<(), Refusal> {
        let writer = self.writer;
        let ahead = Millis(self.stamp.ms.saturating_sub(wall.0));
        if ahead > MAX_AHEAD {
            return Err(Refusal::TooFarAhead { writer, reason: TooFarAhead { ahead } });
        }
        if self.stamp.counter >= COUNTER_LIMIT {
            return Err(Refusal::BadStamp { writer, stamp: self.stamp });
        }
        if self.ancestors.len() > MAX_ANCESTORS {
            return Err(Refusal::TooManyAncestors { writer, count: self.ancestors.len() });
        }
        let Some(body) = &self.body else { return Ok(()) };
        let limit = match self.key.kind {
            Kind::Conflict => MAX_BODY_BYTES + CONFLICT_EXTRA_BYTES,
            _ => MAX_BODY_BYTES,
        };
        if body.len() > limit {
            return Err(Refusal::BodyTooLarge { writer, bytes: body.len(), limit });
        }
        if self.key.kind == Kind::Conflict {
            let loser = conflict::loser_of(self).ok_or(Refusal::NotAConflict { writer })?;
            // One level deep: a conflict about a conflict is none.
            loser.check(wall)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::id::CellId;
    use crate::record::{Digest, Key};
    use crate::registers::Registers;
    use crate::wire;

    const WALL: Wall = Wall(1_800_000_000_000);
    const KEY: Key = Key { kind: Kind::Service, id: 7 };

    fn record(key: Key, body: Vec<u8>) -> Record {
        Record {
            cell: CellId(0),
            key,
            stamp: Stamp { ms: WALL.0, counter: 0 },
            writer: NodeId(1),
            ancestors: Vec::new(),
            body: Some(body),
        }
    }

    #[test]
    fn each_rule_is_named() {
        assert_eq!(record(KEY, vec![1]).check(WALL), Ok(()));

        let mut ahead = record(KEY, vec![]);
        ahead.stamp.ms += 30_001;
        assert!(matches!(ahead.check(WALL), Err(Refusal::TooFarAhead { .. })));

        let mut counter = record(KEY, vec![]);
        counter.stamp.counter = 4096;
        assert!(matches!(counter.check(WALL), Err(Refusal::BadStamp { .. })));

        let mut ancestors = record(KEY, vec![]);
        ancestors.ancestors = vec![Digest(1); MAX_ANCESTORS + 1];
        assert!(matches!(ancestors.check(WALL), Err(Refusal::TooManyAncestors { count: 33, .. })));

        let large = record(KEY, vec![0; MAX_BODY_BYTES + 1]);
        assert!(matches!(large.check(WALL), Err(Refusal::BodyTooLarge { .. })));
    }

    #[test]
    fn a_conflict_must_be_what_its_name_says() {
        let id = Key { kind: Kind::Conflict, id: 3 };
        let refused = Err(Refusal::NotAConflict { writer: NodeId(1) });
        assert_eq!(record(id, b"not a record".to_vec()).check(WALL), refused);
        let other = wire::encode(&record(KEY, vec![1])).unwrap();
        assert_eq!(record(id, other).check(WALL), refused);
        // A tombstone dismisses a conflict and holds nothing.
        let mut dismissal = record(id, vec![]);
        dismissal.body = None;
        assert_eq!(dismissal.check(WALL), Ok(()));
    }

    #[test]
    fn the_largest_record_and_the_conflict_about_it_can_be_sent() {
        let mut registers = Registers::new(CellId(u16::MAX));
        let key = Key { kind: Kind::Config, id: u128::MAX };
        let mut edits = [1, 2].map(|byte| record(key, vec![byte; MAX_BODY_BYTES]));
        for (edit, writer) in edits.iter_mut().zip([u128::MAX - 1, u128::MAX]) {
            edit.ancestors = vec![Digest(u128::MAX); MAX_ANCESTORS];
            edit.writer = NodeId(writer);
            edit.stamp.counter = COUNTER_LIMIT - 1;
        }
        registers.merge(edits[0].clone());
        let conflict = registers.merge(edits[1].clone()).conflict.unwrap();
        for sent in [&edits[0], &conflict] {
            assert_eq!(sent.check(WALL), Ok(()));
            assert!(wire::encode(sent).is_ok());
        }
    }

    #[test]
    fn a_draft_over_what_lies_far_ahead_is_refused_and_one_beside_it_is_not() {
        let future = Stamp { ms: WALL.0 + 60_000, counter: 0 };
        let mut registers = Registers::new(CellId(0));
        registers.merge(Record { stamp: future, ..record(KEY, vec![0]) });
        let mut clock = Clock::starting_after(future);
        let mut draft = |key| registers.draft(key, Some(vec![1]), NodeId(1), &mut clock, WALL);
        assert!(matches!(draft(KEY), Err(Refusal::TooFarAhead { .. })));
        let beside = draft(Key { id: KEY.id + 1, ..KEY });
        assert!(beside.is_ok_and(|record| record.is_some_and(|r| r.stamp < future)));
    }
}
