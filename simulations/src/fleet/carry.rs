//! What the cores of a large cluster want done, carried out: probes are answered by hosts that run, news goes
//! to the cohorts, orders go to the engines, and the checks see all of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use membership::fact::SignedFact;
use membership::id::{NodeId, ServiceId, TaskId};
use membership::message::Message;
use node::io::{Effect, Input, Notice};
use node::runtime::{ActionId, RuntimeAction};
use node::slot::{Place, TaskState};

use super::boot::Plot;
use super::engine::Call;
use super::news;
use super::world::{Event, Fleet};
use crate::engine::EngineManner;
use crate::time::Span;
use crate::world::net::PACKET_BYTES;

/// To how many others each node hands news that is new to it: the core's own number.
const HANDED_ON: u64 = 4;
/// A probe, its answer and what asks for help are about this long, with their frame.
const PROBE_BYTES: u64 = 12 + PACKET_BYTES;

impl Fleet {
    pub(super) fn handle(&mut self, n: usize, inputs: Vec<Input>) {
        let now = self.moment();
        let host = &mut self.hosts[n];
        let Some(node) = &mut host.node else { return };
        let effects = node.handle_in(&mut self.cohorts[host.cohort].cohort, now, inputs);
        let wanted = node.tick_wanted();
        self.carry_out(n, effects);
        self.plan_wake_at(n, wanted);
    }

    pub(super) fn carry_out(&mut self, n: usize, effects: Vec<Effect>) {
        let mut asked = false;
        let mut acts = false;
        for effect in effects {
            match effect {
                Effect::Send { to, message } => asked |= self.send(n, to, message),
                Effect::Publish(fact) => self.publish(n, fact),
                Effect::Runtime { id, action } => {
                    self.order(n, id, &action);
                    acts = true;
                }
                Effect::Persist { id, .. } => {
                    let written = Input::Persisted { id, result: Ok(()) };
                    self.hosts[n].answers.push(written);
                    asked = true;
                }
                Effect::RaiseIncarnation { .. } => {
                    self.checks.found(
                        self.now,
                        "verdicts",
                        format!("h{n} is called down and runs"),
                    );
                }
                Effect::Notice(Notice::HoldingBack { on: true, .. }) => _ = self.doubted.insert(n),
                Effect::Notice(Notice::Task {
                    service,
                    slot,
                    task,
                    state: TaskState::Shutdown,
                    ..
                }) => self.gives_up(n, Place { service, slot }, task),
                _ => {}
            }
        }
        if asked {
            // There and back: as slow as the slower half of two links.
            let after = self.links.tailed(Span::us(200), Span::ms(4));
            self.queue.push(self.now + after, Event::Answers { host: n });
        }
        if acts {
            self.begin_calls(n);
        }
    }

    /// A message: probes are answered by hosts that run. True if an answer comes back.
    fn send(&mut self, n: usize, to: NodeId, message: Message) -> bool {
        let runs = |fleet: &Self, id: NodeId| {
            fleet.numbers.get(&id).is_some_and(|n| fleet.hosts[*n].node.is_some())
        };
        let answer = match message {
            Message::Ping { seq } => {
                self.sent.messages += 1;
                self.sent.bytes += PROBE_BYTES;
                runs(self, to).then_some(Message::Ack { seq })
            }
            Message::PingFor { seq, target } => {
                self.sent.messages += 2;
                self.sent.bytes += 2 * PROBE_BYTES;
                (runs(self, to) && runs(self, target))
                    .then_some(Message::IndirectAck { seq, target })
            }
            // What is pushed is counted where it is published: all hand it on.
            _ => None,
        };
        let Some(message) = answer else { return false };
        self.sent.messages += 1;
        self.sent.bytes += PROBE_BYTES;
        self.hosts[n].answers.push(Input::Message { from: to, message });
        true
    }

    fn publish(&mut self, n: usize, fact: SignedFact) {
        self.trace.note(self.now, false, format_args!("h{n}p{:?}{}", fact.key, fact.seq));
        let bytes = fact.value.as_ref().map_or(0, Vec::len) as u64 + 120 + PACKET_BYTES;
        self.sent.messages += HANDED_ON * self.alive;
        self.sent.bytes += HANDED_ON * self.alive * bytes;
        self.cost.news(self.now, bytes);
        let fact = Rc::new(fact);
        for cohort in 0..self.cohorts.len() {
            let delay = news::delay(&mut self.gossip);
            let at = self.cohorts[cohort].inbox.put(self.now, delay, Rc::clone(&fact));
            self.plan_look(cohort, at);
        }
    }

    fn order(&mut self, n: usize, id: ActionId, action: &RuntimeAction) {
        // Stops are noted when they are decided: see `gives_up`.
        if let RuntimeAction::Start(start) = action {
            let place = Place { service: start.service, slot: start.slot };
            let spot = self.spot(place);
            self.trace.note(self.now, true, format_args!("h{n} starts {spot:?}"));
            self.checks.ordered(self.now, n, spot);
        }
        self.hosts[n].engine.act(id, action);
    }

    fn gives_up(&mut self, n: usize, place: Place, task: TaskId) {
        let engine = &mut self.hosts[n].engine;
        let starting = engine.starts(task).is_some_and(|container| !container.given_up);
        let served = engine.give_up(task).is_some();
        if served || starting {
            let spot = self.spot(place);
            self.trace.note(self.now, true, format_args!("h{n} gives {spot:?} up"));
            self.checks.stopped(self.now, n, spot, served);
        }
    }

    fn begin_calls(&mut self, n: usize) {
        let begun = self.hosts[n].engine.begin(EngineManner::default(), &mut self.engines);
        for (takes, action, call) in begun {
            self.queue.push(self.now + takes, Event::Called { host: n, action, call });
        }
    }

    pub(super) fn called(&mut self, n: usize, action: ActionId, call: Call) {
        if self.hosts[n].node.is_none() {
            return;
        }
        if let Call::Start(task) = call
            && let Some(container) = self.hosts[n].engine.starts(task).filter(|c| !c.given_up)
        {
            let spot = self.spot(container.place);
            self.trace.note(self.now, true, format_args!("h{n} serves {spot:?}"));
            self.checks.serves(self.now, spot);
        }
        let mut engine = std::mem::take(&mut self.hosts[n].engine);
        let result = engine.end(call, |place| name_in(&self.services, &self.plot, place));
        self.hosts[n].engine = engine;
        self.begin_calls(n);
        self.handle(n, vec![Input::Done { id: action, result }]);
    }
}

/// What was published, and the rest.
pub(super) fn published(effects: Vec<Effect>) -> (Vec<SignedFact>, Vec<Effect>) {
    let (mut facts, mut rest) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Publish(fact) => facts.push(fact),
            // News goes to everybody at once here.
            Effect::Send { message: Message::Facts(_), .. } => {}
            other => rest.push(other),
        }
    }
    (facts, rest)
}

pub(super) fn name_in(services: &BTreeMap<ServiceId, usize>, plot: &Plot, place: Place) -> String {
    let service = services.get(&place.service).map(|n| &plot.services[*n]);
    service.map(|service| service.name.clone()).unwrap_or_default()
}
