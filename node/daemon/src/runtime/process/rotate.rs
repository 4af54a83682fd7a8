//! Keeps the output of long-running processes small.
//!
//! A process writes into its file itself, so that its output survives the end of shoal; the file can
//! therefore not be swapped under it. When it has grown large it is copied away and cut to nothing;
//! what is written between the two is lost (copytruncate, as logrotate has it).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Shared, output};

/// A file of output is cut when it is larger than this. Of each stream at most about twice as much is
/// kept, one old file and the present one.
const MAX_BYTES: u64 = 8 * 1024 * 1024;
/// How often the sizes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

pub(super) async fn run(shared: Arc<Shared>) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = shared.ended.cancelled() => return,
        }
        let running =
            shared.tasks().values().filter(|t| t.process().is_some()).cloned().collect::<Vec<_>>();
        let cut = tokio::task::spawn_blocking(move || {
            for task in running {
                for name in [output::STDOUT, output::STDERR] {
                    let path = task.dir.join(name);
                    if let Err(error) = rotate(&path, MAX_BYTES) {
                        tracing::warn!(path = %path.display(), %error, "a log could not be cut");
                    }
                }
            }
        });
        let _ = cut.await;
    }
}

/// Where the older part of a file of output is.
pub(super) fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    PathBuf::from(name)
}

fn rotate(path: &Path, max_bytes: u64) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if found.len() > max_bytes => {}
        Ok(_) => return Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    }
    let copied = fs::copy(path, older(path));
    // Cut also when there is no room for the copy: a full disk harms more than a lost log.
    File::options().write(true).open(path)?.set_len(0)?;
    copied.map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_large_file_is_moved_away_and_its_writer_goes_on_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stdout.log");
        let mut writer = File::options().append(true).create(true).open(&path).unwrap();
        writer.write_all(b"0123456789").unwrap();
        rotate(&path, 10).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"0123456789");
        rotate(&path, 9).unwrap();
        writer.write_all(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(older(&path)).unwrap(), b"0123456789");
        rotate(&dir.path().join("absent"), 1).unwrap();
    }
}
