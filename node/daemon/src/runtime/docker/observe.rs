//! Looking at containers: one, when something happened to it, or all.
//!
//! Reports about one container must arrive in the order in which it was looked at, or an old look
//! would be taken for the present. So the look and its report happen under a lock ([`Order`]).
//! Looking at all takes a while; what changed meanwhile is looked at again afterwards.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, ContainerSummary,
    ContainerSummaryStateEnum, HealthStatusEnum,
};
use bollard::query_parameters::ListContainersOptionsBuilder;
use futures_util::{StreamExt, stream};
use membership::id::TaskId;
use membership::time::Wall;
use node::runtime::{
    ActionId, ActionResult, ContainerHealth, ContainerState, Found, RuntimeEvent, label,
};
use node::slot::{PortStatus, Protocol};

use super::Shared;
use super::engine::{CallError, READ_DEADLINE};
use crate::runtime::{Owner, ownership};

/// Containers looked at together while listing.
const LOOKS_AT_ONCE: usize = 8;

/// What the name of a container ends with once its stop has begun. No task's name does: they end with
/// the task's id.
pub(super) const STOPPING_SUFFIX: &str = ".stopping";

/// Locks for the order of reports. Containers share them by hash, which only costs a little waiting.
const LOCKS: usize = 64;

#[derive(Debug)]
pub(super) struct Order {
    locks: Vec<tokio::sync::Mutex<()>>,
    /// What changed while a listing was under way; `None` while there is none.
    touched: Mutex<Option<BTreeMap<String, TaskId>>>,
}

impl Order {
    pub(super) fn new() -> Self {
        Self {
            locks: (0..LOCKS).map(|_| tokio::sync::Mutex::new(())).collect(),
            touched: Mutex::new(None),
        }
    }

    /// Held from before the look at `container` until after its report.
    pub(super) async fn hold(
        &self,
        container: &str,
        task: TaskId,
    ) -> tokio::sync::MutexGuard<'_, ()> {
        let mut hasher = DefaultHasher::new();
        container.hash(&mut hasher);
        // The remainder is below LOCKS.
        let guard = self.locks[(hasher.finish() % LOCKS as u64) as usize].lock().await;
        if let Some(touched) = self.touched().as_mut() {
            touched.insert(container.to_owned(), task);
        }
        guard
    }

    fn touched(&self) -> std::sync::MutexGuard<'_, Option<BTreeMap<String, TaskId>>> {
        // Nothing panics while it is held.
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Running containers as they were last looked at. In a listing the engine says enough of a container to see
/// that nothing changed, so that the slow resync of a hundred costs one call and not a hundred and one.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<BTreeMap<String, Found>>);

