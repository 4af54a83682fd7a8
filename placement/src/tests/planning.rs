//! What a plan promises: the same for everybody, even, within bounds, undisturbed by the claims that
//! follow it, and moving nothing but what was lost.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::member::Resources;
use proptest::prelude::*;
use proptest::sample::subsequence;

use super::oracle::naive_plan;
use super::worlds::{GIB, World, equal_hosts, host, request, worlds};
use crate::*;

/// Replicas on each host, given who holds what.
fn counts<'a>(
    hosts: impl IntoIterator<Item = &'a Host>,
    held: &BTreeMap<u32, Held>,
) -> BTreeMap<NodeId, u32> {
    let mut counts: BTreeMap<NodeId, u32> = hosts.into_iter().map(|h| (h.id, 0)).collect();
    for held in held.values() {
        *counts.get_mut(&held.node).unwrap() += 1;
    }
    counts
}

fn gap(counts: &BTreeMap<NodeId, u32>) -> u32 {
    counts.values().max().unwrap() - counts.values().min().unwrap()
}

/// Carries a plan out.
fn settle(held: &mut BTreeMap<u32, Held>, plan: &Plan) {
    for (slot, candidates) in &plan.choices {
        held.insert(*slot, Held { node: candidates[0], settled: true });
    }
}

