//! A host's disk: what the store of the daemon would have on it.
//!
//! Writes are transactions, as redb's are: after a crash a write that was under way is there whole or
//! not at all. The options are the ways in which real disks break that: full, lying (a write that was
//! reported done is gone after the power fails) and replaced (empty, or restored from an old copy).

use std::collections::BTreeMap;

use membership::clock::Stamp;
use membership::id::{Incarnation, NodeId};
use membership::record::{Key, Record};
use membership::time::Wall;

use crate::chance::Chance;
use crate::time::Span;

/// How a disk behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskManner {
    /// How long a synced write takes, least and most.
    pub write: (Span, Span),
    /// Every write fails, with the words of a full disk.
    pub full: bool,
    /// Writes of the last moments before a power loss are gone although they were reported done.
    pub lies: bool,
}

impl Default for DiskManner {
    /// A plain solid-state disk: 1 to 40 ms for a sync.
    fn default() -> Self {
        Self { write: (Span::ms(1), Span::ms(40)), full: false, lies: false }
    }
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub struct Content {
    pub records: BTreeMap<Key, Record>,
    /// The last incarnation that was used: the next start takes one more.
    pub incarnation: Incarnation,
}

/// How many old contents a disk remembers, for a restore or a lie.
const HISTORY: usize = 4;

#[derive(Clone, Debug, Default)]
pub struct Disk {
    content: Content,
    /// Contents before the latest writes, newest last.
    before: Vec<Content>,
    manner: DiskManner,
    /// The store finds the file damaged and refuses it: shoal does not start.
    pub damaged: bool,
}

impl Disk {
    pub fn manner(&self) -> DiskManner {
        self.manner
    }

    pub fn set_manner(&mut self, manner: DiskManner) {
        self.manner = manner;
    }

    pub fn content(&self) -> &Content {
        &self.content
    }

    pub fn write_time(&self, chance: &mut Chance) -> Span {
        chance.tailed(self.manner.write.0, self.manner.write.1)
    }

    /// All or nothing, replacing what is there under the same keys.
    ///
    /// # Errors
    /// The words of the operating system when the disk is full; nothing was written.
    pub fn write(&mut self, records: &[Record]) -> Result<(), String> {
        if self.manner.full {
            return Err("No space left on device (os error 28)".to_owned());
        }
        if self.manner.lies {
            if self.before.len() == HISTORY {
                self.before.remove(0);
            }
            self.before.push(self.content.clone());
        }
        for record in records {
            self.content.records.insert(record.key, record.clone());
        }
        Ok(())
    }

    /// Deletes records, each only if it is this very one that is there.
    pub fn forget(&mut self, records: &[Record]) {
        for record in records {
            if self.content.records.get(&record.key) == Some(record) {
                self.content.records.remove(&record.key);
            }
        }
    }

    /// Draws the next incarnation and keeps it. A driver that cannot persist it must not start, so a
    /// full disk still has the reserved page for it here, as the daemon's store has.
    ///
    /// As the daemon's store it draws above the time, so that a copy of a disk, or an old one that is put back,
    /// does not draw numbers again that were used since the copy was made.
    pub fn next_incarnation(&mut self, above: Incarnation, wall: Wall) -> Incarnation {
        let last = self.content.incarnation.max(above).0.max(wall.0);
        self.content.incarnation = Incarnation(last + 1);
        self.content.incarnation
    }

    /// The power failed: a lying disk forgets its latest writes (never the incarnation).
    pub fn power_lost(&mut self) {
        if self.manner.lies
            && let Some(old) = self.before.first().cloned()
        {
            self.content.records = old.records;
        }
        self.before.clear();
    }

    /// The disk was replaced by an empty one. The node's key is lost with it, so the host comes back
    /// as another node; the simulator gives it a new id.
    pub fn wipe(&mut self) {
        *self = Self { manner: self.manner, ..Self::default() };
    }

    /// An old copy takes the place of what is there.
    pub fn restore(&mut self, content: Content) {
        *self = Self { content, ..Self::default() };
    }

    /// What it holds under a key, as an order.
    pub fn holds(&self, key: &Key) -> Option<(Stamp, NodeId)> {
        self.content.records.get(key).map(Record::order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::id::CellId;
    use membership::record::Kind;

    fn record(id: u128, ms: u64) -> Record {
        Record {
            cell: CellId(0),
            key: Key { kind: Kind::Service, id },
            stamp: Stamp { ms, counter: 0 },
            writer: NodeId(1),
            ancestors: Vec::new(),
            body: Some(vec![1]),
        }
    }

    #[test]
    fn a_full_disk_takes_nothing_and_a_crash_keeps_what_was_written() {
        let mut disk = Disk::default();
        disk.write(&[record(1, 5)]).unwrap();
        disk.set_manner(DiskManner { full: true, ..DiskManner::default() });
        assert!(disk.write(&[record(2, 5)]).is_err());
        disk.power_lost();
        assert!(disk.holds(&record(1, 5).key).is_some() && disk.holds(&record(2, 5).key).is_none());
    }

    #[test]
    fn a_lying_disk_loses_the_latest_writes_but_never_the_incarnation() {
        let mut disk = Disk::default();
        disk.write(&[record(1, 5)]).unwrap();
        disk.set_manner(DiskManner { lies: true, ..DiskManner::default() });
        disk.write(&[record(2, 5)]).unwrap();
        let incarnation = disk.next_incarnation(Incarnation(0), Wall(5));
        disk.power_lost();
        assert!(disk.holds(&record(1, 5).key).is_some() && disk.holds(&record(2, 5).key).is_none());
        assert_eq!(disk.next_incarnation(Incarnation(0), Wall(0)).0, incarnation.0 + 1);
    }
}
