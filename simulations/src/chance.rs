//! Everything that is left to chance in a run, drawn from one seed.
//!
//! Each part of the simulator (links, engines, disks, faults, operators, ...) draws from its own
//! stream, so that a change in one part does not reshuffle all the others and a failing seed stays
//! recognisable while the code around it is being mended. Only integers are drawn: floating point
//! functions differ between machines in their last digit, and one digit is another run.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::time::Span;

/// One stream of chance.
#[derive(Clone, Debug)]
pub struct Chance {
    rng: ChaCha8Rng,
}

/// The streams of a run. The order is part of what a seed means: append only.
#[derive(Clone, Copy, Debug)]
pub enum Stream {
    Hosts = 1,
    Links,
    Disks,
    Engines,
    Gossip,
    Faults,
    Operators,
    Cores,
    Workload,
    Scenario,
    Garbage,
    Jobs,
    Assets,
    Networks,
}

impl Chance {
    pub fn new(seed: u64, stream: Stream) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream as u64);
        Self { rng }
    }

    pub fn word(&mut self) -> u64 {
        self.rng.next_u64()
    }

    pub fn id(&mut self) -> u128 {
        (u128::from(self.word()) << 64) | u128::from(self.word())
    }

    /// A number below `bound`; 0 when there is none.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The bias of the multiply-shift method is below 2^-40 for the bounds used here.
        ((u128::from(self.word()) * u128::from(bound)) >> 64) as u64
    }

    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Both ends included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low) + 1)
    }

    pub fn per_mille(&mut self, probability: u32) -> bool {
        probability > 0 && self.below(1000) < u64::from(probability)
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { Some(&from[self.index(from.len())]) }
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.index(i + 1));
        }
    }

    pub fn span(&mut self, low: Span, high: Span) -> Span {
        Span(self.between(low.0, high.0))
    }

    /// A waiting time with the shape of the real ones: most near `low`, a tail up to `high` (the cube
    /// of a uniform draw), as image pulls, disk syncs and queueing delays have.
    pub fn tailed(&mut self, low: Span, high: Span) -> Span {
        let u = self.below(1 << 20);
        let cubed = (((u * u) >> 20) * u) >> 20;
        let width = high.0.saturating_sub(low.0);
        Span(low.0 + ((width * cubed) >> 20))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_is_one_sequence_and_streams_differ() {
        let draw = |seed, stream| {
            let mut chance = Chance::new(seed, stream);
            (0..8).map(|_| chance.word()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, Stream::Links), draw(7, Stream::Links));
        assert_ne!(draw(7, Stream::Links), draw(7, Stream::Disks));
        assert_ne!(draw(7, Stream::Links), draw(8, Stream::Links));
    }

    #[test]
    fn draws_stay_in_their_bounds() {
        let mut chance = Chance::new(1, Stream::Links);
        for _ in 0..10_000 {
            assert!(chance.below(3) < 3);
            assert!((5..=6).contains(&chance.between(5, 6)));
            let span = chance.tailed(Span(10), Span(20));
            assert!((10..=20).contains(&span.0));
        }
        assert_eq!(chance.below(0), 0);
    }
}
