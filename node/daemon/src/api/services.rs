//! `/services`: list, create, inspect, update, roll back, remove.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use node::command::{Command, Reply};
use node::views::ServiceView;
use serde_json::{Value, json};

use super::error::ApiError;
use super::filters::{Params, json_label};
use super::normalise::{normalise, random_name};
use super::registry_auth;
use super::service_json::{Show, mode_name, service};
use super::state::{Api, read_json};
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
    Ok(Json(services.iter().map(|view| service(view, show)).collect()))
}

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
) -> Result<Json<Value>, ApiError> {
    let show = Show { status: false, defaults: params.strict_flag("insertDefaults")? };
    let view = api.service(&wanted).await?;
    Ok(Json(service(&view, show)))
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
    validate(&spec)?;
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
            validate(&spec)?;
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
        Reply::AssetCreated { .. } => Vec::new(),
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
            "service mode change is not allowed: going between replicated and global is not supported, \
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
