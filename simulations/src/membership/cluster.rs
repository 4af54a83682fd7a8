//! The nodes of a membership run and the loop that drives them: real cores, each beside a real chitchat,
//! over the simulated network. A node has no containers and its disk always works, so all that it does
//! is membership.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gossip::facts::{FactGossip, FactGossipConfig};
use gossip::signature::SIGNATURE_BYTES;
use gossip::{FromGossip, Pace, Signer};
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation, NodeId};
use membership::member::{MemberState, Profile, Resources};
use membership::time::{Instant, Now, Wall};
use membership::wire;
use node::io::{Effect, Input, Notice};
use node::runtime::{ActionResult, RuntimeEvent};
use node::{Node, Settings, Start};
use tokio::sync::mpsc;

use super::net::{Carrier, Event, Ix, Shared};
use super::seen::{News, Verdicts};
use crate::chance::{Chance, Stream};
use crate::cores::CLUSTER;

/// All nodes start within this, ms, so that their rounds are not in step.
const START_WITHIN_MS: u64 = 1_000;
/// A connection is up after this, ms; its handshake is repeated by QUIC and so never lost.
const DIAL_MS: u64 = 10;
/// A synced write, ms.
const WRITE_MS: u64 = 5;
/// After so much silence QUIC gives a connection up, ms: the product's idle timeout.
const IDLE_MS: u64 = 10_000;
/// Reports of all chitchats that wait for the loop.
const REPORTS: usize = 1024;
/// What wall clocks show at the start.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// Signs with zeros of a real signature's length: nobody forges here, and bytes are counted.
#[derive(Debug)]
struct BlankSignature(NodeId);

impl Signer for BlankSignature {
    fn node(&self) -> NodeId {
        self.0
    }

    fn sign(&self, fact: &mut SignedFact) {
        fact.signature = vec![0; SIGNATURE_BYTES];
    }

    fn verify(&self, fact: &SignedFact) -> bool {
        fact.signature.len() == SIGNATURE_BYTES
    }
}

impl node::Sign for BlankSignature {
    fn sign(&self, fact: &mut SignedFact) {
        Signer::sign(self, fact);
    }
}

struct Running {
    core: Node,
    facts: FactGossip,
    incarnation: Incarnation,
    wake_at: u64,
}

pub(crate) struct Cluster {
    pub(crate) net: Shared,
    pub(crate) chance: Chance,
    ids: Vec<NodeId>,
    by_id: BTreeMap<NodeId, Ix>,
    addrs: Vec<SocketAddr>,
    running: BTreeMap<Ix, Running>,
    crashed: BTreeSet<Ix>,
    wakes: BTreeSet<(u64, Ix)>,
    dialling: BTreeSet<(Ix, Ix)>,
    reports: mpsc::Receiver<(Ix, FromGossip)>,
    report: mpsc::Sender<(Ix, FromGossip)>,
    pub(crate) news: Option<News>,
    pub(crate) verdicts: Verdicts,
}

