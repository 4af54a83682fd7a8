//! What a membership run takes down while it goes: who heard the news when, and who called whom down.

use std::collections::BTreeMap;

use membership::fact::{FactKey, SignedFact};
use membership::id::{Incarnation, NodeId};
use membership::member::MemberState;
use membership::message::Message;
use node::io::Input;

use super::net::Ix;

/// One fact on its way to everybody.
#[derive(Debug)]
pub(crate) struct News {
    pub(crate) owner: NodeId,
    key: FactKey,
    order: (Incarnation, u64),
    pub(crate) since: u64,
    /// When each node heard it first, by the way it came.
    pub(crate) pushed: BTreeMap<Ix, u64>,
    pub(crate) gossiped: BTreeMap<Ix, u64>,
}

impl News {
    pub(crate) fn new(fact: &SignedFact, since: u64) -> Self {
        Self {
            owner: fact.owner,
            key: fact.key,
            order: (fact.incarnation, fact.seq),
            since,
            pushed: BTreeMap::new(),
            gossiped: BTreeMap::new(),
        }
    }

    fn is_it(&self, fact: &SignedFact) -> bool {
        fact.owner == self.owner
            && fact.key == self.key
            && (fact.incarnation, fact.seq) >= self.order
    }

    /// Takes down when a node other than the owner first hears it, and which way.
    pub(crate) fn note(&mut self, ix: Ix, input: &Input, now: u64) {
        match input {
            Input::Message { message: Message::Facts(facts), .. }
                if facts.iter().any(|fact| self.is_it(fact)) =>
            {
                self.pushed.entry(ix).or_insert(now);
            }
            Input::Fact(fact) if self.is_it(fact) => {
                self.gossiped.entry(ix).or_insert(now);
            }
            _ => {}
        }
    }
}

/// What the run has seen of verdicts.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Observers and when each of them called a crashed node down.
    pub(crate) right: BTreeMap<Ix, BTreeMap<Ix, u64>>,
    /// Times that an observer called a living node down.
    pub(crate) wrong: u64,
    /// Times that an observer called a living node unstable that it had called alive.
    pub(crate) doubts: u64,
}

impl Verdicts {
    /// `about` is whom it concerns, and whether that one has crashed.
    pub(crate) fn note(
        &mut self,
        observer: Ix,
        (about, crashed): (Ix, bool),
        from: Option<MemberState>,
        to: MemberState,
        now: u64,
    ) {
        if crashed {
            if to == MemberState::Down {
                self.right.entry(about).or_default().entry(observer).or_insert(now);
            }
        } else if to == MemberState::Down {
            self.wrong += 1;
        } else if to == MemberState::Unstable && from == Some(MemberState::Alive) {
            self.doubts += 1;
        }
    }
}
