//! `compare`: the figures of two runs side by side.

use std::path::{Path, PathBuf};

use clap::Args;

use super::Ended;
use crate::compare::{self, MOST_BYTES};
use crate::figures::Sheet;
use crate::scenario::amount;

#[derive(Args, Clone, Debug)]
pub struct CompareFlags {
    /// The figures of the earlier run, kept with --save or --json.
    baseline: PathBuf,
    /// The figures of the later run.
    later: PathBuf,
    /// How much worse is still taken.
    #[arg(long, default_value = "10%", value_parser = amount::share)]
    margin: u32,
}

fn read(path: &Path) -> Result<Sheet, String> {
    let failed = |error: std::io::Error| format!("{} cannot be read: {error}", path.display());
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MOST_BYTES {
        return Err(format!(
            "{} is larger than {MOST_BYTES} bytes: that is no baseline",
            path.display()
        ));
    }
    let text = std::fs::read_to_string(path).map_err(failed)?;
    compare::baseline(&text).map_err(|error| format!("{} {error}", path.display()))
}

pub(super) fn run(flags: &CompareFlags) -> Ended {
    match read(&flags.baseline).and_then(|before| Ok((before, read(&flags.later)?))) {
        Ok((before, later)) => show(&before, &later, flags.margin),
        Err(error) => {
            eprintln!("{error}");
            Ended::Refused
        }
    }
}

/// Compares a run with a kept baseline, and prints both.
pub(super) fn against(path: &Path, now: &Sheet, margin: u32) -> Ended {
    match read(path) {
        Ok(before) => show(&before, now, margin),
        Err(error) => {
            eprintln!("{error}");
            Ended::Refused
        }
    }
}

fn show(before: &Sheet, now: &Sheet, margin: u32) -> Ended {
    match compare::compare(before, now, margin) {
        Ok(lines) => {
            println!("{}", compare::table(&lines));
            if compare::is_worse(&lines) {
                println!("worse than the baseline by more than {}.{}%", margin / 10, margin % 10);
                Ended::Found
            } else {
                Ended::Clean
            }
        }
        Err(error) => {
            eprintln!("{error}");
            Ended::Refused
        }
    }
}

/// Keeps the figures of a run.
///
/// # Errors
/// A sentence that says what failed.
pub(super) fn save(path: &Path, sheet: &Sheet) -> Result<(), String> {
    let text = serde_json::to_string_pretty(sheet).map_err(|error| error.to_string())?;
    std::fs::write(path, text + "\n").map_err(|error| {
        format!("the run is over, but its figures cannot be written to {}: {error}", path.display())
    })
}
