//! Namespaces that exist as long as we want: a sleeping process holds each set.
//!
//! A namespace lives while a process is in it. One `sleep` per host (and one for the switch) keeps it, so
//! that nothing has to be mounted or named on the machine itself: when the processes are killed, the
//! kernel removes namespaces, interfaces, mounts and loop devices alike. A rebooted host is simply a new set.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::process::Process;
use crate::run;
use crate::wait::{secs, wait_for};

/// A network, a mount and a UTS (host name) namespace, held by a process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Namespaces {
    holder: Process,
    group: Group,
}

impl Namespaces {
    /// Makes a new set, runs `setup` (shell) as root in it, and keeps it. `directory` is for the log.
    pub fn make(group: &Group, name: &str, directory: &Path, setup: &str) -> Result<Namespaces> {
        let log = directory.join(format!("{name}.log"));
        let ready = directory.join(format!(".{name}.ready"));
        let _ = std::fs::remove_file(&ready);
        let script = format!("set -e; {setup}\n: > '{}'; exec sleep infinity", ready.display());
        let argv = ["unshare", "--net", "--mount", "--uts", "--propagation", "private", "sh", "-c"];
        let mut argv: Vec<String> = argv.map(String::from).to_vec();
        argv.push(script);
        let holder = run::detach(group, name, &argv, &[], &log)?;
        wait_for(&format!("the namespaces {name}"), secs(15), || {
            if ready.exists() {
                return Ok(());
            }
            let said = run::tail(&log, 5);
            Err(if holder.is_alive() { said } else { format!("their setup failed: {said}") })
        })?;
        Ok(Namespaces { holder, group: group.clone() })
    }

    /// Whether they still exist.
    pub fn exist(&self) -> bool {
        self.holder.is_alive()
    }

    /// Pid of the holder: `ip link set … netns PID` moves an interface here.
    pub fn pid(&self) -> i32 {
        self.holder.pid
    }

    /// Every process that is in its network or mount namespace now, in whatever group: they keep it alive.
    pub fn inhabitants(&self) -> Vec<Process> {
        let proc = Path::new("/proc");
        let of_holder = |kind: &str| inode(&proc.join(self.holder.pid.to_string()), kind);
        let (net, mnt) = (of_holder("net"), of_holder("mnt"));
        if !self.exist() || net.is_none() {
            return Vec::new();
        }
        let entries = std::fs::read_dir(proc).into_iter().flatten().flatten();
        let inside = entries.filter(|entry| {
            inode(&entry.path(), "net") == net || inode(&entry.path(), "mnt") == mnt
        });
        let pids = inside.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter_map(Process::with_pid).collect()
    }

    /// What to put before a command line so that it runs inside. Not `ip netns exec`, which hides the
    /// cgroup mounts, without which dockerd refuses to start.
    pub fn enter(&self) -> Vec<String> {
        let of = |flag: &str, kind: &str| format!("--{flag}=/proc/{}/ns/{kind}", self.holder.pid);
        vec!["nsenter".into(), of("net", "net"), of("mount", "mnt"), of("uts", "uts"), "--".into()]
    }

    /// Runs a tool inside; it must succeed.
    pub fn tool(&self, argv: &[&str]) -> Result<String> {
        self.tool_with_input(argv, b"")
    }

    /// As [`Namespaces::tool`], with something to read.
    pub fn tool_with_input(&self, argv: &[&str], input: &[u8]) -> Result<String> {
        run::succeed(&mut self.command(argv)?, input, run::TOOL_BOUND)
    }

    /// Runs a program inside, any exit status being an answer.
    pub fn run(&self, argv: &[&str], bound: Duration) -> Result<run::Output> {
        run::run(&mut self.command(argv)?, b"", bound)
    }

    /// The command line that runs something inside and in the host's control group, where a crash of the
    /// host kills it.
    pub fn command_line(&self, argv: &[&str]) -> Result<Vec<String>> {
        if !self.exist() {
            bail!("cannot run {argv:?}: the namespaces are gone (is the host crashed?)");
        }
        const JOIN: &str = "echo $$ > \"$1\" && shift && exec \"$@\"";
        let mut words = ["sh", "-c", JOIN, "sh"].map(String::from).to_vec();
        words.push(self.group.procs_file().to_string_lossy().into_owned());
        words.extend(self.enter());
        words.extend(argv.iter().map(|word| word.to_string()));
        Ok(words)
    }

    fn command(&self, argv: &[&str]) -> Result<Command> {
        let words = self.command_line(argv)?;
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).env_clear().envs(run::inherited_environment());
        Ok(command)
    }
}

/// The number that names a process's namespace, unique while that exists and reused afterwards.
fn inode(process: &Path, kind: &str) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    Some(process.join("ns").join(kind).metadata().ok()?.ino())
}
