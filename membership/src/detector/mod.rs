//! Who is up: from many observers' probes to one verdict that all nodes share.
//!
//! Three steps, each in a file of its own. A node probes the members it observes (`probes`) and keeps the
//! last ten results for each (`edge`). The edges that are down it publishes ([`report`]). Every node
//! computes the same verdict from everybody's reports (`verdict`). In between a node doubts itself
//! before it accuses others (`suspicion`).
//!
//! Two halves: the [`Detector`] is what one node sees and doubts itself, the [`Jury`] what everybody has
//! reported and what follows from it. The driver feeds what it hears and the time; [`Detector::tick`] says
//! what to send. After anything fed look at [`Detector::take_changed_report`], [`Jury::verdicts`] and
//! [`Detector::refute_needed`].

mod edge;
mod judge;
mod jury;
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

pub use jury::Jury;
pub use report::{Edge, EdgeReport, EdgeState};
pub use timing::Timing;

use crate::id::{Incarnation, NodeId};
use crate::time::{Instant, Millis};

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

fn remember_flap(flaps: &mut VecDeque<Instant>, now: Instant) {
    flaps.push_back(now);
    if flaps.len() > MAX_FLAPS {
        flaps.pop_front();
    }
}

fn recent_flaps(flaps: &VecDeque<Instant>, timing: &Timing, now: Instant) -> usize {
    flaps.iter().filter(|at| now.since(**at) < timing.flap_memory).count()
}

/// What one node sees of the others itself.
#[derive(Clone, Debug)]
pub struct Detector {
    me: NodeId,
    timing: Timing,
    incarnation: Incarnation,
    /// The membership and the session of the jury that this node has followed.
    followed: (u64, u64),
    /// Whom this node observes by the rings.
    assigned: BTreeSet<NodeId>,
    /// Whom it probes besides, see [`verdict`].
    checks: BTreeSet<NodeId>,
    observed: BTreeMap<NodeId, Observed>,
    probes: Probes,
    round: u64,
    next_round: Option<Instant>,
    suspicion: Suspicion,
    published: EdgeReport,
    is_report_new: bool,
    /// The others agree that this node is down.
    is_called_down: bool,
    refute: bool,
    refuted: VecDeque<Instant>,
}

impl Detector {
    pub fn new(me: NodeId, timing: Timing) -> Self {
        Self {
            me,
            timing,
            incarnation: Incarnation::default(),
            followed: (0, 0),
            assigned: BTreeSet::new(),
            checks: BTreeSet::new(),
            observed: BTreeMap::new(),
            probes: Probes::default(),
            round: 0,
            next_round: None,
            suspicion: Suspicion::default(),
            published: EdgeReport::default(),
            is_report_new: true,
            is_called_down: false,
            refute: false,
            refuted: VecDeque::new(),
        }
    }

    /// Follows the membership that the jury was told last: whom to observe, and what is held against whom.
    /// Cheap when nothing changed.
    pub fn follow(&mut self, jury: &mut Jury) {
        if self.followed.0 == jury.membership {
            return;
        }
        self.followed.0 = jury.membership;
        let incarnation = jury.members.get(&self.me).copied().unwrap_or_default();
        if incarnation != self.incarnation {
            self.incarnation = incarnation;
            (self.is_called_down, self.refute) = (false, false);
        }
        self.assigned = jury.rings.observed_by(self.me);
        let members = &jury.members;
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
        self.choose_observed(jury);
        jury.adopt(self.me, &self.published);
    }

