//! Two runs side by side: what got better, what got worse, and whether by more than a stated margin.
//!
//! A baseline is the figures of a run as JSON ([`Sheet`]), so any kept output will do.

use crate::figures::{SHEET_VERSION, Sheet};

/// The largest baseline that is read, in bytes.
pub const MOST_BYTES: u64 = 4 << 20;

/// One figure in both runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub name: String,
    pub unit: &'static str,
    pub before: Option<f64>,
    pub now: Option<f64>,
    pub verdict: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same,
    Better,
    /// Worse, within the margin.
    Slack,
    /// Worse beyond the margin.
    Worse,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Same => "",
            Self::Better => "better",
            Self::Slack => "within the margin",
            Self::Worse => "WORSE",
        }
    }
}

/// Reads a baseline.
///
/// # Errors
/// A sentence that says why it is none, or none of this version.
pub fn baseline(text: &str) -> Result<Sheet, String> {
    // A run's output may end with the line that names its trace.
    let end = text.rfind('}').map_or(text.len(), |at| at + 1);
    let value: serde_json::Value = serde_json::from_str(&text[..end])
        .map_err(|error| format!("is no JSON ({error}): keep one with --save, or with --json"))?;
    let version = value["version"].as_u64();
    if version != Some(u64::from(SHEET_VERSION)) {
        let found = version.map_or_else(|| "none".to_owned(), |version| version.to_string());
        return Err(format!(
            "holds figures of version {found}, and this program compares version {SHEET_VERSION}: run the baseline again"
        ));
    }
    serde_json::from_value(value).map_err(|error| format!("holds no figures of a run: {error}"))
}

/// A figure of a sheet: its name, its unit, how to read it, and how much more is nothing.
type Figure = (&'static str, &'static str, fn(&Sheet) -> Option<f64>, f64);

const LOWER_IS_BETTER: [Figure; 15] = [
    ("violations", "", |s| Some(s.violations as f64), 0.0),
    ("false verdicts", "", |s| Some(s.false_verdicts as f64), 0.0),
    ("loss to first verdict, max", "ms", |s| s.first_detected.max_ms.map(|ms| ms as f64), 250.0),
    ("loss to verdicts, p50", "ms", |s| s.detected.p50_ms.map(|ms| ms as f64), 250.0),
    ("loss to verdicts, p99", "ms", |s| s.detected.p99_ms.map(|ms| ms as f64), 250.0),
    ("first slot served again, max", "ms", |s| s.first_recovered.max_ms.map(|ms| ms as f64), 500.0),
    ("all slots served again, p50", "ms", |s| s.recovered.p50_ms.map(|ms| ms as f64), 500.0),
    ("all slots served again, max", "ms", |s| s.recovered.max_ms.map(|ms| ms as f64), 500.0),
    ("slot not served, p99", "ms", |s| s.gaps.p99_ms.map(|ms| ms as f64), 500.0),
    ("healed to exactly once", "ms", |s| s.settled_ms.map(|ms| ms as f64), 5_000.0),
    ("gap-seconds", "", |s| Some(s.gap_seconds as f64), 2.0),
    ("duplicate-seconds", "", |s| Some(s.duplicate_seconds as f64), 2.0),
    (
        "starts beyond the least possible",
        "",
        |s| Some((s.moves.all() - s.moves.least()) as f64),
        2.0,
    ),
    (
        "replicas, most over least on a host",
        "",
        |s| Some((s.balance.most - s.balance.least) as f64),
        1.0,
    ),
    (
        "bytes per node and second",
        "",
        |s| s.wire.get("all").map(|all| all.bytes_per_node_second),
        10.0,
    ),
];

const HIGHER_IS_BETTER: [Figure; 1] = [(
    "replicas ready at least, per thousand",
    "",
    |s| Some(s.running.least_per_mille as f64),
    5.0,
)];

/// Compares two runs. `margin`: how much worse is still taken, in thousandths.
///
/// # Errors
/// A sentence that says why they cannot be compared.
pub fn compare(before: &Sheet, now: &Sheet, margin: u32) -> Result<Vec<Line>, String> {
    if before.what != now.what || before.hosts != now.hosts {
        return Err(format!(
            "cannot be compared: the baseline is '{}' on {} hosts, this run is '{}' on {}",
            before.what, before.hosts, now.what, now.hosts
        ));
    }
    let margin = 1.0 + f64::from(margin) / 1000.0;
    let lower = LOWER_IS_BETTER.into_iter().map(|figure| line(figure, before, now, margin, 1.0));
    let higher = HIGHER_IS_BETTER.into_iter().map(|figure| line(figure, before, now, margin, -1.0));
    Ok(lower.chain(higher).collect())
}

