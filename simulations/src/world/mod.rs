//! The world of a run: hosts, links and what is in flight between them, advanced one event at a time.
//!
//! [`World::step`] takes the earliest event off the queue, lets it happen, and returns. Whatever a core
//! answers is carried out by [`process`], as the daemon's loop would; [`net`] is what quinn and the
//! network would do with the messages. Nothing here draws randomness except from the run's streams.

mod garbage;
pub mod net;
mod observe;
pub mod process;
pub mod tell;
mod traffic;
pub mod trouble;

pub use traffic::{Sent, Traffic};

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use membership::fact::{FactKey, SignedFact};
use membership::id::{Incarnation, NodeId};
use membership::message::Message;
use node::io::Input;

use crate::chance::{Chance, Stream};
use crate::core::Core;
use crate::engine::{Boot, Engine, EngineEvent, EngineManner, Mood, Out};
use crate::gossip::{Carrier, GossipOut, Modelled, Outgoing, Pace, Payload};
use crate::host::{Host, HostSpec};
use crate::links::{HostIx, Links, Quality};
use crate::operators::{CommandNo, Replied};
use crate::queue::Queue;
use crate::real_gossip::Chitchat;
use crate::seen::{RecordName, Seen};
use crate::time::{At, Span};
use crate::trace::Trace;
use net::{ConnId, Net, Pair};
use tell::{ShortPlace, ShortTask};

/// What is still to happen.
#[derive(Debug)]
pub enum Event {
    Wake {
        host: HostIx,
        boot: Boot,
        at: At,
    },
    /// A slow process takes its next input.
    Turn {
        host: HostIx,
        boot: Boot,
    },
    Input {
        host: HostIx,
        boot: Boot,
        input: Box<Input>,
    },
    Packet {
        from: HostIx,
        to: HostIx,
        conn: ConnId,
        message: Box<Message>,
    },
    Stream {
        from: HostIx,
        to: HostIx,
        conn: ConnId,
        message: Box<Message>,
        tries: u32,
    },
    Dial {
        from: HostIx,
        boot: Boot,
        to: HostIx,
    },
    DialUp {
        from: HostIx,
        boot: Boot,
        to: HostIx,
        to_boot: Boot,
    },
    DialFailed {
        from: HostIx,
        boot: Boot,
        to: HostIx,
    },
    Idle {
        pair: Pair,
        conn: ConnId,
    },
    Reset {
        pair: Pair,
        conn: ConnId,
    },
    Written {
        host: HostIx,
        boot: Boot,
    },
    Incarnation {
        host: HostIx,
        boot: Boot,
        above: Incarnation,
    },
    Attach {
        host: HostIx,
        boot: Boot,
    },
    Engine {
        host: HostIx,
        event: EngineEvent,
    },
    EngineUp {
        host: HostIx,
    },
    ProcessStart {
        host: HostIx,
        after: Boot,
    },
    /// Power returns to a host that was torn out of a write.
    PowerBack {
        host: HostIx,
    },
    GossipDue,
    Gossip {
        from: HostIx,
        to: HostIx,
        payload: Payload,
    },
    /// Something that the runner planned; given back by [`World::step`].
    Agenda(u64),
}

/// What makes the core of a process that starts.
#[derive(Debug)]
pub struct StartArgs {
    pub host: HostIx,
    pub id: NodeId,
    pub incarnation: Incarnation,
    pub profile: membership::member::Profile,
    pub records: Vec<membership::record::Record>,
    pub seed: u64,
    pub now: membership::time::Now,
}

/// Makes cores; tests hand in other ones.
pub type Maker = Box<dyn Fn(StartArgs) -> (Box<dyn Core>, Vec<node::io::Effect>)>;

/// The streams of chance that the world itself draws from.
#[derive(Debug)]
pub struct Chances {
    pub links: Chance,
    pub disks: Chance,
    pub engines: Chance,
    pub gossip: Chance,
    pub cores: Chance,
    pub garbage: Chance,
    pub hosts: Chance,
}

