//! `/services`: list, create, inspect, update, roll back, remove.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use node::command::{Command, Reply};
use node::network::NetworkView;
use node::views::ServiceView;
use serde_json::{Value, json};

use super::error::ApiError;
use super::filters::{Params, json_label};
use super::networks;
use super::normalise::{normalise, random_name};
use super::registry_auth;
use super::service_json::{Show, mode_name, service};
use super::state::{Api, read_json};
use super::unsupported::refuse_networks;
use super::validate::validate;

const FILTERS: &[&str] = &["id", "label", "mode", "name", "runtime"];

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Vec<Value>>, ApiError> {
    let filters = params.filters(FILTERS)?;
    let show = Show { status: params.strict_flag("status")?, defaults: false };
    let mut services = api.backend.services().await;
    services.retain(|view| {
        let labels = view.spec.get("Labels");
        filters.any("id", |id| view.id.to_string().starts_with(id))
            && filters.any("name", |name| view.name.starts_with(name))
            && filters.any("mode", |mode| mode == mode_name(&view.spec))
            && filters.any("runtime", |runtime| runtime == "container")
            && filters.labels("label", |name| json_label(labels, name))
    });
    services.sort_by_key(|view| view.id);
    let networks = networks_of(&api, &services).await;
    Ok(Json(services.iter().map(|view| service(view, &networks, show)).collect()))
}

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let show = Show { status: false, defaults: params.strict_flag("insertDefaults")? };
    let view = api.service(&wanted).await?;
    let networks = networks_of(&api, std::slice::from_ref(&view)).await;
    Ok(Json(service(&view, &networks, show)))
}

/// The networks that services may show addresses of: most have none.
async fn networks_of(api: &Api, services: &[ServiceView]) -> Vec<NetworkView> {
    let has = |view: &ServiceView| {
        let lists = [&view.spec["Networks"], &view.spec["TaskTemplate"]["Networks"]];
        lists.iter().any(|list| list.as_array().is_some_and(|list| !list.is_empty()))
    };
    if services.iter().any(has) { api.backend.networks().await } else { Vec::new() }
}

pub(super) async fn create(
    State(api): State<Api>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let auth = registry_auth::sent(&headers)?.flatten();
    let mut spec = read_json(&body)?;
    normalise(&mut spec);
    if let Some(map) = spec.as_object_mut()
        && map.get("Name").is_none_or(|name| name.is_null() || name == "")
    {
        map.insert("Name".to_owned(), json!(unused_name(&api).await));
    }
    check(&api, &mut spec).await?;
    let name = spec["Name"].as_str().unwrap_or_default();
    if api.backend.services().await.iter().any(|view| view.name == name) {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            format!("name conflicts with an existing object: service {name} already exists"),
        ));
    }
    let reply = api.backend.command(Command::CreateService { spec, auth }).await?;
    let Reply::Created { id, warnings } = reply else {
        return Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the node answered a create with something else; look with docker service ls",
        ));
    };
    Ok((StatusCode::CREATED, Json(json!({ "ID": id.to_string(), "Warnings": warnings }))))
}

/// Whether the spec can be accepted; names of networks become ids.
async fn check(api: &Api, spec: &mut Value) -> Result<(), ApiError> {
    validate(spec)?;
    if !api.engine.exists() {
        refuse_networks(spec)?;
    }
    networks::resolve(api, spec).await
}

async fn unused_name(api: &Api) -> String {
    const TRIES: usize = 8;
    let services = api.backend.services().await;
    let mut name = random_name();
    for _ in 0..TRIES {
        if services.iter().all(|view| view.name != name) {
            break;
        }
        name = random_name();
    }
    name
}

pub(super) async fn update(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let version = params.version("service")?;
    let view = api.service(&wanted).await?;
    let command = match params.get("rollback").unwrap_or_default() {
        "" | "none" => {
            let mut spec = read_json(&body)?;
            normalise(&mut spec);
            keep_name(&mut spec, &view);
            check(&api, &mut spec).await?;
            keep_identity(&spec, &view)?;
            let auth = registry_auth::change(&headers, params.get("registryAuthFrom"))?;
            Command::UpdateService { id: view.id, version, spec, auth }
        }
        "previous" if view.previous_spec.is_none() => {
            return Err(ApiError::bad(format!(
                "service {} does not have a previous spec",
                view.id
            )));
        }
        // The body, which holds the present spec, is ignored.
        "previous" => Command::RollbackService { id: view.id, version },
        other => return Err(ApiError::bad(format!("unrecognized rollback option {other}"))),
    };
    let warnings = match api.backend.command(command).await? {
        Reply::Done { warnings } | Reply::Created { warnings, .. } => warnings,
        Reply::AssetCreated { .. } | Reply::NetworkCreated { .. } => Vec::new(),
    };
    // Docker's null where there is nothing to say.
    Ok(Json(json!({ "Warnings": (!warnings.is_empty()).then_some(warnings) })))
}

/// docker-py leaves the name out of an update that does not change it.
fn keep_name(spec: &mut Value, view: &ServiceView) {
    if let Some(map) = spec.as_object_mut()
        && map.get("Name").is_none_or(|name| name.is_null() || name == "")
    {
        map.insert("Name".to_owned(), json!(view.name));
    }
}

fn keep_identity(spec: &Value, view: &ServiceView) -> Result<(), ApiError> {
    let refuse = |message: &str| Err(ApiError::new(StatusCode::NOT_IMPLEMENTED, message));
    if spec["Name"].as_str() != Some(&view.name) {
        return refuse(
            "renaming services is not supported: create one with the new name and remove the old one",
        );
    }
    if mode_name(spec) != mode_name(&view.spec) {
        return refuse(
            "service mode change is not allowed: going from one mode to another is not supported, \
             remove the service and create it anew",
        );
    }
    Ok(())
}

pub(super) async fn remove(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<StatusCode, ApiError> {
    let view = api.service(&wanted).await?;
    api.backend.command(Command::RemoveService { id: view.id }).await?;
    Ok(StatusCode::OK)
}