fn line(figure: Figure, before: &Sheet, now: &Sheet, margin: f64, sign: f64) -> Line {
    let (name, unit, read, slack) = figure;
    let (before, now) = (read(before), read(now));
    let verdict = match (before, now) {
        (Some(before), Some(now)) => {
            let worse_by = (now - before) * sign;
            let bearable = before.abs() * (margin - 1.0) + slack;
            if worse_by == 0.0 {
                Verdict::Same
            } else if worse_by < 0.0 {
                Verdict::Better
            } else if worse_by <= bearable {
                Verdict::Slack
            } else {
                Verdict::Worse
            }
        }
        // What was measured and is not any more has not happened in this run, or has not ended.
        (Some(_), None) => Verdict::Worse,
        (None, _) => Verdict::Same,
    };
    Line { name: name.to_owned(), unit, before, now, verdict }
}

/// Whether anything is worse beyond the margin.
pub fn is_worse(lines: &[Line]) -> bool {
    lines.iter().any(|line| line.verdict == Verdict::Worse)
}

fn amount(value: Option<f64>, unit: &str) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value.fract() == 0.0 => format!("{value:.0} {unit}").trim_end().to_owned(),
        Some(value) => format!("{value:.2} {unit}").trim_end().to_owned(),
    }
}

/// As a table for people.
pub fn table(lines: &[Line]) -> String {
    let width = lines.iter().map(|line| line.name.len()).max().unwrap_or(0);
    let mut text = format!("  {:<width$}  {:>14}  {:>14}\n", "", "baseline", "now");
    for line in lines {
        let (before, now) = (amount(line.before, line.unit), amount(line.now, line.unit));
        let row =
            format!("  {:<width$}  {before:>14}  {now:>14}  {}", line.name, line.verdict.word());
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Moves, Times};

    fn sheet() -> Sheet {
        let times = Times { count: 3, p50_ms: Some(2000), p99_ms: Some(3000), max_ms: Some(3000) };
        Sheet {
            version: SHEET_VERSION,
            what: "rack-loss".to_owned(),
            hosts: 9,
            detected: times,
            recovered: times,
            moves: Moves { created: 10, elsewhere: 2, ..Moves::default() },
            ..Sheet::default()
        }
    }

    fn verdict_of(lines: &[Line], name: &str) -> Verdict {
        lines.iter().find(|line| line.name == name).unwrap().verdict
    }

    #[test]
    fn equal_runs_are_the_same_and_a_margin_is_a_margin() {
        let lines = compare(&sheet(), &sheet(), 100).unwrap();
        assert!(lines.iter().all(|line| line.verdict == Verdict::Same));
        let mut later = sheet();
        later.recovered.max_ms = Some(3_700);
        let lines = compare(&sheet(), &later, 100).unwrap();
        assert_eq!(verdict_of(&lines, "all slots served again, max"), Verdict::Slack);
        assert!(!is_worse(&lines));
        later.recovered.max_ms = Some(3_801);
        assert!(is_worse(&compare(&sheet(), &later, 100).unwrap()));
        later.recovered.max_ms = Some(2_000);
        let lines = compare(&sheet(), &later, 100).unwrap();
        assert_eq!(verdict_of(&lines, "all slots served again, max"), Verdict::Better);
    }

    #[test]
    fn violations_and_what_never_came_have_no_margin() {
        let mut later = sheet();
        later.violations = 1;
        assert!(is_worse(&compare(&sheet(), &later, 500).unwrap()));
        let mut later = sheet();
        later.recovered = Times::default();
        assert!(is_worse(&compare(&sheet(), &later, 500).unwrap()));
        let mut later = sheet();
        later.running.least_per_mille = 900;
        assert!(is_worse(&compare(&sheet(), &later, 0).unwrap()));
    }

    #[test]
    fn other_runs_and_other_versions_are_refused() {
        let other = Sheet { hosts: 10, ..sheet() };
        assert!(compare(&sheet(), &other, 100).unwrap_err().contains("cannot be compared"));
        assert!(baseline("{\"version\": 99}").unwrap_err().contains("version 99"));
        assert!(baseline("nonsense").unwrap_err().contains("--save"));
        assert!(baseline("{}").unwrap_err().contains("none"));
        let text = serde_json::to_string_pretty(&sheet()).unwrap();
        assert_eq!(baseline(&text), Ok(sheet()));
        assert_eq!(baseline(&format!("{text}\nseed 1 trace 00 violations 0\n")), Ok(sheet()));
    }

    /// What is kept on a disk for months does not change its form by accident.
    #[test]
    fn a_baseline_of_version_1_is_still_read() {
        let golden = include_str!("figures/golden-v1.json");
        assert_eq!(baseline(golden), Ok(sheet()));
        assert_eq!(serde_json::to_string_pretty(&sheet()).unwrap(), golden.trim_end());
    }

    #[test]
    fn the_table_says_what_is_worse() {
        let mut later = sheet();
        later.violations = 2;
        let text = table(&compare(&sheet(), &later, 100).unwrap());
        let row = text.lines().find(|line| line.contains("violations")).unwrap();
        assert!(row.ends_with("WORSE"), "{text}");
    }
}
