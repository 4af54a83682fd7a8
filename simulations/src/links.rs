//! The network: what happens to a packet between two hosts.
//!
//! A link has a delay with a tail, loses, duplicates and reorders datagrams, and may be cut, in one
//! direction or both. Streams are what QUIC makes of the same link: a lost packet costs a
//! retransmission, and only a cut that outlasts the idle timeout loses the message.

use std::collections::{BTreeMap, BTreeSet};

use crate::chance::Chance;
use crate::time::Span;

/// A host of the run, by number. Its `NodeId` is in `Host::id`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostIx(pub u32);

impl std::fmt::Debug for HostIx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}", self.0)
    }
}

impl HostIx {
    pub fn i(self) -> usize {
        self.0 as usize
    }
}

impl std::fmt::Display for HostIx {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "h{}", self.0)
    }
}

/// How good one host's access to the network is. A path is as bad as both ends together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quality {
    /// One-way delay, least and most.
    pub delay: (Span, Span),
    /// Datagrams lost, per thousand.
    pub loss: u32,
    pub duplicated: u32,
    /// Datagrams held back by up to 50 ms, per thousand.
    pub reordered: u32,
}

impl Default for Quality {
    /// One switched network: 0.1 to 2 ms, nothing lost.
    fn default() -> Self {
        Self { delay: (Span::us(100), Span::ms(2)), loss: 0, duplicated: 0, reordered: 0 }
    }
}

/// Something that keeps packets from passing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Hosts talk only within their group; the group of each host, by number.
    Groups(Vec<u8>),
    /// Nothing passes from the first to the second; the other direction works.
    OneWay { from: BTreeSet<HostIx>, to: BTreeSet<HostIx> },
    /// Nothing passes between the two sets; everybody else reaches both (a bridge).
    Between(BTreeSet<HostIx>, BTreeSet<HostIx>),
}

impl Cut {
    fn stops(&self, from: HostIx, to: HostIx) -> bool {
        match self {
            Self::Groups(groups) => groups.get(from.i()) != groups.get(to.i()),
            Self::OneWay { from: sources, to: targets } => {
                sources.contains(&from) && targets.contains(&to)
            }
            Self::Between(a, b) => {
                (a.contains(&from) && b.contains(&to)) || (b.contains(&from) && a.contains(&to))
            }
        }
    }

    /// Hosts with equal marks are treated alike by this cut.
    fn mark(&self, host: HostIx) -> u8 {
        match self {
            Self::Groups(groups) => groups.get(host.i()).copied().unwrap_or(u8::MAX),
            Self::OneWay { from: a, to: b } | Self::Between(a, b) => {
                u8::from(a.contains(&host)) + 2 * u8::from(b.contains(&host))
            }
        }
    }
}

/// Whose packets fare worse for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    All,
    Host(HostIx),
    /// Both ways between two hosts.
    Link(HostIx, HostIx),
}

impl Scope {
    fn covers(self, from: HostIx, to: HostIx) -> bool {
        match self {
            Self::All => true,
            Self::Host(host) => host == from || host == to,
            Self::Link(a, b) => (a, b) == (from, to) || (b, a) == (from, to),
        }
    }
}

/// Names a cut, or bad links, so that they can be healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CutId(pub u32);

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Lost,
    Arrives { after: Span, again: Option<Span> },
}

/// All links of the run.
#[derive(Clone, Debug, Default)]
pub struct Links {
    base: Quality,
    hosts: BTreeMap<HostIx, Quality>,
    cuts: BTreeMap<CutId, Cut>,
    worse: BTreeMap<CutId, (Scope, Quality)>,
    next_cut: u32,
}

impl Links {
    pub fn new(base: Quality) -> Self {
        Self { base, ..Self::default() }
    }

    pub fn base(&self) -> Quality {
        self.base
    }

    pub fn set_base(&mut self, base: Quality) {
        self.base = base;
    }

    pub fn set_host(&mut self, host: HostIx, quality: Option<Quality>) {
        match quality {
            Some(quality) => self.hosts.insert(host, quality),
            None => self.hosts.remove(&host),
        };
    }

