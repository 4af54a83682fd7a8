//! A finding is cut down, and what is left fails in the same way, also from a file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::sync::atomic::AtomicBool;

use simulations::cores;
use simulations::mutants::{Mutation, mutant};
use simulations::schedule::Schedule;
use simulations::schedule::shrink::failure;
use simulations::soak::{News, SoakSpec, soak};

fn spec(first: u64, count: u64) -> SoakSpec {
    SoakSpec {
        first,
        count: Some(count),
        lasts: None,
        threads: 2,
        fault_secs: Some(60),
        shrink_runs: 40,
        twice: true,
        folder: None,
    }
}

#[test]
fn what_a_mutant_does_is_found_cut_down_written_and_replayed() {
    let folder = std::env::temp_dir().join(format!("shoal-soak-{}", std::process::id()));
    let broken = || mutant(Mutation::EpochsFall, cores::settings());
    let spec = SoakSpec { folder: Some(folder.clone()), ..spec(3, 1) };
    let mut found = Vec::new();
    soak(&spec, &broken, &AtomicBool::new(false), |news| match news {
        News::Found { check, shrunk, path, .. } => found.push((check, shrunk, path)),
        News::Ran(_) => {}
        other => panic!("{other:?}"),
    });
    let (check, shrunk, path) = found.pop().unwrap();
    assert_eq!(check, "rising");
    let whole = Schedule::draw_for(3, Some(60));
    let small = &shrunk.schedule;
    assert!(small.steps.len() * 4 < whole.steps.len(), "{small:?}");
    assert!(small.hosts < whole.hosts && small.heal_ms < whole.heal_ms, "{small:?}");
    let again = Schedule::load(&path.unwrap()).unwrap();
    assert_eq!(again, *small);
    let outcome = again.run(false, broken());
    assert_eq!(failure(&outcome), Some("rising"));
    assert_eq!(outcome.trace, shrunk.outcome.trace);
    let list = std::fs::read_to_string(folder.join("findings.txt")).unwrap();
    assert!(list.starts_with("seed 3: rising; ") && list.lines().count() == 1, "{list}");
    std::fs::remove_dir_all(&folder).unwrap();
    // With sound nodes nothing of it is left.
    assert_eq!(failure(&again.run(false, cores::real(cores::settings()))), None);
}

#[test]
fn a_soak_runs_each_seed_once_and_ends_when_told() {
    let sound = || cores::real(cores::settings());
    let mut seeds = Vec::new();
    soak(&spec(1, 3), &sound, &AtomicBool::new(false), |news| match news {
        News::Ran(outcome) => seeds.push(outcome.seed),
        other => panic!("{other:?}"),
    });
    seeds.sort_unstable();
    assert_eq!(seeds, [1, 2, 3]);
    soak(&spec(1, 3), &sound, &AtomicBool::new(true), |news| panic!("{news:?}"));
}
