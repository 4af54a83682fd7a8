//! Single cores that are told things in an order that is rare, or nothing for long: bugs that were found by
//! reading, or by random runs too tangled to be written down as a script.

mod bench;

use bench::{addr, container, core, id, now, profile, records};
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation, TaskId};
use membership::member::{EngineState, Health, MemberState, Resources};
use membership::message::Message;
use membership::wire::{self, Versioned};
use node::runtime::{ActionResult, ContainerState, Found, RuntimeAction};
use node::slot::{Claim, ClaimPart, Epoch, Phase, TaskState, TaskStatus};
use node::{Effect, Input, Node, Notice, Settings};

/// A core by itself; what it asks of its engine and of its one peer is answered at once.
struct Alone {
    node: Node,
    at: u64,
    starts: usize,
    stops: usize,
    warnings: Vec<String>,
    /// What runs on its host.
    engine: Vec<Found>,
    /// Whether the peer answers.
    answered: bool,
}

impl Alone {
    fn new(seats: usize) -> Self {
        Self::with(seats, Vec::new(), true)
    }

    fn with(seats: usize, engine: Vec<Found>, answered: bool) -> Self {
        let (node, effects) = core(0, 1, records(seats, 1), &Settings::lan(), 0);
        let warnings = Vec::new();
        let mut alone = Self { node, at: 0, starts: 0, stops: 0, warnings, engine, answered };
        alone.carry_out(effects);
        alone
    }

    fn put(&mut self, input: Input) {
        let effects = self.node.handle(now(self.at), input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Send { to, message: Message::Ping { seq } } if self.answered => {
                    self.put(Input::Message { from: to, message: Message::Ack { seq } });
                }
                Effect::Persist { id, .. } => self.put(Input::Persisted { id, result: Ok(()) }),
                Effect::Runtime { id, action: RuntimeAction::List } => {
                    let result = ActionResult::Listed(self.engine.clone());
                    self.put(Input::Done { id, result });
                }
                Effect::Runtime { action: RuntimeAction::Start(_), .. } => self.starts += 1,
                Effect::Runtime { action: RuntimeAction::Stop { .. }, .. } => self.stops += 1,
                Effect::Notice(Notice::Warning { text }) => self.warnings.push(text),
                _ => {}
            }
        }
    }

    /// Woken whenever it wants to be, and never otherwise.
    fn pass(&mut self, ms: u64) {
        let end = self.at + ms;
        while self.node.next_wake().0 <= end {
            self.at = self.node.next_wake().0.max(self.at + 1);
            self.put(Input::Tick);
        }
        self.at = end;
    }
}

fn fact<T: Versioned>(incarnation: u64, seq: u64, key: FactKey, value: &T) -> SignedFact {
    SignedFact {
        cell: CellId(0),
        owner: id(1),
        incarnation: Incarnation(incarnation),
        seq,
        key,
        value: Some(wire::encode(value).expect("a test tells only what can be told")),
        signature: Vec::new(),
    }
}

fn health(node: &Node) -> Health {
    Health {
        engine: EngineState::Ok,
        leaving: false,
        settling: false,
        reserved: Resources::default(),
        root: node.root(),
    }
}

