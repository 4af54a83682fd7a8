//! Asking before acting: a node that starts, thaws or was cut off first learns what the others run.
//!
//! It is settled when its runtime has listed what it runs and a peer has told it everything that peer
//! knows; or when there is no peer to ask; or after a bound, because the last survivor must go on.

use std::collections::BTreeMap;

use membership::id::NodeId;
use membership::member::MemberState;
use membership::time::{Instant, Millis};

use crate::members::Members;

#[derive(Clone, Debug)]
pub(crate) struct Settling {
    on: bool,
    /// The bound.
    until: Instant,
    /// The runtime has answered.
    pub listed: bool,
    /// What each peer said it would tell, and how much of it has come.
    answers: BTreeMap<NodeId, Answer>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Answer {
    announced: Option<u32>,
    heard: u32,
}

impl Settling {
    pub(crate) fn at_start(at: Instant, bound: Millis) -> Self {
        Self { on: true, until: at + bound, listed: false, answers: BTreeMap::new() }
    }

    /// Once more, from the beginning; the runtime need not be asked again.
    pub(crate) fn again(&mut self, at: Instant, bound: Millis) {
        self.on = true;
        self.until = at + bound;
        self.answers.clear();
    }

    pub(crate) fn on(&self) -> bool {
        self.on
    }

    pub(crate) fn next_wake(&self) -> Option<Instant> {
        self.on.then_some(self.until)
    }

    /// Facts came from a peer.
    pub(crate) fn heard(&mut self, from: NodeId, facts: u32) {
        if self.on {
            let answer = self.answers.entry(from).or_default();
            answer.heard = answer.heard.saturating_add(facts);
        }
    }

    /// A peer said how many facts it tells.
    pub(crate) fn announced(&mut self, from: NodeId, facts: u32) {
        if self.on {
            self.answers.entry(from).or_default().announced = Some(facts);
        }
    }

    /// True once, when the asking is over.
    pub(crate) fn advance(&mut self, me: NodeId, members: &Members, at: Instant) -> bool {
        if !self.on {
            return false;
        }
        let told = self.answers.values().any(|a| a.announced.is_some_and(|n| a.heard >= n));
        let nobody_to_ask = members
            .iter()
            .filter(|(id, known)| *id != me && known.belongs())
            .all(|(_, known)| known.state == MemberState::Down);
        let over = self.listed && (told || nobody_to_ask || at >= self.until);
        if over {
            self.on = false;
        }
        over
    }
}