    pub fn cut(&mut self, cut: Cut) -> CutId {
        let id = CutId(self.next_cut);
        self.next_cut += 1;
        self.cuts.insert(id, cut);
        id
    }

    /// From now on packets fare at least as badly as this says. Several such things at once add up their
    /// losses and take the worst of the rest.
    pub fn worsen(&mut self, scope: Scope, quality: Quality) -> CutId {
        let id = CutId(self.next_cut);
        self.next_cut += 1;
        self.worse.insert(id, (scope, quality));
        id
    }

    /// Takes a cut or what makes links worse away; false if it was not there any more.
    pub fn mend(&mut self, id: CutId) -> bool {
        self.worse.remove(&id).is_some() | self.cuts.remove(&id).is_some()
    }

    pub fn heal(&mut self) {
        self.cuts.clear();
        self.hosts.clear();
        self.worse.clear();
    }

    pub fn is_whole(&self) -> bool {
        self.cuts.is_empty()
    }

    pub fn passes(&self, from: HostIx, to: HostIx) -> bool {
        !self.cuts.values().any(|cut| cut.stops(from, to))
    }

    pub fn both_ways(&self, a: HostIx, b: HostIx) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    fn path(&self, from: HostIx, to: HostIx) -> Quality {
        let mut path = self.base;
        let ends = [from, to].into_iter().filter_map(|end| self.hosts.get(&end));
        let worse = self.worse.values().filter(|(scope, _)| scope.covers(from, to));
        for own in ends.chain(worse.map(|(_, quality)| quality)) {
            path.delay.0 = path.delay.0.max(own.delay.0);
            path.delay.1 = path.delay.1.max(own.delay.1);
            path.loss = (path.loss + own.loss).min(1000);
            path.duplicated = path.duplicated.max(own.duplicated);
            path.reordered = path.reordered.max(own.reordered);
        }
        path
    }

    /// The pairs of so many hosts between which things were made worse, with the share of packets, per
    /// thousand, that is lost on the way.
    pub fn lossy(&self, hosts: usize) -> Vec<(HostIx, HostIx, u32)> {
        if self.worse.is_empty() {
            return Vec::new();
        }
        let all = || (0..hosts as u32).map(HostIx);
        let pairs = all().flat_map(|a| all().filter(move |b| a < *b).map(move |b| (a, b)));
        pairs
            .map(|(a, b)| (a, b, self.path(a, b).loss))
            .filter(|(_, _, loss)| *loss > self.base.loss)
            .collect()
    }

    pub fn delay(&self, from: HostIx, to: HostIx, chance: &mut Chance) -> Span {
        let path = self.path(from, to);
        chance.tailed(path.delay.0, path.delay.1)
    }

    pub fn datagram(&self, from: HostIx, to: HostIx, chance: &mut Chance) -> Fate {
        let path = self.path(from, to);
        if !self.passes(from, to) || chance.per_mille(path.loss) {
            return Fate::Lost;
        }
        let mut after = chance.tailed(path.delay.0, path.delay.1);
        if chance.per_mille(path.reordered) {
            after += chance.span(Span::ms(1), Span::ms(50));
        }
        let again = chance
            .per_mille(path.duplicated)
            .then(|| after + chance.span(Span::ZERO, Span::ms(20)));
        Fate::Arrives { after, again }
    }

    /// One attempt to bring a stream across: `None` when its packets or their acknowledgements were
    /// lost and it has to be sent again.
    pub fn stream(&self, from: HostIx, to: HostIx, chance: &mut Chance) -> Option<Span> {
        let path = self.path(from, to);
        if !self.both_ways(from, to) || chance.per_mille(path.loss) {
            return None;
        }
        Some(chance.tailed(path.delay.0, path.delay.1))
    }