    /// Whom this node probes at present.
    pub fn observed(&self) -> impl Iterator<Item = NodeId> + use<'_> {
        self.observed.keys().copied()
    }

    /// What is due at `now`. Call it at [`Self::next_wake`], and before anything else that is fed once that
    /// moment has passed: it notices by itself when it is called late.
    pub fn tick(&mut self, jury: &mut Jury, now: Instant, rng: &mut impl Rng) -> Vec<ProbeAction> {
        self.follow(jury);
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
        let helpers = || jury.up.iter().copied().filter(|id| *id != self.me).collect();
        actions.extend(self.probes.seek_help(now, &self.timing, helpers, rng));
        self.open_round(now, rng, &mut actions);
        self.reconsider(jury, now);
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

    /// One round of probes whose outcomes are known already: `fails` says of each that is due whether it
    /// fails, its indirect ways included. It does to edges, doubts and reports what sending, answers
    /// and [`Self::tick`] do, and sends nothing: for simulations of days, which could not send so
    /// many messages. Do not mix it with `tick`.
    pub fn round_of(
        &mut self,
        jury: &mut Jury,
        now: Instant,
        mut fails: impl FnMut(NodeId) -> bool,
    ) {
        self.follow(jury);
        self.round += 1;
        let every = self.timing.down_probe_every.max(1);
        let mut news = false;
        for (target, edge) in &mut self.observed {
            let turn = (target.0 as u64).wrapping_add(self.round).is_multiple_of(every);
            if !turn && edge.is_silent() {
                continue;
            }
            let (failed, before) = (fails(*target), (edge.is_down(), edge.is_failing()));
            edge.record(failed, &self.timing);
            news |= failed || before != (edge.is_down(), edge.is_failing());
        }
        if news {
            self.reconsider(jury, now);
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
    pub fn on_ack(
        &mut self,
        jury: &mut Jury,
        from: NodeId,
        seq: u64,
        now: Instant,
    ) -> Option<ProbeAction> {
        if self.probes.answered(from, seq) {
            self.succeeded(jury, from, now);
            return None;
        }
        self.probes.relayed(from, seq)
    }

    /// `Message::PingFor` from a member: what to send to find out for it. `None` for strangers and when too
    /// much is under way.
    pub fn on_ping_for(
        &mut self,
        jury: &Jury,
        asker: NodeId,
        seq: u64,
        target: NodeId,
        now: Instant,
    ) -> Option<ProbeAction> {
        let known = jury.members.contains_key(&asker) && jury.members.contains_key(&target);
        if !known || target == self.me {
            return None;
        }
        self.probes.relay(asker, seq, target, now)
    }

    /// `Message::IndirectAck` from a helper.
    pub fn on_indirect_ack(&mut self, jury: &mut Jury, target: NodeId, seq: u64, now: Instant) {
        if self.probes.answered(target, seq) {
            self.succeeded(jury, target, now);
        }
    }

    fn succeeded(&mut self, jury: &mut Jury, target: NodeId, now: Instant) {
        if let Some(edge) = self.observed.get_mut(&target) {
            let before = (edge.is_down(), edge.is_failing());
            edge.record(false, &self.timing);
            // Nearly every answer is one of many.
            if before != (edge.is_down(), edge.is_failing()) {
                self.reconsider(jury, now);
            }
        }
    }

    /// The outcome of [`ProbeAction::AskHost`]: `refused` when the host said that nobody listens on
    /// the port (ICMP port unreachable). Silence need not be reported.
    pub fn on_host_answer(&mut self, jury: &mut Jury, target: NodeId, refused: bool, now: Instant) {
        // One silence says nothing: the answer may be lost. Silence is what follows from many questions
        // without a refusal.
        if let Some(edge) = self.observed.get_mut(&target).filter(|_| refused) {
            edge.host_refused();
            self.reconsider(jury, now);
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

    /// This node doubts itself: it must not take anything over now. Lasts at most
    /// [`Timing::self_suspect_hold`] for one cause.
    pub fn holds_back(&self, now: Instant) -> bool {
        // Thawed, and not even ticked yet.
        self.overdue(now) >= self.timing.freeze || self.suspicion.holds_back(now, &self.timing)
    }

    /// The others agree that this node is down, as of the last tick: raise the incarnation, tell them, and
    /// pass it to [`Jury::set_members`]; true until then. Not while most probes
    /// fail, and at growing intervals when it happens again and again.
    pub fn refute_needed(&self) -> bool {
        self.refute
    }
}
