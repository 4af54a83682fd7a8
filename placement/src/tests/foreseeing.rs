//! What is foreseen is what the nodes then plan, whichever claims they have heard of by then.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{NodeId, ServiceId};
use membership::member::Resources;
use proptest::collection::vec;
use proptest::prelude::*;

use super::worlds::{GIB, equal_hosts, host, request, worlds};
use crate::*;

type Works = BTreeMap<ServiceId, Work>;

fn work(request: Request, count: u32, held: BTreeMap<u32, Vec<Held>>) -> (ServiceId, Work) {
    let seats = Seats::Slots { count, held };
    (request.service, Work { request, seats, may_start: true, may_pull: true })
}

fn slots(work: &Work) -> &BTreeMap<u32, Vec<Held>> {
    match &work.seats {
        Seats::Slots { held, .. } => held,
        Seats::EachHost { .. } => panic!("a global service"),
    }
}

fn cluster(hosts: &[Host], works: &Works) -> Cluster {
    let mut cluster = Cluster::new(hosts.to_vec());
    for work in works.values() {
        let nodes: Vec<NodeId> = match &work.seats {
            Seats::Slots { held, .. } => held.values().flatten().map(|held| held.node).collect(),
            Seats::EachHost { on } => on.iter().copied().collect(),
        };
        for node in nodes {
            cluster.add_load(node, &work.request);
        }
    }
    cluster
}

/// Hosts in two zones, and services that hold some of their slots there.
fn crowds() -> impl Strategy<Value = (Vec<Host>, Works)> {
    let service = (
        (0..3u64, 0..3u64, 1..30u32),
        vec(proptest::option::weighted(0.8, 0..9usize), 0..30),
        any::<u128>(),
    );
    (2..9u32, vec(service, 1..6)).prop_map(|(hosts, services)| {
        let hosts: Vec<Host> =
            (0..hosts).map(|n| host(n, ["a", "b"][n as usize % 2], 4, 8)).collect();
        let works = services.into_iter().map(|((cpu, gib, count), on, id)| {
            let resources = Resources { cpu_milli: cpu * 250, memory_bytes: gib * GIB / 4 };
            let request = Request { resources, ..request(id) };
            let holder = |at: usize| Held { node: hosts[at % hosts.len()].id, settled: true };
            let held = on.iter().zip(1..=count);
            let held = held.filter_map(|(at, slot)| Some((slot, vec![holder((*at)?)])));
            work(request, count, held.collect())
        });
        let works = works.collect();
        (hosts, works)
    })
}

/// Takes a host and all that it holds away.
fn lose(hosts: &mut [Host], works: &mut Works, lost: usize) {
    hosts[lost].accepts = Accepts::No(Closed::Down);
    for work in works.values_mut() {
        if let Seats::Slots { held, .. } = &mut work.seats {
            held.values_mut().for_each(|claims| claims.retain(|held| held.node != hosts[lost].id));
            held.retain(|_, claims| !claims.is_empty());
        }
    }
}

