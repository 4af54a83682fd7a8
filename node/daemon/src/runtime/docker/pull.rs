//! Fetching an image: one request, whose answer is a stream of progress.
//!
//! Asked without bollard, which encodes credentials in base64's standard alphabet. Engines decode that of
//! RFC 4648 section 5 only, and take credentials that they cannot decode for none at all: a password that
//! happens to need one of the two letters that differ would fail, and only that one.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use bollard::errors::Error as BollardError;
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{CONTENT_LENGTH, HOST};
use node::registry_auth::RegistryAuth;
use serde_json::Value;

use crate::engine_http;

/// The longest that a pull may be silent: a registry that is not there often just never answers.
const PULL_SILENCE: Duration = Duration::from_secs(60);
/// The longest line of progress, and the longest refusal, that is read.
const MAX_LINE_BYTES: usize = 256 * 1024;

/// Fetches `name` with `tag`, which may be a digest. Has no deadline but that of silence.
pub(super) async fn pull(
    socket: &Path,
    name: &str,
    tag: &str,
    auth: Option<&RegistryAuth>,
) -> Result<(), BollardError> {
    let query = serde_urlencoded::to_string([("fromImage", name), ("tag", tag)])
        .map_err(|error| failed(error.to_string()))?;
    let mut request = Request::post(format!("/images/create?{query}"))
        .header(HOST, "docker")
        .header(CONTENT_LENGTH, 0);
    if let Some(auth) = auth {
        request = request.header("X-Registry-Auth", URL_SAFE.encode(auth.reveal()));
    }
    let request = request.body(Body::empty()).map_err(|error| failed(error.to_string()))?;
    let answer = tokio::time::timeout(PULL_SILENCE, engine_http::send(socket, request))
        .await
        .map_err(|_| silent())?
        .map_err(|reason| BollardError::IOError { err: std::io::Error::other(reason) })?;
    let status = answer.status();
    if status.is_success() {
        follow(answer.into_body()).await
    } else {
        refused(status, answer).await
    }
}

async fn refused(
    status: hyper::StatusCode,
    answer: hyper::Response<Incoming>,
) -> Result<(), BollardError> {
    let body = Limited::new(answer.into_body(), MAX_LINE_BYTES).collect().await;
    let body = body.map(|body| body.to_bytes()).unwrap_or_default();
    let said = serde_json::from_slice::<Value>(&body).ok();
    let said = said.and_then(|said| said["message"].as_str().map(str::to_owned));
    let message = said.unwrap_or_else(|| String::from_utf8_lossy(&body).trim().to_owned());
    Err(BollardError::DockerResponseServerError { status_code: status.as_u16(), message })
}

/// Reads the progress to its end. What went wrong is in its last line; the status was fine.
async fn follow(mut body: Incoming) -> Result<(), BollardError> {
    let mut line = Vec::new();
    loop {
        let frame = tokio::time::timeout(PULL_SILENCE, body.frame()).await.map_err(|_| silent())?;
        let Some(frame) = frame else { return look_at(&line) };
        let frame = frame.map_err(|error| BollardError::IOError {
            err: std::io::Error::other(error.to_string()),
        })?;
        for byte in frame.data_ref().map(|data| &data[..]).unwrap_or_default() {
            if *byte != b'\n' {
                line.push(*byte);
                continue;
            }
            look_at(&line)?;
            line.clear();
        }
        if line.len() > MAX_LINE_BYTES {
            return Err(failed("the engine's progress is not understood".to_owned()));
        }
    }
}

fn look_at(line: &[u8]) -> Result<(), BollardError> {
    let step = serde_json::from_slice::<Value>(line).unwrap_or_default();
    match step["error"].as_str() {
        Some(error) => Err(failed(error.to_owned())),
        None => Ok(()),
    }
}

fn failed(error: String) -> BollardError {
    BollardError::DockerStreamError { error }
}

fn silent() -> BollardError {
    failed(format!("the registry was silent for {} s", PULL_SILENCE.as_secs()))
}
