//! `/shoal/v1/plan` and `/shoal/v1/explain/…`: what would happen, and why things are where they are.
//!
//! Both are worked out on a copy of this node's view, away from its loop, and change nothing.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Path, State};
use bytes::Bytes;
use membership::id::NodeId;
use membership::time::Wall;
use node::foresight::why::Explainer;
use node::foresight::{Change, ChangeError, NewHost, Picture};
use node::slot::Slot;
use node::views::{MemberView, TaskView};
use serde::Deserialize;
use serde_json::{Value, json};

use super::backend::TaskQuery;
use super::error::ApiError;
use super::foresight_json as shown;
use super::lookup;
use super::state::{Api, read_json};

/// Slots of one service that are explained in one answer; each costs a look at every host.
const MOST_SLOTS: usize = 500;

/// What a client supposes. Nodes and services by name, id, or the beginning of an id.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Supposed {
    kill: Vec<String>,
    kill_zones: Vec<String>,
    drain: Vec<String>,
    pause: Vec<String>,
    activate: Vec<String>,
    add: Vec<Added>,
    add_labels: Vec<Label>,
    remove_labels: Vec<Label>,
    scale: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Added {
    count: Option<usize>,
    like: Option<String>,
    zone: Option<String>,
    cpu_milli: Option<u64>,
    memory_bytes: Option<u64>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    node: String,
    key: String,
    #[serde(default)]
    value: String,
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::UnknownNode(_) | ChangeError::UnknownService(_) => {
                Self::new(axum::http::StatusCode::NOT_FOUND, error.to_string())
            }
            _ => Self::bad(error.to_string()),
        }
    }
}

/// Works something out where it may take its time.
async fn aside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ApiError::unavailable("it could not be worked out; nothing was changed"))
}

async fn picture(api: &Api) -> Result<Picture, ApiError> {
    let stopping = || ApiError::unavailable("this node is stopping: ask another node");
    api.backend.picture().await.ok_or_else(stopping)
}

fn now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(super) async fn plan(State(api): State<Api>, body: Bytes) -> Result<Json<Value>, ApiError> {
    let supposed: Supposed = serde_json::from_value(read_json(&body)?)
        .map_err(|error| ApiError::bad(format!("cannot read what is supposed: {error}")))?;
    let picture = picture(&api).await?;
    let changes = changes(&api, &picture, supposed).await?;
    if changes.is_empty() {
        return Err(ApiError::bad(
            "nothing is supposed: name something to lose, drain, add or scale",
        ));
    }
    let taken = now();
    let answer = aside(move || {
        let foresight = picture.foresee(&changes)?;
        Ok::<_, ChangeError>(shown::foresight(&picture, &foresight, taken))
    });
    Ok(Json(answer.await??))
}

/// From names to ids.
async fn changes(
    api: &Api,
    picture: &Picture,
    supposed: Supposed,
) -> Result<Vec<Change>, ApiError> {
    let members = api.backend.members().await;
    let node = |wanted: &String| find_node(&members, wanted);
    let mut changes = Vec::new();
    for wanted in &supposed.kill {
        changes.push(Change::Kill(node(wanted)?));
    }
    for zone in &supposed.kill_zones {
        changes.extend(in_zone(picture, zone)?.into_iter().map(Change::Kill));
    }
    for wanted in &supposed.drain {
        changes.push(Change::Drain(node(wanted)?));
    }
    for wanted in &supposed.pause {
        changes.push(Change::Pause(node(wanted)?));
    }
    for wanted in &supposed.activate {
        changes.push(Change::Activate(node(wanted)?));
    }
    let mut number = 0;
    for added in supposed.add {
        let like = added.like.as_ref().map(node).transpose()?;
        for _ in 0..added.count.unwrap_or(1).min(node::foresight::changes::MAX_ADDED + 1) {
            number += 1;
            changes.push(Change::Add(Box::new(NewHost {
                like,
                name: format!("new-{number}"),
                zone: added.zone.clone(),
                cpu_milli: added.cpu_milli,
                memory_bytes: added.memory_bytes,
                labels: added.labels.clone().into_iter().collect(),
            })));
        }
    }
    for Label { node: wanted, key, value } in supposed.add_labels {
        changes.push(Change::SetLabel { node: node(&wanted)?, key, value });
    }
    for Label { node: wanted, key, .. } in supposed.remove_labels {
        changes.push(Change::RemoveLabel { node: node(&wanted)?, key });
    }
    for (wanted, replicas) in supposed.scale {
        changes.push(Change::Scale { service: api.service(&wanted).await?.id, replicas });
    }
    Ok(changes)
}

