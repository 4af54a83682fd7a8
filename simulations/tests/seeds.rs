//! Random runs: a few dozen fixed seeds with all checks on, one of them twice.

use simulations::cores;
use simulations::run::random;

fn clean(seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let outcome = random(seed, false, cores::real(cores::settings()));
        assert!(
            outcome.count == 0,
            "{:#?}\nreplay: cargo run --release -p simulations -- random --seed {seed} --tell",
            outcome.violations
        );
    }
}

#[test]
fn one_seed_is_one_run() {
    let trace = |seed| random(seed, false, cores::real(cores::settings())).trace;
    assert_eq!(trace(17), trace(17));
    assert_ne!(trace(17), trace(18));
}

#[test]
fn seeds_1_to_8_are_clean() {
    clean(1..9);
}

#[test]
fn seeds_9_to_16_are_clean() {
    clean(9..17);
}
