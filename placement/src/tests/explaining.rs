//! Explanations agree with plans, and read well.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::worlds::{GIB, equal_hosts, request, worlds};
use crate::*;

proptest! {
    #[test]
    fn an_explanation_names_the_candidates_of_the_plan(world in worlds(), which in 0..30usize) {
        prop_assume!(!world.orphans.is_empty());
        let slot = world.orphans[which % world.orphans.len()];
        let cluster = world.cluster();
        let plan = world.plan();
        let why = explain(&cluster, &world.request, &world.held, &world.orphans, slot);
        prop_assert_eq!(why.hosts.len(), world.hosts.len());
        let ranked: Vec<_> = why.hosts.iter()
            .filter(|host| matches!(host.verdict, Verdict::Candidate { .. }))
            .map(|host| host.node).collect();
        prop_assert_eq!(plan.choices.get(&slot).cloned().unwrap_or_default(), ranked);
        if plan.pending.contains_key(&slot) {
            let refused = |host: &HostVerdict| matches!(host.verdict, Verdict::Refused(_));
            prop_assert!(why.hosts.iter().all(refused));
        }
    }

    #[test]
    fn a_held_slot_can_be_explained(world in worlds()) {
        let cluster = world.cluster();
        for (slot, holder) in &world.held {
            let why = explain(&cluster, &world.request, &world.held, &world.orphans, *slot);
            prop_assert_eq!(why.holder, Some(*holder));
            prop_assert!(!why.to_string().is_empty());
        }
    }
}

#[test]
fn it_reads_well() {
    let mut hosts = equal_hosts(4);
    hosts[2].accepts = Accepts::No(Closed::Draining);
    let mut cluster = Cluster::new(hosts.clone());
    let mut request = request(1);
    request.resources.memory_bytes = 2 * GIB;
    let held = BTreeMap::from([(0, Held { node: hosts[0].id, settled: true })]);
    for _ in 0..4 {
        cluster.add_load(hosts[3].id, &request);
    }
    cluster.add_load(hosts[0].id, &request);
    let why = explain(&cluster, &request, &held, &[], 0).to_string();
    let lines: Vec<&str> = why.lines().collect();
    assert_eq!(lines[0], "slot 0 runs on host-0 and stays there");
    assert_eq!(lines[1], "if it had to be placed now:");
    assert_eq!(
        lines[2],
        "  host-1 is first: holds 0 of this service, would run 1 task, \
         0% of its cores reserved, 25% of its memory reserved, place 2 in the race"
    );
    assert!(lines[3].starts_with("  host-0 is backup 1: "), "{why}");
    assert!(why.contains("  host-2 is draining"), "{why}");
    assert!(why.contains("  host-3 has 0 B of 2 GiB free"), "{why}");
}
