//! The node as its API sees it: reads and commands go to the loop and come back, logs come from the
//! runtime or from the peer that runs the task.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use gossip::GossipHandle;
use membership::id::{NodeId, TaskId};
use membership::member::{EngineState, Profile};
use membership::time::Wall;
use node::Node;
use node::assets::AssetKind;
use node::command::{Command, CommandError, Refused, Reply};
use node::foresight::Picture;
use node::io::Notice;
use node::network::NetworkView;
use node::views::{AssetView, ConflictView, MemberView, ServiceView, TaskView};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use super::core_loop::{Request, loop_is_gone};
use super::switch::Scout;
use crate::api::backend::{
    Backend, ClusterView, HoldingBack, LogOptions, LogStream, LogsUnavailable, StatusView,
    TaskQuery,
};
use crate::runtime::Runtime;
use crate::settings::Settings;
use crate::vault::Vault;

/// How long a command may take before its caller is told that the outcome is unknown. Longer than the
/// core's own bounds, which answer in better words; `leave` has the longest of them.
const COMMAND_DEADLINE: Duration = Duration::from_secs(180);

/// Warnings kept for `shoal status`.
const WARNINGS: usize = 50;

/// What is shown of this node besides the core's own views.
#[derive(Debug)]
pub(crate) struct Shown {
    settings: Settings,
    profile: Profile,
    warnings: VecDeque<String>,
    holding_back: Option<HoldingBack>,
}

impl Shown {
    pub(crate) fn new(settings: &Settings, profile: &Profile) -> Self {
        Self {
            settings: settings.clone(),
            profile: profile.clone(),
            warnings: VecDeque::new(),
            holding_back: None,
        }
    }

    pub(crate) fn take(&mut self, notice: &Notice, wall: Wall) {
        match notice {
            Notice::Warning { text } | Notice::Conflict { text } => {
                if self.warnings.back() != Some(text) {
                    self.warnings.push_back(text.clone());
                }
                while self.warnings.len() > WARNINGS {
                    self.warnings.pop_front();
                }
            }
            Notice::HoldingBack { on, reason, at_most } => {
                self.holding_back = on.then(|| HoldingBack {
                    reason: reason.clone(),
                    at_most: *at_most,
                    since: wall,
                });
            }
            _ => {}
        }
    }
}

/// A handle on the node of this process. Cheap to clone.
#[derive(Clone, Debug)]
pub struct LocalNode {
    requests: mpsc::Sender<Request>,
    notices: broadcast::Sender<Notice>,
    runtime: Arc<dyn Runtime>,
    gossip: GossipHandle,
    shown: Arc<Mutex<Shown>>,
    token: Arc<str>,
    engine: Option<PathBuf>,
    vault: Arc<Vault>,
    /// What networks cannot have on this host.
    missing: watch::Receiver<Vec<String>>,
    scout: Arc<Scout>,
}

impl LocalNode {
    #[expect(clippy::too_many_arguments, reason = "what a node consists of, each once")]
    pub(crate) fn new(
        requests: mpsc::Sender<Request>,
        notices: broadcast::Sender<Notice>,
        runtime: Arc<dyn Runtime>,
        gossip: GossipHandle,
        shown: Arc<Mutex<Shown>>,
        token: String,
        engine: Option<PathBuf>,
        vault: Arc<Vault>,
        missing: watch::Receiver<Vec<String>>,
        scout: Scout,
    ) -> Self {
        Self {
            requests,
            notices,
            runtime,
            gossip,
            shown,
            token: token.into(),
            engine,
            vault,
            missing,
            scout: Arc::new(scout),
        }
    }

    /// Runs a read in the loop, between two inputs. `None` when the loop has ended.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Node) -> T + Send + 'static,
    ) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        let read = Box::new(move |node: &Node| {
            // A reader that has gone away wants no answer.
            let _ = reply.send(read(node));
        });
        self.requests.send(Request::Read(read)).await.ok()?;
        answer.await.ok()
    }
}

#[async_trait]
impl Backend for LocalNode {
    async fn command(&self, command: Command) -> Result<Reply, CommandError> {
        let (reply, answer) = oneshot::channel();
        let request = Request::Command(command, reply);
        self.requests.send(request).await.map_err(|_| loop_is_gone())?;
        match tokio::time::timeout(COMMAND_DEADLINE, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(loop_is_gone()),
            Err(_) => Err(CommandError::new(
                Refused::NotStored,
                format!(
                    "no answer within {COMMAND_DEADLINE:?}: the change may or may not have been made; look before you try again"
                ),
            )),
        }
    }

