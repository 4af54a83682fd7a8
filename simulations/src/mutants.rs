//! Nodes that are broken on purpose, each in one way: a real node that mishears its inputs or whose
//! effects are carried out wrongly. A test runs each and sees the check that is made for it strike; a
//! check that no mutant can wake is worth nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use membership::fact::{FactKey, SignedFact};
use membership::id::{Incarnation, ServiceId, TaskId};
use membership::member::MemberState;
use membership::message::Message;
use membership::record::{Kind, Record};
use membership::time::{Instant, Millis, Now};
use membership::wire;
use node::Settings;
use node::command::Command;
use node::foresight::Picture;
use node::io::{Effect, Input, Notice};
use node::network::NetworkView;
use node::network::picture::Picture as NetworkPicture;
use node::runtime::{ActionId, ActionResult, RuntimeAction, StartTask};
use node::slot::{ClaimPart, Epoch, Phase, Place, TaskState};
use node::views::{AssetView, ConflictView, MemberView, ServiceView, TaskView};
use serde_json::Value;

use crate::core::Core;
use crate::cores;
use crate::world::{Maker, StartArgs};

/// How often one that fidgets does: seldom enough for the cluster to come to rest in between.
const FIDGETS_EVERY: Millis = Millis(170_000);
/// How often one that never rests does: too often for that.
const NEVER_RESTS: Millis = Millis(50_000);
/// Between two times that one which chatters says the same.
const CHATTERS_EVERY: Millis = Millis(45_000);
/// How long one that repeats jobs waits, at least.
const REPEATS_AFTER: Millis = Millis(60_000);
/// Deafness to answers sets in after this: it shall be a change for the worse.
const DEAF_AFTER: Millis = Millis(60_000);

/// The ways of being broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Takes a write for done when it has only been asked for.
    TrustsTheDisk,
    /// Confirms to its peers what it never wrote.
    ConfirmsUnread,
    /// Takes every claim of others for a ready one.
    BelievesClaimsReady,
    /// Never hears of other nodes' claims.
    IgnoresClaims,
    /// Never hears an answer to its probes, nor what others report of theirs.
    HearsNoAnswers,
    /// Takes every stop for done and carries none out.
    NeverStops,
    /// Publishes its claims under ever lower epochs.
    EpochsFall,
    /// Starts every time as its first incarnation.
    ForgetsItsIncarnation,
    /// Declares twice the capacity that it has.
    Boasts,
    /// Never hears that something was removed.
    DeafToRemovals,
    /// Stops and starts what it runs now and then, for no reason.
    Fidgets,
    /// Takes commands and never answers one.
    NeverAnswers,
    /// Finds nothing when it asks its engine what runs.
    ForgetsContainers,
    /// Does not see where a service may run.
    OverlooksPlacement,
    /// Does not see that a service must not run twice.
    OverlooksPartition,
    /// Keeps no edit that lost.
    HidesConflicts,
    /// Says the same again and again.
    Chatters,
    /// Starts what others run when it hears that somebody is down.
    MovesForNothing,
    /// Refuses nobody.
    KeepsTheRemoved,
    /// Goes on with the first picture of the networks.
    KeepsItsPicture,
    /// Starts tasks without the addresses that they are to have.
    OverlooksNetworks,
    /// Never hears which addresses others have.
    DeafToBlocks,
    /// Takes records whose time has not come for good ones.
    BelievesTheFuture,
    /// Takes every start for done and carries none out.
    NeverStarts,
    /// Never evens load out.
    NeverEvensOut,
    /// Stops what it runs every minute, and starts it again.
    NeverRests,
    /// Starts tasks without the files that they are to have.
    OverlooksFiles,
    /// Runs a slot of a job once more after it has ended.
    RepeatsJobs,
}

#[derive(Debug)]
struct Mutant {
    core: Box<dyn Core>,
    how: Mutation,
    /// Falls with every publication.
    epoch: u64,
    /// When it was first asked anything, and when it last fidgeted.
    began: Option<Instant>,
    fidgeted: Instant,
    /// Effects of the start that have follow-ups of their own.
    fed: VecDeque<Input>,
    /// What was taken out of the specs that any of them was given, by the service's name.
    overlooked: Rc<RefCell<BTreeMap<String, Value>>>,
    last_facts: Option<Effect>,
    /// The latest start of each service, and all slots that it has run.
    starts: BTreeMap<ServiceId, StartTask>,
    /// The first picture of networks that it drew.
    first_picture: RefCell<Option<Arc<NetworkPicture>>>,
    ran: BTreeSet<Place>,
}

