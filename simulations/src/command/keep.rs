//! What a run leaves behind, the same for every command that makes one: figures as a table or as JSON, a file
//! to compare later runs with, a comparison with an earlier one, and a report.

use std::path::PathBuf;

use clap::Args;

use super::{Ended, compare};
use crate::figures::{Sheet, table};
use crate::report::{self, Material};
use crate::scenario::amount;

#[derive(Args, Clone, Debug, Default)]
pub(super) struct KeepFlags {
    /// Print the figures as JSON.
    #[arg(long)]
    pub(super) json: bool,
    /// Write a report to this file: one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Keep the figures in this file, as a baseline for later runs.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare the figures with a baseline; the exit code says whether they are worse.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// How much worse than the baseline is still taken.
    #[arg(long, default_value = "10%", value_parser = amount::share)]
    margin: u32,
}

impl KeepFlags {
    /// The first flag given that is about one run, and so means nothing for several.
    pub(super) fn of_one_run(&self) -> Option<&'static str> {
        let given = [
            ("--html", self.html.is_some()),
            ("--save", self.save.is_some()),
            ("--against", self.against.is_some()),
        ];
        given.into_iter().find(|(_, given)| *given).map(|(flag, _)| flag)
    }

    /// Writes what was asked for to files.
    ///
    /// # Errors
    /// A sentence that says what could not be written.
    pub(super) fn keep(&self, material: &Material<'_>) -> Result<(), String> {
        if let Some(path) = &self.save {
            compare::save(path, material.sheet)?;
        }
        let Some(path) = &self.html else { return Ok(()) };
        std::fs::write(path, report::html(material)).map_err(|error| {
            format!(
                "the run is over, but its report cannot be written to {}: {error}",
                path.display()
            )
        })?;
        eprintln!("the report is in {}", path.display());
        Ok(())
    }

    /// The figures, in the form that was asked for.
    pub(super) fn print(&self, sheet: &Sheet) {
        if self.json {
            println!("{}", as_json(sheet));
        } else {
            println!("{}", table(sheet));
        }
    }

    /// How a run ended of which this was kept, held against the baseline if there is one.
    pub(super) fn end(&self, sheet: &Sheet, kept: Result<(), String>) -> Ended {
        if let Err(error) = kept {
            eprintln!("{error}");
            return Ended::Refused;
        }
        let ended = Ended::with(sheet.violations);
        match &self.against {
            Some(baseline) => ended.max(compare::against(baseline, sheet, self.margin)),
            None => ended,
        }
    }
}

fn as_json(sheet: &Sheet) -> String {
    serde_json::to_string_pretty(sheet).unwrap_or_else(|error| error.to_string())
}
