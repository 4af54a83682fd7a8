//! The state of a large cluster, its first moment, and its events one after the other: each is handed to a
//! real core (`carry` does what that wants done) or to a cohort.

use std::collections::{BTreeMap, BTreeSet};

use membership::fact::SignedFact;
use membership::id::{CellId, ClusterId, Incarnation, NodeId, ServiceId};
use membership::member::MemberState;
use membership::message::Message;
use membership::time::{Instant, Millis, Now, Wall};
use node::cohort::Cohort;
use node::io::{Effect, Input};
use node::runtime::{ActionId, RuntimeAction};
use node::slot::{Place, Slot};
use node::{Node, Settings, Start};

use super::boot::{EACH, Plot};
use super::carry::{name_in, published};
use super::checks::{Checks, Spot};
use super::cost::Cost;
use super::engine::{Call, Engine};
use super::news::Inbox;
use super::{FleetSpec, Traffic, WALL_START};
use crate::chance::{Chance, Stream};
use crate::queue::Queue;
use crate::time::{At, Span};
use crate::trace::Trace;

#[derive(Debug)]
pub(super) enum Event {
    Wake { host: usize, at: At },
    Answers { host: usize },
    Called { host: usize, action: ActionId, call: Call },
    Hear { cohort: usize },
}

#[derive(Debug)]
pub(super) struct Host {
    /// `None` once it is lost.
    pub(super) node: Option<Node>,
    pub(super) cohort: usize,
    pub(super) engine: Engine,
    pub(super) wake: Option<At>,
    /// Answers to probes that are on their way back.
    pub(super) answers: Vec<Input>,
}

pub(super) struct Believers {
    pub(super) cohort: Cohort,
    pub(super) inbox: Inbox,
    /// When it looks up next.
    pub(super) look: Option<At>,
    pub(super) down: usize,
}

pub(super) struct Fleet {
    pub(super) now: At,
    pub(super) queue: Queue<Event>,
    pub(super) hosts: Vec<Host>,
    pub(super) cohorts: Vec<Believers>,
    pub(super) plot: Plot,
    pub(super) numbers: BTreeMap<NodeId, usize>,
    pub(super) services: BTreeMap<ServiceId, usize>,
    pub(super) links: Chance,
    pub(super) engines: Chance,
    pub(super) gossip: Chance,
    pub(super) trace: Trace,
    pub(super) checks: Checks,
    pub(super) sent: Traffic,
    pub(super) cost: Cost,
    /// When cohorts held how many more for down.
    pub(super) verdicts: Vec<(At, usize)>,
    pub(super) doubted: BTreeSet<usize>,
    pub(super) alive: u64,
}

#[derive(Debug)]
struct NoSignature;

impl node::Sign for NoSignature {
    fn sign(&self, _: &mut SignedFact) {}
}

impl Fleet {
    pub(super) fn new(spec: &FleetSpec) -> Self {
        let mut chance = Chance::new(spec.seed, Stream::Hosts);
        let plot = Plot::new(spec, &mut chance);
        // What comes back, comes back elsewhere: nothing is evened out.
        let settings = Settings { rebalance_every: Millis::ZERO, ..crate::cores::settings() };
        let capacities: Vec<_> = plot.sites.iter().map(|site| site.capacity).collect();
        let mut fleet = Self {
            now: At::ZERO,
            queue: Queue::default(),
            hosts: Vec::new(),
            cohorts: Vec::new(),
            numbers: plot.sites.iter().enumerate().map(|(n, site)| (site.id, n)).collect(),
            services: plot.services.iter().enumerate().map(|(n, s)| (s.id, n)).collect(),
            links: Chance::new(spec.seed, Stream::Links),
            engines: Chance::new(spec.seed, Stream::Engines),
            gossip: Chance::new(spec.seed, Stream::Gossip),
            trace: Trace::new(false),
            checks: Checks::new(plot.services.len(), plot.slots, &capacities, EACH),
            sent: Traffic::default(),
            cost: Cost::new(spec.hosts),
            verdicts: Vec::new(),
            doubted: BTreeSet::new(),
            alive: spec.hosts as u64,
            plot,
        };
        fleet.boot(spec, &settings, &mut chance);
        fleet
    }

    pub(super) fn moment(&self) -> Now {
        // Past zero, as on any host that has been up for a while.
        let ms = self.now.0 / 1000;
        Now { at: Instant(1_000_000 + ms), wall: Wall(WALL_START.0 + ms) }
    }

