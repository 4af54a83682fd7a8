//! Anti-entropy of desired state: two nodes compare roots, then buckets, then keys, and exchange only
//! what differs.
//!
//! ```text
//! A                              B
//! Root(a)              ->        equal: nothing more to say
//!                      <-        Buckets: all of B's bucket digests
//! Keys: what A holds   ->
//! in differing buckets <-        Records: what A lacks;  Want: what B lacks
//! Records              ->
//! ```
//!
//! Each step is answered from the message alone: nothing is remembered between steps, any of them may be
//! lost, doubled or late, and the next round finds what is still missing. One answer is bounded
//! ([`MAX_ANSWER_BYTES`]); what does not fit waits for the next round, which finds less to do.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::clock::Stamp;
use crate::id::NodeId;
use crate::message::Message;
use crate::record::{Digest, Key, Record};
use crate::registers::{BUCKETS, Registers};

/// How large one message of records may grow, in bytes. A single larger record goes alone.
pub const MAX_BATCH_BYTES: usize = 256 * 1024;
/// How many bytes of records one step is answered with. The rest waits for the next round.
pub const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How many keys one [`SyncMessage::Keys`] or [`SyncMessage::Want`] names: about 30 KiB.
pub const MAX_KEYS: usize = 512;
/// How many ranges one [`SyncMessage::Keys`] has, so that a node with no records at all does not ask
/// for everything in one step.
const MAX_RANGES: usize = 16;

/// One step of a comparison between two nodes. Append only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncMessage {
    /// The sender's root. Not answered when the receiver's is equal.
    Root(Digest),
    /// The digests of the sender's buckets; those that hold nothing are left out.
    Buckets(Vec<(u8, Digest)>),
    /// What the sender holds in some buckets, for the receiver to fill in what is missing or older.
    Keys(Vec<KeyRange>),
    /// The sender wants these.
    Want(Vec<Key>),
}

/// Everything that the sender holds in one bucket, within some bounds. Tombstones too old to count in
/// the root are named, so that a node that was away for days learns of them, but are not sent to one
/// that does not hold the thing they removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    pub bucket: u8,
    /// The range begins behind this key; `None` begins with the bucket.
    pub after: Option<Key>,
    /// The range ends with this key; `None` ends with the bucket.
    pub until: Option<Key>,
    pub held: Vec<Held>,
}

/// What the sender holds under one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    pub key: Key,
    pub stamp: Stamp,
    pub writer: NodeId,
    pub digest: Digest,
}

impl KeyRange {
    fn covers(&self, key: &Key) -> bool {
        self.after.is_none_or(|after| *key > after) && self.until.is_none_or(|until| *key <= until)
    }
}

/// The message that opens a round: send it to some peer now and then, and to one whose published root
/// keeps differing.
pub fn start(registers: &Registers) -> SyncMessage {
    SyncMessage::Root(registers.root())
}

/// What to send back to the peer that sent `step`. [`Message::Records`] come without `confirm`.
pub fn answer(registers: &Registers, step: &SyncMessage) -> Vec<Message> {
    match step {
        SyncMessage::Root(root) if *root == registers.root() => Vec::new(),
        SyncMessage::Root(_) => vec![Message::Sync(SyncMessage::Buckets(digests(registers)))],
        SyncMessage::Buckets(theirs) => differing_keys(registers, theirs),
        SyncMessage::Keys(ranges) => fill_in(registers, ranges),
        SyncMessage::Want(keys) => {
            let mut batches = Batches::default();
            for key in keys.iter().collect::<BTreeSet<_>>() {
                registers.get(key).into_iter().for_each(|record| batches.add(record));
            }
            batches.finish()
        }
    }
}

fn buckets() -> impl Iterator<Item = u8> {
    0..=u8::MAX
}

fn digests(registers: &Registers) -> Vec<(u8, Digest)> {
    let mut digests = Vec::with_capacity(BUCKETS);
    digests.extend(buckets().map(|bucket| (bucket, registers.bucket_digest(bucket))));
    digests.retain(|(_, digest)| *digest != Digest::default());
    digests
}

