//! Stopping a task and removing what is left of it.

use std::time::Duration;

use membership::id::TaskId;
use membership::time::Millis;
use nix::sys::signal::Signal;
use node::runtime::{ActionResult, RuntimeEvent};

use super::Shared;
use super::task::Task;

/// How long a killed process may take to be gone: the kernel waits for its disk.
const KILL_DEADLINE: Duration = Duration::from_secs(30);

/// Sends the spec's stop signal to the task's group, kills it after `grace`, removes the rest.
pub(super) async fn stop(
    shared: &Shared,
    id: TaskId,
    container: &str,
    grace: Millis,
) -> ActionResult {
    let Some(task) = shared.task(id) else { return ActionResult::Stopped };
    // Without the answer to its start nobody knows a name for it but the task's.
    if !container.is_empty() && task.container() != container {
        return not_its_own(id, container);
    }
    if task.process().is_some() {
        if let Err(error) = task.change(|record| record.stopping = true).await {
            tracing::debug!(task = %id, %error, "a process is stopped without that being written down");
        }
        let signal = task.launch.as_ref().map_or(Signal::SIGTERM, |launch| launch.stop_signal);
        task.signal(signal);
        let _ = tokio::time::timeout(Duration::from_millis(grace.0), task.ended()).await;
    }
    end(shared, &task).await
}

/// Removes a task that ended; one that still runs is killed.
pub(super) async fn remove(shared: &Shared, id: TaskId, container: &str) -> ActionResult {
    match shared.task(id) {
        None => ActionResult::Stopped,
        Some(task) if task.container() != container => not_its_own(id, container),
        Some(task) => end(shared, &task).await,
    }
}

fn not_its_own(task: TaskId, container: &str) -> ActionResult {
    let message = format!("{container} is not the process of task {task}: it was not touched");
    ActionResult::StopFailed { message }
}

async fn end(shared: &Shared, task: &Task) -> ActionResult {
    if let Some(process) = task.started() {
        task.signal(Signal::SIGKILL);
        // Also for one that has ended by itself: its end must be written down before that is removed.
        if tokio::time::timeout(KILL_DEADLINE, task.ended()).await.is_err() {
            return ActionResult::StopFailed {
                message: format!(
                    "process {} was killed and is still there after {} s: it hangs in the kernel, mostly on a disk or a network file system",
                    process.pid,
                    KILL_DEADLINE.as_secs()
                ),
            };
        }
    }
    let dir = task.dir.clone();
    let removed = tokio::task::spawn_blocking(move || std::fs::remove_dir_all(dir)).await;
    match removed.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            let dir = task.dir.display();
            let message = format!("the process has ended, and {dir} cannot be removed: {error}");
            return ActionResult::StopFailed { message };
        }
        _ => {}
    }
    shared.files.remove(task.id).await;
    let _order = shared.order.lock().await;
    shared.tasks().remove(&task.id);
    let container = task.container();
    shared.reports.event(RuntimeEvent::Removed { task: task.id, container }).await;
    ActionResult::Stopped
}
