//! What was checked, in the reader's words, and what was found.

use crate::checks::Violation;

/// The name of a check, as violations bear it, and what it watches.
pub(super) const CHECKS: [(&str, &str); 26] = [
    ("twins", "no slot runs twice for long within one connected part"),
    ("make before break", "nothing that is ready is stopped before its better twin is ready"),
    ("durable", "an acknowledged change is on two disks, and does not disappear"),
    ("rising", "epochs and incarnations only rise"),
    ("capacity", "reservations on a host never exceed what it has"),
    ("minority", "a part without a majority starts nothing that may not run twice"),
    ("removed", "nothing that was removed comes back"),
    ("verdicts", "nobody who runs and can be reached is called down"),
    ("moves", "nothing moves because something else failed"),
    ("limits", "constraints and limits of a service hold on each host"),
    ("adopted", "a node does not start beside what it runs already"),
    ("answers", "a command is answered, and in a calm cluster not refused"),
    ("conflicts", "of two concurrent edits the one that lost is kept and shown"),
    ("expelled", "who was removed from the cluster is told nothing any more"),
    ("outsiders", "who has no token learns nothing and changes nothing; garbage does no harm"),
    ("jobs", "a slot of a job that has ended is not run again"),
    ("files", "nothing runs without its secrets and configs, and nobody is shown their contents"),
    (
        "networks",
        "nothing runs without its addresses, no two have the same, and each host is told of what runs",
    ),
    ("plans", "nodes with equal views make equal plans"),
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
