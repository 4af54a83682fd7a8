//! Which time it is: by this host's wall clock, unless that runs ahead of most others'.
//!
//! Stamps come from wall clocks, and one that lies far ahead is refused wherever it comes to
//! ([`membership::clock`]). A host whose clock is an hour ahead would so go by changes that nobody takes from it, and
//! its view would differ for an hour. Therefore members tell each other what their clocks show. Where this host's is
//! ahead of the middle one of all that are alive, the middle one counts, here too, until the clock is set;
//! operators are told. (Of two clocks the one behind is taken, so that none runs ahead with nobody but itself to say so.
//! A clock that is behind is never put forward: stamps rise all the same, and to believe a time that has not come
//! is what does the harm.)
//!
//! What the others told is kept as the distance of their clocks to this host's monotonic one, which nobody
//! sets: so a jump of its own wall clock is seen at once and without asking.

use std::collections::BTreeMap;

use membership::id::NodeId;
use membership::member::Profile;
use membership::message::Message;
use membership::time::{Millis, Now, Wall};

use crate::io::{Effect, Notice};
use crate::node::Node;

/// From so far ahead of the middle one on a wall clock does not count. A third of what a stamp may be ahead
/// ([`membership::clock::MAX_AHEAD`]): one that is as far ahead as it may and one as far behind take each other's.
const APART_MS: i128 = 10_000;
/// A wall clock that moved this much between two inputs was set: the others are told at once.
const JUMP_MS: i128 = 1_000;
/// From this protocol on members understand [`Message::Time`].
const SINCE_PROTOCOL: u16 = 2;

/// What the clocks of the members show, each by its distance to this host's monotonic clock in milliseconds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clocks {
    own: i128,
    others: BTreeMap<NodeId, i128>,
    /// How far the own one was ahead when operators were last told.
    told: Option<Millis>,
}

fn distance(wall: Wall, now: Now) -> i128 {
    i128::from(wall.0) - i128::from(now.at.0)
}

impl Clocks {
    pub(crate) fn new(now: Now) -> Self {
        Self { own: distance(now.wall, now), ..Self::default() }
    }

    /// Another member's clock shows this.
    fn heard(&mut self, from: NodeId, wall: Wall, now: Now) {
        self.others.insert(from, distance(wall, now));
    }

    /// Looks at this host's own clock. True if somebody has set it.
    fn look(&mut self, now: Now) -> bool {
        let before = std::mem::replace(&mut self.own, distance(now.wall, now));
        (self.own - before).abs() >= JUMP_MS
    }

    /// The distance of the middle one of this clock and those of `live` members, where this one is ahead of it.
    /// Where none of them has told, those of all others count as they were.
    fn middle(&self, now: Now, live: impl Iterator<Item = NodeId>) -> Option<i128> {
        let own = distance(now.wall, now);
        let mut all: Vec<i128> = live.filter_map(|id| self.others.get(&id)).copied().collect();
        if all.is_empty() {
            all.extend(self.others.values());
        }
        all.push(own);
        all.sort_unstable();
        let middle = all[(all.len() - 1) / 2];
        (own - middle >= APART_MS).then_some(middle)
    }

    /// The time that counts.
    fn wall(&self, now: Now, live: impl Iterator<Item = NodeId>) -> Wall {
        let middle = self.middle(now, live);
        let middle = middle.and_then(|m| u64::try_from(i128::from(now.at.0) + m).ok());
        middle.map_or(now.wall, Wall)
    }

    fn ahead(&self, now: Now, live: impl Iterator<Item = NodeId>) -> Option<Millis> {
        let by = distance(now.wall, now) - self.middle(now, live)?;
        Some(Millis(u64::try_from(by).unwrap_or(u64::MAX)))
    }
}

impl Node {
    /// The time by which stamps are drawn and judged.
    pub(crate) fn wall(&self, now: Now) -> Wall {
        self.clocks.wall(now, self.view.members.other_live(self.me))
    }

    /// Sees whether this host's clock was set, and tells the others what it shows now.
    pub(crate) fn notice_clock(&mut self, now: Now) {
        if self.clocks.look(now) {
            for peer in self.connected.clone() {
                self.tell_time(peer, false, now);
            }
            self.say_ahead(now);
        }
    }

    pub(crate) fn tell_time(&mut self, to: NodeId, asks: bool, now: Now) {
        let profile = self.view.members.get(to).and_then(|known| known.profile.as_ref());
        let understands = |profile: &Profile| profile.protocol_version >= SINCE_PROTOCOL;
        if profile.is_some_and(understands) {
            self.send(to, Message::Time { wall: now.wall, asks });
        }
    }