    /// The hosts of `of`, divided into the parts that can talk both ways, directly or over others.
    /// Parts and their members come in the order of host numbers.
    pub fn parts(&self, of: &[HostIx]) -> Vec<Vec<HostIx>> {
        // Hosts that every cut treats alike are one class; only classes are compared pairwise, so this
        // stays cheap for ten thousand hosts.
        let mut classes: BTreeMap<Vec<u8>, Vec<HostIx>> = BTreeMap::new();
        for host in of {
            let mark = self.cuts.values().map(|cut| cut.mark(*host)).collect();
            classes.entry(mark).or_default().push(*host);
        }
        let classes: Vec<Vec<HostIx>> = classes.into_values().collect();
        let mut part_of: Vec<usize> = (0..classes.len()).collect();
        for a in 0..classes.len() {
            for b in a + 1..classes.len() {
                if self.both_ways(classes[a][0], classes[b][0]) {
                    let (old, new) = (part_of[b], part_of[a]);
                    part_of.iter_mut().filter(|part| **part == old).for_each(|part| *part = new);
                }
            }
        }
        let mut parts: BTreeMap<usize, Vec<HostIx>> = BTreeMap::new();
        for (class, part) in classes.into_iter().zip(part_of) {
            parts.entry(part).or_default().extend(class);
        }
        let mut parts: Vec<Vec<HostIx>> = parts.into_values().collect();
        parts.iter_mut().for_each(|part| part.sort());
        parts.sort();
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Stream;

    fn hosts(numbers: &[u32]) -> Vec<HostIx> {
        numbers.iter().map(|n| HostIx(*n)).collect()
    }

    #[test]
    fn a_cut_in_two_makes_two_parts_and_heals() {
        let mut links = Links::new(Quality::default());
        let all = hosts(&[0, 1, 2, 3]);
        assert_eq!(links.parts(&all), vec![all.clone()]);
        let id = links.cut(Cut::Groups(vec![0, 1, 0, 1]));
        assert_eq!(links.parts(&all), vec![hosts(&[0, 2]), hosts(&[1, 3])]);
        assert!(links.mend(id) && !links.mend(id));
        assert_eq!(links.parts(&all), vec![all]);
    }

    #[test]
    fn one_way_is_not_both_ways_and_a_bridge_joins() {
        let mut links = Links::new(Quality::default());
        links.cut(Cut::OneWay { from: [HostIx(0)].into(), to: [HostIx(1)].into() });
        assert!(!links.passes(HostIx(0), HostIx(1)) && links.passes(HostIx(1), HostIx(0)));
        assert_eq!(links.parts(&hosts(&[0, 1])).len(), 2);
        assert_eq!(links.parts(&hosts(&[0, 1, 2])).len(), 1, "over the third");
        links.heal();
        links.cut(Cut::Between([HostIx(0)].into(), [HostIx(1)].into()));
        assert_eq!(links.parts(&hosts(&[0, 1, 2])).len(), 1);
        assert!(!links.both_ways(HostIx(0), HostIx(1)));
    }

    #[test]
    fn loss_is_about_as_asked() {
        let mut links = Links::new(Quality { loss: 50, ..Quality::default() });
        links.set_host(HostIx(1), Some(Quality { loss: 150, ..Quality::default() }));
        let mut chance = Chance::new(3, Stream::Links);
        let mut lost = |a, b| {
            (0..10_000)
                .filter(|_| links.datagram(HostIx(a), HostIx(b), &mut chance) == Fate::Lost)
                .count()
        };
        assert!((400..600).contains(&lost(0, 2)));
        let mut links = links.clone();
        let id = links
            .worsen(Scope::Link(HostIx(2), HostIx(0)), Quality { loss: 450, ..Quality::default() });
        let mut lost = |links: &Links, a, b| {
            (0..10_000)
                .filter(|_| links.datagram(HostIx(a), HostIx(b), &mut chance) == Fate::Lost)
                .count()
        };
        assert!((4800..5200).contains(&lost(&links, 0, 2)));
        assert!((400..600).contains(&lost(&links, 0, 3)), "another link");
        assert!(links.mend(id) && !links.mend(id));
        assert!((400..600).contains(&lost(&links, 0, 2)));
        let mut lost = |a, b| lost(&links, a, b);
        assert!((1850..2150).contains(&lost(0, 1)));
    }
}
