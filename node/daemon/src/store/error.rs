//! What can go wrong with the store, in words that say what is still true and what to do next.

use std::io;
use std::path::{Path, PathBuf};

use membership::wire::WireError;
use nix::errno::Errno;

/// The way out of a store that cannot be used.
const JOIN_AGAIN: &str = "The other nodes hold every record: move the file aside (do not delete it yet) and start this node with --join ADDRESS of any of them";

/// Why the store could not be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "another shoal ({}) uses the data directory {}: nothing was changed. Stop it, or give this one a --data-dir of its own",
        pid.map_or("its pid is not known".to_owned(), |pid| format!("pid {pid}")), dir.display()
    )]
    InUse { dir: PathBuf, pid: Option<u32> },
    #[error(
        "the store {} was written by a newer shoal (format {found}; this one knows {known}): nothing was changed. Start the newer shoal again, or: {JOIN_AGAIN}", path.display()
    )]
    NewerFormat { path: PathBuf, found: u64, known: u64 },
    #[error(
        "the store {} has format {found}, which this shoal (format {known}) can no longer read: nothing was changed. Start once with a shoal in between, or: {JOIN_AGAIN}", path.display()
    )]
    OlderFormat { path: PathBuf, found: u64, known: u64 },
    #[error("{} is not a store of shoal ({why}): it was not touched. {JOIN_AGAIN}", path.display())]
    NotAStore { path: PathBuf, why: String },
    #[error("the store {} is damaged ({why}): it was not touched. {JOIN_AGAIN}", path.display())]
    Damaged { path: PathBuf, why: String },
    #[error(
        "cannot {doing} {}: the file system is read-only. Nothing was changed. Remount it (a disk with errors is often remounted read-only by the kernel: see dmesg), or give another --data-dir", path.display()
    )]
    ReadOnly { path: PathBuf, doing: &'static str },
    #[error(
        "cannot {doing} {}: permission denied. Nothing was changed. Start shoal as the user that owns it, or give that user the directory (chown, chmod 700)", path.display()
    )]
    Permission { path: PathBuf, doing: &'static str },
    #[error(
        "cannot {doing} {}: the disk is full. What was stored before is intact. Free some space and start again", path.display()
    )]
    Full { path: PathBuf, doing: &'static str },
    #[error("cannot {doing} {}: {reason}. Nothing that was stored before was changed", path.display())]
    Io { path: PathBuf, doing: &'static str, reason: String },
}

impl OpenError {
    pub(super) fn from_io(path: &Path, doing: &'static str, error: &io::Error) -> Self {
        let path = path.to_owned();
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EROFS) => Self::ReadOnly { path, doing },
            Some(Errno::EACCES | Errno::EPERM) => Self::Permission { path, doing },
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::Full { path, doing },
            _ => Self::Io { path, doing, reason: error.to_string() },
        }
    }

    /// For errors of redb while the file is opened for writing, after it was found to be sound.
    pub(super) fn from_redb(path: &Path, doing: &'static str, error: redb::Error) -> Self {
        match error {
            redb::Error::Io(io) => Self::from_io(path, doing, &io),
            redb::Error::DatabaseAlreadyOpen => {
                let dir = path.parent().unwrap_or(path).to_owned();
                Self::InUse { dir, pid: None }
            }
            other => Self::Damaged { path: path.to_owned(), why: other.to_string() },
        }
    }
}

/// Why something could not be stored (or read). What was stored before is intact, and the store goes
/// on by itself as soon as the cause is gone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    #[error(
        "the disk with {} is full: nothing of this was stored, everything stored before is intact. Free some space; nothing needs to be restarted", path.display()
    )]
    Full { path: PathBuf },
    #[error(
        "the file system with {} is read-only: nothing of this was stored, everything stored before is intact. The kernel remounts a disk with errors read-only: see dmesg", path.display()
    )]
    ReadOnly { path: PathBuf },
    #[error(
        "the disk with {} failed ({reason}): this must be taken as not stored. See dmesg; the other nodes hold every record", path.display()
    )]
    Disk { path: PathBuf, reason: String },
    #[error("the store {} cannot be used ({reason}): this must be taken as not stored", path.display())]
    Unusable { path: PathBuf, reason: String },
    #[error("{what} cannot be stored: {why}. Nothing was changed")]
    TooLarge { what: String, why: String },
    #[error("the store is closed: shoal is ending. This was not stored")]
    Closed,
}

impl WriteError {
    pub(super) fn from_redb(path: &Path, error: redb::Error) -> Self {
        let path = path.to_owned();
        match error {
            redb::Error::Io(io) => match io.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSPC | Errno::EDQUOT) => Self::Full { path },
                Some(Errno::EROFS) => Self::ReadOnly { path },
                _ => Self::Disk { path, reason: io.to_string() },
            },
            other => Self::Unusable { path, reason: other.to_string() },
        }
    }

    pub(super) fn from_open(path: &Path, error: OpenError) -> Self {
        let path = path.to_owned();
        match error {
            OpenError::Full { .. } => Self::Full { path },
            OpenError::ReadOnly { .. } => Self::ReadOnly { path },
            other => Self::Unusable { path, reason: other.to_string() },
        }
    }

    pub(super) fn unencodable(what: String, error: &WireError) -> Self {
        Self::TooLarge { what, why: error.to_string() }
    }
}
