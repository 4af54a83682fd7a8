//! The local engine as the API knows it: where it is, which API versions it speaks, small questions.
//!
//! What everything else is passed through with is in `passthrough`. The engine's versions are learnt in
//! the background and read from memory, so that an engine that hangs holds up no Swarm command.

use std::path::PathBuf;
use std::sync::RwLock;
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, header};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::version::ApiVersion;
use crate::engine_http;

/// How long it may take to answer a small question of our own (`/_ping`, `/version`, `/info`).
const ANSWER_TIME: Duration = Duration::from_secs(3);
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// How often its versions are read again: it may have been upgraded.
const REFRESH_EVERY: Duration = Duration::from_secs(30);
/// The same while it does not answer.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// What is known of the engine without asking it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) api_version: ApiVersion,
    pub(super) min_version: ApiVersion,
    pub(super) os: String,
    pub(super) builder: Option<String>,
    /// The last question was answered.
    pub(super) answers: bool,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            // Without an engine all answers are our own, in the shape of this version.
            api_version: ApiVersion { major: 1, minor: 47 },
            min_version: ApiVersion { major: 1, minor: 24 },
            os: "linux".to_owned(),
            builder: None,
            answers: false,
        }
    }
}

/// Why the engine gave no answer, in the operator's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum EngineError {
    #[error(
        "this node runs its services as plain processes and has no Docker engine to ask; service, node and task commands work"
    )]
    None,
    #[error(
        "the Docker engine at {} does not answer ({reason}); service and node commands still work, and other nodes are not affected. Is dockerd running?", socket.display()
    )]
    Silent { socket: PathBuf, reason: String },
}

#[derive(Debug)]
pub(super) struct Engine {
    socket: Option<PathBuf>,
    facts: RwLock<Facts>,
}

impl Engine {
    pub(super) fn new(socket: Option<PathBuf>) -> Self {
        Self { socket, facts: RwLock::new(Facts::default()) }
    }

    pub(super) fn exists(&self) -> bool {
        self.socket.is_some()
    }

    pub(super) fn facts(&self) -> Facts {
        self.facts.read().map(|facts| facts.clone()).unwrap_or_default()
    }

    /// Learns the versions anew. What was known stays while the engine does not answer.
    pub(super) async fn refresh(&self) {
        if self.socket.is_none() {
            return;
        }
        let learnt = self.learn().await;
        let Ok(mut facts) = self.facts.write() else { return };
        match learnt {
            Ok(learnt) => *facts = learnt,
            Err(error) => {
                if facts.answers {
                    tracing::warn!(%error, "the engine stopped answering the API");
                }
                facts.answers = false;
            }
        }
    }

    async fn learn(&self) -> Result<Facts, EngineError> {
        let version = self.get_json("/version").await?;
        let (headers, _) = self.ask("/_ping").await?;
        let read = |key: &str| version[key].as_str().and_then(ApiVersion::parse);
        let known = self.facts();
        Ok(Facts {
            api_version: read("ApiVersion").unwrap_or(known.api_version),
            min_version: read("MinAPIVersion").unwrap_or(known.min_version),
            os: version["Os"].as_str().unwrap_or("linux").to_owned(),
            builder: headers
                .get("builder-version")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            answers: true,
        })
    }

    /// Keeps the facts fresh until told to stop.
    pub(super) async fn keep_fresh(&self, stop: CancellationToken) {
        if self.socket.is_none() {
            return;
        }
        loop {
            let pause = if self.facts().answers { REFRESH_EVERY } else { RETRY_EVERY };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => self.refresh().await,
            }
        }
    }

    /// One small GET, parsed.
    pub(super) async fn get_json(&self, path: &str) -> Result<Value, EngineError> {
        let (_, body) = self.ask(path).await?;
        serde_json::from_slice(&body)
            .map_err(|error| self.silent(format!("its answer to {path} is not JSON: {error}")))
    }

    async fn ask(&self, path: &str) -> Result<(HeaderMap, Bytes), EngineError> {
        let exchange = async {
            let request = Request::builder()
                .method(Method::GET)
                .uri(path)
                .header(header::HOST, "docker")
                .body(Body::empty())
                .map_err(|error| self.silent(error.to_string()))?;
            let response = self.send(request).await?;
            if !response.status().is_success() {
                return Err(self.silent(format!("{path} gave {}", response.status())));
            }
            let (head, body) = response.into_parts();
            let body = Limited::new(body, MAX_ANSWER_BYTES)
                .collect()
                .await
                .map_err(|error| self.silent(error.to_string()))?;
            Ok((head.headers, body.to_bytes()))
        };
        tokio::time::timeout(ANSWER_TIME, exchange)
            .await
            .unwrap_or_else(|_| Err(self.silent(format!("no answer within {ANSWER_TIME:?}"))))
    }

    /// Sends one request; see [`engine_http::send`].
    pub(super) async fn send(
        &self,
        request: Request<Body>,
    ) -> Result<hyper::Response<Incoming>, EngineError> {
        let socket = self.socket.as_deref().ok_or(EngineError::None)?;
        engine_http::send(socket, request).await.map_err(|reason| self.silent(reason))
    }

    fn silent(&self, reason: String) -> EngineError {
        match &self.socket {
            Some(socket) => EngineError::Silent { socket: socket.clone(), reason },
            None => EngineError::None,
        }
    }
}
