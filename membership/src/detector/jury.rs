//! What everybody's reports come to: one verdict for each member, the same wherever the same was heard.
//!
//! Nothing in here depends on what a node probes itself, so nodes that have heard the same share one
//! jury. A node's own doubts, probes and edges are in [`super::Detector`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::report::EdgeReport;
use super::verdict::{Evidence, Received, Tally};
use super::{Timing, Verdict};
use crate::id::{Incarnation, NodeId};
use crate::observers::Rings;
use crate::time::{Instant, Millis};

/// How many members' reports are kept, those of strangers (facts may arrive before their owner is
/// known) included. Above that strangers' reports are dropped.
const MAX_REPORTS: usize = 4096;

/// All members, all reports, and the verdicts.
#[derive(Clone, Debug)]
pub struct Jury {
    /// Whose reports count as soon as they are made, and who is never down; `None` when several nodes share
    /// this.
    whose: Option<NodeId>,
    gone_grace: Millis,
    pub(super) members: BTreeMap<NodeId, Incarnation>,
    /// Rises when members come, go, or raise their incarnation.
    pub(super) membership: u64,
    pub(super) rings: Rings,
    /// The observers of those that were ever accused, as the rings have them.
    observers: BTreeMap<NodeId, BTreeSet<NodeId>>,
    reports: BTreeMap<NodeId, Received>,
    pub(super) verdicts: BTreeMap<NodeId, Verdict>,
    /// Members that can be asked for help with a probe.
    pub(super) up: Vec<NodeId>,
    /// Rises when verdicts change.
    version: u64,
    /// Rises when the reports were looked at anew.
    pub(super) session: u64,
    /// The verdicts are older than the reports.
    is_stale: bool,
    gone_since: BTreeMap<NodeId, Instant>,
    /// Members of which the others agree that they are down, as far as they are believed, or all of them.
    pub(super) called_down: BTreeSet<NodeId>,
    /// Whom each member must probe although it is not their observer.
    pub(super) checks: BTreeMap<NodeId, BTreeSet<NodeId>>,
    flaps: BTreeMap<NodeId, VecDeque<Instant>>,
}

impl Jury {
    /// `whose`: the node whose beliefs this is part of; `None` when several nodes share it.
    pub fn new(whose: Option<NodeId>, timing: &Timing) -> Self {
        Self {
            whose,
            gone_grace: timing.gone_grace,
            members: BTreeMap::new(),
            membership: 0,
            rings: Rings::default(),
            observers: BTreeMap::new(),
            reports: BTreeMap::new(),
            verdicts: BTreeMap::new(),
            up: Vec::new(),
            version: 0,
            session: 0,
            is_stale: true,
            gone_since: BTreeMap::new(),
            called_down: BTreeSet::new(),
            checks: BTreeMap::new(),
            flaps: BTreeMap::new(),
        }
    }

    /// All members that have not left, those that are down included (they are probed for ever, so that
    /// halves of a cluster find each other again). A raised incarnation wipes what was known against the
    /// member. Cheap when nothing changed.
    pub fn set_members(&mut self, members: &BTreeMap<NodeId, Incarnation>) {
        if self.members == *members {
            return;
        }
        let gone = self.members.keys().filter(|id| !members.contains_key(id));
        let mut moved = false;
        for id in gone {
            self.rings.remove(*id);
            self.reports.remove(id);
            self.flaps.remove(id);
            moved = true;
        }
        let new: BTreeSet<NodeId> =
            members.keys().copied().filter(|id| !self.members.contains_key(id)).collect();
        if self.members.is_empty() {
            self.rings = Rings::new(&new);
        } else {
            new.iter().for_each(|id| self.rings.insert(*id));
        }
        self.members.clone_from(members);
        if moved || !new.is_empty() {
            self.observers.clear();
        }
        self.membership += 1;
        self.is_stale = true;
    }

    /// The report of a member. One of an older incarnation than is known is ignored.
    pub fn on_report(&mut self, owner: NodeId, incarnation: Incarnation, report: EdgeReport) {
        let known = self.members.get(&owner);
        let older = known.is_some_and(|now| incarnation < *now)
            || self.reports.get(&owner).is_some_and(|held| incarnation < held.incarnation);
        let full = known.is_none()
            && self.reports.len() >= MAX_REPORTS
            && !self.reports.contains_key(&owner);
        if Some(owner) == self.whose || older || full {
            return;
        }
        let news = self.reports.get(&owner).is_none_or(|held| held.report != report);
        self.is_stale |= news;
        self.reports.insert(owner, Received { incarnation, report });
    }

