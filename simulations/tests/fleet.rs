//! Large clusters over shared views: what they must keep, and that they take as long as the ordinary
//! simulation where both can be run.

use simulations::cores;
use simulations::fleet::{self, FleetReport, FleetSpec};
use simulations::gossip::Pace;
use simulations::outage::{self, OutageSpec};
use simulations::time::Span;
use simulations::world::Fidelity;

fn run(spec: &FleetSpec) -> FleetReport {
    let report = fleet::run(spec);
    assert!(report.count == 0, "{:#?}", report.violations);
    report
}

#[test]
fn three_hundred_hosts_lose_a_third_and_move_nothing_else() {
    let report = run(&FleetSpec::of(7, 300, 3_000, 330));
    assert_eq!(report.killed, 99);
    assert!(report.lost > 800, "{} lost", report.lost);
    // Each lost slot is started once, but for those that two took at once.
    assert_eq!(report.starts, report.lost + report.twins);
    assert_eq!(report.stops, report.twins);
    assert!(report.twins * 20 < report.lost, "{} of {} twice", report.twins, report.lost);
}

#[test]
fn one_seed_is_one_run() {
    let trace = |seed| run(&FleetSpec::of(seed, 40, 400, 300)).trace;
    assert_eq!(trace(3), trace(3));
    assert_ne!(trace(3), trace(4));
}

/// The same outage in both: 8 of 24 hosts with one service of 240 replicas.
#[test]
fn it_takes_as_long_as_in_the_ordinary_simulation() {
    let mut spec = FleetSpec::of(5, 24, 240, 300);
    (spec.services, spec.zones) = (1, 1);
    let fleet = run(&spec);
    let ordinary = OutageSpec {
        seed: 5,
        hosts: 24,
        replicas: 240,
        kill_per_mille: 300,
        back_after: None,
        gossip: Fidelity::Modelled(Pace::default()),
        tell: false,
    };
    let ordinary = outage::run(&ordinary, cores::real(cores::settings()));
    let (first, last) = ordinary.detected.expect("verdicts");
    let (fleet_first, _, fleet_last) = fleet.detected.expect("verdicts");
    let (_, _, _, fleet_all) = fleet.recovered.expect("recovery");
    let all = ordinary.recovered.expect("recovery");
    let apart = |a: Span, b: Span| Span(a.0.abs_diff(b.0));
    // Which hosts go, and who doubts himself, differs: seconds, not tenths, are compared.
    assert!(apart(first, fleet_first) <= Span::secs(1), "{first} and {fleet_first}");
    assert!(apart(last, fleet_last) <= Span::secs(3), "{last} and {fleet_last}");
    assert!(apart(all, fleet_all) <= Span::secs(4), "{all} and {fleet_all}");
}
