//! `/nodes`: list, inspect, set labels, role and availability, forget one that is gone.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use node::command::Command;
use node::views::MemberView;
use serde_json::{Value, json};

use super::error::ApiError;
use super::field_names::canonical;
use super::filters::Params;
use super::node_json::{node, role};
use super::state::{Api, read_json};

const FILTERS: &[&str] = &["id", "label", "membership", "name", "node.label", "role"];

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Vec<Value>>, ApiError> {
    let filters = params.filters(FILTERS)?;
    let mut members = api.backend.members().await;
    members.retain(|view| {
        filters.any("id", |id| view.id.to_string().starts_with(id))
            && filters.any("name", |name| view.name.starts_with(name))
            && filters.any("role", |wanted| wanted == role(view))
            && filters.any("membership", |membership| membership == "accepted")
            && filters.labels("node.label", |name| view.labels.get(name).map(String::as_str))
            && filters.labels("label", |name| engine_label(view, name))
    });
    members.sort_by_key(|view| view.id);
    Ok(Json(members.iter().map(node).collect()))
}

fn engine_label<'a>(view: &'a MemberView, name: &str) -> Option<&'a str> {
    view.profile.as_ref()?.labels.get(name).map(String::as_str)
}

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, ApiError> {
    api.member(&wanted).await.map(|view| Json(node(&view)))
}

pub(super) async fn update(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let version = params.version("node")?;
    let view = api.member(&wanted).await?;
    let mut spec = read_json(&body)?;
    canonical(&mut spec);
    check(&mut spec)?;
    api.backend.command(Command::UpdateNode { id: view.id, version, spec }).await?;
    Ok(StatusCode::OK)
}

/// The whole spec is replaced; labels may be left out.
fn check(spec: &mut Value) -> Result<(), ApiError> {
    let Some(map) = spec.as_object_mut() else {
        return Err(ApiError::bad("the node spec must be a JSON object"));
    };
    let text = |key: &str| map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (role, availability) = (text("Role"), text("Availability"));
    if !matches!(role.as_str(), "worker" | "manager") {
        return Err(ApiError::bad(format!("invalid Role: {role:?}")));
    }
    if !matches!(availability.as_str(), "active" | "pause" | "drain") {
        return Err(ApiError::bad(format!("invalid Availability: {availability:?}")));
    }
    if map.get("Labels").is_none_or(Value::is_null) {
        map.insert("Labels".to_owned(), json!({}));
    }
    let labels_ok = map.get("Labels").and_then(Value::as_object).is_some_and(|labels| {
        labels.iter().all(|(key, value)| !key.is_empty() && value.is_string())
    });
    if labels_ok { Ok(()) } else { Err(ApiError::bad("invalid Labels: expected names with texts")) }
}

/// A node that is alive would gossip itself back, so that `force` changes nothing.
pub(super) async fn remove(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<StatusCode, ApiError> {
    let view = api.member(&wanted).await?;
    if view.state.holds_claims() {
        return Err(ApiError::bad(format!(
            "node {} is not down and can't be removed: let it hand its replicas over with 'shoal leave' on it, or stop it first",
            view.name
        )));
    }
    api.backend.command(Command::RemoveNode { id: view.id }).await?;
    Ok(StatusCode::OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_specs_are_checked_in_dockers_words() {
        let mut fine = json!({"Role": "manager", "Availability": "drain"});
        assert_eq!(check(&mut fine), Ok(()));
        assert_eq!(fine["Labels"], json!({}));
        for (mut spec, words) in [
            (json!({"Role": "zz", "Availability": "active"}), "invalid Role: \"zz\""),
            (json!({"Role": "worker"}), "invalid Availability: \"\""),
            (
                json!({"Role": "worker", "Availability": "active", "Labels": {"a": 1}}),
                "invalid Labels",
            ),
            (json!([]), "must be a JSON object"),
        ] {
            assert!(check(&mut spec).unwrap_err().message.contains(words), "{words}");
        }
    }
}
