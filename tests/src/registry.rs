//! A registry of one image, on a host of the bed: registry API version 2 over plain HTTP.
//!
//! The machine reaches no registry, and a pull that never worked is not tested by one that fails. This one
//! serves busybox under the names it is given, to whoever shows the right name and password, and notes which
//! hosts fetched what. Engines of a bed take plain HTTP from their own network.

use std::collections::BTreeMap;
use std::fs::File;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sched::{CloneFlags, setns};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use crate::bed::Testbed;
use crate::engine::runtime;

const PORT: u16 = 5000;
const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Ends when it is dropped.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    /// Names without tag under which the image is served.
    names: Vec<String>,
    /// What the header Authorization must say.
    authorization: String,
    manifest: Bytes,
    blobs: BTreeMap<String, Bytes>,
    fetched: Mutex<Vec<(IpAddr, String)>>,
}

impl Registry {
    /// Starts one on a host's own address, with busybox as `names`, for whoever is `user` with `password`.
    pub fn start(
        bed: &Testbed,
        host: usize,
        names: &[&str],
        user: &str,
        password: &str,
    ) -> Result<Registry> {
        let layer = std::fs::read(bed.directory().join("image.tar"))?;
        let address = SocketAddr::new(bed.host(host).address().parse()?, PORT);
        let listener = listen(bed.host(host).inside()?.pid(), address)?;
        let shared = Arc::new(Shared::new(layer, names, user, password));
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let router = router.into_make_service_with_connect_info::<SocketAddr>();
        let server = runtime().spawn(async move {
            let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
            let _ = axum::serve(listener, router).await;
        });
        Ok(Registry { address, shared, server })
    }

    /// `HOST:PORT`, the first part of the names of its images.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// The hosts that fetched the manifest of this image so far, by address.
    pub fn fetched(&self, name: &str) -> Vec<IpAddr> {
        let fetched = self.shared.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        let mut hosts: Vec<IpAddr> =
            fetched.iter().filter(|(_, one)| one == name).map(|(host, _)| *host).collect();
        hosts.sort();
        hosts.dedup();
        hosts
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// A socket belongs to the network in which it was made, wherever it is used afterwards: a thread goes in
/// there, makes it and ends.
fn listen(pid: i32, address: SocketAddr) -> Result<TcpListener> {
    let made = std::thread::spawn(move || -> Result<TcpListener> {
        let network = File::open(format!("/proc/{pid}/ns/net"))?;
        setns(network, CloneFlags::CLONE_NEWNET)?;
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    let made = made.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    made.with_context(|| format!("the registry cannot listen on {address}"))
}

impl Shared {
    fn new(layer: Vec<u8>, names: &[&str], user: &str, password: &str) -> Shared {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let layer = Bytes::from(layer);
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": { "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": [digest(&layer)] },
        });
        let config = Bytes::from(config.to_string());
        let described = |kind: &str, blob: &Bytes| -> Value {
            let kind = format!("application/vnd.docker.{kind}");
            json!({ "mediaType": kind, "size": blob.len(), "digest": digest(blob) })
        };
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": described("container.image.v1+json", &config),
            "layers": [described("image.rootfs.diff.tar", &layer)],
        });
        Shared {
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            authorization: format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))),
            manifest: Bytes::from(manifest.to_string()),
            blobs: [config, layer].map(|blob| (digest(&blob), blob)).into(),
            fetched: Mutex::default(),
        }
    }
}

fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

async fn serve(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    if !is_authorized(&shared, request.headers()) {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"bed\"")];
        return refuse(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", challenge).into_response();
    }
    let path = request.uri().path().trim_start_matches("/v2/");
    if path.is_empty() {
        return StatusCode::OK.into_response();
    }
    let nothing: [(header::HeaderName, &str); 0] = [];
    if let Some((name, reference)) = path.split_once("/manifests/") {
        let of_digest = digest(&shared.manifest);
        let known = shared.names.iter().any(|one| one == name);
        if !known || (reference.contains(':') && reference != of_digest) {
            return refuse(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", nothing).into_response();
        }
        let mut fetched = shared.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        fetched.push((from.ip(), name.to_owned()));
        let head = [
            (header::CONTENT_TYPE, MANIFEST.to_owned()),
            (header::HeaderName::from_static("docker-content-digest"), of_digest),
        ];
        return (head, shared.manifest.clone()).into_response();
    }
    match path.split_once("/blobs/").and_then(|(_, digest)| shared.blobs.get(digest)) {
        Some(blob) => blob.clone().into_response(),
        None => refuse(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", nothing).into_response(),
    }
}

fn is_authorized(shared: &Shared, headers: &HeaderMap) -> bool {
    headers.get(header::AUTHORIZATION).is_some_and(|sent| sent == shared.authorization.as_str())
}

/// An error as the registry API writes it.
fn refuse<const N: usize>(
    status: StatusCode,
    code: &str,
    headers: [(header::HeaderName, &'static str); N],
) -> impl IntoResponse {
    let message = code.to_lowercase().replace('_', " ");
    let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    (status, headers, [(header::CONTENT_TYPE, "application/json")], body)
}
