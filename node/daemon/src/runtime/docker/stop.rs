//! Stop and remove. Both look first: what does not carry our ids is not touched, whoever asks.

use std::time::Duration;

use bollard::query_parameters::{
    RemoveContainerOptionsBuilder, RenameContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use membership::id::TaskId;
use membership::time::Millis;
use node::runtime::{ActionResult, ContainerState, Found};

use super::engine::{CallError, READ_DEADLINE, WORK_DEADLINE};
use super::observe::STOPPING_SUFFIX;
use super::{Shared, observe, stop_failed};

/// How long somebody else's removal of the same container may take.
const REMOVAL_DEADLINE: Duration = Duration::from_secs(60);
const REMOVAL_INTERVAL: Duration = Duration::from_millis(200);

/// Asks the container to stop (with its own stop signal), kills it after `grace`, removes it and the
/// files it had.
pub(super) async fn stop(
    shared: &Shared,
    task: TaskId,
    container: &str,
    grace: Millis,
) -> ActionResult {
    let result = stop_container(shared, task, container, grace).await;
    if result == ActionResult::Stopped {
        shared.files.remove(task).await;
    }
    result
}

async fn stop_container(
    shared: &Shared,
    task: TaskId,
    container: &str,
    grace: Millis,
) -> ActionResult {
    // The answer to its start was lost, and with it the id: its labels say whose it is.
    let by_label = if container.is_empty() {
        match observe::of_task(shared, task).await {
            Ok(Some(container)) => container,
            Ok(None) => return ActionResult::Stopped,
            Err(error) => return stop_failed(container, &error),
        }
    } else {
        container.to_owned()
    };
    let container = by_label.as_str();
    let found = match look(shared, task, container).await {
        Ok(Some(found)) => found,
        Ok(None) => return ActionResult::Stopped,
        Err(failed) => return failed,
    };
    mark(shared, &found).await;
    if found.state == ContainerState::Paused {
        // A frozen process hears no signal. If this fails the removal below still kills it.
        let name = container.to_owned();
        let thawed =
            shared.engine.call("unpause a container", WORK_DEADLINE, |docker| async move {
                docker.unpause_container(&name).await
            });
        if let Err(error) = thawed.await {
            tracing::warn!(container, %error, "a paused container could not be thawed to stop it");
        }
    }
    if matches!(found.state, ContainerState::Running { .. } | ContainerState::Paused) {
        let secs = i32::try_from(grace.0.div_ceil(1000)).unwrap_or(i32::MAX);
        let options = StopContainerOptionsBuilder::default().t(secs).build();
        let deadline = Duration::from_millis(grace.0).saturating_add(WORK_DEADLINE);
        let name = container.to_owned();
        let stopped = shared
            .engine
            .call("stop a container", deadline, |docker| async move {
                docker.stop_container(&name, Some(options)).await
            })
            .await;
        match stopped {
            Ok(()) => {}
            Err(error) if error.is_missing() => return ActionResult::Stopped,
            // The removal kills what would not stop.
            Err(error @ CallError::Refused { .. }) => {
                tracing::warn!(container, %error, "a container would not stop and is killed");
            }
            Err(error) => return stop_failed(container, &error),
        }
    }
    delete(shared, container).await
}

/// Notes on the container itself that its stop has begun: a shoal that starts meanwhile must not take it
/// for one that serves, and labels cannot be changed. Only the name can.
async fn mark(shared: &Shared, found: &Found) {
    let running = matches!(found.state, ContainerState::Running { .. } | ContainerState::Paused);
    if found.stopping || !running {
        return;
    }
    let name = format!("{}.{}.{}{STOPPING_SUFFIX}", found.service_name, found.slot, found.task);
    let options = RenameContainerOptionsBuilder::default().name(&name).build();
    let container = found.container.clone();
    let renamed = shared.engine.call("rename a container", READ_DEADLINE, |docker| async move {
        docker.rename_container(&container, options).await
    });
    if let Err(error) = renamed.await {
        tracing::debug!(container = %found.container, %error, "a container is stopped without being marked");
    }
}

/// Removes what a task left behind; what still runs is killed.
pub(super) async fn remove(shared: &Shared, task: TaskId, container: &str) -> ActionResult {
    let result = match look(shared, task, container).await {
        Ok(Some(_)) => delete(shared, container).await,
        Ok(None) => ActionResult::Stopped,
        Err(failed) => failed,
    };
    if result == ActionResult::Stopped {
        shared.files.remove(task).await;
    }
    result
}

/// The container, if it is there and this task's.
async fn look(
    shared: &Shared,
    task: TaskId,
    container: &str,
) -> Result<Option<Found>, ActionResult> {
    match observe::look(shared, container).await {
        Ok(Some(found)) if found.task == task => Ok(Some(found)),
        Ok(_) => Err(ActionResult::StopFailed {
            message: format!(
                "{container} is not the container of task {task} of this node: it was not touched"
            ),
        }),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(stop_failed(container, &error)),
    }
}

async fn delete(shared: &Shared, container: &str) -> ActionResult {
    let _place = shared.admission.removal().await;
    // `v` takes anonymous volumes along and leaves named ones, as Swarm does.
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let name = container.to_owned();
    let removed = shared
        .engine
        .call("remove a container", WORK_DEADLINE, |docker| async move {
            docker.remove_container(&name, Some(options)).await
        })
        .await;
    match removed {
        Ok(()) => ActionResult::Stopped,
        Err(error) if error.is_missing() => ActionResult::Stopped,
        // Somebody else (an operator, an earlier attempt) is removing it.
        Err(error) if error.is_conflict() => gone(shared, container, error).await,
        Err(error) => stop_failed(container, &error),
    }
}

async fn gone(shared: &Shared, container: &str, conflict: CallError) -> ActionResult {
    let wait = async {
        loop {
            match observe::look(shared, container).await {
                Err(error) if error.is_missing() => return ActionResult::Stopped,
                Err(error) => return stop_failed(container, &error),
                Ok(_) => tokio::time::sleep(REMOVAL_INTERVAL).await,
            }
        }
    };
    match tokio::time::timeout(REMOVAL_DEADLINE, wait).await {
        Ok(result) => result,
        Err(_) => stop_failed(container, &conflict),
    }
}
