//! A node counts exactly what it runs, has ordered and is still stopping before it starts something: a service
//! that allows one replica on a node finds no second one there, not even for a moment.

mod bench;

use bench::{addr, container, core, id, now, profile, records};
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation, TaskId};
use membership::member::{EngineState, Health, Resources};
use membership::message::Message;
use membership::record::{Kind, Record};
use membership::wire::{self, Versioned};
use node::runtime::{ActionId, ActionResult, ContainerState, Found, RuntimeAction, StartTask};
use node::slot::{Claim, ClaimPart, Epoch, Phase, Slot, TaskState, TaskStatus};
use node::{Effect, Input, Node, Settings};
use serde_json::Value;

/// A core whose engine answers lists and nothing else by itself.
struct Slow {
    node: Node,
    at: u64,
    engine: Vec<Found>,
    starts: Vec<(ActionId, Box<StartTask>)>,
    stops: Vec<(ActionId, TaskId)>,
}

/// One replica on a node at most.
fn one_each(seats: usize, replicas: u32) -> Vec<Record> {
    let mut records = records(seats, replicas);
    for record in records.iter_mut().filter(|record| record.key.kind == Kind::Service) {
        let body = record.body.as_deref().unwrap_or_default();
        let mut body: Value = serde_json::from_slice(body).expect("the bench writes JSON");
        body["spec"]["TaskTemplate"]["Placement"]["MaxReplicas"] = 1.into();
        record.body = serde_json::to_vec(&body).ok();
    }
    records
}

impl Slow {
    fn new(records: Vec<Record>, engine: Vec<Found>) -> Self {
        let (node, effects) = core(0, 1, records, &Settings::lan(), 0);
        let mut slow = Self { node, at: 0, engine, starts: Vec::new(), stops: Vec::new() };
        slow.carry_out(effects);
        slow
    }

    fn put(&mut self, input: Input) {
        let effects = self.node.handle(now(self.at), input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message: Message::Ping { seq } } => {
                    self.put(Input::Message { from: to, message: Message::Ack { seq } });
                }
                Effect::Persist { id, .. } => self.put(Input::Persisted { id, result: Ok(()) }),
                Effect::Runtime { id, action: RuntimeAction::List } => {
                    let result = ActionResult::Listed(self.engine.clone());
                    self.put(Input::Done { id, result });
                }
                Effect::Runtime { id, action: RuntimeAction::Start(order) } => {
                    self.starts.push((id, order));
                }
                Effect::Runtime { id, action: RuntimeAction::Stop { task, .. } } => {
                    self.stops.push((id, task));
                }
                _ => {}
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        let end = self.at + ms;
        while self.node.next_wake().0 <= end {
            self.at = self.node.next_wake().0.max(self.at + 1);
            self.put(Input::Tick);
        }
        self.at = end;
    }
}

fn fact<T: Versioned>(seq: u64, key: FactKey, value: &T) -> SignedFact {
    SignedFact {
        cell: CellId(0),
        owner: id(1),
        incarnation: Incarnation(1),
        seq,
        key,
        value: Some(wire::encode(value).expect("a test tells only what can be told")),
        signature: Vec::new(),
    }
}

fn ready(slot: Slot, epoch: Epoch) -> ClaimPart {
    let found = container(1, epoch, TaskId(1));
    let task = TaskStatus {
        id: found.task,
        slot,
        template: found.template,
        created: found.created,
        state: TaskState::Running,
        since: found.created,
        message: "started".to_owned(),
        error: None,
        container: Some(found.container),
        pid: None,
        exit_code: None,
        ports: Vec::new(),
    };
    ClaimPart { claims: vec![Claim { slot, epoch, phase: Phase::Ready, failures: 0, task }] }
}

/// Seed 20094: a start that had been called off was no longer counted, and another replica was started before
/// the engine had answered. For a while both ran.
#[test]
fn a_start_that_was_called_off_takes_its_room_until_it_is_stopped() {
    let mut slow = Slow::new(one_each(2, 2), Vec::new());
    slow.put(Input::Connected { peer: id(1), addr: addr(1) });
    let health = Health {
        engine: EngineState::Ok,
        leaving: false,
        settling: false,
        reserved: Resources::default(),
        root: slow.node.root(),
    };
    let facts = vec![fact(1, FactKey::Profile, &profile(1)), fact(2, FactKey::Health, &health)];
    slow.put(Input::Message { from: id(1), message: Message::Facts(facts) });
    slow.put(Input::Message { from: id(1), message: Message::Welcome { facts: 2 } });
    slow.pass(6_000);
    let [(action, order)] = slow.starts.as_slice() else { panic!("{:?}", slow.starts) };
    let (action, order) = (*action, order.clone());

    let key = FactKey::Claims { service: bench::SERVICE, part: 0 };
    let better = fact(3, key, &ready(order.slot, Epoch(order.epoch.0 + 1)));
    slow.put(Input::Message { from: id(1), message: Message::Facts(vec![better]) });
    slow.pass(5_000);
    assert_eq!((slow.starts.len(), slow.stops.len()), (1, 0), "the engine has not answered");
    let found = Found {
        slot: order.slot,
        template: order.template,
        ..container(1, order.epoch, order.task)
    };
    slow.put(Input::Done { id: action, result: ActionResult::Started(Box::new(found)) });
    slow.pass(5_000);
    assert_eq!(slow.starts.len(), 1, "the one that was called off runs");
    let [(stop, task)] = slow.stops.as_slice() else { panic!("{:?}", slow.stops) };
    assert_eq!(*task, order.task);
    let stop = *stop;
    slow.put(Input::Done { id: stop, result: ActionResult::Stopped });
    slow.pass(5_000);
    let [_, (_, other)] = slow.starts.as_slice() else { panic!("{:?}", slow.starts) };
    assert_ne!(other.slot, order.slot, "the slot that nobody has");
}

/// A stop that the loss of power interrupted leaves two ended containers of a service: both were claimed and
/// started again.
#[test]
fn of_what_is_found_after_a_crash_only_so_much_is_started_again_as_there_is_room_for() {
    let ended = |slot, epoch| Found {
        state: ContainerState::Exited { code: 137, out_of_memory: false },
        ..container(slot, Epoch(epoch), TaskId(epoch.into()))
    };
    let mut slow = Slow::new(one_each(1, 2), vec![ended(1, 8), ended(2, 9)]);
    slow.pass(60_000);
    assert_eq!(slow.starts.len(), 1, "{:?}", slow.starts);
    let tasks = slow.node.tasks().into_iter();
    let held = tasks.filter(|task| task.node == Some(id(0)) && !task.status.state.is_over());
    assert_eq!(held.count(), 1, "and the other is nobody's");
}
