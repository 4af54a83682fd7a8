//! HashiCorp Nomad, from its defaults.
//!
//! Each client renews a lease with the servers. To keep the leader at 50 heartbeats a second, a lease lasts
//! at least 10 s and grows with the cluster, by one second for every 50 clients; a random stagger of up to
//! the same length is added, and a grace of 10 s. After a change of leader every lease starts anew with
//! five minutes. Lost allocations are then planned by the schedulers.

use super::{Forecast, Outage, percent, plus};

const LEAST_TTL_MS: u64 = 10_000;
const HEARTBEATS_PER_SECOND: u64 = 50;
const GRACE_MS: u64 = 10_000;
const AFTER_ELECTION_MS: u64 = 300_000;
/// Allocations placed in a second in the largest run that was published (C2M).
const PLACED_PER_SECOND: u64 = 1_500;

pub(super) fn forecast(outage: &Outage) -> Forecast {
    let ttl = LEAST_TTL_MS.max(outage.hosts * 1000 / HEARTBEATS_PER_SECOND);
    let noticed = (ttl + GRACE_MS, 2 * ttl + GRACE_MS);
    let (first, all) = outage.starts_ms();
    let planned = outage.replicas * 1000 / PLACED_PER_SECOND;
    let leader = outage.lost * 1000 / outage.hosts.max(1);
    Forecast {
        name: "Nomad",
        noticed_ms: Some(noticed),
        first_ms: Some(plus(noticed, first)),
        all_ms: Some(plus(plus(noticed, all), (planned, planned))),
        remarks: vec![
            format!(
                "if its leader stands on one of the lost hosts (a chance of {} where servers share hosts with the work), every lease starts anew with {} s",
                percent(leader),
                AFTER_ELECTION_MS / 1000
            ),
            "hosts that return stay empty until jobs are changed".to_owned(),
        ],
        rule: "lease of at least 10 s, longer by 1 s for every 50 clients, up to as much again by chance, grace 10 s",
        sources: &[
            "hashicorp/nomad, nomad/config.go: MinHeartbeatTTL 10 s, MaxHeartbeatsPerSecond 50, HeartbeatGrace 10 s, FailoverHeartbeatTTL 5 m",
            "hashicorp/nomad, website/content/docs/configuration/server.mdx, Client Heartbeats: 20-30 s at 100 clients, 30-50 s at 1,000, 110-210 s at 5,000, 210-410 s at 10,000",
            "hashicorp.com/c2m: two million containers in 22 min 14 s",
            "hashicorp/nomad issue 8368: no rebalancing",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_met() {
        for (hosts, window) in [
            (100, (20_000, 30_000)),
            (1_000, (30_000, 50_000)),
            (5_000, (110_000, 210_000)),
            (10_000, (210_000, 410_000)),
        ] {
            let outage = Outage { hosts, lost: 1, replicas: 100, start_ms: (0, 0) };
            assert_eq!(forecast(&outage).noticed_ms, Some(window), "{hosts}");
        }
    }

    #[test]
    fn two_million_allocations_take_the_published_22_minutes_to_plan() {
        let outage = Outage { hosts: 6_100, lost: 1, replicas: 2_000_000, start_ms: (0, 0) };
        let seen = forecast(&outage);
        let took = seen.all_ms.unwrap().0 - seen.first_ms.unwrap().0;
        assert!((1_300_000..1_400_000).contains(&took), "{took}");
    }
}
