//! Waiting for a condition with a bound, and saying what was seen when the bound is over.
//!
//! No test sleeps for luck. It names what it waits for and how long that may take at most; when the time is
//! over the failure tells the last thing that was seen, which is nearly always what explains it.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at. Looking is a few engine calls; ten times a second costs little and
/// adds at most a tenth of a second to what is measured.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Seconds, for scripts: `secs(30)`.
pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Looks until `look` says `Ok`, and returns what it found and how long it took. `Err` is what is seen
/// instead, kept for the failure.
pub fn wait_for<T>(
    what: &str,
    bound: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<(T, Duration)> {
    let begun = Instant::now();
    loop {
        let seen = match look() {
            Ok(found) => return Ok((found, begun.elapsed())),
            Err(seen) => seen,
        };
        if begun.elapsed() >= bound {
            bail!("waited {:.1} s for {what}; last seen: {seen}", bound.as_secs_f64());
        }
        std::thread::sleep(LOOK_EVERY.min(bound));
    }
}

/// Looks for the whole `span` and fails as soon as `look` says `Err`: for what must stay as it is.
pub fn holds_for(
    what: &str,
    span: Duration,
    mut look: impl FnMut() -> Result<(), String>,
) -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < span {
        if let Err(seen) = look() {
            bail!(
                "{what} held for {:.1} s only, not {:.1} s: {seen}",
                begun.elapsed().as_secs_f64(),
                span.as_secs_f64()
            );
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_last_is_in_the_failure() {
        let mut looks = 0;
        let failed = wait_for::<()>("the fourth look", Duration::from_millis(250), || {
            looks += 1;
            Err(format!("look {looks}"))
        });
        let message = failed.expect_err("never Ok").to_string();
        assert!(message.contains("the fourth look"), "{message}");
        assert!(message.ends_with(&format!("last seen: look {looks}")), "{message}");
    }

    #[test]
    fn a_condition_that_is_met_late_is_met() -> Result<()> {
        let mut looks = 0;
        let (found, _) = wait_for("the third look", secs(10), || {
            looks += 1;
            if looks == 3 { Ok(looks) } else { Err(looks.to_string()) }
        })?;
        assert_eq!(found, 3);
        Ok(())
    }
}