fn claims(epoch: u64) -> ClaimPart {
    let found = container(1, Epoch(epoch), TaskId(1));
    let task = TaskStatus {
        id: found.task,
        slot: found.slot,
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
    let claim =
        Claim { slot: found.slot, epoch: found.epoch, phase: Phase::Ready, failures: 0, task };
    ClaimPart { claims: vec![claim] }
}

const CLAIMS: FactKey = FactKey::Claims { service: bench::SERVICE, part: 0 };

/// Two members; the other runs the one replica and has said so in its first incarnation.
fn beside_one_that_runs_it() -> Alone {
    let mut alone = Alone::new(2);
    alone.put(Input::Connected { peer: id(1), addr: addr(1) });
    let facts = vec![
        fact(1, 1, FactKey::Profile, &profile(1)),
        fact(1, 2, FactKey::Health, &health(&alone.node)),
        fact(1, 3, CLAIMS, &claims(5)),
    ];
    alone.put(Input::Message { from: id(1), message: Message::Facts(facts) });
    alone.put(Input::Message { from: id(1), message: Message::Welcome { facts: 3 } });
    alone.pass(10_000);
    assert!(!alone.node.is_settling());
    assert_eq!(alone.starts, 0, "the other runs it");
    alone
}

/// The small news that a member has settled in a new incarnation overtook its claims, and what it had said
/// before was forgotten at once: for a moment it seemed to have lost all that it ran, and was relieved of it.
#[test]
fn what_a_member_said_before_it_restarted_stands_until_it_has_had_time_to_say_it_again() {
    let mut alone = beside_one_that_runs_it();
    let settled = fact(2, 1, FactKey::Health, &health(&alone.node));
    alone.put(Input::Message { from: id(1), message: Message::Facts(vec![settled]) });
    alone.pass(3_000);
    assert_eq!(alone.starts, 0, "its claims are on the way");
    let late = fact(2, 2, CLAIMS, &claims(5));
    alone.put(Input::Message { from: id(1), message: Message::Facts(vec![late]) });
    alone.pass(30_000);
    assert_eq!(alone.starts, 0, "and here they are");
}

#[test]
fn what_a_member_does_not_say_again_is_forgotten_in_the_end() {
    let mut alone = beside_one_that_runs_it();
    let settled = fact(2, 1, FactKey::Health, &health(&alone.node));
    alone.put(Input::Message { from: id(1), message: Message::Facts(vec![settled]) });
    alone.pass(15_000);
    assert_eq!(alone.starts, 1, "it has lost what it ran");
}

/// Seed 4291: the news that a member had settled anew came before what it had said in its earlier life, which a
/// third told later. That was taken for true, and nothing ever took it back.
#[test]
fn what_a_member_said_in_an_earlier_life_is_not_believed_when_it_comes_late() {
    let mut alone = Alone::new(2);
    alone.put(Input::Connected { peer: id(1), addr: addr(1) });
    let facts = vec![
        fact(2, 1, FactKey::Profile, &profile(1)),
        fact(2, 2, FactKey::Health, &health(&alone.node)),
    ];
    alone.put(Input::Message { from: id(1), message: Message::Facts(facts) });
    alone.put(Input::Message { from: id(1), message: Message::Welcome { facts: 2 } });
    alone.pass(10_000);
    alone.put(Input::Fact(fact(1, 3, CLAIMS, &claims(5))));
    alone.pass(10_000);
    let theirs = alone.node.tasks().into_iter().filter(|task| task.node == Some(id(1)));
    assert_eq!(theirs.count(), 0);
}

/// Seed 4340: a member came back from down, and what it had said minutes before counted at once. This node
/// stopped its ready task for a better one that was long gone.
#[test]
fn nothing_that_serves_is_stopped_for_what_a_member_said_before_it_was_down() {
    let mut alone = Alone::with(2, vec![container(1, Epoch(3), TaskId(9))], false);
    for fact in [
        fact(1, 1, FactKey::Profile, &profile(1)),
        fact(1, 2, FactKey::Health, &health(&alone.node)),
        fact(1, 3, CLAIMS, &claims(9)),
    ] {
        alone.put(Input::Fact(fact));
    }
    let state = |alone: &Alone| {
        let members = alone.node.members();
        members.into_iter().find(|member| member.id == id(1)).map(|member| member.state)
    };
    alone.pass(60_000);
    assert_eq!((state(&alone), alone.stops), (Some(MemberState::Down), 0));
    alone.answered = true;
    let back = alone.at + 60_000;
    while state(&alone) == Some(MemberState::Down) && alone.at < back {
        alone.pass(50);
    }
    assert_eq!((state(&alone), alone.stops), (Some(MemberState::Alive), 0));
    alone.pass(1_000);
    let gone = SignedFact { value: None, ..fact(1, 4, CLAIMS, &claims(9)) };
    alone.put(Input::Message { from: id(1), message: Message::Facts(vec![gone]) });
    alone.pass(30_000);
    assert_eq!((alone.stops, alone.starts), (0, 0), "it holds what the other has given up");
}

/// A node that has nobody to probe sleeps for seconds; it took each of these sleeps for a freeze, held back
/// and asked around, for ever.
#[test]
fn a_node_that_is_alone_and_sleeps_long_does_not_take_that_for_a_freeze() {
    let mut alone = Alone::new(1);
    alone.pass(10_000);
    assert!(!alone.node.is_settling());
    let mut longest = 0;
    for _ in 0..100 {
        let before = alone.at;
        alone.at = alone.node.next_wake().0;
        longest = longest.max(alone.at - before);
        alone.put(Input::Tick);
        assert!(!alone.node.is_settling(), "after a sleep of {} ms", alone.at - before);
    }
    let freeze = Settings::lan().timing.freeze.0;
    assert!(longest >= freeze, "it never slept longer than {longest} ms: this shows nothing");
    assert_eq!(alone.warnings, Vec::<String>::new());
    // One that is really late is another matter.
    alone.at = alone.node.next_wake().0 + freeze;
    alone.put(Input::Tick);
    assert!(alone.warnings.iter().any(|text| text.contains("stood still")), "{:?}", alone.warnings);
}

/// All shoal processes were killed while a replica that had lost its slot was being stopped. Started together again,
/// its node had asked one peer, which had just started too, and ran the slot once more before the third had said
/// that it holds it.
#[test]
fn what_had_ended_before_a_restart_is_not_run_again_before_everybody_has_said_what_they_run() {
    let state = ContainerState::Exited { code: 137, out_of_memory: false };
    let ended = Found { state, ..container(1, Epoch(3), TaskId(9)) };
    let mut alone = Alone::with(3, vec![ended], true);
    let settling = Health { settling: true, ..health(&alone.node) };
    for peer in [1, 2] {
        alone.put(Input::Connected { peer: id(peer), addr: addr(peer) });
        let facts = vec![
            SignedFact { owner: id(peer), ..fact(1, 1, FactKey::Profile, &profile(peer)) },
            SignedFact { owner: id(peer), ..fact(1, 2, FactKey::Health, &settling) },
        ];
        alone.put(Input::Message { from: id(peer), message: Message::Facts(facts) });
    }
    alone.put(Input::Message { from: id(1), message: Message::Welcome { facts: 2 } });
    alone.pass(3_000);
    assert!(!alone.node.is_settling());
    assert_eq!(alone.starts, 0, "nobody has said what they run");

    let settled = health(&alone.node);
    for peer in [1, 2] {
        let mut facts =
            vec![SignedFact { owner: id(peer), ..fact(1, 4, FactKey::Health, &settled) }];
        if peer == 2 {
            facts.push(SignedFact { owner: id(peer), ..fact(1, 3, CLAIMS, &claims(5)) });
        }
        alone.put(Input::Message { from: id(peer), message: Message::Facts(facts) });
    }
    alone.pass(20_000);
    assert_eq!(alone.starts, 0, "the third holds it");
}

/// The same, with nobody to hear from: what has ended is run again.
#[test]
fn what_had_ended_before_a_restart_is_run_again_when_nobody_has_it() {
    let state = ContainerState::Exited { code: 137, out_of_memory: false };
    let ended = Found { state, ..container(1, Epoch(3), TaskId(9)) };
    let mut alone = Alone::with(1, vec![ended], true);
    alone.pass(20_000);
    assert_eq!(alone.starts, 1);
}