proptest! {
    #[test]
    fn one_service_is_foreseen_as_it_is_planned(world in worlds()) {
        let held = world.held.iter().map(|(slot, held)| (*slot + 1, vec![*held])).collect();
        let (id, work) = work(world.request.clone(), 45, held);
        let mut works = Works::from([(id, work)]);
        let mut cluster = world.cluster();
        let misplaced = |held: &Held| misplaced(&cluster, &world.request, held.node).is_some();
        let stays: BTreeMap<u32, Held> = world.held.iter()
            .filter(|(_, held)| !misplaced(held)).map(|(slot, held)| (*slot + 1, *held)).collect();
        let open: Vec<u32> = (1..=45).filter(|slot| !stays.contains_key(slot)).collect();
        let plan = plan(&cluster, &world.request, &stays, &open);
        let outlook = foresee(&mut cluster, &mut works).remove(&id).unwrap();
        prop_assert_eq!(outlook.chosen, plan.choices);
        prop_assert_eq!(outlook.pending, plan.pending);
        for (slot, (from, _)) in &outlook.leaving {
            prop_assert_eq!(world.held[&(slot - 1)].node, *from);
        }
    }

    /// Nodes plan while the claims of the others come in. Whatever part of the foreseen claims a node
    /// has heard of, it foresees the rest alike.
    #[test]
    fn claims_that_follow_it_change_nothing(
        (mut hosts, mut works) in crowds(), lost in 0..9usize, heard in vec(any::<bool>(), 64),
    ) {
        let lost = lost % hosts.len();
        lose(&mut hosts, &mut works, lost);
        let mut before = works.clone();
        let first = foresee(&mut cluster(&hosts, &works), &mut before);
        let mut heard = heard.into_iter().cycle();
        for (id, work) in &mut works {
            let Seats::Slots { held, .. } = &mut work.seats else { continue };
            for (slot, candidates) in &first[id].chosen {
                if heard.next().unwrap() {
                    held.insert(*slot, vec![Held { node: candidates[0], settled: false }]);
                }
            }
        }
        let mut after = works.clone();
        foresee(&mut cluster(&hosts, &works), &mut after);
        for (id, work) in &before {
            prop_assert_eq!(slots(work), slots(&after[id]));
        }
    }

    #[test]
    fn nothing_moves_but_what_was_lost_and_the_sums_stay_right(
        (mut hosts, mut works) in crowds(), lost in 0..9usize,
    ) {
        let lost = lost % hosts.len();
        lose(&mut hosts, &mut works, lost);
        let mut after = works.clone();
        let mut loads = cluster(&hosts, &works);
        let outlooks = foresee(&mut loads, &mut after);
        for (id, work) in &works {
            for (slot, claims) in slots(work) {
                prop_assert_eq!(claims, &slots(&after[id])[slot]);
            }
            let outlook = &outlooks[id];
            let Seats::Slots { count, .. } = work.seats else { continue };
            let placed = slots(&after[id]).len() + outlook.pending.len();
            prop_assert_eq!(placed, count as usize, "each slot is placed or pending");
        }
        let anew = cluster(&hosts, &after);
        for host in &hosts {
            prop_assert_eq!(anew.load(host.id), loads.load(host.id));
        }
        let moves = even_out(&mut loads, &mut after, 500);
        prop_assert!(moves.len() < 500, "it does not end");
        let anew = cluster(&hosts, &after);
        for host in &hosts {
            prop_assert_eq!(anew.load(host.id), loads.load(host.id));
        }
    }

    #[test]
    fn the_next_pull_is_that_of_the_first_host_that_would(world in worlds()) {
        let cluster = world.cluster();
        let asked = cluster.hosts().map(|host| host.id).find_map(|id| {
            pull(&cluster, &world.request, &world.held, id).map(|pull| (id, pull))
        });
        prop_assert_eq!(next_pull(&cluster, &world.request, &world.held), asked);
    }
}

#[test]
fn a_drained_host_is_relieved_and_what_finds_no_other_place_stays() {
    let mut hosts = equal_hosts(3);
    let mut request = request(1);
    request.resources.memory_bytes = 4 * GIB;
    let on = |at: usize| vec![Held { node: hosts[at].id, settled: true }];
    // Room for two on each: five of six places are taken.
    let held = BTreeMap::from([(1, on(0)), (2, on(0)), (3, on(1)), (4, on(1)), (5, on(2))]);
    let mut works = Works::from([work(request, 5, held)]);
    hosts[0].accepts = Accepts::No(Closed::Draining);
    let mut loads = cluster(&hosts, &works);
    let outlook = foresee(&mut loads, &mut works).remove(&ServiceId(1)).unwrap();
    assert_eq!(outlook.leaving.len(), 2);
    assert_eq!(outlook.chosen, BTreeMap::from([(1, vec![hosts[2].id])]));
    assert_eq!(outlook.pending.keys().collect::<Vec<_>>(), [&2]);
    let held = slots(&works[&ServiceId(1)]);
    assert_eq!((held[&1][0].node, held[&2][0].node), (hosts[2].id, hosts[0].id));
    assert_eq!(loads.load(hosts[0].id).unwrap().tasks, 1);
}

