//! What was acknowledged is there again, however the process ended.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::*;

#[tokio::test]
async fn records_and_values_come_back_and_are_replaced_whole() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        store.put(vec![record(1, b"a"), record(2, b"b")]).await.unwrap();
        store.put(vec![record(2, b"c")]).await.unwrap();
        store.set_meta("name", b"host-a".to_vec()).await.unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(stored(&store).await, [(1, b"a".to_vec()), (2, b"c".to_vec())]);
    assert_eq!(store.meta("name").await.unwrap().as_deref(), Some(&b"host-a"[..]));
    assert_eq!(store.meta("format").await.unwrap(), None);
}

#[tokio::test]
async fn a_tombstone_is_kept_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let gone = Record { body: None, ..record(1, b"") };
    Store::open(dir.path()).unwrap().put(vec![record(1, b"a")]).await.unwrap();
    Store::open(dir.path()).unwrap().put(vec![gone.clone()]).await.unwrap();
    let (records, _) = Store::open(dir.path()).unwrap().load_records().await.unwrap();
    assert_eq!(records, [gone]);
}

#[tokio::test]
async fn what_is_forgotten_is_gone_and_what_was_written_meanwhile_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let gone = |id| Record { body: None, ..record(id, b"") };
    {
        let store = Store::open(dir.path()).unwrap();
        store.put(vec![gone(1), gone(2), record(3, b"c")]).await.unwrap();
        // The second was written again after the core had forgotten its tombstone.
        store.put(vec![record(2, b"new")]).await.unwrap();
        store.forget(vec![gone(1), gone(2), gone(3), gone(4)]).await.unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(stored(&store).await, [(2, b"new".to_vec()), (3, b"c".to_vec())]);
}

#[tokio::test]
async fn an_incarnation_is_never_drawn_twice() {
    let dir = tempfile::tempdir().unwrap();
    let backup = tempfile::tempdir().unwrap();
    let mut drawn = Vec::new();
    for wall in [5, 5, 1000, 3] {
        let store = Store::open(dir.path()).unwrap();
        drawn.push(store.draw_incarnation(Wall(wall)).await.unwrap().0);
        drawn.push(store.draw_incarnation(Wall(wall)).await.unwrap().0);
        if wall == 1000 {
            drop(store);
            std::fs::copy(file(dir.path()), file(backup.path())).unwrap();
        }
    }
    assert!(drawn.is_sorted_by(|a, b| a < b), "{drawn:?}");
    // A restored backup does not know of the last ones; the wall clock has moved on.
    let restored = Store::open(backup.path()).unwrap();
    let again = restored.draw_incarnation(Wall(2000)).await.unwrap().0;
    assert!(!drawn.contains(&again), "{again} in {drawn:?}");
}

#[tokio::test]
async fn a_record_that_is_too_large_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let huge = record(1, &vec![0; 3 * 1024 * 1024]);
    assert!(matches!(store.put(vec![huge]).await, Err(WriteError::TooLarge { .. })));
    store.put(vec![record(2, b"b")]).await.unwrap();
    assert_eq!(stored(&store).await, [(2, b"b".to_vec())]);
}

/// Many writers at once: each gets its own answer, and all of it is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_writes_are_all_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = std::sync::Arc::new(Store::open(dir.path()).unwrap());
    let writers = (0..300).map(|id| {
        let store = store.clone();
        tokio::spawn(async move { store.put(vec![record(id, &id.to_be_bytes())]).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap().unwrap();
    }
    assert_eq!(stored(&store).await.len(), 300);
}

/// The child of [`what_was_acknowledged_survives_kill_9`]; does nothing in a plain test run.
#[tokio::test]
async fn write_until_killed() {
    let Ok(dir) = std::env::var("SHOAL_TEST_STORE_DIR") else { return };
    let store = Store::open(Path::new(&dir)).unwrap();
    for id in 0.. {
        store.put(vec![record(id, &vec![id as u8; 2000])]).await.unwrap();
        // Past the test harness's capture: the parent reads this.
        use std::io::Write;
        writeln!(std::io::stdout(), "stored {id}").unwrap();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    for enough in [3, 40, 150] {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::tests::kept::write_until_killed", "--nocapture"])
            .env("SHOAL_TEST_STORE_DIR", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let number = |line: String| line.strip_prefix("stored ")?.parse::<u128>().ok();
        let reached = lines.by_ref().filter_map(number).find(|id| *id >= enough);
        assert!(reached.is_some(), "the child ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = lines.filter_map(number).last().max(reached).unwrap();
        let store = Store::open(dir.path()).unwrap();
        let ids = stored(&store).await.into_iter().map(|(id, _)| id).collect::<Vec<_>>();
        for id in 0..=acknowledged {
            assert!(ids.contains(&id), "{id} of {acknowledged} was acknowledged and is gone");
        }
    }
}
