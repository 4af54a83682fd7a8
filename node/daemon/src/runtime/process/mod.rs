//! The runtime without an engine: a service's command as plain processes of this host.
//!
//! It exists so that `shoal demo` and tests need no Docker, and it keeps Docker's promises where it can:
//! a task is one process group, started once; it survives the end of shoal, also by `kill -9`, and is
//! adopted by the next one; its output is kept in files; health checks are run. What it cannot do is
//! isolate: a spec that asks for that (mounts, capabilities, a read-only root, a network) is refused
//! by name. Ignored are the image, `Hostname`, `TTY`, `OpenStdin`, `Init`, the log driver and resource
//! limits (placement counts them, nothing enforces them). What to run is `Command` followed by `Args`,
//! or `Args` alone.
//!
//! ```text
//! <data dir>/process/<task id>/task.json    what was started, and as which process (`record`)
//!                             /stdout.log   output, and /stdout.log.1 before it (`output`)
//!                             /cwd/         where it runs, unless the spec says elsewhere
//! ```
//!
//! Secrets and configs lie in memory, under the directory that the task's variable `SHOAL_FILES` names, as they
//! would lie in a container: `$SHOAL_FILES/run/secrets/key`.
//!
//! Under systemd the unit needs `KillMode=process`, or systemd ends the tasks together with shoal.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use membership::id::TaskId;
use node::files::TaskFiles;
use node::runtime::{ActionId, ActionResult, Found, RuntimeAction, RuntimeEvent};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use self::record::Directory;
use self::task::Task;
use super::admission::{self, Admission};
use super::reports::Reports;
use super::{HostError, HostInfo, MemoryFiles, Owner, Report, Runtime};
use crate::api::backend::{LogOptions, LogStream};

mod adopt;
mod health;
mod launch;
mod output;
mod procfs;
mod record;
mod rotate;
mod start;
mod stop;
mod task;

/// What the tasks of the runtime share.
#[derive(Debug)]
struct Shared {
    owner: Owner,
    dir: Directory,
    files: Arc<MemoryFiles>,
    reports: Reports,
    admission: Admission,
    tasks: Mutex<BTreeMap<TaskId, Arc<Task>>>,
    /// Held while something is looked at and reported, so that an older look never arrives later.
    order: tokio::sync::Mutex<()>,
    /// Ends whatever watches; the processes go on.
    ended: CancellationToken,
}

impl Shared {
    fn tasks(&self) -> MutexGuard<'_, BTreeMap<TaskId, Arc<Task>>> {
        // Nothing panics while it is held.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn task(&self, id: TaskId) -> Option<Arc<Task>> {
        self.tasks().get(&id).cloned()
    }

    /// Reports a task as it is now.
    async fn report(&self, task: &Task) {
        let _order = self.order.lock().await;
        if let Some(found) = task.found(self.owner) {
            self.reports.event(RuntimeEvent::Container(Box::new(found))).await;
        }
    }

    fn all(&self) -> Vec<Found> {
        let tasks = self.tasks().values().cloned().collect::<Vec<_>>();
        tasks.iter().filter_map(|task| task.found(self.owner)).collect()
    }
}

/// Processes of this host.
#[derive(Debug)]
pub struct ProcessRuntime {
    shared: Arc<Shared>,
}

/// What this host says of itself, without any engine.
///
/// # Errors
/// When /proc cannot be read.
pub fn this_host() -> Result<HostInfo, HostError> {
    procfs::host()
}

