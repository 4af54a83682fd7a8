//! What a run measured: how long things took, how much moved, what it cost.
//!
//! [`Figures`] collects while the run goes on, from the same observations as the checks; [`Sheet`] is what
//! is shown and kept of them in the end, the same for every kind of run.

mod detection;
mod episodes;
mod moves;
mod sheet;
mod table;

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::member::MemberState;
use node::slot::{Place, Slot};

pub use moves::Moves;
pub use sheet::{Balance, Pace, Running, SHEET_VERSION, Sheet, Times, Wire, of_kinds};
pub use table::{rows, seconds, table};

use self::detection::Detection;
use self::episodes::Episodes;
use self::moves::Classified;
use crate::checks::Picture;
use crate::engine::Became;
use crate::history::Mark;
use crate::seen::Seen;
use crate::time::{At, Span};

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub starts: u64,
    pub stops: u64,
    pub faults: u64,
    pub faults_by_kind: BTreeMap<String, u64>,
    pub acknowledged: u64,
    pub refused: u64,
    /// Verdicts of "down" about members that had been reachable for a while.
    pub false_verdicts: u64,
    /// Time after healing until every slot ran exactly once.
    pub settled_after: Option<Span>,
    /// Seconds during which slots were ready more than once, or wanted and not ready, summed over slots.
    pub duplicate_seconds: u64,
    pub gap_seconds: u64,
    /// Slots that were ready at some time: those not ready now are gaps.
    served: BTreeSet<Place>,
    /// Gaps by the slot, since when.
    gaps: BTreeMap<Place, At>,
    /// How long each gap that was closed had lasted.
    pub closed_gaps: Vec<Span>,
    pub last_action: At,
    /// Verdicts as they fell: when, about whom, what.
    pub verdicts: Vec<(At, NodeId, MemberState)>,
    /// From when on shares of running replicas count; before, the cluster is being filled.
    pub counts_from: Option<At>,
    pub running: Running,
    /// Replicas wanted and slots ready, as last looked at.
    pub latest: (u64, u64),
    pub balance: Balance,
    /// What was done to the cluster, for the time axis.
    pub marks: Vec<Mark>,
    detection: Detection,
    episodes: Episodes,
    moves: Classified,
}

impl Figures {
    /// Takes an observation in, which the picture has taken in already.
    pub fn see(&mut self, at: At, seen: &Seen, picture: &Picture) {
        if self.detection.see(at, seen) {
            self.false_verdicts += 1;
        }
        self.moves.see(seen, picture);
        match seen {
            Seen::Start { .. } => {
                self.starts += 1;
                self.last_action = at;
            }
            Seen::Stop { place, view, .. } => {
                self.stops += 1;
                self.last_action = at;
                let wanted = view.as_ref().is_some_and(|view| match place.slot {
                    Slot::Index(index) => u64::from(index) <= view.desired,
                    Slot::Node(_) => view.desired > 0,
                });
                if !wanted {
                    self.forget_gap(*place);
                }
            }
            Seen::Removed { service } => {
                let gone: Vec<Place> =
                    self.served.iter().filter(|place| place.service == *service).copied().collect();
                gone.into_iter().for_each(|place| self.forget_gap(place));
                self.episodes.look(at, self.gaps.len());
            }
            Seen::Verdict { about, to, .. } => self.verdicts.push((at, *about, *to)),
            Seen::Container { place, what: Became::Ready, .. } => {
                self.served.insert(*place);
                if let Some(since) = self.gaps.remove(place) {
                    self.closed_gaps.push(at.since(since));
                    self.episodes.closed(at, self.gaps.len());
                }
            }
            Seen::Container { place, what: Became::NotReady, .. }
                if self.served.contains(place) && !picture.ready.contains_key(place) =>
            {
                self.gaps.insert(*place, at);
                self.episodes.look(at, self.gaps.len());
            }
            _ => {}
        }
    }

    /// Once a virtual second. `wanted`: replicas that a node which can be asked believes are wanted.
    pub fn second(&mut self, at: At, picture: &Picture, wanted: Option<u64>) {
        self.duplicate_seconds +=
            picture.ready.values().map(|tasks| tasks.len() as u64 - 1).sum::<u64>();
        self.gap_seconds += self.gaps.len() as u64;
        let ready = picture.ready.len() as u64;
        let wanted = wanted.unwrap_or(self.latest.0);
        self.latest = (wanted, ready);
        if self.counts_from.is_some_and(|from| from <= at) {
            self.running.look(wanted, ready);
        }
    }

    /// Nobody wants the slot any more.
    pub fn forget_gap(&mut self, place: Place) {
        self.gaps.remove(&place);
        self.served.remove(&place);
        self.moves.forget(place);
    }

    pub fn fault(&mut self, kind: impl Into<String>) {
        self.faults += 1;
        *self.faults_by_kind.entry(kind.into()).or_default() += 1;
    }

    pub fn open_gaps(&self) -> usize {
        self.gaps.len()
    }

    /// Since when the oldest slot that is wanted and not ready has been that.
    pub fn oldest_gap(&self) -> Option<At> {
        self.gaps.values().min().copied()
    }

    pub fn moves(&self) -> Moves {
        self.moves.moves
    }

    /// The p-th percentile of closed gaps.
    pub fn gap(&self, percent: usize) -> Option<Span> {
        let mut gaps = self.closed_gaps.clone();
        gaps.sort();
        percentile(&gaps, percent)
    }
}

/// The p-th percentile of what is sorted already.
fn percentile(sorted: &[Span], percent: usize) -> Option<Span> {
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last * percent).div_ceil(100)).copied()
}

#[cfg(test)]
mod tests;
