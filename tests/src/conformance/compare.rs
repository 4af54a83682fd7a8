//! From two transcripts to the difference, line by line.

use std::collections::BTreeMap;
use std::fmt;

/// What one command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    pub section: String,
    /// The command line, as the script has it.
    pub command: String,
    /// Normalised.
    pub lines: Vec<String>,
}

/// Who says a line that the other does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Swarm,
    Shoal,
}

/// A line that only one of the two says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    pub section: String,
    pub command: String,
    pub side: Side,
    pub line: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = match self.side {
            Side::Swarm => "only Swarm",
            Side::Shoal => "only shoal",
        };
        write!(f, "{} | {} | {who}: {}", self.section, self.command, self.line)
    }
}

/// The lines that only one side has. Equal lines may stand in another order: most lists have none.
pub fn differences(swarm: &[Played], shoal: &[Played]) -> Vec<Difference> {
    let mut out = Vec::new();
    for pair in 0..swarm.len().max(shoal.len()) {
        let (a, b) = (swarm.get(pair), shoal.get(pair));
        let Some(shown) = a.or(b) else { continue };
        let mut balance: BTreeMap<&str, i64> = BTreeMap::new();
        for line in a.iter().flat_map(|played| &played.lines) {
            *balance.entry(line).or_default() -= 1;
        }
        for line in b.iter().flat_map(|played| &played.lines) {
            *balance.entry(line).or_default() += 1;
        }
        for (line, surplus) in balance {
            let side = match surplus {
                0 => continue,
                ..0 => Side::Swarm,
                _ => Side::Shoal,
            };
            out.push(Difference {
                section: shown.section.clone(),
                command: shown.command.clone(),
                side,
                line: line.to_owned(),
            });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_one_side_has_is_a_difference() {
        let played = |lines: &[&str]| {
            vec![Played {
                section: "s".into(),
                command: "c".into(),
                lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            }]
        };
        let found = differences(&played(&["a", "b", "b"]), &played(&["b", "c", "a"]));
        let shown: Vec<(Side, &str)> = found.iter().map(|d| (d.side, d.line.as_str())).collect();
        assert_eq!(shown, [(Side::Swarm, "b"), (Side::Shoal, "c")]);
    }
}
