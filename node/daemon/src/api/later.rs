//! Swarm's overlay networks, which shoal does not have yet: creating one is refused with what to do
//! instead.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;

use super::error::ApiError;
use super::passthrough;
use super::state::{Api, read_json};

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
