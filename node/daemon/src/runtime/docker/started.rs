//! What a container is right after its start, without asking the engine for it.
//!
//! Create and start are all that the engine must be asked for, and where a hundred containers are started
//! it has no time for more: each further question costs it what it would need for them. A container that
//! was just started runs, and all the rest is in the order for it, with two exceptions: ports that the
//! engine chose, which only a look can tell, and a health check that comes with the image. That an image
//! has one is asked once and remembered until an event says that any image changed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use bollard::models::ContainerCreateBody;
use node::runtime::{ContainerHealth, ContainerState, Found, StartTask};

use super::engine::Engine;
use super::image;

/// How many images are remembered before all are asked for again.
const REMEMBERED: usize = 256;

/// Which images bring a health check along.
#[derive(Debug, Default)]
pub(super) struct Checks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<String, bool>,
    /// How often everything was forgotten: an answer to a question put before that is not remembered.
    forgotten: u64,
}

impl Checks {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing panics while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some image is not what it was.
    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.images.clear();
        state.forgotten += 1;
    }

    /// `None` when the engine does not say.
    async fn of_image(&self, engine: &Engine, image: &str) -> Option<bool> {
        let asked = {
            let state = self.state();
            if let Some(known) = state.images.get(image) {
                return Some(*known);
            }
            state.forgotten
        };
        let found = image::inspect(engine, image).await.ok()??;
        let check = found.config.and_then(|config| config.healthcheck);
        let has = check.and_then(|check| check.test).is_some_and(|test| is_check(&test));
        let mut state = self.state();
        if state.forgotten == asked {
            if state.images.len() >= REMEMBERED {
                state.images.clear();
            }
            state.images.insert(image.to_owned(), has);
        }
        Some(has)
    }
}

fn is_check(test: &[String]) -> bool {
    test.first().is_some_and(|kind| kind != "NONE")
}

/// What was asked for, as far as it decides what runs after a start.
#[derive(Debug)]
pub(super) struct Asked {
    image: String,
    test: Option<Vec<String>>,
    chosen_ports: bool,
}

impl Asked {
    pub(super) fn of(body: &ContainerCreateBody, task: &StartTask) -> Self {
        let test = body.healthcheck.as_ref().and_then(|check| check.test.clone());
        Self {
            image: body.image.clone().unwrap_or_default(),
            // An empty one is the image's.
            test: test.filter(|test| !test.is_empty()),
            chosen_ports: task.ports.iter().any(|port| port.published == 0),
        }
    }

    /// The container `id` of `task`, which was started a moment ago; `None` when only a look can tell.
    pub(super) async fn container(
        &self,
        id: &str,
        task: &StartTask,
        checks: &Checks,
        engine: &Engine,
    ) -> Option<Found> {
        if self.chosen_ports {
            return None;
        }
        let checked = match &self.test {
            Some(test) => is_check(test),
            None => checks.of_image(engine, &self.image).await?,
        };
        let health = if checked { ContainerHealth::Starting } else { ContainerHealth::None };
        let mut ports = task.ports.clone();
        ports.sort();
        ports.dedup();
        Some(Found {
            container: id.to_owned(),
            task: task.task,
            service: task.service,
            service_name: task.service_name.clone(),
            slot: task.slot,
            epoch: task.epoch,
            template: task.template,
            created: task.created,
            state: ContainerState::Running { health },
            // A moment ago: the core has noted that itself.
            started: None,
            stopping: false,
            pid: None,
            ports,
            addresses: task.networks.iter().map(|on| (on.network.id, on.address)).collect(),
        })
    }
}
