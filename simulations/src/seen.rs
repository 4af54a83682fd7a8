//! What an outsider with eyes everywhere sees of a run: the stream that checks and figures feed on.
//!
//! Checks see only this, never the world, so each can be tested with a few lines of fabricated
//! observations, a planted violation among them.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use membership::clock::Stamp;
use membership::id::{AssetId, Incarnation, NetworkId, NodeId, ServiceId, TaskId};
use membership::member::{MemberState, Resources};
use membership::record::{Digest, Key};
use node::slot::{Epoch, Phase, Place, TemplateId};
use node::spec::Partition;

use crate::engine::Became;
use crate::links::HostIx;
use crate::operators::CommandNo;

/// What a node tells of links that answer again, and of containers that it finds ended when it next looks
/// through its engine: both come some time after all is as it should be.
pub const AFTERTHOUGHTS: &str = "links or ended tasks";

/// A record, by what tells it from all others.
pub type RecordName = (Key, Stamp, NodeId);

/// A record as it lies on a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub name: RecordName,
    pub tombstone: bool,
    /// The concurrent edit that lost and that this record keeps; for a record of a conflict.
    pub keeps: Option<RecordName>,
    /// The slots of an execution of a job that it says have ended.
    pub ended: Vec<(Place, TemplateId)>,
}

/// Where a record comes from and what it says, by digests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    pub digest: Digest,
    pub ancestors: Vec<Digest>,
    pub body: Digest,
}

/// What a node itself believes about a service at the moment it acts on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnView {
    /// The node itself is draining.
    pub draining: bool,
    /// Replicas it should have; 0 when it was removed. Global services want one on each node.
    pub desired: u64,
    pub global: bool,
    pub partition: Partition,
    /// A task of this node that is out of date may be stopped before its successor is ready.
    pub stop_first: bool,
    pub reservation: Resources,
    /// The constraint of the service that keeps it from this node.
    pub forbidden: Option<String>,
    /// How many replicas of it one node may run; 0 for any number.
    pub per_node: u64,
    /// What a task has to be made from to be up to date.
    pub template: TemplateId,
}

