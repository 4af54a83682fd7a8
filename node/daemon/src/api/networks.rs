//! `/networks`: the cluster's networks beside the local engine's, as Swarm shows them.
//!
//! A network of the cluster is found by name, id or the beginning of its id before the engine is asked. What stands for
//! it in the local engine has the same name and is not shown beside it. Swarm also shows the engine's own `host` and
//! `bridge` as networks of the whole cluster, so that services can be attached to them; clients look them up before
//! they create such a service.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use node::command::{Command, Reply};
use node::network::NetworkView;
use node::runtime::label;
use serde_json::{Value, json};

use super::backend::TaskQuery;
use super::engine::EngineError;
use super::error::ApiError;
use super::filters::{Filters, Params, json_label};
use super::lookup::{self, Named};
use super::network_json;
use super::passthrough;
use super::rfc3339;
use super::state::{Api, read_json};
use crate::predefined;

const FILTERS: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];

impl Named for NetworkView {
    const KIND: &'static str = "network";
    fn id_text(&self) -> String {
        self.id.to_string()
    }
    fn name_text(&self) -> &str {
        &self.name
    }
    fn owns_name(&self) -> bool {
        self.shadowed_by.is_none()
    }
}

/// The cluster's network that is meant, if it is one.
pub(super) async fn find(api: &Api, wanted: &str) -> Result<Option<NetworkView>, ApiError> {
    let networks = api.backend.networks().await;
    match lookup::find(&networks, wanted) {
        Ok(view) => Ok(Some(view.clone())),
        Err(error) if error.status == StatusCode::NOT_FOUND => Ok(None),
        Err(error) => Err(error),
    }
}

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
    request: Request,
) -> Result<Json<Vec<Value>>, ApiError> {
    let filters = params.filters(FILTERS)?;
    let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
    let mut shown = match api.engine.get_json(&format!("/networks{query}")).await {
        Ok(Value::Array(list)) => list,
        Ok(_) | Err(EngineError::None) => Vec::new(),
        Err(error) => return Err(ApiError::unavailable(error.to_string())),
    };
    shown.retain(|network| json_label(network.get("Labels"), label::NETWORK).is_none());
    let mut networks = api.backend.networks().await;
    networks.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    shown.extend(networks.iter().filter(|view| matches(&filters, view)).map(network_json::network));
    Ok(Json(shown))
}

fn matches(filters: &Filters, view: &NetworkView) -> bool {
    let labels = view.spec.get("Labels");
    let used = !view.services.is_empty() || !view.tasks.is_empty();
    filters.any("id", |id| view.id.to_string().starts_with(id))
        && filters.any("name", |name| view.name.contains(name))
        && filters.any("driver", |driver| driver == "overlay")
        && filters.any("scope", |scope| matches!(scope, "swarm" | "global"))
        && filters.any("type", |kind| kind == "custom")
        && filters.any("dangling", |dangling| matches!(dangling, "true" | "1") != used)
        && filters.labels("label", |name| json_label(labels, name))
}

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
    request: Request,
) -> Result<Response, ApiError> {
    let scope = params.get("scope").unwrap_or_default();
    let swarm_wide = scope == "swarm";
    if scope != "local"
        && let Some(view) = find(&api, &wanted).await?
    {
        let mut shown = network_json::network(&view);
        if let Some(containers) = containers_here(&api, &view).await {
            shown["Containers"] = containers;
        }
        if params.flag("verbose") {
            let services = api.backend.services().await;
            let tasks = api.backend.tasks(TaskQuery::All).await;
            let services = network_json::services(&view, &services, &tasks);
            if !services.is_empty() {
                shown["Services"] = Value::Object(services);
            }
        }
        return Ok(Json(shown).into_response());
    }
    let by_id = !predefined::SHOWN.contains(&wanted.as_str());
    match predefined::shown(&wanted) {
        Some(name) if swarm_wide || by_id => {
            let created = rfc3339::from_wall(api.backend.cluster().await.created);
            Ok(Json(predefined_network(name, &created)).into_response())
        }
        None if swarm_wide => Err(ApiError::not_found("network", &wanted)),
        _ => Ok(passthrough::forward_or_refuse(State(api), request).await),
    }
}

/// What is attached to it on this host, as the engine says.
async fn containers_here(api: &Api, view: &NetworkView) -> Option<Value> {
    let there = local(api, view).await?;
    there.get("Containers").filter(|containers| containers.is_object()).cloned()
}

/// What stands for it in the local engine.
async fn local(api: &Api, view: &NetworkView) -> Option<Value> {
    view.gateway?;
    let there = api.engine.get_json(&format!("/networks/{}", view.name)).await.ok()?;
    let stands_for = json_label(there.get("Labels"), label::NETWORK);
    (stands_for == Some(view.id.to_string().as_str())).then_some(there)
}

