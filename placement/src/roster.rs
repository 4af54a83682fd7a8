//! Who holds the slots of one service: counted for each host and each zone, and kept up to date slot by
//! slot, so that a plan for two lost slots of a hundred thousand does not count the rest again.

use std::collections::BTreeMap;

use membership::id::NodeId;

use crate::cluster::{Cluster, Index};
use crate::hash::name_key;
use crate::host::Host;
use crate::plan::Held;

/// The held slots of one service. Equal rosters give equal plans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    /// Replicas that are ready, for each host with any.
    counts: BTreeMap<NodeId, Count>,
    /// Of those, how many stand in each zone, by the zone's key.
    zones: BTreeMap<u64, u64>,
    settled: u64,
    /// Slots that are claimed and still starting.
    starting: BTreeMap<u32, NodeId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    replicas: u32,
    zone: u64,
}

impl Roster {
    /// From scratch. What is held outside `cluster` is left out, as nothing can be counted there.
    pub fn of(cluster: &Cluster, held: &BTreeMap<u32, Held>) -> Self {
        let mut roster = Self::default();
        let mut counts = vec![0u32; cluster.keys.len()];
        for (slot, held) in held {
            match cluster.index(held.node) {
                Some(at) if held.settled => counts[at as usize] += 1,
                Some(_) => _ = roster.starting.insert(*slot, held.node),
                None => {}
            }
        }
        // In the order of ids, which is that of the map.
        let counts = cluster.indexes().zip(counts).filter(|(_, replicas)| *replicas > 0);
        roster.counts = counts
            .map(|(at, replicas)| {
                let zone = cluster.zones[cluster.zone_of[at as usize] as usize].key;
                *roster.zones.entry(zone).or_insert(0) += u64::from(replicas);
                roster.settled += u64::from(replicas);
                (cluster.id(at), Count { replicas, zone })
            })
            .collect();
        roster
    }

    /// `host` holds `slot`, which nobody held before: see [`Self::release`].
    pub fn hold(&mut self, slot: u32, host: &Host, settled: bool) {
        if !settled {
            self.starting.insert(slot, host.id);
            return;
        }
        let zone = name_key(&host.zone);
        // A host stands in one zone: the one it was in when its first slot was counted.
        let count = self.counts.entry(host.id).or_insert(Count { replicas: 0, zone });
        count.replicas += 1;
        *self.zones.entry(count.zone).or_insert(0) += 1;
        self.settled += 1;
    }

    /// `node` does not hold `slot` any more, which it held with this `settled`.
    pub fn release(&mut self, slot: u32, node: NodeId, settled: bool) {
        if !settled {
            self.starting.remove(&slot);
            return;
        }
        let Some(count) = self.counts.get_mut(&node) else { return };
        let zone = count.zone;
        count.replicas -= 1;
        if count.replicas == 0 {
            self.counts.remove(&node);
        }
        if let Some(in_zone) = self.zones.get_mut(&zone) {
            *in_zone -= 1;
            if *in_zone == 0 {
                self.zones.remove(&zone);
            }
        }
        self.settled -= 1;
    }

    /// Replicas that are ready.
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Replicas on one host that are ready.
    pub fn on(&self, node: NodeId) -> u32 {
        self.counts.get(&node).map_or(0, |count| count.replicas)
    }

    /// Slots that are claimed and not ready, with their holders.
    pub fn starting(&self) -> impl Iterator<Item = (u32, NodeId)> + '_ {
        self.starting.iter().map(|(slot, node)| (*slot, *node))
    }

    /// Hosts with replicas that are ready, and how many.
    pub(crate) fn hosts<'r>(
        &'r self,
        cluster: &'r Cluster,
    ) -> impl Iterator<Item = (Index, u32)> + 'r {
        let counts = self.counts.iter();
        counts.filter_map(|(node, count)| Some((cluster.index(*node)?, count.replicas)))
    }

    /// Ready replicas in the zone with this key.
    pub(crate) fn in_zone(&self, key: u64) -> u64 {
        self.zones.get(&key).copied().unwrap_or(0)
    }
}
