//! Who is up: from many observers' probes to one verdict that all nodes share.
//!
//! Three steps, each in a file of its own. A node probes the members it observes and keeps the last ten
//! results for each: an *edge* ([`edge`]). Edges that are down are published ([`report`]) by their
//! observer. Every node computes the same *verdict* from everybody's reports ([`verdict`]).
//! In between a node doubts itself before it accuses others ([`suspicion`], after Lifeguard).
//!
//! The driver feeds what it hears and the time; [`Detector::tick`] says what to send.

pub mod report;
pub mod timing;

use std::collections::BTreeMap;

use rand::Rng;

pub use report::{Edge, EdgeReport, EdgeState};
pub use timing::Timing;

use crate::id::{Incarnation, NodeId};
use crate::time::{Instant, Millis};

/// Something to send. Each is to be sent once; what gets lost is made up for by the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeAction {
    /// `Message::Ping { seq }` to `to`.
    Ping { to: NodeId, seq: u64 },
    /// `Message::PingFor { seq, target }` to `helper`.
    PingFor { helper: NodeId, seq: u64, target: NodeId },
    /// `Message::IndirectAck { seq, target }` to `to`, who asked for it.
    IndirectAck { to: NodeId, seq: u64, target: NodeId },
    /// A UDP datagram to the port of `target`, outside QUIC; what comes back goes to
    /// [`Detector::on_host_answer`].
    AskHost { target: NodeId },
}

/// What the cluster's reports say about one member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Up,
    /// So many of its counted edges are down that nothing new should be put there; it is not gone.
    Unstable {
        down_edges: usize,
        of: usize,
    },
    /// Its host answers, its shoal process does not exist: its containers still serve. Becomes
    /// [`Verdict::Down`] after [`Timing::gone_grace`].
    ProcessGone {
        since: Instant,
    },
    Down,
}

/// The failure detector of one node.
#[derive(Clone, Debug)]
pub struct Detector {
    me: NodeId,
    timing: Timing,
    members: BTreeMap<NodeId, Incarnation>,
    verdicts: BTreeMap<NodeId, Verdict>,
    published: EdgeReport,
}

impl Detector {
    pub fn new(me: NodeId, timing: Timing) -> Self {
        Self {
            me,
            timing,
            members: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            published: EdgeReport::default(),
        }
    }

    /// All members that have not left, `me` and those that are down included (they are probed for
    /// ever, so that halves of a cluster find each other again). A raised incarnation wipes what was
    /// known against the member.
    pub fn set_members(&mut self, members: &BTreeMap<NodeId, Incarnation>) {
        self.members.clone_from(members);
        self.verdicts = members.keys().map(|id| (*id, Verdict::Up)).collect();
    }

    /// What is due at `now`. Call it at [`Self::next_wake`] and whenever convenient. Notices by itself when
    /// it is called late.
    pub fn tick(&mut self, now: Instant, rng: &mut impl Rng) -> Vec<ProbeAction> {
        let _ = (now, rng.next_u64(), &self.timing);
        Vec::new()
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_wake(&self) -> Instant {
        Instant(u64::MAX)
    }

    /// `Message::Ack` from a member; the action, if any, passes it on to whoever asked for it.
    pub fn on_ack(&mut self, from: NodeId, seq: u64, now: Instant) -> Option<ProbeAction> {
        let _ = (from, seq, now);
        None
    }

    /// `Message::PingFor` from a member: what to send to find out for it.
    pub fn on_ping_for(
        &mut self,
        asker: NodeId,
        seq: u64,
        target: NodeId,
        now: Instant,
    ) -> Option<ProbeAction> {
        let _ = (asker, seq, target, now);
        None
    }

    /// `Message::IndirectAck` from a helper.
    pub fn on_indirect_ack(&mut self, target: NodeId, seq: u64, now: Instant) {
        let _ = (target, seq, now);
    }

    /// The outcome of [`ProbeAction::AskHost`]: `refused` when the host said that nobody listens on
    /// the port (ICMP port unreachable). Silence need not be reported.
    pub fn on_host_answer(&mut self, target: NodeId, refused: bool, now: Instant) {
        let _ = (target, refused, now);
    }

    /// The driver's loop was `late` (frozen, starved): probes in flight are void.
    pub fn on_late(&mut self, late: Millis, now: Instant) {
        let _ = (late, now);
    }

    /// What this node publishes under `FactKey::Edges`.
    pub fn report(&self) -> &EdgeReport {
        &self.published
    }

    /// The report, if it has changed since this was last called; `Some` on the first call of a process,
    /// so that the report of an earlier incarnation is replaced.
    pub fn take_changed_report(&mut self) -> Option<EdgeReport> {
        None
    }

    /// The report of another member. One of an older incarnation than is known is ignored.
    pub fn on_report(&mut self, owner: NodeId, incarnation: Incarnation, report: EdgeReport) {
        let _ = (owner, incarnation, report);
    }

    /// The owner withdrew its report or is gone for good.
    pub fn forget(&mut self, owner: NodeId) {
        let _ = owner;
    }

    /// The verdict on every member; `me` is always up. Computed anew only when something changed.
    pub fn verdicts(&mut self, now: Instant) -> &BTreeMap<NodeId, Verdict> {
        let _ = now;
        &self.verdicts
    }

    /// This node doubts itself: it must not take anything over now. Lasts at most
    /// [`Timing::self_suspect_hold`] for one cause.
    pub fn holds_back(&self, now: Instant) -> bool {
        let _ = (now, self.me);
        false
    }

    /// The others agree that this node is down: raise the incarnation and tell them.
    pub fn refute_needed(&mut self) -> bool {
        false
    }

    /// How often `member` came back from down within [`Timing::flap_memory`].
    pub fn flaps(&self, member: NodeId, now: Instant) -> usize {
        let _ = (member, now);
        0
    }
}
