//! A process named so that it can never be mistaken for another one.
//!
//! The testbed outlives the programs that use it (`testbed up` returns and leaves a cluster behind), so it
//! writes down which processes it started. A pid alone is reused by the kernel sooner or later; together
//! with the time the process was started it is not.

use std::fs;

use anyhow::{Context, Result};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::wait::{secs, wait_for};

/// One process of this machine: its pid and when the kernel started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// Start time in clock ticks since boot, field 22 of `/proc/PID/stat`.
    pub started: u64,
}

impl Process {
    /// The process that has this pid now, if there is one.
    pub fn with_pid(pid: i32) -> Option<Process> {
        Some(Process { pid, started: Stat::read(pid)?.started })
    }

    /// The calling process.
    pub fn myself() -> Result<Process> {
        let pid = nix::unistd::getpid().as_raw();
        Process::with_pid(pid).context("/proc/self/stat cannot be read: is /proc mounted?")
    }

    /// Whether it still exists; a zombie does not, for it does nothing any more.
    pub fn is_alive(&self) -> bool {
        self.stat().is_some_and(|stat| !stat.is_zombie())
    }

    /// Whether it is stopped by a signal (SIGSTOP), every thread of it: on a busy machine the last one may
    /// go on for a moment.
    pub fn is_stopped(&self) -> bool {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        let stats = tasks.flatten().map(|task| fs::read_to_string(task.path().join("stat")));
        let mut threads = stats.flatten().filter_map(|text| Stat::parse(&text));
        self.is_alive() && threads.all(|thread| thread.state == 'T' || thread.is_zombie())
    }

    /// Stops it (SIGSTOP) and waits until no thread of it runs any more.
    pub fn stop(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        wait_for(&format!("process {} to be stopped", self.pid), secs(10), || {
            if self.is_stopped() { Ok(()) } else { Err("it runs".to_string()) }
        })?;
        Ok(())
    }

    /// Sends a signal; to a process that is gone this does nothing.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if !self.is_alive() {
            return Ok(());
        }
        match signal::kill(Pid::from_raw(self.pid), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(errno) => {
                Err(errno).with_context(|| format!("cannot send {signal} to process {}", self.pid))
            }
        }
    }

    /// Memory resident now, in bytes; 0 when the process is gone.
    pub fn resident_bytes(&self) -> u64 {
        let Ok(status) = fs::read_to_string(format!("/proc/{}/status", self.pid)) else { return 0 };
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }

    /// Processor time used so far, in clock ticks (100 per second on Linux).
    pub fn cpu_ticks(&self) -> u64 {
        self.stat().map_or(0, |stat| stat.cpu_ticks)
    }

    fn stat(&self) -> Option<Stat> {
        Stat::read(self.pid).filter(|stat| stat.started == self.started)
    }
}

struct Stat {
    state: char,
    cpu_ticks: u64,
    started: u64,
}

impl Stat {
    fn read(pid: i32) -> Option<Stat> {
        Stat::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// The command name, field 2, may contain spaces and brackets: count from the last closing one.
    fn parse(text: &str) -> Option<Stat> {
        let fields: Vec<&str> = text.get(text.rfind(')')? + 1..)?.split_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Stat {
            state: fields.first()?.chars().next()?,
            cpu_ticks: number(14)? + number(15)?,
            started: number(22)?,
        })
    }

    fn is_zombie(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_brackets_and_spaces_is_read_past() {
        let text = "42 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987 20 21";
        let stat = Stat::parse(text).expect("well formed");
        assert_eq!((stat.state, stat.cpu_ticks, stat.started), ('S', 11 + 12, 987));
    }

    #[test]
    fn a_process_is_alive_until_it_ends_and_its_pid_alone_does_not_make_it_alive() -> Result<()> {
        let myself = Process::myself()?;
        assert!(myself.is_alive());
        assert!(!Process { started: myself.started + 1, ..myself }.is_alive());
        Ok(())
    }
}
