//! From a directory to an open store: the lock, the check, the first creation.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use redb::{Builder, Database};

use super::OpenError;
use super::check::check;
use super::format::{COUNTERS, FORMAT, FORMAT_COUNTER, META, RECORDS};

pub(super) const STORE_FILE: &str = "store.redb";
const LOCK_FILE: &str = "lock";
const NEW_FILE: &str = "store.redb.new";

/// How much of the file redb keeps in memory. All records are in memory anyway, in the core.
const CACHE_BYTES: usize = 1024 * 1024;

/// An open store with the lock that makes it ours.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) database: Option<Database>,
    pub(super) path: PathBuf,
    // Held until the process ends, however it ends: the kernel frees it.
    _lock: Flock<File>,
}

pub(super) fn open(dir: &Path) -> Result<Opened, OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| OpenError::from_io(dir, "make the directory", &e))?;
    let lock = lock(dir)?;
    let path = dir.join(STORE_FILE);
    match path.symlink_metadata() {
        Ok(_) => check(&path)?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => create(dir, &path)?,
        Err(e) => return Err(OpenError::from_io(&path, "look at", &e)),
    }
    let database = open_checked(&path)?;
    Ok(Opened { database: Some(database), path, _lock: lock })
}

/// Opens a file that [`check`] has found sound, or that this process had open before.
pub(super) fn open_checked(path: &Path) -> Result<Database, OpenError> {
    Builder::new()
        .set_cache_size(CACHE_BYTES)
        .open(path)
        .map_err(|e| OpenError::from_redb(path, "open", e.into()))
}

fn lock(dir: &Path) -> Result<Flock<File>, OpenError> {
    let path = dir.join(LOCK_FILE);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(|e| OpenError::from_io(&path, "open the lock", &e))?;
    let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let mut text = String::new();
            let read = Read::by_ref(&mut file).take(20).read_to_string(&mut text);
            let pid = read.ok().and_then(|_| text.trim().parse().ok());
            return Err(OpenError::InUse { dir: dir.to_owned(), pid });
        }
        Err((_, errno)) => return Err(OpenError::from_io(&path, "lock", &errno.into())),
    };
    let mut write_pid = || -> std::io::Result<()> {
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())
    };
    write_pid().map_err(|e| OpenError::from_io(&path, "write the lock", &e))?;
    Ok(lock)
}

/// Makes an empty store under another name and renames it when it is whole, so that a crash leaves
/// none rather than half of one.
fn create(dir: &Path, path: &Path) -> Result<(), OpenError> {
    let new = dir.join(NEW_FILE);
    let failed = |e: std::io::Error| OpenError::from_io(path, "create", &e);
    // What an earlier attempt left holds nothing: it never got its name.
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    // Records hold secrets: nobody else reads the file. redb takes an empty file for a new database.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    let made = initialize(&new).map_err(|e| OpenError::from_redb(path, "create", e));
    if let Err(error) = made {
        let _ = std::fs::remove_file(&new);
        return Err(error);
    }
    std::fs::rename(&new, path).map_err(failed)?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed)
}

fn initialize(new: &Path) -> Result<(), redb::Error> {
    let database = Builder::new().set_cache_size(CACHE_BYTES).create(new)?;
    let transaction = database.begin_write()?;
    {
        transaction.open_table(COUNTERS)?.insert(FORMAT_COUNTER, FORMAT)?;
        transaction.open_table(RECORDS)?;
        transaction.open_table(META)?;
    }
    transaction.commit()?;
    Ok(())
}
