//! The plan once more, in the most naive way: every orphan sorts every host anew. No shelves, no
//! running sums, no shortcuts; only the hash and the averages are shared with the real one.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use membership::id::NodeId;

use crate::cluster::{Index, Totals};
use crate::eligible::{Own, fixed, verdict};
use crate::fair::Fair;
use crate::hash::{Purpose, draw, mix, name_key, seed};
use crate::host::four_bits;
use crate::*;

struct Naive<'w> {
    cluster: &'w Cluster,
    request: &'w Request,
    suited: Vec<Index>,
    own: BTreeMap<Index, Own>,
    fair: Fair,
}

/// Slots without candidates have none.
pub(crate) fn naive_plan(
    cluster: &Cluster,
    request: &Request,
    held: &BTreeMap<u32, Held>,
    orphans: &[u32],
) -> BTreeMap<u32, Vec<NodeId>> {
    let suited: Vec<Index> = cluster.indexes().filter(|at| fixed(cluster, request, *at)).collect();
    let mut own: BTreeMap<Index, Own> = cluster.indexes().map(|at| (at, Own::default())).collect();
    let mut starting = BTreeMap::new();
    let mut totals = Totals::default();
    for at in &suited {
        totals.add_host(cluster.host_at(*at), cluster.weight(*at), cluster.load_at(*at));
    }
    for (slot, holder) in held {
        let at = cluster.index(holder.node).unwrap();
        if holder.settled {
            own.get_mut(&at).unwrap().count += 1;
        } else {
            starting.insert(*slot, at);
            own.get_mut(&at).unwrap().shift -= 1;
            if suited.contains(&at) {
                totals.remove_replica(request);
            }
        }
    }
    let mut slots: Vec<u32> = starting.keys().chain(orphans).copied().collect();
    slots.sort_unstable();
    let settled = held.values().filter(|held| held.settled).count();
    let replicas = (settled + slots.len()) as u64;
    let fair = Fair::new(&totals, request, slots.len() as u32, replicas);
    let mut naive = Naive { cluster, request, suited, own, fair };
    let mut plan = BTreeMap::new();
    for slot in slots {
        let owner = match starting.get(&slot) {
            Some(at) => Some(*at),
            None => {
                let candidates = naive.candidates(slot);
                let first = candidates.first().copied();
                plan.insert(slot, candidates.iter().map(|at| cluster.id(*at)).collect());
                first
            }
        };
        if let Some(own) = owner.and_then(|at| naive.own.get_mut(&at)) {
            own.count += 1;
            own.shift += 1;
        }
    }
    plan
}

impl Naive<'_> {
    fn candidates(&self, slot: u32) -> Vec<Index> {
        let mut left: Vec<Index> = self.suited.clone();
        left.retain(|at| {
            let passed = self.request.passed_over.contains(&(slot, self.cluster.id(*at)));
            !passed && verdict(self.cluster, self.request, *at, self.own[at]).is_ok()
        });
        let mut found = Vec::new();
        while found.len() < CHOICES && !left.is_empty() {
            let next = *left.iter().min_by(|a, b| self.compare(**a, **b)).unwrap();
            let mut rung = left.clone();
            rung.retain(|at| self.compare(*at, next) == Ordering::Equal);
            left.retain(|at| !rung.contains(at));
            let race = |at: &Index| {
                race(self.request.service, slot, self.cluster.id(*at), self.cluster.weight(*at))
            };
            rung.sort_by_key(race);
            rung.truncate(CHOICES);
            rung.sort_by_key(|at| {
                (self.fair.fullness(self.cluster, self.request, *at, self.own[at]), race(at))
            });
            found.extend(rung);
        }
        found
    }

    /// Which of two hosts is asked first, as far as the race does not matter.
    fn compare(&self, a: Index, b: Index) -> Ordering {
        let at_limit = |at| {
            let count = self.own[&at].count;
            matches!(self.request.max_per_node, Some(MaxPerNode::Soft(max)) if count >= max)
        };
        let over = |at| self.fair.is_over(self.cluster, self.request, at, self.own[&at]);
        let (count, weight) =
            (|at| u128::from(self.own[&at].count), |at| u128::from(self.cluster.weight(at)));
        let full = |at| {
            let entitled = count(at) == 0 && self.fair.entitles(self.cluster.weight(at));
            over(at) && !entitled
        };
        at_limit(a)
            .cmp(&at_limit(b))
            .then_with(|| self.compare_groups(a, b))
            .then_with(|| full(a).cmp(&full(b)))
            .then_with(|| {
                if full(a) {
                    Ordering::Equal
                } else {
                    (count(a) * weight(b)).cmp(&(count(b) * weight(a)))
                }
            })
            .then_with(|| over(a).cmp(&over(b)))
    }

    fn path(&self, at: Index) -> Vec<String> {
        let host = self.cluster.host_at(at);
        let mut path: Vec<String> =
            self.request.preferences.iter().map(|p| p.value(host).to_owned()).collect();
        path.push(host.zone.clone());
        path
    }

    fn compare_groups(&self, a: Index, b: Index) -> Ordering {
        let (one, other) = (self.path(a), self.path(b));
        let Some(depth) = (0..one.len()).find(|depth| one[*depth] != other[*depth]) else {
            return Ordering::Equal;
        };
        let standing = |path: &[String]| {
            let members: Vec<Index> = self
                .suited
                .iter()
                .copied()
                .filter(|at| self.path(*at)[..=depth] == *path)
                .collect();
            let count: u128 = members.iter().map(|at| u128::from(self.own[at].count)).sum();
            let weight: u64 = members.iter().map(|at| u64::from(self.cluster.weight(*at))).sum();
            let mut key = 0;
            for (place, name) in path.iter().enumerate() {
                key = if place == 0 { 0 } else { mix(key) } ^ name_key(name);
            }
            let hash = draw(seed(self.request.service, Purpose::Group, 0), key);
            (count, u128::from(weight), Race::at(hash, four_bits(weight) as u32))
        };
        let (one, other) = (standing(&one[..=depth]), standing(&other[..=depth]));
        let counts = if depth == self.request.preferences.len() {
            (one.0 * other.1).cmp(&(other.0 * one.1))
        } else {
            one.0.cmp(&other.0)
        };
        counts.then(one.2.cmp(&other.2))
    }
}
