//! Why one candidate comes after another, in the order in which planning compares them.

use std::fmt;

use crate::cluster::Cluster;
use crate::explain::HostVerdict;
use crate::request::Request;

/// The first comparison that puts a host behind the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// Another value of a label that the service is spread over.
    Group { value: String, before: String },
    /// Its zone comes later: it holds more of the service for its size, or lost the race of zones.
    Zone { zone: String, holds: u64, before: String, before_holds: u64 },
    /// It holds more of the service for its size.
    Holds { replicas: u32, before: u32 },
    /// One more would lift it a quarter above its fair share.
    AboveFairShare,
    /// On the same level, but fuller.
    Fuller,
    /// Nothing else tells them apart but the race.
    Race { place: u32 },
}

/// Why `later` comes after `earlier`, both from one [`crate::Explanation`], `earlier` first.
///
/// Between hosts that are equally full within 1/64 the race decides; that rounding is not in a verdict,
/// so where a host is a little fuller *and* later in the race, its fullness is named.
pub fn behind(
    cluster: &Cluster,
    request: &Request,
    earlier: &HostVerdict,
    later: &HostVerdict,
) -> Behind {
    if let (Some(first), Some(second)) = (cluster.host(earlier.node), cluster.host(later.node)) {
        let differs = |p: &&crate::Preference| p.value(first) != p.value(second);
        if let Some(preference) = request.preferences.iter().find(differs) {
            return Behind::Group {
                value: preference.value(second).to_owned(),
                before: preference.value(first).to_owned(),
            };
        }
    }
    if earlier.zone != later.zone {
        return Behind::Zone {
            zone: later.zone.clone(),
            holds: later.zone_replicas,
            before: earlier.zone.clone(),
            before_holds: earlier.zone_replicas,
        };
    }
    // Full hosts are on one level: then load decides.
    let full = |host: &HostVerdict| host.above_fair_share && host.replicas > 0;
    let level = |host: &HostVerdict, other: &HostVerdict| {
        u64::from(host.replicas) * u64::from(other.weight)
    };
    let both_full = full(earlier) && full(later);
    if !both_full && level(later, earlier) > level(earlier, later) {
        return Behind::Holds { replicas: later.replicas, before: earlier.replicas };
    }
    if later.above_fair_share && !earlier.above_fair_share {
        return Behind::AboveFairShare;
    }
    let fuller = later.tasks > earlier.tasks
        || later.cpu_percent > earlier.cpu_percent
        || later.memory_percent > earlier.memory_percent;
    if fuller || later.race_place < earlier.race_place {
        return Behind::Fuller;
    }
    Behind::Race { place: later.race_place }
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            |zone: &str| if zone.is_empty() { "(none)".to_owned() } else { zone.to_owned() };
        match self {
            Self::Group { value, before } => {
                write!(f, "its group {} comes after {}", named(value), named(before))
            }
            Self::Zone { zone, holds, before, before_holds } => write!(
                f,
                "zone {} (holds {holds}) comes after zone {} (holds {before_holds}), by size",
                named(zone),
                named(before)
            ),
            Self::Holds { replicas, before } => {
                write!(f, "holds {replicas} of it, the one before {before}")
            }
            Self::AboveFairShare => f.write_str("would be above its fair share of load"),
            Self::Fuller => f.write_str("is fuller"),
            Self::Race { place } => write!(f, "place {} in the race decides", place + 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::tests::worlds::{equal_hosts, host, request, worlds};
    use crate::{Held, HostVerdict, Verdict, explain};

    fn ranked(why: &crate::Explanation) -> Vec<HostVerdict> {
        let candidate = |h: &&HostVerdict| matches!(h.verdict, Verdict::Candidate { .. });
        why.hosts.iter().filter(candidate).cloned().collect()
    }

    proptest! {
        /// A reason that speaks of the race or of the count must be true of both.
        #[test]
        fn what_is_named_is_so(world in worlds(), slot in 0..40u32) {
            let cluster = world.cluster();
            let why = explain(&cluster, &world.request, &world.held, &world.orphans, slot);
            for pair in ranked(&why).windows(2) {
                match behind(&cluster, &world.request, &pair[0], &pair[1]) {
                    Behind::Race { .. } => prop_assert!(pair[1].race_place > pair[0].race_place),
                    Behind::Holds { replicas, before } => {
                        let (a, b) = (u64::from(pair[0].weight), u64::from(pair[1].weight));
                        prop_assert!(u64::from(replicas) * a > u64::from(before) * b);
                    }
                    Behind::AboveFairShare => prop_assert!(pair[1].above_fair_share),
                    Behind::Zone { zone, before, .. } => prop_assert_ne!(zone, before),
                    Behind::Group { value, before } => prop_assert_ne!(value, before),
                    Behind::Fuller => {}
                }
            }
        }
    }

    #[test]
    fn zones_then_counts_then_load_then_the_race() {
        let mut hosts = equal_hosts(3);
        hosts.push(host(3, "b", 4, 8));
        let request = request(1);
        let on = |at: usize| Held { node: hosts[at].id, settled: true };
        let held = BTreeMap::from([(1, on(0)), (2, on(3)), (3, on(1))]);
        let mut cluster = Cluster::new(hosts.clone());
        held.values().for_each(|held| _ = cluster.add_load(held.node, &request));
        let why = explain(&cluster, &request, &held, &[], 4);
        let order = ranked(&why);
        let reasons: Vec<String> = order
            .windows(2)
            .map(|pair| behind(&cluster, &request, &pair[0], &pair[1]).to_string())
            .collect();
        // The zone without a name holds two on three hosts, zone b one on its only one.
        assert_eq!(order[0].node, hosts[2].id, "{why}");
        assert_eq!(reasons[0], "holds 1 of it, the one before 0", "{why}");
        assert_eq!(
            reasons[2], "zone b (holds 1) comes after zone (none) (holds 2), by size",
            "{why}"
        );
    }
}