/// Nodes that are all broken in one way.
pub fn mutant(how: Mutation, mut settings: Settings) -> Maker {
    if how == Mutation::NeverEvensOut {
        settings.rebalance_every = Millis::ZERO;
    }
    let real = cores::real(settings);
    let overlooked: Rc<RefCell<BTreeMap<String, Value>>> = Rc::default();
    Box::new(move |mut args: StartArgs| {
        match how {
            Mutation::ForgetsItsIncarnation => args.incarnation = Incarnation(1),
            Mutation::Boasts => args.profile.capacity.cpu_milli *= 2,
            _ => {}
        }
        let now = args.now;
        let args_now = now.at;
        let (core, effects) = real(args);
        let mut mutant = Mutant {
            core,
            how,
            epoch: u64::MAX / 2,
            began: None,
            fidgeted: args_now,
            fed: VecDeque::new(),
            overlooked: overlooked.clone(),
            last_facts: None,
            starts: BTreeMap::new(),
            ran: BTreeSet::new(),
            first_picture: RefCell::new(None),
        };
        let effects = mutant.say(now, effects);
        (Box::new(mutant) as Box<dyn Core>, effects)
    })
}

impl Mutant {
    /// What it hears of an input.
    fn hear(&self, input: Input, deaf: bool) -> Option<Input> {
        match (self.how, input) {
            (Mutation::HearsNoAnswers, input) if !deaf => Some(input),
            (_, Input::Fact(fact)) => self.hear_fact(fact).map(Input::Fact),
            (_, Input::Message { from, message: Message::Facts(facts) }) => {
                let facts = facts.into_iter().filter_map(|fact| self.hear_fact(fact)).collect();
                Some(Input::Message { from, message: Message::Facts(facts) })
            }
            (Mutation::TrustsTheDisk, Input::Persisted { .. }) => None,
            (Mutation::ForgetsContainers, Input::Done { id, result: ActionResult::Listed(_) }) => {
                Some(Input::Done { id, result: ActionResult::Listed(Vec::new()) })
            }
            (
                Mutation::HidesConflicts,
                Input::Message { from, message: Message::Records { mut records, confirm } },
            ) => {
                records.retain(|record| record.key.kind != Kind::Conflict);
                Some(Input::Message { from, message: Message::Records { records, confirm } })
            }
            (
                Mutation::HearsNoAnswers,
                Input::Message {
                    message: Message::Ack { .. } | Message::IndirectAck { .. }, ..
                },
            ) => None,
            (
                Mutation::DeafToRemovals,
                Input::Message { from, message: Message::Records { mut records, confirm } },
            ) => {
                records.retain(|record| !record.is_tombstone());
                Some(Input::Message { from, message: Message::Records { records, confirm } })
            }
            (_, input) => Some(input),
        }
    }

    fn confirms_blindly(&self, records: &[Record]) -> bool {
        match self.how {
            Mutation::ConfirmsUnread => true,
            Mutation::DeafToRemovals => records.iter().any(Record::is_tombstone),
            _ => false,
        }
    }

    fn hear_fact(&self, mut fact: SignedFact) -> Option<SignedFact> {
        let claims = matches!(fact.key, FactKey::Claims { .. });
        match self.how {
            Mutation::IgnoresClaims if claims => None,
            Mutation::HearsNoAnswers if fact.key == FactKey::Edges => None,
            Mutation::DeafToBlocks if matches!(fact.key, FactKey::Blocks { .. }) => None,
            Mutation::BelievesClaimsReady if claims => {
                rewrite(&mut fact, |part| {
                    part.claims.iter_mut().for_each(|claim| claim.phase = Phase::Ready)
                });
                Some(fact)
            }
            _ => Some(fact),
        }
    }

    /// What becomes of its effects, those included that follow from what it is told at once.
    fn say(&mut self, now: Now, effects: Vec<Effect>) -> Vec<Effect> {
        let mut said = Vec::new();
        let mut waiting: VecDeque<Effect> = effects.into();
        loop {
            while let Some(effect) = waiting.pop_front() {
                said.extend(self.carry_out(effect));
            }
            let Some(input) = self.fed.pop_front() else { return said };
            waiting.extend(self.core.handle(now, input));
        }
    }

