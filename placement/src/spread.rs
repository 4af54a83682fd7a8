//! Groups before hosts: which zone is behind.
//!
//! Hosts form a tree: one level for each spread preference of the service, then one for zones. An
//! orphan goes down the tree to the group that is behind, and the order in which groups would be tried
//! next is the order of its backups.
//!
//! The two kinds of level differ in what "behind" means. A *preference* gives every value the same
//! number of replicas, as in Swarm: the operator asked for it. *Zones* come unasked, so a zone gets
//! replicas in proportion to its weight, but every zone gets one before any gets two (Adams' method of
//! apportionment: the least replicas/weight comes next). Equal zones therefore differ by at most one,
//! and equal hosts differ by at most one also where zones are of different size.
//!
//! Only hosts that suit the request count, with their replicas. Ties are settled by a race between the
//! groups, so that services with few replicas are spread over the groups in proportion to weight.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::cluster::{Cluster, Index};
use crate::hash::{Purpose, Race, draw, mix, name_key, seed};
use crate::host::four_bits;
use crate::request::Request;
use crate::roster::Roster;

/// Marks a host that is in no group, because it does not suit the request.
const NOWHERE: u32 = u32::MAX;

/// One group of one level.
#[derive(Clone, Debug)]
struct Group {
    count: u64,
    weight: u64,
    /// Settles ties; a function of the service, the group's name and its weight.
    race: Race,
    is_zone: bool,
}

/// The tree for one request.
#[derive(Clone, Debug)]
pub(crate) struct Spread<'c> {
    groups: Vec<Group>,
    /// From the top to the zone, for each leaf.
    paths: Vec<Vec<u32>>,
    members: Vec<Cow<'c, [Index]>>,
    leaf_of: Cow<'c, [u32]>,
}

impl<'c> Spread<'c> {
    /// Every open host suits: the leaves are the cluster's zones. Costs one step for each zone.
    pub(crate) fn over_zones(cluster: &'c Cluster, request: &Request) -> Self {
        let seed = seed(request.service, Purpose::Group, 0);
        let groups = cluster.zones.iter().map(|zone| Group::new(seed, zone.key, zone.weight, true));
        Self {
            groups: groups.collect(),
            paths: (0..cluster.zones.len() as u32).map(|zone| vec![zone]).collect(),
            members: cluster.zones.iter().map(|zone| Cow::Borrowed(&zone.open[..])).collect(),
            leaf_of: Cow::Borrowed(&cluster.zone_of),
        }
    }

    /// Only `suited` hosts take part, or the request has preferences.
    pub(crate) fn over(cluster: &'c Cluster, request: &Request, suited: &[Index]) -> Self {
        let mut leaves: BTreeMap<Vec<u64>, Vec<Index>> = BTreeMap::new();
        for at in suited {
            let host = cluster.host_at(*at);
            let mut path: Vec<u64> =
                request.preferences.iter().map(|p| name_key(p.value(host))).collect();
            path.push(cluster.zones[cluster.zone_of[*at as usize] as usize].key);
            leaves.entry(path).or_default().push(*at);
        }
        let mut spread = Self {
            groups: Vec::new(),
            paths: Vec::new(),
            members: Vec::new(),
            leaf_of: Cow::Owned(vec![NOWHERE; cluster.keys.len()]),
        };
        let mut known: BTreeMap<Vec<u64>, u32> = BTreeMap::new();
        let mut keys: Vec<u64> = Vec::new();
        for (leaf, (path, mut members)) in leaves.into_iter().enumerate() {
            members.sort_by_key(|at| (cluster.weight(*at), *at));
            let weight: u64 = members.iter().map(|at| u64::from(cluster.weight(*at))).sum();
            let mut ids = Vec::with_capacity(path.len());
            for depth in 0..path.len() {
                let id = *known.entry(path[..=depth].to_vec()).or_insert_with(|| {
                    // The parent is in the key: zone "a" of one rack is another than that of the next.
                    let parent = ids.last().map_or(0, |parent: &u32| mix(keys[*parent as usize]));
                    keys.push(parent ^ path[depth]);
                    spread.groups.push(Group::new(0, 0, 0, depth + 1 == path.len()));
                    keys.len() as u32 - 1
                });
                spread.groups[id as usize].weight += weight;
                ids.push(id);
            }
            for at in &members {
                spread.leaf_of.to_mut()[*at as usize] = leaf as u32;
            }
            spread.paths.push(ids);
            spread.members.push(Cow::Owned(members));
        }
        let seed = seed(request.service, Purpose::Group, 0);
        for (group, key) in spread.groups.iter_mut().zip(keys) {
            *group = Group::new(seed, key, group.weight, group.is_zone);
        }
        spread
    }

