//! The race that decides: one 64-bit hash for each (service, slot, node), turned into an exponential
//! arrival time by a fixed-point logarithm and divided by the node's weight. The earliest arrival wins.
//!
//! That is weighted rendezvous hashing (Thaler and Ravishankar 1998; the logarithm makes the chance of
//! winning proportional to the weight, as in Ceph's straw2 buckets). A node's arrival depends on nothing
//! but itself, so a member that comes or goes changes no other member's place in the order.
//!
//! Integers only: floating point may round differently on two machines, and then two machines would
//! start the same slot.

use membership::id::{NodeId, ServiceId};

/// The version of everything in this crate that decides who owns a slot. It is part of the hash. A
/// cluster uses the lowest version that all its live members know.
pub const PLACEMENT_VERSION: u16 = 1;

/// A place in the rank order of one slot: the smaller wins. Comparable only between nodes racing for
/// the same (service, slot). Two nodes never tie in practice; compare `(Race, NodeId)` to be certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Race {
    /// -log2(hash / 2^64) / weight, in 2^-56.
    arrival: u64,
    /// The complement of the hash: separates equal arrivals, and keeps the order within one weight
    /// equal to the order of the hashes alone.
    miss: u64,
}

/// Where `node` stands in the race for `slot` of `service`; the smaller wins. `weight` is
/// [`crate::Host::weight`]; zero counts as one.
pub fn race(service: ServiceId, slot: u32, node: NodeId, weight: u32) -> Race {
    Race::at(draw(slot_seed(service, slot), node_key(node)), weight)
}

impl Race {
    /// For golden tests and for showing: as one number, ordered as the race is.
    pub fn bits(self) -> u128 {
        u128::from(self.arrival) << 64 | u128::from(self.miss)
    }

    /// A hash below which nobody of this weight comes before `self`. Found by the table alone, so it is
    /// a little too low, never too high.
    pub(crate) fn bar(self, weight: u32) -> u64 {
        hash_before(self.arrival.saturating_add(1).saturating_mul(u64::from(weight.max(1))))
    }

    pub(crate) fn at(hash: u64, weight: u32) -> Self {
        Self { arrival: arrival(hash) / u64::from(weight.max(1)), miss: !hash }
    }
}

/// The node that makes a service's own decisions (rollout, autoscale): unweighted rendezvous hashing
/// over `nodes`, whatever their order. `None` only if there are none.
pub fn steward(service: ServiceId, nodes: impl Iterator<Item = NodeId>) -> Option<NodeId> {
    let seed = seed(service, Purpose::Steward, 0);
    nodes.max_by_key(|node| (draw(seed, node_key(*node)), *node))
}

/// What a hash is for, so that the race for a slot says nothing about the race for a zone.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Slot = 1,
    Group = 2,
    Steward = 3,
}

/// Mixes 64 bits so that each input bit flips each output bit with a chance of one half. A bijection
/// (David Stafford's variant 13 of the MurmurHash3 finalizer, as used by SplitMix64).
pub(crate) const fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

const fn absorb(state: u64, word: u64) -> u64 {
    mix(state ^ mix(word.wrapping_add(0x9e37_79b9_7f4a_7c15))).wrapping_add(0x2545_f491_4f6c_dd1d)
}

const fn halves(value: u128) -> (u64, u64) {
    ((value >> 64) as u64, value as u64)
}

pub(crate) fn seed(service: ServiceId, purpose: Purpose, number: u32) -> u64 {
    let (high, low) = halves(service.0);
    let tag = u64::from(PLACEMENT_VERSION) << 40 | (purpose as u64) << 32 | u64::from(number);
    absorb(absorb(absorb(0x7368_6f61_6c00_0000, high), low), tag)
}

pub(crate) fn slot_seed(service: ServiceId, slot: u32) -> u64 {
    seed(service, Purpose::Slot, slot)
}

pub(crate) fn node_key(node: NodeId) -> u64 {
    let (high, low) = halves(node.0);
    absorb(absorb(0x6e6f_6465_0000_0000, high), low)
}

/// A key for a group of nodes (a zone, a label's value), from its name.
pub(crate) fn name_key(name: &str) -> u64 {
    let mut state = 0x6e61_6d65_0000_0000 ^ name.len() as u64;
    for chunk in name.as_bytes().chunks(8) {
        let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        state = absorb(state, word);
    }
    state
}

/// The hash of one contender. Both sides are already well mixed; one more round makes draws of the
/// same slot, and draws of the same node, independent of each other.
#[inline]
pub(crate) const fn draw(seed: u64, key: u64) -> u64 {
    mix(seed ^ key)
}