    fn carry_out(&mut self, effect: Effect) -> Option<Effect> {
        match (self.how, effect) {
            (Mutation::TrustsTheDisk, Effect::Persist { id, records }) => {
                self.fed.push_back(Input::Persisted { id, result: Ok(()) });
                Some(Effect::Persist { id, records })
            }
            (Mutation::NeverAnswers, Effect::Reply { .. }) => None,
            (Mutation::KeepsTheRemoved, Effect::Refuse(_)) => Some(Effect::Refuse(Vec::new())),
            (Mutation::HidesConflicts, Effect::Persist { id, mut records }) => {
                records.retain(|record| record.key.kind != Kind::Conflict);
                Some(Effect::Persist { id, records })
            }
            // Nor does it tell of what it does not keep: that would be another fault.
            (
                Mutation::HidesConflicts,
                Effect::Send { to, message: Message::Records { mut records, confirm } },
            ) => {
                records.retain(|record| record.key.kind != Kind::Conflict);
                (!records.is_empty())
                    .then_some(Effect::Send { to, message: Message::Records { records, confirm } })
            }
            (Mutation::Chatters, Effect::Send { to, message: Message::Facts(facts) }) => {
                let said = Effect::Send { to, message: Message::Facts(facts) };
                self.last_facts = Some(said.clone());
                Some(said)
            }
            (Mutation::MovesForNothing | Mutation::RepeatsJobs, Effect::Runtime { id, action }) => {
                if let RuntimeAction::Start(start) = &action {
                    self.ran.insert(Place { service: start.service, slot: start.slot });
                    self.starts.insert(start.service, (**start).clone());
                }
                Some(Effect::Runtime { id, action })
            }
            (
                Mutation::OverlooksFiles,
                Effect::Runtime { id, action: RuntimeAction::Start(mut start) },
            ) => {
                start.files = Arc::default();
                Some(Effect::Runtime { id, action: RuntimeAction::Start(start) })
            }
            (
                Mutation::OverlooksNetworks,
                Effect::Runtime { id, action: RuntimeAction::Start(mut start) },
            ) => {
                start.networks.clear();
                Some(Effect::Runtime { id, action: RuntimeAction::Start(start) })
            }
            (Mutation::NeverStarts, Effect::Runtime { action: RuntimeAction::Start(_), .. }) => {
                None
            }
            (Mutation::NeverStops, Effect::Runtime { id, action: RuntimeAction::Stop { .. } }) => {
                self.fed.push_back(Input::Done { id, result: ActionResult::Stopped });
                None
            }
            (Mutation::EpochsFall, Effect::Publish(mut fact))
                if matches!(fact.key, FactKey::Claims { .. }) =>
            {
                self.epoch -= 1;
                let epoch = Epoch(self.epoch);
                rewrite(&mut fact, |part| {
                    part.claims.iter_mut().for_each(|claim| claim.epoch = epoch)
                });
                Some(Effect::Publish(fact))
            }
            (_, effect) => Some(effect),
        }
    }

    /// Takes a part out of the spec that a client sends, and remembers it.
    fn overlook(&mut self, command: &mut Command) {
        let (Command::CreateService { spec, .. } | Command::UpdateService { spec, .. }) = command
        else {
            return;
        };
        let name = spec["Name"].as_str().unwrap_or_default().to_owned();
        let part = match self.how {
            Mutation::OverlooksPlacement => spec["TaskTemplate"]["Placement"].take(),
            Mutation::OverlooksPartition => spec["Labels"].take(),
            _ => return,
        };
        self.overlooked.borrow_mut().insert(name, part);
    }

    /// A start of what another node runs.
    fn move_something(&self, now: Now) -> Option<Effect> {
        let others = self.core.members().into_iter().filter(|member| !member.is_me);
        let alive = others.filter(|member| member.state == MemberState::Alive);
        let alive: BTreeSet<_> = alive.map(|member| member.id).collect();
        let theirs = |task: &TaskView| {
            let place = Place { service: task.service, slot: task.slot() };
            task.node.is_some_and(|node| alive.contains(&node))
                && task.state() == TaskState::Running
                && !self.ran.contains(&place)
                && self.starts.contains_key(&task.service)
        };
        let task = self.core.tasks().into_iter().find(theirs)?;
        let mut start = self.starts.get(&task.service)?.clone();
        start.slot = task.slot();
        start.task = TaskId(u128::MAX - u128::from(now.at.0));
        start.name = format!("{}.{}", start.service_name, start.task);
        let action = RuntimeAction::Start(Box::new(start));
        Some(Effect::Runtime { id: ActionId(u64::MAX - now.at.0), action })
    }

    /// A start of what it ran once and has ended.
    fn repeat(&mut self, now: Now) -> Option<Effect> {
        if now.at.since(self.fidgeted) < REPEATS_AFTER {
            return None;
        }
        self.fidgeted = now.at;
        let done = |task: &TaskView| task.state() == TaskState::Complete;
        let task = self.core.tasks().into_iter().find(|task| {
            let place = Place { service: task.service, slot: task.slot() };
            done(task) && self.ran.contains(&place)
        })?;
        let mut start = self.starts.get(&task.service)?.clone();
        start.slot = task.slot();
        start.task = TaskId(u128::MAX - u128::from(now.at.0));
        start.name = format!("{}.{}", start.service_name, start.task);
        let action = RuntimeAction::Start(Box::new(start));
        Some(Effect::Runtime { id: ActionId(u64::MAX - now.at.0), action })
    }

