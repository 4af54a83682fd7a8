//! `/tasks`: list with Swarm's filters, inspect one.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{Path, State};
use membership::id::{NodeId, ServiceId};
use node::network::NetworkView;
use node::views::TaskView;
use serde_json::Value;

use super::backend::TaskQuery;
use super::error::ApiError;
use super::filters::{Filters, Params, json_label};
use super::lookup;
use super::state::{Api, Shared};
use super::task_json::task;

const FILTERS: &[&str] =
    &["_up-to-date", "desired-state", "id", "label", "name", "node", "runtime", "service"];

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Vec<Value>>, ApiError> {
    let filters = params.filters(FILTERS)?;
    for state in filters.values("desired-state") {
        if !matches!(state, "accepted" | "ready" | "running" | "complete" | "shutdown" | "remove") {
            return Err(ApiError::bad(format!("invalid desired-state filter: '{state}'")));
        }
    }
    let mut tasks = select(&api, &filters).await?;
    tasks.sort_by_key(TaskView::id);
    let networks = networks_of(&api, &tasks).await;
    Ok(Json(tasks.iter().map(|view| task(view, &networks)).collect()))
}

/// The networks that tasks may show addresses of. Nobody asks for them where there are none: a waiting docker CLI lists
/// tasks many times a second.
async fn networks_of(api: &Shared, tasks: &[TaskView]) -> Vec<NetworkView> {
    if tasks.is_empty() { Vec::new() } else { api.backend.networks().await }
}

async fn select(api: &Shared, filters: &Filters) -> Result<Vec<TaskView>, ApiError> {
    // Unknown services and nodes are a 404, as in Swarm: an empty list would look like "no tasks".
    let services = api.services_named(filters.values("service")).await?;
    let mut nodes: Vec<NodeId> = Vec::new();
    for name in filters.values("node") {
        nodes.push(api.member(name).await?.id);
    }
    let query = match (services.as_slice(), nodes.as_slice()) {
        ([service], _) => TaskQuery::Service(*service),
        ([], [node]) => TaskQuery::Node(*node),
        _ => TaskQuery::All,
    };
    let labelled = labelled_services(api, filters).await;
    let mut tasks = api.backend.tasks(query).await;
    tasks.retain(|view| {
        (services.is_empty() || services.contains(&view.service))
            && (nodes.is_empty() || view.node.is_some_and(|node| nodes.contains(&node)))
            && labelled.as_ref().is_none_or(|ids| ids.contains(&view.service))
            && filters.any("desired-state", |state| {
                // Swarm's word for everything that is meant to run.
                state == view.desired.name()
                    || (state == "accepted" && view.desired.name() == "ready")
            })
            && filters.any("id", |id| view.id().to_string().starts_with(id))
            && filters.any("name", |name| full_name(view).starts_with(name))
            && filters.any("runtime", |runtime| runtime == "container")
            && (!filters.has("_up-to-date") || view.up_to_date)
    });
    Ok(tasks)
}

/// The `label` filter of tasks matches the labels of their service.
async fn labelled_services(api: &Shared, filters: &Filters) -> Option<BTreeSet<ServiceId>> {
    if !filters.has("label") {
        return None;
    }
    let services = api.backend.services().await;
    let with_labels = services.iter().filter(|service| {
        filters.labels("label", |name| json_label(service.spec.get("Labels"), name))
    });
    Some(with_labels.map(|service| service.id).collect())
}

/// `web.3.<task id>`, the name that containers carry.
fn full_name(view: &TaskView) -> String {
    format!("{}.{}.{}", view.service_name, view.slot(), view.id())
}

pub(super) async fn find(api: &Shared, wanted: &str) -> Result<TaskView, ApiError> {
    let tasks = match wanted.parse() {
        Ok(id) => api.backend.tasks(TaskQuery::Task(id)).await,
        Err(_) => api.backend.tasks(TaskQuery::All).await,
    };
    lookup::find(&tasks, wanted).cloned()
}

pub(super) async fn inspect(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let view = find(&api, &wanted).await?;
    let networks = networks_of(&api, std::slice::from_ref(&view)).await;
    Ok(Json(task(&view, &networks)))
}
