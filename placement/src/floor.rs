//! The hosts of one zone on shelves, the next to fill first.
//!
//! A shelf is a set of hosts between which only the race and the load decide: the same soft limit
//! reached or not, the same level, the same side of the soft bound, the same weight. A host's *level*
//! is its replicas of the service over its weight (Adams' method again: every host gets one before any
//! gets two, then in proportion to weight), so equal hosts never differ by more than one. Hosts without
//! room stand on no shelf: within one plan loads only grow, so they never come back.
//!
//! The keys of a shelf lie side by side in memory, because the race over them is where the time of a
//! large plan goes.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::cluster::Index;
use crate::hash::{Race, draw};
use crate::plan::CHOICES;

/// Shelves in the order in which they are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Shelf {
    /// At the soft limit per node.
    pub(crate) at_limit: bool,
    /// Over the soft bound, and not entitled to its first replica. Full hosts are on one level: load
    /// decides among them.
    pub(crate) full: bool,
    pub(crate) level: u64,
    /// One more would lift it over the soft bound.
    pub(crate) over: bool,
    /// The heaviest first: they set the bar for the others.
    pub(crate) weight: Reverse<u32>,
}

impl Shelf {
    /// Replicas over weight, in 2^-32. Equal fractions give equal levels.
    pub(crate) fn level(count: u32, weight: u32) -> u64 {
        (u64::from(count) << 32) / u64::from(weight.max(1))
    }

    /// Two shelves of one rung are raced together.
    pub(crate) fn rung(&self) -> (bool, bool, u64, bool) {
        (self.at_limit, self.full, self.level, self.over)
    }
}

#[derive(Clone, Debug, Default)]
struct Hosts {
    keys: Vec<u64>,
    indexes: Vec<Index>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Floor {
    shelves: BTreeMap<Shelf, Hosts>,
}

/// A host that came in among the first of its rung.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finalist {
    pub(crate) race: Race,
    pub(crate) at: Index,
}

impl Floor {
    /// From hosts with their shelves; quickest when equal shelves follow each other.
    pub(crate) fn new(hosts: impl Iterator<Item = (Shelf, u64, Index)>) -> Self {
        let mut floor = Self::default();
        let mut run = Hosts::default();
        let mut current = None;
        for (shelf, key, at) in hosts {
            if current != Some(shelf) {
                floor.append(current, &mut run);
                current = Some(shelf);
            }
            run.push(key, at);
        }
        floor.append(current, &mut run);
        floor
    }

    /// Empties `run` onto a shelf.
    fn append(&mut self, shelf: Option<Shelf>, run: &mut Hosts) {
        if let Some(shelf) = shelf {
            let hosts = self.shelves.entry(shelf).or_default();
            hosts.keys.append(&mut run.keys);
            hosts.indexes.append(&mut run.indexes);
        }
    }

    pub(crate) fn insert(&mut self, shelf: Shelf, key: u64, at: Index) {
        self.shelves.entry(shelf).or_default().push(key, at);
    }

    /// Takes a host off its shelf, if it stands there.
    pub(crate) fn remove(&mut self, shelf: Shelf, at: Index) {
        let Some(hosts) = self.shelves.get_mut(&shelf) else { return };
        if let Some(place) = hosts.indexes.iter().position(|other| *other == at) {
            hosts.indexes.swap_remove(place);
            hosts.keys.swap_remove(place);
        }
        if hosts.keys.is_empty() {
            self.shelves.remove(&shelf);
        }
    }

    /// Calls `rung` with the first [`CHOICES`] of the race on each rung that is or is not at the soft
    /// limit, the lowest rung first, until it returns false. Hosts in `skip` do not race.
    pub(crate) fn finalists(
        &self,
        seed: u64,
        at_limit: bool,
        skip: &[Index],
        mut rung: impl FnMut(&mut Vec<Finalist>) -> bool,
    ) -> bool {
        let mut first = Vec::with_capacity(2 * CHOICES);
        let mut current = None;
        for (shelf, hosts) in &self.shelves {
            if shelf.at_limit != at_limit {
                continue;
            }
            if current.is_some_and(|rung| rung != shelf.rung()) && !first.is_empty() {
                if !rung(&mut first) {
                    return false;
                }
                first.clear();
            }
            current = Some(shelf.rung());
            hosts.race(seed, shelf.weight.0, skip, &mut first);
        }
        first.is_empty() || rung(&mut first)
    }
}

impl Hosts {
    fn push(&mut self, key: u64, at: Index) {
        self.keys.push(key);
        self.indexes.push(at);
    }

    /// Merges the first of this shelf into the first [`CHOICES`] of its rung. Within one weight the
    /// order of the race is the order of the hashes, so the logarithm is only taken for those.
    fn race(&self, seed: u64, weight: u32, skip: &[Index], first: &mut Vec<Finalist>) {
        let mut best = [(0u64, 0u32); CHOICES];
        let mut found = 0;
        let mut bar = match first.get(CHOICES - 1) {
            Some(last) => last.race.bar(weight),
            None => 0,
        };
        for (place, key) in self.keys.iter().enumerate() {
            let hash = draw(seed, *key);
            if hash < bar || !skip.is_empty() && skip.contains(&self.indexes[place]) {
                continue;
            }
            // Insertion into a short sorted list; rare once the bar is up.
            let mut hole = found.min(CHOICES - 1);
            if found == CHOICES && hash <= best[hole].0 {
                continue;
            }
            while hole > 0 && best[hole - 1].0 < hash {
                best[hole] = best[hole - 1];
                hole -= 1;
            }
            best[hole] = (hash, place as u32);
            found = (found + 1).min(CHOICES);
            if found == CHOICES {
                bar = bar.max(best[CHOICES - 1].0);
            }
        }
        for (hash, place) in &best[..found] {
            let at = self.indexes[*place as usize];
            let finalist = Finalist { race: Race::at(*hash, weight), at };
            let place = first.partition_point(|other| (other.race, other.at) < (finalist.race, at));
            if place >= CHOICES {
                break;
            }
            first.insert(place, finalist);
            first.truncate(CHOICES);
        }
    }
}
