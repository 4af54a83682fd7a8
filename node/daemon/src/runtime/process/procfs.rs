//! What the kernel says of processes and of the host.

use std::collections::BTreeMap;
use std::fs;

use membership::member::Resources;

use crate::runtime::{HostError, HostInfo};

/// The environment variable by which a process of ours is known again.
pub(super) const MARK: &str = "SHOAL_TASK_ID";

/// One run of one program. A pid alone is not enough: it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Clock ticks from the boot of the host to the start of the process.
    pub(super) start_ticks: u64,
}

struct Stat {
    state: char,
    group: i64,
    start_ticks: u64,
}

/// Fields of `/proc/<pid>/stat`. The program's name stands in parentheses and may hold anything, also
/// spaces and parentheses, so the fields are counted from the last one (proc(5)).
fn parse_stat(text: &str) -> Option<Stat> {
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let start_ticks = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, group, start_ticks })
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

impl Process {
    pub(super) fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, start_ticks: stat(pid)?.start_ticks })
    }

    /// Its pid was given to another process. Then nothing is left of its group either.
    pub(super) fn is_replaced(self) -> bool {
        stat(self.pid).is_some_and(|now| now.start_ticks != self.start_ticks)
    }

    /// It has not ended. A zombie has: only its parent has not asked yet.
    pub(super) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|now| {
            now.start_ticks == self.start_ticks && !matches!(now.state, 'Z' | 'X' | 'x')
        })
    }
}

/// A group leader that was started for this task, when the record does not say which one it was.
pub(super) fn find_marked(task: &str) -> Option<Process> {
    let mark = format!("{MARK}={task}");
    let marked = |pid: u32| {
        let Ok(environ) = fs::read(format!("/proc/{pid}/environ")) else { return false };
        environ.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| stat(*pid).is_some_and(|stat| stat.group == i64::from(*pid)))
        .find(|pid| marked(*pid))
        .and_then(Process::of)
}

/// Differs after each boot: a pid and a start time from before mean nothing.
pub(super) fn boot_id() -> String {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    id.trim().to_owned()
}

pub(super) fn host() -> Result<HostInfo, HostError> {
    let cores = std::thread::available_parallelism()
        .map_err(|e| HostError::Host { what: "the number of cores", reason: e.to_string() })?;
    let meminfo = fs::read_to_string("/proc/meminfo")
        .map_err(|e| HostError::Host { what: "the size of the memory", reason: e.to_string() })?;
    let memory_bytes = parse_meminfo(&meminfo).ok_or_else(|| HostError::Host {
        what: "the size of the memory",
        reason: "/proc/meminfo has no MemTotal".to_owned(),
    })?;
    let hostname = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    Ok(HostInfo {
        capacity: Resources { cpu_milli: usize::from(cores) as u64 * 1000, memory_bytes },
        hostname: hostname.unwrap_or_default(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        engine_version: env!("CARGO_PKG_VERSION").to_owned(),
        labels: BTreeMap::new(),
    })
}

fn parse_meminfo(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_an_odd_name_does_not_shift_the_fields() {
        let text = "42 (a) R (b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3\n";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.group, stat.start_ticks), ('S', 42, 987_654));
        for cut in 0..text.len() - 8 {
            let _ = parse_stat(&text[..cut]);
        }
        assert!(parse_stat("").is_none() && parse_stat("1 (x").is_none());
    }

    #[test]
    fn this_very_process_is_alive_and_an_impostor_is_not() {
        let me = Process::of(std::process::id()).unwrap();
        assert!(me.is_alive());
        assert!(!Process { start_ticks: me.start_ticks + 1, ..me }.is_alive());
    }

    #[test]
    fn the_host_has_cores_and_memory() {
        let host = host().unwrap();
        assert!(host.capacity.cpu_milli >= 1000 && host.capacity.memory_bytes > 1 << 20);
        assert_eq!(parse_meminfo("MemTotal:       16 kB\n"), Some(16384));
        assert_eq!(parse_meminfo("MemFree: 16 kB\n"), None);
    }
}