/// What carries facts beside the pushes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fidelity {
    Modelled(Pace),
    /// chitchat itself; replayed only where its randomness comes from a seed, see [`crate::real_gossip`].
    Real,
}

/// How a world is set up.
#[derive(Clone, Debug)]
pub struct WorldSpec {
    pub seed: u64,
    pub hosts: Vec<HostSpec>,
    /// So many of them, the last, have yet to join.
    pub spare: usize,
    pub quality: Quality,
    pub engine: EngineManner,
    pub gossip: Fidelity,
    pub tell: bool,
}

/// One fact on its way to everybody, for measuring.
#[derive(Clone, Debug)]
pub struct Watched {
    owner: HostIx,
    key: FactKey,
    /// The fact, once its owner has published it.
    order: Option<(NodeId, Incarnation, u64)>,
    /// When each other host heard of it first, by the way it came.
    pub pushed: BTreeMap<HostIx, At>,
    pub gossip: BTreeMap<HostIx, At>,
}

impl Watched {
    fn is_it(&self, fact: &SignedFact) -> bool {
        let it = (fact.owner, fact.incarnation, fact.seq);
        fact.key == self.key && self.order.is_some_and(|order| it >= order && it.0 == order.0)
    }
}

pub struct World {
    pub now: At,
    pub queue: Queue<Event>,
    pub hosts: Vec<Host>,
    pub links: Links,
    pub trace: Trace,
    pub traffic: Traffic,
    pub chances: Chances,
    /// What was observed since the runner last took it.
    pub seen: Vec<Seen>,
    /// Answers to commands since the runner last took them.
    pub replies: Vec<Replied>,
    /// Nodes that operators removed from the cluster.
    pub expelled: BTreeSet<NodeId>,
    /// See [`World::watch_next`].
    pub watched: Option<Watched>,
    /// Hosts of which so many messages in a thousand are followed by a broken one.
    pub garbling: BTreeMap<HostIx, u32>,
    /// Broken messages that nobody could read, and those that could be read and were delivered.
    pub unreadable: u64,
    pub readable: u64,
    /// Handshakes let everybody in: broken on purpose, to see that the check sees it.
    pub open_door: bool,
    net: Net,
    by_id: BTreeMap<NodeId, HostIx>,
    /// Hosts that bear the same id as another: copies of its disk.
    clones: BTreeMap<NodeId, HostIx>,
    /// How engines are when nothing is wrong with them.
    pub engine: EngineManner,
    by_addr: BTreeMap<SocketAddr, HostIx>,
    carrier: Box<dyn Carrier>,
    gossip_wake: Option<At>,
    /// Which hosts everybody is told to join.
    seeds: Vec<HostIx>,
    maker: Maker,
    /// Claims as last published: the trace tells only of changes.
    claims: BTreeMap<(HostIx, node::slot::Place), (node::slot::Epoch, node::slot::Phase)>,
    /// Commands that wait for their answer: where, the id of what they are about (0 for a create), and
    /// what that node's disk held about it when they came.
    commands: BTreeMap<CommandNo, (HostIx, u128, Vec<RecordName>)>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.now).field("hosts", &self.hosts.len()).finish()
    }
}

