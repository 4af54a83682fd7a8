//! A store that is not what it should be is refused with a reason, and left as it is.

use redb::Builder;

use super::*;
use crate::store::format::{COUNTERS, FORMAT_COUNTER, RECORDS};

/// Opens a damaged copy; whatever comes of it, the file must be the same afterwards unless it opened.
async fn try_open(dir: &Path, bytes: &[u8]) -> Result<Vec<(u128, Vec<u8>)>, OpenError> {
    std::fs::write(file(dir), bytes).unwrap();
    let opened = Store::open(dir);
    match opened {
        Ok(store) => {
            let (records, damaged) = store.load_records().await.unwrap();
            assert_eq!(damaged, [], "a page checksum should have told");
            Ok(records.into_iter().map(|r| (r.key.id, r.body.unwrap())).collect())
        }
        Err(error) => {
            assert_eq!(std::fs::read(file(dir)).unwrap(), bytes, "a refused store was changed");
            Err(error)
        }
    }
}

#[tokio::test]
async fn a_store_cut_short_anywhere_is_refused_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let whole = filled(dir.path()).await;
    let bytes = std::fs::read(file(dir.path())).unwrap();
    let step = (bytes.len() / 97).max(1);
    let near_the_end = (1..5).map(|n| bytes.len() - n);
    let mut refused = 0;
    for cut in (0..64).chain((64..bytes.len()).step_by(step)).chain(near_the_end) {
        match try_open(dir.path(), &bytes[..cut]).await {
            Ok(found) => assert_eq!(found, whole, "cut at {cut}"),
            Err(error) => {
                refused += 1;
                let text = error.to_string();
                assert!(matches!(error, OpenError::Damaged { .. }), "cut at {cut}: {text}");
                assert!(text.contains("--join") && text.contains("not touched"), "{text}");
            }
        }
    }
    assert!(refused > 100, "only {refused} were noticed");
    assert_eq!(try_open(dir.path(), &bytes).await.unwrap(), whole);
}

/// Of a file with one wrong bit either everything is read as it was written, or nothing is.
#[tokio::test]
async fn a_flipped_bit_is_noticed_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let whole = filled(dir.path()).await;
    let bytes = std::fs::read(file(dir.path())).unwrap();
    let mut refused = 0;
    // The header bit by bit, then a place in every stretch of the rest.
    let header = (0..320).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    let rest = (320..bytes.len()).step_by(bytes.len() / 199).map(|at| (at, at % 8));
    for (at, bit) in header.step_by(13).chain(rest) {
        let mut wrong = bytes.clone();
        wrong[at] ^= 1 << bit;
        match try_open(dir.path(), &wrong).await {
            Ok(found) => assert_eq!(found, whole, "bit {bit} of byte {at}"),
            Err(OpenError::Damaged { .. } | OpenError::NotAStore { .. }) => refused += 1,
            Err(other) => panic!("bit {bit} of byte {at}: {other}"),
        }
    }
    assert!(refused > 10, "only {refused} were noticed");
}

/// Every byte of every record, so that no place in the data pages is left to chance.
#[tokio::test]
async fn a_flipped_bit_inside_a_record_is_always_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let body = b"a body that is found again in the file";
    store.put(vec![record(1, body)]).await.unwrap();
    drop(store);
    let bytes = std::fs::read(file(dir.path())).unwrap();
    let places = (0..bytes.len() - body.len()).filter(|at| &bytes[*at..*at + body.len()] == body);
    let places = places.collect::<Vec<_>>();
    assert!(!places.is_empty());
    for offset in 0..body.len() {
        let mut wrong = bytes.clone();
        for at in &places {
            wrong[at + offset] ^= 0x10;
        }
        let error = try_open(dir.path(), &wrong).await.unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
}

#[tokio::test]
async fn something_else_is_not_a_store() {
    let dir = tempfile::tempdir().unwrap();
    for other in [&b"SQLite format 3\0 and so on"[..], &[0; 8192], b"hello", b"redbx"] {
        let error = try_open(dir.path(), other).await.unwrap_err();
        assert!(matches!(error, OpenError::NotAStore { .. }), "{error}");
    }
    std::fs::remove_file(file(dir.path())).unwrap();
    std::fs::create_dir(file(dir.path())).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::NotAStore { .. })));
}

#[tokio::test]
async fn a_database_of_another_program_is_not_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let database = Builder::new().create(file(dir.path())).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(RECORDS).unwrap().insert(&b"k"[..], &b"v"[..]).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let before = std::fs::read(file(dir.path())).unwrap();
    assert!(matches!(Store::open(dir.path()), Err(OpenError::NotAStore { .. })));
    assert_eq!(std::fs::read(file(dir.path())).unwrap(), before);
}

async fn with_format(format: u64) -> (tempfile::TempDir, OpenError) {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    {
        let database = Builder::new().open(file(dir.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(COUNTERS).unwrap().insert(FORMAT_COUNTER, format).unwrap();
        transaction.commit().unwrap();
    }
    let before = std::fs::read(file(dir.path())).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert_eq!(std::fs::read(file(dir.path())).unwrap(), before);
    (dir, error)
}

#[tokio::test]
async fn a_newer_format_is_refused_and_untouched() {
    let (_dir, error) = with_format(7).await;
    assert!(matches!(error, OpenError::NewerFormat { found: 7, known: FORMAT, .. }));
    let text = error.to_string();
    assert!(text.contains("written by a newer shoal (format 7; this one knows 1)"), "{text}");
    assert!(text.contains("nothing was changed"), "{text}");
}

#[tokio::test]
async fn an_older_format_without_a_way_up_is_refused_and_untouched() {
    let (_dir, error) = with_format(0).await;
    assert!(matches!(error, OpenError::OlderFormat { found: 0, .. }), "{error}");
}

/// A record that is whole for redb and wrong for us is reported, and the others are read.
#[tokio::test]
async fn one_unreadable_record_does_not_cost_the_others() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path()).await;
    {
        let database = Builder::new().open(file(dir.path())).unwrap();
        let transaction = database.begin_write().unwrap();
        let key = format::key_bytes(record(3, b"").key);
        transaction.open_table(RECORDS).unwrap().insert(key.as_slice(), &b"rubbish"[..]).unwrap();
        transaction.commit().unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let (records, damaged) = store.load_records().await.unwrap();
    assert_eq!((records.len(), damaged.len()), (19, 1));
    assert_eq!(damaged[0].key, Some(record(3, b"").key));
    // A good copy from another node mends it.
    store.put(vec![record(3, b"good")]).await.unwrap();
    assert_eq!(stored(&store).await.len(), 20);
}
