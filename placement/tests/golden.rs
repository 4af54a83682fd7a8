//! Golden vectors of placement version 1. Every node must compute the same, on every architecture and
//! with every later build: a change here is a new [`placement::PLACEMENT_VERSION`], never an edit.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use membership::id::{NodeId, ServiceId};
use membership::member::Resources;
use placement::{
    Accepts, Cluster, Held, Host, PLACEMENT_VERSION, Preference, Request, plan, race, steward,
};

const NODE: NodeId = NodeId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
const SERVICE: ServiceId = ServiceId(0xfedc_ba98_7654_3210_8899_aabb_ccdd_eeff);

#[test]
fn version() {
    assert_eq!(PLACEMENT_VERSION, 1);
}

#[test]
fn races() {
    let cases = [
        (SERVICE, 0, NODE, 1),
        (SERVICE, 0, NODE, 4096),
        (SERVICE, 1, NODE, 4096),
        (SERVICE, u32::MAX, NODE, 15 << 20),
        (ServiceId(0), 0, NodeId(0), 1),
        (ServiceId(u128::MAX), 7, NodeId(u128::MAX), 1000),
    ];
    let races = cases.map(|(service, slot, node, weight)| {
        format!("{:032x}", race(service, slot, node, weight).bits())
    });
    assert_eq!(races, RACES);
}

#[test]
fn weights() {
    let weight = |cpu_milli, mib: u64| {
        placement::host::weight(Resources { cpu_milli, memory_bytes: mib << 20 })
    };
    let weights = [
        weight(4000, 8192),
        weight(4000, 3914),
        weight(2000, 1983),
        weight(64_000, 0),
        weight(0, 16_384),
        weight(0, 0),
        weight(1, 1),
        weight(u64::MAX, 0),
    ];
    assert_eq!(weights, [4096, 1920, 960, 65_536, 8192, 1, 1, 268_435_456]);
}

#[test]
fn stewards() {
    let nodes = || (0..16u128).map(|n| NodeId(n << 100));
    let stewards: Vec<u128> = (0..12u128)
        .filter_map(|service| steward(ServiceId(service), nodes()))
        .map(|node| node.0 >> 100)
        .collect();
    assert_eq!(stewards, STEWARDS);
}

fn hosts() -> Vec<Host> {
    (0..14u32)
        .map(|number| Host {
            id: NodeId(
                u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835),
            ),
            name: format!("host-{number}"),
            zone: ["a", "b", "b"][number as usize % 3].to_owned(),
            node_labels: BTreeMap::from([("rack".to_owned(), (number % 2).to_string())]),
            engine_labels: BTreeMap::new(),
            role: "worker".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            ip: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)),
            capacity: Resources {
                cpu_milli: [4000, 8000][number as usize % 5 / 4],
                memory_bytes: 16 << 30,
            },
            accepts: Accepts::Yes,
        })
        .collect()
}

/// The candidates of 12 orphans, as numbers of hosts, with some slots held and some load about.
fn candidates(request: &Request) -> Vec<String> {
    let hosts = hosts();
    let mut cluster = Cluster::new(hosts.clone());
    let other = Request {
        service: ServiceId(99),
        resources: Resources { cpu_milli: 300, memory_bytes: 1 << 30 },
        ..Request::default()
    };
    for at in [0, 0, 0, 3, 3, 7, 9, 9, 9, 9, 9, 13] {
        assert!(cluster.add_load(hosts[at].id, &other));
    }
    let held: BTreeMap<u32, Held> = [(20, 1, true), (21, 4, true), (22, 4, true), (5, 6, false)]
        .map(|(slot, at, settled): (u32, usize, bool)| (slot, Held { node: hosts[at].id, settled }))
        .into();
    for held in held.values() {
        assert!(cluster.add_load(held.node, request));
    }
    let orphans: Vec<u32> = (0..12).filter(|slot| *slot != 5).collect();
    let plan = plan(&cluster, request, &held, &orphans);
    assert!(plan.pending.is_empty());
    let number = |node: &NodeId| {
        let place = hosts.iter().position(|host| host.id == *node);
        place.map_or_else(|| "?".to_owned(), |place| place.to_string())
    };
    plan.choices.values().map(|c| c.iter().map(number).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn plans() {
    let mut request = Request {
        service: SERVICE,
        resources: Resources { cpu_milli: 250, memory_bytes: 512 << 20 },
        ..Request::default()
    };
    assert_eq!(candidates(&request), OVER_ZONES);
    request.preferences = vec![Preference::NodeLabel("rack".to_owned())];
    assert_eq!(candidates(&request), OVER_RACKS);
}

const RACES: [&str; 6] = [
    "00026339533abd1601a62fe7a329d168",
    "00000026339533ab01a62fe7a329d168",
    "00001f6689dc5e2bbe50d4069dd5736a",
    "0000000490c04d6ff2d2c97c7f643394",
    "001b2ec9a2e4cf62122a2962c7ff0084",
    "000027039099811f568d3f4326b0fb9f",
];
const STEWARDS: [u128; 12] = [3, 8, 6, 15, 11, 3, 5, 13, 0, 12, 1, 13];
const OVER_ZONES: [&str; 11] = [
    "6 12 9 3 0 8 5 10 11 2 13 7",
    "12 9 3 0 6 8 10 5 2 11 7 13",
    "11 2 5 8 10 13 7 4 1",
    "3 9 0 12 6 8 10 2 5 13 7",
    "5 2 8 10 13 7 4 11 1",
    "8 2 10 13 7 4 1 11 5",
    "10 2 7 13 4 11 5 8 1",
    "9 0 12 6 3 2 13 7",
    "2 13 7 4 8 1 11 5 10",
    "7 13 4 1 11 8 2 10 5",
    "0 12 6 9 3 13 4 8 1 10 5 11 2",
];
const OVER_RACKS: [&str; 11] = [
    "9 3 5 11 13 7 1 6 12",
    "5 11 7 13 1 3 9 12 6",
    "6 12 0 2 8 10 4 3",
    "3 9 11 13 7 1 5 12",
    "12 0 6 2 8 10 4 11 13 7",
    "11 13 7 1 5 9 3 8 2 10",
    "7 13 11 5 1 9 3 10 8 2",
    "2 10 8 4 0 12 6 9 3",
    "9 3 13 1 11 5 7 8 10",
    "8 10 4 2 0 12 6 13",
    "13 1 5 11 7 3 9 10",
];
