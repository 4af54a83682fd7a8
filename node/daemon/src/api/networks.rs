//! `GET /networks/{id}`: Swarm shows the engine's own `host` and `bridge` as networks of the whole cluster, so that
//! services can be attached to them; clients look them up before they create such a service. Every other network is
//! the engine's.

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::ApiError;
use super::filters::Params;
use super::passthrough;
use super::rfc3339;
use super::state::Api;
use crate::predefined;

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let swarm_wide = params.get("scope") == Some("swarm");
    let by_id = !predefined::SHOWN.contains(&wanted.as_str());
    match predefined::shown(&wanted) {
        Some(name) if swarm_wide || by_id => {
            let created = rfc3339::from_wall(api.backend.cluster().await.created);
            Ok(Json(network(name, &created)).into_response())
        }
        None if swarm_wide => Err(ApiError::not_found("network", &wanted)),
        _ => Ok(passthrough::forward_or_refuse(State(api), request).await),
    }
}

fn network(name: &str, created: &str) -> Value {
    json!({
        "Name": name,
        "Id": predefined::id(name),
        "Created": created,
        "Scope": "swarm",
        "Driver": name,
        "EnableIPv6": false,
        "IPAM": { "Driver": "", "Options": null, "Config": null },
        "Internal": false,
        "Attachable": false,
        "Ingress": false,
        "ConfigFrom": { "Network": "" },
        "ConfigOnly": false,
        "Containers": null,
        "Options": null,
        "Labels": null,
    })
}
