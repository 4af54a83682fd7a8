//! Ranges of addresses: written, read, and cut into the blocks that hosts take for themselves.
//!
//! A network's subnet is one range on all hosts. It is cut into blocks of 256 addresses, or of 16 where it is small.
//! The first blocks are for virtual addresses; of the others each host takes one, and further ones as it needs them.
//! The lower half of a host's first block is its own address on the network (the gateway of its containers) and what
//! its engine gives to containers that nobody chose an address for; the upper half is for tasks, as is all of a
//! further block.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use membership::id::{NetworkId, NodeId};
use membership::record::Digest;

use super::picture::Subnet;

/// The smallest subnet that can be shared among hosts: three of them get a block.
pub(super) const SMALLEST_PREFIX: u8 = 26;
/// The largest subnet that is taken.
pub(super) const LARGEST_PREFIX: u8 = 8;

/// From this size on blocks are of 256 addresses.
const LARGE_PREFIX: u8 = 20;
const LARGE_BLOCK: u8 = 24;
const SMALL_BLOCK: u8 = 28;
/// One block in so many is for virtual addresses, and at least one.
const VIRTUAL_SHARE: u32 = 64;
/// How many of a node's candidates are drawn by hash before the rest is gone through in order.
const DRAWN: u32 = 16;

/// Text that is not a range of IPv4 addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a range of IPv4 addresses: 10.5.0.0/16, for example")]
pub struct ParseSubnetError(String);

impl Subnet {
    /// The range of this size that an address is in.
    pub(crate) fn around(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        let mask = u32::MAX.checked_shl(u32::from(32 - prefix)).unwrap_or(0);
        Self { first: Ipv4Addr::from(u32::from(address) & mask), prefix }
    }

    /// How many addresses it has.
    pub(crate) fn size(self) -> u64 {
        1 << (32 - self.prefix.min(32))
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        Self::around(address, self.prefix) == self
    }

    /// Which of the blocks that it is shared out in an address is in.
    pub fn block_of(self, address: Ipv4Addr) -> Option<u32> {
        Cut::of(self)?.block_of(address)
    }

    pub(crate) fn overlaps(self, other: Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }

    /// An address by its place in the range, from 0.
    pub(crate) fn nth(self, n: u32) -> Option<Ipv4Addr> {
        let inside = u64::from(n) < self.size();
        inside.then(|| Ipv4Addr::from(u32::from(self.first).wrapping_add(n)))
    }