fn predefined_network(name: &str, created: &str) -> Value {
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

pub(super) async fn create(State(api): State<Api>, request: Request) -> Result<Response, ApiError> {
    let (request, bytes) = with_body(request).await;
    let spec = read_json(&bytes)?;
    let name = spec["Name"].as_str().unwrap_or_default();
    let taken = || {
        let text = format!("network with name {name} already exists");
        ApiError::new(StatusCode::CONFLICT, text)
    };
    let swarm_wide =
        spec["Driver"] == "overlay" || spec["Scope"] == "swarm" || spec["Ingress"] == true;
    if !swarm_wide {
        let ours = api.backend.networks().await;
        if ours.iter().any(|view| view.name == name && view.id != node::network::INGRESS) {
            return Err(taken());
        }
        return Ok(passthrough::forward_or_refuse(State(api), request).await);
    }
    if !api.engine.exists() {
        return Err(ApiError::unsupported(
            "an overlay network",
            "this node runs its services as plain processes, which share the host's network; run nodes with Docker for networks of the whole cluster",
        ));
    }
    check_create(&spec)?;
    if let Ok(Value::Array(local)) = api.engine.get_json("/networks").await {
        let stands_for =
            |network: &Value| json_label(network.get("Labels"), label::NETWORK).is_some();
        if local.iter().any(|network| network["Name"] == name && !stands_for(network)) {
            return Err(taken());
        }
    }
    match api.backend.command(Command::CreateNetwork { spec }).await? {
        Reply::NetworkCreated { id } => {
            let created = json!({ "Id": id.to_string(), "Warning": "" });
            Ok((StatusCode::CREATED, Json(created)).into_response())
        }
        _ => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the node answered a create with something else; look with docker network ls",
        )),
    }
}

/// What of a network's spec has no meaning here.
fn check_create(spec: &Value) -> Result<(), ApiError> {
    let driver = spec["Driver"].as_str().unwrap_or_default();
    if !matches!(driver, "" | "overlay") {
        return Err(ApiError::new(
            StatusCode::NOT_FOUND,
            format!(
                "plugin \"{driver}\" not found: networks of the whole cluster are made with -d overlay"
            ),
        ));
    }
    if spec["ConfigOnly"] == true
        || !spec["ConfigFrom"]["Network"].as_str().unwrap_or_default().is_empty()
    {
        return Err(ApiError::unsupported(
            "a network that is made from a local configuration",
            "give its options to docker network create -d overlay",
        ));
    }
    Ok(())
}

pub(super) async fn remove(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let Some(view) = find(&api, &wanted).await? else {
        return Ok(passthrough::forward_or_refuse(State(api), request).await);
    };
    // Containers of other hosts are not known here; on those their network stays until they have gone.
    let containers = containers_here(&api, &view).await;
    let plain = containers.iter().filter_map(Value::as_object).flatten().find(|(_, endpoint)| {
        let address = endpoint["IPv4Address"].as_str().unwrap_or_default();
        let address = address.split('/').next().and_then(|text| text.parse().ok());
        let of_task = view.tasks.values().any(|(_, task)| Some(*task) == address);
        !of_task && view.services.is_empty() && !is_of_service(endpoint)
    });
    if let Some((_, endpoint)) = plain {
        let text = format!(
            "error while removing network: network {} has active endpoints ({})",
            view.name,
            endpoint["Name"].as_str().unwrap_or_default()
        );
        return Err(ApiError::new(StatusCode::FORBIDDEN, text));
    }
    api.backend.command(Command::RemoveNetwork { id: view.id }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Containers of tasks are called `<service>.<slot>.<task>`; those of a service that was just removed are on their way
/// out, and clients remove its networks without waiting.
fn is_of_service(endpoint: &Value) -> bool {
    let name = endpoint["Name"].as_str().unwrap_or_default();
    let task = name.trim_end_matches(".stopping").rsplit('.').next().unwrap_or_default();
    task.parse::<membership::id::TaskId>().is_ok()
}

/// The request again, and its body, which `body_first` has read already.
pub(super) async fn with_body(request: Request) -> (Request, Bytes) {
    let (head, body) = request.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    (rebuilt(head, bytes.clone()), bytes)
}

/// A request with this body instead of the one it had.
pub(super) fn rebuilt(head: axum::http::request::Parts, bytes: Bytes) -> Request {
    let mut request = Request::from_parts(head, Body::empty());
    request.headers_mut().remove(header::TRANSFER_ENCODING);
    request.headers_mut().insert(header::CONTENT_LENGTH, bytes.len().into());
    *request.body_mut() = Body::from(bytes);
    request
}

/// Puts the ids of networks where a spec names them, as Swarm does. Of networks that every engine has, `normalise` has
/// done it.
pub(super) async fn resolve(api: &Api, spec: &mut Value) -> Result<(), ApiError> {
    let mut known: Option<Vec<NetworkView>> = None;
    for pointer in ["/Networks", "/TaskTemplate/Networks"] {
        let list = spec.pointer_mut(pointer).and_then(Value::as_array_mut);
        for network in list.into_iter().flatten() {
            let Some(Value::String(target)) = network.get_mut("Target") else { continue };
            if predefined::named(target).is_some() {
                continue;
            }
            if known.is_none() {
                known = Some(api.backend.networks().await);
            }
            let found = lookup::find(known.as_deref().unwrap_or_default(), target)?;
            *target = found.id.to_string();
        }
    }
    Ok(())
}
