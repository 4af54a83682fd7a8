//! Create and start: two calls, either of which may have been made by an earlier attempt.
//!
//! The container's name is unique on the host, which makes it a lock: when it is taken, by this very
//! task, an earlier attempt got that far and this one goes on from there.

use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{CreateContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use node::registry_auth::RegistryAuth;
use node::runtime::{ActionId, ActionResult, ContainerState, Found, StartFailure, StartTask};
use tokio::sync::OwnedSemaphorePermit;

use super::engine::{CallError, WORK_DEADLINE};
use super::image::ImageError;
use super::networks::{self, NetworkError};
use super::started::Asked;
use super::{Shared, create, observe};
use crate::runtime::FilesError;

/// Why a start ended early.
struct Failed {
    why: StartFailure,
    message: String,
}

impl Failed {
    fn new(why: StartFailure, message: impl Into<String>) -> Self {
        Self { why, message: message.into() }
    }

    /// The engine said no to `doing`, which counts as `why`, or did not answer.
    fn at(doing: &str, why: StartFailure, error: CallError) -> Self {
        match error {
            CallError::Refused { message, .. } => Self::new(why, format!("{doing}: {message}")),
            other => Self::new(StartFailure::EngineUnavailable, format!("{doing}: {other}")),
        }
    }
}

/// Answers [`node::runtime::RuntimeAction::Start`]. `turn` is this start's place among those that the
/// engine works on; it is given back while an image is fetched.
pub(super) async fn start(
    shared: &Shared,
    id: ActionId,
    task: &StartTask,
    turn: Option<OwnedSemaphorePermit>,
) {
    shared.starting().insert(task.task, false);
    let ran = run(shared, task, turn).await;
    let result = match &ran {
        Ok(ran) => {
            let _order = shared.order.hold(&ran.container, task.task).await;
            let result = match ran.known(shared, task).await {
                Some(found) => ActionResult::Started(Box::new(found)),
                None => look(shared, &ran.container).await,
            };
            shared.reports.done(id, result).await;
            Some(ran.container.as_str())
        }
        Err(Failed { why, message }) => {
            // An engine that did not answer may be starting it all the same.
            if *why != StartFailure::EngineUnavailable {
                shared.files.remove(task.task).await;
            }
            let message = message.clone();
            shared.reports.done(id, ActionResult::StartFailed { why: *why, message }).await;
            None
        }
    };
    // What the engine said of it meanwhile may be later than what was reported.
    let again = shared.starting().remove(&task.task).unwrap_or_default();
    if let (Some(container), true) = (result, again) {
        observe::observe(shared, container, task.task).await;
    }
}

/// A container that was started.
struct Ran {
    container: String,
    /// What it was made from; `None` when an earlier attempt had started it already.
    asked: Option<Asked>,
}

impl Ran {
    async fn known(&self, shared: &Shared, task: &StartTask) -> Option<Found> {
        let asked = self.asked.as_ref()?;
        asked.container(&self.container, task, &shared.checks, &shared.engine).await
    }
}

async fn look(shared: &Shared, container: &str) -> ActionResult {
    match observe::look(shared, container).await {
        Ok(Some(found)) => ActionResult::Started(Box::new(found)),
        Ok(None) => ActionResult::StartFailed {
            why: StartFailure::DidNotStart,
            message: format!("the container {container} is not this node's any more"),
        },
        Err(error) if error.is_missing() => ActionResult::StartFailed {
            why: StartFailure::DidNotStart,
            message: format!("the container {container} was removed while it started"),
        },
        Err(error) => ActionResult::StartFailed {
            why: StartFailure::EngineUnavailable,
            message: format!("{container} was started, and cannot be looked at: {error}"),
        },
    }
}

/// Creates and starts; either may have been done by an earlier attempt.
async fn run(
    shared: &Shared,
    task: &StartTask,
    turn: Option<OwnedSemaphorePermit>,
) -> Result<Ran, Failed> {
    let files = shared.files.write(task.task, &task.files).await.map_err(|error| {
        let why = match &error {
            // Another host may have memory for them.
            FilesError::NoMemory(_) | FilesError::Write { .. } => StartFailure::DidNotStart,
            FilesError::Vault(_) | FilesError::Template { .. } => StartFailure::BadSpec,
        };
        Failed::new(why, error.to_string())
    })?;
    let body = create::request(shared.owner, task, &files)
        .and_then(|body| create::check_hardware(&body, shared.allow_privileged).map(|()| body))
        .map_err(|bad| Failed::new(StartFailure::BadSpec, bad.to_string()))?;
    let mut asked = Asked::of(&body, task);
    ensure_networks(shared, task).await?;
    let created = match create(shared, &task.name, body.clone()).await {
        Err(error) if is_network_missing(&error) => {
            // Somebody removed it behind our back.
            shared.networks.forget().await;
            ensure_networks(shared, task).await?;
            create(shared, &task.name, body.clone()).await
        }
        created => created,
    };
    let (container, _turn) = match created {
        Ok(container) => (container, turn),
        Err(error) if is_name_taken(&error) => match earlier(shared, task).await? {
            Earlier::Created(container) => (container, turn),
            Earlier::WentFurther(container) => return Ok(Ran { container, asked: None }),
        },
        Err(error) if is_image_missing(&error) => {
            drop(turn);
            let body = with_image(shared, body, task.registry_auth.as_ref()).await?;
            asked = Asked::of(&body, task);
            let turn = shared.admission.start_turn().await;
            let created = create(shared, &task.name, body).await;
            (created.map_err(not_created)?, turn)
        }
        Err(error) => return Err(not_created(error)),
    };
    if let Err(error) = networks::connect_others(shared, &container, &task.networks).await {
        if matches!(error, CallError::Refused { .. }) {
            discard(shared, &container).await;
        }
        return Err(Failed::at("attaching container failed", StartFailure::DidNotStart, error));
    }
    let name = container.clone();
    let started = shared
        .engine
        .call("start a container", WORK_DEADLINE, |docker| async move {
            docker.start_container(&name, None).await
        })
        .await;
    match started {
        Ok(()) => Ok(Ran { container, asked: Some(asked) }),
        Err(error) => {
            // An engine that said no leaves a container that nobody will ever start. One that did not
            // answer may be starting it: that one is found by the next listing.
            if matches!(error, CallError::Refused { .. }) {
                discard(shared, &container).await;
            }
            Err(Failed::at("starting container failed", StartFailure::DidNotStart, error))
        }
    }
}

async fn create(
    shared: &Shared,
    name: &str,
    body: ContainerCreateBody,
) -> Result<String, CallError> {
    let options = CreateContainerOptionsBuilder::default().name(name).build();
    let created = shared
        .engine
        .call("create a container", WORK_DEADLINE, |docker| async move {
            docker.create_container(Some(options), body).await
        })
        .await?;
    for warning in &created.warnings {
        tracing::warn!(container = name, warning, "the engine warns");
    }
    Ok(created.id)
}

fn not_created(error: CallError) -> Failed {
    // An engine that fails by itself (status 500) may do better next time; one that says the request
    // is wrong will not.
    match error {
        CallError::Refused { status: ..500, message } => {
            Failed::new(StartFailure::BadSpec, message)
        }
        error => Failed::at("creating container failed", StartFailure::DidNotStart, error),
    }
}

/// The networks of the cluster that the task is on.
async fn ensure_networks(shared: &Shared, task: &StartTask) -> Result<(), Failed> {
    for on in &task.networks {
        networks::ensure(shared, &on.network).await.map_err(|error| match error {
            NetworkError::Engine(error) => {
                Failed::at("making its network failed", StartFailure::DidNotStart, error)
            }
            other => Failed::new(StartFailure::DidNotStart, other.to_string()),
        })?;
    }
    Ok(())
}

fn is_network_missing(error: &CallError) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("network") && text.contains("not found")
}

