//! Plain containers on networks of the cluster: `docker run --network NAME`, `docker network connect NAME CONTAINER`.
//!
//! The engine has a network under the same name once something on this host needs it. So the node is told that it is
//! needed, the engine is waited for, and the request goes on to it as it came. A name server is put in where the client
//! named none, so that the container finds services by name.

use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use node::command::Command;
use node::network::NetworkView;
use serde_json::{Value, json};

use super::error::ApiError;
use super::networks::{find, rebuilt, with_body};
use super::passthrough;
use super::state::Api;
use node::runtime::label;

/// How long a network may take to be there: a block of addresses has to be taken, and the engine to make it.
const READY_WITHIN: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(50);

pub(super) async fn create_container(
    State(api): State<Api>,
    request: Request,
) -> Result<Response, ApiError> {
    let (request, bytes) = with_body(request).await;
    let Ok(mut body) = serde_json::from_slice::<Value>(&bytes) else {
        // The engine says best what is wrong with it.
        return Ok(passthrough::forward_or_refuse(State(api), request).await);
    };
    let mut gateways = Vec::new();
    let mode = body["HostConfig"]["NetworkMode"].as_str().unwrap_or_default().to_owned();
    if let Some(view) = meant(&api, &mode).await? {
        gateways.extend(ready(&api, &view).await?.gateway);
        body["HostConfig"]["NetworkMode"] = json!(view.name);
        rename(&mut body["NetworkingConfig"]["EndpointsConfig"], &mode, &view.name);
    }
    let named = body["NetworkingConfig"]["EndpointsConfig"].as_object();
    let named: Vec<String> = named.into_iter().flatten().map(|(name, _)| name.clone()).collect();
    for name in named.into_iter().filter(|name| *name != mode) {
        if let Some(view) = meant(&api, &name).await? {
            gateways.extend(ready(&api, &view).await?.gateway);
            rename(&mut body["NetworkingConfig"]["EndpointsConfig"], &name, &view.name);
        }
    }
    if gateways.is_empty() {
        return Ok(passthrough::forward_or_refuse(State(api), request).await);
    }
    let asked = &mut body["HostConfig"]["Dns"];
    if asked.as_array().is_none_or(Vec::is_empty) {
        *asked = json!(gateways.iter().map(ToString::to_string).collect::<Vec<_>>());
    }
    let (head, _) = request.into_parts();
    let request = rebuilt(head, body.to_string().into());
    Ok(passthrough::forward_or_refuse(State(api), request).await)
}

pub(super) async fn connect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(view) = find(&api, &wanted).await? else {
        return Ok(passthrough::forward_or_refuse(State(api), request).await);
    };
    ready(&api, &view).await?;
    to_local(api, request, &view, "connect").await
}

pub(super) async fn disconnect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    match find(&api, &wanted).await? {
        Some(view) => to_local(api, request, &view, "disconnect").await,
        None => Ok(passthrough::forward_or_refuse(State(api), request).await),
    }
}

/// The same request about what stands for the network in the local engine.
async fn to_local(
    api: Api,
    mut request: Request,
    view: &NetworkView,
    what: &str,
) -> Result<Response, ApiError> {
    let path = format!("/networks/{}/{what}", view.name);
    let uri = path.parse().map_err(|_| ApiError::not_found("network", &view.name))?;
    request.extensions_mut().insert(passthrough::AsWritten(uri));
    Ok(passthrough::forward_or_refuse(State(api), request).await)
}

async fn meant(api: &Api, name: &str) -> Result<Option<NetworkView>, ApiError> {
    let own = matches!(name, "" | "default" | "host" | "bridge" | "none");
    if own || name.starts_with("container:") { Ok(None) } else { find(api, name).await }
}

fn rename(endpoints: &mut Value, from: &str, to: &str) {
    if let Some(endpoints) = endpoints.as_object_mut()
        && let Some(endpoint) = endpoints.remove(from)
    {
        endpoints.insert(to.to_owned(), endpoint);
    }
}

/// Sees that the network is there in the local engine; gives it with this host's own address on it.
async fn ready(api: &Api, view: &NetworkView) -> Result<NetworkView, ApiError> {
    api.backend.command(Command::AttachHere { id: view.id }).await?;
    let id = view.id.to_string();
    let there = async {
        loop {
            let now =
                api.backend.networks().await.into_iter().find(|network| network.id == view.id);
            if let Some(now) = now.filter(|now| now.gateway.is_some())
                && let Ok(local) = api.engine.get_json(&format!("/networks/{}", view.name)).await
                && local["Labels"][label::NETWORK] == id.as_str()
            {
                return now;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::time::timeout(READY_WITHIN, there).await.map_err(|_| {
        ApiError::unavailable(format!(
            "network {} is not there on this host after {} s: its engine may be slow, or the network has no free block of addresses ('docker service ps' and shoal's log say more). Nothing was attached",
            view.name,
            READY_WITHIN.as_secs()
        ))
    })
}
