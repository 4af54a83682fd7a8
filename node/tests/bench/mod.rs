//! A few real cores on a table: messages between them arrive when and as often as the test likes, their
//! engines do what they are told after a moment, and the truth about every container is in plain sight.
//!
//! Less than the simulator (no faults, no operators, no gossip) and closer to the core: for properties of
//! claims, and for single nodes that are told things in an order that a network brings about once a year.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use membership::clock::Stamp;
use membership::fact::SignedFact;
use membership::id::{CellId, ClusterId, Incarnation, NodeId, ServiceId, TaskId};
use membership::member::{Profile, Resources};
use membership::record::{Key, Kind, Record};
use membership::time::{Instant, Now, Wall};
use node::runtime::{
    ActionId, ActionResult, ContainerHealth, ContainerState, Found, RuntimeAction, StartTask,
};
use node::slot::{Epoch, Slot};
use node::spec::ServiceSpec;
use node::{Effect, Input, Node, Settings, Start};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};

pub(crate) const SERVICE: ServiceId = ServiceId(0x5e);
const WALL: u64 = 1_800_000_000_000;

#[derive(Debug)]
struct Unsigned;

impl node::Sign for Unsigned {
    fn sign(&self, _: &mut SignedFact) {}
}

pub(crate) fn id(seat: usize) -> NodeId {
    NodeId(0x100 + seat as u128)
}

pub(crate) fn addr(seat: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, seat as u8 + 1], 4646))
}

pub(crate) fn now(at: u64) -> Now {
    Now { at: Instant(at), wall: Wall(WALL + at) }
}

fn spec(replicas: u32) -> Value {
    json!({
        "Name": "web",
        "TaskTemplate": { "ContainerSpec": { "Image": "web" } },
        "Mode": { "Replicated": { "Replicas": replicas } },
    })
}

fn record(kind: Kind, id: u128, body: &Value) -> Record {
    Record {
        cell: CellId(0),
        key: Key { kind, id },
        stamp: Stamp { ms: WALL - 1_000_000, counter: 0 },
        writer: NodeId(1),
        ancestors: Vec::new(),
        body: serde_json::to_vec(body).ok(),
    }
}

/// What is on every disk: a service of so many replicas, and so many admitted members.
pub(crate) fn records(seats: usize, replicas: u32) -> Vec<Record> {
    let service = json!({ "v": 1, "created_ms": WALL - 2_000_000, "created_counter": 0, "spec": spec(replicas) });
    let mut records = vec![record(Kind::Service, SERVICE.0, &service)];
    for seat in 0..seats {
        let admission = json!({
            "v": 1, "state": "admitted", "name": format!("host-{seat}"), "addr": addr(seat), "since_ms": 1,
        });
        records.push(record(Kind::Admission, id(seat).0, &admission));
    }
    records
}

pub(crate) fn profile(seat: usize) -> Profile {
    Profile {
        name: format!("host-{seat}"),
        addr: addr(seat),
        zone: String::new(),
        labels: BTreeMap::new(),
        capacity: Resources { cpu_milli: 8_000, memory_bytes: 32 << 30 },
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        runtime: "docker".to_owned(),
        engine_version: "28".to_owned(),
        shoal_version: "0".to_owned(),
        protocol_version: membership::wire::PROTOCOL_VERSION,
        placement_version: placement::PLACEMENT_VERSION,
        started: Wall(WALL),
    }
}

/// A core and what it does first.
pub(crate) fn core(
    seat: usize,
    incarnation: u64,
    records: Vec<Record>,
    settings: &Settings,
    at: u64,
) -> (Node, Vec<Effect>) {
    let start = Start {
        me: id(seat),
        cluster: ClusterId(7),
        cell: CellId(0),
        incarnation: Incarnation(incarnation),
        profile: profile(seat),
        settings: settings.clone(),
        records,
        seed: seat as u64,
        now: now(at),
    };
    Node::new(start, Box::new(Unsigned))
}

/// A container of the service, made from its present template, that runs.
pub(crate) fn container(slot: u32, epoch: Epoch, task: TaskId) -> Found {
    let template = ServiceSpec::parse(&spec(1)).map(|spec| spec.template).unwrap_or_default();
    Found {
        container: format!("c{task}"),
        task,
        service: SERVICE,
        service_name: "web".to_owned(),
        slot: Slot::Index(slot),
        epoch,
        template,
        created: Wall(WALL - 500_000),
        state: ContainerState::Running { health: ContainerHealth::None },
        started: None,
        stopping: false,
        pid: None,
        ports: Vec::new(),
        addresses: Vec::new(),
    }
}

fn started(order: &StartTask) -> Found {
    Found {
        template: order.template,
        created: order.created,
        ..container(slot_number(order.slot), order.epoch, order.task)
    }
}

