//! The digest tree that anti-entropy compares: a root over 256 buckets over the records.
//!
//! A bucket's digest is the XOR of its records' digests and the root the XOR of the buckets', so a
//! change costs two XORs. XOR would let a forger cancel digests out; a forger among admitted nodes could
//! as well write the record it wants.

use std::collections::BTreeMap;

use super::Registers;
use crate::record::{Digest, Key};
use crate::sync::Held;

/// How many buckets there are: one for each value of a byte.
pub const BUCKETS: usize = 256;

#[derive(Clone, Debug, Default)]
struct Bucket {
    digest: u128,
    /// The digest that each key is counted with; `None` for what is held and not counted.
    keys: BTreeMap<Key, Option<Digest>>,
}

#[derive(Clone, Debug)]
pub(super) struct Buckets {
    root: u128,
    buckets: Vec<Bucket>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { root: 0, buckets: vec![Bucket::default(); BUCKETS] }
    }
}

impl Buckets {
    /// From now on `key` is held and counted with `digest`, or not counted.
    pub(super) fn set(&mut self, key: Key, digest: Option<Digest>) {
        let bucket = &mut self.buckets[usize::from(bucket_of(&key))];
        let before = bucket.keys.insert(key, digest).flatten();
        let change = before.unwrap_or_default().0 ^ digest.unwrap_or_default().0;
        bucket.digest ^= change;
        self.root ^= change;
    }

    /// From now on `key` is not held.
    pub(super) fn remove(&mut self, key: &Key) {
        self.set(*key, None);
        self.buckets[usize::from(bucket_of(key))].keys.remove(key);
    }
}

/// The bucket of a key. Part of the protocol: all nodes must sort alike.
pub(crate) fn bucket_of(key: &Key) -> u8 {
    // Ids are random or hashes, but for a few small constants; all bytes are folded so that neither
    // kind crowds one bucket.
    key.id.to_be_bytes().iter().fold(key.kind as u8, |folded, byte| folded ^ byte)
}

impl Registers {
    /// One digest for all that is held; equal roots mean equal records, old tombstones aside.
    pub fn root(&self) -> Digest {
        Digest(self.buckets.root)
    }

    pub(crate) fn bucket_digest(&self, bucket: u8) -> Digest {
        Digest(self.buckets.buckets[usize::from(bucket)].digest)
    }

    /// What is held in one bucket, old tombstones too, in order of key.
    pub(crate) fn held_in(&self, bucket: u8) -> impl Iterator<Item = Held> + use<'_> {
        self.buckets.buckets[usize::from(bucket)].keys.keys().filter_map(|key| self.held(key))
    }

    /// The part of it that is counted in the root.
    pub(crate) fn counted_in(&self, bucket: u8) -> impl Iterator<Item = Key> + use<'_> {
        let keys = &self.buckets.buckets[usize::from(bucket)].keys;
        keys.iter().filter(|(_, counted)| counted.is_some()).map(|(key, _)| *key)
    }

    pub(crate) fn held(&self, key: &Key) -> Option<Held> {
        self.entries.get(key).map(|entry| Held {
            key: *key,
            stamp: entry.record.stamp,
            writer: entry.record.writer,
            digest: entry.digest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Kind;

    #[test]
    fn the_bucket_of_a_key_is_frozen() {
        assert_eq!(bucket_of(&Key { kind: Kind::Service, id: 0 }), 0);
        assert_eq!(bucket_of(&Key { kind: Kind::Scale, id: 0 }), 1);
        assert_eq!(
            bucket_of(&Key { kind: Kind::Volume, id: 0x0102_0304 << 64 }),
            10 ^ 1 ^ 2 ^ 3 ^ 4
        );
    }
}
