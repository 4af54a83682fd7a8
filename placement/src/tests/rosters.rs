//! A roster that was kept up to date is the one made from scratch, and plans from it are the plans.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::worlds::{World, worlds};
use crate::*;

/// Slots change hands, one after the other.
fn kept(world: &World, changes: &[(u32, usize, bool)]) -> (Roster, BTreeMap<u32, Held>) {
    let cluster = world.cluster();
    let mut held = world.held.clone();
    let mut roster = Roster::of(&cluster, &held);
    for (slot, at, settled) in changes {
        if let Some(old) = held.remove(slot) {
            roster.release(*slot, old.node, old.settled);
        }
        if let Some(host) = world.hosts.get(*at) {
            roster.hold(*slot, host, *settled);
            held.insert(*slot, Held { node: host.id, settled: *settled });
        }
    }
    (roster, held)
}

proptest! {
    #[test]
    fn kept_rosters_are_those_made_anew(
        world in worlds(),
        changes in proptest::collection::vec((0..40u32, 0..14usize, any::<bool>()), 0..60),
    ) {
        let (roster, held) = kept(&world, &changes);
        let world = World { held, ..world };
        let cluster = world.cluster();
        prop_assert_eq!(&roster, &Roster::of(&cluster, &world.held));
        let mut orphans = world.orphans.clone();
        orphans.retain(|slot| !world.held.contains_key(slot));
        let plan = plan_orphans(&cluster, &world.request, &roster, &orphans);
        prop_assert_eq!(&plan, &world.plan());
        for host in &world.hosts {
            let mut share = plan.choices.clone();
            share.retain(|_, candidates| candidates.contains(&host.id));
            let mine = plan_my_orphans(&cluster, &world.request, &roster, &orphans, host.id);
            prop_assert_eq!(mine, share);
        }
    }
}