fn slot_number(slot: Slot) -> u32 {
    match slot {
        Slot::Index(index) => index,
        Slot::Node(_) => 0,
    }
}

/// How messages travel for the time being.
#[derive(Clone, Debug)]
pub(crate) struct Links {
    /// The part of the cluster that each seat is in: nothing passes between two parts.
    pub(crate) parts: Vec<u8>,
    /// Least and most milliseconds on the way, drawn for each message: they overtake each other.
    pub(crate) delay: (u64, u64),
    /// Messages that arrive twice, per thousand.
    pub(crate) doubled: u32,
}

#[derive(Debug)]
enum Event {
    Boot(usize),
    Wake(usize),
    Input(usize, Box<Input>),
    Started(usize, ActionId, Box<StartTask>),
    Gone(usize, ActionId, TaskId),
}

#[derive(Debug)]
struct Seat {
    core: Option<Node>,
    engine: BTreeMap<TaskId, Found>,
    stopping: BTreeSet<TaskId>,
    /// When each container came up.
    up_since: BTreeMap<TaskId, u64>,
    incarnation: u64,
}

#[derive(Debug)]
pub(crate) struct Bench {
    pub(crate) at: u64,
    pub(crate) links: Links,
    seats: Vec<Seat>,
    queue: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    chance: ChaCha8Rng,
    settings: Settings,
    replicas: u32,
    /// Slots that were without a ready container after they had had one.
    pub(crate) broken: Vec<String>,
}

impl Bench {
    /// Cores that start at their times, on hosts where these containers run already.
    pub(crate) fn new(
        engines: Vec<Vec<Found>>,
        starts: &[u64],
        links: Links,
        settings: Settings,
        replicas: u32,
        seed: u64,
    ) -> Self {
        let seat = |found: Vec<Found>| Seat {
            core: None,
            engine: found.into_iter().map(|found| (found.task, found)).collect(),
            stopping: BTreeSet::new(),
            up_since: BTreeMap::new(),
            incarnation: 1,
        };
        let mut bench = Self {
            at: 0,
            links,
            seats: engines.into_iter().map(seat).collect(),
            queue: BTreeMap::new(),
            sequence: 0,
            chance: ChaCha8Rng::seed_from_u64(seed),
            settings,
            replicas,
            broken: Vec::new(),
        };
        for (seat, at) in starts.iter().enumerate() {
            bench.later(*at, Event::Boot(seat));
        }
        bench
    }

    fn later(&mut self, after: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((self.at + after, self.sequence), event);
    }

    /// Hosts on which a slot is ready and not being stopped.
    pub(crate) fn ready(&self, slot: u32) -> Vec<usize> {
        let serves = |seat: &Seat| {
            let mut found = seat.engine.values();
            found.any(|f| f.slot == Slot::Index(slot) && !seat.stopping.contains(&f.task))
        };
        (0..self.seats.len()).filter(|seat| serves(&self.seats[*seat])).collect()
    }

    /// Who runs a slot, as one core sees it.
    pub(crate) fn seen_by(&self, seat: usize, slot: u32) -> BTreeSet<Option<NodeId>> {
        let tasks = self.seats[seat].core.as_ref().map(Node::tasks).unwrap_or_default();
        let runs = |task: &node::views::TaskView| {
            task.slot() == Slot::Index(slot)
                && task.state() == node::slot::TaskState::Running
                && task.desired == node::views::DesiredState::Running
        };
        tasks.iter().filter(|task| runs(task)).map(|task| task.node).collect()
    }

    /// From now on messages travel like this; who can reach each other anew is connected.
    pub(crate) fn set_links(&mut self, links: Links) {
        self.links = links;
        for seat in 0..self.seats.len() {
            self.connect(seat);
        }
    }

    fn connect(&mut self, seat: usize) {
        for other in 0..self.seats.len() {
            let up = |seat: usize| self.seats[seat].core.is_some();
            if other != seat && up(seat) && up(other) && self.reaches(seat, other) {
                for (one, peer) in [(seat, other), (other, seat)] {
                    let input = Input::Connected { peer: id(peer), addr: addr(peer) };
                    self.later(1, Event::Input(one, Box::new(input)));
                }
            }
        }
    }

    fn reaches(&self, from: usize, to: usize) -> bool {
        self.links.parts[from] == self.links.parts[to]
    }