fn find_node(members: &[MemberView], wanted: &str) -> Result<NodeId, ApiError> {
    if wanted == "self"
        && let Some(me) = members.iter().find(|member| member.is_me)
    {
        return Ok(me.id);
    }
    lookup::find(members, wanted).map(|member| member.id)
}

/// The members of a zone that belong to the cluster.
fn in_zone(picture: &Picture, zone: &str) -> Result<Vec<NodeId>, ApiError> {
    let members = picture.members.iter().filter(|(_, member)| member.belongs);
    let zone_of = |member: &node::foresight::PicturedMember| {
        member.host.as_ref().map(|host| host.zone.clone()).unwrap_or_default()
    };
    let found: Vec<NodeId> =
        members.clone().filter(|(_, m)| zone_of(m) == zone).map(|(id, _)| *id).collect();
    if !found.is_empty() {
        return Ok(found);
    }
    let mut zones: Vec<String> = members.map(|(_, member)| zone_of(member)).collect();
    zones.sort();
    zones.dedup();
    zones.retain(|zone| !zone.is_empty());
    let there = match zones.as_slice() {
        [] => "no member has a zone (--zone of `shoal up`)".to_owned(),
        zones => format!("there are: {}", zones.join(", ")),
    };
    Err(ApiError::new(axum::http::StatusCode::NOT_FOUND, format!("zone {zone} not found: {there}")))
}

/// What is asked about: a whole service, one slot, or a task.
enum Asked {
    Service(membership::id::ServiceId),
    Slot(membership::id::ServiceId, Slot, Option<Box<TaskView>>),
}

pub(super) async fn explain(
    State(api): State<Api>,
    Path(wanted): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let asked = asked(&api, &wanted).await?;
    let picture = picture(&api).await?;
    let gone = ApiError::not_found("service", &wanted);
    let taken = now();
    let answer = aside(move || {
        let explainer = picture.explainer();
        match asked {
            Asked::Service(service) => whole(&picture, &explainer, service, taken),
            Asked::Slot(service, slot, task) => {
                let why = explainer.why(service, slot)?;
                Some(shown::why(&picture, &why, task.as_deref(), taken))
            }
        }
    });
    answer.await?.map(Json).ok_or(gone)
}

fn whole(
    picture: &Picture,
    explainer: &Explainer<'_>,
    service: membership::id::ServiceId,
    taken: Wall,
) -> Option<Value> {
    let name = &picture.services.get(&service)?.name;
    let slots = picture.slots(service);
    let shown: Vec<Value> = slots
        .iter()
        .take(MOST_SLOTS)
        .filter_map(|slot| explainer.why(service, *slot))
        .map(|why| shown::why_shortly(picture, &why))
        .collect();
    Some(json!({
        "service": { "id": service.to_string(), "name": name },
        "taken": super::rfc3339::from_wall(taken),
        "of": slots.len(),
        "slots": shown,
    }))
}

async fn asked(api: &Api, wanted: &str) -> Result<Asked, ApiError> {
    let unknown = match api.service(wanted).await {
        Ok(service) => return Ok(Asked::Service(service.id)),
        Err(error) if error.status != axum::http::StatusCode::NOT_FOUND => return Err(error),
        Err(error) => error,
    };
    if let Some((service, slot)) = wanted.rsplit_once('.')
        && let Ok(service) = api.service(service).await
    {
        let slot = match slot.parse::<u32>() {
            Ok(index) => Slot::Index(index),
            Err(_) => Slot::Node(api.member(slot).await?.id),
        };
        return Ok(Asked::Slot(service.id, slot, None));
    }
    let tasks = api.backend.tasks(TaskQuery::All).await;
    match lookup::find(&tasks, wanted) {
        Ok(task) => Ok(Asked::Slot(task.service, task.slot(), Some(Box::new(task.clone())))),
        Err(error) if error.status != axum::http::StatusCode::NOT_FOUND => Err(error),
        Err(_) => Err(ApiError::new(
            unknown.status,
            format!("{wanted} is neither a service, nor SERVICE.SLOT, nor a task"),
        )),
    }
}
