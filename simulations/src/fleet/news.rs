//! How long news travels in a large cluster, without ten thousand nodes handing it to each other.
//!
//! The ordinary simulation shows for each claim and each node how long it took until the node heard of it
//! ([`super::measure`]): most hear within milliseconds, by a push; what pushes miss, gossip brings up to a
//! second and a half later. A cohort hears each fact after a delay that is drawn from that.

use std::collections::BTreeMap;
use std::rc::Rc;

use membership::fact::SignedFact;

use crate::chance::Chance;
use crate::time::{At, Span};

/// (thousandths of the nodes, milliseconds until they have heard): claims of 40 nodes on one switch, `lan`,
/// modelled gossip, 81,176 hearings (p50 below 1 ms, p99 153 ms, the last 1.5 s). `simulations fleet
/// --measure --hosts 40 --replicas 800 --seed 7` prints it. In between it is straight.
pub const DELAYS: [(u64, u64); 8] =
    [(0, 0), (500, 1), (900, 2), (970, 3), (980, 5), (990, 153), (999, 753), (1_000, 1_534)];

/// Thousandths of the nodes that pushes miss, and gossip tells: those beyond the jump in [`DELAYS`].
pub const MISSED: u64 = 20;

/// News that arrives within this time is looked at together.
const GRID: Span = Span::ms(20);

/// A delay from the table.
pub fn delay(chance: &mut Chance) -> Span {
    let drawn = chance.below(1_000_000);
    let above = DELAYS
        .iter()
        .position(|(share, _)| share * 1_000 > drawn)
        .unwrap_or(DELAYS.len() - 1)
        .max(1);
    let ((low, from), (high, to)) = (DELAYS[above - 1], DELAYS[above]);
    let part = (drawn - low * 1_000) * (to - from) / (high - low).max(1);
    Span::us(from * 1_000 + part)
}

/// What one cohort has yet to hear.
#[derive(Debug, Default)]
pub struct Inbox {
    coming: BTreeMap<At, Vec<Rc<SignedFact>>>,
}

impl Inbox {
    /// Answers when the cohort is to look into it.
    pub fn put(&mut self, now: At, delay: Span, fact: Rc<SignedFact>) -> At {
        let at = At((now + delay).0.div_ceil(GRID.0) * GRID.0);
        self.coming.entry(at).or_default().push(fact);
        at
    }

    /// What has arrived by now.
    pub fn take(&mut self, now: At) -> Vec<Rc<SignedFact>> {
        let later = self.coming.split_off(&At(now.0 + 1));
        std::mem::replace(&mut self.coming, later).into_values().flatten().collect()
    }

    pub fn next_at(&self) -> Option<At> {
        self.coming.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Stream;

    #[test]
    fn delays_are_those_of_the_table() {
        let mut chance = Chance::new(1, Stream::Gossip);
        let mut drawn: Vec<Span> = (0..100_000).map(|_| delay(&mut chance)).collect();
        drawn.sort_unstable();
        for (share, ms) in &DELAYS[1..7] {
            let at = drawn[(share * 100) as usize].as_ms();
            assert!(at.abs_diff(*ms) <= 1 + ms / 10, "{share}: {at} instead of {ms}");
        }
    }
}