#[test]
fn fewer_replicas_stop_the_highest_slots_and_without_a_majority_nothing_starts() {
    let hosts = equal_hosts(2);
    let on = |at: usize| vec![Held { node: hosts[at].id, settled: true }];
    let (id, mut web) = work(request(1), 2, BTreeMap::from([(1, on(0)), (4, on(1))]));
    web.may_start = false;
    let mut works = Works::from([(id, web)]);
    let mut loads = cluster(&hosts, &works);
    let outlook = foresee(&mut loads, &mut works).remove(&id).unwrap();
    assert_eq!(outlook.barred, BTreeSet::from([2]));
    assert!(outlook.chosen.is_empty() && outlook.pending.is_empty());
    assert_eq!(slots(&works[&id]).keys().collect::<Vec<_>>(), [&1]);
    assert_eq!(loads.load(hosts[1].id).unwrap().tasks, 0);
}

#[test]
fn a_service_scaled_to_nothing_stops_and_is_not_evened_out() {
    let hosts = equal_hosts(2);
    let on = vec![Held { node: hosts[0].id, settled: true }];
    let mut works = Works::from([work(request(1), 0, BTreeMap::from([(1, on.clone()), (2, on)]))]);
    let mut loads = cluster(&hosts, &works);
    assert_eq!(foresee(&mut loads, &mut works)[&ServiceId(1)], Outlook::default());
    assert!(slots(&works[&ServiceId(1)]).is_empty());
    assert_eq!(loads.load(hosts[0].id).unwrap().tasks, 0);
    assert!(even_out(&mut loads, &mut works, 10).is_empty());
}

#[test]
fn a_handover_under_way_is_no_second_one() {
    let mut hosts = equal_hosts(3);
    hosts[0].accepts = Accepts::No(Closed::Draining);
    let (old, new) = (hosts[0].id, hosts[1].id);
    let claims = vec![Held { node: old, settled: true }, Held { node: new, settled: false }];
    let (id, web) = work(request(1), 1, BTreeMap::from([(1, claims)]));
    let mut works = Works::from([(id, web)]);
    let mut loads = cluster(&hosts, &works);
    let outlook = foresee(&mut loads, &mut works).remove(&id).unwrap();
    assert_eq!(outlook.relieving, BTreeMap::from([(1, (old, new))]));
    assert!(outlook.chosen.is_empty() && outlook.leaving.is_empty());
    assert_eq!(slots(&works[&id])[&1], [Held { node: new, settled: true }]);
    assert_eq!(loads.load(old).unwrap().tasks, 0);
}

#[test]
fn global_services_follow_their_hosts() {
    let mut hosts = equal_hosts(4);
    hosts[0].accepts = Accepts::No(Closed::Draining);
    hosts[1].accepts = Accepts::No(Closed::Paused);
    let on = BTreeSet::from([hosts[0].id, hosts[1].id, hosts[2].id]);
    let seats = Seats::EachHost { on };
    let work = Work { request: request(1), seats, may_start: true, may_pull: true };
    let mut works = Works::from([(ServiceId(1), work)]);
    let mut loads = cluster(&hosts, &works);
    let outlook = foresee(&mut loads, &mut works).remove(&ServiceId(1)).unwrap();
    assert_eq!(outlook.ends_on.keys().collect::<Vec<_>>(), [&hosts[0].id]);
    assert_eq!(outlook.starts_on, BTreeSet::from([hosts[3].id]));
    assert_eq!(loads.load(hosts[0].id).unwrap().tasks, 0);
    assert_eq!(loads.load(hosts[3].id).unwrap().tasks, 1);
}

#[test]
fn a_new_host_is_filled_afterwards_and_only_then() {
    let hosts = equal_hosts(3);
    let on = |at: usize| vec![Held { node: hosts[at].id, settled: true }];
    let held = (1..=8).map(|slot| (slot, on(slot as usize % 2))).collect();
    let mut works = Works::from([work(request(1), 8, held)]);
    let mut loads = cluster(&hosts, &works);
    let outlook = foresee(&mut loads, &mut works).remove(&ServiceId(1)).unwrap();
    assert_eq!(outlook, Outlook::default());
    let moves = even_out(&mut loads, &mut works.clone(), 100);
    assert_eq!(moves.len(), 2);
    assert!(moves.iter().all(|evening| evening.to == hosts[2].id));
    works.get_mut(&ServiceId(1)).unwrap().may_pull = false;
    assert!(even_out(&mut cluster(&hosts, &works), &mut works, 100).is_empty());
}