impl ProcessRuntime {
    /// Adopts the tasks of `owner` that are recorded under `data_dir` and starts to watch them. The
    /// first report is `EngineBack`. Must be called inside a tokio runtime; reads a few small files.
    ///
    /// # Errors
    /// [`HostError::Host`] when `data_dir` cannot be used; nothing was started or stopped.
    pub fn start(
        data_dir: &Path,
        owner: Owner,
        files: MemoryFiles,
    ) -> Result<(Self, mpsc::Receiver<Report>), HostError> {
        let path = data_dir.join("process");
        let dir = Directory::open(&path).map_err(|e| HostError::Host {
            what: "the directory of processes",
            reason: format!("{}: {e}", path.display()),
        })?;
        let (reports, receiver) = Reports::new();
        let shared = Arc::new(Shared {
            owner,
            dir,
            files: Arc::new(files),
            reports,
            admission: Admission::new(),
            tasks: Mutex::new(BTreeMap::new()),
            order: tokio::sync::Mutex::new(()),
            ended: CancellationToken::new(),
        });
        adopt::adopt_all(&shared);
        tokio::spawn(rotate::run(shared.clone()));
        let announcing = shared.clone();
        tokio::spawn(async move {
            let version = env!("CARGO_PKG_VERSION").to_owned();
            announcing.reports.event(RuntimeEvent::EngineBack { version }).await;
        });
        Ok((Self { shared }, receiver))
    }

    /// Where the tasks' records and output are.
    pub fn dir(&self) -> PathBuf {
        self.shared.dir.path().to_owned()
    }
}

impl Drop for ProcessRuntime {
    fn drop(&mut self) {
        self.shared.ended.cancel();
    }
}

/// Replaces the configs of a task that differ, and sends it the signals that were asked for.
async fn refresh(shared: &Shared, id: TaskId, files: &Arc<TaskFiles>) -> ActionResult {
    let Some(task) = shared.task(id) else { return ActionResult::Refreshed };
    match shared.files.refresh(id, files).await {
        Ok(signals) => {
            for name in signals {
                match launch::signal(&name) {
                    Ok(signal) => task.signal(signal),
                    Err(why) => {
                        tracing::warn!(task = %id, %why, "a config was replaced, and no signal was sent")
                    }
                }
            }
            ActionResult::Refreshed
        }
        Err(error) => ActionResult::RefreshFailed { message: error.to_string() },
    }
}

#[async_trait]
impl Runtime for ProcessRuntime {
    fn act(&self, id: ActionId, action: RuntimeAction) {
        let shared = self.shared.clone();
        let Some(place) = shared.admission.enter() else {
            let result = admission::refused(&action);
            tokio::spawn(async move { shared.reports.done(id, result).await });
            return;
        };
        tokio::spawn(async move {
            let _turn = shared.admission.turn(&action).await;
            match action {
                RuntimeAction::Start(task) => start::start(&shared, id, &task).await,
                // There is nothing to fetch: programs are on the host, or they are not.
                RuntimeAction::Prepare { .. } => {
                    shared.reports.done(id, ActionResult::Prepared).await;
                }
                RuntimeAction::Stop { task, container, grace } => {
                    let result = stop::stop(&shared, task, &container, grace).await;
                    shared.reports.done(id, result).await;
                }
                RuntimeAction::Remove { task, container } => {
                    let result = stop::remove(&shared, task, &container).await;
                    shared.reports.done(id, result).await;
                }
                RuntimeAction::Refresh { task, container: _, files } => {
                    let result = refresh(&shared, task, &files).await;
                    shared.reports.done(id, result).await;
                }
                // Processes use the host's own network.
                RuntimeAction::Networks { .. } => {
                    let (found, failed) = (Vec::new(), Vec::new());
                    shared.reports.done(id, ActionResult::Networks { found, failed }).await;
                }
                RuntimeAction::List => {
                    let _order = shared.order.lock().await;
                    shared.reports.done(id, ActionResult::Listed(shared.all())).await;
                }
            }
            drop(place);
        });
    }

    async fn host(&self) -> Result<HostInfo, HostError> {
        procfs::host()
    }

    fn logs(&self, task: TaskId, options: LogOptions) -> LogStream {
        output::logs(&self.shared, task, options)
    }

    fn name(&self) -> &'static str {
        "process"
    }
}
