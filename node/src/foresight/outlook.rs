//! What would follow: moves, starts, stops and what would wait, for each service and each host.

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId};
use membership::member::{MemberState, Resources};
use placement::Load;

use super::report::compare;
use super::{Change, ChangeError, Picture};
use crate::slot::Slot;

/// The answer to "what if".
#[derive(Clone, Debug)]
pub struct Foresight {
    /// What was supposed, in words.
    pub supposed: String,
    /// In the order of their names.
    pub services: Vec<ServiceOutlook>,
    /// In the order of their names.
    pub hosts: Vec<HostOutlook>,
    /// (alive, all) members, afterwards.
    pub quorum: (usize, usize),
    /// What an operator should know beside the moves.
    pub notes: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct ServiceOutlook {
    pub id: ServiceId,
    pub name: String,
    pub global: bool,
    /// Wanted replicas, before and after. For global services: hosts that run it.
    pub wanted: (u64, u64),
    /// Replicas that some live node holds, before and after; after all starts have succeeded.
    pub running: (u64, u64),
    /// What happens at once, in the order of slots.
    pub moves: Vec<Move>,
    pub stops: Vec<Stop>,
    /// What is wanted and would not run, or could not leave its host.
    pub pending: Vec<Waiting>,
    /// What is evened out when the view has been quiet for a while, in order.
    pub later: Vec<Move>,
    /// Replicas on each host: before, after what happens at once, and at the end.
    pub spread: [BTreeMap<NodeId, u32>; 3],
    pub remarks: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveKind {
    /// Its host is lost: it starts anew elsewhere.
    Replaces,
    /// Its host must let go of it: the new one is ready before the old one stops.
    Relieves,
    /// Nobody held it.
    Starts,
    /// To even out load, new before old.
    Evens,
}

impl MoveKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Replaces => "replaces",
            Self::Relieves => "relieves",
            Self::Starts => "starts",
            Self::Evens => "evens",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    pub slot: Slot,
    pub kind: MoveKind,
    pub from: Option<NodeId>,
    pub to: NodeId,
    /// Who steps in if `to` does not, in order.
    pub backups: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    pub slot: Slot,
    pub node: NodeId,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub slot: Slot,
    /// Runs on, on a host that it should leave.
    pub stays_on: Option<NodeId>,
    /// It waits today as well.
    pub already: bool,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostOutlook {
    pub id: NodeId,
    pub name: String,
    pub zone: String,
    /// Before and after; `None` before for a host that is supposed to be added.
    pub state: (Option<MemberState>, MemberState),
    pub capacity: Resources,
    /// What it carries: before, after what happens at once, and at the end.
    pub loads: [Load; 3],
    /// At least nine tenths of its cores or memory are reserved afterwards, and more than before.
    pub tight: bool,
}

impl Foresight {
    fn count(&self, of: impl Fn(&ServiceOutlook) -> usize) -> usize {
        self.services.iter().map(of).sum()
    }

    pub fn moves(&self, kind: MoveKind) -> usize {
        let later = kind == MoveKind::Evens;
        self.count(|service| {
            let moves = if later { &service.later } else { &service.moves };
            moves.iter().filter(|one| one.kind == kind).count()
        })
    }

    pub fn stops(&self) -> usize {
        self.count(|service| service.stops.len())
    }

    /// Slots that would wait for a host, and how many of them do so today.
    pub fn pending(&self) -> (usize, usize) {
        let pending = self.count(|service| service.pending.len());
        (pending, self.count(|s| s.pending.iter().filter(|waiting| waiting.already).count()))
    }

    /// Everything that is wanted would run, where it may run.
    pub fn is_whole(&self) -> bool {
        self.pending().0 == 0
    }

    /// One line for people.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        let mut say = |count: usize, what: &str| {
            if count > 0 {
                let replicas = if count == 1 { "replica" } else { "replicas" };
                parts.push(format!("{count} {replicas} {what}"));
            }
        };
        let (pending, already) = self.pending();
        say(self.moves(MoveKind::Replaces), "of lost hosts would start elsewhere");
        say(self.moves(MoveKind::Relieves), "would be handed over, new before old");
        say(self.moves(MoveKind::Starts), "would start");
        say(self.stops(), "would stop");
        say(self.moves(MoveKind::Evens), "would move later to even out load");
        say(pending, "would wait for a host");
        if parts.is_empty() {
            return "nothing would move".to_owned();
        }
        if already > 0 {
            parts.push(format!("{already} of these wait already"));
        }
        if pending == 0 {
            parts.push("nothing would be left waiting".to_owned());
        }
        parts.join("; ")
    }
}

impl Picture {
    /// What would follow if all of `changes` happened at this instant.
    ///
    /// Costs what planning the services concerned costs: milliseconds for hundreds of hosts, so not to
    /// be called in a node's loop.
    ///
    /// # Errors
    /// [`ChangeError`] for a supposition that makes no sense.
    pub fn foresee(&self, changes: &[Change]) -> Result<Foresight, ChangeError> {
        Ok(compare(self, self.after(changes)?, changes))
    }
}
