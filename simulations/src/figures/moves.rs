//! Why replicas were started: what had to be, and what was more than that.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::member::MemberState;
use node::slot::{Place, TemplateId};
use serde::{Deserialize, Serialize};

use crate::checks::Picture;
use crate::engine::Became;
use crate::seen::Seen;

/// Starts by their reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moves {
    /// The slot was new.
    pub created: u64,
    /// Nothing served the slot any more.
    pub lost: u64,
    /// The slot was to run another version.
    pub updated: u64,
    /// The holder was being drained.
    pub drained: u64,
    /// A start for the same reason had not led to anything.
    pub again: u64,
    /// Another host served the slot: load was evened out, or views differed.
    pub elsewhere: u64,
}

impl Moves {
    pub fn all(&self) -> u64 {
        self.least() + self.again + self.elsewhere
    }

    /// What any orchestrator would have had to start.
    pub fn least(&self) -> u64 {
        self.created + self.lost + self.updated + self.drained
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Classified {
    pub(super) moves: Moves,
    /// What each slot that was ever started was last made from.
    templates: BTreeMap<Place, TemplateId>,
    /// Slots that were started and have not been ready since.
    tried: BTreeSet<Place>,
    draining: BTreeSet<NodeId>,
}

impl Classified {
    pub(super) fn see(&mut self, seen: &Seen, picture: &Picture) {
        match seen {
            Seen::Verdict { about, to, .. } => {
                if *to == MemberState::Draining {
                    self.draining.insert(*about);
                } else {
                    self.draining.remove(about);
                }
            }
            Seen::Container { place, what: Became::Ready, .. } => {
                self.tried.remove(place);
            }
            Seen::Start { place, template, .. } => {
                let before = self.templates.insert(*place, *template);
                let holders = picture.holders(*place);
                let moved_on = before.is_some_and(|before| before != *template);
                let drains = holders.iter().any(|host| {
                    picture.processes.get(host).is_some_and(|id| self.draining.contains(id))
                });
                let again = !self.tried.insert(*place);
                let count = match before {
                    None => &mut self.moves.created,
                    Some(_) if moved_on => &mut self.moves.updated,
                    Some(_) if drains => &mut self.moves.drained,
                    Some(_) if !holders.is_empty() => &mut self.moves.elsewhere,
                    Some(_) if again => &mut self.moves.again,
                    Some(_) => &mut self.moves.lost,
                };
                *count += 1;
            }
            _ => {}
        }
    }

    pub(super) fn forget(&mut self, place: Place) {
        self.templates.remove(&place);
        self.tried.remove(&place);
    }
}
