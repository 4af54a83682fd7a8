//! Clusters, requests and holders for property tests: small, mixed, and often nearly full.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use membership::id::{NodeId, ServiceId};
use membership::member::Resources;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::*;

pub(crate) const GIB: u64 = 1 << 30;

pub(crate) fn host(number: u32, zone: &str, cores: u64, gib: u64) -> Host {
    Host {
        // Spread over the whole range, as digests of keys are.
        id: NodeId(
            u128::from(number)
                .wrapping_add(1)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
        ),
        name: format!("host-{number}"),
        zone: zone.to_owned(),
        node_labels: BTreeMap::new(),
        engine_labels: BTreeMap::new(),
        role: "worker".to_owned(),
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        ip: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)),
        capacity: Resources { cpu_milli: cores * 1000, memory_bytes: gib * GIB },
        accepts: Accepts::Yes,
    }
}

pub(crate) fn equal_hosts(count: u32) -> Vec<Host> {
    (0..count).map(|number| host(number, "", 4, 8)).collect()
}

pub(crate) fn request(service: u128) -> Request {
    Request { service: ServiceId(service), ..Request::default() }
}

/// One situation in which a service is planned.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) hosts: Vec<Host>,
    /// What other services carry, by place in `hosts`.
    pub(crate) others: Vec<(u64, u64, u32)>,
    pub(crate) request: Request,
    pub(crate) held: BTreeMap<u32, Held>,
    pub(crate) orphans: Vec<u32>,
}

impl World {
    /// With the loads of other services and of all that is held.
    pub(crate) fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::new(self.hosts.clone());
        for (host, (cpu_milli, memory_bytes, tasks)) in self.hosts.iter().zip(&self.others) {
            let reserved = Resources { cpu_milli: *cpu_milli, memory_bytes: *memory_bytes };
            let load = Load { reserved, tasks: *tasks, host_ports: BTreeMap::new() };
            assert!(cluster.set_load(host.id, load));
        }
        for held in self.held.values() {
            assert!(cluster.add_load(held.node, &self.request));
        }
        cluster
    }

    pub(crate) fn plan(&self) -> Plan {
        plan(&self.cluster(), &self.request, &self.held, &self.orphans)
    }
}

fn hosts() -> impl Strategy<Value = Vec<Host>> {
    let one = (
        select(vec!["", "a", "b", "c"]),
        select(vec![0u64, 1, 2, 4, 4, 4, 16]),
        select(vec![0u64, 2, 8, 8, 8, 64]),
        select(vec!["ssd", "disk"]),
        prop_oneof![9 => Just(Accepts::Yes), 1 => Just(Accepts::No(Closed::Draining)),
            1 => Just(Accepts::No(Closed::Unstable))],
    );
    (any::<bool>(), vec(one, 1..12)).prop_map(|(zones, hosts)| {
        let make = |(number, (zone, cores, gib, disk, accepts)): (usize, _)| {
            let zone = if zones { zone } else { "" };
            let mut host = host(number as u32, zone, cores, gib);
            host.node_labels.insert("disk".to_owned(), String::from(disk));
            host.accepts = accepts;
            host
        };
        hosts.into_iter().enumerate().map(make).collect()
    })
}

fn requests() -> impl Strategy<Value = Request> {
    let port = HostPort { protocol: Protocol::Tcp, port: 8080 };
    (
        any::<u128>(),
        select(vec![(0u64, 0u64), (0, 0), (500, 0), (0, GIB), (250, GIB / 4), (9000, 0)]),
        select(vec![None, None, None, Some("node.labels.disk==ssd"), Some("node.zone!=a")]),
        select(vec![None, None, Some("node.labels.disk")]),
        select(vec![None, None, Some(MaxPerNode::Soft(1)), Some(MaxPerNode::Hard(2))]),
        prop_oneof![5 => Just(None), 1 => Just(Some(port))],
    )
        .prop_map(|(service, (cpu_milli, memory_bytes), constraint, spread, max, port)| {
            Request {
                service: ServiceId(service),
                resources: Resources { cpu_milli, memory_bytes },
                constraints: constraint
                    .map(|c| Constraint::parse(c).unwrap())
                    .into_iter()
                    .collect(),
                preferences: spread.map(|s| Preference::parse(s).unwrap()).into_iter().collect(),
                max_per_node: max,
                host_ports: port.into_iter().collect(),
                ..Request::default()
            }
        })
}

pub(crate) fn worlds() -> impl Strategy<Value = World> {
    (hosts(), requests()).prop_flat_map(|(hosts, request)| {
        let count = hosts.len();
        let other = (0..5000u64, 0..10 * GIB, 0..20u32);
        let others = prop_oneof![Just(vec![(0, 0, 0); count]), vec(other, count)];
        let held = btree_map(0..40u32, (0..count, any::<bool>()), 0..20);
        let passed_over = btree_set((0..40u32, 0..count), 0..6);
        let orphans = btree_set(0..40u32, 0..30);
        (others, held, passed_over, orphans).prop_map(move |(others, held, passed, orphans)| {
            let id = |place: usize| hosts[place].id;
            let passed: BTreeSet<_> = passed.into_iter().map(|(s, at)| (s, id(at))).collect();
            let held: BTreeMap<u32, Held> = held
                .into_iter()
                .map(|(slot, (at, settled))| (slot, Held { node: id(at), settled }))
                .collect();
            World {
                hosts: hosts.clone(),
                others,
                request: Request { passed_over: passed, ..request.clone() },
                orphans: orphans.into_iter().filter(|slot| !held.contains_key(slot)).collect(),
                held,
            }
        })
    })
}