    /// Everybody starts, finds its containers, and hears of everybody.
    fn boot(&mut self, spec: &FleetSpec, settings: &Settings, chance: &mut Chance) {
        let records = self.plot.records();
        let now = self.moment();
        for _ in 0..spec.cohorts.max(1) {
            let cohort = Cohort::new(CellId(0), records.clone(), settings.clone(), now);
            let inbox = Inbox::default();
            self.cohorts.push(Believers { cohort, inbox, look: None, down: 0 });
        }
        let mut engines: Vec<Engine> = Vec::new();
        engines.resize_with(spec.hosts, Engine::default);
        for (host, task, container) in self.plot.placed(chance) {
            engines[host].has(task, container);
            let spot = self.spot(container.place);
            self.checks.runs(host, spot);
        }
        let mut seeds = Chance::new(spec.seed, Stream::Cores);
        let mut told = Vec::new();
        for (n, engine) in engines.into_iter().enumerate() {
            let site = &self.plot.sites[n];
            let start = Start {
                me: site.id,
                cluster: ClusterId(0xf1ee7),
                cell: CellId(0),
                incarnation: Incarnation(1),
                profile: site.profile(),
                settings: settings.clone(),
                records: Vec::new(),
                seed: seeds.word(),
                now,
            };
            let cohort = n % self.cohorts.len();
            let believers = &mut self.cohorts[cohort].cohort;
            let (mut node, mut effects) = Node::joining(start, Box::new(NoSignature), believers);
            // A peer has told it everything; it adopts what it finds running.
            let welcome = Message::Welcome { facts: 0 };
            let peer = self.plot.sites[(n + 1) % spec.hosts].id;
            let mut inputs = vec![Input::Message { from: peer, message: welcome }];
            for effect in &effects {
                if let Effect::Runtime { id, action: RuntimeAction::List } = effect {
                    let result = engine.listed(|place| name_in(&self.services, &self.plot, place));
                    inputs.push(Input::Done { id: *id, result });
                }
            }
            effects.extend(node.handle_in(believers, now, inputs));
            told.extend(published(effects).0);
            let node = Some(node);
            self.hosts.push(Host { node, cohort, engine, wake: None, answers: Vec::new() });
        }
        self.now += Span::ms(10);
        let now = self.moment();
        for n in 0..self.hosts.len() {
            let host = &mut self.hosts[n];
            let Some(node) = &mut host.node else { continue };
            let believers = &mut self.cohorts[host.cohort].cohort;
            let (facts, rest) = published(node.handle_in(believers, now, [Input::Tick]));
            told.extend(facts);
            self.carry_out(n, rest);
        }
        for fact in &told {
            for believers in &mut self.cohorts {
                let _ = believers.cohort.hear(fact, now);
            }
        }
        drop(told);
        for n in 0..self.cohorts.len() {
            self.look(n);
        }
        for n in 0..self.hosts.len() {
            self.plan_wake(n);
        }
    }

    pub(super) fn spot(&self, place: Place) -> Spot {
        let slot = match place.slot {
            Slot::Index(index) => index.saturating_sub(1) as usize,
            Slot::Node(_) => 0,
        };
        Spot { service: self.services.get(&place.service).copied().unwrap_or_default(), slot }
    }

    /// Runs to a moment, or until something holds, looked at twice a second.
    pub(super) fn until(&mut self, end: At, holds: impl Fn(&Self) -> bool) {
        let mut look = self.now;
        while let Some(at) = self.queue.next_at().filter(|at| *at <= end) {
            if at >= look {
                if holds(self) {
                    return;
                }
                look = at + Span::ms(500);
            }
            if let Some((at, event)) = self.queue.pop() {
                self.now = at;
                self.happen(event);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Wake { host, at } if self.hosts[host].wake == Some(at) => {
                self.hosts[host].wake = None;
                self.handle(host, vec![Input::Tick]);
            }
            Event::Wake { .. } => {}
            Event::Answers { host } => {
                let answers = std::mem::take(&mut self.hosts[host].answers);
                self.handle(host, answers);
            }
            Event::Called { host, action, call } => self.called(host, action, call),
            Event::Hear { cohort } => {
                if self.cohorts[cohort].look == Some(self.now) {
                    self.cohorts[cohort].look = None;
                    self.look(cohort);
                }
            }
        }
    }

    /// A cohort takes in what has arrived, and its nodes look at what concerns them.
    fn look(&mut self, cohort: usize) {
        let now = self.moment();
        let believers = &mut self.cohorts[cohort];
        for fact in believers.inbox.take(self.now) {
            // What a node published it can read.
            let _ = believers.cohort.hear(&fact, now);
        }
        let calls = believers.cohort.update(now);
        let down = believers.cohort.members_that_are(MemberState::Down);
        if down > believers.down {
            self.verdicts.push((self.now, down - believers.down));
            self.trace.note(self.now, true, format_args!("cohort {cohort}: {down} down"));
        }
        believers.down = down;
        let next_call = believers.cohort.next_call();
        for (node, services) in calls {
            let Some(n) = self.numbers.get(&node).copied() else { continue };
            let host = &mut self.hosts[n];
            if let Some(node) = host.node.as_mut().filter(|_| host.cohort == cohort) {
                node.call(services);
                self.plan_wake(n);
            }
        }
        let next_call =
            next_call.map(|at| At((at.0 - 1_000_000) * 1000).max(self.now + Span::ms(5)));
        let next = self.cohorts[cohort].inbox.next_at().into_iter().chain(next_call).min();
        if let Some(at) = next {
            self.plan_look(cohort, at);
        }
    }

    pub(super) fn plan_look(&mut self, cohort: usize, at: At) {
        let look = &mut self.cohorts[cohort].look;
        if look.is_none_or(|look| at < look) {
            *look = Some(at);
            self.queue.push(at, Event::Hear { cohort });
        }
    }

    pub(super) fn plan_wake(&mut self, n: usize) {
        let host = &self.hosts[n];
        let Some(wanted) = host.node.as_ref().map(Node::next_wake) else { return };
        self.plan_wake_at(n, wanted);
    }

    /// It wants to be woken at this moment of its clock, at the latest.
    pub(super) fn plan_wake_at(&mut self, n: usize, wanted: Instant) {
        let host = &mut self.hosts[n];
        let wanted = At(wanted.0.saturating_sub(1_000_000).saturating_mul(1000));
        let at = wanted.max(self.now + Span::ms(1));
        if host.wake.is_none_or(|wake| at < wake) {
            host.wake = Some(at);
            self.queue.push(at, Event::Wake { host: n, at });
        }
    }
}