impl Cluster {
    /// `nodes` nodes that will start within a second and join at the first.
    pub(crate) fn new(nodes: usize, loss_per_mille: u32, seed: u64) -> Self {
        let mut chance = Chance::new(seed, Stream::Hosts);
        let ids: Vec<NodeId> = (0..nodes).map(|_| NodeId(chance.id())).collect();
        let addrs: Vec<SocketAddr> = (0..nodes)
            .map(|ix| SocketAddr::from(([10, 0, (ix >> 8) as u8, (ix & 0xff) as u8], 7946)))
            .collect();
        let net = Shared::new(Chance::new(seed, Stream::Links), loss_per_mille, &addrs);
        for ix in 0..nodes {
            let after = if ix == 0 { 0 } else { chance.between(1, START_WITHIN_MS) };
            net.lock().later(after, Event::Start(ix));
        }
        let (report, reports) = mpsc::channel(REPORTS);
        Self {
            net,
            chance,
            by_id: ids.iter().enumerate().map(|(ix, id)| (*id, ix)).collect(),
            ids,
            addrs,
            running: BTreeMap::new(),
            crashed: BTreeSet::new(),
            wakes: BTreeSet::new(),
            dialling: BTreeSet::new(),
            reports,
            report,
            news: None,
            verdicts: Verdicts::default(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.net.lock().now()
    }

    pub(crate) fn living(&self) -> Vec<Ix> {
        self.running.keys().copied().collect()
    }

    /// Goes on until `done`, for `within_ms` at most; false if it was not done by then.
    pub(crate) async fn run(&mut self, within_ms: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now().saturating_add(within_ms);
        loop {
            while let Ok((ix, report)) = self.reports.try_recv() {
                self.take_report(ix, report);
            }
            let now = self.now();
            self.happen(now);
            if done(self) {
                return true;
            }
            if now >= end {
                return false;
            }
            let due = self.net.lock().next_due();
            let wake = self.wakes.first().map(|(at, _)| *at);
            let next = due.into_iter().chain(wake).chain([end]).min().unwrap_or(end);
            let pause = Duration::from_millis(next.saturating_sub(now));
            let news = self.net.news.clone();
            tokio::select! {
                Some((ix, report)) = self.reports.recv() => self.take_report(ix, report),
                () = news.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Everything that is due.
    fn happen(&mut self, now: u64) {
        loop {
            let event = self.net.lock().take_due(now);
            let Some(event) = event else { break };
            match event {
                Event::Start(ix) => self.start(ix),
                Event::Dialled(a, b) => self.dialled(a, b),
                Event::Core { from, to, message } => {
                    let from = self.ids[from];
                    self.feed(to, Input::Message { from, message });
                }
                Event::Chitchat { from, to, message } => {
                    self.net.lock().deliver_chitchat(from, to, message);
                }
                Event::Input { to, input } => self.feed(to, *input),
                Event::Silent(gone) => {
                    self.net.lock().disconnect(gone);
                    for ix in self.living() {
                        self.feed(ix, Input::Disconnected { peer: self.ids[gone] });
                    }
                }
            }
        }
        while let Some((at, ix)) = self.wakes.first().copied().filter(|(at, _)| *at <= now) {
            self.wakes.remove(&(at, ix));
            self.feed(ix, Input::Tick);
        }
    }

    fn clocks(&self) -> Now {
        let ms = self.now();
        Now { at: Instant(ms), wall: Wall(EPOCH_MS + ms) }
    }

    fn start(&mut self, ix: Ix) {
        let (id, addr, incarnation) = (self.ids[ix], self.addrs[ix], Incarnation(1));
        let now = self.clocks();
        let start = Start {
            me: id,
            cluster: CLUSTER,
            cell: CellId(0),
            incarnation,
            profile: profile(ix, addr, now.wall),
            settings: Settings::lan(),
            records: Vec::new(),
            seed: self.chance.word(),
            now,
        };
        let (core, effects) = Node::new(start, Box::new(BlankSignature(id)));
        let config = FactGossipConfig {
            cluster: CLUSTER,
            cell: CellId(0),
            generation: incarnation,
            advertise: addr,
            pace: Pace::Lan,
        };
        let carrier = Carrier { shared: self.net.clone(), me: ix, addr };
        let (out, mut reports) = mpsc::channel(REPORTS);
        let facts = FactGossip::spawn(config, Arc::new(carrier), Arc::new(BlankSignature(id)), out);
        let all = self.report.clone();
        // Ends with the chitchat that it listens to.
        tokio::spawn(async move {
            while let Some(report) = reports.recv().await {
                if all.send((ix, report)).await.is_err() {
                    return;
                }
            }
        });
        let wake_at = now.at.0 + 1;
        self.wakes.insert((wake_at, ix));
        self.running.insert(ix, Running { core, facts, incarnation, wake_at });
        self.take_effects(ix, effects);
        if ix != 0 {
            self.dial(ix, 0);
        }
    }

    /// Ends a node without a word.
    pub(crate) fn crash(&mut self, ix: Ix) {
        if let Some(gone) = self.running.remove(&ix) {
            self.wakes.remove(&(gone.wake_at, ix));
            self.crashed.insert(ix);
            let mut net = self.net.lock();
            net.close(ix);
            net.later(IDLE_MS, Event::Silent(ix));
        }
    }

    /// Lets a node publish one fact that nobody knows, and watches it spread.
    pub(crate) fn tell_news(&mut self, ix: Ix, version: String) {
        self.news = None;
        let now = self.clocks();
        let Some(running) = self.running.get_mut(&ix) else { return };
        let effects =
            running.core.handle(now, Input::Runtime(RuntimeEvent::EngineBack { version }));
        let fact = effects.iter().find_map(|effect| match effect {
            Effect::Publish(fact) if fact.key == FactKey::Profile => Some(fact),
            _ => None,
        });
        self.news = fact.map(|fact| News::new(fact, now.at.0));
        self.take_effects(ix, effects);
        self.plan_wake(ix);
    }

    /// All nodes run, and each of them sees all of them alive.
    pub(crate) fn all_see_all(&self, nodes: usize) -> bool {
        self.running.len() == nodes
            && self.running.values().all(|running| {
                let members = running.core.members();
                members.len() == nodes && members.iter().all(|m| m.state == MemberState::Alive)
            })
    }

    fn dial(&mut self, from: Ix, to: Ix) {
        let up = from == to || self.crashed.contains(&to) || self.net.lock().is_connected(from, to);
        if !up && self.dialling.insert((from.min(to), from.max(to))) {
            self.net.lock().later(DIAL_MS, Event::Dialled(from, to));
        }
    }

    fn dialled(&mut self, a: Ix, b: Ix) {
        self.dialling.remove(&(a.min(b), a.max(b)));
        let both = self.running.contains_key(&a) && self.running.contains_key(&b);
        if !both || !self.net.lock().connect(a, b) {
            return;
        }
        for (me, peer) in [(a, b), (b, a)] {
            let addr = self.addrs[peer];
            if let Some(running) = self.running.get(&me) {
                running.facts.greet(addr);
            }
            self.feed(me, Input::Connected { peer: self.ids[peer], addr });
        }
    }

    fn take_report(&mut self, ix: Ix, report: FromGossip) {
        match report {
            FromGossip::Fact(fact) => self.feed(ix, Input::Fact(fact)),
            FromGossip::IncarnationNeeded { above, .. } => self.raise(ix, above),
            FromGossip::Restarted { .. } => self.feed(ix, Input::Republish),
            _ => {}
        }
    }

    fn raise(&mut self, ix: Ix, above: Incarnation) {
        let Some(running) = self.running.get_mut(&ix) else { return };
        running.incarnation = Incarnation(running.incarnation.max(above).0 + 1);
        running.facts.set_incarnation(running.incarnation);
        let input = Box::new(Input::Incarnation(running.incarnation));
        self.net.lock().later(WRITE_MS, Event::Input { to: ix, input });
    }

    fn feed(&mut self, ix: Ix, input: Input) {
        let now = self.clocks();
        let Some(running) = self.running.get_mut(&ix) else { return };
        // What comes back to its owner is no news there.
        let id = self.ids[ix];
        if let Some(news) = self.news.as_mut().filter(|news| news.owner != id) {
            news.note(ix, &input, now.at.0);
        }
        let effects = running.core.handle(now, input);
        self.take_effects(ix, effects);
        self.plan_wake(ix);
    }

    fn plan_wake(&mut self, ix: Ix) {
        let now = self.now();
        if let Some(running) = self.running.get_mut(&ix) {
            self.wakes.remove(&(running.wake_at, ix));
            running.wake_at = running.core.next_wake().0.max(now + 1);
            self.wakes.insert((running.wake_at, ix));
        }
    }

    fn take_effects(&mut self, ix: Ix, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    if let Some(to) = self.by_id.get(&to) {
                        self.net.lock().send(ix, *to, message);
                    }
                }
                Effect::Publish(fact) => {
                    if let Some(running) = self.running.get(&ix) {
                        // Refused only when too large, which a profile is not.
                        let _ = running.facts.publish(fact);
                    }
                }
                Effect::Persist { id, .. } => {
                    let input = Box::new(Input::Persisted { id, result: Ok(()) });
                    self.net.lock().later(WRITE_MS, Event::Input { to: ix, input });
                }
                Effect::Peers(peers) => {
                    let wanted: Vec<Ix> =
                        peers.keys().filter_map(|id| self.by_id.get(id).copied()).collect();
                    wanted.into_iter().for_each(|to| self.dial(ix, to));
                }
                // There are no services: the runtime is only ever asked what it runs.
                Effect::Runtime { id, .. } => {
                    let result = ActionResult::Listed(Vec::new());
                    let input = Box::new(Input::Done { id, result });
                    self.net.lock().later(WRITE_MS, Event::Input { to: ix, input });
                }
                Effect::RaiseIncarnation { above } => self.raise(ix, above),
                Effect::Notice(Notice::Member { id, from, to, .. }) => {
                    let (now, crashed) = (self.now(), &self.crashed);
                    if let Some(about) = self.by_id.get(&id) {
                        self.verdicts.note(ix, (*about, crashed.contains(about)), from, to, now);
                    }
                }
                // A living node's port answers nothing outside QUIC, a dead host nothing at all:
                // silence either way.
                Effect::AskHost { .. }
                | Effect::Refuse(_)
                | Effect::Reply { .. }
                | Effect::Notice(_)
                | Effect::Forget(_)
                | Effect::Network(_)
                | Effect::Exit => {}
            }
        }
    }
}

fn profile(ix: Ix, addr: SocketAddr, started: Wall) -> Profile {
    Profile {
        name: format!("host-{ix}"),
        addr,
        zone: String::new(),
        labels: BTreeMap::new(),
        capacity: Resources { cpu_milli: 8_000, memory_bytes: 16 << 30 },
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        runtime: "docker".to_owned(),
        engine_version: "28.0.0".to_owned(),
        shoal_version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol_version: wire::PROTOCOL_VERSION,
        placement_version: placement::PLACEMENT_VERSION,
        started,
    }
}
