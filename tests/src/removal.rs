//! Removing a bed, and seeing that nothing of it is left.
//!
//! A bed is removed when its test ends, when that fails, and by the guard when the test was interrupted or
//! killed; whatever still remains (the machine ran out of memory, the guard was killed too) is swept up by
//! the next bed or by `testbed sweep`. Only what carries a bed's name is touched, and only if the program
//! the bed belongs to is gone.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::Process;
use crate::record::{DIRECTORY_PREFIX, Record};
use crate::wait::{secs, wait_for};

/// Bound of killing all processes of a bed: hundreds of containers on two busy cores.
const KILL_BOUND: Duration = secs(60);

/// Kills every process of the bed and removes its groups and files. Namespaces, interfaces, mounts and
/// loop devices go with the processes. Doing it twice does no harm.
pub(crate) fn remove(record: &Record) -> Result<()> {
    let mut inhabitants: Vec<Process> =
        record.hosts.iter().flat_map(|host| host.inhabitants()).collect();
    inhabitants.extend(record.switch.iter().flat_map(|switch| switch.namespaces.inhabitants()));
    record.group.kill(KILL_BOUND).with_context(|| format!("removing bed {}", record.name))?;
    record.group.remove(KILL_BOUND)?;
    all_gone(&inhabitants)?;
    remove_files(&record.directory)
}

/// Checks that the last processes of namespaces ended, and the namespaces with them. One that lives on got
/// out of its host's control group, which must not happen: it would survive every crash.
pub(crate) fn all_gone(inhabitants: &[Process]) -> Result<()> {
    wait_for("the last processes to end", secs(10), || {
        let alive = inhabitants.iter().filter(|process| process.is_alive());
        let pids: Vec<i32> = alive.map(|process| process.pid).collect();
        if pids.is_empty() { Ok(()) } else { Err(format!("outside their group: pids {pids:?}")) }
    })?;
    Ok(())
}

/// What is left of a bed that was removed; empty when all is well. Namespaces are freed a moment after
/// their last process: they get some seconds.
pub(crate) fn leftovers(record: &Record) -> Vec<String> {
    let looked = wait_for("nothing to be left", secs(10), || match look(record) {
        left if left.is_empty() => Ok(()),
        left => Err(left.join("; ")),
    });
    match looked {
        Ok(_) => Vec::new(),
        Err(_) => look(record),
    }
}

/// Removes the beds of programs that are gone, and says which.
pub fn sweep() -> Result<Vec<String>> {
    let mut swept = Vec::new();
    for record in beds() {
        let abandoned = match (&record.owner, &record.switch) {
            (Some(owner), _) => !owner.is_alive(),
            // Kept by hand, but the machine was restarted since: only files are left.
            (None, Some(switch)) => !switch.namespaces.exist(),
            // Kept by hand, and just being made.
            (None, None) => false,
        };
        if abandoned {
            remove(&record)?;
            swept.push(record.name);
        }
    }
    Ok(swept)
}

/// The beds there are on this machine.
pub(crate) fn beds() -> Vec<Record> {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    let named =
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(DIRECTORY_PREFIX));
    named.filter_map(|entry| Record::load(&entry.path()).ok()).collect()
}

fn remove_files(directory: &Path) -> Result<()> {
    let what = format!("{} to be removed", directory.display());
    wait_for(&what, secs(30), || match fs::remove_dir_all(directory) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.to_string()),
    })?;
    Ok(())
}

fn look(record: &Record) -> Vec<String> {
    let mut left = Vec::new();
    if record.directory.exists() {
        left.push(format!("directory {}", record.directory.display()));
    }
    left.extend(record.group.everywhere().iter().map(|path| format!("group {}", path.display())));
    let name = record.directory.to_string_lossy().into_owned();
    for mounts in ["/proc/self/mountinfo", "/proc/1/mountinfo"] {
        let text = fs::read_to_string(mounts).unwrap_or_default();
        left.extend(text.lines().filter(|line| line.contains(&name)).map(|l| format!("mount {l}")));
    }
    left.extend(loop_devices(&name));
    left
}

fn loop_devices(directory: &str) -> Vec<String> {
    let entries = fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let backing = entries.filter_map(|entry| {
        let file = fs::read_to_string(entry.path().join("loop/backing_file")).ok()?;
        file.contains(directory).then(|| format!("loop device {}", entry.file_name().display()))
    });
    backing.collect()
}