fn is_name_taken(error: &CallError) -> bool {
    error.is_conflict() && error.to_string().contains("already in use by container")
}

fn is_image_missing(error: &CallError) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    error.is_missing() && (text.contains("no such image") || text.contains("manifest"))
}

/// Answers [`node::runtime::RuntimeAction::Prepare`]: the image is here, or it is fetched.
pub(super) async fn prepare(
    shared: &Shared,
    template_json: &serde_json::Value,
    auth: Option<&RegistryAuth>,
) -> ActionResult {
    let image = template_json.pointer("/ContainerSpec/Image").and_then(serde_json::Value::as_str);
    let failed = match shared.pulls.fetch(&shared.engine, image.unwrap_or_default(), auth).await {
        Ok(_) => return ActionResult::Prepared,
        Err(error) => not_fetched(error),
    };
    ActionResult::StartFailed { why: failed.why, message: failed.message }
}

fn not_fetched(error: ImageError) -> Failed {
    match error {
        ImageError::Missing(message) => Failed::new(StartFailure::NoSuchImage, message),
        ImageError::Engine(error) => {
            Failed::at("fetching the image failed", StartFailure::NoSuchImage, error)
        }
    }
}

async fn with_image(
    shared: &Shared,
    body: ContainerCreateBody,
    auth: Option<&RegistryAuth>,
) -> Result<ContainerCreateBody, Failed> {
    let image = body.image.clone().unwrap_or_default();
    match shared.pulls.fetch(&shared.engine, &image, auth).await {
        Ok(image) => Ok(ContainerCreateBody { image: Some(image), ..body }),
        Err(error) => Err(not_fetched(error)),
    }
}

/// How far an earlier attempt of the same task got.
enum Earlier {
    Created(String),
    WentFurther(String),
}

async fn earlier(shared: &Shared, task: &StartTask) -> Result<Earlier, Failed> {
    let name = &task.name;
    match observe::look(shared, name).await {
        Ok(Some(found)) if found.task == task.task => Ok(match found.state {
            ContainerState::Created => Earlier::Created(found.container),
            _ => Earlier::WentFurther(found.container),
        }),
        Ok(_) => Err(Failed::new(
            StartFailure::DidNotStart,
            format!(
                "a container named {name} is on this host already and is not this task's: shoal does not touch it. Remove it with 'docker rm {name}'"
            ),
        )),
        Err(error) => Err(Failed::at(
            "looking at an earlier attempt failed",
            StartFailure::DidNotStart,
            error,
        )),
    }
}

async fn discard(shared: &Shared, container: &str) {
    let options = RemoveContainerOptionsBuilder::default().force(true).v(true).build();
    let name = container.to_owned();
    let removed = shared
        .engine
        .call("remove a container", WORK_DEADLINE, |docker| async move {
            docker.remove_container(&name, Some(options)).await
        })
        .await;
    if let Err(error) = removed {
        tracing::warn!(container, %error, "a container that did not start was left behind");
    }
}
