//! Times as Docker's API writes and reads them: RFC 3339 in UTC.
//!
//! The days-to-date arithmetic is Howard Hinnant's ("chrono-compatible low-level date algorithms").

use membership::time::Wall;

const NANOS: i64 = 1_000_000_000;

struct Civil {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
}

fn civil(unix_seconds: i64) -> Civil {
    let days = unix_seconds.div_euclid(86_400) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    Civil {
        year: year_of_era + era * 400 + i64::from(month <= 2),
        month,
        day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
        second_of_day: unix_seconds.rem_euclid(86_400),
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

fn to_seconds(unix_seconds: i64) -> String {
    let Civil { year, month, day, second_of_day } = civil(unix_seconds);
    let (hour, minute, second) =
        (second_of_day / 3600, second_of_day / 60 % 60, second_of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// `2026-01-31T12:00:00.123Z`
pub(super) fn from_wall(wall: Wall) -> String {
    // Milliseconds fit in i64 until the year 292 million; a peer may still claim more.
    let ms = i64::try_from(wall.0).unwrap_or(i64::MAX);
    format!("{}.{:03}Z", to_seconds(ms / 1000), ms % 1000)
}

/// A `since` or `until`: Unix seconds with an optional fraction, or RFC 3339. In Unix nanoseconds.
pub(crate) fn parse(text: &str) -> Option<i64> {
    parse_unix(text).or_else(|| parse_date(text))
}

fn parse_fraction(digits: &str) -> Option<i64> {
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let scale = 10_i64.pow(9 - u32::try_from(digits.len()).ok()?);
    digits.parse::<i64>().ok()?.checked_mul(scale)
}

fn parse_unix(text: &str) -> Option<i64> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) => (whole, parse_fraction(fraction)?),
        None => (text, 0),
    };
    whole.parse::<i64>().ok()?.checked_mul(NANOS)?.checked_add(fraction)
}

fn number(text: &str, range: std::ops::Range<usize>) -> Option<i64> {
    let digits = text.get(range)?;
    if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn parse_date(text: &str) -> Option<i64> {
    if !text.is_ascii() || text.get(4..5)? != "-" || text.get(7..8)? != "-" {
        return None;
    }
    let (year, month, day) = (number(text, 0..4)?, number(text, 5..7)?, number(text, 8..10)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let mut seconds = days_from_civil(year, month, day) * 86_400;
    let mut nanos = 0;
    if let Some(clock) = text.get(10..).filter(|rest| !rest.is_empty()) {
        if !clock.starts_with('T') || clock.get(3..4)? != ":" || clock.get(6..7)? != ":" {
            return None;
        }
        let (hour, minute, second) =
            (number(clock, 1..3)?, number(clock, 4..6)?, number(clock, 7..9)?);
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        seconds += hour * 3600 + minute * 60 + second;
        let mut rest = clock.get(9..)?;
        if let Some(fraction) = rest.strip_prefix('.') {
            let end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
            nanos = parse_fraction(&fraction[..end])?;
            rest = &fraction[end..];
        }
        seconds -= offset_seconds(rest)?;
    }
    seconds.checked_mul(NANOS)?.checked_add(nanos)
}

fn offset_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.bytes().next() {
        None | Some(b'Z') => return (zone.len() <= 1).then_some(0),
        Some(b'+') => 1,
        Some(b'-') => -1,
        Some(_) => return None,
    };
    if zone.len() != 6 || zone.get(3..4)? != ":" {
        return None;
    }
    Some(sign * (number(zone, 1..3)? * 3600 + number(zone, 4..6)? * 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_what_go_writes() {
        assert_eq!(from_wall(Wall(0)), "1970-01-01T00:00:00.000Z");
        assert_eq!(from_wall(Wall(1_709_210_096_789)), "2024-02-29T12:34:56.789Z");
    }

    #[test]
    fn reads_all_that_clients_send() {
        let second = 1_709_210_096 * NANOS;
        for (text, nanos) in [
            ("1709210096", second),
            ("1709210096.5", second + NANOS / 2),
            ("1709210096.000000007", second + 7),
            ("2024-02-29T12:34:56Z", second),
            ("2024-02-29T12:34:56", second),
            ("2024-02-29T14:34:56.25+02:00", second + NANOS / 4),
            ("2024-02-29", 1_709_164_800 * NANOS),
        ] {
            assert_eq!(parse(text), Some(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_garbage_without_a_panic() {
        for text in [
            "",
            "now",
            "1.",
            "-",
            "2024-13-01",
            "2024-02-29Tx",
            "99999999999999999999",
            "2024-02-29T12:34:56+0x:00",
            "ä024-02-29",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn every_day_round_trips() {
        for day in (-200_000..200_000).step_by(17) {
            let c = civil(day * 86_400);
            assert_eq!(days_from_civil(c.year, c.month, c.day), day);
        }
    }
}
