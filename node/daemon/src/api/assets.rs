//! `/secrets` and `/configs`: list, create, inspect, label, remove; and a config's content replaced in
//! place, for which Docker has no word.
//!
//! The bytes of a secret are sealed here, before anything else sees them, and are never shown again.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use node::assets::AssetKind;
use node::command::{Command, Reply};
use node::files::Content;
use node::template::check_content;
use node::views::AssetView;
use serde_json::{Map, Value, json};
use zeroize::{Zeroize, Zeroizing};

use super::error::ApiError;
use super::filters::{Params, json_label};
use super::state::{Api, read_json};
use super::{lookup, rfc3339};

const FILTERS: &[&str] = &["id", "label", "name", "names"];

/// One endpoint for each kind.
macro_rules! both {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $out:ty = $of:ident;)*) => {
        pub(super) mod secrets {
            use super::*;
            $(pub(in crate::api) async fn $name(State(api): State<Api>, $($arg: $ty),*) -> $out {
                super::$of(&api, AssetKind::Secret, $($arg),*).await
            })*
        }
        pub(super) mod configs {
            use super::*;
            $(pub(in crate::api) async fn $name(State(api): State<Api>, $($arg: $ty),*) -> $out {
                super::$of(&api, AssetKind::Config, $($arg),*).await
            })*
        }
    };
}

both! {
    list(params: Params) -> Result<Json<Vec<Value>>, ApiError> = list_of;
    create(body: Bytes) -> Result<(StatusCode, Json<Value>), ApiError> = create_one;
    inspect(id: Path<String>) -> Result<Json<Value>, ApiError> = inspect_one;
    update(id: Path<String>, params: Params, body: Bytes) -> Result<StatusCode, ApiError> = update_one;
    remove(id: Path<String>) -> Result<StatusCode, ApiError> = remove_one;
}

async fn find(api: &Api, kind: AssetKind, wanted: &str) -> Result<AssetView, ApiError> {
    let assets = api.backend.assets(kind).await;
    lookup::find_as(kind.name(), &assets, wanted).cloned()
}

fn shown(view: &AssetView) -> Value {
    let mut spec = (*view.spec).clone();
    if let Some(map) = spec.as_object_mut() {
        if map.get("Labels").is_none_or(Value::is_null) {
            map.insert("Labels".to_owned(), json!({}));
        }
        if view.kind == AssetKind::Config {
            map.insert("Data".to_owned(), json!(STANDARD.encode(view.content.bytes())));
        }
    }
    json!({
        "ID": view.id.to_string(),
        "Version": { "Index": view.version },
        "CreatedAt": rfc3339::from_wall(view.created),
        "UpdatedAt": rfc3339::from_wall(view.updated),
        "Spec": spec,
    })
}

async fn list_of(api: &Api, kind: AssetKind, params: Params) -> Result<Json<Vec<Value>>, ApiError> {
    let filters = params.filters(FILTERS)?;
    let mut assets = api.backend.assets(kind).await;
    assets.retain(|view| {
        let labels = view.spec.get("Labels");
        filters.any("id", |id| view.id.to_string().starts_with(id))
            && filters.any("name", |name| view.name.starts_with(name))
            && filters.any("names", |name| view.name == name)
            && filters.labels("label", |name| json_label(labels, name))
    });
    assets.sort_by_key(|view| view.id);
    Ok(Json(assets.iter().map(shown).collect()))
}

async fn inspect_one(
    api: &Api,
    kind: AssetKind,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, ApiError> {
    find(api, kind, &wanted).await.map(|view| Json(shown(&view)))
}

/// A spec as it came, and its content apart from it.
struct Given {
    spec: Value,
    data: Option<Zeroizing<Vec<u8>>>,
}

fn given(kind: AssetKind, body: &Bytes) -> Result<Given, ApiError> {
    let mut spec = read_json(body)?;
    let Some(map) = spec.as_object_mut() else {
        return Err(ApiError::bad(format!("the {} spec must be a JSON object", kind.name())));
    };
    let data = match map.shift_remove("Data") {
        None | Some(Value::Null) => None,
        Some(Value::String(mut text)) => {
            let bytes = STANDARD.decode(&text).map(Zeroizing::new);
            text.zeroize();
            Some(bytes.map_err(|_| ApiError::bad("Data is not base64"))?)
        }
        Some(_) => return Err(ApiError::bad("Data must be base64 in a string")),
    };
    check_labels(map)?;
    for field in ["Driver", "Templating"] {
        let name = map.get(field).and_then(|driver| driver.get("Name")).and_then(Value::as_str);
        match (field, name.unwrap_or_default()) {
            (_, "") | ("Templating", "golang") => {}
            ("Templating", other) => {
                return Err(ApiError::bad(format!(
                    "unknown template driver '{other}': the one that there is is golang"
                )));
            }
            (_, other) => {
                return Err(ApiError::unsupported(
                    &format!("the secret driver '{other}'"),
                    "give the secret's own bytes; they are kept sealed",
                ));
            }
        }
    }
    Ok(Given { spec, data })
}

fn check_labels(spec: &Map<String, Value>) -> Result<(), ApiError> {
    match spec.get("Labels") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Object(labels)) if labels.values().all(Value::is_string) => Ok(()),
        Some(_) => Err(ApiError::bad("Labels must be an object of strings")),
    }
}

