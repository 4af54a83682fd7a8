//! All records of one node, and the one rule by which they merge.
//!
//! Of two records for a key the greater (stamp, writer) stands, whatever the order of arrival. A loser
//! that the winner was not written over was a concurrent edit: it is kept as a record of
//! [`Kind::Conflict`], built from the loser alone and therefore the same on every node, until somebody
//! dismisses it by writing a tombstone over it.
//!
//! This type is the memory image; before it merges records the caller puts their [`Registers::outcome`] on
//! disk, and sends on what [`Registers::merge`] then reports as changed and every conflict it hands back.

mod buckets;
mod check;
mod conflict;
mod tombstones;

use std::collections::{BTreeMap, BTreeSet};

pub use buckets::BUCKETS;
use buckets::Buckets;
pub use check::Refusal;
pub use conflict::Conflict;
pub use tombstones::TOMBSTONE_AGE;

use crate::clock::{Clock, Stamp};
use crate::id::{CellId, NodeId};
use crate::record::{Digest, Key, Kind, MAX_ANCESTORS, Record};
use crate::time::Wall;

/// What a merge did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// The record stands now and did not before: pass it on.
    pub changed: bool,
    /// A concurrent edit lost and is kept: pass this record on too. Already merged.
    pub conflict: Option<Record>,
}

#[derive(Clone, Debug)]
struct Entry {
    record: Record,
    digest: Digest,
}

impl Entry {
    fn new(record: Record) -> Self {
        let digest = record.digest();
        Self { record, digest }
    }

    /// [`Record::order`], made total: a writer that used a stamp twice (a restored disk) must not make
    /// two nodes keep different records for ever.
    fn order(&self) -> (Stamp, NodeId, Digest) {
        (self.record.stamp, self.record.writer, self.digest)
    }
}

/// The records of one node by key.
#[derive(Clone, Debug)]
pub struct Registers {
    cell: CellId,
    entries: BTreeMap<Key, Entry>,
    buckets: Buckets,
    /// Tombstones stamped before this are not counted in the root.
    horizon: Wall,
    /// Where such tombstones stand.
    old: BTreeSet<Key>,
}

impl Registers {
    pub fn new(cell: CellId) -> Self {
        Self {
            cell,
            entries: BTreeMap::new(),
            buckets: Buckets::default(),
            horizon: Wall(0),
            old: BTreeSet::new(),
        }
    }

    /// The registers as they were on disk. Conflicts between them were found when they were merged the
    /// first time. Follow it with [`Self::expire`].
    pub fn load(cell: CellId, records: impl IntoIterator<Item = Record>) -> Self {
        let mut registers = Self::new(cell);
        for record in records {
            registers.merge(record);
        }
        registers
    }

    /// The greatest stamp held: what [`Clock::starting_after`] wants after a restart.
    pub fn last_stamp(&self) -> Stamp {
        self.iter().map(|record| record.stamp).max().unwrap_or_default()
    }

    /// The record that stands under `key`, a tombstone too.
    pub fn get(&self, key: &Key) -> Option<&Record> {
        self.entries.get(key).map(|entry| &entry.record)
    }

    /// The digest of what stands under `key`: what a draft over it would name as its parent.
    pub fn digest(&self, key: &Key) -> Option<Digest> {
        self.entries.get(key).map(|entry| entry.digest)
    }

    /// What stands and is not a tombstone, of one kind, in order of id.
    pub fn live(&self, kind: Kind) -> impl Iterator<Item = (u128, &Record)> {
        self.entries
            .range(Key { kind, id: 0 }..=Key { kind, id: u128::MAX })
            .map(|(key, entry)| (key.id, &entry.record))
            .filter(|(_, record)| !record.is_tombstone())
    }

    /// As [`Self::live`], of the ids within a range.
    pub fn live_within(
        &self,
        kind: Kind,
        ids: std::ops::RangeInclusive<u128>,
    ) -> impl Iterator<Item = &Record> {
        let (first, last) = (Key { kind, id: *ids.start() }, Key { kind, id: *ids.end() });
        let entries = self.entries.range(first..=last).map(|(_, entry)| &entry.record);
        entries.filter(|record| !record.is_tombstone())
    }

