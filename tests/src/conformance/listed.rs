//! The intended differences: the table in docs/COMPATIBILITY.md, read by the machine as people read it.
//!
//! A row has four cells: the commands it is about, what only Swarm says, what only shoal says, and why. The first
//! three are texts in backquotes in which `*` stands for anything; an empty one matches nothing. Rows stand between two
//! comments, `<!-- differences -->` and `<!-- end of differences -->`.

use anyhow::{Context, Result, ensure};

use super::compare::{Difference, Side};

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub commands: String,
    pub swarm: String,
    pub shoal: String,
    pub why: String,
}

/// Reads the table out of the page.
///
/// # Errors
/// The row that has not four cells, or no reason.
pub fn rows(page: &str) -> Result<Vec<Row>> {
    let (_, rest) = page.split_once("<!-- differences -->").context("no `<!-- differences -->`")?;
    let (table, _) = rest
        .split_once("<!-- end of differences -->")
        .context("no `<!-- end of differences -->`")?;
    let mut rows = Vec::new();
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [commands, swarm, shoal, why] = cells.as_slice() else {
            anyhow::bail!("a row of {} cells, not four: {line}", cells.len());
        };
        let plain = |cell: &str| cell.trim_matches('`').replace("\\|", "|");
        ensure!(!why.is_empty(), "a row without a reason: {line}");
        rows.push(Row {
            commands: plain(commands),
            swarm: plain(swarm),
            shoal: plain(shoal),
            why: (*why).to_owned(),
        });
    }
    Ok(rows)
}

impl Row {
    /// Whether this row gives the reason of a difference.
    pub fn explains(&self, difference: &Difference) -> bool {
        let pattern = match difference.side {
            Side::Swarm => &self.swarm,
            Side::Shoal => &self.shoal,
        };
        !pattern.is_empty()
            && matches(&self.commands, &difference.command)
            && matches(pattern, &difference.line)
    }
}

/// Whether `text` is `pattern`, in which `*` stands for any number of letters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_anything() {
        for (pattern, text) in [
            ("a*c", "abbc"),
            ("*", ""),
            ("a", "a"),
            ("*b*", "abc"),
            ("a*b*a", "a b a"),
            ("a*", "a"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in
            [("a*c", "abcd"), ("a", "ab"), ("", "a"), ("a*a", "a"), ("*b*b", "ab")]
        {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn rows_are_read_and_explain_their_side_only() -> Result<()> {
        let page = "x\n<!-- differences -->\n| commands | Swarm | shoal | why |\n| --- | --- | --- | --- |\n\
                    | `service ls*` | `a \\| b*` |  | it is so |\n<!-- end of differences -->\n";
        let rows = rows(page)?;
        assert_eq!(rows.len(), 1);
        let mut difference = Difference {
            section: "s".into(),
            command: "service ls -q".into(),
            side: Side::Swarm,
            line: "a | b c".into(),
        };
        assert!(rows[0].explains(&difference));
        difference.side = Side::Shoal;
        assert!(!rows[0].explains(&difference));
        Ok(())
    }

    #[test]
    fn the_page_can_be_read() -> Result<()> {
        let page = std::fs::read_to_string(super::super::page())?;
        ensure!(!rows(&page)?.is_empty());
        Ok(())
    }
}
