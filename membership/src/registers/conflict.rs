//! Concurrent edits that lost, kept until somebody has looked at them.
//!
//! The record of a conflict is made from the loser alone: its key from the loser's key and digest, its
//! stamp and writer the loser's, its body the loser itself. Whichever nodes notice the conflict make
//! the same record, so conflicts need no coordination: they merge and spread like any other record,
//! and a dismissal is a tombstone over them.

use sha2::{Digest as _, Sha256};

use super::Registers;
use crate::record::{Digest, Key, Kind, Record};
use crate::wire;

const NAMING_DOMAIN: &[u8] = b"shoal conflict 1\0";

/// A concurrent edit that lost, waiting for somebody to look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The key of the conflict record: drafting `None` over it dismisses the conflict.
    pub id: Key,
    /// The register that was edited twice.
    pub key: Key,
    /// The edit that lost. Its stamp and writer say when and by whom; `None` as body was a removal.
    pub loser: Record,
    /// Conflicts about edits that the loser was built upon. Not listed by themselves; dismiss them too.
    pub covers: Vec<Key>,
}

/// The conflict record if `loser` was written without knowledge of `winner` and says something else.
pub(super) fn between(winner: &Record, loser: &Record, loser_digest: Digest) -> Option<Record> {
    let heeded = match loser.key.kind {
        // Conflicts are not edited, rollouts are written by stewards, who go by what stands, and what ended
        // of a job is written by its node alone.
        Kind::Conflict | Kind::Rollout | Kind::Completions => false,
        _ => true,
    };
    let concurrent = !winner.ancestors.contains(&loser_digest);
    if !heeded || !concurrent || winner.body == loser.body {
        return None;
    }
    // The loser passed `check` when it came in, so it is within the size limit; were it not, the
    // conflict could be neither stored nor sent.
    let body = wire::encode(loser).ok()?;
    Some(Record {
        cell: loser.cell,
        key: name(loser.key, loser_digest),
        stamp: loser.stamp,
        writer: loser.writer,
        ancestors: Vec::new(),
        body: Some(body),
    })
}

fn name(key: Key, digest: Digest) -> Key {
    let mut hash = Sha256::new();
    hash.update(NAMING_DOMAIN);
    hash.update(wire::canonical_bytes(&(key, digest)));
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    Key { kind: Kind::Conflict, id: u128::from_be_bytes(first) }
}

/// The losing edit inside a conflict record; `None` if it is dismissed or not what its key says.
pub(super) fn loser_of(conflict: &Record) -> Option<Record> {
    let loser: Record = wire::decode(conflict.body.as_ref()?).ok()?;
    let genuine = loser.key.kind != Kind::Conflict
        && conflict.key == name(loser.key, loser.digest())
        && conflict.order() == loser.order()
        && conflict.cell == loser.cell
        && conflict.ancestors.is_empty();
    genuine.then_some(loser)
}

/// See [`Registers::conflicts`].
pub(super) fn open(registers: &Registers) -> Vec<Conflict> {
    let lost: Vec<(Key, Record, Digest)> = registers
        .live(Kind::Conflict)
        .filter_map(|(_, record)| loser_of(record).map(|loser| (record.key, loser)))
        .map(|(id, loser)| {
            let digest = loser.digest();
            (id, loser, digest)
        })
        .collect();
    let is_built_upon = |key: &Key, digest: &Digest| {
        let by_winner = registers.get(key).is_some_and(|now| now.ancestors.contains(digest));
        by_winner || lost.iter().any(|(_, l, _)| l.key == *key && l.ancestors.contains(digest))
    };
    let mut conflicts: Vec<Conflict> = lost
        .iter()
        .filter(|(_, loser, digest)| !is_built_upon(&loser.key, digest))
        .map(|(id, loser, _)| {
            let covers = lost
                .iter()
                .filter(|(_, l, digest)| l.key == loser.key && loser.ancestors.contains(digest));
            Conflict {
                id: *id,
                key: loser.key,
                loser: loser.clone(),
                covers: covers.map(|(id, ..)| *id).collect(),
            }
        })
        .collect();
    conflicts.sort_by_key(|c| (c.key, c.loser.order(), c.id));
    conflicts
}
