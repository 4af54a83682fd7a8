//! `/swarm`: what is left of a swarm when there are no managers. Every node is in the cluster already.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use node::command::Command;
use serde_json::{Value, json};

use super::error::ApiError;
use super::filters::Params;
use super::node_json::host_part;
use super::state::{Api, read_json};
use super::swarm_json::cluster;

pub(super) async fn inspect(State(api): State<Api>) -> Json<Value> {
    let mut out = cluster(&api.backend.cluster().await);
    let token = api.backend.token();
    // There is one kind of node, and one token.
    out["JoinTokens"] = json!({ "Worker": token, "Manager": token });
    Json(out)
}

/// docker-py looks for this status and these words.
const ALREADY_IN: &str = "This node is already part of a swarm. Use \"docker swarm leave\" to leave this swarm and join another one.";

/// A node is a cluster from its first start on. While it is the only one, `docker swarm init` has what it asked for,
/// and the CLI goes on to print how the next node joins.
pub(super) async fn init(State(api): State<Api>, body: Bytes) -> Result<Json<String>, ApiError> {
    let wanted = read_json(&body)?;
    if wanted["ForceNewCluster"] == true {
        return Err(ApiError::unsupported(
            "forcing a new cluster",
            "any surviving node is a whole cluster already; docker node rm forgets those that are gone",
        ));
    }
    if wanted["AutoLockManagers"] == true
        || wanted["Spec"]["EncryptionConfig"]["AutoLockManagers"] == true
    {
        return Err(no_autolock());
    }
    match api.backend.members().await.as_slice() {
        [me] if me.is_me => Ok(Json(me.id.to_string())),
        _ => Err(ApiError::unavailable(ALREADY_IN)),
    }
}

/// A node that is alone and has nothing moves to the cluster that it is given; any other one is in a swarm already.
pub(super) async fn join(State(api): State<Api>, body: Bytes) -> Result<StatusCode, ApiError> {
    let wanted = read_json(&body)?;
    if api.backend.members().await.len() > 1 {
        return Err(ApiError::unavailable(ALREADY_IN));
    }
    let text = |key: &str| wanted[key].as_str().unwrap_or_default();
    for key in ["AdvertiseAddr", "DataPathAddr"] {
        let here = api.backend.cluster().await.my_addr;
        let same = |given: &str| [given, host_part(given)].contains(&host_part(&here));
        if !matches!(text(key), "" | "0.0.0.0") && !same(text(key)) {
            return Err(ApiError::bad(format!(
                "the others reach this node at {here}: to have it at {}, start shoal with --advertise {} and join again without this option",
                text(key),
                text(key)
            )));
        }
    }
    if !matches!(text("Availability"), "" | "active") {
        return Err(ApiError::unsupported(
            "joining with another availability",
            "join, then docker node update --availability",
        ));
    }
    let addresses = wanted["RemoteAddrs"].as_array().into_iter().flatten();
    let members = addresses.filter_map(|one| one.as_str()).filter(|one| !one.is_empty());
    api.backend.join(members.map(member_address).collect(), text("JoinToken")).await?;
    Ok(StatusCode::OK)
}

/// What people type after `docker swarm join` has Swarm's port, or none: members listen on another one.
fn member_address(typed: &str) -> String {
    match typed.rsplit_once(':') {
        Some((host, "2377")) => format!("{host}:7946"),
        Some((host, _)) if !host.contains(':') || host.ends_with(']') => typed.to_owned(),
        _ => format!("{typed}:7946"),
    }
}

pub(super) async fn leave(State(api): State<Api>, params: Params) -> Result<StatusCode, ApiError> {
    if !params.flag("force") {
        return Err(ApiError::unavailable(
            "This node would hand its replicas over to the other nodes and leave for good; on the last node the services end. Use --force, or 'shoal leave', to do it.",
        ));
    }
    api.backend.command(Command::Leave).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn update(
    State(api): State<Api>,
    params: Params,
    body: Bytes,
) -> Result<StatusCode, ApiError> {
    let version = params.version("swarm")?;
    if params.flag("rotateWorkerToken") || params.flag("rotateManagerToken") {
        return Err(ApiError::unsupported(
            "rotating join tokens",
            "the cluster's identity comes from its token; start a new cluster with a new token",
        ));
    }
    if params.flag("rotateManagerUnlockKey") {
        return Err(no_autolock());
    }
    let spec = read_json(&body)?;
    if !spec.is_object() {
        return Err(ApiError::bad("the swarm spec must be a JSON object"));
    }
    if spec["EncryptionConfig"]["AutoLockManagers"] == true {
        return Err(no_autolock());
    }
    if spec["CAConfig"]["ExternalCAs"].as_array().is_some_and(|list| !list.is_empty()) {
        return Err(ApiError::unsupported(
            "an external CA",
            "nodes are admitted by the token alone",
        ));
    }
    if spec["CAConfig"]["ForceRotate"].as_u64().is_some_and(|n| n > 0) {
        return Err(ApiError::unsupported("rotating the CA", "there is none to rotate"));
    }
    api.backend.command(Command::UpdateCluster { version, spec }).await?;
    Ok(StatusCode::OK)
}

fn no_autolock() -> ApiError {
    ApiError::unsupported(
        "autolock",
        "nothing on disk is locked with a key; encrypt the disk under --data-dir instead",
    )
}

/// The CLI prints "no unlock key is set".
pub(super) async fn unlock_key() -> Json<Value> {
    Json(json!({ "UnlockKey": "" }))
}

pub(super) async fn unlock() -> ApiError {
    no_autolock()
}

#[cfg(test)]
mod tests {
    use super::member_address;

    #[test]
    fn the_way_to_join_names_the_port_that_members_listen_on() {
        for (typed, shown) in [
            ("10.0.0.1:2377", "10.0.0.1:7946"),
            ("host", "host:7946"),
            ("host:7000", "host:7000"),
            ("[fd00::1]:2377", "[fd00::1]:7946"),
            ("[fd00::1]", "[fd00::1]:7946"),
        ] {
            assert_eq!(member_address(typed), shown);
        }
    }
}