impl World {
    pub fn new(spec: &WorldSpec, maker: Maker) -> Self {
        let stream = |stream| Chance::new(spec.seed, stream);
        let carrier: Box<dyn Carrier> = match spec.gossip {
            Fidelity::Modelled(pace) => Box::new(Modelled::new(pace)),
            // Making a runtime fails only on a machine that can run nothing else either.
            Fidelity::Real => {
                Box::new(Chitchat::new().unwrap_or_else(|error| panic!("no runtime: {error}")))
            }
        };
        let mut hosts_chance = stream(Stream::Hosts);
        let mut hosts = Vec::new();
        for (n, host_spec) in spec.hosts.iter().enumerate() {
            let ix = HostIx(u32::try_from(n).unwrap_or(u32::MAX));
            let id = NodeId(hosts_chance.id());
            let mut host = Host::new(ix, id, host_spec.clone(), Engine::new(spec.engine));
            host.uptime_ms = hosts_chance.below(100_000_000);
            host.spare = n >= spec.hosts.len() - spec.spare.min(spec.hosts.len() - 1);
            host.powered = !host.spare;
            hosts.push(host);
        }
        let mut world = Self {
            now: At::ZERO,
            queue: Queue::default(),
            by_id: hosts.iter().map(|host| (host.id, host.ix)).collect(),
            clones: BTreeMap::new(),
            engine: spec.engine,
            by_addr: hosts.iter().map(|host| (host.addr, host.ix)).collect(),
            seeds: hosts.iter().map(|host| host.ix).take(3).collect(),
            links: Links::new(spec.quality),
            trace: Trace::new(spec.tell),
            traffic: Traffic::default(),
            chances: Chances {
                links: stream(Stream::Links),
                disks: stream(Stream::Disks),
                engines: stream(Stream::Engines),
                gossip: stream(Stream::Gossip),
                cores: stream(Stream::Cores),
                garbage: stream(Stream::Garbage),
                hosts: hosts_chance,
            },
            seen: Vec::new(),
            replies: Vec::new(),
            expelled: BTreeSet::new(),
            watched: None,
            garbling: BTreeMap::new(),
            unreadable: 0,
            readable: 0,
            open_door: false,
            net: Net::default(),
            carrier,
            gossip_wake: None,
            maker,
            claims: BTreeMap::new(),
            commands: BTreeMap::new(),
            hosts,
        };
        for host in world.hosts.iter().filter(|host| !host.spare) {
            world.seen.push(Seen::Host { host: host.ix, capacity: host.spec.capacity });
        }
        world
    }

    pub fn host_of(&self, id: NodeId) -> Option<HostIx> {
        self.by_id.get(&id).copied()
    }

    /// Takes down how the next fact that a host publishes under a key spreads.
    pub fn watch_next(&mut self, owner: HostIx, key: FactKey) {
        let (pushed, gossip) = (BTreeMap::new(), BTreeMap::new());
        self.watched = Some(Watched { owner, key, order: None, pushed, gossip });
    }

    pub fn schedule(&mut self, at: At, agenda: u64) {
        self.queue.push(at, Event::Agenda(agenda));
    }

    fn later(&mut self, after: Span, event: Event) {
        self.queue.push(self.now + after, event);
    }

    /// Lets the earliest event happen. Gives back the runner's own, `None` when it was the world's.
    /// Does nothing when the queue is empty.
    pub fn step(&mut self) -> Option<u64> {
        let (at, event) = self.queue.pop()?;
        self.now = at;
        match event {
            Event::Agenda(number) => return Some(number),
            Event::Wake { host, boot, at } => self.wake(host, boot, at),
            Event::Turn { host, boot } => self.turn(host, boot),
            Event::Input { host, boot, input } => self.feed_boot(host, boot, *input),
            Event::Packet { from, to, conn, message } => self.packet(from, to, conn, *message),
            Event::Stream { from, to, conn, message, tries } => {
                self.stream(from, to, conn, message, tries);
            }
            Event::Dial { from, boot, to } => self.dial(from, boot, to),
            Event::DialUp { from, boot, to, to_boot } => self.dial_up(from, boot, to, to_boot),
            Event::DialFailed { from, boot, to } => self.dial_failed(from, boot, to),
            Event::Idle { pair, conn } => self.idle(pair, conn),
            Event::Reset { pair, conn } => self.disconnect(pair, conn),
            Event::Written { host, boot } => self.written(host, boot),
            Event::Incarnation { host, boot, above } => self.incarnation_drawn(host, boot, above),
            Event::Attach { host, boot } => self.attach(host, boot),
            Event::Engine { host, event } => {
                self.with_engine(host, |engine, chance, out| engine.on(event, chance, out));
            }
            Event::EngineUp { host } => {
                if self.hosts[host.i()].powered {
                    self.with_engine(host, |engine, chance, out| engine.recover(chance, out));
                }
            }
            Event::ProcessStart { host, after } => {
                let found = &self.hosts[host.i()];
                let may = found.powered && !found.left && !found.disk.damaged;
                if may && found.process.is_none() && found.boots == after {
                    self.start_process(host);
                }
            }
            Event::PowerBack { host } => self.power_back(host),
            Event::GossipDue => self.gossip_due(),
            Event::Gossip { from, to, payload } => self.gossip_packet(from, to, payload),
        }
        None
    }

