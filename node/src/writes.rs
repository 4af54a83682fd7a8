//! The way of a change to the disks: one batch at a time, and an answer only when it is safe.
//!
//! A change is first put on this node's disk, then merged, then pushed; the command that made it is
//! answered when a second node says that it has it on its disk too (or when there is no other live
//! node). Batches go one after the other, so what stands on disk is always a state that memory had.

use std::collections::{BTreeSet, VecDeque};

use membership::clock::Stamp;
use membership::id::NodeId;
use membership::record::{Key, Record};
use membership::registers::Registers;
use membership::time::{Instant, Millis};

use crate::command::{Command, Reply};
use crate::io::{CommandId, PersistId};

/// Batches from peers that may wait for the disk. When full, further ones are dropped: anti-entropy
/// brings them again.
pub(crate) const MAX_QUEUED_BATCHES: usize = 1024;
/// Commands that may wait for their turn. When full, further ones are refused as busy.
pub(crate) const MAX_WAITING_COMMANDS: usize = 1024;
/// How often an unconfirmed change is offered to the live members again.
pub(crate) const OFFER_AGAIN: Millis = Millis(500);

/// Names one record exactly.
pub(crate) type RecordName = (Key, Stamp, NodeId);

pub(crate) fn name_of(record: &Record) -> RecordName {
    (record.key, record.stamp, record.writer)
}

/// Where a batch came from, and so who wants to hear of its end.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Command {
        id: CommandId,
        reply: Reply,
    },
    Peer {
        from: NodeId,
        confirm: bool,
    },
    /// This node's own: a steward's step, its admission.
    Own,
}

#[derive(Clone, Debug)]
pub(crate) struct Batch {
    pub records: Vec<Record>,
    pub origin: Origin,
}

/// An acknowledgement that waits for the second disk.
#[derive(Clone, Debug)]
pub(crate) struct Unconfirmed {
    pub id: CommandId,
    pub reply: Reply,
    pub records: Vec<Record>,
    pub missing: BTreeSet<RecordName>,
    pub deadline: Instant,
    pub offer_at: Instant,
}

#[derive(Debug, Default)]
pub(crate) struct Writes {
    next: u64,
    in_flight: Option<(PersistId, Vec<Batch>)>,
    queue: VecDeque<Batch>,
    pub waiting: VecDeque<(CommandId, Command)>,
    pub unconfirmed: Vec<Unconfirmed>,
}

impl Writes {
    /// True while a batch of this node's own making is not merged yet: another draft now could be
    /// made over a register that is about to change.
    pub(crate) fn busy(&self) -> bool {
        self.in_flight.is_some() || !self.queue.is_empty()
    }

    /// Queues a batch; false if there is no room for it.
    pub(crate) fn push(&mut self, batch: Batch) -> bool {
        let from_peer = matches!(batch.origin, Origin::Peer { .. });
        if from_peer && self.queue.len() >= MAX_QUEUED_BATCHES {
            return false;
        }
        self.queue.push_back(batch);
        true
    }

    /// The next write, if the disk is free: what merging everything that waits will change. A record that
    /// lost already must not replace the winner on the disk; and an edit that loses now is kept as a conflict
    /// by the very write that puts the winner in its place, for a host may lose power between two. Empty when
    /// there is nothing to put on the disk for these batches.
    pub(crate) fn take(&mut self, registers: &Registers) -> Option<(PersistId, Vec<Record>)> {
        if self.in_flight.is_some() || self.queue.is_empty() {
            return None;
        }
        self.next += 1;
        let id = PersistId(self.next);
        let batches: Vec<Batch> = self.queue.drain(..).collect();
        let records = registers.outcome(batches.iter().flat_map(|b| &b.records));
        self.in_flight = Some((id, batches));
        Some((id, records))
    }

    /// The write ended: its batches.
    pub(crate) fn finished(&mut self, id: PersistId) -> Vec<Batch> {
        match self.in_flight.take_if(|(in_flight, _)| *in_flight == id) {
            Some((_, batches)) => batches,
            None => Vec::new(),
        }
    }

    /// A peer has these on its disk. Answers the commands that are safe with it.
    pub(crate) fn confirmed(&mut self, names: &[RecordName]) -> Vec<Unconfirmed> {
        for waiting in &mut self.unconfirmed {
            for name in names {
                waiting.missing.remove(name);
            }
        }
        self.take_where(|u| u.missing.is_empty())
    }

    pub(crate) fn take_where(&mut self, done: impl Fn(&Unconfirmed) -> bool) -> Vec<Unconfirmed> {
        let (done, rest) = std::mem::take(&mut self.unconfirmed).into_iter().partition(|u| done(u));
        self.unconfirmed = rest;
        done
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.unconfirmed.iter().map(|u| u.deadline.min(u.offer_at)).min()
    }
}

#[cfg(test)]
mod tests {
    use membership::id::CellId;
    use membership::record::Kind;

    use super::*;

    fn record(ms: u64, body: u8) -> Record {
        Record {
            cell: CellId(0),
            key: Key { kind: Kind::Rollout, id: 1 },
            stamp: Stamp { ms, counter: 0 },
            writer: NodeId(1),
            ancestors: Vec::new(),
            body: Some(vec![body]),
        }
    }

    /// Found by the simulator, seed 1: what stood already came once more behind what beats it, and took
    /// its place in the write.
    #[test]
    fn a_repeated_record_does_not_displace_a_newer_one_on_its_way_to_the_disk() {
        let mut registers = Registers::new(CellId(0));
        registers.merge(record(1, 1));
        let mut writes = Writes::default();
        let origin = || Origin::Peer { from: NodeId(2), confirm: false };
        writes.push(Batch { records: vec![record(2, 2)], origin: origin() });
        writes.push(Batch { records: vec![record(1, 1)], origin: origin() });
        let (_, written) = writes.take(&registers).unwrap();
        assert_eq!(written, [record(2, 2)]);
    }
    /// Found by reading: the edit that lost was replaced on the disk by one write and kept as a conflict by
    /// the next, which a loss of power or a full disk could prevent.
    #[test]
    fn an_edit_that_loses_is_kept_by_the_write_that_replaces_it() {
        let edit = |ms, body| Record { key: Key { kind: Kind::Scale, id: 1 }, ..record(ms, body) };
        let mut registers = Registers::new(CellId(0));
        registers.merge(edit(1, 1));
        let mut writes = Writes::default();
        writes.push(Batch { records: vec![edit(2, 2)], origin: Origin::Own });
        let (id, written) = writes.take(&registers).unwrap();
        let kinds: Vec<Kind> = written.iter().map(|record| record.key.kind).collect();
        assert_eq!(kinds, [Kind::Scale, Kind::Conflict]);
        // As it is on the disk, so it is in memory after the merge.
        writes
            .finished(id)
            .into_iter()
            .flat_map(|b| b.records)
            .for_each(|r| _ = registers.merge(r));
        assert!(written.iter().all(|record| registers.get(&record.key) == Some(record)));
        // One that comes late and lost already is kept as well, and what stands is not touched.
        writes.push(Batch { records: vec![edit(1, 3)], origin: Origin::Own });
        let (_, written) = writes.take(&registers).unwrap();
        let kinds: Vec<Kind> = written.iter().map(|record| record.key.kind).collect();
        assert_eq!(kinds, [Kind::Conflict]);
    }
}
