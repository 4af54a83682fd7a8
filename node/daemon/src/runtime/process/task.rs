//! One task: its record, how it is doing, and the end of it.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard, PoisonError};

use membership::id::TaskId;
use membership::time::Wall;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use node::runtime::{ContainerHealth, ContainerState, Found};
use tokio::sync::watch;

use super::launch::Launch;
use super::procfs::Process;
use super::record::{self, Exit, Record};
use crate::runtime::{Owner, ownership};

#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) dir: PathBuf,
    /// `None` for an adopted task whose spec this version cannot carry out any more: it goes on, and
    /// is stopped with SIGTERM.
    pub(super) launch: Option<Launch>,
    state: Mutex<State>,
    ended: watch::Sender<bool>,
}

#[derive(Debug)]
struct State {
    record: Record,
    health: ContainerHealth,
}

impl Task {
    pub(super) fn new(id: TaskId, dir: PathBuf, launch: Option<Launch>, record: Record) -> Self {
        let checked = launch.as_ref().is_some_and(|launch| launch.health.is_some());
        let health = if checked { ContainerHealth::Starting } else { ContainerHealth::None };
        let ended = watch::Sender::new(record.exit.is_some());
        Self { id, dir, launch, state: Mutex::new(State { record, health }), ended }
    }

    /// The runtime's name for it.
    pub(super) fn container(&self) -> String {
        self.id.to_string()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The process, also after its end.
    pub(super) fn started(&self) -> Option<Process> {
        self.state().record.process
    }

    /// The process, while it has not ended.
    pub(super) fn process(&self) -> Option<Process> {
        let state = self.state();
        state.record.process.filter(|_| state.record.exit.is_none())
    }

    /// What is to be reported; `None` if it is not ours.
    pub(super) fn found(&self, owner: Owner) -> Option<Found> {
        let state = self.state();
        let labels = &state.record.labels;
        let mut found =
            ownership::read(owner, &self.container(), |name| labels.get(name).cloned()).ok()?;
        found.ports = state.record.ports.clone();
        found.started = state.record.started_ms.map(Wall);
        found.stopping = state.record.stopping;
        found.state = match (state.record.process, state.record.exit) {
            (_, Some(Exit { code })) => ContainerState::Exited { code, out_of_memory: false },
            (Some(process), None) => {
                found.pid = Some(process.pid);
                ContainerState::Running { health: state.health }
            }
            (None, None) => ContainerState::Created,
        };
        Some(found)
    }

    /// Changes the record and writes it down. The change stands also if writing fails: the task is as
    /// it is, and only the next shoal would have to find out by itself.
    pub(super) async fn change(&self, change: impl FnOnce(&mut Record)) -> std::io::Result<()> {
        let record = {
            let mut state = self.state();
            change(&mut state.record);
            state.record.clone()
        };
        let dir = self.dir.clone();
        let saved = tokio::task::spawn_blocking(move || record::save(&dir, &record)).await;
        saved.unwrap_or_else(|e| Err(std::io::Error::other(e)))
    }

    /// Sets its health; true if that is news and the task still runs.
    pub(super) fn set_health(&self, health: ContainerHealth) -> bool {
        let mut state = self.state();
        let news = state.health != health && state.record.exit.is_none();
        state.health = health;
        news
    }

    /// Takes note of its end, and ends what it left behind in its group, as the end of process 1 ends
    /// a container.
    pub(super) async fn note_exit(&self, code: i32) {
        if let Some(process) = self.process().filter(|process| !process.is_replaced()) {
            // Mostly there is nobody left, which is an error to the kernel and none to us.
            let _ = signal_group(process.pid, Signal::SIGKILL);
        }
        let saved = self.change(|record| record.exit = Some(Exit { code })).await;
        if let Err(error) = saved {
            tracing::warn!(task = %self.id, %error, "the end of a process could not be written down");
        }
        self.ended.send_replace(true);
    }

    /// Waits until it has ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    /// Sends a signal to all of it, if it is still the process that was started.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(process) = self.process().filter(|process| process.is_alive())
            && let Err(error) = signal_group(process.pid, signal)
        {
            tracing::warn!(task = %self.id, %signal, %error, "a signal could not be sent");
        }
    }
}

/// The group has the number of its first process. The kernel gives it to no other process as long as
/// one is in the group; when it has, see [`Process::is_replaced`].
pub(super) fn signal_group(pid: u32, signal: Signal) -> nix::Result<()> {
    match i32::try_from(pid) {
        // 0 and 1 would mean this very group and everybody.
        Ok(pid) if pid > 1 => killpg(Pid::from_raw(pid), signal),
        _ => Err(nix::errno::Errno::ESRCH),
    }
}

/// As a shell has it.
pub(super) fn exit_code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
