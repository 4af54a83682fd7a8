//! How things look on the disk: tables, keys and values.
//!
//! A record's key is its kind (one byte) and its id (16 bytes, big endian). Every value is led by the
//! first 16 bytes of the SHA-256 of the rest: redb's own page checksums tell a torn page, this tells
//! a value that is not what was written, whoever put it there. Then comes the wire encoding, with its
//! own tag and version.

use membership::record::{Key, Kind, Record};
use membership::wire;
use redb::TableDefinition;
use sha2::{Digest, Sha256};

use super::{Damaged, WriteError};

/// The format of the store as a whole. A higher one is refused.
pub const FORMAT: u64 = 1;

pub(super) const RECORDS: TableDefinition<'static, &[u8], &[u8]> = TableDefinition::new("records");
pub(super) const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");
pub(super) const COUNTERS: TableDefinition<'static, &str, u64> = TableDefinition::new("counters");

pub(super) const FORMAT_COUNTER: &str = "format";
pub(super) const INCARNATION_COUNTER: &str = "incarnation";

/// The largest value of the daemon's own.
pub(super) const MAX_META_BYTES: usize = 64 * 1024;

const KEY_BYTES: usize = 17;
const SUM_BYTES: usize = 16;

/// One row: key and value as they are on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
}

/// Names of the daemon's own values do not collide with the store's.
pub(super) fn meta_name(name: &str) -> String {
    format!("daemon/{name}")
}

// Written out: the numbers are on disks and never change, whatever happens to the order of the enum.
fn kind_byte(kind: Kind) -> u8 {
    match kind {
        Kind::Service => 0,
        Kind::Scale => 1,
        Kind::Rollout => 2,
        Kind::NodeSettings => 3,
        Kind::Admission => 4,
        Kind::Conflict => 5,
        Kind::Cluster => 6,
        Kind::Network => 7,
        Kind::Secret => 8,
        Kind::Config => 9,
        Kind::Volume => 10,
        Kind::Completions => 11,
    }
}

const KINDS: [Kind; 12] = [
    Kind::Service,
    Kind::Scale,
    Kind::Rollout,
    Kind::NodeSettings,
    Kind::Admission,
    Kind::Conflict,
    Kind::Cluster,
    Kind::Network,
    Kind::Secret,
    Kind::Config,
    Kind::Volume,
    Kind::Completions,
];

pub(super) fn key_bytes(key: Key) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(KEY_BYTES);
    bytes.push(kind_byte(key.kind));
    bytes.extend_from_slice(&key.id.to_be_bytes());
    bytes
}

fn parse_key(bytes: &[u8]) -> Option<Key> {
    let (kind, id) = bytes.split_first()?;
    let id = u128::from_be_bytes(id.try_into().ok()?);
    KINDS.into_iter().find(|k| kind_byte(*k) == *kind).map(|kind| Key { kind, id })
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let mut out = [0; SUM_BYTES];
    out.copy_from_slice(&Sha256::digest(bytes)[..SUM_BYTES]);
    out
}

fn sealed(encoded: &[u8]) -> Vec<u8> {
    let mut value = sum(encoded).to_vec();
    value.extend_from_slice(encoded);
    value
}

fn unsealed(value: &[u8]) -> Result<&[u8], String> {
    let Some((stored, encoded)) = value.split_at_checked(SUM_BYTES) else {
        return Err(format!("it has only {} bytes", value.len()));
    };
    if stored == sum(encoded) { Ok(encoded) } else { Err("its checksum does not match".to_owned()) }
}

pub(super) fn record_row(record: &Record) -> Result<Row, WriteError> {
    let encoded = wire::encode(record)
        .map_err(|e| WriteError::unencodable(format!("the record {:?}", record.key), &e))?;
    Ok(Row { key: key_bytes(record.key), value: sealed(&encoded) })
}

pub(super) fn read_record(key: &[u8], value: &[u8]) -> Result<Record, Damaged> {
    let parsed = parse_key(key);
    let damaged = |why: String| Damaged { key: parsed, why };
    let encoded = unsealed(value).map_err(damaged)?;
    let record: Record = wire::decode(encoded).map_err(|e| damaged(e.to_string()))?;
    match parsed {
        Some(key) if key == record.key => Ok(record),
        _ => Err(damaged(format!("it is a record of {:?} under another key", record.key))),
    }
}

#[cfg(test)]
mod tests {
    use membership::clock::Stamp;
    use membership::id::{CellId, NodeId};

    use super::*;

    fn record(kind: Kind) -> Record {
        Record {
            cell: CellId(0),
            key: Key { kind, id: 0x0102 },
            stamp: Stamp { ms: 5, counter: 6 },
            writer: NodeId(7),
            ancestors: Vec::new(),
            body: Some(b"body".to_vec()),
        }
    }

    #[test]
    fn every_kind_has_a_byte_of_its_own_and_comes_back() {
        for (n, kind) in KINDS.into_iter().enumerate() {
            assert_eq!(usize::from(kind_byte(kind)), n);
            let row = record_row(&record(kind)).unwrap();
            assert_eq!(read_record(&row.key, &row.value), Ok(record(kind)));
        }
    }

    /// What is on disks today must be readable tomorrow.
    #[test]
    fn the_bytes_on_the_disk_do_not_change() {
        let row = record_row(&record(Kind::Config)).unwrap();
        assert_eq!(hex(&row.key), "0900000000000000000000000000000102");
        assert_eq!(hex(&row.value[SUM_BYTES..]), GOLDEN_RECORD);
        assert_eq!(hex(&row.value[..SUM_BYTES]), GOLDEN_SUM);
    }

    const GOLDEN_RECORD: &str = "02010009fb0201050607000104626f6479";
    const GOLDEN_SUM: &str = "43af3a72cd47cce16b04a2501ec9045c";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn any_changed_bit_of_a_value_is_noticed() {
        let row = record_row(&record(Kind::Service)).unwrap();
        for bit in 0..row.value.len() * 8 {
            let mut value = row.value.clone();
            value[bit / 8] ^= 1 << (bit % 8);
            let damaged = read_record(&row.key, &value).unwrap_err();
            assert_eq!(damaged.key, Some(record(Kind::Service).key));
        }
        for end in 0..row.value.len() {
            assert!(read_record(&row.key, &row.value[..end]).is_err());
        }
    }

    #[test]
    fn a_record_under_another_key_is_damage() {
        let row = record_row(&record(Kind::Service)).unwrap();
        let other = key_bytes(Key { kind: Kind::Service, id: 1 });
        assert!(read_record(&other, &row.value).unwrap_err().why.contains("another key"));
        assert_eq!(read_record(b"x", &row.value).unwrap_err().key, None);
    }
}
