//! Removes the bed of a program that can no longer do it.
//!
//! Ctrl-C and SIGKILL end a test without running its destructors. So each bed has a guard, a process in a
//! session of its own that holds the end of a pipe: it ends quietly when told so, and removes the bed when
//! the pipe breaks.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::record::Record;
use crate::{logs, removal, shoal};

/// What dismisses the guard; anything else, above all nothing, is an accident.
const DISMISSED: u8 = b'.';

/// The running guard of a bed.
#[derive(Debug)]
pub(crate) struct Guard {
    child: Child,
}

impl Guard {
    /// Starts one for the bed in `directory`.
    pub(crate) fn start(directory: &Path) -> Result<Guard> {
        let child = Command::new("setsid")
            .arg(program()?)
            .arg("guard")
            .arg(directory)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .context("cannot start the bed's guard")?;
        Ok(Guard { child })
    }

    /// Tells it that all is well.
    pub(crate) fn dismiss(mut self) -> Result<()> {
        if let Some(mut stdin) = self.child.stdin.take() {
            stdin.write_all(&[DISMISSED]).context("the bed's guard is gone")?;
        }
        self.child.wait()?;
        Ok(())
    }
}

/// What `testbed guard DIRECTORY` does: waits on standard input.
pub fn stand(directory: &Path) -> Result<()> {
    let mut heard = Vec::new();
    std::io::stdin().read_to_end(&mut heard)?;
    if heard == [DISMISSED] || !directory.exists() {
        return Ok(());
    }
    let record = Record::load(directory)?;
    logs::say(&format!("the program of bed {} ended before it was done", record.name));
    logs::keep_and_show(&record);
    removal::remove(&record)
}

/// The `testbed` program, in the same profile as the running one.
fn program() -> Result<PathBuf> {
    let myself = std::env::current_exe()?;
    for folder in myself.ancestors().skip(1).take(2) {
        let path = folder.join("testbed");
        if path.is_file() {
            return Ok(path);
        }
    }
    let target = shoal::target_directory().unwrap_or_default();
    bail!(
        "the program `testbed` is not beside {}; build it: cargo build -p tests --bins (target {})",
        myself.display(),
        target.display()
    )
}
