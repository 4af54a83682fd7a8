//! What gossip would cost a large cluster, counted by the model of it ([`crate::gossip`]) without sending any.
//!
//! Every node compares digests with a few others in each round, as often as the model does in a group of
//! that size, and what pushes missed rides in the answers. A digest names every member: that is what a group
//! of ten thousand pays for, and why the product has no group of that size (docs/ARCHITECTURE.md on 969).

use super::Traffic;
use super::news::MISSED;
use crate::gossip::{DIGEST_LINE_BYTES, FACT_HEADER_BYTES, Pace};
use crate::time::At;
use crate::world::net::PACKET_BYTES;

#[derive(Clone, Debug, Default)]
pub struct Cost {
    members: usize,
    alive: u64,
    counted: At,
    news_until: At,
    /// Microseconds that nodes spent with news to tell, and without, summed over nodes.
    lively: u64,
    quiet: u64,
    /// What pushes missed.
    pulled: Traffic,
}

impl Cost {
    pub fn new(members: usize) -> Self {
        Self { members, alive: members as u64, ..Self::default() }
    }

    /// Brings the count up to now.
    pub fn pass(&mut self, now: At) {
        let lively = now.min(self.news_until).since(self.counted.min(self.news_until));
        let all = now.since(self.counted);
        self.lively += lively.0 * self.alive;
        self.quiet += (all.0 - lively.0) * self.alive;
        self.counted = now;
    }

    /// So many hosts are left; the digests go on naming the others.
    pub fn left(&mut self, now: At, alive: u64) {
        self.pass(now);
        self.alive = alive;
    }

    /// A fact of this many bytes is published.
    pub fn news(&mut self, now: At, bytes: u64) {
        self.pass(now);
        self.news_until = now + Pace::default().news_lasts(self.members);
        let hearings = self.alive * MISSED;
        // In an answer that is sent anyway, or in the answer to that, which is not.
        self.pulled.messages += hearings / 2;
        self.pulled.bytes += hearings * (bytes + (DIGEST_LINE_BYTES + FACT_HEADER_BYTES) as u64);
    }

    /// What all nodes have sent so far.
    pub fn sent(&self) -> Traffic {
        let pace = Pace::default();
        let rounds = self.lively / pace.round_every(self.members, true).0
            + self.quiet / pace.round_every(self.members, false).0;
        // A digest there, and one back.
        let messages = rounds * pace.fanout as u64 * 2;
        let digest = (self.members * DIGEST_LINE_BYTES) as u64 + PACKET_BYTES;
        Traffic {
            messages: messages + self.pulled.messages / 1000,
            bytes: messages * digest + self.pulled.bytes / 1000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    #[test]
    fn an_idle_group_compares_digests_and_news_makes_it_livelier() {
        // Without news a round comes every two seconds.
        let mut cost = Cost::new(30);
        cost.pass(At::ZERO + Span::secs(20));
        let idle = cost.sent();
        assert_eq!(idle.messages, 30 * 10 * 3 * 2);
        assert_eq!(idle.bytes, idle.messages * (30 * 66 + 58));
        cost.news(At::ZERO + Span::secs(20), 100);
        cost.pass(At::ZERO + Span::secs(40));
        // Ten rounds at half a second, then 7.5 at two, and one in fifty hears of it that way.
        let lively = cost.sent();
        assert_eq!(lively.messages - idle.messages, (30 * 10 + 225) * 6);
        assert!(lively.bytes > idle.bytes);
    }
}
