//! What must hold in a large cluster, checked as it happens, and at the end; and when each lost slot came
//! back.
//!
//! The same promises as in [`crate::checks`], by tables instead of maps, because a million slots are looked
//! at: nothing serving is stopped before its twin serves, nothing is started that serves already, no host
//! holds more than it declares; and in the end every slot runs exactly once, zones as even as they can be.

use membership::member::Resources;

use crate::checks::Violation;
use crate::time::{At, Span};

/// At most so many violations are kept in words.
const TOLD: usize = 20;

/// One slot, by the number of its service and its own, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    pub service: usize,
    pub slot: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seat {
    /// Containers on live hosts that serve, and those that are ordered or serve.
    ready: u8,
    ordered: u8,
    /// It is without anybody.
    lost: bool,
    /// It was, since the loss: until everybody has heard who took it, two may start it.
    hit: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Room {
    reserved: Resources,
    capacity: Resources,
}

#[derive(Debug, Default)]
pub struct Checks {
    seats: Vec<Vec<Seat>>,
    rooms: Vec<Room>,
    each: Resources,
    pub violations: Vec<Violation>,
    pub count: u64,
    pub lost: u64,
    lost_at: At,
    /// How long each slot that was lost was without anybody, as far as it is back.
    pub recovered: Vec<Span>,
    pub starts: u64,
    pub stops: u64,
    /// Starts of lost slots that somebody else was starting, or had started.
    pub twins: u64,
}

impl Checks {
    pub fn new(services: usize, slots: usize, hosts: &[Resources], each: Resources) -> Self {
        Self {
            seats: vec![vec![Seat::default(); slots]; services],
            rooms: hosts.iter().map(|c| Room { capacity: *c, ..Room::default() }).collect(),
            each,
            ..Self::default()
        }
    }

    pub fn found(&mut self, at: At, check: &'static str, text: String) {
        self.count += 1;
        if self.violations.len() < TOLD {
            self.violations.push(Violation { at, check, text });
        }
    }

    fn reserve(&mut self, host: usize) -> bool {
        let room = &mut self.rooms[host];
        room.reserved.cpu_milli += self.each.cpu_milli;
        room.reserved.memory_bytes += self.each.memory_bytes;
        room.reserved.cpu_milli <= room.capacity.cpu_milli
            && room.reserved.memory_bytes <= room.capacity.memory_bytes
    }

    fn free(&mut self, host: usize) {
        let room = &mut self.rooms[host];
        room.reserved.cpu_milli -= self.each.cpu_milli;
        room.reserved.memory_bytes -= self.each.memory_bytes;
    }

    /// It runs from the beginning.
    pub fn runs(&mut self, host: usize, spot: Spot) {
        let seat = &mut self.seats[spot.service][spot.slot];
        (seat.ready, seat.ordered) = (seat.ready + 1, seat.ordered + 1);
        if !self.reserve(host) {
            self.found(At::ZERO, "capacity", format!("h{host} is full from the beginning"));
        }
    }

    /// A node orders a start.
    pub fn ordered(&mut self, at: At, host: usize, spot: Spot) {
        self.starts += 1;
        let seat = &mut self.seats[spot.service][spot.slot];
        let (serves, under_way) = (seat.ready > 0, seat.ordered > 0);
        let hit = seat.hit;
        seat.ordered += 1;
        if serves && !hit {
            self.found(at, "moved", format!("h{host} starts {spot:?}, which serves elsewhere"));
        } else if under_way {
            self.twins += 1;
        }
        if !self.reserve(host) {
            self.found(at, "capacity", format!("h{host} starts {spot:?} beyond what it holds"));
        }
    }

    /// A start is over and it serves.
    pub fn serves(&mut self, at: At, spot: Spot) {
        let seat = &mut self.seats[spot.service][spot.slot];
        seat.ready += 1;
        if std::mem::take(&mut seat.lost) {
            self.recovered.push(at.since(self.lost_at));
        }
    }

    /// A node orders a stop of what serves, or is being started.
    pub fn stopped(&mut self, at: At, host: usize, spot: Spot, served: bool) {
        self.stops += 1;
        let seat = &mut self.seats[spot.service][spot.slot];
        seat.ordered -= 1;
        if served {
            seat.ready -= 1;
            if seat.ready == 0 {
                self.found(
                    at,
                    "make before break",
                    format!("h{host} stops {spot:?}, the last one"),
                );
            }
        }
        self.free(host);
    }

    /// Its host is gone.
    pub fn gone(&mut self, at: At, host: usize, spot: Spot, served: bool) {
        self.lost_at = at;
        let seat = &mut self.seats[spot.service][spot.slot];
        seat.ordered -= 1;
        seat.ready -= u8::from(served);
        if served && seat.ready == 0 && !seat.lost {
            (seat.lost, seat.hit) = (true, true);
            self.lost += 1;
        }
        self.free(host);
    }

    /// Slots that do not run exactly once.
    pub fn missing(&self) -> u64 {
        let wrong = |seat: &&Seat| seat.ready != 1 || seat.ordered != 1;
        self.seats.iter().flatten().filter(wrong).count() as u64
    }

    pub fn all_back(&self) -> bool {
        self.recovered.len() as u64 == self.lost
    }

    /// At the end: each slot exactly once.
    pub fn end(&mut self, at: At) {
        let missing = self.missing();
        if missing > 0 {
            self.found(at, "exactly once", format!("{missing} slots do not run exactly once"));
        }
    }

    /// The time within which so many thousandths of the lost slots were back.
    pub fn recovered_within(&self, per_mille: usize) -> Option<Span> {
        let mut all = self.recovered.clone();
        all.sort_unstable();
        let at = (all.len() * per_mille).div_ceil(1000).saturating_sub(1);
        all.get(at).copied()
    }
}

/// How uneven zones are that were given something: each got its last one while no other had fewer for its
/// weight, but for `slack`. Gives whether that holds.
pub fn zones_are_even(before: &[u64], after: &[u64], weights: &[u64], slack: u64) -> bool {
    let given = (0..after.len()).filter(|zone| after[*zone] > before[*zone]);
    given.clone().all(|zone| {
        let last = after[zone].saturating_sub(1 + slack);
        (0..after.len()).all(|other| last * weights[other] <= after[other] * weights[zone])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Checks {
        let host = Resources { cpu_milli: 200, memory_bytes: 0 };
        let mut checks =
            Checks::new(1, 2, &[host, host], Resources { cpu_milli: 100, memory_bytes: 0 });
        checks.runs(0, Spot { service: 0, slot: 0 });
        checks.runs(1, Spot { service: 0, slot: 1 });
        checks
    }

    const FIRST: Spot = Spot { service: 0, slot: 0 };

    #[test]
    fn a_lost_slot_comes_back_once() {
        let mut checks = checks();
        checks.gone(At(1_000), 0, FIRST, true);
        assert_eq!((checks.lost, checks.missing()), (1, 1));
        checks.ordered(At(2_000), 1, FIRST);
        checks.serves(At(5_000), FIRST);
        checks.end(At(6_000));
        assert_eq!((checks.count, checks.recovered_within(1000)), (0, Some(Span::us(4_000))));
    }

    #[test]
    fn what_must_not_be_is_found() {
        let mut checks = checks();
        checks.ordered(At(1), 1, FIRST);
        checks.serves(At(2), FIRST);
        assert_eq!(checks.violations[0].check, "moved");
        checks.stopped(At(3), 0, FIRST, true);
        assert_eq!(checks.count, 1, "its twin serves");
        checks.stopped(At(4), 1, FIRST, true);
        assert_eq!(checks.violations[1].check, "make before break");
        checks.ordered(At(5), 1, FIRST);
        checks.ordered(At(5), 1, FIRST);
        assert_eq!(checks.violations[2].check, "capacity");
        checks.end(At(6));
        assert_eq!(checks.violations[3].check, "exactly once");
    }

    #[test]
    fn zones_that_were_given_something_are_even() {
        let weights = [10, 10, 10];
        assert!(zones_are_even(&[5, 3, 4], &[5, 5, 5], &weights, 0));
        assert!(zones_are_even(&[9, 3, 4], &[9, 5, 4], &weights, 0));
        assert!(!zones_are_even(&[5, 3, 4], &[8, 4, 4], &weights, 0));
        assert!(zones_are_even(&[5, 3, 4], &[6, 4, 4], &weights, 1));
    }
}
