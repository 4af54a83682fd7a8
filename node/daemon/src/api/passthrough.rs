//! Everything that is not Swarm's goes to the local engine as it came: containers, images, volumes,
//! exec, build. Bodies are streamed both ways without a limit, and `attach`, `exec` and BuildKit's
//! sessions take the connection over after a `101`, with each direction closed on its own.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;

use super::engine::EngineError;
use super::error::ApiError;
use super::listen::ConnectionPermit;
use super::state::Api;

/// The path and query as the client wrote them, before the version prefix was taken off.
#[derive(Clone, Debug)]
pub(super) struct AsWritten(pub(super) Uri);

/// What belongs to us even where no endpoint of ours is: a new path under these that an engine
/// outside a swarm cannot answer.
const OURS: &[&str] = &["services", "tasks", "nodes", "swarm", "secrets", "configs", "shoal"];

/// The router's fallback.
pub(super) async fn forward_or_refuse(State(api): State<Api>, request: Request) -> Response {
    let first = request.uri().path().trim_start_matches('/').split('/').next().unwrap_or_default();
    if OURS.contains(&first) {
        return ApiError::no_such_page().into_response();
    }
    match forward(&api, request).await {
        Ok(response) => response,
        Err(error @ EngineError::None) => ApiError::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("not supported by shoal with the process runtime: {error}"),
        )
        .into_response(),
        Err(error) => ApiError::unavailable(error.to_string()).into_response(),
    }
}

pub(super) async fn forward(api: &Api, mut request: Request) -> Result<Response, EngineError> {
    if let Some(AsWritten(uri)) = request.extensions_mut().remove() {
        *request.uri_mut() = origin_form(&uri);
    }
    request.headers_mut().entry(header::HOST).or_insert(HeaderValue::from_static("docker"));
    let permit = request.extensions_mut().remove::<ConnectionPermit>();
    let wants_upgrade = request.headers().contains_key(header::UPGRADE);
    let client = wants_upgrade.then(|| hyper::upgrade::on(&mut request));
    let mut response = api.engine.send(request).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let engine = hyper::upgrade::on(&mut response);
        if let Some(client) = client {
            tokio::spawn(tunnel(client, engine, permit));
        }
    }
    Ok(response.map(Body::new))
}

/// The engine's socket takes `/path?query`, not a whole URL.
fn origin_form(uri: &Uri) -> Uri {
    uri.path_and_query()
        .map(|path| Uri::from(path.clone()))
        .unwrap_or_else(|| Uri::from_static("/"))
}

/// Copies bytes both ways until both directions have ended.
async fn tunnel(
    client: hyper::upgrade::OnUpgrade,
    engine: hyper::upgrade::OnUpgrade,
    permit: Option<ConnectionPermit>,
) {
    let (client, engine) = match tokio::try_join!(client, engine) {
        Ok(both) => both,
        Err(error) => {
            tracing::debug!(%error, "a connection was not taken over");
            return;
        }
    };
    let (mut client, mut engine) = (TokioIo::new(client), TokioIo::new(engine));
    if let Err(error) = tokio::io::copy_bidirectional(&mut client, &mut engine).await {
        tracing::debug!(%error, "a taken-over connection broke");
    }
    // Counted as a connection of the API for as long as it lasts.
    drop(permit);
}
