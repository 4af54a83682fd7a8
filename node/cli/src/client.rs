//! HTTP over the node's Unix socket: small requests with deadlines, and streams without an end.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

/// How long a node may take to accept the connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// How long it may take to answer. A command waits for two disks; the node gives up before we do.
const ANSWER_TIME: Duration = Duration::from_secs(60);
/// The largest answer that is read: some ten thousand tasks.
const MAX_ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// Why there is no answer, or not the wanted one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClientError {
    #[error(
        "cannot reach a shoal node at unix://{}: {reason}. Start one with `shoal up`, or name another with --host", socket.display()
    )]
    Unreachable { socket: PathBuf, reason: String },
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error(
        "the node's answer was cut off: {0}. What was asked may or may not have happened; look with `shoal service ls`"
    )]
    Broken(String),
    #[error("the node did not answer within {} s. What was asked may or may not have happened; look with `shoal status`", .0.as_secs())]
    TooSlow(Duration),
}

impl ClientError {
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == StatusCode::NOT_FOUND)
    }

    /// Somebody else changed the thing between our reading and our writing.
    pub(crate) fn is_out_of_sequence(&self) -> bool {
        matches!(self, Self::Refused { message, .. } if message.ends_with("update out of sequence"))
    }
}

/// One node's API.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    socket: PathBuf,
}

impl Client {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        self.exchange(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.exchange(Method::POST, path, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<Value, ClientError> {
        self.exchange(Method::DELETE, path, None).await
    }

    /// A stream: only its head has a deadline. Dropping it ends the call.
    pub(crate) async fn stream(&self, path: &str) -> Result<Incoming, ClientError> {
        let response = within(self.send(Method::GET, path, None)).await?;
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let status = response.status();
        let body = within(read(response.into_body())).await?;
        Err(refusal(status, &body))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, ClientError> {
        let (status, body) = within(async {
            let response = self.send(method, path, body).await?;
            let status = response.status();
            Ok((status, read(response.into_body()).await?))
        })
        .await?;
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::Broken(format!("it is not JSON ({error})")))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = tokio::time::timeout(CONNECT_TIME, UnixStream::connect(&self.socket))
            .await
            .map_err(|_| self.unreachable("it does not accept the connection"))?
            .map_err(|error| self.unreachable(reason(&error)))?;
        let broken = |error: hyper::Error| ClientError::Broken(error.to_string());
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        // Its errors also end the response, where they are reported.
        tokio::spawn(connection);
        let bytes = body.map(|value| Bytes::from(value.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("Host", "shoal")
            .header("Content-Type", "application/json")
            .body(Full::new(bytes))
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        sender.send_request(request).await.map_err(broken)
    }

    fn unreachable(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Unreachable { socket: self.socket.clone(), reason: reason.into() }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, ClientError>>) -> Result<T, ClientError> {
    tokio::time::timeout(ANSWER_TIME, work).await.unwrap_or(Err(ClientError::TooSlow(ANSWER_TIME)))
}

async fn read(body: Incoming) -> Result<Bytes, ClientError> {
    let whole = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    whole.map(http_body_util::Collected::to_bytes).map_err(|e| ClientError::Broken(e.to_string()))
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::ConnectionRefused => "nobody answers on it".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "permission denied (its users are root and the group docker)".to_owned()
        }
        _ => error.to_string(),
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let message = serde_json::from_slice::<Value>(body)
        .ok()
        .and_then(|value| value["message"].as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("the node answered {status}"));
    // What a dockerd outside a swarm says to everything that is not its own.
    let message = if message.starts_with("This node is not a swarm manager") {
        "this is the socket of a Docker engine, not of a shoal node: name the node's with --host (its default is unix:///run/shoal/docker.sock)".to_owned()
    } else if message == "page not found" {
        "page not found: is this the socket of a shoal node, and of a version that knows this command?".to_owned()
    } else {
        message
    };
    ClientError::Refused { status, message }
}

/// A value in a path or a query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(byte).to_string()
            }
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

/// `?filters=…`
pub(crate) fn filters(filters: &Value) -> String {
    format!("filters={}", encoded(&filters.to_string()))
}
