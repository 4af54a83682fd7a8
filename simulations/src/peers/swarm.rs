//! Docker Swarm, from swarmkit's constants.
//!
//! A node sends a heartbeat every 5 s, give or take half a second; the dispatcher takes it for down when
//! three periods have passed since the last one. Its tasks are replaced at once then, but a replacement
//! waits for the restart delay of 5 s. With more than half of the managers lost nothing is replaced.

use super::{Forecast, Outage, percent, plus};

const PERIOD_MS: (u64, u64) = (4_500, 5_500);
const GRACE_PERIODS: u64 = 3;
const RESTART_DELAY_MS: u64 = 5_000;
/// What Docker's documentation advises for all but the largest clusters.
const MANAGERS: u64 = 3;

pub(super) fn forecast(outage: &Outage) -> Forecast {
    // The last heartbeat before the loss was sent up to one period earlier.
    let noticed = (GRACE_PERIODS * PERIOD_MS.0 - PERIOD_MS.1, GRACE_PERIODS * PERIOD_MS.1);
    let ordered = plus(noticed, (RESTART_DELAY_MS, RESTART_DELAY_MS));
    let (first, all) = outage.starts_ms();
    let chance = outage.majority_lost_per_mille(MANAGERS);
    let never = chance == 1000;
    let mut remarks = Vec::new();
    if never {
        remarks.push("two of three managers are gone: nothing is replaced and nothing can be changed until somebody forces a new cluster by hand".to_owned());
    } else if chance > 0 {
        remarks.push(format!(
            "if its three managers stand on hosts drawn at random, with a chance of {} two of them are lost as well, and nothing is replaced",
            percent(chance)
        ));
    }
    remarks.push(
        "hosts that return stay empty until somebody updates the services by force".to_owned(),
    );
    Forecast {
        name: "Docker Swarm",
        noticed_ms: (!never).then_some(noticed),
        first_ms: (!never).then(|| plus(ordered, first)),
        all_ms: (!never).then(|| plus(ordered, all)),
        remarks,
        rule: "heartbeat every 5 s (half a second of chance), down after 3 periods of silence, restart delay 5 s",
        sources: &[
            "moby/swarmkit, manager/dispatcher/dispatcher.go: heartbeat period 5 s, epsilon 500 ms, grace multiplier 3",
            "moby/swarmkit, manager/orchestrator/restart/restart.go and api/defaults/service.go: restart delay 5 s",
            "moby/moby issue 24103: no rebalancing when a node returns",
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_of(hosts: u64) -> Forecast {
        forecast(&Outage { hosts, lost: 1, replicas: 33, start_ms: (0, 0) })
    }

    #[test]
    fn a_replacement_is_ordered_13_to_22_s_after_a_crash_whatever_the_size() {
        let (least, most) = one_of(3).first_ms.unwrap();
        assert!((13_000..14_000).contains(&least), "{least}");
        assert!((21_000..22_001).contains(&most), "{most}");
        assert_eq!(one_of(3).first_ms, one_of(1000).first_ms);
    }

    #[test]
    fn what_was_measured_on_three_real_hosts_lies_within() {
        // docs/BENCHMARKS.md: first replacement after 16.8 and 18.8 s, all after 19.8 and 21.7 s.
        let seen = forecast(&Outage { hosts: 3, lost: 1, replicas: 33, start_ms: (200, 1500) });
        let (first, all) = (seen.first_ms.unwrap(), seen.all_ms.unwrap());
        for (measured, (least, most)) in
            [(16_800, first), (18_800, first), (19_800, all), (21_700, all)]
        {
            assert!((least..=most).contains(&measured), "{measured}: {least} to {most}");
        }
    }

    #[test]
    fn without_a_majority_of_managers_it_never_recovers() {
        let lost = forecast(&Outage { hosts: 3, lost: 2, replicas: 33, start_ms: (200, 1500) });
        assert_eq!((lost.noticed_ms, lost.all_ms), (None, None));
        assert!(lost.remarks[0].contains("by hand"));
    }
}