    /// Calls an engine and does with its answers what its driver and the checks are to hear.
    pub fn with_engine(
        &mut self,
        host: HostIx,
        f: impl FnOnce(&mut Engine, &mut Chance, &mut Out),
    ) {
        let mut out = Out::default();
        let before = self.hosts[host.i()].engine.mood() == Mood::Answers;
        f(&mut self.hosts[host.i()].engine, &mut self.chances.engines, &mut out);
        let well = self.hosts[host.i()].engine.mood() == Mood::Answers;
        if well != before {
            self.seen.push(Seen::Engine { host, well });
        }
        for (after, event) in out.later {
            self.later(after, Event::Engine { host, event });
        }
        for change in out.changes {
            self.trace.note(
                self.now,
                true,
                format_args!(
                    "{host} container {}/{} {:?}",
                    ShortPlace(change.place),
                    ShortTask(change.task),
                    change.what
                ),
            );
            self.seen.push(Seen::Container {
                host,
                place: change.place,
                task: change.task,
                what: change.what,
            });
        }
        for (boot, input) in out.inputs {
            // Never at once: an engine called by an effect would otherwise re-enter its core.
            self.later(Span::us(50), Event::Input { host, boot, input: Box::new(input) });
        }
    }

    fn gossip_due(&mut self) {
        self.gossip_wake = None;
        let mut out = GossipOut::default();
        self.carrier.due(self.now, &mut self.chances.gossip, &mut out);
        self.carry(out);
    }

    fn gossip_connected(&mut self, host: HostIx, peer: HostIx) {
        let mut out = GossipOut::default();
        self.carrier.connected(self.now, host, peer, &mut out);
        self.carry(out);
    }

    fn gossip_packet(&mut self, from: HostIx, to: HostIx, payload: Payload) {
        if !self.hosts[to.i()].is_awake() || !self.same_side(from, to) {
            return;
        }
        self.told(from, to);
        let mut out = GossipOut::default();
        self.carrier.deliver(self.now, to, from, payload, &mut out);
        self.carry(out);
    }

    fn carry(&mut self, out: GossipOut) {
        for Outgoing { from, to, bytes, payload } in out.sends {
            self.traffic.gossiped(bytes as u64 + net::PACKET_BYTES);
            self.trace.note(self.now, false, format_args!("g{from}{to}{bytes}"));
            if let Some(after) = self.links.stream(from, to, &mut self.chances.links) {
                self.later(after, Event::Gossip { from, to, payload });
            }
        }
        for (host, fact) in out.facts {
            if let Some(watched) = self.watched.as_mut().filter(|watched| watched.is_it(&fact)) {
                watched.gossip.entry(host).or_insert(self.now);
            }
            self.feed(host, Input::Fact(fact));
        }
        self.plan_gossip();
    }

    /// Keeps one [`Event::GossipDue`] in the queue for when the carrier wants to be called.
    fn plan_gossip(&mut self) {
        let Some(due) = self.carrier.next_due() else { return };
        if self.gossip_wake.is_none_or(|wake| due < wake) {
            self.gossip_wake = Some(due);
            self.queue.push(due.max(self.now), Event::GossipDue);
        }
    }
}
