//! Times as Docker prints them in logs: RFC 3339, UTC, always nine digits, so that the order of the
//! texts is the order of the times.

use std::time::{SystemTime, UNIX_EPOCH};

use membership::time::Wall;

pub(super) fn wall_now() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

pub(super) fn rfc3339(at: Wall) -> String {
    let (secs, millis) = (at.0 / 1000, at.0 % 1000);
    let (days, of_day) = (secs / 86_400, secs % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day % 3600 / 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}000000Z")
}

/// Year, month and day of a day counted from 1970-01-01 (Hinnant, "chrono-compatible low-level date
/// algorithms": years begin in March, so that the leap day is the last of its year).
fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let (era, of_era) = (z / 146_097, z % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999000000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000000000Z"),
            (1_709_164_800_001, "2024-02-29T00:00:00.001000000Z"),
            (1_735_689_599_000, "2024-12-31T23:59:59.000000000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(Wall(ms)), text);
        }
    }
}
