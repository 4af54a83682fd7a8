use std::path::Path;

use membership::clock::Stamp;
use membership::id::{CellId, NodeId};
use membership::record::{Key, Kind, Record};
use membership::time::Wall;

use super::*;

mod damage;
mod disk;
mod kept;

fn record(id: u128, body: &[u8]) -> Record {
    Record {
        cell: CellId(0),
        key: Key { kind: Kind::Service, id },
        stamp: Stamp { ms: 1_700_000_000_000, counter: 0 },
        writer: NodeId(1),
        ancestors: Vec::new(),
        body: Some(body.to_vec()),
    }
}

/// The stored records by id, all of which must be readable.
async fn stored(store: &Store) -> Vec<(u128, Vec<u8>)> {
    let (records, damaged) = store.load_records().await.unwrap();
    assert_eq!(damaged, []);
    records.into_iter().map(|r| (r.key.id, r.body.unwrap())).collect()
}

fn file(dir: &Path) -> PathBuf {
    dir.join(open::STORE_FILE)
}

/// A closed store with some records in it.
async fn filled(dir: &Path) -> Vec<(u128, Vec<u8>)> {
    let store = Store::open(dir).unwrap();
    for id in 0..20 {
        store.put(vec![record(id, &vec![id as u8; 300])]).await.unwrap();
    }
    store.draw_incarnation(Wall(7)).await.unwrap();
    stored(&store).await
}
