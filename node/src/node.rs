//! The core of one node: its state, and the one way in.
//!
//! [`Node::handle`] takes one input, changes the state, and then, if anything is dirty, makes one
//! pass: plan each dirty service from scratch, start what is queued, publish what changed. The parts
//! are in files of their own; each is an `impl Node` over the state that is declared here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use membership::clock::Clock;
use membership::detector::{Detector, ProbeAction};
use membership::id::{CellId, ClusterId, Incarnation, NodeId, ServiceId};
use membership::member::{EngineState, Health, MemberState, Profile};
use membership::message::Message;
use membership::record::Record;
use membership::time::{Instant, Millis, Now, Wall};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::agenda::Agenda;
use crate::clocks::Clocks;
use crate::double::Double;
use crate::facts::{Published, Sign};
use crate::io::{Effect, Input, Notice};
use crate::jobs::Doubt;
use crate::local::Local;
use crate::network::Networking;
use crate::rollout;
use crate::runtime::{ActionResult, RuntimeEvent};
use crate::settings::Settings;
use crate::settle::Settling;
use crate::start::Starter;
use crate::takeover::{BRAKE_WINDOW, Takeovers, braked};
use crate::view::View;
use crate::writes::Writes;

/// What a node is made from. Everything that another process of the same node would find again is on
/// disk: the key behind `me`, the records, and an incarnation that was never used before.
#[derive(Debug)]
pub struct Start {
    pub me: NodeId,
    pub cluster: ClusterId,
    pub cell: CellId,
    pub incarnation: Incarnation,
    pub profile: Profile,
    pub settings: Settings,
    pub records: Vec<Record>,
    /// Seeds the node's own randomness (ids of tasks and services, choice of peers).
    pub seed: u64,
    pub now: Now,
}

/// One node.
#[derive(Debug)]
pub struct Node {
    pub(crate) me: NodeId,
    pub(crate) cluster_id: ClusterId,
    pub(crate) cell: CellId,
    pub(crate) settings: Settings,
    pub(crate) started: Now,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) clock: Clock,
    /// What the members' wall clocks show.
    pub(crate) clocks: Clocks,
    /// What it believes.
    pub(crate) view: Box<View>,
    pub(crate) detector: Detector,
    /// What it says about itself.
    pub(crate) facts: Published,
    pub(crate) local: Local,
    pub(crate) writes: Writes,
    pub(crate) settling: Settling,
    pub(crate) takeovers: Takeovers,
    pub(crate) stewarding: BTreeMap<ServiceId, rollout::Memory>,
    /// Members that came back from down, and until when what they said before that is only old news.
    pub(crate) returned: BTreeMap<NodeId, Instant>,
    /// When each other member was alive last, as far as this process has seen.
    pub(crate) reached: BTreeMap<NodeId, Wall>,
    /// Since when others may have recorded what has not come here.
    pub(crate) doubt: Doubt,
    /// A new incarnation was asked for and has not come yet.
    pub(crate) raising: bool,
    pub(crate) double: Double,
    /// Why takeovers are held back, as operators were told.
    pub(crate) held_back: Option<String>,
    pub(crate) connected: BTreeSet<NodeId>,
    pub(crate) profile: Profile,
    pub(crate) engine: EngineState,
    pub(crate) leaving: Option<crate::leave::Leave>,
    pub(crate) dirty: BTreeSet<ServiceId>,
    /// The view in which this node last found nothing to even out.
    pub(crate) even_at: Option<u64>,
    pub(crate) timers: Timers,
    pub(crate) parts: BTreeMap<(ServiceId, u16), Vec<u8>>,
    /// As `parts`, of what it says of its tasks' addresses.
    pub(crate) endpoint_parts: BTreeMap<(ServiceId, u16), Vec<u8>>,
    pub(crate) networking: Networking,
    pub(crate) out: Vec<Effect>,
}

/// When the regular things are due.
#[derive(Debug)]
pub(crate) struct Timers {
    pub(crate) last_handled: Instant,
    /// When a tick was last asked for.
    pub(crate) tick_wanted: Instant,
    pub(crate) last_pass: Instant,
    pub(crate) sync: Instant,
    pub(crate) resync: Instant,
    pub(crate) rebalance: Instant,
    pub(crate) housekeeping: Instant,
    /// What the reconciler wants to look at again, and when.
    pub(crate) look_again: Agenda,
}

