//! One request to the local engine over a connection of its own, as the docker command line makes it.

use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// How long an engine may take to accept a connection.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// Only connecting has a deadline here: `docker wait` may take days. Dropping the future or the body ends
/// the call.
///
/// # Errors
/// Why there is no answer, in words.
pub(crate) async fn send(
    socket: &Path,
    request: Request<Body>,
) -> Result<Response<Incoming>, String> {
    let stream = tokio::time::timeout(CONNECT_TIME, UnixStream::connect(socket))
        .await
        .map_err(|_| format!("no connection within {CONNECT_TIME:?}"))?
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    tokio::spawn(async move {
        // An error here also ends the response's body, where whoever reads it sees it.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to the engine broke");
        }
    });
    sender.send_request(request).await.map_err(|error| error.to_string())
}
