//! Configs replaced in place: the files of a running container, and the signals for it.

use std::sync::Arc;

use bollard::query_parameters::KillContainerOptionsBuilder;
use membership::id::TaskId;
use node::files::TaskFiles;
use node::runtime::{ActionResult, ContainerState};

use super::engine::WORK_DEADLINE;
use super::{Shared, observe};

/// Answers [`node::runtime::RuntimeAction::Refresh`].
pub(super) async fn refresh(
    shared: &Shared,
    task: TaskId,
    container: &str,
    files: &Arc<TaskFiles>,
) -> ActionResult {
    let failed = |message: String| ActionResult::RefreshFailed { message };
    match observe::look(shared, container).await {
        Ok(Some(found)) if found.task == task => {
            if !matches!(found.state, ContainerState::Running { .. } | ContainerState::Paused) {
                return ActionResult::Refreshed;
            }
        }
        // Whoever started what is not there any more hears of that by itself.
        Ok(_) => return ActionResult::Refreshed,
        Err(error) if error.is_missing() => return ActionResult::Refreshed,
        Err(error) => return failed(format!("{container} cannot be looked at: {error}")),
    }
    let signals = match shared.files.refresh(task, files).await {
        Ok(signals) => signals,
        Err(error) => return failed(error.to_string()),
    };
    for signal in signals {
        let options = KillContainerOptionsBuilder::default().signal(&signal).build();
        let name = container.to_owned();
        let sent = shared
            .engine
            .call("signal a container", WORK_DEADLINE, |docker| async move {
                docker.kill_container(&name, Some(options)).await
            })
            .await;
        // The file is replaced: trying again would find nothing to do, and send no signal either.
        if let Err(error) = sent {
            tracing::warn!(container, signal, %error, "a config was replaced, and the signal was not sent");
        }
    }
    ActionResult::Refreshed
}