/// One observation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A host with this capacity exists.
    Host {
        host: HostIx,
        capacity: Resources,
    },
    /// A shoal process started.
    Process {
        host: HostIx,
        id: NodeId,
        incarnation: Incarnation,
    },
    ProcessGone {
        host: HostIx,
    },
    /// What can talk to what now: running, thawed processes by connected part.
    Parts(Vec<Vec<HostIx>>),
    /// Between these hosts, and no others, so many packets of a thousand are lost from now on.
    Lossy(Vec<(HostIx, HostIx, u32)>),
    /// A host's loop is too slow for what it has to do, or is well again.
    Strained {
        host: HostIx,
        strained: bool,
    },
    /// A fault began or ended somewhere, the network included: things may be unsettled for a while.
    Disturbed,
    /// All faults are over and all hosts that will come back are back.
    Healed,
    Container {
        host: HostIx,
        place: Place,
        task: TaskId,
        what: Became,
    },
    /// The core told the runtime to start. `view` is `None` for a service it does not know.
    Start {
        host: HostIx,
        place: Place,
        task: TaskId,
        epoch: Epoch,
        template: TemplateId,
        view: Option<OwnView>,
    },
    Stop {
        host: HostIx,
        place: Place,
        task: TaskId,
        view: Option<OwnView>,
    },
    /// The core told the runtime to stop what the engine has not made yet: a start that was called off.
    CalledOff {
        task: TaskId,
    },
    /// A node says that it gives a task up; the stop may have to wait for its engine.
    GivesUp {
        host: HostIx,
        task: TaskId,
        view: Option<OwnView>,
    },
    /// A node published its claim on a slot.
    Claim {
        host: HostIx,
        id: NodeId,
        place: Place,
        epoch: Epoch,
        phase: Phase,
    },
    Published {
        id: NodeId,
        incarnation: Incarnation,
        seq: u64,
    },
    /// Records are on a disk.
    Written {
        host: HostIx,
        records: Vec<Stored>,
    },
    /// A node tells another of records: hands them on, or confirms that it has them.
    Told {
        host: HostIx,
        records: Vec<RecordName>,
    },
    /// A host was set up with a copy of another one's disk: from now on two bear this id.
    Cloned {
        host: HostIx,
        id: NodeId,
    },
    /// A host's wall clock was set back.
    ClockSetBack {
        host: HostIx,
    },
    /// A disk was replaced, or lost its latest writes.
    DiskLost {
        host: HostIx,
    },
    /// A command was acknowledged. `alive`: members that the acknowledging node holds for up.
    Acked {
        host: HostIx,
        command: CommandNo,
        records: Vec<RecordName>,
        alive: usize,
    },
    /// An operator asked a node for something.
    Asked {
        host: HostIx,
        command: CommandNo,
    },
    /// The answer; `stored` is false where it could not be made safe, or the node had too much to do.
    Answered {
        host: HostIx,
        command: CommandNo,
        stored: bool,
    },
    /// A node wrote a record itself, and its disk has it.
    Drafted {
        record: RecordName,
        lineage: Lineage,
    },
    /// A host's container engine stopped answering, or answers again.
    Engine {
        host: HostIx,
        well: bool,
    },
    /// A node tells others something beside heartbeats and comparisons.
    Spoke {
        host: HostIx,
        what: &'static str,
    },
    /// A node was removed from the cluster, says an acknowledged command.
    Expelled {
        id: NodeId,
    },
    /// Records or facts reached a node that was removed.
    ToldExpelled {
        host: HostIx,
        id: NodeId,
    },
    /// A host that has no token is there, and wants to join.
    Outsider {
        host: HostIx,
        id: NodeId,
    },
    /// A handshake with a host that has no token succeeded.
    LetIn {
        host: HostIx,
        id: NodeId,
    },
    /// Something that a member said reached a host that has no token.
    ToldOutsider {
        host: HostIx,
        id: NodeId,
    },
    /// A record under this key was sent that nobody may take for one.
    Garbage {
        id: u128,
    },
    /// An operator gave a secret or config this content: one of those that it may have.
    Offered {
        asset: AssetId,
        content: Digest,
    },
    /// A start was ordered: which secrets and configs its template names, and with which contents it goes.
    Files {
        host: HostIx,
        task: TaskId,
        place: Place,
        wants: Vec<AssetId>,
        has: Vec<(AssetId, Digest)>,
    },
    /// A start was ordered: which networks its template names, and which address on each network it goes with, of
    /// which block of the network's.
    Addressed {
        host: HostIx,
        task: TaskId,
        place: Place,
        wants: Vec<NetworkId>,
        has: Vec<(NetworkId, Ipv4Addr, u32)>,
    },
    /// A node says which blocks of a network's addresses it uses.
    Blocks {
        host: HostIx,
        network: NetworkId,
        blocks: Vec<u32>,
    },
    /// The content of a secret or config stood in something that is shown to people: a notice, an answer, a list.
    Shown {
        host: HostIx,
        by: &'static str,
    },
    /// A service was removed, says an acknowledged command.
    Removed {
        service: ServiceId,
    },
    /// A node's view of a member has changed.
    Verdict {
        host: HostIx,
        about: NodeId,
        to: MemberState,
    },
    /// After healing, everything is as it should be: from here on nothing is to be started or stopped.
    /// But services of which a node still keeps a slot away, because it failed there too often, may be
    /// evened out once that is over.
    Settled {
        kept_away: BTreeSet<ServiceId>,
    },
}

impl Seen {
    /// The host that did it, or on which it happened, where it is about one.
    pub fn host(&self) -> Option<HostIx> {
        match self {
            Self::Host { host, .. }
            | Self::Process { host, .. }
            | Self::ProcessGone { host }
            | Self::Strained { host, .. }
            | Self::Container { host, .. }
            | Self::Start { host, .. }
            | Self::Stop { host, .. }
            | Self::GivesUp { host, .. }
            | Self::Claim { host, .. }
            | Self::Written { host, .. }
            | Self::Told { host, .. }
            | Self::Cloned { host, .. }
            | Self::ClockSetBack { host }
            | Self::DiskLost { host }
            | Self::Acked { host, .. }
            | Self::Asked { host, .. }
            | Self::Answered { host, .. }
            | Self::Engine { host, .. }
            | Self::Spoke { host, .. }
            | Self::ToldExpelled { host, .. }
            | Self::LetIn { host, .. }
            | Self::Files { host, .. }
            | Self::Addressed { host, .. }
            | Self::Blocks { host, .. }
            | Self::Shown { host, .. }
            | Self::ToldOutsider { host, .. }
            | Self::Verdict { host, .. } => Some(*host),
            Self::Parts(_)
            | Self::Lossy(_)
            | Self::CalledOff { .. }
            | Self::Disturbed
            | Self::Healed
            | Self::Published { .. }
            | Self::Drafted { .. }
            | Self::Expelled { .. }
            | Self::Outsider { .. }
            | Self::Garbage { .. }
            | Self::Removed { .. }
            | Self::Offered { .. }
            | Self::Settled { .. } => None,
        }
    }
}