/// How often facts, clocks and memories are tidied.
const HOUSEKEEPING: Millis = Millis(10_000);

impl Node {
    /// A node and what it does first. The runtime is asked at once what it runs; until the answer has
    /// come and the peers have been asked, nothing is started or taken over.
    pub fn new(mut start: Start, signer: Box<dyn Sign>) -> (Self, Vec<Effect>) {
        let (whose, records) = (Some(start.me), std::mem::take(&mut start.records));
        let view = View::new(whose, start.cell, records, &start.settings, start.now);
        let mut node = Self::with(start, signer, Box::new(view));
        let effects = node.begin();
        (node, effects)
    }

    pub(crate) fn with(start: Start, signer: Box<dyn Sign>, view: Box<View>) -> Self {
        let now = start.now;
        let starter = Starter {
            cluster: start.cluster,
            node: start.me,
            hostname: start.profile.name.clone(),
            os: start.profile.os.clone(),
            arch: start.profile.arch.clone(),
        };
        Self {
            me: start.me,
            cluster_id: start.cluster,
            cell: start.cell,
            started: now,
            rng: ChaCha8Rng::seed_from_u64(start.seed),
            clock: Clock::starting_after(view.registers.last_stamp()),
            clocks: Clocks::new(now),
            view,
            detector: Detector::new(start.me, start.settings.timing),
            facts: Published::new(start.me, start.cell, start.incarnation, signer),
            local: Local::new(start.settings.clone(), starter),
            writes: Writes::default(),
            settling: Settling::at_start(now.at, start.settings.settle),
            takeovers: Takeovers::default(),
            stewarding: BTreeMap::new(),
            returned: BTreeMap::new(),
            reached: BTreeMap::new(),
            doubt: Doubt::at(now.at),
            raising: false,
            double: Double::default(),
            held_back: None,
            connected: BTreeSet::new(),
            profile: start.profile,
            engine: EngineState::Ok,
            leaving: None,
            dirty: BTreeSet::new(),
            even_at: None,
            timers: Timers {
                last_handled: now.at,
                tick_wanted: now.at,
                last_pass: now.at,
                sync: now.at,
                resync: now.at + start.settings.resync,
                rebalance: now.at + start.settings.rebalance_after,
                housekeeping: now.at + HOUSEKEEPING,
                look_again: Agenda::default(),
            },
            parts: BTreeMap::new(),
            endpoint_parts: BTreeMap::new(),
            networking: Networking::default(),
            settings: start.settings,
            out: Vec::new(),
        }
    }

    /// What it does first.
    pub(crate) fn begin(&mut self) -> Vec<Effect> {
        let now = self.started;
        if self.view.misses_an_execution() {
            self.doubt.behind = Some(now.at);
        }
        self.local.list(now.at);
        self.retention_changed();
        self.members_changed(now);
        self.view.refresh(now.at);
        self.hear_news();
        self.pass(now);
        std::mem::take(&mut self.out)
    }

