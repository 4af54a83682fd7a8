//! Nodes that have heard the same believe the same: one view for all of them.
//!
//! A [`Cohort`] keeps what its nodes have heard, and what follows from it, once. Each node takes its turns
//! with that view in place of one of its own ([`Node::handle_in`]): the code that decides is the same. What a
//! node does itself stays on its own side until the cohort hears of it as a fact, like everybody's.
//!
//! The plan of a service is a function of the view, so it is made once for all. The cohort says which nodes
//! have to look at which service: those whose turn comes, and those that dispute a slot.
//!
//! This is how ten thousand nodes fit one machine in the simulator; the daemon's node keeps its view alone.

use std::collections::{BTreeMap, BTreeSet};

use membership::fact::SignedFact;
use membership::id::{CellId, NodeId, ServiceId};
use membership::member::MemberState;
use membership::record::Record;
use membership::time::{Instant, Millis, Now};
use membership::wire::WireError;

use crate::agenda::Agenda;
use crate::facts::Sign;
use crate::io::{Effect, Input};
use crate::node::{Node, Start};
use crate::settings::Settings;
use crate::slot::{Place, Slot};
use crate::spec::ServiceSpec;
use crate::standing::Open;
use crate::view::View;

/// Slots whose turn comes within this time are called together.
const AHEAD: Millis = Millis(500);

/// What several nodes believe.
#[derive(Debug)]
pub struct Cohort {
    view: Box<View>,
    settings: Settings,
    /// When candidates of a service are to be called next.
    agenda: Agenda,
}

/// Who has to look at what.
pub type Calls = BTreeMap<NodeId, BTreeSet<ServiceId>>;

impl Cohort {
    /// Nodes that have these records on their disks and have heard nothing yet.
    pub fn new(cell: CellId, records: Vec<Record>, settings: Settings, now: Now) -> Self {
        let view = View::new(None, cell, records, &settings, now);
        Self { view: Box::new(view), settings, agenda: Agenda::default() }
    }

    /// All nodes of the cohort hear a verified fact.
    ///
    /// # Errors
    /// When its value cannot be read; what its owner said before stands.
    pub fn hear(&mut self, fact: &SignedFact, now: Now) -> Result<(), WireError> {
        if self.view.facts.hear(fact) {
            self.view.take_fact(fact, now)?;
        }
        Ok(())
    }

    /// Brings what follows from the news up to date; says who has to look at what.
    pub fn update(&mut self, now: Now) -> Calls {
        if self.view.members_moved {
            self.view.seat_jury();
        }
        self.view.forget_earlier(now.at);
        self.view.judge(now);
        self.view.take_look_everywhere();
        self.view.refresh(now.at);
        let mut calls = Calls::new();
        for place in std::mem::take(&mut self.view.disputes) {
            for (node, _) in self.view.claims.on(place) {
                calls.entry(*node).or_default().insert(place.service);
            }
        }
        for id in self.view.take_news() {
            self.view.review_plan(id);
            self.plan_calls(id, now.at);
        }
        for id in self.agenda.take_due(now.at) {
            self.call(id, now.at, &mut calls);
        }
        calls
    }

    /// When [`Self::update`] wants to be called again even without news.
    pub fn next_call(&self) -> Option<Instant> {
        let grace = self.view.jury.next_wake();
        self.agenda.next().into_iter().chain(grace).min()
    }

    /// How many members are held for being in this state.
    pub fn members_that_are(&self, state: MemberState) -> usize {
        self.view.members.iter().filter(|(_, known)| known.state == state).count()
    }

    /// Slots that nobody is known to hold, over all services.
    pub fn open_slots(&self) -> usize {
        let standings = self.view.restless().filter_map(|id| self.view.standing(id));
        standings.map(|standing| standing.open().count()).sum()
    }

    fn plan_calls(&mut self, id: ServiceId, at: Instant) {
        match self.turns(id, at).map(|(_, due)| due).min() {
            None => self.agenda.forget(id),
            // Not before now, and not more often than slots are looked ahead for.
            Some(due) => {
                let next = Instant(due.0.saturating_sub(AHEAD.0)).max(at);
                self.agenda.no_later_than(id, next);
            }
        }
    }

    /// The open slots of a service with the time at which the first candidate may take each.
    fn turns(&self, id: ServiceId, at: Instant) -> impl Iterator<Item = (Open, Instant)> + '_ {
        let spec = self.view.services.get(id).and_then(crate::services::Service::active);
        let standing = self.view.standing(id);
        let open = spec
            .zip(standing)
            .into_iter()
            .flat_map(move |(spec, standing)| standing.open().map(move |open| (open, spec)));
        open.map(move |(open, spec)| (open, self.opens_at(id, spec, open, at)))
    }

    fn opens_at(&self, id: ServiceId, spec: &ServiceSpec, open: Open, at: Instant) -> Instant {
        let place = Place { service: id, slot: Slot::Index(open.index) };
        self.view.opens_at(place, spec, open, self.settings.fence_wait, at)
    }

    /// Calls the candidates of the slots whose turn has come, and looks again while nobody takes them.
    fn call(&mut self, id: ServiceId, at: Instant, calls: &mut Calls) {
        let turns: Vec<(Open, Instant)> = self.turns(id, at).collect();
        let soon: Vec<u32> = turns
            .iter()
            .filter(|(_, due)| *due <= at + AHEAD)
            .map(|(open, _)| open.index)
            .collect();
        if !soon.is_empty() {
            for node in self.view.candidates(id, &soon, at) {
                calls.entry(node).or_default().insert(id);
            }
        }
        let later = turns.iter().map(|(_, due)| *due).filter(|due| *due > at + AHEAD).min();
        let later = later.map(|due| Instant(due.0 - AHEAD.0));
        let again = (!soon.is_empty()).then_some(at + self.settings.stagger);
        if let Some(next) = later.into_iter().chain(again).min() {
            self.agenda.no_later_than(id, next);
        }
    }
}

impl Node {
    /// A node that shares the view of a cohort. Otherwise as [`Node::new`]; `start.records` are the cohort's
    /// and stay empty.
    pub fn joining(
        start: Start,
        signer: Box<dyn Sign>,
        cohort: &mut Cohort,
    ) -> (Self, Vec<Effect>) {
        let empty = View::new(None, start.cell, Vec::new(), &start.settings, start.now);
        let mut node = Self::with(start, signer, Box::new(empty));
        let effects = node.in_cohort(cohort, Self::begin);
        (node, effects)
    }

    /// [`Node::handle_all`] for a node that shares the view of a cohort, always of the same one.
    pub fn handle_in(
        &mut self,
        cohort: &mut Cohort,
        now: Now,
        inputs: impl IntoIterator<Item = Input>,
    ) -> Vec<Effect> {
        self.in_cohort(cohort, |node| node.handle_all(now, inputs))
    }

    /// These services concern this node: it looks at them when it handles its next input.
    pub fn call(&mut self, services: impl IntoIterator<Item = ServiceId>) {
        self.dirty.extend(services);
    }

    /// When it wanted a tick, when it was last handled: [`Self::next_wake`] without working it out again.
    pub fn tick_wanted(&self) -> Instant {
        self.timers.tick_wanted
    }

    /// How many slots it holds.
    pub fn holds(&self) -> usize {
        self.local.held.len()
    }

    fn in_cohort<T>(&mut self, cohort: &mut Cohort, f: impl FnOnce(&mut Self) -> T) -> T {
        std::mem::swap(&mut self.view, &mut cohort.view);
        let result = f(self);
        std::mem::swap(&mut self.view, &mut cohort.view);
        result
    }
}
