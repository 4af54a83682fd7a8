//! Every named scenario, with all checks on and its own expectations: no violation. Each test takes some of
//! them, so that they share the machine's cores.

use simulations::cores;
use simulations::scenario::Scenario;
use simulations::scenario::library::LIBRARY;
use simulations::scenario::play::{Played, play};
use simulations::time::Span;

/// Longer scenarios are cut down to this.
const SHORTENED: Span = Span::secs(1200);

fn played(name: &str, text: &str) -> Played {
    let mut scenario = Scenario::parse(name, text).unwrap_or_else(|error| panic!("{error}"));
    // Hours are for those who have the time: twenty minutes of churn show that it works.
    if let Some(churn) = &mut scenario.churn
        && scenario.duration > SHORTENED
    {
        scenario.duration = SHORTENED;
        churn.until = SHORTENED;
    }
    play(&scenario, scenario.seed, false, None, cores::real(cores::settings()))
}

/// Each `part`-th of four.
fn clean(part: usize) {
    for (name, text) in LIBRARY.into_iter().skip(part).step_by(4) {
        let played = played(name, text);
        assert!(
            played.outcome.count == 0,
            "{name}: {:#?}\nreplay: cargo run --release -p simulations -- scenario {name} --tell",
            played.outcome.violations
        );
        assert!(played.outcome.line().ends_with("violations 0"), "{name}");
        assert_eq!(played.sheet.violations, 0);
    }
}

#[test]
fn the_first_quarter_of_the_library_is_clean() {
    clean(0);
}

#[test]
fn the_second_quarter_of_the_library_is_clean() {
    clean(1);
}

#[test]
fn the_third_quarter_of_the_library_is_clean() {
    clean(2);
}

#[test]
fn the_fourth_quarter_of_the_library_is_clean() {
    clean(3);
}

#[test]
fn one_seed_is_one_run_and_what_is_not_met_is_a_violation() {
    let (name, text) = LIBRARY[0];
    let trace = || played(name, text).outcome.trace;
    assert_eq!(trace(), trace());
    let strict = text.replace("recovered_within = \"15s\"", "recovered_within = \"1ms\"");
    let late = played(name, &strict);
    assert_eq!(late.outcome.count, 1, "{:#?}", late.outcome.violations);
    assert_eq!(late.outcome.violations[0].check, "expected");
    assert!(late.outcome.violations[0].text.contains("recovered_within"));
}

/// The page for people is true to the program: every word, key and name is in it.
#[test]
fn the_documentation_has_every_word_and_every_name() {
    let page = include_str!("../../docs/SIMULATING.md");
    for word in simulations::scenario::action::WORDS {
        assert!(page.contains(&format!("| `{}` |", word.name)), "the word {}", word.name);
        for key in [word.needs, word.takes].concat() {
            assert!(page.contains(&format!("`{key}`")), "the key {key}");
        }
    }
    for (name, _) in LIBRARY {
        assert!(page.contains(&format!("| `{name}` |")), "the scenario {name}");
    }
    for kind in simulations::faults::KINDS {
        let name = simulations::scenario::kind_name(kind);
        assert!(page.contains(&format!("`{name}`")), "the fault {name}");
    }
    for (name, _) in simulations::scenario::service::BEHAVIOURS {
        assert!(page.contains(&format!("`{name}`")), "the behaviour {name}");
    }
}
