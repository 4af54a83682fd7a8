//! What a node keeps on its disk: the records of desired state, and numbers that
//! must never be used twice.
//!
//! One file (redb) in the data directory, owned by one process at a time (a lock file says which) and
//! written by one thread of its own. Writes that wait together are committed together, each commit is
//! on the disk (fsync) before anybody is told so, and a failed one leaves what was there.
//!
//! A store that is damaged, is of a newer format or belongs to something else is refused and left
//! exactly as it is: everything is checked in memory, over a read-only view of the file, before the
//! file is opened for writing. All nodes hold all records, so the way out of a lost store is always
//! the same: move it aside and join again.
//!
//! ```text
//! check.rs    reads the file through overlay.rs, verifies every page, decides whether it may be opened
//! format.rs   tables, keys and values: how a record looks on the disk
//! open.rs     directory, lock, first creation
//! writer.rs   the thread: group commit, and getting over a failed one
//! ```

use std::path::{Path, PathBuf};

use membership::id::Incarnation;
use membership::record::{Key, Record};
use membership::time::Wall;
use tokio::sync::{mpsc, oneshot};

mod check;
mod error;
mod format;
mod open;
mod overlay;
mod writer;

#[cfg(test)]
mod tests;

pub use error::{OpenError, WriteError};
pub use format::FORMAT;

/// How many writes wait for the disk. When it is full, callers wait with theirs.
pub const WRITE_QUEUE: usize = 256;

/// A record that is in the store and cannot be used. It stays where it is; a good copy from another
/// node replaces it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// `None` when not even the key can be read.
    pub key: Option<Key>,
    pub why: String,
}

/// An open store. Cheap to share by reference; dropping it writes what was accepted, then closes.
#[derive(Debug)]
pub struct Store {
    // Both are `Some` until `drop`.
    queue: Option<mpsc::Sender<writer::Request>>,
    thread: Option<std::thread::JoinHandle<()>>,
    dir: PathBuf,
}

impl Store {
    /// Opens the store in `dir`, or makes a new one where there is none. Reads the whole file once.
    /// Blocking: call it before the loop starts.
    ///
    /// # Errors
    /// [`OpenError`]; nothing in `dir` was changed, except that a missing directory may have been made.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let opened = open::open(dir)?;
        let (queue, requests) = mpsc::channel(WRITE_QUEUE);
        let thread = std::thread::Builder::new()
            .name("shoal-store".into())
            .spawn(move || writer::run(opened, requests))
            .map_err(|e| OpenError::from_io(dir, "start a thread for", &e))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), dir: dir.to_owned() })
    }

    /// Every record, and every one that cannot be read.
    ///
    /// # Errors
    /// [`WriteError`] when the file as a whole cannot be read.
    pub async fn load_records(&self) -> Result<(Vec<Record>, Vec<Damaged>), WriteError> {
        self.ask(|reply| writer::Request::LoadRecords { reply }).await
    }

    /// Puts records on the disk, all or none, each replacing what is there under its key. `Ok` means
    /// that they survive a power cut.
    ///
    /// # Errors
    /// [`WriteError`] says whether the disk or a record was at fault. What was stored before is intact,
    /// and a later call works again once its cause is gone.
    pub async fn put(&self, records: Vec<Record>) -> Result<(), WriteError> {
        let rows = records.iter().map(format::record_row).collect::<Result<Vec<_>, _>>()?;
        self.write(writer::Change::Records(rows)).await.map(drop)
    }

    /// Deletes records, each only if it is this very one that is stored under its key: forgetting what was
    /// removed long ago must not take what was written under the same key meanwhile.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn forget(&self, records: Vec<Record>) -> Result<(), WriteError> {
        let rows = records.iter().map(format::record_row).collect::<Result<Vec<_>, _>>()?;
        self.write(writer::Change::Forget(rows)).await.map(drop)
    }

    /// A number that this node has never used as its incarnation and never will again: greater than
    /// the last one and than the wall clock, so that a disk restored from a backup repeats none. It is
    /// on the disk before it is returned.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn draw_incarnation(&self, now: Wall) -> Result<Incarnation, WriteError> {
        self.write(writer::Change::DrawIncarnation(now)).await.map(Incarnation)
    }

    /// A small value of the daemon's own, by name.
    ///
    /// # Errors
    /// As [`Store::load_records`].
    pub async fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, WriteError> {
        let name = format::meta_name(name);
        self.ask(|reply| writer::Request::Meta { name, reply }).await
    }

    /// Sets a small value of the daemon's own. At most [`format::MAX_META_BYTES`].
    ///
    /// # Errors
    /// As [`Store::put`].
    pub async fn set_meta(&self, name: &str, value: Vec<u8>) -> Result<(), WriteError> {
        if value.len() > format::MAX_META_BYTES {
            return Err(WriteError::TooLarge {
                what: format!("the value '{name}'"),
                why: format!("{} bytes, at most {}", value.len(), format::MAX_META_BYTES),
            });
        }
        self.write(writer::Change::Meta(format::meta_name(name), value)).await.map(drop)
    }

    /// The directory that the store is in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    async fn write(&self, change: writer::Change) -> Result<u64, WriteError> {
        self.ask(|reply| writer::Request::Write { change, reply }).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, WriteError>>) -> writer::Request,
    ) -> Result<T, WriteError> {
        let (reply, answer) = oneshot::channel();
        let queue = self.queue.as_ref().ok_or(WriteError::Closed)?;
        queue.send(request(reply)).await.map_err(|_| WriteError::Closed)?;
        answer.await.unwrap_or(Err(WriteError::Closed))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // Closing the queue ends the thread after what was accepted; joining it frees the lock, so that
        // whoever opens the store next does not find it in use.
        drop(self.queue.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
