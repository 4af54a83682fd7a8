//! All processes of a host, and no others: a control group per host.
//!
//! A crash must kill everything on a host, the engine's shims and the containers included, and nothing of
//! the machine or of another host. Each process the testbed starts enters a control group of the host's
//! own, which its children inherit; the engine is told to make its containers' groups below it. Whatever
//! runs in that subtree is the host. Names of groups are unique to a bed, so that leftovers of a bed whose
//! records are lost can be told from everything else.
//!
//! Works on both layouts: with cgroup v2 the one tree, with v1 the `freezer` hierarchy, which runc always
//! joins (the engine's other v1 groups are only removed at the end).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::process::Process;
use crate::wait::wait_for;

const MOUNT: &str = "/sys/fs/cgroup";

/// A subtree of control groups.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Where processes are tracked: the v2 mount, or v1's freezer.
    tracking: PathBuf,
    /// Path below any hierarchy, without a leading slash: `shoal-k3x/h0`.
    path: String,
}

impl Group {
    /// Names a group; [`Group::make`] creates it.
    pub fn named(path: &str) -> Result<Group> {
        let v2 = Path::new(MOUNT).join("cgroup.controllers");
        let freezer = Path::new(MOUNT).join("freezer");
        let tracking = if v2.exists() {
            PathBuf::from(MOUNT)
        } else if freezer.join("cgroup.procs").exists() {
            freezer
        } else {
            bail!(
                "neither cgroup v2 nor the v1 freezer is mounted under {MOUNT}: no Docker engine can run here. \
                 In a container, start that with --privileged --cgroupns=host"
            );
        };
        Ok(Group { tracking, path: path.to_string() })
    }

    /// A group below this one.
    pub fn below(&self, name: &str) -> Group {
        Group { tracking: self.tracking.clone(), path: format!("{}/{name}", self.path) }
    }

    /// The path as Docker's `--cgroup-parent` wants it.
    pub fn as_parent(&self) -> String {
        format!("/{}", self.path)
    }

    /// Creates the group; one that exists is fine.
    pub fn make(&self) -> Result<()> {
        fs::create_dir_all(self.directory())
            .with_context(|| format!("cannot create {}: not root?", self.directory().display()))
    }

    /// Writing a pid here moves that process into the group.
    pub fn procs_file(&self) -> PathBuf {
        self.directory().join("cgroup.procs")
    }

    /// Every process in the group and below it.
    pub fn processes(&self) -> Vec<Process> {
        let mut pids = BTreeSet::new();
        collect_pids(&self.directory(), &mut pids);
        pids.into_iter().filter_map(Process::with_pid).filter(Process::is_alive).collect()
    }

    /// SIGKILLs everything until nothing is left: what forks meanwhile is met in the next pass.
    ///
    /// The group is frozen first, as far as the kernel can, so that no process acts on the death of another
    /// (an engine would write down that its containers ended): power fails for all at the same moment.
    pub fn kill(&self, bound: Duration) -> Result<()> {
        if self.directory().is_dir() {
            self.hold(true);
            let _ = self.pass(Signal::SIGKILL, |process| !process.is_alive());
            self.hold(false);
        }
        let what = format!("all processes of {} to be gone", self.path);
        wait_for(&what, bound, || self.pass(Signal::SIGKILL, |process| !process.is_alive()))?;
        Ok(())
    }

    /// SIGSTOPs everything until all are stopped.
    pub fn stop(&self, bound: Duration) -> Result<()> {
        let what = format!("all processes of {} to be stopped", self.path);
        wait_for(&what, bound, || self.pass(Signal::SIGSTOP, Process::is_stopped))?;
        Ok(())
    }

    /// SIGCONTs everything.
    pub fn thaw(&self, bound: Duration) -> Result<()> {
        let what = format!("all processes of {} to go on", self.path);
        wait_for(&what, bound, || self.pass(Signal::SIGCONT, |process| !process.is_stopped()))?;
        Ok(())
    }

    /// Removes the groups of all hierarchies; needs the processes to be gone.
    pub fn remove(&self, bound: Duration) -> Result<()> {
        let what = format!("the control groups {} to be removed", self.path);
        wait_for(&what, bound, || {
            for directory in self.everywhere() {
                remove_tree(&directory);
            }
            match self.everywhere().first() {
                None => Ok(()),
                Some(left) => Err(format!("{} is still there", left.display())),
            }
        })?;
        Ok(())
    }

    /// The directories of this group that exist, in all hierarchies.
    pub fn everywhere(&self) -> Vec<PathBuf> {
        let mut roots = vec![PathBuf::from(MOUNT)];
        roots.extend(fs::read_dir(MOUNT).into_iter().flatten().flatten().map(|entry| entry.path()));
        roots.into_iter().map(|root| root.join(&self.path)).filter(|path| path.is_dir()).collect()
    }

    /// Holds everything in the group still, or lets it go on: cgroup v2's `cgroup.freeze`, v1's freezer.
    fn hold(&self, still: bool) {
        let v1 = self.directory().join("freezer.state");
        let v2 = self.directory().join("cgroup.freeze");
        let _ = match still {
            true if v1.exists() => fs::write(&v1, "FROZEN"),
            false if v1.exists() => fs::write(&v1, "THAWED"),
            true => fs::write(&v2, "1"),
            false => fs::write(&v2, "0"),
        };
        if still && v1.exists() {
            let frozen = || match fs::read_to_string(&v1).unwrap_or_default().trim() {
                "FROZEN" => Ok(()),
                other => Err(other.to_string()),
            };
            // A process in the middle of a disk write may take longer; then it dies a moment later.
            let _ = wait_for("the group to be still", Duration::from_millis(300), frozen);
        }
    }

    fn pass(&self, signal: Signal, done: impl Fn(&Process) -> bool) -> Result<(), String> {
        let waiting: Vec<Process> =
            self.processes().into_iter().filter(|process| !done(process)).collect();
        for process in &waiting {
            process.signal(signal).map_err(|error| error.to_string())?;
        }
        // Signals act at once nearly always: look again before the caller sleeps.
        let left: Vec<i32> =
            self.processes().iter().filter(|process| !done(process)).map(|p| p.pid).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("pids {left:?}")) }
    }

    fn directory(&self) -> PathBuf {
        self.tracking.join(&self.path)
    }
}

fn collect_pids(directory: &Path, into: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    into.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect_pids(&entry.path(), into);
        }
    }
}

/// Deepest first; the files in a control group are the kernel's and go with it.
fn remove_tree(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Busy while the last process is being reaped: the caller looks again.
    let _ = fs::remove_dir(directory);
}
