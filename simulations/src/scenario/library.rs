//! The named scenarios, which come with the program: each explains what it shows.

use super::{Scenario, ScenarioError, file};

/// The name of a scenario, and its text.
macro_rules! named {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../scenarios/", $name, ".toml")))),*]
    };
}

/// Names and texts, in the order in which they are listed.
pub const LIBRARY: [(&str, &str); 24] = named![
    "rack-loss",
    "zone-loss",
    "two-of-three",
    "crash-storm",
    "power-loss",
    "lost-and-replaced",
    "cloned-node",
    "restored-old-disk",
    "split-brain",
    "one-way-cut",
    "bridge-partition",
    "flip-flop",
    "lossy-network",
    "frozen-host",
    "clock-jump",
    "slow-engine",
    "disk-full",
    "crash-loop",
    "strangers",
    "rolling-reboot",
    "rolling-upgrade",
    "black-friday",
    "join-storm",
    "hours-of-churn",
];

/// The text of a named scenario.
pub fn text(name: &str) -> Option<&'static str> {
    LIBRARY.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// A named scenario as it is written.
///
/// # Errors
/// The names that there are, when this is none of them.
pub fn file(name: &str) -> Result<file::File, ScenarioError> {
    let Some(text) = text(name) else {
        let known: Vec<&str> = LIBRARY.iter().map(|(name, _)| *name).collect();
        let hint = super::problem::nearest(name, known.iter().copied())
            .map(|near| format!("did you mean '{near}'? "));
        return Err(ScenarioError::one(
            name,
            format!(
                "no scenario has this name, and no file either. {}There are {}",
                hint.unwrap_or_default(),
                known.join(", ")
            ),
        ));
    };
    Scenario::read(name, text)
}
