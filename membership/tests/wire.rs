//! The bytes of everything that is stored or sent, held still; and what is said about bytes that are
//! something else. A test here that fails after a change of a type means: older nodes and disks would
//! not understand. Raise the type's version and read the old layout in `Versioned::upgrade`.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::collections::BTreeMap;
use std::fmt::Debug;

use membership::clock::Stamp;
use membership::detector::{Edge, EdgeReport, EdgeState};
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation, NetworkId, NodeId, ServiceId};
use membership::member::{EngineState, Health, Profile, Resources};
use membership::message::{Envelope, Message};
use membership::record::{Digest, Key, Kind, Record};
use membership::sync::{Held, KeyRange, SyncMessage};
use membership::time::Wall;
use membership::wire::{self, Versioned, WireError};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The value has these bytes, these bytes are the value, and neither fewer nor more are.
fn golden<T: Versioned + PartialEq + Debug>(value: &T, expected: &str) {
    let bytes = wire::encode(value).unwrap();
    assert_eq!(hex(&bytes), expected, "the layout of {value:?}");
    assert_eq!(wire::decode::<T>(&bytes).as_ref(), Ok(value));
    for end in 0..bytes.len() {
        assert_eq!(wire::decode::<T>(&bytes[..end]), Err(WireError::Truncated { have: end }));
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(wire::decode::<T>(&longer), Err(WireError::Trailing { left: 1 }));
    let mut newer = bytes.clone();
    newer[1] += 1;
    let newer_version =
        WireError::NewerVersion { tag: T::TAG, found: T::VERSION + 1, known: T::VERSION };
    assert_eq!(wire::decode::<T>(&newer), Err(newer_version));
    let mut other = bytes;
    other[0] = 200;
    let wrong = WireError::WrongTag { expected: T::TAG, found: 200 };
    assert_eq!(wire::decode::<T>(&other), Err(wrong));
}

fn record() -> Record {
    Record {
        cell: CellId(0),
        key: Key { kind: Kind::Scale, id: 0x11 },
        stamp: Stamp { ms: 1_800_000_000_000, counter: 3 },
        writer: NodeId(0x22),
        ancestors: vec![Digest(u128::MAX), Digest(1)],
        body: Some(b"5".to_vec()),
    }
}

fn fact() -> SignedFact {
    SignedFact {
        cell: CellId(0),
        owner: NodeId(0x22),
        incarnation: Incarnation(7),
        seq: 300,
        key: FactKey::Claims { service: ServiceId(0x33), part: 1 },
        value: Some(vec![1, 2, 3]),
        signature: vec![9; 4],
    }
}

#[test]
fn records_and_facts() {
    golden(
        &record(),
        "0201000111fd00505c18a3010000032202feffffffffffffffffffffffffffffffff01010135",
    );
    golden(&fact(), "0301002207fb2c0103330101030102030409090909");
}

#[test]
fn keys_of_facts_about_networks() {
    let key = |key| SignedFact { key, ..fact() };
    golden(
        &key(FactKey::Blocks { network: NetworkId(0x44) }),
        "0301002207fb2c01054401030102030409090909",
    );
    golden(
        &key(FactKey::Endpoints { service: ServiceId(0x33), part: 2 }),
        "0301002207fb2c0106330201030102030409090909",
    );
}

#[test]
fn digests_and_signed_bytes() {
    assert_eq!(record().digest(), Digest(0xe4e3647f0caf96d5564809215bcd0538));
    assert_eq!(
        hex(&fact().signed_bytes()),
        "73686f616c2066616374203100002207fb2c010333010103010203"
    );
    // Everything but the signature is covered.
    let signed = fact().signed_bytes();
    let changes: [fn(&mut SignedFact); 7] = [
        |f| f.cell.0 += 1,
        |f| f.owner.0 += 1,
        |f| f.incarnation.0 += 1,
        |f| f.seq += 1,
        |f| f.key = FactKey::Health,
        |f| f.value = None,
        |f| f.value = Some(vec![1, 2]),
    ];
    for change in changes {
        let mut changed = fact();
        change(&mut changed);
        assert_ne!(changed.signed_bytes(), signed);
    }
}

#[test]
fn facts_about_a_member() {
    let profile = Profile {
        name: "a".into(),
        addr: "10.0.0.1:7946".parse().unwrap(),
        zone: "z".into(),
        labels: BTreeMap::from([("k".into(), "v".into())]),
        capacity: Resources { cpu_milli: 2000, memory_bytes: 1 << 32 },
        os: "linux".into(),
        arch: "x86_64".into(),
        runtime: "docker".into(),
        engine_version: "20.10".into(),
        shoal_version: "0.1.0".into(),
        protocol_version: 1,
        placement_version: 1,
        started: Wall(5),
    };
    golden(
        &profile,
        "04010161000a000001fb0a1f017a01016b0176fbd007fd0000000001000000056c696e7578067838365f363406646f636b65720532302e313005302e312e30010105",
    );
    let health = Health {
        engine: EngineState::Unavailable { since: Wall(6), reason: "no".into() },
        leaving: false,
        settling: true,
        reserved: Resources { cpu_milli: 1, memory_bytes: 2 },
        root: Digest(0x44),
    };
    golden(&health, "05010106026e6f0001010244");
    let edge = |state| Edge { incarnation: Incarnation(7), state };
    let edges = [(NodeId(1), edge(EdgeState::Down)), (NodeId(2), edge(EdgeState::Refused))].into();
    golden(&EdgeReport { edges }, "060102010700020701");
}

#[test]
fn messages() {
    let held = Held {
        key: record().key,
        stamp: record().stamp,
        writer: record().writer,
        digest: Digest(0x55),
    };
    let range = KeyRange { bucket: 9, after: None, until: Some(record().key), held: vec![held] };
    let messages = [
        (Message::Ping { seq: 1 }, "0101000001"),
        (Message::Ack { seq: 300 }, "01010001fb2c01"),
        (Message::PingFor { seq: 1, target: NodeId(2) }, "010100020102"),
        (Message::IndirectAck { seq: 1, target: NodeId(2) }, "010100030102"),
        (Message::Facts(vec![fact()]), "0101000401002207fb2c0103330101030102030409090909"),
        (
            Message::Records { records: vec![record()], confirm: true },
            "0101000501000111fd00505c18a3010000032202feffffffffffffffffffffffffffffffff0101013501",
        ),
        (
            Message::Stored(vec![(record().key, record().stamp, record().writer)]),
            "01010006010111fd00505c18a30100000322",
        ),
        (Message::Sync(SyncMessage::Root(Digest(0x44))), "010100070044"),
        (Message::Sync(SyncMessage::Buckets(vec![(9, Digest(0x44))])), "0101000701010944"),
        (
            Message::Sync(SyncMessage::Keys(vec![range])),
            "0101000702010900010111010111fd00505c18a3010000032255",
        ),
        (Message::Sync(SyncMessage::Want(vec![record().key])), "0101000703010111"),
        (Message::Leaving, "01010008"),
        (Message::Hello { want_facts: true }, "0101000901"),
        (Message::Welcome { facts: 300 }, "0101000afb2c01"),
        (Message::Time { wall: Wall(300), asks: true }, "0101000bfb2c0101"),
    ];
    for (message, expected) in messages {
        golden(&Envelope { cell: CellId(0), message }, expected);
    }
}

#[test]
fn the_tags_are_all_different() {
    let tags =
        [Envelope::TAG, Record::TAG, SignedFact::TAG, Profile::TAG, Health::TAG, EdgeReport::TAG];
    assert_eq!(tags, [1, 2, 3, 4, 5, 6]);
}

/// A type of which a second layout exists.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Second {
    number: u64,
    added: Option<String>,
}