fn place_all(hosts: &[Host], request: &Request, replicas: u32) -> BTreeMap<u32, Held> {
    let cluster = Cluster::new(hosts.to_vec());
    let slots: Vec<u32> = (0..replicas).collect();
    let mut held = BTreeMap::new();
    let plan = plan(&cluster, request, &held, &slots);
    settle(&mut held, &plan);
    held
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn the_plan_is_the_naive_plan(world in worlds()) {
        let cluster = world.cluster();
        let naive = naive_plan(&cluster, &world.request, &world.held, &world.orphans);
        let plan = world.plan();
        for slot in &world.orphans {
            let choices = plan.choices.get(slot).cloned().unwrap_or_default();
            prop_assert_eq!(&choices, &naive[slot], "slot {}", slot);
        }
    }

    #[test]
    fn every_orphan_gets_candidates_or_a_reason(world in worlds()) {
        let plan = world.plan();
        let asked: BTreeSet<u32> = world.orphans.iter().copied().collect();
        let placed: BTreeSet<u32> = plan.choices.keys().copied().collect();
        let pending: BTreeSet<u32> = plan.pending.keys().copied().collect();
        prop_assert!(placed.is_disjoint(&pending));
        prop_assert_eq!(&placed | &pending, asked);
        for candidates in plan.choices.values() {
            prop_assert!(!candidates.is_empty() && candidates.len() < 2 * CHOICES);
            let distinct: BTreeSet<_> = candidates.iter().collect();
            prop_assert_eq!(distinct.len(), candidates.len());
        }
        for pending in plan.pending.values() {
            prop_assert_eq!(pending.hosts() as usize, world.hosts.len());
            prop_assert!(pending.to_string().starts_with("no suitable node ("));
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(
        world in worlds(),
        order in Just((0..40usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut other = world.clone();
        let shuffle = |at: usize| order[at % order.len()];
        let mut both: Vec<_> = other.hosts.into_iter().zip(other.others).enumerate().collect();
        both.sort_by_key(|(at, _)| shuffle(*at));
        (other.hosts, other.others) = both.into_iter().map(|(_, pair)| pair).unzip();
        other.orphans.sort_by_key(|slot| shuffle(*slot as usize));
        prop_assert_eq!(world.plan(), other.plan());
    }

    #[test]
    fn hard_bounds_hold(world in worlds()) {
        // Starting replicas may be anywhere; what the plan adds must fit beside what is settled.
        let mut world = world;
        world.held.retain(|_, held| held.settled);
        let plan = world.plan();
        let mut cluster = world.cluster();
        let mut counts = counts(&world.hosts, &world.held);
        for (slot, candidates) in &plan.choices {
            for candidate in candidates {
                let holds = counts[candidate];
                prop_assert_eq!(admits(&cluster, &world.request, *candidate, *slot, holds), Ok(()));
            }
            cluster.add_load(candidates[0], &world.request);
            *counts.get_mut(&candidates[0]).unwrap() += 1;
        }
        for slot in plan.pending.keys() {
            for host in &world.hosts {
                let holds = counts[&host.id];
                prop_assert!(admits(&cluster, &world.request, host.id, *slot, holds).is_err());
            }
        }
    }

    /// The others' claims trickle in, in any order: nobody else's choice changes.
    #[test]
    fn claims_that_follow_the_plan_do_not_change_the_rest(
        world in worlds(),
        claimed in subsequence((0..40u32).collect::<Vec<_>>(), 0..40),
    ) {
        let before = world.plan();
        let mut later: World = world.clone();
        for slot in claimed {
            if let Some(candidates) = before.choices.get(&slot) {
                later.held.insert(slot, Held { node: candidates[0], settled: false });
                later.orphans.retain(|other| *other != slot);
            }
        }
        let after = later.plan();
        for slot in &later.orphans {
            prop_assert_eq!(before.choices.get(slot), after.choices.get(slot), "slot {}", slot);
            prop_assert_eq!(
                before.pending.contains_key(slot), after.pending.contains_key(slot)
            );
        }
    }

    #[test]
    fn equal_hosts_differ_by_at_most_one(
        replicas in 1..200u32, hosts in 1..12u32, service: u128,
        failures in proptest::collection::vec((0..12usize, 0..12usize), 0..4),
        more in 0..50u32,
    ) {
        let mut hosts = equal_hosts(hosts);
        let request = request(service);
        let mut held = place_all(&hosts, &request, replicas);
        prop_assert_eq!(held.len(), replicas as usize);
        prop_assert!(gap(&counts(&hosts, &held)) <= 1);
        for (a, b) in failures {
            // Up to two at once; the last host stays.
            for at in [a, b] {
                if hosts.len() > 1 {
                    hosts.remove(at % hosts.len());
                }
            }
            let alive: BTreeSet<NodeId> = hosts.iter().map(|host| host.id).collect();
            held = recover(&hosts, &request, held, &alive)?;
            prop_assert!(gap(&counts(&hosts, &held)) <= 1);
        }
        let slots: Vec<u32> = (replicas..replicas + more).collect();
        let plan = plan_on(&hosts, &request, &held, &slots);
        settle(&mut held, &plan);
        prop_assert_eq!(held.len(), (replicas + more) as usize);
        prop_assert!(gap(&counts(&hosts, &held)) <= 1);
    }

    #[test]
    fn equal_hosts_differ_by_at_most_one_over_zones_of_any_size(
        replicas in 1..200u32, zones in proptest::collection::vec(0..4usize, 1..12), service: u128,
        lost in 0..12usize,
    ) {
        let zone = |zone: &usize| ["a", "b", "c", "d"][*zone];
        let mut hosts: Vec<Host> = zones.iter().enumerate()
            .map(|(number, z)| host(number as u32, zone(z), 4, 8)).collect();
        let request = request(service);
        let mut held = place_all(&hosts, &request, replicas);
        prop_assert!(gap(&counts(&hosts, &held)) <= 1);
        // No zone gets two before every zone has one.
        let mut in_zones: BTreeMap<&str, u32> = hosts.iter().map(|h| (h.zone.as_str(), 0)).collect();
        for (node, count) in counts(&hosts, &held) {
            let zone = &hosts.iter().find(|h| h.id == node).unwrap().zone;
            *in_zones.get_mut(zone.as_str()).unwrap() += count;
        }
        let empty = in_zones.values().any(|count| *count == 0);
        prop_assert!(!empty || in_zones.values().all(|count| *count <= 1));
        if hosts.len() > 1 {
            hosts.remove(lost % hosts.len());
            let alive: BTreeSet<NodeId> = hosts.iter().map(|host| host.id).collect();
            held = recover(&hosts, &request, held, &alive)?;
            prop_assert!(gap(&counts(&hosts, &held)) <= 1);
        }
    }

    #[test]
    fn equal_zones_differ_by_at_most_one(
        replicas in 1..200u32, hosts in 1..5u32, zones in 1..4u32, service: u128,
    ) {
        let zone = |number: u32| ["a", "b", "c", "d"][(number % zones) as usize];
        let hosts: Vec<Host> = (0..hosts * zones).map(|n| host(n, zone(n), 4, 8)).collect();
        let held = place_all(&hosts, &request(service), replicas);
        let mut in_zones: BTreeMap<&str, u32> = hosts.iter().map(|h| (h.zone.as_str(), 0)).collect();
        for held in held.values() {
            let host = hosts.iter().find(|host| host.id == held.node).unwrap();
            *in_zones.get_mut(host.zone.as_str()).unwrap() += 1;
        }
        prop_assert!(in_zones.values().max().unwrap() - in_zones.values().min().unwrap() <= 1);
    }
}

fn plan_on(hosts: &[Host], request: &Request, held: &BTreeMap<u32, Held>, slots: &[u32]) -> Plan {
    let mut cluster = Cluster::new(hosts.to_vec());
    for held in held.values() {
        cluster.add_load(held.node, request);
    }
    plan(&cluster, request, held, slots)
}

/// After a failure: what was lost is planned and moves; all else stays where it was.
fn recover(
    hosts: &[Host],
    request: &Request,
    before: BTreeMap<u32, Held>,
    alive: &BTreeSet<NodeId>,
) -> Result<BTreeMap<u32, Held>, TestCaseError> {
    let (mut held, lost): (BTreeMap<u32, Held>, BTreeMap<u32, Held>) =
        before.into_iter().partition(|(_, held)| alive.contains(&held.node));
    let orphans: Vec<u32> = lost.keys().copied().collect();
    let plan = plan_on(hosts, request, &held, &orphans);
    prop_assert!(plan.choices.keys().eq(&orphans), "exactly what was lost is planned");
    settle(&mut held, &plan);
    Ok(held)
}

#[test]
fn a_heavier_host_gets_more_but_not_before_everybody_has_one() {
    let hosts = vec![host(0, "", 32, 64), host(1, "", 4, 8), host(2, "", 4, 8)];
    for service in 0..50 {
        let request = request(service);
        let three = counts(&hosts, &place_all(&hosts, &request, 3));
        assert_eq!(three.values().collect::<Vec<_>>(), [&1, &1, &1]);
        let forty = counts(&hosts, &place_all(&hosts, &request, 40));
        assert_eq!(forty[&hosts[0].id], 32);
        assert_eq!(forty[&hosts[1].id], 4);
    }
}

#[test]
fn services_of_one_replica_spread_over_hosts_by_load() {
    let hosts = equal_hosts(10);
    let mut cluster = Cluster::new(hosts.clone());
    let mut tasks: BTreeMap<NodeId, u32> = hosts.iter().map(|host| (host.id, 0)).collect();
    for service in 0..500 {
        let request = request(service);
        let plan = plan(&cluster, &request, &BTreeMap::new(), &[0]);
        let node = plan.choices[&0][0];
        cluster.add_load(node, &request);
        *tasks.get_mut(&node).unwrap() += 1;
    }
    assert!(gap(&tasks) <= 6, "50 each, give or take: {tasks:?}");
}

#[test]
fn a_preference_gives_each_value_the_same_number() {
    let mut hosts = equal_hosts(6);
    for (number, host) in hosts.iter_mut().enumerate() {
        let rack = if number == 0 { "left" } else { "right" };
        host.node_labels.insert("rack".to_owned(), rack.to_owned());
    }
    let mut request = request(7);
    request.preferences = vec![Preference::parse("node.labels.rack").unwrap()];
    let counts = counts(&hosts, &place_all(&hosts, &request, 20));
    assert_eq!(counts[&hosts[0].id], 10, "the only host of its rack: {counts:?}");
}

#[test]
fn a_soft_limit_gives_way_and_a_hard_one_does_not() {
    let hosts = equal_hosts(3);
    let mut request = request(9);
    request.max_per_node = Some(MaxPerNode::Soft(1));
    assert_eq!(place_all(&hosts, &request, 5).len(), 5);
    request.max_per_node = Some(MaxPerNode::Hard(1));
    let slots: Vec<u32> = (0..5).collect();
    let plan = plan(&Cluster::new(hosts), &request, &BTreeMap::new(), &slots);
    assert_eq!(plan.choices.len(), 3);
    assert_eq!(
        plan.pending[&4].to_string(),
        "no suitable node (max replicas per node limit exceed): 3 nodes hold 1 already"
    );
}

#[test]
fn a_service_of_as_many_replicas_as_hosts_stands_on_all_of_them() {
    let hosts = equal_hosts(3);
    let mut cluster = Cluster::new(hosts.clone());
    for _ in 0..30 {
        cluster.add_load(hosts[0].id, &request(1));
    }
    let service = request(2);
    let spread = |replicas: u32| {
        let slots: Vec<u32> = (0..replicas).collect();
        let mut held = BTreeMap::new();
        settle(&mut held, &plan(&cluster, &service, &BTreeMap::new(), &slots));
        counts(&hosts, &held)
    };
    assert!(spread(3).values().all(|count| *count == 1), "however loaded one of them is");
    let six = spread(6);
    assert_eq!(six[&hosts[0].id], 1, "beyond the first, load counts: {six:?}");
}

#[test]
fn large_services_do_not_fill_up_the_smallest_hosts() {
    let mut hosts: Vec<Host> = (0..10).map(|n| host(n, "", 64, 256)).collect();
    hosts.push(host(10, "", 1, 4));
    let mut cluster = Cluster::new(hosts.clone());
    for service in 0..40 {
        let mut request = request(service);
        request.resources = Resources { cpu_milli: 100, memory_bytes: GIB / 8 };
        let slots: Vec<u32> = (0..20).collect();
        let plan = plan(&cluster, &request, &BTreeMap::new(), &slots);
        for candidates in plan.choices.values() {
            cluster.add_load(candidates[0], &request);
        }
    }
    let small = cluster.load(hosts[10].id).unwrap();
    assert!(small.tasks <= 3, "about one in 640 of 800 tasks is its share: {small:?}");
}
