//! What a run measured: how long things took, how much moved, what it cost.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::member::MemberState;
use node::slot::Place;

use crate::checks::Picture;
use crate::engine::Became;
use crate::seen::Seen;
use crate::time::{At, Span};

#[derive(Clone, Debug, Default)]
pub struct Figures {
    pub starts: u64,
    pub stops: u64,
    pub faults: u64,
    pub acknowledged: u64,
    pub refused: u64,
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
}

impl Figures {
    pub fn see(&mut self, at: At, seen: &Seen) {
        match seen {
            Seen::Start { .. } => {
                self.starts += 1;
                self.last_action = at;
            }
            Seen::Stop { .. } => {
                self.stops += 1;
                self.last_action = at;
            }
            Seen::Verdict { about, to, .. } => self.verdicts.push((at, *about, *to)),
            Seen::Container { place, what: Became::Ready, .. } => {
                self.served.insert(*place);
                if let Some(since) = self.gaps.remove(place) {
                    self.closed_gaps.push(at.since(since));
                }
            }
            _ => {}
        }
    }

    /// After the picture has taken the observation in.
    pub fn note_gap(&mut self, at: At, seen: &Seen, picture: &Picture) {
        if let Seen::Container { place, what: Became::NotReady, .. } = seen
            && !picture.ready.contains_key(place)
        {
            self.gaps.insert(*place, at);
        }
    }

    pub fn second(&mut self, picture: &Picture) {
        self.duplicate_seconds +=
            picture.ready.values().map(|tasks| tasks.len() as u64 - 1).sum::<u64>();
        self.gap_seconds += self.gaps.len() as u64;
    }

    pub fn forget_gap(&mut self, place: Place) {
        self.gaps.remove(&place);
    }

    pub fn open_gaps(&self) -> usize {
        self.gaps.len()
    }

    /// The p-th percentile of closed gaps.
    pub fn gap(&self, percent: usize) -> Option<Span> {
        let mut gaps = self.closed_gaps.clone();
        gaps.sort();
        let last = gaps.len().checked_sub(1)?;
        gaps.get((last * percent).div_ceil(100)).copied()
    }
}
