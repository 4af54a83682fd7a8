//! A relay in front of the real engine: it can hang and break off, and notes what is asked.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use daemon::runtime::Owner;
use membership::id::{ClusterId, NodeId};
use node::runtime::RuntimeEvent;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use crate::bench::{Bench, SOCKET, random};

/// Passes bytes on to the engine until told to hang: then it still accepts, and nothing comes back.
pub(crate) struct Relay {
    dir: tempfile::TempDir,
    pub(crate) hung: watch::Sender<bool>,
    /// The first line of each request, as `POST /containers/create`, without version and query.
    requests: Arc<Mutex<Vec<String>>>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Relay {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut relay =
            Self { dir, hung: watch::Sender::new(false), requests: Arc::default(), task: None };
        relay.open();
        relay
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    pub(crate) fn open(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (hung, requests) = (self.hung.subscribe(), self.requests.clone());
        self.task = Some(tokio::spawn(async move {
            // Its connections end with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(relay(client, hung.clone(), requests.clone()));
            }
        }));
    }

    /// A runtime that works through this relay, and has found the engine.
    pub(crate) async fn bench(&self) -> Bench {
        let owner = Owner { cluster: ClusterId(random()), node: NodeId(random()) };
        let mut bench = Bench::at(&self.socket(), owner);
        bench.event("engine", |event| matches!(event, RuntimeEvent::EngineBack { .. })).await;
        bench
    }

    /// What was asked of the engine since the last time, but for heartbeats: how often it was asked how one container
    /// is, and everything else in order.
    pub(crate) fn take_looks(&self) -> (usize, Vec<String>) {
        let requests = std::mem::take(&mut *self.requests.lock().unwrap());
        let asked = requests.into_iter().filter(|request| !request.ends_with("/_ping"));
        let of_one = |asked: &String| {
            asked.starts_with("GET /containers/") && asked.as_str() != "GET /containers/json"
        };
        let (looks, others): (Vec<_>, _) = asked.partition(of_one);
        (looks.len(), others)
    }

    /// As a killed engine: connections break, new ones are refused.
    pub(crate) async fn close(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }
}

async fn relay(
    mut client: UnixStream,
    mut hung: watch::Receiver<bool>,
    requests: Arc<Mutex<Vec<String>>>,
) {
    let go_on = |hung: &mut watch::Receiver<bool>| {
        let mut hung = hung.clone();
        async move { hung.wait_for(|hung| !*hung).await.is_ok() }
    };
    if !go_on(&mut hung).await {
        return;
    }
    let Ok(mut engine) = UnixStream::connect(SOCKET).await else { return };
    // The runtime opens a connection for each call.
    let mut head = [0u8; 4096];
    let Ok(read) = client.read(&mut head).await else { return };
    requests.lock().unwrap().push(request(&head[..read]));
    if engine.write_all(&head[..read]).await.is_err() {
        return;
    }
    let froze = tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut client, &mut engine) => false,
        _ = hung.wait_for(|hung| *hung) => true,
    };
    // A frozen engine's connections stay open and silent.
    if froze {
        go_on(&mut hung).await;
    }
}

/// `POST /containers/create` from the head of an HTTP request.
fn request(head: &[u8]) -> String {
    let text = String::from_utf8_lossy(head);
    let mut words = text.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = target.split('?').next().unwrap_or_default();
    let versioned = path.strip_prefix("/v").and_then(|rest| rest.split_once('/'));
    format!("{method} /{}", versioned.map_or(path.trim_start_matches('/'), |(_, rest)| rest))
}
