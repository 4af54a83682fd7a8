//! The hosts of one view with what they carry, laid out for planning.
//!
//! Built when hosts join; afterwards loads change one replica at a time and hosts open and close one by
//! one, and every sum that planning needs is kept up to date on the way. A cluster of 5,000 hosts takes
//! about two milliseconds to build.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use membership::id::NodeId;
use membership::member::Resources;

use crate::hash::{name_key, node_key};
use crate::host::{Accepts, Host};
use crate::request::{HostPorts, Request};

/// What one host carries, of all services: the sum over the claims it publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub reserved: Resources,
    /// Claims, whether they reserve anything or not.
    pub tasks: u32,
    pub host_ports: HostPorts,
}

impl Load {
    /// Adds one replica.
    pub fn add(&mut self, request: &Request) {
        self.reserved = plus(self.reserved, request.resources, 1);
        self.tasks = self.tasks.saturating_add(1);
        for port in &request.host_ports {
            *self.host_ports.entry(*port).or_insert(0) += 1;
        }
    }

    /// Takes one replica away; what is not there stays zero.
    pub fn remove(&mut self, request: &Request) {
        self.reserved = plus(self.reserved, request.resources, -1);
        self.tasks = self.tasks.saturating_sub(1);
        for port in &request.host_ports {
            if let Some(users) = self.host_ports.get_mut(port) {
                *users = users.saturating_sub(1);
                if *users == 0 {
                    self.host_ports.remove(port);
                }
            }
        }
    }
}

/// `base` with `count` (which may be negative) times `each`, within the bounds of the type.
pub(crate) fn plus(base: Resources, each: Resources, count: i64) -> Resources {
    Resources {
        cpu_milli: shifted(base.cpu_milli, each.cpu_milli, count),
        memory_bytes: shifted(base.memory_bytes, each.memory_bytes, count),
    }
}

pub(crate) fn shifted(base: u64, each: u64, count: i64) -> u64 {
    let change = each.saturating_mul(count.unsigned_abs());
    if count < 0 { base.saturating_sub(change) } else { base.saturating_add(change) }
}

/// A host's number inside one [`Cluster`]: its place in the order of ids.
pub(crate) type Index = u32;

/// Hosts, loads, and sums over both.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// In the order of ids.
    hosts: Vec<Host>,
    loads: Vec<Load>,
    ids: Vec<NodeId>,
    /// For each value of an id's first bits the first host that has it or a greater one.
    starts: Vec<Index>,
    /// Beside the hosts once more, dense: planning reads these for every host of a zone.
    capacities: Vec<Resources>,
    open: Vec<bool>,
    pub(crate) keys: Vec<u64>,
    pub(crate) weights: Vec<u32>,
    /// Index into `zones`.
    pub(crate) zone_of: Vec<u32>,
    pub(crate) zones: Vec<Zone>,
    pub(crate) totals: Totals,
    /// Hosts that take nothing new and hold something.
    pub(crate) closed_and_loaded: BTreeSet<Index>,
}

/// The hosts of one zone that take new replicas.
#[derive(Clone, Debug, Default)]
pub(crate) struct Zone {
    pub(crate) key: u64,
    /// By (weight, id), so that equals stand together.
    pub(crate) open: Vec<Index>,
    /// Sum of the weights of `open`.
    pub(crate) weight: u64,
}

/// Sums over a set of hosts, for averages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) hosts: u64,
    pub(crate) weight: u64,
    pub(crate) capacity: Resources,
    pub(crate) reserved: Resources,
    pub(crate) tasks: u64,
}

impl Totals {
    pub(crate) fn add_host(&mut self, host: &Host, weight: u32, load: &Load) {
        self.hosts += 1;
        self.weight = self.weight.saturating_add(u64::from(weight));
        self.capacity = plus(self.capacity, host.capacity, 1);
        self.add_load(load);
    }

