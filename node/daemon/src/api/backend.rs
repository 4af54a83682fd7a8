//! What the API needs of a node: one command entrance, cheap read views, and logs.
//!
//! The daemon's loop implements [`Backend`]; the tests have one in memory. Reads are answered from
//! local memory, because a waiting docker CLI asks fifteen times a second. Nothing in here may wait
//! for a peer, an engine or a disk without a deadline of its own.

use std::path::PathBuf;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use membership::id::{ClusterId, NodeId, ServiceId, TaskId};
use membership::member::EngineState;
use membership::time::{Millis, Wall};
use node::assets::AssetKind;
use node::command::{Command, CommandError, Reply};
use node::foresight::Picture;
use node::io::Notice;
use node::network::NetworkView;
use node::views::{AssetView, ConflictView, MemberView, ServiceView, TaskView};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::broadcast;

use crate::vault::Vault;

/// A node, as the API sees it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Hands a command to the core and waits for its answer.
    ///
    /// # Errors
    /// The core's refusal. Implementers bound the wait and answer `Refused::NotStored` (or `Busy`) with
    /// a text that says what is true when the time is over.
    async fn command(&self, command: Command) -> Result<Reply, CommandError>;

    /// Moves this node, which has to be alone and empty, to another cluster. Once this is answered, it starts again
    /// there.
    ///
    /// # Errors
    /// Why it stays; nothing was changed then.
    async fn join(&self, members: Vec<String>, token: &str) -> Result<(), CommandError>;

    async fn services(&self) -> Vec<ServiceView>;

    /// Tasks with their history, in no particular order.
    async fn tasks(&self, which: TaskQuery) -> Vec<TaskView>;

    /// All members, this node among them.
    async fn members(&self) -> Vec<MemberView>;

    /// All secrets, or all configs.
    async fn assets(&self, kind: AssetKind) -> Vec<AssetView>;

    /// All networks of the cluster.
    async fn networks(&self) -> Vec<NetworkView>;

    /// What seals and opens secrets.
    fn vault(&self) -> &Vault;

    async fn conflicts(&self) -> Vec<ConflictView>;

    async fn cluster(&self) -> ClusterView;

    /// A copy of what foresight needs; `None` when the node is stopping.
    async fn picture(&self) -> Option<Picture>;

    async fn status(&self) -> StatusView;

    /// What `shoal up --token` takes on the next node. A secret: shown to whoever may use the socket.
    fn token(&self) -> String;

    /// The log of one task, from the runtime of the node that runs it: the local one, or a peer's over
    /// its connection. A stream without `follow` ends by itself; with `follow` it ends when the task
    /// has ended. Dropping it ends the call.
    ///
    /// # Errors
    /// [`LogsUnavailable`] when the stream could not be opened before the implementer's deadline. Once
    /// open, a stream that breaks yields one `Err` and ends.
    async fn logs(
        &self,
        node: NodeId,
        task: TaskId,
        options: LogOptions,
    ) -> Result<LogStream, LogsUnavailable>;

    /// News as it happens on this node's view. A reader that falls behind loses the oldest.
    fn notices(&self) -> broadcast::Receiver<Notice>;

    /// The local engine's socket, where everything that is not Swarm's is passed through to; `None`
    /// with the process runtime.
    fn engine(&self) -> Option<PathBuf>;
}

/// Which tasks: what the daemon can answer without copying all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskQuery {
    All,
    Service(ServiceId),
    Node(NodeId),
    Task(TaskId),
}

#[derive(Clone, Debug, PartialEq)]
pub struct ClusterView {
    pub id: ClusterId,
    pub me: NodeId,
    /// Where this node's QUIC endpoint is reached: what `shoal up --join` takes.
    pub my_addr: String,
    pub created: Wall,
    pub updated: Wall,
    pub version: u64,
    /// Docker's cluster Spec as last stored by `POST /swarm/update`; `None` before the first one.
    pub spec: Option<Value>,
}

/// This node alone, for `shoal status` and the synthesized `/info`.
#[derive(Clone, Debug, PartialEq)]
pub struct StatusView {
    pub name: String,
    pub shoal_version: String,
    pub started: Wall,
    pub data_dir: PathBuf,
    /// "local", "lan" or "wan".
    pub profile: String,
    /// "docker" or "process".
    pub runtime: String,
    pub engine: EngineState,
    pub engine_version: String,
    pub os: String,
    pub arch: String,
    pub cpus: u64,
    pub memory_bytes: u64,
    /// Set while this node holds its takeovers and accusations back.
    pub holding_back: Option<HoldingBack>,
    /// What an operator should look at, newest last.
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldingBack {
    pub reason: String,
    pub at_most: Millis,
    pub since: Wall,
}

/// Which part of a task's log. Goes over the peer connections as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    pub stdout: bool,
    pub stderr: bool,
    pub follow: bool,
    /// Only lines written at this time or later.
    pub since: Option<Wall>,
    /// Only lines written up to this time.
    pub until: Option<Wall>,
    /// The last so many lines; `None` is all.
    pub tail: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogSource {
    Stdout,
    Stderr,
    /// A service with a terminal has one stream of raw bytes, not of lines.
    Console,
}

/// The longest payload of one [`LogFrame`], in bytes: a longer line goes on in the next frame.
pub const MAX_LOG_FRAME_BYTES: usize = 64 * 1024;

/// One line of a log, with its line feed; of a service with a terminal, some bytes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFrame {
    pub source: LogSource,
    /// RFC 3339 with nine digits, by the clock of the node that ran it.
    pub timestamp: String,
    /// At most [`MAX_LOG_FRAME_BYTES`].
    pub line: Vec<u8>,
}

pub type LogStream = BoxStream<'static, Result<LogFrame, LogsUnavailable>>;

/// Why a task's log cannot be read (any further), in the operator's words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct LogsUnavailable(pub String);
