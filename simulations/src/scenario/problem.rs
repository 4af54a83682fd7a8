//! What is wrong with a scenario file, all of it at once: in which file, under which key, and what would
//! be right.

/// Everything that was found wrong so far.
#[derive(Debug, Default)]
pub(super) struct Problems {
    lines: Vec<String>,
}

/// A file that is no scenario.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file} is no scenario that can be run:\n{}\nNothing was run. docs/SIMULATING.md lists every key.", lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"))]
pub struct ScenarioError {
    file: String,
    lines: Vec<String>,
}

impl ScenarioError {
    pub fn one(file: &str, line: impl Into<String>) -> Self {
        Self { file: file.to_owned(), lines: vec![line.into()] }
    }
}

impl Problems {
    pub(super) fn add(&mut self, place: &str, key: &str, text: impl AsRef<str>) {
        let dot = if place.is_empty() || key.is_empty() { "" } else { "." };
        self.lines.push(format!("{place}{dot}{key}: {}", text.as_ref()));
    }

    /// The value, or its default with the error noted: reading goes on, to find the other errors.
    pub(super) fn take<T: Default>(
        &mut self,
        place: &str,
        key: &str,
        read: Result<T, impl AsRef<str>>,
    ) -> T {
        read.unwrap_or_else(|error| {
            self.add(place, key, error);
            T::default()
        })
    }

    pub(super) fn end(self, file: &str) -> Result<(), ScenarioError> {
        if self.lines.is_empty() {
            Ok(())
        } else {
            Err(ScenarioError { file: file.to_owned(), lines: self.lines })
        }
    }
}

/// The known word that is nearest to a wrong one, for "did you mean".
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|other| (distance(word, other), other));
    scored.min().filter(|(far, _)| *far * 3 <= word.len().max(3)).map(|(_, other)| other)
}

/// Edits between two words (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut before = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let cost = before + usize::from(x != *y);
            before = row[j + 1];
            row[j + 1] = cost.min(before + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word() {
        let known = ["crash", "freeze", "one-way"];
        assert_eq!(nearest("crush", known), Some("crash"));
        assert_eq!(nearest("oneway", known), Some("one-way"));
        assert_eq!(nearest("elephant", known), None);
    }
}
