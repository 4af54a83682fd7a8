//! `/shoal/v1/…`: what Docker has no word for. JSON with lower-case names, on the same socket.

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use membership::member::{EngineState, MemberState};
use node::command::Command;
use node::views::{ConflictView, MemberView, ServiceView};
use serde_json::{Value, json};

use super::backend::StatusView;
use super::error::ApiError;
use super::rfc3339;
use super::state::Api;

pub(super) async fn status(State(api): State<Api>) -> Json<Value> {
    let (status, cluster, members, services, conflicts) = tokio::join!(
        api.backend.status(),
        api.backend.cluster(),
        api.backend.members(),
        api.backend.services(),
        api.backend.conflicts(),
    );
    Json(json!({
        "cluster": {
            "id": cluster.id.to_string(),
            "created": rfc3339::from_wall(cluster.created),
        },
        "node": this_node(&status, &cluster.me.to_string(), &cluster.my_addr),
        "members": members.iter().map(member).collect::<Vec<_>>(),
        "services": totals(&services),
        "conflicts": conflicts.iter().map(conflict).collect::<Vec<_>>(),
        "warnings": status.warnings,
    }))
}

fn this_node(status: &StatusView, id: &str, addr: &str) -> Value {
    json!({
        "id": id,
        "name": status.name,
        "addr": addr,
        "shoal_version": status.shoal_version,
        "started": rfc3339::from_wall(status.started),
        "data_dir": status.data_dir,
        "profile": status.profile,
        "runtime": status.runtime,
        "engine": engine(&status.engine),
        "engine_version": status.engine_version,
        "cpus": status.cpus,
        "memory_bytes": status.memory_bytes,
        "holding_back": status.holding_back.as_ref().map(|holding| json!({
            "reason": holding.reason,
            "at_most_ms": holding.at_most.0,
            "since": rfc3339::from_wall(holding.since),
        })),
    })
}

fn engine(engine: &EngineState) -> Value {
    match engine {
        EngineState::Ok => json!({ "state": "ok" }),
        EngineState::Unavailable { since, reason } => json!({
            "state": "unavailable",
            "since": rfc3339::from_wall(*since),
            "reason": reason,
        }),
    }
}

pub(super) fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive => "alive",
        MemberState::Unstable => "unstable",
        MemberState::Down => "down",
        MemberState::Draining => "draining",
        MemberState::Left => "left",
    }
}

fn member(view: &MemberView) -> Value {
    let profile = view.profile.as_ref();
    let health = view.health.as_ref();
    json!({
        "id": view.id.to_string(),
        "name": view.name,
        "is_me": view.is_me,
        "state": state_name(view.state),
        "reason": view.reason,
        "since": rfc3339::from_wall(view.since),
        "addr": view.addr,
        "role": super::node_json::role(view),
        "availability": super::node_json::availability(view.availability),
        "labels": view.labels,
        "replicas": view.replicas,
        "zone": profile.map(|p| &p.zone),
        "host_labels": profile.map(|p| &p.labels),
        "runtime": profile.map(|p| &p.runtime),
        "engine_version": profile.map(|p| &p.engine_version),
        "shoal_version": profile.map(|p| &p.shoal_version),
        "protocol_version": profile.map(|p| p.protocol_version),
        "placement_version": profile.map(|p| p.placement_version),
        "started": profile.map(|p| rfc3339::from_wall(p.started)),
        "capacity": profile.map(|p| p.capacity),
        "reserved": health.map(|h| h.reserved),
        "engine": health.map(|h| engine(&h.engine)),
        "leaving": health.is_some_and(|h| h.leaving),
        "settling": health.is_some_and(|h| h.settling),
    })
}

fn totals(services: &[ServiceView]) -> Value {
    let sum =
        |count: fn(&ServiceView) -> u64| services.iter().map(count).fold(0, u64::saturating_add);
    json!({
        "count": services.len(),
        "running": sum(|service| service.running),
        "desired": sum(|service| service.desired),
        "shadowed": services
            .iter()
            .filter_map(|service| service.shadowed_by.map(|by| json!({
                "id": service.id.to_string(),
                "name": service.name,
                "shadowed_by": by.to_string(),
            })))
            .collect::<Vec<_>>(),
    })
}

pub(super) async fn members(State(api): State<Api>) -> Json<Vec<Value>> {
    Json(api.backend.members().await.iter().map(member).collect())
}

pub(super) async fn inspect_member(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, ApiError> {
    api.member(&wanted).await.map(|view| Json(member(&view)))
}

/// Whoever may use the socket may run anything on the cluster; the token gives them nothing more.
pub(super) async fn token(State(api): State<Api>) -> Json<Value> {
    let cluster = api.backend.cluster().await;
    Json(json!({ "token": api.backend.token(), "join": cluster.my_addr }))
}

fn conflict(view: &ConflictView) -> Value {
    json!({
        "id": conflict_id(view),
        "text": view.text,
        "service": view.service.map(|id| id.to_string()),
        "writer": view.writer.to_string(),
        "when": rfc3339::from_wall(view.when),
        "body": view.body,
    })
}

fn conflict_id(view: &ConflictView) -> String {
    format!("{:032x}", view.id)
}

pub(super) async fn conflicts(State(api): State<Api>) -> Json<Vec<Value>> {
    Json(api.backend.conflicts().await.iter().map(conflict).collect())
}

/// By the id, or the beginning of it.
async fn find_conflict(api: &Api, wanted: &str) -> Result<ConflictView, ApiError> {
    let mut found = api.backend.conflicts().await;
    found.retain(|view| !wanted.is_empty() && conflict_id(view).starts_with(wanted));
    match found.len() {
        0 => Err(ApiError::not_found("conflict", wanted)),
        1 => Ok(found.remove(0)),
        several => {
            Err(ApiError::bad(format!("conflict {wanted} is ambiguous ({several} matches found)")))
        }
    }
}

pub(super) async fn inspect_conflict(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, ApiError> {
    find_conflict(&api, &wanted).await.map(|view| Json(conflict(&view)))
}

pub(super) async fn dismiss_conflict(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<StatusCode, ApiError> {
    let view = find_conflict(&api, &wanted).await?;
    api.backend.command(Command::DismissConflict { id: view.id }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Asks this node to hand over and go. It is acknowledged when the leaving began; `status` on another
/// node, or the end of this socket, shows when it is done.
pub(super) async fn leave(State(api): State<Api>) -> Result<StatusCode, ApiError> {
    api.backend.command(Command::Leave).await?;
    Ok(StatusCode::ACCEPTED)
}
