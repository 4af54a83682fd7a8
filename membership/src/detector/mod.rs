//! Who is up: from many observers' probes to one verdict that all nodes share.
//!
//! Three steps, each in a file of its own. A node probes the members it observes (`probes`) and keeps the
//! last ten results for each (`edge`). The edges that are down it publishes ([`report`]). Every node
//! computes the same verdict from everybody's reports (`verdict`). In between a node doubts itself
//! before it accuses others (`suspicion`).
//!
//! The driver feeds what it hears and the time; [`Detector::tick`] says what to send. After anything fed
//! look at [`Detector::take_changed_report`], [`Detector::verdicts`] and [`Detector::refute_needed`].

mod edge;
mod judge;
mod probes;
pub mod report;
mod suspicion;
pub mod timing;
mod verdict;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand::{Rng, RngExt};

use edge::Observed;
use probes::Probes;
use suspicion::Suspicion;
use verdict::Received;

pub use report::{Edge, EdgeReport, EdgeState};
pub use timing::Timing;

use crate::id::{Incarnation, NodeId};
use crate::observers::Rings;
use crate::time::{Instant, Millis};

/// How many members' reports are kept, those of strangers (facts may arrive before their owner is
/// known) included. Above that strangers' reports are dropped.
const MAX_REPORTS: usize = 4096;
/// How many returns from down are remembered of one member.
const MAX_FLAPS: usize = 32;

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
    /// [`Verdict::Down`] after [`Timing::gone_grace`]. A member that is down does not become this: its
    /// host may have been restarted.
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
    rings: Rings,
    /// The observers of those that were ever accused, as the rings have them.
    observers: BTreeMap<NodeId, BTreeSet<NodeId>>,
    /// Whom this node observes by the rings.
    assigned: BTreeSet<NodeId>,
    /// Whom it probes besides, see [`verdict`].
    checks: BTreeSet<NodeId>,
    observed: BTreeMap<NodeId, Observed>,
    probes: Probes,
    round: u64,
    next_round: Option<Instant>,
    suspicion: Suspicion,
    reports: BTreeMap<NodeId, Received>,
    published: EdgeReport,
    is_report_new: bool,
    verdicts: BTreeMap<NodeId, Verdict>,
    /// They are others than when somebody last asked for changes.
    are_verdicts_new: bool,
    /// The verdicts are older than the reports.
    is_stale: bool,
    gone_since: BTreeMap<NodeId, Instant>,
    /// The others agree that this node is down.
    is_called_down: bool,
    refute: bool,
    flaps: BTreeMap<NodeId, VecDeque<Instant>>,
}

impl Detector {
    pub fn new(me: NodeId, timing: Timing) -> Self {
        Self {
            me,
            timing,
            members: BTreeMap::new(),
            rings: Rings::default(),
            observers: BTreeMap::new(),
            assigned: BTreeSet::new(),
            checks: BTreeSet::new(),
            observed: BTreeMap::new(),
            probes: Probes::default(),
            round: 0,
            next_round: None,
            suspicion: Suspicion::default(),
            reports: BTreeMap::new(),
            published: EdgeReport::default(),
            is_report_new: true,
            verdicts: BTreeMap::new(),
            are_verdicts_new: false,
            is_stale: true,
            gone_since: BTreeMap::new(),
            is_called_down: false,
            refute: false,
            flaps: BTreeMap::new(),
        }
    }

    /// All members that have not left, `me` and those that are down included (they are probed for
    /// ever, so that halves of a cluster find each other again). A raised incarnation wipes what was
    /// known against the member. Cheap when nothing changed.
    pub fn set_members(&mut self, members: &BTreeMap<NodeId, Incarnation>) {
        if self.members == *members {
            return;
        }
        let mut moved = false;
        for id in self.members.keys().filter(|id| !members.contains_key(id)) {
            self.rings.remove(*id);
            self.reports.remove(id);
            self.flaps.remove(id);
            moved = true;
        }
        for id in members.keys().filter(|id| !self.members.contains_key(id)) {
            self.rings.insert(*id);
            moved = true;
        }
        if self.members.get(&self.me) != members.get(&self.me) {
            (self.is_called_down, self.refute) = (false, false);
        }
        self.members.clone_from(members);
        if moved {
            self.assigned = self.rings.observed_by(self.me);
            self.observers.clear();
        }
        self.observed.retain(|id, _| members.contains_key(id));
        for (id, edge) in &mut self.observed {
            if let Some(incarnation) = members.get(id).filter(|now| **now != edge.incarnation) {
                edge.renew(*incarnation);
            }
        }
        self.published.edges.retain(|id, edge| {
            let keep = members.get(id) == Some(&edge.incarnation);
            self.is_report_new |= !keep;
            keep
        });
        self.choose_observed();
        self.adopt_own_report();
    }