/// Fraction bits of [`arrival`].
const FRACTION: u32 = 56;
/// log2(1 + i/128) for i in 0..=128, in 2^-56. Linear in between: off by at most 1.2e-5, never
/// out of order, and the same error for every weight.
const LOG2: [u64; 129] = log2_table();

/// log2 of 1 + i/128 by repeated squaring: each squaring yields the next binary digit.
const fn log2_table() -> [u64; 129] {
    let mut table = [0; 129];
    let mut i = 0;
    while i < 128 {
        // 1 + i/128 in 2^-62, so that the square fits u128 with room.
        let mut x: u128 = (128 + i as u128) << 55;
        let mut digits = 0;
        let mut bit = 0;
        while bit < FRACTION {
            x = (x * x) >> 62;
            digits <<= 1;
            if x >= 1 << 63 {
                x >>= 1;
                digits |= 1;
            }
            bit += 1;
        }
        table[i] = digits;
        i += 1;
    }
    table[128] = 1 << FRACTION;
    table
}

/// -log2(hash / 2^64) in 2^-56: falls as the hash rises. At most 2^62.
pub(crate) fn arrival(hash: u64) -> u64 {
    let hash = hash.max(1);
    let whole = hash.leading_zeros();
    // The digits after the leading one, 63 of them, at the top of the word.
    let digits = (hash << whole) << 1;
    let step = (digits >> 57) as usize;
    let rest = (digits >> 9) & ((1 << 48) - 1);
    let low = LOG2[step];
    let rise = (u128::from(LOG2[step + 1] - low) * u128::from(rest)) >> 48;
    ((u64::from(whole) + 1) << FRACTION) - low - rise as u64
}

/// Every lower hash arrives at `arrival` or later.
fn hash_before(arrival: u64) -> u64 {
    let whole = (arrival >> FRACTION) as u32;
    // log2 of the digits must reach this; the table gives the last step that does not exceed it.
    let reach = (1 << FRACTION) - (arrival & ((1 << FRACTION) - 1));
    let step = LOG2.partition_point(|log| *log <= reach).saturating_sub(1) as u128;
    let hash = ((128 + step) << 56).checked_shr(whole).unwrap_or(0);
    u64::try_from(hash).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arrivals_fall_as_hashes_rise(a: u64, b: u64) {
            let (low, high) = (a.min(b), a.max(b));
            prop_assert!(arrival(low) >= arrival(high));
            prop_assert!(arrival(low) <= 64 << FRACTION);
        }

        #[test]
        fn nobody_below_the_bar_comes_before(hash: u64, other: u64, w in 1..1u32 << 28, v in 1..1u32 << 28) {
            let race = Race::at(hash, w);
            let bar = race.bar(v);
            if other < bar {
                prop_assert!(Race::at(other, v) > race);
            }
            // Not uselessly low either: one step of the table below nobody is kept out for nothing.
            if w == v {
                prop_assert!(bar >= hash - (hash >> 6).min(hash));
            }
        }

        /// Against the exact logarithm; floating point is good enough to judge, not to decide.
        #[test]
        fn the_logarithm_is_right(hash in 1u64..) {
            let exact = 64.0 - (hash as f64).log2();
            let ours = arrival(hash) as f64 / (1u64 << FRACTION) as f64;
            prop_assert!((ours - exact).abs() < 1.3e-5, "{} is {}, not {}", hash, ours, exact);
        }
    }

    #[test]
    fn the_chance_of_winning_is_proportional_to_weight() {
        let service = ServiceId(1);
        let nodes: Vec<(NodeId, u32)> = (1..=10).map(|n| (NodeId(n), n as u32)).collect();
        let mut wins = [0u32; 11];
        for slot in 0..55_000 {
            let first = nodes.iter().min_by_key(|(node, w)| race(service, slot, *node, *w));
            wins[first.map_or(0, |(_, weight)| *weight as usize)] += 1;
        }
        for (weight, wins) in wins.iter().enumerate().skip(1) {
            // 1000 for each unit of weight; six standard deviations are below 6 * sqrt(1000 * weight).
            let expected = 1000 * weight as i64;
            let off = (i64::from(*wins) - expected).pow(2);
            assert!(off < 36 * expected, "weight {weight} won {wins} times");
        }
    }

    #[test]
    fn every_node_is_steward_of_its_share() {
        let mut services = [0u32; 10];
        for service in 0..10_000u128 {
            let chosen = steward(ServiceId(service), (0..10).map(NodeId)).unwrap();
            services[chosen.0 as usize] += 1;
            assert_eq!(Some(chosen), steward(ServiceId(service), (0..10).rev().map(NodeId)));
        }
        assert!(services.iter().all(|count| (800..1200).contains(count)), "{services:?}");
        assert_eq!(steward(ServiceId(1), std::iter::empty()), None);
    }
}