    /// Counts what a roster has as settled on open hosts.
    pub(crate) fn count_roster(&mut self, cluster: &Cluster, roster: &Roster) {
        if matches!(self.leaf_of, Cow::Owned(_)) {
            for (at, count) in roster.hosts(cluster) {
                if let Some(leaf) = self.leaf_of(at).filter(|_| cluster.is_open(at)) {
                    self.count_in(leaf, u64::from(count));
                }
            }
            return;
        }
        for (group, zone) in self.groups.iter_mut().zip(&cluster.zones) {
            group.count = roster.in_zone(zone.key);
        }
        // Few: hosts that are gone hold nothing.
        for at in &cluster.closed_and_loaded {
            let count = u64::from(roster.on(cluster.id(*at)));
            let group = &mut self.groups[cluster.zone_of[*at as usize] as usize];
            group.count = group.count.saturating_sub(count);
        }
    }

    /// Counts one replica on a host.
    pub(crate) fn count(&mut self, at: Index) {
        if let Some(leaf) = self.leaf_of(at) {
            self.count_in(leaf, 1);
        }
    }

    /// Counts replicas on hosts of a leaf.
    pub(crate) fn count_in(&mut self, leaf: usize, replicas: u64) {
        for id in &self.paths[leaf] {
            self.groups[*id as usize].count += replicas;
        }
    }

    /// The leaf that is due next.
    pub(crate) fn first(&self) -> Option<usize> {
        self.inhabited().min_by(|a, b| self.compare(*a, *b))
    }

    /// The leaf of a host; `None` if it does not suit the request.
    pub(crate) fn leaf_of(&self, at: Index) -> Option<usize> {
        let leaf = self.leaf_of[at as usize];
        (leaf != NOWHERE).then_some(leaf as usize)
    }

    pub(crate) fn members(&self, leaf: usize) -> &[Index] {
        &self.members[leaf]
    }

    /// Replicas counted in the zone of a leaf.
    pub(crate) fn replicas(&self, leaf: usize) -> u64 {
        self.paths[leaf].last().map_or(0, |zone| self.groups[*zone as usize].count)
    }

    pub(crate) fn leaves(&self) -> usize {
        self.paths.len()
    }

    /// Puts the leaves in the order in which they are due, the one that is behind first.
    pub(crate) fn order(&self, leaves: &mut Vec<usize>) {
        leaves.clear();
        leaves.extend(self.inhabited());
        leaves.sort_unstable_by(|a, b| self.compare(*a, *b));
    }

    /// Without the zones whose hosts are all closed.
    fn inhabited(&self) -> impl Iterator<Item = usize> {
        (0..self.paths.len()).filter(|leaf| !self.members[*leaf].is_empty())
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        for (x, y) in self.paths[a].iter().zip(&self.paths[b]) {
            if x != y {
                let (one, other) = (&self.groups[*x as usize], &self.groups[*y as usize]);
                return one.compare(other).then(x.cmp(y));
            }
        }
        Ordering::Equal
    }

    /// Whether a replica that moves from leaf `from` to leaf `to` brings their groups closer together
    /// (`Greater`), leaves them as even as they were (`Equal`), or drives them apart (`Less`). Decided
    /// at the level where the two part, as the levels above do not notice.
    pub(crate) fn gain(&self, from: usize, to: usize) -> Ordering {
        for (x, y) in self.paths[from].iter().zip(&self.paths[to]) {
            if x != y {
                let (from, to) = (&self.groups[*x as usize], &self.groups[*y as usize]);
                let (gives, takes) = if from.is_zone { (from.weight, to.weight) } else { (1, 1) };
                return gain((from.count, gives), (to.count, takes));
            }
        }
        Ordering::Equal
    }
}

/// What a move from one (count, weight) to another does to evenness in Adams' sense: the giver's last
/// replica, at `(count - 1) / weight`, against the taker's next one, at `count / weight`. Every gain
/// lowers the sum of `count * (count - 1) / weight`, so that gains come to an end.
pub(crate) fn gain(from: (u64, u64), to: (u64, u64)) -> Ordering {
    let Some(last) = from.0.checked_sub(1) else { return Ordering::Less };
    (u128::from(last) * u128::from(to.1)).cmp(&(u128::from(to.0) * u128::from(from.1)))
}

impl Group {
    fn new(seed: u64, key: u64, weight: u64, is_zone: bool) -> Self {
        // Rounded: a host more or less in a zone seldom changes who wins a tie.
        let rounded = u32::try_from(four_bits(weight)).unwrap_or(u32::MAX);
        Self { count: 0, weight, race: Race::at(draw(seed, key), rounded), is_zone }
    }

    fn compare(&self, other: &Self) -> Ordering {
        let counts = if self.is_zone {
            let (mine, theirs) = (u128::from(self.count), u128::from(other.count));
            (mine * u128::from(other.weight)).cmp(&(theirs * u128::from(self.weight)))
        } else {
            self.count.cmp(&other.count)
        };
        counts.then(self.race.cmp(&other.race))
    }
}