    /// The one way in.
    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        self.handle_all(now, [input])
    }

    /// As [`Node::handle`], for a burst: all is taken in before anything is done about it.
    pub fn handle_all(&mut self, now: Now, inputs: impl IntoIterator<Item = Input>) -> Vec<Effect> {
        self.notice_lateness(now);
        self.notice_clock(now);
        for input in inputs {
            self.take_in(input, now);
        }
        self.work(now);
        // Readers between two inputs find everything in step.
        self.view.refresh(now.at);
        self.hear_news();
        self.local.note_due();
        self.timers.tick_wanted = self.next_wake();
        std::mem::take(&mut self.out)
    }

    fn take_in(&mut self, input: Input, now: Now) {
        match input {
            Input::Tick => {}
            Input::Message { from, message } => self.on_message(from, message, now),
            Input::Fact(fact) => self.on_fact(fact, None, now),
            Input::Connected { peer, addr } => self.on_connected(peer, addr, now),
            Input::Disconnected { peer } => {
                self.connected.remove(&peer);
            }
            Input::HostAnswer { target, refused } => {
                let jury = &mut self.view.jury;
                self.detector.on_host_answer(jury, target, refused, now.at);
            }
            Input::Runtime(event) => self.on_runtime(event, now),
            Input::Done { id, result } => {
                let listed = matches!(result, ActionResult::Listed(_));
                match &result {
                    ActionResult::Networks { found, failed } => {
                        self.networks_found(Ok((found.clone(), failed.clone())), now);
                    }
                    ActionResult::NetworksFailed { message } => {
                        self.networks_found(Err(message.clone()), now);
                    }
                    _ => {}
                }
                self.local.done(id, result, &self.view.services, now);
                if listed {
                    self.settling.listed = true;
                }
            }
            Input::Persisted { id, result } => self.on_persisted(id, result, now),
            Input::Command { id, command } => self.on_command(id, command),
            Input::Incarnation(incarnation) => self.on_incarnation(incarnation, now),
            Input::Republish => {
                let facts = self.facts.republish();
                self.spread_facts(facts);
            }
        }
    }

    /// When [`Node::handle`] wants an [`Input::Tick`] at the latest.
    pub fn next_wake(&self) -> Instant {
        let pass_due = self.timers.last_pass + self.settings.pass_interval;
        let dirty = (!self.dirty.is_empty() || !self.local.changed.is_empty()).then_some(pass_due);
        let regular = [
            self.detector.next_wake(),
            self.timers.sync,
            self.timers.resync,
            self.timers.housekeeping,
        ];
        regular
            .into_iter()
            .chain(dirty)
            .chain(self.local.next_wake())
            .chain(self.writes.next_wake())
            .chain(self.settling.next_wake())
            .chain(self.timers.look_again.next())
            .chain(self.view.forgetting.values().map(|(_, at)| *at))
            .chain(self.leaving.as_ref().map(|l| l.look_at))
            .chain(self.networking.wake)
            .chain(self.double.next_wake().filter(|_| !self.raising))
            .min()
            .unwrap_or(pass_due)
            .max(pass_due)
    }

    /// Everything that follows from time and from what the input changed.
    fn work(&mut self, now: Now) {
        if self.view.members_moved {
            self.members_changed(now);
        }
        if self.view.take_look_everywhere() {
            self.look_at_all();
        }
        self.probe(now);
        self.judge(now);
        self.outdo_double(now);
        self.advance_writes(now);
        self.regular(now);
        if self.settling.advance(self.me, &self.view.members, now.at) {
            self.on_settled(now);
        }
        self.dirty.extend(self.timers.look_again.take_due(now.at));
        self.notice_holding_back(now);
        self.local.expire_starts(&self.view.services, now);
        self.local.push_stops(now.at);
        let delays: Vec<ServiceId> = self.local.due_services(now.at);
        self.dirty.extend(delays);
        self.advance_leave(now);
        self.view.refresh(now.at);
        self.hear_news();
        self.advance_networks(now);
        let pass_due = self.timers.last_pass + self.settings.pass_interval;
        let something = !self.dirty.is_empty() || !self.local.changed.is_empty();
        if something && now.at >= pass_due {
            self.pass(now);
            // What was just claimed may need a network.
            self.advance_networks(now);
        }
        self.draw_network(now);
        self.flush_local();
    }

    /// Marks what the news concerns.
    fn hear_news(&mut self) {
        if self.view.is_shared() {
            // Whoever keeps it tells each node what concerns it.
            return;
        }
        for id in self.view.take_news() {
            if self.concerns(id) {
                self.dirty.insert(id);
            }
        }
    }

    /// Whether this node has anything to do with a service: it holds some of it, others need somebody, or
    /// what is remembered of it must go.
    fn concerns(&self, id: ServiceId) -> bool {
        self.view.is_restless(id) || self.local.holds(id) || self.view.services.get(id).is_none()
    }

    /// Something that any service may depend on changed: all that concern this node are looked at.
    pub(crate) fn look_at_all(&mut self) {
        if !self.view.is_shared() {
            self.dirty.extend(self.view.restless());
        }
        self.dirty.extend(self.local.held.keys().map(|place| place.service));
    }

    /// One planning pass.
    fn pass(&mut self, now: Now) {
        self.timers.last_pass = now.at;
        self.dirty.extend(self.local.changed.iter().copied());
        for id in std::mem::take(&mut self.dirty) {
            self.reconcile(id, now);
        }
        let mut handout = self.handout();
        let services = &self.view.services;
        let service = |id| services.get(id).cloned();
        self.local.start_queued(now, &self.view.assets, &mut handout, service);
        self.publish_changes();
        self.flush_local();
    }

    fn flush_local(&mut self) {
        for (id, action) in std::mem::take(&mut self.local.out) {
            self.out.push(Effect::Runtime { id, action });
        }
        for change in std::mem::take(&mut self.local.changes) {
            let id = change.place.service;
            let named = self.view.services.get(id).map(|s| s.name().to_owned());
            let service_name =
                named.or_else(|| self.local.names.get(&id).cloned()).unwrap_or_default();
            self.out.push(Effect::Notice(Notice::Task {
                service: change.place.service,
                service_name,
                slot: change.place.slot,
                task: change.task,
                state: change.state,
                text: change.text,
            }));
        }
    }

    /// A handler that comes late means that this process was frozen or starved: what it believes of
    /// the others is old, and so is what they believe of it.
    fn notice_lateness(&mut self, now: Now) {
        // Measured from the tick that was asked for: a node that has nobody to probe sleeps long.
        let gap = now.at.since(self.timers.last_handled);
        let late = now.at.since(self.timers.tick_wanted.max(self.timers.last_handled));
        self.timers.last_handled = now.at;
        if late < self.settings.timing.loop_late {
            return;
        }
        self.detector.on_late(late, now.at);
        if late >= self.settings.timing.freeze {
            let text = format!(
                "this node stood still for {gap}; it asks its peers before it takes anything over"
            );
            self.out.push(Effect::Notice(Notice::Warning { text }));
            self.settle_again(now);
        }
    }

    /// Tells when takeovers are held back, and why, and when they are not any more.
    fn notice_holding_back(&mut self, now: Now) {
        let held_back = if self.detector.holds_back(now.at) {
            let at_most = self.settings.timing.self_suspect_hold;
            Some(("it cannot reach most of the others and doubts itself".to_owned(), at_most))
        } else if self.settling.on() {
            let reason = "it asks its peers what they run before it takes anything over";
            Some((reason.to_owned(), self.settings.settle))
        } else if self.view.losses.any(now.at) {
            let members = self.view.members.quorum().1;
            let spread = self.view.losses.brake(members, now.at);
            spread.map(|spread| (braked(members, spread), BRAKE_WINDOW))
        } else {
            None
        };
        let reason = held_back.as_ref().map(|(reason, _)| reason);
        if reason == self.held_back.as_ref() {
            return;
        }
        let before = std::mem::replace(&mut self.held_back, reason.cloned());
        let on = held_back.is_some();
        let (reason, at_most) =
            held_back.unwrap_or_else(|| (before.unwrap_or_default(), Millis::ZERO));
        self.out.push(Effect::Notice(Notice::HoldingBack { on, reason, at_most }));
        self.look_at_all();
    }

    fn probe(&mut self, now: Now) {
        let actions = self.detector.tick(&mut self.view.jury, now.at, &mut self.rng);
        for action in actions {
            self.probe_action(action);
        }
        if let Some(report) = self.detector.take_changed_report() {
            self.publish_report(&report);
        }
        if self.detector.refute_needed() {
            self.raise_incarnation(self.facts.incarnation());
        }
    }

    /// Asks for a new incarnation above this one, once until it has come: each costs a write.
    pub(crate) fn raise_incarnation(&mut self, above: Incarnation) {
        if !std::mem::replace(&mut self.raising, true) {
            self.out.push(Effect::RaiseIncarnation { above });
        }
    }

    pub(crate) fn probe_action(&mut self, action: ProbeAction) {
        let (to, message) = match action {
            ProbeAction::Ping { to, seq } => (to, Message::Ping { seq }),
            ProbeAction::PingFor { helper, seq, target } => {
                (helper, Message::PingFor { seq, target })
            }
            ProbeAction::IndirectAck { to, seq, target } => {
                (to, Message::IndirectAck { seq, target })
            }
            ProbeAction::AskHost { target } => {
                self.out.push(Effect::AskHost { target });
                return;
            }
        };
        self.out.push(Effect::Send { to, message });
    }

    /// Turns member states that changed into work.
    fn judge(&mut self, now: Now) {
        let Some(turns) = self.view.judge(now) else { return };
        if !turns.is_empty() {
            self.doubt_records(now);
        }
        for turn in turns {
            if turn.from == MemberState::Down && turn.to.holds_claims() && turn.id != self.me {
                self.returned.insert(turn.id, now.at + self.settings.settle);
                self.send(turn.id, Message::Hello { want_facts: true });
            }
            self.out.push(Effect::Notice(Notice::Member {
                id: turn.id,
                name: turn.name,
                from: Some(turn.from),
                to: turn.to,
                reason: turn.reason,
            }));
        }
        // Room that opened or closed concerns what is pending, and global services everywhere.
        self.look_at_all();
        self.settle_unconfirmed(now);
    }

    /// Members, addresses or settings changed: everything that is derived from them is made anew.
    pub(crate) fn members_changed(&mut self, now: Now) {
        if self.view.is_shared() {
            return;
        }
        self.view.seat_jury();
        self.detector.follow(&mut self.view.jury);
        self.forget_clocks();
        let peers: BTreeMap<NodeId, SocketAddr> = self
            .view
            .members
            .iter()
            .filter(|(id, k)| *id != self.me && k.belongs())
            .filter_map(|(id, k)| Some((id, k.addr()?)))
            .collect();
        self.out.push(Effect::Peers(peers));
        let refused: Vec<NodeId> = self
            .view
            .members
            .iter()
            .filter(|(_, k)| {
                k.admission.as_ref().is_some_and(|a| a.state == crate::members::Admission::Removed)
            })
            .map(|(id, _)| id)
            .collect();
        self.out.push(Effect::Refuse(refused));
        self.judge(now);
    }

    fn on_runtime(&mut self, event: RuntimeEvent, now: Now) {
        match event {
            RuntimeEvent::Container(found) => {
                self.local.container(&found, &self.view.services, now)
            }
            RuntimeEvent::Removed { task, .. } => {
                self.local.removed(task, &self.view.services, now)
            }
            RuntimeEvent::EngineLost { reason } => {
                self.local.engine_ok = false;
                if self.engine == EngineState::Ok {
                    self.engine =
                        EngineState::Unavailable { since: now.wall, reason: reason.clone() };
                    let text = format!(
                        "the container engine does not answer: {reason}; nothing new is started here, and after {} its replicas are started elsewhere",
                        self.settings.engine_grace
                    );
                    self.out.push(Effect::Notice(Notice::Warning { text }));
                }
                self.publish_health(now);
            }
            RuntimeEvent::EngineBack { version } => {
                self.ask_networks_again(now.at);
                self.local.engine_back(now.at);
                self.engine = EngineState::Ok;
                self.profile.engine_version = version;
                self.publish_profile(now);
                self.publish_health(now);
                self.look_at_all();
            }
        }
    }

    fn regular(&mut self, now: Now) {
        self.view.forget_earlier(now.at);
        if now.at >= self.timers.sync {
            self.timers.sync = now.at + self.settings.sync_interval;
            self.start_sync(now);
            self.publish_health(now);
        }
        if now.at >= self.timers.resync {
            self.timers.resync = now.at + self.settings.resync;
            self.local.list(now.at);
            self.ask_networks_again(now.at);
            self.look_at_all();
        }
        if now.at >= self.timers.housekeeping {
            self.timers.housekeeping = now.at + HOUSEKEEPING;
            self.drop_old_completions(now);
            self.forget_tombstones(now);
            self.returned.retain(|_, until| now.at < *until);
            self.local.forget_gone(now.at);
            self.ensure_admitted(now);
        }
        let every = self.settings.rebalance_every;
        if every > Millis::ZERO && now.at >= self.timers.rebalance {
            self.timers.rebalance = now.at + every;
            self.rebalance(now);
        }
    }

    pub(crate) fn health(&self) -> Health {
        Health {
            engine: self.engine.clone(),
            leaving: self.leaving.is_some(),
            settling: self.settling.on(),
            reserved: self.reserved(),
            root: self.view.registers.root(),
        }
    }
}
