//! Is this file a sound store of a format we know? Answered without writing a byte to it.

use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use redb::{Builder, ReadableDatabase, TableError};

use super::OpenError;
use super::format::{COUNTERS, FORMAT, FORMAT_COUNTER};
use super::overlay::Overlay;

/// The first bytes of every redb file (docs/design.md in redb).
const MAGIC: [u8; 9] = [b'r', b'e', b'd', b'b', 0x1A, 0x0A, 0xA9, 0x0D, 0x0A];

/// How much of the file redb may keep in memory while it is checked.
const CHECK_CACHE_BYTES: usize = 2 * 1024 * 1024;

/// # Errors
/// [`OpenError`] when the file must not be opened for writing.
pub(super) fn check(path: &Path) -> Result<(), OpenError> {
    let unreadable = |e: std::io::Error| OpenError::from_io(path, "read", &e);
    let mut file = File::open(path).map_err(unreadable)?;
    if !file.metadata().map_err(unreadable)?.is_file() {
        return Err(OpenError::NotAStore { path: path.to_owned(), why: "it is not a file".into() });
    }
    let mut magic = Vec::new();
    (&mut file).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(unreadable)?;
    if magic != MAGIC {
        return Err(if MAGIC.starts_with(&magic) {
            damaged(path, format!("it ends after {} bytes", magic.len()))
        } else {
            let why = "it begins with other bytes than every store does".to_owned();
            OpenError::NotAStore { path: path.to_owned(), why }
        });
    }
    let overlay = Overlay::new(file).map_err(unreadable)?;
    // redb promises an error for every damaged file, and a damaged file is no place to rely on a
    // promise: in debug builds some of its own checks panic.
    let verdict = catch_unwind(AssertUnwindSafe(|| verify(path, overlay)));
    verdict.unwrap_or_else(|_| Err(damaged(path, "reading it failed an internal check".into())))
}

fn verify(path: &Path, overlay: Overlay) -> Result<(), OpenError> {
    let wrong = |e: redb::Error| match e {
        redb::Error::Io(io)
            if io.kind() != std::io::ErrorKind::InvalidData
                && io.kind() != std::io::ErrorKind::UnexpectedEof =>
        {
            OpenError::from_io(path, "read", &io)
        }
        other => damaged(path, other.to_string()),
    };
    let database = Builder::new()
        .set_cache_size(CHECK_CACHE_BYTES)
        .set_check_integrity_on_open(true)
        .create_with_backend(overlay)
        .map_err(|e| wrong(e.into()))?;
    let transaction = database.begin_read().map_err(|e| wrong(e.into()))?;
    let found = match transaction.open_table(COUNTERS) {
        Ok(counters) => {
            counters.get(FORMAT_COUNTER).map_err(|e| wrong(e.into()))?.map(|v| v.value())
        }
        Err(TableError::Storage(error)) => return Err(wrong(error.into())),
        Err(_) => None,
    };
    let path = path.to_owned();
    match found {
        Some(FORMAT) => Ok(()),
        Some(found) if found > FORMAT => Err(OpenError::NewerFormat { path, found, known: FORMAT }),
        Some(found) => Err(OpenError::OlderFormat { path, found, known: FORMAT }),
        None => {
            let why = "it is a database of some other program".to_owned();
            Err(OpenError::NotAStore { path, why })
        }
    }
}

fn damaged(path: &Path, why: String) -> OpenError {
    OpenError::Damaged { path: path.to_owned(), why }
}