    fn remove_host(&mut self, host: &Host, weight: u32, load: &Load) {
        self.hosts -= 1;
        self.weight = self.weight.saturating_sub(u64::from(weight));
        self.capacity = plus(self.capacity, host.capacity, -1);
        self.remove_load(load);
    }

    /// Takes out one replica.
    pub(crate) fn remove_replica(&mut self, request: &Request) {
        self.reserved = plus(self.reserved, request.resources, -1);
        self.tasks = self.tasks.saturating_sub(1);
    }

    fn add_load(&mut self, load: &Load) {
        self.reserved = plus(self.reserved, load.reserved, 1);
        self.tasks = self.tasks.saturating_add(u64::from(load.tasks));
    }

    fn remove_load(&mut self, load: &Load) {
        self.reserved = plus(self.reserved, load.reserved, -1);
        self.tasks = self.tasks.saturating_sub(u64::from(load.tasks));
    }
}

impl Cluster {
    /// From the members of a view, in any order, without load. Of two hosts with one id the later
    /// stands.
    pub fn new(hosts: impl IntoIterator<Item = Host>) -> Self {
        let hosts: BTreeMap<NodeId, Host> = hosts.into_iter().map(|host| (host.id, host)).collect();
        Self::laid_out(hosts)
    }

    fn laid_out(hosts: BTreeMap<NodeId, Host>) -> Self {
        let mut names: Vec<String> = hosts.values().map(|host| host.zone.clone()).collect();
        names.sort();
        names.dedup();
        let hosts: Vec<Host> = hosts.into_values().collect();
        let mut cluster = Self {
            ids: hosts.iter().map(|host| host.id).collect(),
            starts: starts(&hosts),
            capacities: hosts.iter().map(|host| host.capacity).collect(),
            open: hosts.iter().map(|host| host.accepts == Accepts::Yes).collect(),
            loads: vec![Load::default(); hosts.len()],
            keys: hosts.iter().map(|host| node_key(host.id)).collect(),
            weights: hosts.iter().map(Host::weight).collect(),
            zone_of: hosts.iter().map(|host| place(&names, &host.zone)).collect(),
            zones: names.iter().map(|n| Zone { key: name_key(n), ..Zone::default() }).collect(),
            totals: Totals::default(),
            closed_and_loaded: BTreeSet::new(),
            hosts,
        };
        cluster.recount();
        cluster
    }

    /// Makes the zones and totals anew.
    fn recount(&mut self) {
        self.totals = Totals::default();
        for zone in &mut self.zones {
            (zone.open, zone.weight) = (Vec::new(), 0);
        }
        let mut order: Vec<Index> = self.indexes().filter(|at| self.is_open(*at)).collect();
        order.sort_by_key(|at| (self.weight(*at), *at));
        for at in order {
            let (i, weight) = (at as usize, self.weight(at));
            let zone = &mut self.zones[self.zone_of[i] as usize];
            zone.open.push(at);
            zone.weight += u64::from(weight);
            self.totals.add_host(&self.hosts[i], weight, &self.loads[i]);
        }
    }

    /// Counts one replica of `request` on `node`. False if there is no such host.
    pub fn add_load(&mut self, node: NodeId, request: &Request) -> bool {
        self.change_load(node, |load| load.add(request))
    }

    /// Counts one replica of `request` less on `node`. False if there is no such host.
    pub fn remove_load(&mut self, node: NodeId, request: &Request) -> bool {
        self.change_load(node, |load| load.remove(request))
    }

    /// Replaces what `node` carries. False if there is no such host.
    pub fn set_load(&mut self, node: NodeId, load: Load) -> bool {
        self.change_load(node, |old| *old = load)
    }

    fn change_load(&mut self, node: NodeId, change: impl FnOnce(&mut Load)) -> bool {
        let Some(at) = self.index(node) else { return false };
        let open = self.is_open(at);
        let load = &mut self.loads[at as usize];
        if open {
            self.totals.remove_load(load);
        }
        change(load);
        if open {
            self.totals.add_load(load);
        } else {
            self.note_closed(at);
        }
        true
    }

