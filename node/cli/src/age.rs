//! Times for people: "3 minutes ago".

use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds since 1970 of an RFC 3339 time in UTC, as the API writes them.
fn unix_seconds(text: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| text.get(range)?.parse::<i64>().ok();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    if !(1..=12).contains(&month) {
        return None;
    }
    // Days before the month in a year that starts in March, so that the leap day is the last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year.div_euclid(4) - year.div_euclid(100)
        + year.div_euclid(400)
        + (153 * month + 2) / 5
        + day
        - 719_469;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// `about a minute ago`; what cannot be read is shown as it is.
pub(crate) fn ago(text: &str) -> String {
    match unix_seconds(text) {
        Some(then) => format!("{} ago", span(now().saturating_sub(then))),
        None => text.to_owned(),
    }
}

/// In the docker CLI's words, which people's eyes are used to.
pub(crate) fn span(seconds: i64) -> String {
    match seconds {
        ..=0 => "less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "about a minute".to_owned(),
        120..2760 => format!("{} minutes", seconds / 60),
        2760..7200 => "about an hour".to_owned(),
        7200..172_800 => format!("{} hours", seconds / 3600),
        172_800..1_209_600 => format!("{} days", seconds / 86_400),
        1_209_600..5_184_000 => format!("{} weeks", seconds / 604_800),
        5_184_000..63_072_000 => format!("{} months", seconds / 2_592_000),
        _ => format!("{} years", seconds / 31_536_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_written() {
        assert_eq!(unix_seconds("1970-01-01T00:00:00.000Z"), Some(0));
        assert_eq!(unix_seconds("2024-02-29T12:34:56.789Z"), Some(1_709_210_096));
        assert_eq!(unix_seconds("2026-01-31T12:00:00Z"), Some(1_769_860_800));
        for bad in ["", "yesterday", "2024-13-01T00:00:00Z", "2024-02"] {
            assert_eq!(unix_seconds(bad), None, "{bad}");
        }
        assert_eq!(ago("never"), "never");
    }

    #[test]
    fn spans_are_dockers() {
        for (seconds, words) in [
            (-5, "less than a second"),
            (59, "59 seconds"),
            (61, "about a minute"),
            (3600, "about an hour"),
            (90_000, "25 hours"),
        ] {
            assert_eq!(span(seconds), words);
        }
    }
}
