//! Nodes that are broken on purpose, each in one way: a real node that mishears its inputs or whose
//! effects are carried out wrongly. A test runs each and sees the check that is made for it strike; a
//! check that no mutant can wake is worth nothing.

use std::collections::VecDeque;

use membership::fact::{FactKey, SignedFact};
use membership::id::Incarnation;
use membership::message::Message;
use membership::record::Record;
use membership::time::{Instant, Millis, Now};
use membership::wire;
use node::Settings;
use node::foresight::Picture;
use node::io::{Effect, Input};
use node::runtime::{ActionId, ActionResult, RuntimeAction};
use node::slot::{ClaimPart, Epoch, Phase};
use node::views::{ConflictView, MemberView, ServiceView, TaskView};

use crate::core::Core;
use crate::cores;
use crate::world::{Maker, StartArgs};

/// How often one that fidgets does: seldom enough for the cluster to come to rest in between.
const FIDGETS_EVERY: Millis = Millis(170_000);
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
}

/// Nodes that are all broken in one way.
pub fn mutant(how: Mutation, settings: Settings) -> Maker {
    let real = cores::real(settings);
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

    fn fidget(&mut self, now: Now) -> Option<Effect> {
        if self.how != Mutation::Fidgets || now.at.since(self.fidgeted) < FIDGETS_EVERY {
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
    fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
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
        effects.extend(self.fidget(now));
        self.say(now, effects)
    }

    fn next_wake(&self) -> Instant {
        self.core.next_wake()
    }

    fn services(&self) -> Vec<ServiceView> {
        self.core.services()
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

    fn picture(&self) -> Picture {
        self.core.picture()
    }
}
