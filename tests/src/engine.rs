//! Asking a Docker engine (or a shoal node, which speaks the same API) over its socket.
//!
//! The scenarios count containers by asking the engines, never shoal: what shoal believes is what is being
//! tested. Every question has a deadline, for engines hang here on purpose.

use std::collections::HashMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result};
use bollard::Docker;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, NodeState};
use bollard::query_parameters::{ListContainersOptionsBuilder, ListNodesOptions};
use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use crate::wait::secs;

/// Deadline of one question. Busy engines on two cores answer within a second or two.
pub const ANSWER_BOUND: Duration = secs(10);

/// Labels that Swarm puts on its containers, and shoal after it.
pub const SERVICE_LABEL: &str = "com.docker.swarm.service.name";
pub const TASK_LABEL: &str = "com.docker.swarm.task.name";

/// Something that answers Docker's API on a Unix socket.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Engine {
    socket: PathBuf,
}

/// One container, as its engine tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    /// The service whose label it carries.
    pub service: Option<String>,
    /// Its slot, from a task name like `web.3.k2x…`; a global service's have none.
    pub slot: Option<u64>,
    pub running: bool,
    /// Docker's words: `Up 3 seconds (healthy)`.
    pub status: String,
    pub labels: HashMap<String, String>,
}

/// One line of `node ls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeLine {
    pub id: String,
    pub host_name: String,
    pub ready: bool,
}

impl Engine {
    /// The engine behind a socket, which need not exist yet.
    pub fn at(socket: &Path) -> Engine {
        Engine { socket: socket.to_path_buf() }
    }

    /// As DOCKER_HOST and `--host` want it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// A client, for what is not wrapped here; its calls have bollard's own deadline, `bound`.
    pub fn client(&self, bound: Duration) -> Result<Docker> {
        let _entered = runtime().enter();
        let path = self.socket.to_string_lossy();
        Docker::connect_with_unix(&path, bound.as_secs().max(1), bollard::API_DEFAULT_VERSION)
            .with_context(|| format!("no Docker API at {path}"))
    }

    /// Whether it answers at all; `Err` is why not.
    pub fn answers(&self, bound: Duration) -> Result<(), String> {
        let ask = async { self.client(bound)?.ping().await.context("ping") };
        match block_on(async { tokio::time::timeout(bound, ask).await }) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{error:#}")),
            Err(_) => Err(format!("no answer within {:.1} s", bound.as_secs_f64())),
        }
    }

    /// Containers that carry a label (`key` or `key=value`); with `all`, those that do not run too.
    pub async fn containers(&self, label: &str, all: bool) -> Result<Vec<Container>> {
        let filters = HashMap::from([("label", vec![label])]);
        let options = ListContainersOptionsBuilder::new().all(all).filters(&filters).build();
        let ask = async { Ok(self.client(ANSWER_BOUND)?.list_containers(Some(options)).await?) };
        let list: Result<Vec<ContainerSummary>> =
            tokio::time::timeout(ANSWER_BOUND, ask).await.unwrap_or_else(|_| {
                anyhow::bail!("no answer within {} s", ANSWER_BOUND.as_secs());
            });
        let list = list.with_context(|| format!("listing the containers of {}", self.url()))?;
        Ok(list.into_iter().map(Container::from).collect())
    }

    /// The nodes as this manager (Swarm) or node (shoal) sees them.
    pub fn nodes(&self) -> Result<Vec<NodeLine>> {
        let ask =
            async { Ok(self.client(ANSWER_BOUND)?.list_nodes(None::<ListNodesOptions>).await?) };
        let answer: Result<Vec<bollard::models::Node>> =
            block_on(async { tokio::time::timeout(ANSWER_BOUND, ask).await })?;
        let answer = answer.with_context(|| format!("listing the nodes of {}", self.url()))?;
        let line = |node: bollard::models::Node| NodeLine {
            id: node.id.unwrap_or_default(),
            host_name: node.description.and_then(|known| known.hostname).unwrap_or_default(),
            ready: node.status.and_then(|status| status.state) == Some(NodeState::READY),
        };
        Ok(answer.into_iter().map(line).collect())
    }
}

impl From<ContainerSummary> for Container {
    fn from(summary: ContainerSummary) -> Container {
        let labels = summary.labels.unwrap_or_default();
        let name = summary.names.unwrap_or_default().into_iter().next().unwrap_or_default();
        Container {
            id: summary.id.unwrap_or_default(),
            name: name.trim_start_matches('/').to_string(),
            service: labels.get(SERVICE_LABEL).cloned(),
            slot: labels.get(TASK_LABEL).and_then(|task| slot_of(task)),
            running: summary.state == Some(ContainerSummaryStateEnum::RUNNING),
            status: summary.status.unwrap_or_default(),
            labels,
        }
    }
}

/// The slot in a task's name. Service names may contain dots, task ids do not.
pub fn slot_of(task: &str) -> Option<u64> {
    task.rsplit('.').nth(1)?.parse().ok()
}

/// The one runtime for all calls: scripts are plain blocking code.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let built = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        #[expect(clippy::expect_used, reason = "without threads or epoll no test can go on")]
        built.expect("a tokio runtime can be started")
    })
}

/// Waits for a future from plain code.
pub fn block_on<F: Future>(future: F) -> F::Output {
    runtime().block_on(future)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slot_is_the_last_word_but_one_of_a_task_name() {
        assert_eq!(slot_of("web.3.k2xabc"), Some(3));
        assert_eq!(slot_of("shop.front.12.k2xabc"), Some(12));
        assert_eq!(slot_of("agent.nodeid.k2xabc"), None);
        assert_eq!(slot_of("web"), None);
    }
}