    pub(crate) fn pass(&mut self, ms: u64) {
        let end = self.at + ms;
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= end) {
            let ((at, _), event) = entry.remove_entry();
            self.at = at;
            self.happen(event);
        }
        self.at = end;
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Boot(seat) => {
                let records = records(self.seats.len(), self.replicas);
                let (core, effects) = core(seat, 1, records, &self.settings, self.at);
                self.seats[seat].core = Some(core);
                self.carry_out(seat, effects);
                self.connect(seat);
                self.later(1, Event::Wake(seat));
            }
            Event::Wake(seat) => {
                let wanted = self.seats[seat].core.as_ref().map(Node::next_wake);
                let Some(wanted) = wanted else { return };
                if wanted <= Instant(self.at) {
                    self.put(seat, Input::Tick);
                }
                let core = self.seats[seat].core.as_ref();
                let next = core.map_or(u64::MAX, |core| core.next_wake().0);
                self.later(next.saturating_sub(self.at).clamp(1, 50), Event::Wake(seat));
            }
            Event::Input(seat, input) => self.put(seat, *input),
            Event::Started(seat, action, order) => {
                let found = started(&order);
                self.seats[seat].engine.insert(order.task, found.clone());
                self.seats[seat].up_since.insert(order.task, self.at);
                let result = ActionResult::Started(Box::new(found));
                self.put(seat, Input::Done { id: action, result });
            }
            Event::Gone(seat, action, task) => {
                self.seats[seat].engine.remove(&task);
                self.seats[seat].stopping.remove(&task);
                self.put(seat, Input::Done { id: action, result: ActionResult::Stopped });
            }
        }
    }

    fn put(&mut self, seat: usize, input: Input) {
        let at = self.at;
        let Some(core) = self.seats[seat].core.as_mut() else { return };
        let effects = core.handle(now(at), input);
        self.carry_out(seat, effects);
    }

    fn carry_out(&mut self, seat: usize, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    let to = (to.0 - id(0).0) as usize;
                    if to >= self.seats.len() || !self.reaches(seat, to) {
                        continue;
                    }
                    let copies =
                        1 + u32::from(self.chance.random_range(0..1000) < self.links.doubled);
                    for _ in 0..copies {
                        let (least, most) = self.links.delay;
                        let after = self.chance.random_range(least..=most);
                        let input = Input::Message { from: id(seat), message: message.clone() };
                        self.later(after, Event::Input(to, Box::new(input)));
                    }
                }
                Effect::Persist { id, .. } => {
                    let input = Input::Persisted { id, result: Ok(()) };
                    self.later(5, Event::Input(seat, Box::new(input)));
                }
                Effect::RaiseIncarnation { above } => {
                    self.seats[seat].incarnation = self.seats[seat].incarnation.max(above.0) + 1;
                    let drawn = Incarnation(self.seats[seat].incarnation);
                    self.later(5, Event::Input(seat, Box::new(Input::Incarnation(drawn))));
                }
                Effect::Runtime { id, action } => self.act(seat, id, action),
                Effect::Publish(_)
                | Effect::Peers(_)
                | Effect::Refuse(_)
                | Effect::Reply { .. }
                | Effect::AskHost { .. }
                | Effect::Notice(_)
                | Effect::Network(_)
                | Effect::Forget(_)
                | Effect::Exit => {}
            }
        }
    }

    fn act(&mut self, seat: usize, action: ActionId, order: RuntimeAction) {
        match order {
            RuntimeAction::Start(order) => {
                let after = self.chance.random_range(50..3_000);
                self.later(after, Event::Started(seat, action, order));
            }
            RuntimeAction::Stop { task, .. } | RuntimeAction::Remove { task, .. } => {
                let slot = self.seats[seat].engine.get(&task).map(|found| found.slot);
                self.seats[seat].stopping.insert(task);
                // A start that was called off while it was under way is stopped the moment it is done: it never
                // served anybody.
                let served = self.seats[seat].up_since.get(&task) != Some(&self.at);
                if let Some(Slot::Index(slot)) = slot
                    && served
                    && self.ready(slot).is_empty()
                {
                    let text =
                        format!("host {seat} stopped the last of slot {slot} at {}", self.at);
                    self.broken.push(text);
                }
                let after = self.chance.random_range(20..1_000);
                self.later(after, Event::Gone(seat, action, task));
            }
            RuntimeAction::List => {
                let found = self.seats[seat].engine.values().cloned().collect();
                let result = ActionResult::Listed(found);
                self.later(10, Event::Input(seat, Box::new(Input::Done { id: action, result })));
            }
            RuntimeAction::Networks { .. } => {
                let result = ActionResult::Networks { found: Vec::new(), failed: Vec::new() };
                self.later(5, Event::Input(seat, Box::new(Input::Done { id: action, result })));
            }
            RuntimeAction::Prepare { .. } => {
                let done = Input::Done { id: action, result: ActionResult::Prepared };
                self.later(5, Event::Input(seat, Box::new(done)));
            }
            RuntimeAction::Refresh { .. } => {
                let done = Input::Done { id: action, result: ActionResult::Refreshed };
                self.later(5, Event::Input(seat, Box::new(done)));
            }
        }
    }
}