    pub(crate) fn on_time(&mut self, from: NodeId, wall: Wall, asks: bool, now: Now) {
        if asks {
            self.tell_time(from, false, now);
        }
        self.clocks.heard(from, wall, now);
        self.say_ahead(now);
    }

    /// Only members have a say in which time it is.
    pub(crate) fn forget_clocks(&mut self) {
        let members = &self.view.members;
        let belongs = |id: NodeId| members.get(id).is_some_and(crate::members::Known::belongs);
        self.clocks.others.retain(|id, _| belongs(*id));
    }

    fn say_ahead(&mut self, now: Now) {
        let ahead = self.clocks.ahead(now, self.view.members.other_live(self.me));
        let text = match (self.clocks.told, ahead) {
            (None, Some(by)) => format!(
                "this host's clock is {by} ahead of the middle one of the members' clocks: changes are stamped by that until this host's clock is set"
            ),
            (Some(_), None) => {
                "this host's clock goes with the other members' again: changes are stamped by it"
                    .to_owned()
            }
            _ => return,
        };
        self.clocks.told = ahead;
        self.out.push(Effect::Notice(Notice::Warning { text }));
    }
}

#[cfg(test)]
mod tests {
    use membership::time::Instant;

    use super::*;

    const HOUR: u64 = 3_600_000;

    fn now(at: u64, wall: u64) -> Now {
        Now { at: Instant(at), wall: Wall(wall) }
    }

    fn ids(count: usize) -> impl Iterator<Item = NodeId> {
        (0..count).map(|n| NodeId(n as u128))
    }

    /// What counts at 1 s by a host whose clock shows `own`, when those of others show these.
    fn counts(own: u64, others: &[u64]) -> u64 {
        let now = now(1_000, own);
        let mut clocks = Clocks::new(now);
        for (id, wall) in ids(others.len()).zip(others) {
            clocks.heard(id, Wall(*wall), now);
        }
        clocks.wall(now, ids(others.len())).0
    }

    #[test]
    fn the_own_clock_counts_where_it_goes_with_the_others_or_is_behind_or_there_are_none() {
        assert_eq!(counts(9 * HOUR, &[]), 9 * HOUR);
        assert_eq!(counts(9 * HOUR, &[9 * HOUR - 9_000]), 9 * HOUR);
        assert_eq!(counts(9 * HOUR, &[9 * HOUR, 8 * HOUR]), 9 * HOUR);
        assert_eq!(counts(7 * HOUR, &[8 * HOUR, 8 * HOUR]), 7 * HOUR);
    }

    #[test]
    fn one_that_is_ahead_goes_by_the_middle_one_and_of_two_by_the_other() {
        assert_eq!(counts(9 * HOUR, &[8 * HOUR, 8 * HOUR + 20]), 8 * HOUR + 20);
        assert_eq!(counts(9 * HOUR, &[8 * HOUR]), 8 * HOUR);
    }

    #[test]
    fn who_is_not_alive_counts_only_where_nobody_else_has_told() {
        let now = now(1_000, 9 * HOUR);
        let mut clocks = Clocks::new(now);
        clocks.heard(NodeId(0), Wall(8 * HOUR), now);
        clocks.heard(NodeId(1), Wall(9 * HOUR), now);
        clocks.heard(NodeId(2), Wall(9 * HOUR), now);
        assert_eq!(clocks.wall(now, ids(1)), Wall(8 * HOUR));
        assert_eq!(clocks.wall(now, ids(0)), Wall(9 * HOUR));
    }

    #[test]
    fn a_jump_is_seen_at_once_and_so_is_its_end() {
        let mut clocks = Clocks::new(now(0, HOUR));
        clocks.heard(NodeId(0), Wall(HOUR + 5), now(0, HOUR));
        assert!(!clocks.look(now(500, HOUR + 500)));
        assert!(clocks.look(now(1_000, 2 * HOUR)));
        let later = now(1_200, 2 * HOUR + 200);
        assert_eq!(clocks.wall(later, ids(1)), Wall(HOUR + 1_205));
        assert_eq!(clocks.ahead(later, ids(1)), Some(Millis(HOUR - 1_005)));
        assert!(clocks.look(now(2_000, HOUR + 2_000)));
        assert_eq!(clocks.wall(now(2_000, HOUR + 2_000), ids(1)), Wall(HOUR + 2_000));
    }
}