    fn chatter(&mut self, now: Now) -> Option<Effect> {
        if now.at.since(self.fidgeted) < CHATTERS_EVERY {
            return None;
        }
        self.fidgeted = now.at;
        self.last_facts.clone()
    }

    fn fidget(&mut self, now: Now) -> Option<Effect> {
        let every = match self.how {
            Mutation::Fidgets => FIDGETS_EVERY,
            Mutation::NeverRests => NEVER_RESTS,
            _ => return None,
        };
        if now.at.since(self.fidgeted) < every {
            return None;
        }
        self.fidgeted = now.at;
        let me = self.core.members().into_iter().find(|member| member.is_me)?.id;
        let mine = |task: &TaskView| task.node == Some(me) && task.status.container.is_some();
        let task = self.core.tasks().into_iter().find(mine)?;
        let container = task.status.container.clone()?;
        let action = RuntimeAction::Stop { task: task.id(), container, grace: Millis(0) };
        Some(Effect::Runtime { id: ActionId(u64::MAX - now.at.0), action })
    }
}

fn rewrite(fact: &mut SignedFact, change: impl FnOnce(&mut ClaimPart)) {
    if let Some(mut part) =
        fact.value.as_ref().and_then(|value| wire::decode::<ClaimPart>(value).ok())
    {
        change(&mut part);
        fact.value = wire::encode(&part).ok();
    }
}

impl Core for Mutant {
    fn handle(&mut self, now: Now, mut input: Input) -> Vec<Effect> {
        if let Input::Command { command, .. } = &mut input {
            self.overlook(command);
        }
        if self.how == Mutation::BelievesTheFuture
            && let Input::Message { message: Message::Records { records, .. }, .. } = &mut input
        {
            for record in records {
                record.stamp.ms = record.stamp.ms.min(now.wall.0);
            }
        }
        let mut effects = Vec::new();
        let began = *self.began.get_or_insert(now.at);
        let deaf = now.at.since(began) > DEAF_AFTER;
        if let Input::Message { from, message: Message::Records { records, confirm: true } } =
            &input
            && self.confirms_blindly(records)
        {
            let names =
                records.iter().map(|record| (record.key, record.stamp, record.writer)).collect();
            effects.push(Effect::Send { to: *from, message: Message::Stored(names) });
        } else if let Some(input) = self.hear(input, deaf) {
            effects = self.core.handle(now, input);
        }
        // From the first one that it drew.
        drop(self.network_picture());
        effects.extend(self.fidget(now));
        if self.how == Mutation::RepeatsJobs {
            effects.extend(self.repeat(now));
        }
        if self.how == Mutation::Chatters {
            effects.extend(self.chatter(now));
        }
        let down = |effect: &Effect| {
            matches!(effect, Effect::Notice(Notice::Member { to: MemberState::Down, .. }))
        };
        if self.how == Mutation::MovesForNothing && effects.iter().any(down) {
            effects.extend(self.move_something(now));
        }
        self.say(now, effects)
    }

    fn next_wake(&self) -> Instant {
        self.core.next_wake()
    }

    fn services(&self) -> Vec<ServiceView> {
        let mut services = self.core.services();
        for view in &mut services {
            let overlooked = self.overlooked.borrow();
            let Some(part) = overlooked.get(&view.name) else { continue };
            let mut spec = (*view.spec).clone();
            match self.how {
                Mutation::OverlooksPlacement => spec["TaskTemplate"]["Placement"] = part.clone(),
                _ => spec["Labels"] = part.clone(),
            }
            view.spec = Arc::new(spec);
        }
        services
    }

    fn members(&self) -> Vec<MemberView> {
        self.core.members()
    }

    fn tasks(&self) -> Vec<TaskView> {
        self.core.tasks()
    }

    fn conflicts(&self) -> Vec<ConflictView> {
        self.core.conflicts()
    }

    fn assets(&self) -> Vec<AssetView> {
        self.core.assets()
    }

    fn picture(&self) -> Picture {
        self.core.picture()
    }

    fn kept_away(&self) -> BTreeSet<Place> {
        self.core.kept_away()
    }

    fn networks(&self) -> Vec<NetworkView> {
        self.core.networks()
    }

    fn network_picture(&self) -> Arc<NetworkPicture> {
        let picture = self.core.network_picture();
        if self.how != Mutation::KeepsItsPicture || picture.networks.is_empty() {
            return picture;
        }
        Arc::clone(self.first_picture.borrow_mut().get_or_insert(picture))
    }
}