async fn create_one(
    api: &Api,
    kind: AssetKind,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let Given { spec, data } = given(kind, &body)?;
    let name = spec["Name"].as_str().unwrap_or_default().to_owned();
    let data = data.unwrap_or_default();
    check_size(kind, &data)?;
    if spec["Templating"]["Name"] == "golang" {
        check_content(&data)
            .map_err(|why| ApiError::bad(format!("the {} is no template: {why}", kind.name())))?;
    }
    let content = match kind {
        AssetKind::Secret => api
            .backend
            .vault()
            .seal(&name, &data)
            .map_err(|error| ApiError::unavailable(error.to_string()))?,
        AssetKind::Config => Content::new(data.as_slice()),
    };
    match api.backend.command(Command::CreateAsset { kind, spec, content }).await? {
        Reply::AssetCreated { id } => {
            Ok((StatusCode::CREATED, Json(json!({ "ID": id.to_string() }))))
        }
        _ => Err(ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the node answered a create with something else; look at the list",
        )),
    }
}

fn check_size(kind: AssetKind, data: &[u8]) -> Result<(), ApiError> {
    if (1..kind.limit()).contains(&data.len()) {
        return Ok(());
    }
    Err(ApiError::bad(format!(
        "{} data must be larger than 0 and less than {} bytes",
        kind.name(),
        kind.limit()
    )))
}

/// Every `docker stack deploy` sends each config and secret again, with its data.
async fn update_one(
    api: &Api,
    kind: AssetKind,
    Path(wanted): Path<String>,
    params: Params,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let version = params.version(kind.name())?;
    let view = find(api, kind, &wanted).await?;
    let Given { spec, data } = given(kind, &body)?;
    if data.is_some_and(|data| !data.is_empty() && !holds(api, &view, &data)) {
        return Err(ApiError::bad("only updates to Labels are allowed"));
    }
    api.backend.command(Command::UpdateAsset { kind, id: view.id, version, spec }).await?;
    Ok(StatusCode::OK)
}

fn holds(api: &Api, view: &AssetView, data: &[u8]) -> bool {
    match view.kind {
        AssetKind::Config => view.content.bytes() == data,
        AssetKind::Secret => {
            let opened = api.backend.vault().open(&view.name, &view.content);
            opened.is_ok_and(|opened| opened.as_slice() == data)
        }
    }
}

async fn remove_one(
    api: &Api,
    kind: AssetKind,
    Path(wanted): Path<String>,
) -> Result<StatusCode, ApiError> {
    let view = find(api, kind, &wanted).await?;
    api.backend.command(Command::RemoveAsset { kind, id: view.id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /shoal/v1/configs/{id}/data?signal=HUP` with `{"Data": "<base64>"}`: another content for a
/// config. Whoever runs a task that has it as a file replaces the file and sends the signal.
pub(super) async fn replace(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
    body: Bytes,
) -> Result<Json<Value>, ApiError> {
    let kind = AssetKind::Config;
    let view = find(&api, kind, &wanted).await?;
    let version = match params.get("version") {
        Some(_) => params.version(kind.name())?,
        None => view.version,
    };
    let data = given(kind, &body)?.data.unwrap_or_default();
    check_size(kind, &data)?;
    if view.spec["Templating"]["Name"] == "golang" {
        check_content(&data).map_err(|why| ApiError::bad(format!("it is no template: {why}")))?;
    }
    let content = Content::new(data.as_slice());
    let signal = params.get("signal").filter(|signal| !signal.is_empty()).map(str::to_owned);
    let id = view.id;
    api.backend.command(Command::ReplaceConfig { id, version, content, signal }).await?;
    let users = Arc::new(api.backend.services().await);
    let text = id.to_string();
    let names: Vec<&str> = users
        .iter()
        .filter(|service| {
            let configs = &service.spec["TaskTemplate"]["ContainerSpec"]["Configs"];
            configs.as_array().into_iter().flatten().any(|config| config["ConfigID"] == text)
        })
        .map(|service| service.name.as_str())
        .collect();
    Ok(Json(json!({ "id": text, "services": names })))
}