    /// Whom this node probes at present.
    pub fn observed(&self) -> impl Iterator<Item = NodeId> + use<'_> {
        self.observed.keys().copied()
    }

    /// What is due at `now`. Call it at [`Self::next_wake`], and before anything else that is fed once that
    /// moment has passed: it notices by itself when it is called late.
    pub fn tick(&mut self, now: Instant, rng: &mut impl Rng) -> Vec<ProbeAction> {
        let late = self.overdue(now);
        if late >= self.timing.loop_late {
            self.on_late(late, now);
        }
        let mut actions = Vec::new();
        for target in self.probes.expire(now, &self.timing) {
            if let Some(edge) = self.observed.get_mut(&target) {
                edge.record(true, &self.timing);
                edge.host_asked();
                actions.push(ProbeAction::AskHost { target });
            }
        }
        let helpers = || {
            let up = |id: &NodeId| {
                *id != self.me
                    && matches!(self.verdicts.get(id), Some(Verdict::Up | Verdict::Unstable { .. }))
            };
            self.members.keys().copied().filter(up).collect()
        };
        actions.extend(self.probes.seek_help(now, &self.timing, helpers, rng));
        self.open_round(now, rng, &mut actions);
        self.reconsider(now);
        actions
    }

    /// Probes everyone observed once in each interval. All at one moment: that wakes an idle host four
    /// times a second instead of eighty; the nodes' own moments differ by chance.
    fn open_round(&mut self, now: Instant, rng: &mut impl Rng, actions: &mut Vec<ProbeAction>) {
        if self.observed.is_empty() {
            self.next_round = None;
            return;
        }
        let interval = self.timing.probe_interval;
        let due = *self
            .next_round
            .get_or_insert_with(|| now + Millis(rng.random_range(0..interval.0.max(1))));
        if now < due {
            return;
        }
        self.round += 1;
        let next = due + interval;
        self.next_round = Some(if next > now { next } else { now + interval });
        let every = self.timing.down_probe_every.max(1);
        for (target, edge) in &self.observed {
            // Spread over the rounds by id, so that many silent members do not share one.
            let turn = (target.0 as u64).wrapping_add(self.round).is_multiple_of(every);
            if turn || !edge.is_silent() {
                actions.push(self.probes.send(*target, now));
            }
        }
    }

    /// When [`Self::tick`] has something to do next.
    pub fn next_wake(&self) -> Instant {
        match self.due() {
            Some(due) => due,
            None if self.observed.is_empty() => Instant(u64::MAX),
            // The first round is not planned yet.
            None => Instant(0),
        }
    }

    fn due(&self) -> Option<Instant> {
        [self.next_round, self.probes.due(&self.timing)].into_iter().flatten().min()
    }

    fn overdue(&self, now: Instant) -> Millis {
        self.due().map_or(Millis::ZERO, |due| now.since(due))
    }

    /// `Message::Ack` from a member; the action, if any, passes it on to whoever asked for it.
    pub fn on_ack(&mut self, from: NodeId, seq: u64, now: Instant) -> Option<ProbeAction> {
        if self.probes.answered(from, seq) {
            self.succeeded(from, now);
            return None;
        }
        self.probes.relayed(from, seq)
    }

    /// `Message::PingFor` from a member: what to send to find out for it. `None` for strangers and when too
    /// much is under way.
    pub fn on_ping_for(
        &mut self,
        asker: NodeId,
        seq: u64,
        target: NodeId,
        now: Instant,
    ) -> Option<ProbeAction> {
        let known = self.members.contains_key(&asker) && self.members.contains_key(&target);
        if !known || target == self.me {
            return None;
        }
        self.probes.relay(asker, seq, target, now)
    }

    /// `Message::IndirectAck` from a helper.
    pub fn on_indirect_ack(&mut self, target: NodeId, seq: u64, now: Instant) {
        if self.probes.answered(target, seq) {
            self.succeeded(target, now);
        }
    }

    fn succeeded(&mut self, target: NodeId, now: Instant) {
        if let Some(edge) = self.observed.get_mut(&target) {
            let before = (edge.is_down(), edge.is_failing());
            edge.record(false, &self.timing);
            // Nearly every answer is one of many.
            if before != (edge.is_down(), edge.is_failing()) {
                self.reconsider(now);
            }
        }
    }

    /// The outcome of [`ProbeAction::AskHost`]: `refused` when the host said that nobody listens on
    /// the port (ICMP port unreachable). Silence need not be reported.
    pub fn on_host_answer(&mut self, target: NodeId, refused: bool, now: Instant) {
        // One silence says nothing: the answer may be lost. Silence is what follows from many questions
        // without a refusal.
        if let Some(edge) = self.observed.get_mut(&target).filter(|_| refused) {
            edge.host_refused();
            self.reconsider(now);
        }
    }

    /// The driver's loop was `late` (frozen, starved). From [`Timing::loop_late`] on the probes in flight
    /// are void, from [`Timing::freeze`] on the node holds back. [`Self::tick`] calls this by itself.
    pub fn on_late(&mut self, late: Millis, now: Instant) {
        if late >= self.timing.loop_late {
            let observed = &mut self.observed;
            self.probes.void(|target| observed.get_mut(&target).is_none_or(Observed::excuse));
        }
        if late >= self.timing.freeze {
            self.suspicion.froze(late, now, &self.timing);
        }
    }

    /// What this node publishes under `FactKey::Edges`.
    pub fn report(&self) -> &EdgeReport {
        &self.published
    }

    /// The report, if it has changed since this was last called; `Some` on the first call of a process,
    /// so that the report of an earlier incarnation is replaced.
    pub fn take_changed_report(&mut self) -> Option<EdgeReport> {
        std::mem::take(&mut self.is_report_new).then(|| self.published.clone())
    }

    /// The report of another member. One of an older incarnation than is known is ignored.
    pub fn on_report(&mut self, owner: NodeId, incarnation: Incarnation, report: EdgeReport) {
        let known = self.members.get(&owner);
        let older = known.is_some_and(|now| incarnation < *now)
            || self.reports.get(&owner).is_some_and(|held| incarnation < held.incarnation);
        let full = known.is_none()
            && self.reports.len() >= MAX_REPORTS
            && !self.reports.contains_key(&owner);
        if owner == self.me || older || full {
            return;
        }
        let news = self.reports.get(&owner).is_none_or(|held| held.report != report);
        self.is_stale |= news;
        self.reports.insert(owner, Received { incarnation, report });
    }

    /// The owner withdrew its report or is gone for good.
    pub fn forget(&mut self, owner: NodeId) {
        if owner != self.me && self.reports.remove(&owner).is_some() {
            self.is_stale = true;
        }
    }

    /// The verdict on every member; `me` is always up. Computed anew only when something changed.
    pub fn verdicts(&mut self, now: Instant) -> &BTreeMap<NodeId, Verdict> {
        self.judge(now);
        &self.verdicts
    }

    /// Whether the verdicts are others than when this was last called.
    pub fn take_changed_verdicts(&mut self, now: Instant) -> bool {
        self.judge(now);
        std::mem::take(&mut self.are_verdicts_new)
    }

    /// This node doubts itself: it must not take anything over now. Lasts at most
    /// [`Timing::self_suspect_hold`] for one cause.
    pub fn holds_back(&self, now: Instant) -> bool {
        // Thawed, and not even ticked yet.
        self.overdue(now) >= self.timing.freeze || self.suspicion.holds_back(now, &self.timing)
    }

    /// The others agree that this node is down, as of the last call of [`Self::verdicts`]: raise the
    /// incarnation, tell them, and pass it to [`Self::set_members`]; true until then. Not while most probes
    /// fail, and at growing intervals when it happens again and again.
    pub fn refute_needed(&self) -> bool {
        self.refute
    }

    /// How often `member` came back from down within [`Timing::flap_memory`], at most 32. Of this node
    /// itself: how often it refuted.
    pub fn flaps(&self, member: NodeId, now: Instant) -> usize {
        let recent = |at: &&Instant| now.since(**at) < self.timing.flap_memory;
        self.flaps.get(&member).map_or(0, |flaps| flaps.iter().filter(recent).count())
    }
}
