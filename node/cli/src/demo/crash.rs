//! The death of a host, on a machine that goes on living.
//!
//! When a host dies, nothing answers any more: no process, no container, and no kernel that says "port
//! unreachable". On one machine the kernel lives on and would tell the others that only shoal is gone,
//! and they would rightly wait for it to come back. So the demo takes the dead node's ports itself, at
//! once, and never answers on them.

use std::fs;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::exit::Failure;

/// Holds a dead node's ports and is silent on them.
#[derive(Debug)]
pub(super) struct Silence(#[allow(dead_code, reason = "held, not used")] (UdpSocket, TcpListener));

impl Silence {
    pub(super) fn at(addr: SocketAddr) -> Result<Self, Failure> {
        let taken = |error: std::io::Error| {
            Failure::failed(format!("cannot take the port {addr} of the killed node: {error}"))
        };
        Ok(Self((
            UdpSocket::bind(addr).map_err(taken)?,
            // Connections are taken by the kernel and wait here for ever, as on a line that is cut.
            TcpListener::bind(addr).map_err(taken)?,
        )))
    }
}

/// The environment variable that each process of the process runtime carries.
const MARK: &str = "SHOAL_TASK_ID=";

/// Kills the process groups of all tasks that the process runtime recorded in a node's directory: those
/// processes whose environment names one of these tasks, and no other.
pub(super) fn kill_processes(data_dir: &Path) -> usize {
    let tasks: Vec<String> = fs::read_dir(data_dir.join("process"))
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    let mut killed = 0;
    for (pid, task) in marked_processes() {
        // A group leader has its group's number; whoever else carries the mark dies with the group.
        if tasks.contains(&task) && killpg(Pid::from_raw(pid), Signal::SIGKILL).is_ok() {
            killed += 1;
        }
    }
    killed
}

fn marked_processes() -> Vec<(i32, String)> {
    let of = |entry: fs::DirEntry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let environ = fs::read(entry.path().join("environ")).ok()?;
        let task = environ
            .split(|byte| *byte == 0)
            .find_map(|variable| std::str::from_utf8(variable).ok()?.strip_prefix(MARK))?;
        Some((pid, task.to_owned()))
    };
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| of(entry.ok()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::{Duration, Instant};

    #[test]
    fn only_recorded_tasks_are_killed() {
        let dir = tempfile::tempdir().unwrap();
        let ours = format!("ours{}", std::process::id());
        fs::create_dir_all(dir.path().join("process").join(&ours)).unwrap();
        let start = |task: &str| {
            Command::new("sleep")
                .arg("60")
                .env("SHOAL_TASK_ID", task)
                .process_group(0)
                .spawn()
                .unwrap()
        };
        let (mut recorded, mut foreign) = (start(&ours), start("foreign"));
        // A program that has just been executed has no environment yet, for an instant.
        let marked = || marked_processes().into_iter().map(|(pid, _)| pid).collect::<Vec<_>>();
        let pids = [&recorded, &foreign].map(|child| i32::try_from(child.id()).unwrap());
        let deadline = Instant::now() + Duration::from_secs(30);
        while !pids.iter().all(|pid| marked().contains(pid)) {
            assert!(Instant::now() < deadline, "the processes show no environment");
            std::thread::yield_now();
        }
        assert_eq!(kill_processes(dir.path()), 1);
        assert!(!recorded.wait().unwrap().success());
        assert!(foreign.try_wait().unwrap().is_none(), "a foreign process was killed");
        foreign.kill().unwrap();
        foreign.wait().unwrap();
        assert_eq!(kill_processes(Path::new("/nonexistent")), 0);
    }

    #[test]
    fn silence_takes_both_protocols() {
        // Whoever else lives on this machine may take a free port before we do.
        let mut free = (0..50).map(|_| super::super::node::free_addr().unwrap());
        let (addr, held) = free.find_map(|addr| Some((addr, Silence::at(addr).ok()?))).unwrap();
        assert!(UdpSocket::bind(addr).is_err());
        assert!(std::net::TcpStream::connect(addr).is_ok(), "connections are taken, not refused");
        drop(held);
    }
}
