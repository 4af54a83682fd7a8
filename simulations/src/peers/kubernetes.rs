//! Kubernetes, from the defaults of its node life cycle controller.
//!
//! A node renews a lease every 10 s; the controller looks every 5 s and calls a node unknown after 40 s of
//! silence. It is tainted then, at most one node every ten seconds, and its pods tolerate the taint for
//! 300 s. Where 55% of the nodes of a zone or more are gone, tainting slows to one in 100 s, or stops in
//! clusters of up to 50 nodes.

use super::{Forecast, Outage, plus};

const MONITOR_GRACE_MS: u64 = 40_000;
const MONITOR_PERIOD_MS: u64 = 5_000;
const TOLERATION_MS: u64 = 300_000;
/// Between two nodes that are tainted.
const TAINT_EVERY_MS: u64 = 10_000;
const TAINT_SLOWLY_MS: u64 = 100_000;
const UNHEALTHY_PER_MILLE: u64 = 550;
const SMALL_CLUSTER: u64 = 50;

pub(super) fn forecast(outage: &Outage) -> Forecast {
    let noticed = (MONITOR_GRACE_MS, MONITOR_GRACE_MS + MONITOR_PERIOD_MS);
    let many = outage.lost * 1000 >= outage.hosts * UNHEALTHY_PER_MILLE;
    let stops = many && outage.hosts <= SMALL_CLUSTER;
    let every = if many { TAINT_SLOWLY_MS } else { TAINT_EVERY_MS };
    let last = outage.lost.saturating_sub(1) * every;
    let evicted = plus(noticed, (TOLERATION_MS, TOLERATION_MS));
    let (first, all) = outage.starts_ms();
    let mut remarks = Vec::new();
    if stops {
        remarks.push("more than 55% of a cluster of up to 50 nodes is gone: evictions stop, and nothing is replaced until nodes return or somebody deletes them".to_owned());
    } else if many {
        remarks.push(
            "more than 55% of the nodes are gone: only one node in 100 s is evicted".to_owned(),
        );
    } else if outage.lost > 1 {
        remarks.push("nodes are evicted one every 10 s".to_owned());
    }
    remarks.push("newer releases wait 50 s instead of 40 s before a node is unknown".to_owned());
    remarks.push("nodes that return stay empty unless a descheduler is installed".to_owned());
    Forecast {
        name: "Kubernetes",
        noticed_ms: Some(noticed),
        first_ms: (!stops).then(|| plus(evicted, first)),
        all_ms: (!stops).then(|| plus(plus(evicted, all), (last, last))),
        remarks,
        rule: "node unknown after 40 s of silence (looked at every 5 s), pods tolerate it for 300 s, one node evicted every 10 s",
        sources: &[
            "kubernetes/website, content/en/docs/concepts/architecture/nodes.md: leases, 40 s, five minutes, eviction rates",
            "kubernetes/kubernetes, pkg/controller/nodelifecycle/config/v1alpha1/defaults.go: rates 0.1 and 0.01 a second, threshold 0.55, small cluster 50",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(lost: u64, hosts: u64) -> Forecast {
        forecast(&Outage { hosts, lost, replicas: 30, start_ms: (0, 0) })
    }

    #[test]
    fn the_first_pod_is_replaced_after_some_340_s() {
        assert_eq!(lost(1, 10).first_ms, Some((340_000, 345_000)));
        assert_eq!(lost(1, 10).all_ms, Some((340_000, 345_000)));
    }

    #[test]
    fn a_rack_takes_ten_seconds_more_for_each_node() {
        assert_eq!(lost(10, 100).all_ms, Some((430_000, 435_000)));
    }

    #[test]
    fn a_mass_failure_slows_or_stops_evictions() {
        assert_eq!(lost(60, 100).all_ms, Some((340_000 + 59 * 100_000, 345_000 + 59 * 100_000)));
        assert_eq!(lost(2, 3).all_ms, None);
        assert!(lost(2, 3).remarks[0].contains("evictions stop"));
    }
}
