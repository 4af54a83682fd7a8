//! Pulls come to an end, leave the service even, and never go to and fro.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::member::Resources;
use proptest::prelude::*;

use super::worlds::{GIB, equal_hosts, host, request, worlds};
use crate::*;

/// Services with their holders, over one set of hosts.
struct Running {
    hosts: Vec<Host>,
    services: Vec<(Request, BTreeMap<u32, Held>)>,
}

impl Running {
    fn cluster(&self) -> Cluster {
        let mut cluster = Cluster::new(self.hosts.clone());
        for (request, held) in &self.services {
            for held in held.values() {
                cluster.add_load(held.node, request);
            }
        }
        cluster
    }

    /// Every host pulls what it may, one move at a time, until nobody wants anything. Gives the moves
    /// as (service, slot, from, to), or `None` if there is no end in sight.
    fn settle(&mut self, most: usize) -> Option<Vec<(usize, u32, NodeId, NodeId)>> {
        let mut moves = Vec::new();
        loop {
            let cluster = self.cluster();
            let mut quiet = true;
            'round: for (number, (request, held)) in self.services.iter_mut().enumerate() {
                for host in &self.hosts {
                    if let Some(pull) = pull(&cluster, request, held, host.id) {
                        assert_eq!(held[&pull.slot].node, pull.from);
                        assert_ne!(pull.from, host.id);
                        held.insert(pull.slot, Held { node: host.id, settled: true });
                        moves.push((number, pull.slot, pull.from, host.id));
                        quiet = false;
                        // Loads have changed: look again.
                        break 'round;
                    }
                }
            }
            if quiet {
                return Some(moves);
            }
            if moves.len() > most {
                return None;
            }
        }
    }

    fn counts(&self, service: usize) -> BTreeMap<NodeId, u32> {
        let mut counts: BTreeMap<NodeId, u32> = self.hosts.iter().map(|h| (h.id, 0)).collect();
        for held in self.services[service].1.values() {
            *counts.get_mut(&held.node).unwrap() += 1;
        }
        counts
    }
}

fn gap(counts: &BTreeMap<NodeId, u32>) -> u32 {
    counts.values().max().unwrap() - counts.values().min().unwrap()
}

fn held(hosts: &[Host], on: &[usize]) -> BTreeMap<u32, Held> {
    let node = |at: &usize| hosts[at % hosts.len()].id;
    on.iter()
        .enumerate()
        .map(|(s, at)| (s as u32, Held { node: node(at), settled: true }))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn one_service_becomes_even_in_no_more_moves_than_needed(
        hosts in 1..10u32, zones in 1..4u32, on in proptest::collection::vec(0..10usize, 0..60),
        service: u128,
    ) {
        let zone = |number: u32| ["a", "b", "c"][(number % zones) as usize];
        let hosts: Vec<Host> = (0..hosts).map(|n| host(n, zone(n), 4, 8)).collect();
        let services = vec![(request(service), held(&hosts, &on))];
        let mut running = Running { hosts, services };
        let before = running.counts(0);
        let average = on.len() as u32 / before.len() as u32;
        let surplus: u32 = before.values().map(|count| count.saturating_sub(average)).sum();
        let moves = running.settle(200);
        prop_assert!(moves.is_some(), "it does not end");
        let after = running.counts(0);
        prop_assert!(gap(&after) <= 1, "{:?}", after);
        let moves = moves.unwrap();
        prop_assert!(moves.len() <= surplus as usize + before.len(), "{} moves", moves.len());
        if zones == 1 {
            let slots: BTreeSet<u32> = moves.iter().map(|(_, slot, _, _)| *slot).collect();
            prop_assert_eq!(slots.len(), moves.len(), "a replica moved twice");
        }
    }

    #[test]
    fn many_services_come_to_rest(
        hosts in 2..8u32,
        services in proptest::collection::vec(
            (proptest::collection::vec(0..8usize, 0..12), 0..3u64, any::<u64>()), 1..12),
    ) {
        let hosts: Vec<Host> = (0..hosts)
            .map(|n| host(n, ["a", "b"][n as usize % 2], [4, 4, 16][n as usize % 3], 16)).collect();
        let services = services.into_iter().map(|(on, cpu, service)| {
            let mut request = request(service.into());
            request.resources = Resources { cpu_milli: cpu * 250, memory_bytes: 0 };
            (request, held(&hosts, &on))
        });
        let mut running = Running { services: services.collect(), hosts };
        prop_assert!(running.settle(2000).is_some(), "it does not end");
    }

    #[test]
    fn whatever_the_world_pulls_respect_it_and_end(world in worlds()) {
        let mut world = world;
        for held in world.held.values_mut() {
            held.settled = true;
        }
        let mut moves = 0;
        loop {
            let cluster = world.cluster();
            let next = world.hosts.iter().find_map(|host| {
                pull(&cluster, &world.request, &world.held, host.id).map(|pull| (host.id, pull))
            });
            let Some((me, pull)) = next else { break };
            let holds = world.held.values().filter(|held| held.node == me).count() as u32;
            prop_assert_eq!(admits(&cluster, &world.request, me, pull.slot, holds), Ok(()));
            let from = cluster.host(pull.from).unwrap();
            prop_assert_eq!(&from.accepts, &Accepts::Yes);
            world.held.insert(pull.slot, Held { node: me, settled: true });
            moves += 1;
            prop_assert!(moves < 300, "it does not end");
        }
    }

    /// A plan on an empty cluster leaves nothing to rebalance for its own service.
    #[test]
    fn what_was_just_planned_is_not_pulled(hosts in 1..10u32, replicas in 0..50u32, service: u128) {
        let hosts = equal_hosts(hosts);
        let request = request(service);
        let slots: Vec<u32> = (0..replicas).collect();
        let plan = plan(&Cluster::new(hosts.clone()), &request, &BTreeMap::new(), &slots);
        let holder = |(slot, c): (&u32, &Vec<NodeId>)| (*slot, Held { node: c[0], settled: true });
        let held = plan.choices.iter().map(holder).collect();
        let mut running = Running { hosts, services: vec![(request, held)] };
        prop_assert_eq!(running.settle(100), Some(vec![]));
    }
}

