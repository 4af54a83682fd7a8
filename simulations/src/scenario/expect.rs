//! What a scenario expects of its figures. What is not met counts as a violation of the run.

use super::amount;
use super::file::Expect as Raw;
use super::problem::Problems;
use crate::figures::{Sheet, seconds};
use crate::time::Span;

/// Expectations, checked; `None` expects nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expect {
    pub detected_within: Option<Span>,
    pub recovered_within: Option<Span>,
    pub gap_at_most: Option<Span>,
    pub settled_within: Option<Span>,
    pub no_false_verdict: bool,
    pub moves_at_most: Option<u64>,
    pub needless_moves_at_most: Option<u64>,
    pub duplicate_seconds_at_most: Option<u64>,
    pub gap_seconds_at_most: Option<u64>,
    pub running_at_least: Option<u32>,
    pub running_at_end: Option<u32>,
    pub refused_at_most: Option<u64>,
}

/// The state of things when the timeline was over, before everything was healed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AtEnd {
    pub running_per_mille: u64,
    /// For how long the oldest slot that is wanted and not served has been that.
    pub open_gap: Option<Span>,
    pub starts: u64,
    pub stops: u64,
}

impl Expect {
    pub(super) fn check(raw: &Raw, problems: &mut Problems) -> Self {
        let mut span = |key: &str, text: &Option<String>| {
            text.as_ref().map(|text| problems.take("expect", key, amount::span(text)))
        };
        let (detected_within, recovered_within, gap_at_most, settled_within) = (
            span("detected_within", &raw.detected_within),
            span("recovered_within", &raw.recovered_within),
            span("gap_at_most", &raw.gap_at_most),
            span("settled_within", &raw.settled_within),
        );
        let mut share = |key: &str, text: &Option<String>| {
            text.as_ref().map(|text| problems.take("expect", key, amount::share(text)))
        };
        Self {
            detected_within,
            recovered_within,
            gap_at_most,
            settled_within,
            running_at_least: share("running_at_least", &raw.running_at_least),
            running_at_end: share("running_at_end", &raw.running_at_end),
            no_false_verdict: raw.no_false_verdict.unwrap_or(false),
            moves_at_most: raw.moves_at_most,
            needless_moves_at_most: raw.needless_moves_at_most,
            duplicate_seconds_at_most: raw.duplicate_seconds_at_most,
            gap_seconds_at_most: raw.gap_seconds_at_most,
            refused_at_most: raw.refused_at_most,
        }
    }

    /// What can be expected on any cluster, whatever its size: not what was counted for one.
    #[must_use]
    pub(super) fn of_any_size(self) -> Self {
        Self {
            detected_within: self.detected_within,
            no_false_verdict: self.no_false_verdict,
            running_at_end: self.running_at_end,
            ..Self::default()
        }
    }

    /// What was expected and did not come, in words.
    pub fn judge(&self, sheet: &Sheet, end: &AtEnd) -> Vec<String> {
        let mut unmet = Vec::new();
        let mut within = |key: &str, limit: Option<Span>, found: Option<u64>| {
            if let (Some(limit), Some(found)) = (limit, found)
                && found > limit.as_ms()
            {
                unmet.push(format!(
                    "{key} = {}: it took {}",
                    seconds(limit.as_ms()),
                    seconds(found)
                ));
            }
        };
        let open = end.open_gap.map(Span::as_ms);
        within("detected_within", self.detected_within, sheet.detected.max_ms);
        within("recovered_within", self.recovered_within, sheet.recovered.max_ms.max(open));
        within("gap_at_most", self.gap_at_most, sheet.gaps.max_ms.max(open));
        within("settled_within", self.settled_within, sheet.settled_ms);
        let needless = sheet.moves.all() - sheet.moves.least();
        let mut most = |key: &str, limit: Option<u64>, found: u64| {
            if let Some(limit) = limit
                && found > limit
            {
                unmet.push(format!("{key} = {limit}: there were {found}"));
            }
        };
        most("no_false_verdict", self.no_false_verdict.then_some(0), sheet.false_verdicts);
        most("moves_at_most", self.moves_at_most, sheet.moves.all() - sheet.moves.created);
        most("needless_moves_at_most", self.needless_moves_at_most, needless);
        most("duplicate_seconds_at_most", self.duplicate_seconds_at_most, sheet.duplicate_seconds);
        most("gap_seconds_at_most", self.gap_seconds_at_most, sheet.gap_seconds);
        most("refused_at_most", self.refused_at_most, sheet.refused);
        let mut least = |key: &str, limit: Option<u32>, found: u64| {
            if let Some(limit) = limit
                && found < u64::from(limit)
            {
                let percent = |share: u64| format!("{}.{}%", share / 10, share % 10);
                unmet.push(format!(
                    "{key} = {}: it was {}",
                    percent(u64::from(limit)),
                    percent(found)
                ));
            }
        };
        least("running_at_least", self.running_at_least, sheet.running.least_per_mille);
        least("running_at_end", self.running_at_end, end.running_per_mille);
        unmet
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Moves, Running, Times};

    const END: AtEnd = AtEnd { running_per_mille: 1000, open_gap: None, starts: 0, stops: 0 };

    #[test]
    fn each_expectation_is_met_or_told() {
        let expect = Expect {
            detected_within: Some(Span::secs(3)),
            recovered_within: Some(Span::secs(5)),
            gap_at_most: Some(Span::secs(5)),
            settled_within: Some(Span::secs(60)),
            no_false_verdict: true,
            moves_at_most: Some(4),
            needless_moves_at_most: Some(0),
            duplicate_seconds_at_most: Some(0),
            gap_seconds_at_most: Some(10),
            running_at_least: Some(500),
            running_at_end: Some(1000),
            refused_at_most: Some(0),
        };
        let good = Sheet {
            moves: Moves { created: 9, lost: 4, ..Moves::default() },
            gap_seconds: 10,
            ..Sheet::default()
        };
        assert_eq!(expect.judge(&good, &END), Vec::<String>::new());
        let late = Times { count: 1, p50_ms: Some(9000), p99_ms: Some(9000), max_ms: Some(9000) };
        let bad = Sheet {
            detected: late,
            recovered: late,
            gaps: late,
            settled_ms: Some(61_000),
            false_verdicts: 1,
            moves: Moves { lost: 4, elsewhere: 1, ..Moves::default() },
            duplicate_seconds: 1,
            gap_seconds: 11,
            running: Running { least_per_mille: 499, latest_per_mille: 1000 },
            refused: 1,
            ..Sheet::default()
        };
        let unmet = expect.judge(&bad, &AtEnd { running_per_mille: 999, ..END });
        assert_eq!(unmet.len(), 12, "{unmet:#?}");
        assert!(unmet[0].contains("3.00 s") && unmet[0].contains("9.00 s"), "{unmet:?}");
        let still_open = AtEnd { open_gap: Some(Span::secs(6)), ..END };
        assert_eq!(expect.judge(&good, &still_open).len(), 2, "what never came back counts");
        assert!(Expect::default().judge(&bad, &still_open).is_empty());
    }
}