    /// Everything, tombstones too, in order of key.
    pub fn iter(&self) -> impl Iterator<Item = &Record> {
        self.entries.values().map(|entry| &entry.record)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True if merging `record` would do anything at all, be it to make a conflict.
    pub fn would_change(&self, record: &Record) -> bool {
        let (stands, conflict) = judge(|key| self.entries.get(key), &Entry::new(record.clone()));
        stands || conflict.is_some()
    }

    /// What merging these records one after the other would change: those that would stand afterwards, and the
    /// conflicts of edits that would lose. Put on a disk in one write, it loses nothing: what is written over
    /// there is kept as a conflict by the same write or not written over.
    pub fn outcome<'r>(&self, records: impl IntoIterator<Item = &'r Record>) -> Vec<Record> {
        let mut changed: BTreeMap<Key, Entry> = BTreeMap::new();
        for record in records {
            let new = Entry::new(record.clone());
            let held = |key: &Key| changed.get(key).or_else(|| self.entries.get(key));
            let (stands, conflict) = judge(held, &new);
            changed.extend(stands.then_some((new.record.key, new)));
            changed.extend(conflict.map(|conflict| (conflict.key, Entry::new(conflict))));
        }
        changed.into_values().map(|entry| entry.record).collect()
    }

    /// Takes a record in. The caller has put it through [`Record::check`] and shown its stamp to the
    /// clock. Commutative, associative and idempotent in what stands afterwards.
    pub fn merge(&mut self, record: Record) -> Merge {
        let entry = Entry::new(record);
        let (changed, conflict) = judge(|key| self.entries.get(key), &entry);
        if changed {
            self.put(entry);
        }
        if let Some(conflict) = &conflict {
            self.put(Entry::new(conflict.clone()));
        }
        Merge { changed, conflict }
    }

    fn put(&mut self, entry: Entry) {
        let key = entry.record.key;
        if self.is_expired(&entry.record) {
            self.buckets.set(key, None);
            self.old.insert(key);
        } else {
            self.buckets.set(key, Some(entry.digest));
            self.old.remove(&key);
        }
        self.entries.insert(key, entry);
    }

    /// The record to write over what stands under `key`; `None` when it says that already (a write
    /// that changes nothing is not gossiped). Does not merge it.
    ///
    /// # Errors
    /// When peers would refuse it: the body is too large, or what stands under `key` is stamped so far ahead of
    /// `wall` that what is written over it would be too.
    pub fn draft(
        &self,
        key: Key,
        body: Option<Vec<u8>>,
        writer: NodeId,
        clock: &mut Clock,
        wall: Wall,
    ) -> Result<Option<Record>, Refusal> {
        let current = self.entries.get(&key);
        if current.map_or(body.is_none(), |entry| entry.record.body == body) {
            return Ok(None);
        }
        let mut ancestors = Vec::new();
        if let Some(entry) = current {
            ancestors.push(entry.digest);
            ancestors.extend(entry.record.ancestors.iter().take(MAX_ANCESTORS - 1));
        }
        let present = current.map(|entry| entry.record.stamp).unwrap_or_default();
        let stamp = clock.tick_after(present, wall);
        let record = Record { cell: self.cell, key, stamp, writer, ancestors, body };
        record.check(wall)?;
        Ok(Some(record))
    }

    /// The conflicts that are still open, in order of the key they are about. One whose edit was
    /// built upon by what stands now, or by another that lost as well, is not listed by itself.
    pub fn conflicts(&self) -> Vec<Conflict> {
        conflict::open(self)
    }
}

/// Whether `new` will stand over what is held, and the conflict record to put beside it if there is a new one.
fn judge<'e>(held: impl Fn(&Key) -> Option<&'e Entry>, new: &Entry) -> (bool, Option<Record>) {
    let Some(standing) = held(&new.record.key) else { return (true, None) };
    if standing.digest == new.digest {
        return (false, None);
    }
    let stands = standing.order() < new.order();
    let (winner, loser) = if stands { (new, standing) } else { (standing, new) };
    let conflict = conflict::between(&winner.record, &loser.record, loser.digest)
        // Not a second time, and not after it was dismissed.
        .filter(|c| held(&c.key).is_none_or(|known| known.record.order() < c.order()));
    (stands, conflict)
}