/// What this node holds where its buckets differ from `theirs`.
fn differing_keys(registers: &Registers, theirs: &[(u8, Digest)]) -> Vec<Message> {
    let theirs: BTreeMap<u8, Digest> = theirs.iter().copied().collect();
    let mut messages = Vec::new();
    let mut ranges: Vec<KeyRange> = Vec::new();
    let mut named = 0;
    let mut flush = |ranges: &mut Vec<KeyRange>| {
        if !ranges.is_empty() {
            messages.push(Message::Sync(SyncMessage::Keys(std::mem::take(ranges))));
        }
    };
    for bucket in buckets() {
        let their = theirs.get(&bucket).copied().unwrap_or_default();
        if their == registers.bucket_digest(bucket) {
            continue;
        }
        for range in split(bucket, &registers.held_in(bucket).collect::<Vec<_>>()) {
            if named + range.held.len() > MAX_KEYS || ranges.len() == MAX_RANGES {
                flush(&mut ranges);
                named = 0;
            }
            named += range.held.len();
            ranges.push(range);
        }
    }
    flush(&mut ranges);
    messages
}

/// A bucket as ranges of at most [`MAX_KEYS`] keys that together cover all of it.
fn split(bucket: u8, held: &[Held]) -> Vec<KeyRange> {
    let mut ranges: Vec<KeyRange> = held
        .chunks(MAX_KEYS)
        .map(|chunk| KeyRange {
            bucket,
            after: None,
            until: chunk.last().map(|held| held.key),
            held: chunk.to_vec(),
        })
        .collect();
    if ranges.is_empty() {
        ranges.push(KeyRange { bucket, after: None, until: None, held: Vec::new() });
    }
    let mut before = None;
    for range in &mut ranges {
        range.after = before;
        before = range.until;
    }
    if let Some(last) = ranges.last_mut() {
        last.until = None;
    }
    ranges
}

/// Sends what the peer lacks within the ranges and asks for what it has newer.
fn fill_in(registers: &Registers, ranges: &[KeyRange]) -> Vec<Message> {
    let mut batches = Batches::default();
    let mut wanted = BTreeSet::new();
    for range in ranges {
        let theirs: BTreeMap<Key, &Held> = range.held.iter().map(|h| (h.key, h)).collect();
        for their in theirs.values() {
            let Some(ours) = registers.held(&their.key) else {
                wanted.insert(their.key);
                continue;
            };
            if ours.digest == their.digest {
                continue;
            }
            // Both, if one writer used a stamp twice: the digest decides where they meet.
            if (ours.stamp, ours.writer) >= (their.stamp, their.writer) {
                registers.get(&their.key).into_iter().for_each(|record| batches.add(record));
            }
            if (ours.stamp, ours.writer) <= (their.stamp, their.writer) {
                wanted.insert(their.key);
            }
        }
        registers
            .counted_in(range.bucket)
            .filter(|key| range.covers(key) && !theirs.contains_key(key))
            .filter_map(|key| registers.get(&key))
            .for_each(|record| batches.add(record));
    }
    let mut messages = batches.finish();
    let wanted: Vec<Key> = wanted.into_iter().collect();
    messages.extend(wanted.chunks(MAX_KEYS).map(|c| Message::Sync(SyncMessage::Want(c.to_vec()))));
    messages
}

/// Records cut into messages, up to the budget of one answer.
#[derive(Default)]
struct Batches {
    messages: Vec<Message>,
    batch: Vec<Record>,
    batch_bytes: usize,
    total_bytes: usize,
}

impl Batches {
    fn add(&mut self, record: &Record) {
        // An upper bound of the encoded size: ids and digests take up to 17 bytes each.
        let bytes = 128 + 17 * record.ancestors.len() + record.body.as_ref().map_or(0, Vec::len);
        // The first always goes, however large, or it would never.
        if self.total_bytes > 0 && self.total_bytes + bytes > MAX_ANSWER_BYTES {
            return;
        }
        if self.batch_bytes + bytes > MAX_BATCH_BYTES {
            self.flush();
        }
        self.batch.push(record.clone());
        self.batch_bytes += bytes;
        self.total_bytes += bytes;
    }

    fn flush(&mut self) {
        if !self.batch.is_empty() {
            let records = std::mem::take(&mut self.batch);
            self.messages.push(Message::Records { records, confirm: false });
        }
        self.batch_bytes = 0;
    }

    fn finish(mut self) -> Vec<Message> {
        self.flush();
        self.messages
    }
}