    fn note_closed(&mut self, at: Index) {
        if !self.is_open(at) && self.load_at(at).tasks > 0 {
            self.closed_and_loaded.insert(at);
        } else {
            self.closed_and_loaded.remove(&at);
        }
    }

    /// Opens or closes a host: no other host is looked at. False if there is no such host.
    pub fn set_accepts(&mut self, node: NodeId, accepts: Accepts) -> bool {
        let Some(at) = self.index(node) else { return false };
        let i = at as usize;
        let (was_open, is_open) = (self.open[i], accepts == Accepts::Yes);
        self.open[i] = is_open;
        self.hosts[i].accepts = accepts;
        if was_open == is_open {
            return true;
        }
        let weight = self.weights[i];
        let zone = &mut self.zones[self.zone_of[i] as usize];
        let weights = &self.weights;
        let place = zone.open.binary_search_by_key(&(weight, at), |o| (weights[*o as usize], *o));
        match place {
            Ok(place) if !is_open => {
                zone.open.remove(place);
                zone.weight -= u64::from(weight);
                self.totals.remove_host(&self.hosts[i], weight, &self.loads[i]);
            }
            Err(place) if is_open => {
                zone.open.insert(place, at);
                zone.weight += u64::from(weight);
                self.totals.add_host(&self.hosts[i], weight, &self.loads[i]);
            }
            _ => {}
        }
        self.note_closed(at);
        true
    }

    /// Brings hosts up to date: new ones come in without load, known ones keep theirs. Costs one step for
    /// each of them, unless one is new or has another zone or capacity: then all are laid out anew.
    pub fn put(&mut self, hosts: impl IntoIterator<Item = Host>) {
        let mut moved: BTreeMap<NodeId, Host> = BTreeMap::new();
        for host in hosts {
            let known = self.index(host.id).map(|at| (at, self.host_at(at)));
            match known.filter(|(_, k)| k.zone == host.zone && k.capacity == host.capacity) {
                Some((at, _)) => {
                    self.set_accepts(host.id, host.accepts.clone());
                    self.hosts[at as usize] = host;
                }
                None => _ = moved.insert(host.id, host),
            }
        }
        if moved.is_empty() {
            return;
        }
        let loads: BTreeMap<NodeId, Load> =
            self.ids.iter().copied().zip(std::mem::take(&mut self.loads)).collect();
        let mut hosts: BTreeMap<NodeId, Host> =
            self.ids.iter().copied().zip(std::mem::take(&mut self.hosts)).collect();
        hosts.append(&mut moved);
        *self = Self::laid_out(hosts);
        for (node, load) in loads {
            self.set_load(node, load);
        }
    }

    /// All hosts in the order of their ids.
    pub fn hosts(&self) -> impl ExactSizeIterator<Item = &Host> {
        self.hosts.iter()
    }

    pub fn host(&self, node: NodeId) -> Option<&Host> {
        self.index(node).map(|at| self.host_at(at))
    }

    pub fn load(&self, node: NodeId) -> Option<&Load> {
        self.index(node).map(|at| self.load_at(at))
    }

    pub(crate) fn index(&self, node: NodeId) -> Option<Index> {
        let first = first_bits(node, self.starts.len().checked_sub(2)?);
        // Ids are digests and so spread evenly: about one host has the same first bits.
        let range = self.starts[first] as usize..self.starts[first + 1] as usize;
        let at = self.ids[range.clone()].binary_search(&node).ok()?;
        Index::try_from(range.start + at).ok()
    }

    pub(crate) fn indexes(&self) -> Range<Index> {
        // More hosts than u32 numbers would not fit any memory.
        0..Index::try_from(self.hosts.len()).unwrap_or(Index::MAX)
    }

    pub(crate) fn host_at(&self, at: Index) -> &Host {
        &self.hosts[at as usize]
    }

