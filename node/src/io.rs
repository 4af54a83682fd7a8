//! Everything that goes into the core and everything that comes out of it: two closed enums.
//!
//! The daemon's loop and the simulator are two short `match`es over [`Effect`]. Effects are carried
//! out in order; one that takes time comes back as an [`Input`]. Nothing is awaited inside the core.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use membership::fact::SignedFact;
use membership::id::{AssetId, Incarnation, NetworkId, NodeId, ServiceId, TaskId};
use membership::member::MemberState;
use membership::message::Message;
use membership::record::Record;
use membership::time::Millis;

use crate::assets::AssetKind;
use crate::command::{Command, CommandError, Reply};
use crate::network::picture::Picture;
use crate::runtime::{ActionId, ActionResult, RuntimeAction, RuntimeEvent};
use crate::slot::{Slot, TaskState};
use crate::views::Availability;

/// Ties a reply to the command it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub u64);

/// Ties the end of a write to the effect that asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

#[derive(Clone, Debug)]
pub enum Input {
    /// The time asked for by [`crate::Node::next_wake`] has come, or simply time has passed.
    Tick,
    /// From an admitted peer, over its own authenticated connection. Facts inside were verified.
    Message {
        from: NodeId,
        message: Message,
    },
    /// A verified fact that chitchat brought.
    Fact(SignedFact),
    /// A connection to the peer came up: `addr` is where it says it is reached.
    Connected {
        peer: NodeId,
        addr: SocketAddr,
    },
    Disconnected {
        peer: NodeId,
    },
    /// Answer to [`Effect::AskHost`].
    HostAnswer {
        target: NodeId,
        refused: bool,
    },
    Runtime(RuntimeEvent),
    /// A [`Effect::Runtime`] action ended.
    Done {
        id: ActionId,
        result: ActionResult,
    },
    /// A [`Effect::Persist`] ended. On `Err` nothing of it is on the disk, and the text says why.
    Persisted {
        id: PersistId,
        result: Result<(), String>,
    },
    Command {
        id: CommandId,
        command: Command,
    },
    /// The driver drew and persisted a new incarnation, as [`Effect::RaiseIncarnation`] asked.
    Incarnation(Incarnation),
    /// chitchat's state of a node was lost or restarted: publish everything again.
    Republish,
}

#[derive(Clone, Debug)]
pub enum Effect {
    /// Small messages may be lost, larger ones arrive or the connection is broken.
    Send {
        to: NodeId,
        message: Message,
    },
    /// Into this node's chitchat key space.
    Publish(SignedFact),
    /// Put these on disk, all or nothing, replacing what is there under the same keys. It is a barrier for
    /// these records and for nothing else: the driver goes on with the effects behind it at once. It is the
    /// core that merges them, tells peers of them and answers commands about them only when
    /// [`Input::Persisted`] says that they are there; the simulator checks that it does. One is under way
    /// at a time.
    Persist {
        id: PersistId,
        records: Vec<Record>,
    },
    /// Delete these from the disk, each only if it is this very record that is there: something new may
    /// have been written under its key since. Nobody waits for it; what a crash leaves is loaded and
    /// forgotten again.
    Forget(Vec<Record>),
    /// Stay connected to these; forget others.
    Peers(BTreeMap<NodeId, SocketAddr>),
    /// Refuse connections from these: they were removed from the cluster.
    Refuse(Vec<NodeId>),
    Runtime {
        id: ActionId,
        action: RuntimeAction,
    },
    Reply {
        id: CommandId,
        result: Result<Reply, CommandError>,
    },
    /// Ask the host itself, outside QUIC, whether it answers though its shoal does not.
    AskHost {
        target: NodeId,
    },
    /// Draw a new incarnation above this one, persist it, and come back with [`Input::Incarnation`].
    RaiseIncarnation {
        above: Incarnation,
    },
    /// What this host's links, rules and names are to be made from; whole, in place of the one before.
    Network(Arc<Picture>),
    /// Something that operators and API clients want to hear of.
    Notice(Notice),
    /// This node has left: end the process.
    Exit,
}

/// One line of the log, and one Docker event where Docker has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Member {
        id: NodeId,
        name: String,
        from: Option<MemberState>,
        to: MemberState,
        reason: String,
    },
    /// An operator set something on a node, or removed it.
    Node {
        id: NodeId,
        name: String,
        what: NodeChange,
    },
    Service {
        id: ServiceId,
        name: String,
        what: ServiceChange,
    },
    Asset {
        kind: AssetKind,
        id: AssetId,
        name: String,
        what: AssetChange,
    },
    Network {
        id: NetworkId,
        name: String,
        what: NetworkChange,
    },
    Task {
        service: ServiceId,
        service_name: String,
        slot: Slot,
        task: TaskId,
        state: TaskState,
        text: String,
    },
    Conflict {
        text: String,
    },
    /// Something an operator should look at.
    Warning {
        text: String,
    },
    /// This node holds takeovers back, or resumes them.
    HoldingBack {
        on: bool,
        reason: String,
        at_most: Millis,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeChange {
    /// Labels, and from what to what where these are others now.
    Updated {
        availability: Option<(Availability, Availability)>,
        role: Option<(String, String)>,
    },
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkChange {
    Created,
    Removed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AssetChange {
    Created,
    Updated,
    Removed,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServiceChange {
    Created,
    Updated,
    Scaled { from: u64, to: u64 },
    Removed,
    Rollout { from: String, to: String },
}
