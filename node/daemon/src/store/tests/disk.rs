//! Full, read-only, forbidden, in use: real file systems, made in a mount namespace of the test's own
//! thread. Without root they cannot be made, and the test says so instead of passing silently.

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use super::*;

const MIB: usize = 1024 * 1024;

/// Runs `test` with a fresh tmpfs of `mib` mebibytes that only it can see.
fn on_small_disk(mib: usize, test: impl FnOnce(&Path) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        #[allow(
            clippy::print_stderr,
            reason = "a test that did not run must not look like one that did"
        )]
        {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            eprintln!("SKIPPED {name}: it mounts file systems, which only root may");
        }
        return;
    }
    let in_thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = format!("size={mib}m");
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(&*options)).unwrap();
        test(dir.path());
        nix::mount::umount2(dir.path(), nix::mount::MntFlags::MNT_DETACH).unwrap();
    });
    in_thread.join().unwrap();
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

fn remount(dir: &Path, flags: MsFlags) {
    let none = None::<&str>;
    mount(none, dir, none, MsFlags::MS_REMOUNT | flags, none).unwrap();
}

#[test]
fn on_disk_that_is_full_writes_fail_in_words_and_work_again_when_there_is_room() {
    on_small_disk(8, |dir| {
        block_on(async {
            let store = Store::open(&dir.join("data")).unwrap();
            store.put(vec![record(0, b"first")]).await.unwrap();
            let ballast = dir.join("ballast");
            // As large as it gets: the write ends where the disk does.
            let _ = std::fs::write(&ballast, vec![1; 9 * MIB]);
            let mut acknowledged = vec![0];
            let mut failure = None;
            for id in 1..100 {
                match store.put(vec![record(id, &vec![id as u8; 200 * 1024])]).await {
                    Ok(()) => acknowledged.push(id),
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            let failure = failure.expect("the disk never became full");
            assert!(matches!(failure, WriteError::Full { .. }), "{failure:?}");
            assert!(failure.to_string().contains("is full"), "{failure}");
            // Still full: fails the same way, and what is there can be read as soon as there is room.
            let again = store.put(vec![record(500, &vec![5; 200 * 1024])]).await;
            assert!(matches!(again, Err(WriteError::Full { .. })), "{again:?}");
            std::fs::remove_file(&ballast).unwrap();
            store.put(vec![record(1000, b"after")]).await.unwrap();
            acknowledged.push(1000);
            let ids =
                |found: Vec<(u128, Vec<u8>)>| found.into_iter().map(|f| f.0).collect::<Vec<_>>();
            assert_eq!(ids(stored(&store).await), acknowledged);
            drop(store);
            let store = Store::open(&dir.join("data")).unwrap();
            assert_eq!(ids(stored(&store).await), acknowledged);
        });
    });
}

#[test]
fn on_disk_without_room_for_a_new_store_says_so_and_leaves_nothing() {
    on_small_disk(1, |dir| {
        let _ = std::fs::write(dir.join("ballast"), vec![1; 2 * MIB]);
        let error = Store::open(&dir.join("data")).unwrap_err();
        assert!(matches!(error, OpenError::Full { .. }), "{error:?}");
        assert!(!file(&dir.join("data")).exists());
        std::fs::remove_file(dir.join("ballast")).unwrap();
    });
}

#[test]
fn on_disk_that_is_read_only_a_store_does_not_open_and_an_open_one_says_so() {
    on_small_disk(8, |dir| {
        block_on(async {
            filled(&dir.join("data")).await;
            remount(dir, MsFlags::MS_RDONLY);
            let error = Store::open(&dir.join("data")).unwrap_err();
            assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
            assert!(error.to_string().contains("read-only"), "{error}");
            let error = Store::open(&dir.join("other")).unwrap_err();
            assert!(matches!(error, OpenError::ReadOnly { .. }), "{error:?}");
            remount(dir, MsFlags::empty());
            assert_eq!(stored(&Store::open(&dir.join("data")).unwrap()).await.len(), 20);
        });
    });
}

/// Root may open anything, so another user tries.
#[test]
fn on_disk_of_another_user_a_store_does_not_open() {
    on_small_disk(8, |dir| {
        block_on(filled(&dir.join("data")));
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        // Only this thread loses its rights (the raw call is per thread on Linux; glibc's is not), so
        // the capability that ignores permissions is dropped by changing the file system user.
        let nobody = nix::unistd::Uid::from_raw(65534);
        nix::unistd::setfsuid(nobody);
        let error = Store::open(&dir.join("data")).unwrap_err();
        nix::unistd::setfsuid(nix::unistd::Uid::from_raw(0));
        assert!(matches!(error, OpenError::Permission { .. }), "{error:?}");
        assert!(error.to_string().contains("chown"), "{error}");
    });
}

#[test]
fn a_store_in_use_names_who_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    let me = std::process::id();
    assert!(matches!(error, OpenError::InUse { pid: Some(pid), .. } if pid == me), "{error:?}");
    assert!(error.to_string().contains(&format!("another shoal (pid {me})")), "{error}");
    drop(first);
    Store::open(dir.path()).unwrap();
}

#[test]
fn secrets_on_the_disk_are_for_the_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    drop(Store::open(&data).unwrap());
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&data), mode(&file(&data))), (0o700, 0o600));
}
