//! Swarm's secrets, configs and overlay networks, which shoal does not have yet.
//!
//! Lists are empty and single objects unknown, which is the truth and lets `docker inspect NAME` look
//! on; creating one is refused with what to do instead.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use serde_json::Value;

use super::error::ApiError;
use super::filters::Params;
use super::passthrough;
use super::state::{Api, read_json};

pub(super) async fn empty_list(params: Params) -> Result<Json<[Value; 0]>, ApiError> {
    params.filters(&["id", "label", "name", "names"])?;
    Ok(Json([]))
}

pub(super) async fn no_such_secret(Path(id): Path<String>) -> ApiError {
    ApiError::not_found("secret", &id)
}

pub(super) async fn no_such_config(Path(id): Path<String>) -> ApiError {
    ApiError::not_found("config", &id)
}

pub(super) async fn no_secrets() -> ApiError {
    ApiError::unsupported(
        "storing secrets",
        "put the file on the hosts, readable by root only, and mount it with --mount type=bind",
    )
}

pub(super) async fn no_configs() -> ApiError {
    ApiError::unsupported(
        "storing configs",
        "put the file on the hosts and mount it with --mount type=bind",
    )
}

/// Local networks are the engine's; those of the whole cluster are refused here, because the engine
/// would say something about swarm managers that helps nobody.
pub(super) async fn create_network(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    // It was read already, by `body_first`.
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let wanted = read_json(&bytes)?;
    if wanted["Driver"] == "overlay" || wanted["Scope"] == "swarm" || wanted["Ingress"] == true {
        return Err(ApiError::unsupported(
            "an overlay network",
            "publish the ports that services need of each other with --publish mode=host, or create a local network (--driver bridge) on each host",
        ));
    }
    let mut request = Request::from_parts(head, Body::empty());
    request.headers_mut().remove(axum::http::header::TRANSFER_ENCODING);
    request.headers_mut().insert(axum::http::header::CONTENT_LENGTH, bytes.len().into());
    *request.body_mut() = Body::from(bytes);
    Ok(passthrough::forward_or_refuse(State(api), request).await.into_response())
}
