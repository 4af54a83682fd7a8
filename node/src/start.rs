//! From a slot and a template to a container: its name, its labels, and its templates filled in. A
//! pure mapping; the runtime translates the result for its engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use membership::id::{ClusterId, NetworkId, NodeId, TaskId};
use membership::time::Wall;
use serde_json::Value;

use crate::expand;
use crate::files::{TaskFile, TaskFiles};
use crate::network::Given;
use crate::runtime::{StartTask, label};
use crate::services::Service;
use crate::slot::{Epoch, Place, PortStatus, TemplateId};
use crate::template::TemplateError;

/// Who starts it: what the templates and labels need to know of this node.
#[derive(Clone, Debug)]
pub(crate) struct Starter {
    pub cluster: ClusterId,
    pub node: NodeId,
    pub hostname: String,
    pub os: String,
    pub arch: String,
}

/// What a task is made from, fixed when the task is made.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub template: TemplateId,
    pub template_json: Arc<Value>,
    pub ports: Vec<PortStatus>,
    /// Networks of the cluster.
    pub networks: Vec<NetworkId>,
    /// It has ports that are open on every node.
    pub published: bool,
    /// Others may send it work: they are told before it is stopped.
    pub drains: bool,
}

impl Recipe {
    pub(crate) fn of(service: &Service) -> Option<Self> {
        let spec = service.active()?;
        Some(Self {
            template: spec.template,
            template_json: Arc::clone(&service.task_template),
            ports: spec.host_ports.clone(),
            networks: spec.networks.iter().map(|attachment| attachment.network).collect(),
            published: spec.is_reached_by_all(),
            drains: !spec.mode.is_job(),
        })
    }
}

/// A task template with its templates filled in, and what those in the contents of its files see.
pub(crate) struct Filled {
    pub template: Value,
    pub name: String,
    /// Without the files themselves.
    pub files: TaskFiles,
}

/// Fills in what depends on the task.
///
/// # Errors
/// A template of the spec that cannot be expanded, in words.
pub(crate) fn filled_template(
    starter: &Starter,
    service: &Service,
    place: Place,
    task: TaskId,
    template: &Value,
) -> Result<Filled, TemplateError> {
    let name = format!("{}.{}.{task}", service.name(), place.slot);
    let words = expand::words(starter, service, place, &task.to_string(), &name);
    let mut template = template.clone();
    expand::expand_template(&mut template, &words)?;
    let env = template.pointer("/ContainerSpec/Env").and_then(Value::as_array);
    let env = env.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Ok(Filled { template, name, files: TaskFiles { files: Vec::new(), words, env } })
}

/// The order for the runtime.
///
/// # Errors
/// A template of the spec that cannot be expanded, in words.
#[expect(clippy::too_many_arguments, reason = "all that an order is made of, each once")]
pub(crate) fn start_task(
    starter: &Starter,
    service: &Service,
    place: Place,
    epoch: Epoch,
    task: TaskId,
    created: Wall,
    recipe: &Recipe,
    files: Vec<TaskFile>,
    given: Given,
) -> Result<StartTask, TemplateError> {
    let service_name = service.name().to_owned();
    let filled = filled_template(starter, service, place, task, &recipe.template_json)?;
    let Filled { template, name, files: seen } = filled;
    Ok(StartTask {
        labels: labels(
            starter, service, place, epoch, task, created, recipe, &template, &name, &given,
        ),
        task,
        service: place.service,
        service_name,
        slot: place.slot,
        epoch,
        template: recipe.template,
        created,
        name,
        template_json: Arc::new(template),
        registry_auth: service.body.registry_auth.clone(),
        ports: recipe.ports.clone(),
        files: Arc::new(TaskFiles { files, ..seen }),
        networks: given.networks,
        name_servers: given.name_servers,
    })
}

#[expect(
    clippy::too_many_arguments,
    reason = "one label for each; a struct would only rename them"
)]
fn labels(
    starter: &Starter,
    service: &Service,
    place: Place,
    epoch: Epoch,
    task: TaskId,
    created: Wall,
    recipe: &Recipe,
    template: &Value,
    name: &str,
    given: &Given,
) -> BTreeMap<String, String> {
    let own =
        template.get("ContainerSpec").and_then(|c| c.get("Labels")).and_then(Value::as_object);
    let mut labels: BTreeMap<String, String> = own
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect();
    // Ours last: a container spec cannot pretend to be another task.
    labels.extend(
        [
            (label::NODE, starter.node.to_string()),
            (label::CLUSTER, starter.cluster.to_string()),
            (label::SLOT, place.slot.to_string()),
            (label::EPOCH, epoch.0.to_string()),
            (label::TEMPLATE, recipe.template.to_string()),
            (label::CREATED, created.0.to_string()),
            (label::SWARM_NODE_ID, starter.node.to_string()),
            (label::SWARM_SERVICE_ID, place.service.to_string()),
            (label::SWARM_SERVICE_NAME, service.name().to_owned()),
            (label::SWARM_TASK, String::new()),
            (label::SWARM_TASK_ID, task.to_string()),
            (label::SWARM_TASK_NAME, name.to_owned()),
        ]
        .map(|(key, value)| (key.to_owned(), value)),
    );
    labels.remove(label::ADDRESSES);
    if !given.networks.is_empty() {
        let addresses = given.networks.iter().map(|on| (on.network.id, on.address));
        labels.insert(label::ADDRESSES.to_owned(), label::of_addresses(addresses));
    }
    labels
}