    async fn join(&self, members: Vec<String>, token: &str) -> Result<(), CommandError> {
        // Asked twice: now, so that nothing is tried in vain, and by the loop at the moment of leaving.
        self.read(Node::may_move).await.ok_or_else(loop_is_gone)??;
        let there = self.scout.destination(token, members)?;
        self.scout.reach(&there).await?;
        let (reply, answer) = oneshot::channel();
        let request = Request::Move(there, reply);
        self.requests.send(request).await.map_err(|_| loop_is_gone())?;
        answer.await.unwrap_or_else(|_| Err(loop_is_gone()))
    }

    async fn services(&self) -> Vec<ServiceView> {
        self.read(Node::services).await.unwrap_or_default()
    }

    async fn tasks(&self, which: TaskQuery) -> Vec<TaskView> {
        self.read(move |node| match which {
            TaskQuery::All => node.tasks(),
            TaskQuery::Service(id) => {
                let mut tasks = Vec::new();
                node.tasks_of(id, &mut tasks);
                tasks
            }
            TaskQuery::Node(id) => {
                node.tasks().into_iter().filter(|task| task.node == Some(id)).collect()
            }
            TaskQuery::Task(id) => node.tasks().into_iter().filter(|t| t.id() == id).collect(),
        })
        .await
        .unwrap_or_default()
    }

    async fn members(&self) -> Vec<MemberView> {
        self.read(Node::members).await.unwrap_or_default()
    }

    async fn assets(&self, kind: AssetKind) -> Vec<AssetView> {
        self.read(move |node| node.assets(kind)).await.unwrap_or_default()
    }

    async fn networks(&self) -> Vec<NetworkView> {
        self.read(Node::networks).await.unwrap_or_default()
    }

    fn vault(&self) -> &Vault {
        &self.vault
    }

    async fn conflicts(&self) -> Vec<ConflictView> {
        self.read(Node::conflicts).await.unwrap_or_default()
    }

    async fn picture(&self) -> Option<Picture> {
        self.read(Node::picture).await
    }

    async fn cluster(&self) -> ClusterView {
        let read = |node: &Node| {
            let (version, spec) = node.cluster_spec();
            let members = node.members();
            let created = members.iter().map(|m| m.created).filter(|w| w.0 > 0).min();
            (node.cluster_id(), node.me(), version, spec, created.unwrap_or_default())
        };
        let (id, me, version, spec, created) = self
            .read(read)
            .await
            .unwrap_or_else(|| (Default::default(), self.gossip.node(), 0, None, Wall::default()));
        ClusterView {
            id,
            me,
            my_addr: self.gossip.advertised().to_string(),
            created,
            updated: created,
            version,
            spec: spec.map(|spec| (*spec).clone()),
        }
    }

    async fn status(&self) -> StatusView {
        let me = self.gossip.node();
        let mine = self.read(move |node| node.members().into_iter().find(|m| m.id == me)).await;
        let mine = mine.flatten();
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let profile = mine.as_ref().and_then(|m| m.profile.as_ref()).unwrap_or(&shown.profile);
        StatusView {
            name: profile.name.clone(),
            shoal_version: profile.shoal_version.clone(),
            started: profile.started,
            data_dir: shown.settings.data_dir.clone(),
            profile: shown.settings.profile.name().to_owned(),
            runtime: self.runtime.name().to_owned(),
            engine: mine
                .as_ref()
                .and_then(|m| m.health.as_ref())
                .map_or(EngineState::Ok, |h| h.engine.clone()),
            engine_version: profile.engine_version.clone(),
            os: profile.os.clone(),
            arch: profile.arch.clone(),
            cpus: profile.capacity.cpu_milli.div_ceil(1000),
            memory_bytes: profile.capacity.memory_bytes,
            holding_back: shown.holding_back.clone(),
            warnings: shown.warnings.iter().chain(&*self.missing.borrow()).cloned().collect(),
        }
    }

    fn token(&self) -> String {
        self.token.to_string()
    }

    async fn logs(
        &self,
        node: NodeId,
        task: TaskId,
        options: LogOptions,
    ) -> Result<LogStream, LogsUnavailable> {
        if node == self.gossip.node() {
            return Ok(self.runtime.logs(task, options));
        }
        super::remote_logs::open(&self.gossip, node, task, options).await
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn engine(&self) -> Option<PathBuf> {
        self.engine.clone()
    }
}
