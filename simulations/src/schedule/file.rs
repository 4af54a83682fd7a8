//! Schedules as files: TOML, with the version in front.

use std::path::{Path, PathBuf};

use super::{Schedule, VERSION};

/// The largest file that is read: some 100,000 steps.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most hosts of a run from a file: what a run in one process can bear.
const MOST_HOSTS: u32 = 2_000;

/// Why a schedule could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    #[error("cannot read the schedule {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("cannot write the schedule {path}: {error}; it is lost, the run's seed makes it again")]
    Write { path: PathBuf, error: std::io::Error },
    #[error(
        "{path} has {bytes} bytes, more than the {MAX_FILE_BYTES} of the longest schedule: is it one?"
    )]
    TooLong { path: PathBuf, bytes: u64 },
    #[error("{path} is no schedule that this program understands: {error}")]
    Parse { path: PathBuf, error: Box<toml::de::Error> },
    #[error(
        "{path} is of version {found}, and this program knows version {VERSION}: use the program that wrote it"
    )]
    Version { path: PathBuf, found: u16 },
    #[error("{path} wants {found} hosts: a schedule has 1 to {MOST_HOSTS}")]
    Hosts { path: PathBuf, found: u64 },
    #[error("the schedule cannot be put into words: {0}")]
    Format(#[from] toml::ser::Error),
}

impl Schedule {
    /// As the text of a file.
    ///
    /// # Errors
    /// When a number is too large for TOML.
    pub fn text(&self) -> Result<String, FileError> {
        Ok(toml::to_string(self)?)
    }

    /// # Errors
    /// See [`FileError`].
    pub fn save(&self, path: &Path) -> Result<(), FileError> {
        let text = self.text()?;
        let failed = |error| FileError::Write { path: path.to_owned(), error };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(path, text).map_err(failed)
    }

    /// # Errors
    /// See [`FileError`].
    pub fn load(path: &Path) -> Result<Self, FileError> {
        let read = |error| FileError::Read { path: path.to_owned(), error };
        let bytes = std::fs::metadata(path).map_err(read)?.len();
        if bytes > MAX_FILE_BYTES {
            return Err(FileError::TooLong { path: path.to_owned(), bytes });
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        let schedule: Self = toml::from_str(&text)
            .map_err(|error| FileError::Parse { path: path.to_owned(), error: Box::new(error) })?;
        if schedule.version != VERSION {
            return Err(FileError::Version { path: path.to_owned(), found: schedule.version });
        }
        let hosts = u64::from(schedule.hosts) + u64::from(schedule.spare);
        if schedule.hosts == 0 || hosts > u64::from(MOST_HOSTS) {
            return Err(FileError::Hosts { path: path.to_owned(), found: hosts });
        }
        Ok(schedule)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

    use super::*;

    #[test]
    fn what_is_saved_is_loaded_and_anything_else_is_refused_in_words() {
        let folder = std::env::temp_dir().join(format!("shoal-schedule-{}", std::process::id()));
        // The folder is made when it is not there.
        let path = folder.join("deeper").join("some.toml");
        for seed in 1..40 {
            let schedule = Schedule::draw(seed);
            schedule.save(&path).unwrap();
            assert_eq!(Schedule::load(&path).unwrap(), schedule);
        }
        let refused = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Schedule::load(&path).unwrap_err().to_string()
        };
        assert!(refused("version = 2\nseed = 1\nhosts = 3\nheal_ms = 5").contains("version 2"));
        assert!(refused("version = 1\nseed = 1\nhosts = 0\nheal_ms = 5").contains("0 hosts"));
        assert!(refused("version = 1\nseed = 1\nhosts = 3\nheal_ms = 5\nx = 1").contains("`x`"));
        assert!(refused("\u{0}").contains("no schedule"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(Schedule::load(&path).unwrap_err().to_string().contains("cannot read"));
    }

    #[test]
    fn the_format_is_frozen() {
        let text = "\
version = 1
seed = 7
hosts = 3
spare = 0
zones = 0
per_rack = 0
clocks_off_ms = 20
events_lost = 0
start_fails = 0
heal_ms = 60000

[[steps]]
at_ms = 9000

[steps.do.operator]
on = 1

[steps.do.operator.act.create]
service = 1

[steps.do.operator.act.create.draft]
image = \"sim/web\"
replicas = 4

[[steps]]
at_ms = 30000

[steps.do.fault]
kind = \"crash\"
hosts = [2]
lasts_ms = 5000
amount = 0
";
        let schedule: Schedule = toml::from_str(text).unwrap();
        assert_eq!(schedule.steps.len(), 2);
        assert_eq!(schedule.text().unwrap(), text);
    }
}
