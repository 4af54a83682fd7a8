//! Refusals in Docker's form: a status code and `{"message": "..."}`.
//!
//! The docker CLI prints the message as it is and decides by the status alone, mostly by 404. The
//! content type must be exactly `application/json`, or the CLI prints the raw body. Every 501 holds
//! the words "not supported": `docker inspect` goes on to the next kind of object only when it sees
//! a 404 or those words.

use axum::body::Body;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use node::command::{CommandError, Refused};
use serde_json::json;

/// One refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(kind: &str, wanted: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("{kind} {wanted} not found"))
    }

    pub(super) fn no_such_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }

    /// `what` is not supported; `instead` says why, or what to do about it.
    pub(super) fn unsupported(what: &str, instead: &str) -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            format!("{what} is not supported by shoal: {instead}"),
        )
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = Body::from(json!({ "message": self.message }).to_string());
        (self.status, [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let status = match error.kind {
            Refused::Invalid => StatusCode::BAD_REQUEST,
            Refused::Forbidden => StatusCode::FORBIDDEN,
            Refused::NotFound => StatusCode::NOT_FOUND,
            Refused::Conflict => StatusCode::CONFLICT,
            // Docker's own status for a stale version; docker-py and Terraform read the text.
            Refused::OutOfSequence => StatusCode::INTERNAL_SERVER_ERROR,
            Refused::NotSupported => StatusCode::NOT_IMPLEMENTED,
            Refused::NotStored | Refused::Busy => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.message)
    }
}