    pub(crate) fn load_at(&self, at: Index) -> &Load {
        &self.loads[at as usize]
    }

    pub(crate) fn capacity(&self, at: Index) -> Resources {
        self.capacities[at as usize]
    }

    pub(crate) fn id(&self, at: Index) -> NodeId {
        self.ids[at as usize]
    }

    pub(crate) fn weight(&self, at: Index) -> u32 {
        self.weights[at as usize]
    }

    pub(crate) fn is_open(&self, at: Index) -> bool {
        self.open[at as usize]
    }
}

/// As many of an id's first bits as tell `most + 1` (a power of two) values apart.
fn first_bits(node: NodeId, most: usize) -> usize {
    let bits = usize::BITS - most.leading_zeros();
    (node.0 >> 64).checked_shr(64 - bits).unwrap_or(0) as usize
}

fn starts(hosts: &[Host]) -> Vec<Index> {
    let values = hosts.len().next_power_of_two();
    let mut starts = Vec::with_capacity(values + 1);
    for value in 0..=values {
        let at = hosts.partition_point(|host| first_bits(host.id, values - 1) < value);
        starts.push(at as Index);
    }
    starts
}

/// The place of a name that is in the sorted list.
fn place(names: &[String], name: &str) -> u32 {
    names.binary_search_by(|other| other.as_str().cmp(name)).map_or(0, |at| at as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Closed;
    use crate::tests::worlds::{GIB, host, request};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_host_is_found_and_nobody_else(
            ids in proptest::collection::btree_set(any::<u128>(), 0..40),
            // As a peer might choose them, all alike.
            close in proptest::collection::btree_set(0..20u128, 0..10),
            other: u128,
        ) {
            let ids: Vec<u128> = ids.union(&close).copied().collect();
            let host = |id: &u128| Host { id: NodeId(*id), ..host(0, "", 4, 8) };
            let cluster = Cluster::new(ids.iter().rev().map(host));
            for (at, id) in ids.iter().enumerate() {
                prop_assert_eq!(cluster.index(NodeId(*id)), Some(at as Index));
            }
            prop_assert_eq!(cluster.index(NodeId(other)).is_some(), ids.contains(&other));
        }

        #[test]
        fn sums_kept_on_the_way_are_the_sums(
            changes in proptest::collection::vec((0..6u32, 0..6u8, 0..3u64), 0..60),
        ) {
            let hosts: Vec<Host> = (0..6).map(|n| host(n, ["a", "b"][n as usize % 2], 4, 8)).collect();
            let mut cluster = Cluster::new(hosts.clone());
            for (at, change, size) in changes {
                let node = hosts[at as usize].id;
                let mut request = request(1);
                request.resources = Resources { cpu_milli: size * 100, memory_bytes: size * GIB };
                match change {
                    0 | 1 => prop_assert!(cluster.add_load(node, &request)),
                    2 => prop_assert!(cluster.remove_load(node, &request)),
                    3 => {
                        let zone = ["a", "b", "c"][size as usize];
                        cluster.put([Host { zone: zone.to_owned(), ..hosts[at as usize].clone() }]);
                    }
                    _ if size == 0 => prop_assert!(cluster.set_accepts(node, Accepts::Yes)),
                    _ => prop_assert!(cluster.set_accepts(node, Accepts::No(Closed::Paused))),
                }
            }
            let mut anew = cluster.clone();
            anew.recount();
            prop_assert_eq!(anew.totals, cluster.totals);
            let closed = cluster.indexes().filter(|at| !cluster.is_open(*at));
            let loaded = closed.filter(|at| cluster.load_at(*at).tasks > 0).collect();
            prop_assert_eq!(&cluster.closed_and_loaded, &loaded);
            for (anew, kept) in anew.zones.iter().zip(&cluster.zones) {
                prop_assert_eq!((&anew.open, anew.weight), (&kept.open, kept.weight));
            }
        }
    }
}
