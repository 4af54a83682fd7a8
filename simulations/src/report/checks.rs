//! What was checked, in the reader's words, and what was found.

use crate::checks::Violation;

/// The name of a check, as violations bear it, and what it watches.
pub(super) const CHECKS: [(&str, &str); 15] = [
    ("twins", "no slot runs twice for long within one connected part"),
    ("make before break", "nothing that is ready is stopped before its better twin is ready"),
    ("durable", "an acknowledged change is on two disks, and does not disappear"),
    ("rising", "epochs and incarnations only rise"),
    ("capacity", "reservations on a host never exceed what it has"),
    ("minority", "a part without a majority starts nothing that may not run twice"),
    ("removed", "nothing that was removed comes back"),
    ("verdicts", "nobody who runs and can be reached is called down"),
    ("exactly once", "after healing every slot runs exactly once"),
    ("rest", "after healing starts and stops come to an end"),
    ("even", "after healing replicas lie evenly"),
    ("silence", "and then nothing is started or stopped any more"),
    ("expected", "what the scenario expects of its figures"),
    ("fill", "the cluster can be filled"),
    ("recovery", "what was lost is replaced"),
];

/// Each check with the number of its violations; those that are not in the list as well.
pub(super) fn tallied(violations: &[Violation]) -> Vec<(String, &'static str, usize)> {
    let count = |name: &str| violations.iter().filter(|found| found.check == name).count();
    let mut rows: Vec<(String, &'static str, usize)> =
        CHECKS.iter().map(|(name, what)| ((*name).to_owned(), *what, count(name))).collect();
    rows.retain(|(name, _, found)| *found > 0 || !["fill", "recovery"].contains(&name.as_str()));
    for violation in violations {
        if !rows.iter().any(|(name, ..)| name == violation.check) {
            rows.push((violation.check.to_owned(), "", count(violation.check)));
        }
    }
    rows
}
