//! The Unix socket of the API: made so that Docker's group may use it, with limits that keep one bad
//! client from disturbing the node.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backend::Backend;
use super::engine::Engine;
use super::event_log::EventLog;
use super::route;
use super::state::{Api, Shared};

/// The most connections at once, taken-over ones (`exec`, `attach`) among them. One more is answered
/// with 503 and closed.
pub const MAX_CONNECTIONS: usize = 1024;
/// How long a connection may be idle, or take to send the head of a request.
const HEAD_TIME: Duration = Duration::from_secs(60);
/// Docker's own clients send fewer than twenty headers.
const MAX_HEADERS: usize = 100;
/// How long running requests may go on after the node was told to stop.
const STOP_TIME: Duration = Duration::from_secs(1);
/// How long somebody else's server may take to accept a probe of an existing socket.
const PROBE_TIME: Duration = Duration::from_secs(1);
/// The pause after a failed accept (too many open files), so that it does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 71\r\nConnection: close\r\n\r\n{\"message\":\"too many connections to this node: close some, or try again\"}";

/// Held for as long as a connection counts against [`MAX_CONNECTIONS`].
#[derive(Clone, Debug)]
pub(super) struct ConnectionPermit(
    #[allow(dead_code, reason = "held, not read")] Arc<OwnedSemaphorePermit>,
);

/// Why the socket could not be made. Nothing else of the node depends on it having been tried.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error(
        "another process already answers on {}: stop it, or give this node another socket with --api", .0.display()
    )]
    InUse(PathBuf),
    #[error(
        "{} exists and is not a socket: remove it, or give this node another socket with --api", .0.display()
    )]
    NotASocket(PathBuf),
    #[error(
        "cannot {what} {}: {source}. Give this node a socket that this user may make with --api unix:///path", path.display()
    )]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// The socket, made and not served yet: a node fails early when it cannot have it.
#[derive(Debug)]
pub struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ApiSocket {
    /// Makes the socket, mode 0660 and group `docker` where that exists. A socket that is there
    /// already is removed only if nobody answers on it.
    ///
    /// # Errors
    /// [`BindError`]; what was there before is then untouched.
    pub async fn bind(path: &Path) -> Result<Self, BindError> {
        let io = |what: &'static str| {
            move |source: io::Error| BindError::Io { what, path: path.to_owned(), source }
        };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(io("make the directory of"))?;
        }
        clear_stale(path).await?;
        let listener = UnixListener::bind(path).map_err(io("listen on"))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
            .map_err(io("set the mode of"))?;
        give_to_docker_group(path);
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serves until `stop` is cancelled, then lets running requests end for a second. The socket goes.
    pub async fn serve(self, backend: Arc<dyn Backend>, stop: CancellationToken) {
        self.serve_in_turn(backend, stop, Arc::default()).await;
    }

    /// As [`ApiSocket::serve`]; if it `stays` by the time of the end, whoever connects from then on waits for the socket
    /// to be served again.
    pub(crate) async fn serve_in_turn(
        self,
        backend: Arc<dyn Backend>,
        stop: CancellationToken,
        stays: Arc<AtomicBool>,
    ) -> Self {
        let engine = Engine::new(backend.engine());
        engine.refresh().await;
        let api: Api = Arc::new(Shared { backend, engine, events: EventLog::new() });
        let tasks = TaskTracker::new();
        let background = stop.child_token();
        tasks.spawn({
            let (api, stop) = (Arc::clone(&api), background.clone());
            async move { api.engine.keep_fresh(stop).await }
        });
        tasks.spawn({
            let (api, stop) = (Arc::clone(&api), background.clone());
            async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = api.events.listen(&*api.backend) => {}
                }
            }
        });
        self.accept_all(&api, &tasks, &stop).await;
        if !stays.load(Ordering::Relaxed) {
            // Gone from the file system first, so that nobody new comes while the rest ends. If the file
            // is no longer ours to remove, nothing is lost: the next start finds nobody answering.
            let _ = std::fs::remove_file(&self.path);
        }
        background.cancel();
        tasks.close();
        if tokio::time::timeout(STOP_TIME, tasks.wait()).await.is_err() {
            tracing::debug!(open = tasks.len(), "closing API connections that are still busy");
        }
        self
    }

    async fn accept_all(&self, api: &Api, tasks: &TaskTracker, stop: &CancellationToken) {
        let router = route::router(Arc::clone(api));
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept an API connection; trying again");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else {
                // As much as fits at once: a client that does not read gets nothing.
                let _ = stream.try_write(FULL);
                continue;
            };
            let permit = ConnectionPermit(Arc::new(permit));
            let (api, router, stop) = (Arc::clone(api), router.clone(), stop.clone());
            tasks.spawn(serve_connection(stream, api, router, permit, stop));
        }
    }
}

async fn serve_connection(
    stream: UnixStream,
    api: Api,
    router: axum::Router,
    permit: ConnectionPermit,
    stop: CancellationToken,
) {
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(permit.clone());
        let (api, router) = (Arc::clone(&api), router.clone());
        async move { Ok::<_, Infallible>(route::answer(api, router, request.map(Body::new)).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(STOP_TIME, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an API connection ended badly");
    }
}

async fn clear_stale(path: &Path) -> Result<(), BindError> {
    let kind = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => {
            return Err(BindError::Io { what: "look at", path: path.to_owned(), source });
        }
    };
    if !kind.is_socket() {
        return Err(BindError::NotASocket(path.to_owned()));
    }
    match tokio::time::timeout(PROBE_TIME, UnixStream::connect(path)).await {
        // Accepted, or somebody is there and busy.
        Ok(Ok(_)) | Err(_) => Err(BindError::InUse(path.to_owned())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(|source| BindError::Io {
                what: "remove the stale socket",
                path: path.to_owned(),
                source,
            })
        }
        Ok(Err(source)) => {
            Err(BindError::Io { what: "look who answers on", path: path.to_owned(), source })
        }
    }
}

/// As dockerd does, so that whoever may use docker may use shoal. Without the group, or without the
/// right to give files away, the socket stays with the user who started the node.
fn give_to_docker_group(path: &Path) {
    let Ok(Some(group)) = nix::unistd::Group::from_name("docker") else { return };
    if let Err(error) = nix::unistd::chown(path, None, Some(group.gid)) {
        tracing::debug!(%error, "the API socket was not given to the group docker");
    }
}
