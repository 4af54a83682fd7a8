//! One simulated host: its power, disk, engine and clock, and the shoal process that may run on it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use membership::id::{Incarnation, NodeId};
use membership::member::Resources;
use membership::message::Message;
use membership::record::Record;
use membership::time::{Instant, Now, Wall};
use node::io::{Effect, Input, PersistId};

use crate::core::Core;
use crate::disk::Disk;
use crate::engine::{Boot, Engine};
use crate::links::HostIx;
use crate::time::{At, Span};

/// The wall clock of the run starts here: 2026-01-01T00:00:00Z.
pub const WALL_ORIGIN_MS: u64 = 1_767_225_600_000;

/// Where a host is reached.
pub fn addr_of(ix: HostIx) -> SocketAddr {
    let [.., high, middle, low] = ix.0.to_be_bytes();
    SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, high, middle, low)), 4646)
}

/// What a host is like before anything happens to it.
#[derive(Clone, Debug)]
pub struct HostSpec {
    pub name: String,
    pub zone: String,
    pub labels: BTreeMap<String, String>,
    pub capacity: Resources,
}

#[derive(Debug)]
pub struct Host {
    pub ix: HostIx,
    /// The name of the node whose key is on this host's disk; another one after the disk was replaced.
    pub id: NodeId,
    pub spec: HostSpec,
    pub addr: SocketAddr,
    pub powered: bool,
    pub disk: Disk,
    pub engine: Engine,
    /// What its monotonic clock showed when the run began: another number on each host.
    pub uptime_ms: u64,
    /// Milliseconds by which its wall clock is off.
    pub clock_off_ms: i64,
    /// How long its loop takes for one input; zero when it is well.
    pub slow: Span,
    pub boots: Boot,
    pub process: Option<Process>,
    /// The process reported that it has left for good.
    pub left: bool,
    /// Has never been started: it may join one day.
    pub spare: bool,
    /// Runs shoal and knows the others' addresses, but was never let in: it has no token.
    pub outsider: bool,
    /// Runs a release from before the present one.
    pub older: bool,
    /// The disk is a copy of this other host's.
    pub clone_of: Option<HostIx>,
    /// Power fails in the middle of the next write: for how long, and whether the file is damaged by it.
    pub torn: Option<(Span, bool)>,
}

impl Host {
    pub fn new(ix: HostIx, id: NodeId, spec: HostSpec, engine: Engine) -> Self {
        Self {
            ix,
            id,
            spec,
            addr: addr_of(ix),
            powered: true,
            disk: Disk::default(),
            engine,
            uptime_ms: 0,
            clock_off_ms: 0,
            slow: Span::ZERO,
            boots: Boot(0),
            process: None,
            left: false,
            spare: false,
            outsider: false,
            older: false,
            clone_of: None,
            torn: None,
        }
    }

    /// Both clocks of the host at this moment.
    pub fn now(&self, at: At) -> Now {
        let wall = (WALL_ORIGIN_MS + at.0 / 1_000).saturating_add_signed(self.clock_off_ms);
        Now { at: Instant(at.0 / 1_000 + self.uptime_ms), wall: Wall(wall) }
    }

    /// The moment of the run at which the host's monotonic clock shows `instant`.
    pub fn moment(&self, instant: Instant) -> At {
        At(instant.0.saturating_sub(self.uptime_ms).saturating_mul(1_000))
    }

    pub fn runs(&self, boot: Boot) -> bool {
        self.process.as_ref().is_some_and(|process| process.boot == boot)
    }

    /// Replicas on it that serve.
    pub fn ready(&self) -> usize {
        self.engine.containers().filter(|container| container.is_ready()).count()
    }

    /// Its process runs and is not frozen.
    pub fn is_awake(&self) -> bool {
        self.process.as_ref().is_some_and(|process| !process.frozen)
    }

    /// It is awake and belongs to the cluster.
    pub fn acts(&self) -> bool {
        self.is_awake() && !self.outsider
    }
}

/// How many inputs wait for a frozen or slow process; datagrams beyond that are dropped, as a full
/// socket buffer does.
pub const BACKLOG: usize = 4096;

#[derive(Debug)]
pub struct Process {
    pub boot: Boot,
    /// What peers are told in greetings.
    pub incarnation: Incarnation,
    pub core: Box<dyn Core>,
    pub frozen: bool,
    pub backlog: VecDeque<Input>,
    /// A turn of the loop is scheduled (slow hosts take one input at a time).
    pub turn_due: bool,
    pub outbox: VecDeque<Effect>,
    /// Writes under way, the first of them on the disk's head.
    pub writing: VecDeque<(PersistId, Vec<Record>)>,
    pub wants: BTreeMap<NodeId, SocketAddr>,
    pub refused: BTreeSet<NodeId>,
    /// Messages for peers that are being dialled.
    pub unsent: BTreeMap<NodeId, Vec<Message>>,
    pub wake_at: Option<At>,
}

impl Process {
    pub fn new(boot: Boot, incarnation: Incarnation, core: Box<dyn Core>) -> Self {
        Self {
            boot,
            incarnation,
            core,
            frozen: false,
            backlog: VecDeque::new(),
            turn_due: false,
            outbox: VecDeque::new(),
            writing: VecDeque::new(),
            wants: BTreeMap::new(),
            refused: BTreeSet::new(),
            unsent: BTreeMap::new(),
            wake_at: None,
        }
    }
}
