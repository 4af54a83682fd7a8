//! The runtime that matters: containers of a Docker engine on this host.
//!
//! An action runs in a task of its own: [`create`] turns the spec into the engine's request, [`start`]
//! and [`stop`] make the calls, [`image`] fetches what is missing. Meanwhile one task, [`watch`],
//! follows the engine's events and its heartbeat. Whatever is reported of a container is a fresh and
//! complete look at it ([`observe`]), never the event itself, so reports may be repeated or skipped
//! and the last one is right. Only what was started a moment ago is known without a look ([`started`]).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use membership::id::TaskId;
use node::runtime::{ActionId, ActionResult, RuntimeAction};
use tokio::sync::mpsc;

use self::engine::Engine;
use self::image::Pulls;
use self::observe::{Known, Order};
use self::started::Checks;
use super::admission::{self, Admission};
use super::reports::Reports;
use super::{HostError, HostInfo, MemoryFiles, Owner, Report, Runtime};
use crate::api::backend::{LogOptions, LogStream};

mod create;
mod engine;
mod host;
mod image;
mod logs;
mod networks;
mod observe;
mod pull;
mod refresh;
mod start;
mod started;
mod stop;
mod watch;

/// What the tasks of the runtime share.
#[derive(Debug)]
struct Shared {
    owner: Owner,
    /// Whether services may have privileges and devices of this host.
    allow_privileged: bool,
    engine: Engine,
    reports: Reports,
    admission: Admission,
    order: Order,
    pulls: Pulls,
    checks: Checks,
    known: Known,
    /// Tasks that are being started: whoever starts one says what became of it, so the engine's own
    /// word that it started needs no look. True once the engine said something else of it: then one follows.
    starting: Mutex<BTreeMap<TaskId, bool>>,
    files: Arc<MemoryFiles>,
    networks: networks::Networks,
}

impl Shared {
    fn starting(&self) -> std::sync::MutexGuard<'_, BTreeMap<TaskId, bool>> {
        // Nothing panics while it is held.
        self.starting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Containers of the Docker engine behind one Unix socket.
#[derive(Debug)]
pub struct DockerRuntime {
    shared: Arc<Shared>,
    watch: tokio::task::JoinHandle<()>,
}

impl DockerRuntime {
    /// Starts to watch the engine at `socket` for the containers of `owner`. The engine need not be
    /// there yet: the first report says whether it is (`EngineBack` or `EngineLost`). Must be called
    /// inside a tokio runtime.
    pub fn start(
        socket: &Path,
        owner: Owner,
        allow_privileged: bool,
        files: MemoryFiles,
    ) -> (Self, mpsc::Receiver<Report>) {
        let (reports, receiver) = Reports::new();
        let shared = Arc::new(Shared {
            owner,
            allow_privileged,
            engine: Engine::new(socket.to_owned()),
            reports,
            admission: Admission::new(),
            order: Order::new(),
            pulls: Pulls::new(),
            checks: Checks::default(),
            known: Known::default(),
            files: Arc::new(files),
            starting: Mutex::default(),
            networks: networks::Networks::default(),
        });
        let watch = tokio::spawn(watch::run(shared.clone()));
        (Self { shared, watch }, receiver)
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.shared.engine.socket().to_owned()
    }
}

impl Drop for DockerRuntime {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

#[async_trait]
impl Runtime for DockerRuntime {
    fn act(&self, id: ActionId, action: RuntimeAction) {
        let shared = self.shared.clone();
        let Some(place) = shared.admission.enter() else {
            let result = admission::refused(&action);
            tokio::spawn(async move { shared.reports.done(id, result).await });
            return;
        };
        tokio::spawn(async move {
            let turn = shared.admission.turn(&action).await;
            match action {
                RuntimeAction::Start(task) => start::start(&shared, id, &task, turn).await,
                RuntimeAction::Prepare { template_json, registry_auth, .. } => {
                    let result =
                        start::prepare(&shared, &template_json, registry_auth.as_ref()).await;
                    shared.reports.done(id, result).await;
                }
                RuntimeAction::Stop { task, container, grace } => {
                    let result = stop::stop(&shared, task, &container, grace).await;
                    shared.reports.done(id, result).await;
                }
                RuntimeAction::Remove { task, container } => {
                    let result = stop::remove(&shared, task, &container).await;
                    shared.reports.done(id, result).await;
                }
                RuntimeAction::Refresh { task, container, files } => {
                    let result = refresh::refresh(&shared, task, &container, &files).await;
                    shared.reports.done(id, result).await;
                }
                RuntimeAction::List => observe::list(&shared, id).await,
                RuntimeAction::Networks { wanted } => {
                    let result = networks::bring(&shared, wanted.as_deref()).await;
                    shared.reports.done(id, result).await;
                }
            }
            drop(place);
        });
    }

    async fn host(&self) -> Result<HostInfo, HostError> {
        host::host(&self.shared.engine).await
    }

    fn logs(&self, task: TaskId, options: LogOptions) -> LogStream {
        logs::logs(self.shared.clone(), task, options)
    }

    fn reached_at(&self, address: IpAddr) {
        // Once: it is the same for the life of the process.
        let _ = self.shared.networks.address.set(address);
    }

    async fn leave_networks(&self) -> Vec<String> {
        networks::leave(&self.shared).await
    }

    fn name(&self) -> &'static str {
        "docker"
    }
}

/// What an engine that could not be asked means for a stop.
fn stop_failed(container: &str, error: &engine::CallError) -> ActionResult {
    let message = format!("{container} may still be running: {error}");
    ActionResult::StopFailed { message }
}