#[test]
fn a_host_that_returns_pulls_its_share_of_many_small_services() {
    let hosts = equal_hosts(4);
    // 60 services of one replica each, all on the first three hosts.
    let services =
        (0..60).map(|service| (request(service), held(&hosts[..3], &[service as usize])));
    let mut running = Running { services: services.collect(), hosts };
    let moves = running.settle(100).unwrap();
    let empty = running.hosts[3].id;
    assert!(moves.iter().all(|(_, _, _, to)| *to == empty));
    // The average is 15; it stops where two more would leave it above nine tenths of that.
    assert!((11..=14).contains(&moves.len()), "{} moves", moves.len());
}

#[test]
fn moves_under_way_are_counted() {
    let hosts = equal_hosts(2);
    let request = request(3);
    let mut held = held(&hosts, &[0, 0, 0, 0]);
    let mut cluster = Cluster::new(hosts.clone());
    for _ in 0..4 {
        cluster.add_load(hosts[0].id, &request);
    }
    let mut pulled = 0;
    while let Some(pull) = pull(&cluster, &request, &held, hosts[1].id) {
        // Claimed, not ready: the old holder still runs it.
        held.insert(pull.slot, Held { node: hosts[1].id, settled: false });
        cluster.add_load(hosts[1].id, &request);
        pulled += 1;
        assert!(pulled <= 2, "two of four are enough");
    }
    assert_eq!(pulled, 2);
}

#[test]
fn a_host_above_its_fair_share_is_not_made_to_pull() {
    let hosts = equal_hosts(3);
    let mut cluster = Cluster::new(hosts.clone());
    let request = request(3);
    let held = held(&hosts, &[0, 1, 1, 1, 2, 2, 2]);
    for held in held.values() {
        cluster.add_load(held.node, &request);
    }
    assert!(pull(&cluster, &request, &held, hosts[0].id).is_some());
    for _ in 0..20 {
        cluster.add_load(hosts[0].id, &super::worlds::request(4));
    }
    assert_eq!(pull(&cluster, &request, &held, hosts[0].id), None);
}

#[test]
fn a_full_or_closed_host_pulls_nothing() {
    let mut hosts = equal_hosts(2);
    let mut request = request(3);
    request.resources.memory_bytes = 9 * GIB;
    let crowd = held(&hosts, &[0, 0, 0, 0]);
    assert_eq!(pull(&Cluster::new(hosts.clone()), &request, &crowd, hosts[1].id), None);
    request.resources.memory_bytes = 0;
    assert!(pull(&Cluster::new(hosts.clone()), &request, &crowd, hosts[1].id).is_some());
    hosts[1].accepts = Accepts::No(Closed::Paused);
    assert_eq!(pull(&Cluster::new(hosts.clone()), &request, &crowd, hosts[1].id), None);
}

#[test]
fn a_slot_leaves_a_draining_host_and_one_that_no_longer_suits() {
    let mut hosts = equal_hosts(4);
    hosts[0].accepts = Accepts::No(Closed::Draining);
    hosts[1].accepts = Accepts::No(Closed::Paused);
    hosts[2].node_labels.insert("disk".to_owned(), "ssd".to_owned());
    hosts[3].accepts = Accepts::No(Closed::Down);
    let cluster = Cluster::new(hosts.clone());
    let mut request = request(1);
    let misplaced = |request: &Request, at: usize| misplaced(&cluster, request, hosts[at].id);
    assert_eq!(misplaced(&request, 0), Some(Refusal::Closed(Closed::Draining)));
    assert_eq!([1, 2, 3].map(|at| misplaced(&request, at)), [None, None, None]);
    request.constraints = vec![Constraint::parse("node.labels.disk != ssd").unwrap()];
    let constraint = "node.labels.disk!=ssd".to_owned();
    assert_eq!(misplaced(&request, 2), Some(Refusal::Constraint { constraint }));
    assert_eq!(misplaced(&request, 3), None, "an orphan, not misplaced");
}
