//! A node's own share is exactly the part of the whole plan that names it.

use std::collections::BTreeMap;

use membership::member::Resources;
use proptest::prelude::*;

use super::worlds::{GIB, World, host, request, worlds};
use crate::*;

/// Checks every host's share; gives how many choices there were.
fn check(world: &World) -> Result<usize, TestCaseError> {
    let cluster = world.cluster();
    let whole = plan(&cluster, &world.request, &world.held, &world.orphans).choices;
    for host in &world.hosts {
        let mine = plan_mine(&cluster, &world.request, &world.held, &world.orphans, host.id);
        let mut expected = whole.clone();
        expected.retain(|_, candidates| candidates.contains(&host.id));
        prop_assert_eq!(mine, expected, "share of {}", &host.name);
    }
    Ok(whole.len())
}

/// Zones of many hosts, where the shortcuts hold.
fn large_world(
    hosts: u32,
    service: u128,
    held: &[(usize, bool)],
    orphans: u32,
    cpu_milli: u64,
    tasks: &[u32],
) -> World {
    let zone = |number: u32| ["a", "b", "c"][number as usize % 3];
    let hosts: Vec<Host> =
        (0..hosts).map(|n| host(n, zone(n), [4, 4, 8][n as usize % 7 % 3], 16)).collect();
    let held: BTreeMap<u32, Held> = held
        .iter()
        .enumerate()
        .map(|(slot, (at, settled))| {
            (2 * slot as u32, Held { node: hosts[at % hosts.len()].id, settled: *settled })
        })
        .collect();
    let mut request = request(service);
    request.resources = Resources { cpu_milli, memory_bytes: GIB / 8 };
    let others = (0..hosts.len()).map(|at| (0, 0, tasks[at % tasks.len()])).collect();
    World { others, request, orphans: (0..orphans).map(|n| 2 * n + 1).collect(), held, hosts }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn in_small_clusters(world in worlds()) {
        check(&world)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn in_large_zones(
        hosts in 30..160u32, service: u128,
        held in proptest::collection::vec((0..160usize, prop::bool::weighted(0.9)), 0..200),
        orphans in 1..60u32,
        cpu in prop::sample::select(vec![0u64, 100, 1000]),
        tasks in proptest::collection::vec(0..9u32, 1..50),
    ) {
        check(&large_world(hosts, service, &held, orphans, cpu, &tasks))?;
    }
}

#[test]
fn more_orphans_than_hosts() {
    let world = large_world(60, 5, &[], 400, 10, &[0, 3, 1]);
    assert_eq!(check(&world).unwrap(), 400);
}