    /// A node's own report counts like anybody's, as published: all judge by the same. Where several share
    /// the jury it counts when they have heard it.
    pub(super) fn adopt(&mut self, owner: NodeId, report: &EdgeReport) {
        if self.whose == Some(owner) {
            let incarnation = self.members.get(&owner).copied().unwrap_or_default();
            self.reports.insert(owner, Received { incarnation, report: report.clone() });
            self.is_stale = true;
        }
    }

    /// The owner withdrew its report or is gone for good.
    pub fn forget(&mut self, owner: NodeId) {
        if Some(owner) != self.whose && self.reports.remove(&owner).is_some() {
            self.is_stale = true;
        }
    }

    /// The verdict on every member, as of the last [`Self::judge`]; whoever's this is, is always up.
    pub fn verdicts(&self) -> &BTreeMap<NodeId, Verdict> {
        &self.verdicts
    }

    /// When a grace period ends, and with it a verdict.
    pub fn next_wake(&self) -> Option<Instant> {
        let waiting = self.gone_since.iter();
        let waiting = waiting.filter(|(id, _)| self.verdicts.get(id) != Some(&Verdict::Down));
        waiting.map(|(_, since)| *since + self.gone_grace).min()
    }

    /// Rises when a verdict changes.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Computes the verdicts if reports, members or a grace period have changed them.
    pub fn judge(&mut self, now: Instant) {
        let grace = self.gone_grace;
        let grace_over = |id: &NodeId, since: &Instant| {
            now >= *since + grace && self.verdicts.get(id) != Some(&Verdict::Down)
        };
        if !self.is_stale && !self.gone_since.iter().any(|(id, since)| grace_over(id, since)) {
            return;
        }
        self.is_stale = false;
        self.session += 1;
        let observers = std::mem::take(&mut self.observers);
        let evidence =
            Evidence::gather(self.whose, &self.members, &self.rings, observers, &self.reports);
        let down = evidence.down();
        let tallies: BTreeMap<NodeId, Tally> =
            evidence.accused().map(|id| (id, evidence.tally(id, &down))).collect();
        // Either they agree as far as this view believes them, or they all agree.
        let called_down = evidence.accused().filter(|id| {
            tallies.get(id).is_some_and(|tally| tally.is_down())
                || evidence.tally(*id, &BTreeSet::new()).is_down()
        });
        self.called_down = called_down.collect();
        self.checks = match self.rings.is_all_to_all() {
            true => BTreeMap::new(),
            false => evidence.checks(&down),
        };
        self.observers = evidence.into_observers();
        self.gone_since.retain(|id, _| down.contains(id));
        let members: Vec<NodeId> = self.members.keys().copied().collect();
        let verdicts: BTreeMap<NodeId, Verdict> = members
            .into_iter()
            .map(|id| {
                let tally = tallies.get(&id).copied().unwrap_or_default();
                let verdict = match down.contains(&id) {
                    true => self.judge_down(id, tally, now),
                    false if Some(id) != self.whose && tally.is_unstable() => {
                        Verdict::Unstable { down_edges: tally.down, of: tally.of }
                    }
                    false => Verdict::Up,
                };
                (id, verdict)
            })
            .collect();
        self.note_flaps(&verdicts, now);
        if self.verdicts != verdicts {
            self.version += 1;
            let up = |verdict: &Verdict| matches!(verdict, Verdict::Up | Verdict::Unstable { .. });
            self.up = verdicts.iter().filter(|(_, v)| up(v)).map(|(id, _)| *id).collect();
            self.verdicts = verdicts;
        }
    }

    /// Gone with its host, or only its process and for how long.
    fn judge_down(&mut self, id: NodeId, tally: Tally, now: Instant) -> Verdict {
        let was_down = self.verdicts.get(&id) == Some(&Verdict::Down);
        if was_down || !tally.is_refused() {
            self.gone_since.remove(&id);
            return Verdict::Down;
        }
        let since = *self.gone_since.entry(id).or_insert(now);
        if now >= since + self.gone_grace {
            return Verdict::Down;
        }
        Verdict::ProcessGone { since }
    }

    fn note_flaps(&mut self, verdicts: &BTreeMap<NodeId, Verdict>, now: Instant) {
        for (id, verdict) in verdicts {
            let was_down = self.verdicts.get(id) == Some(&Verdict::Down);
            if was_down && *verdict != Verdict::Down {
                super::remember_flap(self.flaps.entry(*id).or_default(), now);
            }
        }
    }

    /// How often `member` came back from down within [`Timing::flap_memory`], at most 32.
    pub fn flaps(&self, member: NodeId, timing: &Timing, now: Instant) -> usize {
        self.flaps.get(&member).map_or(0, |flaps| super::recent_flaps(flaps, timing, now))
    }
}
