//! Asks the engine which bridges it believes to have.
//!
//! Only when one is missing: either the engine has not made it yet, or has taken it down with its network, and then it
//! is left to the engine; or somebody else deleted it, which the engine does not notice until its next start.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use http_body_util::{BodyExt, Limited};
use hyper::{Method, Request, StatusCode};
use serde_json::Value;

use super::DriveError;
use crate::engine_http;

/// The engine's option that names a network's bridge.
const BRIDGE_NAME: &str = "com.docker.network.bridge.name";
const TIME: Duration = Duration::from_secs(10);
/// The longest list of networks that is read, in bytes.
const MAX_LIST: usize = 16 << 20;

/// The names of the bridges of the engine's networks, as far as they were given a name.
pub(super) async fn bridges(socket: &Path) -> Result<BTreeSet<String>, DriveError> {
    let failed = |why: String| DriveError::Engine { socket: socket.to_owned(), why };
    let request = Request::builder()
        .method(Method::GET)
        .uri("/networks")
        .header("host", "engine")
        .body(Body::empty())
        .map_err(|error| failed(error.to_string()))?;
    let asking = async {
        let response = engine_http::send(socket, request).await?;
        if response.status() != StatusCode::OK {
            return Err(format!("it answers {}", response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_LIST).collect().await;
        Ok(body.map_err(|error| error.to_string())?.to_bytes())
    };
    let bytes = tokio::time::timeout(TIME, asking)
        .await
        .map_err(|_| failed(format!("no answer within {} s", TIME.as_secs())))?
        .map_err(failed)?;
    let networks: Vec<Value> =
        serde_json::from_slice(&bytes).map_err(|error| failed(error.to_string()))?;
    let name =
        |network: &Value| network.get("Options")?.get(BRIDGE_NAME)?.as_str().map(str::to_owned);
    Ok(networks.iter().filter_map(name).collect())
}