    pub(crate) fn last(self) -> Ipv4Addr {
        // Ranges end at the last address at the latest, for they begin at a multiple of their size.
        let more = u32::try_from(self.size() - 1).unwrap_or(u32::MAX);
        Ipv4Addr::from(u32::from(self.first).wrapping_add(more))
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

impl FromStr for Subnet {
    type Err = ParseSubnetError;

    /// As Docker reads it: what an address says beyond the prefix is left out.
    fn from_str(text: &str) -> Result<Self, ParseSubnetError> {
        let wrong = || ParseSubnetError(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().ok().filter(|prefix| *prefix <= 32).ok_or_else(wrong)?;
        Ok(Self::around(address, prefix))
    }
}

/// A subnet in blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    subnet: Subnet,
    block: u8,
}

impl Cut {
    /// `None` for a subnet that is too small or too large to be shared.
    pub(crate) fn of(subnet: Subnet) -> Option<Self> {
        if !(LARGEST_PREFIX..=SMALLEST_PREFIX).contains(&subnet.prefix) {
            return None;
        }
        let block = if subnet.prefix <= LARGE_PREFIX { LARGE_BLOCK } else { SMALL_BLOCK };
        Some(Self { subnet, block })
    }

    /// How many blocks there are, those for virtual addresses included. A power of two.
    pub(crate) fn blocks(self) -> u32 {
        1 << (self.block - self.subnet.prefix)
    }

    fn virtual_blocks(self) -> u32 {
        (self.blocks() / VIRTUAL_SHARE).max(1)
    }

    /// How many blocks hosts can take.
    pub(crate) fn for_hosts(self) -> u32 {
        self.blocks() - self.virtual_blocks()
    }

    pub(crate) fn virtual_range(self) -> Subnet {
        // A power of two, as `blocks` is.
        let bits = u8::try_from(self.virtual_blocks().trailing_zeros()).unwrap_or(0);
        Subnet { first: self.subnet.first, prefix: self.block - bits }
    }

    /// The addresses of a block that hosts may take; `None` for the others.
    pub(crate) fn block(self, index: u32) -> Option<Subnet> {
        let first = self.subnet.nth(index.checked_mul(self.block_size())?)?;
        let is_hosts = (self.virtual_blocks()..self.blocks()).contains(&index);
        is_hosts.then_some(Subnet { first, prefix: self.block })
    }

    fn block_size(self) -> u32 {
        1 << (32 - self.block)
    }

    /// The block that an address is in.
    pub(crate) fn block_of(self, address: Ipv4Addr) -> Option<u32> {
        let inside = self.subnet.contains(address);
        inside.then(|| (u32::from(address) - u32::from(self.subnet.first)) / self.block_size())
    }

    /// A host's own address on the network, by its first block.
    pub(crate) fn gateway(self, index: u32) -> Option<Ipv4Addr> {
        self.block(index)?.nth(1)
    }

    /// What a host's engine may give away by itself: the lower half of its first block.
    pub(crate) fn plain(self, index: u32) -> Option<Subnet> {
        self.block(index).map(|block| Subnet { prefix: block.prefix + 1, ..block })
    }

    /// The addresses of a block that tasks may get, in order.
    pub(crate) fn for_tasks(self, index: u32, is_first: bool) -> impl Iterator<Item = Ipv4Addr> {
        let size = self.block_size();
        // Addresses that end with 0 or 255 are valid here, and not everything that people run believes it.
        let edge = if self.block == LARGE_BLOCK { 1 } else { 0 };
        let from = if is_first { size / 2 } else { edge };
        let block = self.block(index);
        let last = self.subnet.last();
        (from..size - edge)
            .filter_map(move |n| block?.nth(n))
            .filter(move |address| *address != last)
    }

    /// Which blocks a node tries to take, in this order; each once at least, endless for nobody.
    pub(crate) fn candidates(self, network: NetworkId, node: NodeId) -> impl Iterator<Item = u32> {
        let (skip, count) = (self.virtual_blocks(), self.for_hosts());
        let drawn = move |k: u32| {
            let text = format!("block {network} {node} {k}");
            // The remainder is below the number of blocks.
            (Digest::of_bytes(text.as_bytes()).0 % u128::from(count)) as u32
        };
        let first = drawn(0);
        let in_order = (0..count).map(move |n| (first + n) % count);
        (0..DRAWN).map(drawn).chain(in_order).map(move |n| skip + n)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn subnet(text: &str) -> Subnet {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_read_and_written() {
        assert_eq!(subnet("10.5.7.9/16").to_string(), "10.5.0.0/16");
        assert_eq!(subnet("0.0.0.0/0").size(), 1 << 32);
        assert_eq!(subnet("255.255.255.255/32").last(), Ipv4Addr::BROADCAST);
        for wrong in ["", "10.5.0.0", "10.5.0/16", "10.5.0.0/33", "fd00::/64", "10.5.0.0/x"] {
            assert!(wrong.parse::<Subnet>().is_err(), "{wrong}");
        }
        assert!(subnet("10.5.0.0/16").overlaps(subnet("10.5.9.0/24")));
        assert!(subnet("10.5.9.0/24").overlaps(subnet("10.5.0.0/16")));
        assert!(!subnet("10.5.9.0/24").overlaps(subnet("10.5.8.0/24")));
    }

    #[test]
    fn a_subnet_is_cut_into_parts_that_do_not_meet() {
        for (text, blocks, virtual_range, plain) in [
            ("10.5.0.0/16", 256, "10.5.0.0/22", "10.5.9.0/25"),
            ("10.5.0.0/20", 16, "10.5.0.0/24", "10.5.9.0/25"),
            ("10.5.7.0/24", 16, "10.5.7.0/28", "10.5.7.144/29"),
            ("10.5.7.128/26", 4, "10.5.7.128/28", ""),
        ] {
            let cut = Cut::of(subnet(text)).unwrap();
            assert_eq!(cut.blocks(), blocks, "{text}");
            assert_eq!(cut.virtual_range().to_string(), virtual_range, "{text}");
            if !plain.is_empty() {
                assert_eq!(cut.plain(9).unwrap().to_string(), plain, "{text}");
                assert_eq!(cut.block_of(cut.gateway(9).unwrap()), Some(9), "{text}");
            }
            for index in 0..blocks {
                let Some(block) = cut.block(index) else { continue };
                assert!(!block.overlaps(cut.virtual_range()), "{text} {index}");
                for first in [false, true] {
                    let tasks: Vec<Ipv4Addr> = cut.for_tasks(index, first).collect();
                    assert!(tasks.iter().all(|a| block.contains(*a)), "{text} {index}");
                    assert!(!tasks.contains(&subnet(text).last()), "{text} {index}");
                    let own = cut.gateway(index).unwrap();
                    assert!(!first || !tasks.contains(&own), "{text} {index}");
                }
            }
            assert_eq!(cut.block(blocks), None, "{text}");
        }
        assert_eq!(Cut::of(subnet("10.0.0.0/27")), None);
        assert_eq!(Cut::of(subnet("8.0.0.0/7")), None);
    }

    /// Members of other versions must try the same blocks.
    #[test]
    fn candidates_are_what_they_were() {
        let cut = Cut::of(subnet("10.5.0.0/16")).unwrap();
        let first: Vec<u32> = cut.candidates(NetworkId(1), NodeId(2)).take(4).collect();
        assert_eq!(first, GOLDEN);
    }

    const GOLDEN: [u32; 4] = [204, 102, 61, 108];

    proptest! {
        #[test]
        fn every_block_is_a_candidate_and_no_other(prefix in 8u8..=26, node: u128) {
            let cut = Cut::of(Subnet::around(Ipv4Addr::new(10, 0, 0, 0), prefix)).unwrap();
            prop_assume!(cut.blocks() <= 4096);
            let all: BTreeSet<u32> = cut.candidates(NetworkId(7), NodeId(node)).collect();
            prop_assert_eq!(all.len() as u32, cut.for_hosts());
            prop_assert!(all.iter().all(|index| cut.block(*index).is_some()));
        }
    }
}
