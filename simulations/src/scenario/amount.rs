//! How amounts are written in a scenario file: durations (`30s`, `1h30m`), shares (`5%`), bytes (`2GiB`),
//! cores (`0.5`).
//!
//! Everything is read into integers, for a run must not depend on how a machine rounds.

use crate::time::Span;

const UNITS: [(&str, u64); 6] = [
    ("us", 1),
    ("ms", 1_000),
    ("s", 1_000_000),
    ("m", 60_000_000),
    ("h", 3_600_000_000),
    ("d", 86_400_000_000),
];

const BYTES: [(&str, u64); 7] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("B", 1),
];

/// The longest duration that is taken: a year and some days.
const LONGEST: Span = Span::secs(400 * 86_400);

/// `500ms`, `30s`, `1h30m`, `2.5s`.
///
/// # Errors
/// A sentence that says how a duration is written.
pub fn span(text: &str) -> Result<Span, String> {
    let wrong = || {
        format!(
            "'{text}' is no duration: write a number and a unit, as 500ms, 30s, 5m, 2h or 1h30m"
        )
    };
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Span::ZERO);
    }
    let mut total = 0u64;
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?;
        let part = decimal(number, *unit).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    if Span(total) > LONGEST {
        Err(format!("'{text}' is longer than 400 days"))
    } else {
        Ok(Span(total))
    }
}

/// A number with up to six digits after the point, times `unit`, rounded down.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let text = text.trim();
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || (text.contains('.') && !digits(part)) || part.len() > 6 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let thousandths: u64 = format!("{part:0<6}").parse().ok()?;
    let fraction = u64::try_from(u128::from(thousandths) * u128::from(unit) / 1_000_000).ok()?;
    whole.checked_mul(unit)?.checked_add(fraction)
}

/// `30%`, `0.5%`; in thousandths.
///
/// # Errors
/// A sentence that says how a share is written.
pub fn share(text: &str) -> Result<u32, String> {
    let number = text.trim().strip_suffix('%').and_then(|number| decimal(number, 10));
    match number {
        Some(share) if share <= 1000 => Ok(share as u32),
        Some(_) => Err(format!("'{text}' is more than 100%")),
        None => Err(format!("'{text}' is no share: write a percentage, as 30% or 0.5%")),
    }
}

/// `512MiB`, `2GiB`.
///
/// # Errors
/// A sentence that says how an amount of memory is written.
pub fn bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let found = BYTES.iter().find_map(|(unit, size)| Some((text.strip_suffix(unit)?, *size)));
    found
        .and_then(|(number, size)| decimal(number, size))
        .ok_or_else(|| format!("'{text}' is no amount of memory: write it as 512MiB or 2GiB"))
}

/// Cores as a number, `0.5` or `4`, in thousandths.
///
/// # Errors
/// A sentence that says how cores are written.
pub fn cores(value: f64) -> Result<u64, String> {
    // Written down with three digits, which is exact for what people write, and read back as integers.
    (value.is_finite() && (0.0..=100_000.0).contains(&value))
        .then(|| decimal(&format!("{value:.3}"), 1000))
        .flatten()
        .ok_or_else(|| format!("{value} is no number of cores: write 0.5 or 4"))
}

/// `-1h`, `+90s`: by how much a clock is off; in milliseconds.
///
/// # Errors
/// A sentence that says how an offset is written.
pub fn offset_ms(text: &str) -> Result<i64, String> {
    let (sign, rest) = match text.trim().strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.trim().trim_start_matches('+')),
    };
    let off = span(rest)?;
    i64::try_from(off.as_ms()).map(|ms| sign * ms).map_err(|_| format!("'{text}' is too far off"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(span("30s"), Ok(Span::secs(30)));
        assert_eq!(span("1h30m"), Ok(Span::secs(5400)));
        assert_eq!(span("2.5s"), Ok(Span::ms(2500)));
        assert_eq!(span("100us"), Ok(Span::us(100)));
        assert_eq!(span("0"), Ok(Span::ZERO));
        for wrong in
            ["", "30", "s", "soon", "-3s", "1.s", "3 parsecs", "99999999999h", "500d", "ä1s"]
        {
            assert!(span(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares_bytes_cores_and_offsets() {
        assert_eq!(share("30%"), Ok(300));
        assert_eq!(share("0.5%"), Ok(5));
        assert!(share("101%").is_err() && share("30").is_err() && share("x%").is_err());
        assert_eq!(bytes("2GiB"), Ok(2 << 30));
        assert_eq!(bytes("1.5KiB"), Ok(1536));
        assert!(bytes("2").is_err() && bytes("GiB").is_err());
        assert_eq!(cores(0.5), Ok(500));
        assert!(cores(-1.0).is_err() && cores(f64::NAN).is_err());
        assert_eq!(offset_ms("-1h"), Ok(-3_600_000));
        assert_eq!(offset_ms("+20s"), Ok(20_000));
    }
}
