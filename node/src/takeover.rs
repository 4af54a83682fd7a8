//! When an orphan may be taken: what is remembered between two looks at the same slot.
//!
//! An orphan is a wanted slot that no live member claims. Its candidates act in rank order: the first
//! at once, rank k after k staggers without a better candidate's claim. A slot that this node has given
//! up keeps it at the end of its line for a while, so that a place where it can run comes first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use membership::time::{Instant, Millis};

use crate::settings::Settings;
use crate::slot::Place;

/// The brake: in clusters larger than this, ...
const BRAKE_ABOVE: usize = 20;
/// ... when more than one in so many members was lost ...
const BRAKE_SHARE: usize = 5;
/// ... within this time, takeovers are spread out ...
pub(crate) const BRAKE_WINDOW: Millis = Millis(60_000);
/// ... over this time: a partition looks like that, and may heal.
const BRAKE_SPREAD: Millis = Millis(30_000);

/// Why takeovers are slow just now, for operators.
pub(crate) fn braked(members: usize, spread: Millis) -> String {
    format!(
        "more than a fifth of the {members} members were lost within a minute, as in a partition that may heal: takeovers are spread over {spread}"
    )
}

/// A slot that another node took from this one, though it served here, is not taken back at once ...
const TAKEN_FIRST: Millis = Millis(5_000);
/// ... and later each time. Two nodes that cannot hear each other's records may each find that the slot must
/// not be where the other one has it.
const TAKEN_MOST: Millis = Millis(120_000);
/// Where it failed on this node it is tried again while the other one serves, after this, twice this, and so on.
const FAILED_FIRST: Millis = Millis(15_000);

#[derive(Clone, Debug, Default)]
pub(crate) struct Takeovers {
    given_up: BTreeMap<Place, GivenUp>,
    taken: BTreeMap<Place, Taken>,
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    at: Instant,
    span: Millis,
}

#[derive(Clone, Copy, Debug)]
struct GivenUp {
    at: Instant,
    until: Instant,
    times: u32,
    failures: u32,
}

impl Takeovers {
    pub(crate) fn forget_service(&mut self, service: membership::id::ServiceId) {
        self.given_up.retain(|place, _| place.service != service);
        self.taken.retain(|place, _| place.service != service);
    }

    /// Another node took the slot, though it served here.
    pub(crate) fn taken(&mut self, place: Place, at: Instant) {
        self.taken.retain(|_, taken| at < taken.at + taken.span * 4);
        let before = self.taken.get(&place);
        let span = before.map_or(TAKEN_FIRST, |taken| (taken.span * 2).min(TAKEN_MOST));
        self.taken.insert(place, Taken { at, span });
    }

    /// When this node may take the slot from a holder that serves: there is no hurry, so a slot that was taken
    /// from it, or that failed here, waits, longer each time.
    pub(crate) fn may_relieve_at(&self, place: Place) -> Option<Instant> {
        let taken = self.taken.get(&place).map(|taken| taken.at + taken.span);
        let failed = self.given_up.get(&place).map(|given_up| {
            let span = FAILED_FIRST * (1u64 << (given_up.times - 1).min(10));
            (given_up.at + span).min(given_up.until)
        });
        taken.max(failed)
    }

    /// This node could not run the slot: others first, for a time that doubles with each occasion.
    pub(crate) fn give_up(
        &mut self,
        place: Place,
        failures: u32,
        settings: &Settings,
        at: Instant,
    ) {
        let times = self.given_up.get(&place).map_or(0, |g| g.times) + 1;
        let most = Millis(3_600_000);
        let span = (settings.pass_over * (1u64 << (times - 1).min(10))).min(most);
        self.given_up.insert(place, GivenUp { at, until: at + span, times, failures });
    }

    /// How often in a row the slot had failed here when it was given up, while that is remembered.
    pub(crate) fn failures_before(&self, place: Place, at: Instant) -> Option<u32> {
        self.given_up.get(&place).filter(|g| g.until > at).map(|g| g.failures)
    }

    /// The slots for which that is remembered.
    pub(crate) fn kept_away(&self, at: Instant) -> BTreeSet<Place> {
        self.given_up.iter().filter(|(_, g)| g.until > at).map(|(place, _)| *place).collect()
    }

    /// Whether slots that failed here may become this node's again by time alone.
    pub(crate) fn remembers_failures(&self) -> bool {
        !self.given_up.is_empty()
    }
}

/// Members that were lost a short while ago.
#[derive(Clone, Debug, Default)]
pub(crate) struct Losses {
    lost: VecDeque<Instant>,
}

impl Losses {
    pub(crate) fn note(&mut self, at: Instant) {
        self.lost.push_back(at);
        while self.lost.front().is_some_and(|lost| at.since(*lost) > BRAKE_WINDOW) {
            self.lost.pop_front();
        }
    }

    /// Whether a member was lost so lately that it counts.
    pub(crate) fn any(&self, at: Instant) -> bool {
        self.lost.back().is_some_and(|lost| at.since(*lost) <= BRAKE_WINDOW)
    }

    /// How long takeovers are spread out now, given the number of members.
    pub(crate) fn brake(&self, members: usize, at: Instant) -> Option<Millis> {
        brakes(members, self.lately(at))
    }

    /// How many members were lost within the brake's window.
    pub(crate) fn lately(&self, at: Instant) -> usize {
        self.lost.len() - self.lost.partition_point(|lost| at.since(*lost) > BRAKE_WINDOW)
    }
}

/// How long takeovers are spread out when of so many members so many were lost at about one time.
pub(crate) fn brakes(members: usize, lost: usize) -> Option<Millis> {
    let braked = members > BRAKE_ABOVE && lost * BRAKE_SHARE > members;
    braked.then_some(BRAKE_SPREAD)
}
