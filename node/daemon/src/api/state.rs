//! What the endpoints share, and the few things that each of them does.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use membership::id::ServiceId;
use node::views::{MemberView, ServiceView};
use serde_json::Value;

use super::backend::Backend;
use super::engine::Engine;
use super::error::ApiError;
use super::event_log::EventLog;
use super::lookup;

/// The largest request body that shoal's own endpoints read, in bytes. A spec is a few KB; what is
/// passed through to the engine (images, build contexts) is streamed and has no limit.
pub(super) const MAX_BODY_BYTES: usize = 4 * 1024 * 1024;
/// How long a client may take to send such a body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// Shared by all requests of one API socket.
pub(super) struct Shared {
    pub(super) backend: Arc<dyn Backend>,
    pub(super) engine: Engine,
    pub(super) events: EventLog,
}

pub(super) type Api = Arc<Shared>;

impl Shared {
    pub(super) async fn service(&self, wanted: &str) -> Result<ServiceView, ApiError> {
        let services = self.backend.services().await;
        lookup::find(&services, wanted).cloned()
    }

    /// `self` is this node, as the CLI lets people write it.
    pub(super) async fn member(&self, wanted: &str) -> Result<MemberView, ApiError> {
        let members = self.backend.members().await;
        if wanted == "self"
            && let Some(me) = members.iter().find(|member| member.is_me)
        {
            return Ok(me.clone());
        }
        lookup::find(&members, wanted).cloned()
    }

    /// The ids of all services that a filter's values name; an unknown one is a 404.
    pub(super) async fn services_named<'a>(
        &self,
        wanted: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<ServiceId>, ApiError> {
        let services = self.backend.services().await;
        wanted.map(|name| lookup::find(&services, name).map(|service| service.id)).collect()
    }
}

/// Reads a request's whole body before its endpoint runs, within the limits. An endpoint that answers
/// without having read the body would make the server close the connection under a client that still
/// sends, and the client would report a broken pipe instead of the answer.
pub(super) async fn body_first(request: Request, next: Next) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let collected = tokio::time::timeout(BODY_TIME, Limited::new(body, MAX_BODY_BYTES).collect())
        .await
        .map_err(|_| ApiError::bad("the request body did not arrive within 30 s"))?
        .map_err(|error| {
            if error.is::<LengthLimitError>() {
                ApiError::new(
                    axum::http::StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the request body is larger than {MAX_BODY_BYTES} bytes"),
                )
            } else {
                ApiError::bad("the request body was cut off")
            }
        })?;
    Ok(next.run(Request::from_parts(head, Body::from(collected.to_bytes()))).await)
}

/// Parses a JSON body, whatever its `Content-Type`: people use curl without one.
pub(super) fn read_json(bytes: &Bytes) -> Result<Value, ApiError> {
    if bytes.is_empty() {
        return Err(ApiError::bad("got EOF while reading request body"));
    }
    serde_json::from_slice(bytes)
        .map_err(|error| ApiError::bad(format!("cannot read the request body as JSON: {error}")))
}