impl Versioned for Second {
    const TAG: u8 = 250;
    const VERSION: u8 = 2;
    const LIMIT: usize = 64;

    fn upgrade(version: u8, payload: &[u8]) -> Result<Self, WireError> {
        match version {
            1 => Ok(Self { number: wire::decode_payload(Self::TAG, payload)?, added: None }),
            found => Err(WireError::OlderVersion { tag: Self::TAG, found, known: Self::VERSION }),
        }
    }
}

#[test]
fn an_older_layout_is_read_or_refused_in_words() {
    assert_eq!(wire::decode(&[250, 1, 42]), Ok(Second { number: 42, added: None }));
    assert_eq!(wire::decode::<Second>(&[250, 1, 42, 0]), Err(WireError::Trailing { left: 1 }));
    let refused = Err(WireError::OlderVersion { tag: 250, found: 0, known: 2 });
    assert_eq!(wire::decode::<Second>(&[250, 0, 42]), refused);
    let older = Err(WireError::OlderVersion { tag: 2, found: 0, known: 1 });
    assert_eq!(wire::decode::<Record>(&[2, 0]), older);
}

#[test]
fn what_is_too_large_is_neither_written_nor_read() {
    let large = Second { number: 1, added: Some("x".repeat(80)) };
    assert!(matches!(wire::encode(&large), Err(WireError::TooLarge { limit: 64, .. })));
    let refused = Err(WireError::TooLarge { tag: 250, bytes: 65, limit: 64 });
    assert_eq!(wire::decode::<Second>(&[250; 65]), refused);
}

#[test]
fn a_hostile_length_is_an_error_and_no_allocation() {
    // "This string has 2^62 bytes", and then nothing.
    let bytes = [250, 2, 1, 1, 253, 0, 0, 0, 0, 0, 0, 0, 64];
    assert!(matches!(wire::decode::<Second>(&bytes), Err(WireError::Malformed { tag: 250, .. })));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_bytes_panic(tag in 0..7u8, version in 0..3u8, body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = [&[tag, version], &body[..]].concat();
        let _ = wire::decode::<Envelope>(&bytes);
        let _ = wire::decode::<Record>(&bytes);
        let _ = wire::decode::<SignedFact>(&bytes);
        let _ = wire::decode::<Profile>(&bytes);
        let _ = wire::decode::<Health>(&bytes);
        let _ = wire::decode::<EdgeReport>(&bytes);
    }

    /// Damage to a valid message is an error or another valid message, never a panic.
    #[test]
    fn damaged_messages_do_not_panic(place: usize, change: u8, cut: usize) {
        let records = vec![record(), record()];
        let message = Message::Records { records, confirm: false };
        let mut bytes = wire::encode(&Envelope { cell: CellId(0), message }).unwrap();
        let place = place % bytes.len();
        bytes[place] ^= change;
        bytes.truncate(bytes.len() - cut % 3);
        let _ = wire::decode::<Envelope>(&bytes);
    }

    #[test]
    fn records_round_trip(
        id: u128, ms: u64, counter: u16, writer: u128, ancestors: Vec<u128>,
        body in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5000)),
    ) {
        let record = Record {
            cell: CellId(counter),
            key: Key { kind: Kind::Volume, id },
            stamp: Stamp { ms, counter },
            writer: NodeId(writer),
            ancestors: ancestors.into_iter().map(Digest).collect(),
            body,
        };
        prop_assert_eq!(wire::decode::<Record>(&wire::encode(&record).unwrap()), Ok(record));
    }
}
