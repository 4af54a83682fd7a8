//! What is kept of a bed whose test failed: every log, what the engines held at that moment, and the last
//! lines of each shown where the failure is.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::host::{Host, Power};
use crate::record::Record;
use crate::run;
use crate::wait::secs;

const SHOAL_LINES: usize = 25;
const OTHER_LINES: usize = 5;

/// Copies the logs out of the bed and shows the end of each. Never fails: it runs when something has.
pub(crate) fn keep_and_show(record: &Record) {
    let kept = folder(&record.name);
    match keep(record, &kept) {
        Ok(()) => say(&format!("the logs of bed {} are kept in {}", record.name, kept.display())),
        Err(error) => say(&format!("the logs of bed {} could not be kept: {error:#}", record.name)),
    }
    for host in &record.hosts {
        say(&format!("--- {} ({:?}) {}", host.name(), host.power(), host.address()));
        show("shoal", &host.log("shoal"), SHOAL_LINES);
        show("dockerd", &host.log("dockerd"), OTHER_LINES);
    }
}

/// Says something beside the test's own output.
#[expect(clippy::print_stderr, reason = "this is where the person who runs the tests reads")]
pub(crate) fn say(words: &str) {
    eprintln!("{words}");
}

fn folder(bed: &str) -> PathBuf {
    let base = std::env::var_os("SHOAL_TEST_LOGS").map(PathBuf::from);
    base.unwrap_or_else(|| std::env::temp_dir().join("shoal-test-logs")).join(bed)
}

fn keep(record: &Record, into: &Path) -> Result<()> {
    for host in &record.hosts {
        let folder = into.join(host.name());
        fs::create_dir_all(&folder)?;
        for entry in fs::read_dir(host.directory())?.flatten() {
            let path = entry.path();
            if path.extension().is_some_and(|extension| extension == "log") {
                fs::copy(&path, folder.join(entry.file_name()))?;
            }
        }
        if host.power() == Power::On {
            fs::write(folder.join("containers.txt"), containers(host))?;
        }
    }
    Ok(())
}

fn containers(host: &Host) -> String {
    let mut command = Command::new("docker");
    command.args(["-H", &host.engine().url(), "ps", "--all", "--no-trunc"]);
    match run::run(&mut command, b"", secs(5)) {
        Ok(output) => output.stdout + &output.stderr,
        Err(error) => format!("{error:#}\n"),
    }
}

fn show(what: &str, log: &Path, lines: usize) {
    let end = run::tail(log, lines);
    if !end.is_empty() {
        say(&format!("--- end of its {what} log:\n{end}"));
    }
}