impl Known {
    fn running(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Found>> {
        // Nothing panics while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, container: &str, found: Option<&Found>) {
        let running = found.filter(|found| matches!(found.state, ContainerState::Running { .. }));
        match running {
            // Kept by the id, whatever it was looked at by.
            Some(found) => drop(self.running().insert(found.container.clone(), found.clone())),
            None => drop(self.running().remove(container)),
        }
    }

    fn keep_only(&self, listed: &[ContainerSummary]) {
        let ids: BTreeSet<&str> = listed.iter().filter_map(|one| one.id.as_deref()).collect();
        self.running().retain(|id, _| ids.contains(id.as_str()));
    }

    /// What is known of a container, if the listing shows it in the same state.
    fn still(&self, id: &str, listed: &ContainerSummary) -> Option<Found> {
        if listed.state != Some(ContainerSummaryStateEnum::RUNNING) {
            return None;
        }
        let health = listed_health(listed.status.as_deref().unwrap_or_default());
        let stopping = listed.names.iter().flatten().any(|name| name.ends_with(STOPPING_SUFFIX));
        let state = ContainerState::Running { health };
        let running = self.running();
        running.get(id).filter(|known| known.state == state && known.stopping == stopping).cloned()
    }
}

/// From "Up 5 minutes (healthy)".
fn listed_health(status: &str) -> ContainerHealth {
    match status.rsplit_once('(').map(|(_, health)| health) {
        Some("healthy)") => ContainerHealth::Healthy,
        Some("unhealthy)") => ContainerHealth::Unhealthy,
        Some("health: starting)") => ContainerHealth::Starting,
        _ => ContainerHealth::None,
    }
}

/// Looks at one container and reports it, or its absence.
pub(super) async fn observe(shared: &Shared, container: &str, task: TaskId) {
    let _order = shared.order.hold(container, task).await;
    match look(shared, container).await {
        Ok(Some(found)) => {
            if matches!(found.state, ContainerState::Exited { .. }) {
                // It is never started again; its secrets need not wait for its removal.
                shared.files.remove(found.task).await;
            }
            shared.reports.event(RuntimeEvent::Container(Box::new(found))).await;
        }
        Ok(None) => {}
        Err(error) if error.is_missing() => removed(shared, container, task).await,
        // Left to the next event or the resync; if the engine is lost that is reported by itself.
        Err(error) => tracing::debug!(container, %error, "could not look at a container"),
    }
}

pub(super) async fn removed(shared: &Shared, container: &str, task: TaskId) {
    let container = container.to_owned();
    shared.reports.event(RuntimeEvent::Removed { task, container }).await;
}

/// The container as it is now; `None` if it is not ours to touch.
pub(super) async fn look(shared: &Shared, container: &str) -> Result<Option<Found>, CallError> {
    let name = container.to_owned();
    let inspected = shared
        .engine
        .call("inspect a container", READ_DEADLINE, |docker| async move {
            docker.inspect_container(&name, None).await
        })
        .await?;
    let found = found(shared.owner, inspected);
    shared.known.take(container, found.as_ref());
    Ok(found)
}

/// Answers [`node::runtime::RuntimeAction::List`].
pub(super) async fn list(shared: &Shared, id: ActionId) {
    // In this order: what has files and is not being started is in the list, or is gone.
    let mut with_files = shared.files.tasks();
    with_files.retain(|task| !shared.starting().contains_key(task));
    *shared.order.touched() = Some(BTreeMap::new());
    let result = match look_at_all(shared).await {
        Ok(found) => {
            let ended = |f: &Found| matches!(f.state, ContainerState::Exited { .. });
            let live: BTreeSet<TaskId> =
                found.iter().filter(|f| !ended(f)).map(|f| f.task).collect();
            for task in with_files.into_iter().filter(|task| !live.contains(task)) {
                shared.files.remove(task).await;
            }
            ActionResult::Listed(found)
        }
        Err(error) => {
            ActionResult::ListFailed { message: format!("cannot list containers: {error}") }
        }
    };
    shared.reports.done(id, result).await;
    let touched = shared.order.touched().take().unwrap_or_default();
    for (container, task) in touched {
        observe(shared, &container, task).await;
    }
}

/// The filter for containers that carry both of our ids.
pub(super) fn ours(owner: Owner) -> Vec<String> {
    vec![format!("{}={}", label::NODE, owner.node), format!("{}={}", label::CLUSTER, owner.cluster)]
}

/// The container of a task, by its labels; `None` if there is none.
pub(super) async fn of_task(shared: &Shared, task: TaskId) -> Result<Option<String>, CallError> {
    let mut labels = ours(shared.owner);
    labels.push(format!("{}={task}", label::SWARM_TASK_ID));
    let filters = HashMap::from([("label", labels)]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let found = shared
        .engine
        .call("look for a container", READ_DEADLINE, |docker| async move {
            docker.list_containers(Some(options)).await
        })
        .await?;
    Ok(found.into_iter().find_map(|summary| summary.id))
}

async fn look_at_all(shared: &Shared) -> Result<Vec<Found>, CallError> {
    let filters = HashMap::from([("label", ours(shared.owner))]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let summaries = shared
        .engine
        .call("list containers", READ_DEADLINE, |docker| async move {
            docker.list_containers(Some(options)).await
        })
        .await?;
    shared.known.keep_only(&summaries);
    let looks = stream::iter(summaries.into_iter().filter_map(|summary| {
        let id = summary.id.clone()?;
        Some(async move {
            match shared.known.still(&id, &summary) {
                Some(known) => Ok(Some(known)),
                None => look(shared, &id).await,
            }
        })
    }));
    let looks = looks.buffered(LOOKS_AT_ONCE);
    let looks = looks.collect::<Vec<_>>().await;
    let mut all = Vec::new();
    for look in looks {
        match look {
            Ok(found) => all.extend(found),
            Err(error) if error.is_missing() => {}
            // Half a list would say that the other half is gone.
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn found(owner: Owner, inspected: ContainerInspectResponse) -> Option<Found> {
    let id = inspected.id?;
    let labels = inspected.config.and_then(|config| config.labels).unwrap_or_default();
    let mut found = match ownership::read(owner, &id, |name| labels.get(name).cloned()) {
        Ok(found) => found,
        Err(why) => {
            tracing::warn!(container = %id, %why, "a container is left alone");
            return None;
        }
    };
    let state = inspected.state.unwrap_or_default();
    found.stopping = inspected.name.is_some_and(|name| name.ends_with(STOPPING_SUFFIX));
    found.started = state.started_at.as_deref().and_then(started);
    found.pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid != 0);
    found.state = container_state(state);
    let ports = inspected.network_settings.and_then(|network| network.ports).unwrap_or_default();
    found.ports = ports
        .into_iter()
        .filter_map(|(port, bindings)| Some((port, bindings?)))
        .flat_map(|(port, bindings)| {
            let hosts = bindings.into_iter().filter_map(|b| b.host_port?.parse().ok());
            hosts.filter_map(move |host| port_status(&port, host)).collect::<Vec<_>>()
        })
        .collect();
    // One binding for IPv4 and one for IPv6 are one port.
    found.ports.sort();
    found.ports.dedup();
    Some(found)
}

/// Docker's time for a container that was never started is in the year 1.
fn started(text: &str) -> Option<Wall> {
    let nanos = crate::api::rfc3339::parse(text)?;
    u64::try_from(nanos / 1_000_000).ok().filter(|ms| *ms > 0).map(Wall)
}

fn container_state(state: bollard::models::ContainerState) -> ContainerState {
    use ContainerStateStatusEnum as Status;
    let health = match state.health.and_then(|health| health.status) {
        Some(HealthStatusEnum::STARTING) => ContainerHealth::Starting,
        Some(HealthStatusEnum::HEALTHY) => ContainerHealth::Healthy,
        Some(HealthStatusEnum::UNHEALTHY) => ContainerHealth::Unhealthy,
        Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => ContainerHealth::None,
    };
    match state.status {
        Some(Status::CREATED | Status::EMPTY) | None => ContainerState::Created,
        Some(Status::PAUSED) => ContainerState::Paused,
        Some(Status::RUNNING | Status::RESTARTING) => ContainerState::Running { health },
        Some(_) => ContainerState::Exited {
            code: state.exit_code.and_then(|code| i32::try_from(code).ok()).unwrap_or(-1),
            out_of_memory: state.oom_killed.unwrap_or(false),
        },
    }
}

/// From `80/tcp` and the port of the host.
fn port_status(port: &str, published: u16) -> Option<PortStatus> {
    let (target, protocol) = port.split_once('/')?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        _ => return None,
    };
    Some(PortStatus { protocol, target: target.parse().ok()?, published })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_tells_health() {
        let of = listed_health;
        assert_eq!(of("Up 5 minutes"), ContainerHealth::None);
        assert_eq!(of("Up 5 minutes (healthy)"), ContainerHealth::Healthy);
        assert_eq!(of("Up About a minute (unhealthy)"), ContainerHealth::Unhealthy);
        assert_eq!(of("Up 1 second (health: starting)"), ContainerHealth::Starting);
    }
}
