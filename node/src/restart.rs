//! Whether an attempt that ended is followed by another, and how long that one waits: the spec's policy, and a delay that
//! grows with each failure in a row.

use membership::time::{Millis, Now};

use crate::held::Held;
use crate::local::End;
use crate::settings::Settings;
use crate::spec::{Restart, RestartCondition};

/// Whether another attempt follows, and not before when. Counts the failure.
pub(crate) fn decide_restart(
    held: &mut Held,
    end: &End,
    restart: Restart,
    settings: &Settings,
    now: Now,
) -> bool {
    if end.failed {
        held.failures = held.failures.saturating_add(1);
    }
    let again = match restart.condition {
        RestartCondition::Any => true,
        RestartCondition::OnFailure => end.failed,
        RestartCondition::Never => false,
    };
    held.failed_at.push(now.at);
    if let Some(window) = restart.window {
        held.failed_at.retain(|at| now.at.since(*at) <= window);
    }
    // One attempt is the first start, each further one a restart.
    let restarts = u64::try_from(held.failed_at.len()).unwrap_or(u64::MAX);
    if held.failed_at.len() > MAX_COUNTED {
        held.failed_at.remove(0);
    }
    held.not_before = now.at + delay(held.failures, restart.delay, settings);
    again && (restart.max_attempts == 0 || restarts <= restart.max_attempts)
}

/// How many ends are remembered for `MaxAttempts`.
const MAX_COUNTED: usize = 1_000;

/// The restart delay: the spec's (or this node's) for the first failure, doubled with each further
/// one in a row, up to the node's limit or the spec's own delay where that is longer. A clean exit
/// waits the plain delay.
fn delay(failures: u32, wanted: Option<Millis>, settings: &Settings) -> Millis {
    let base = wanted.unwrap_or(settings.restart_delay);
    let most = base.max(settings.restart_delay_max);
    let doubled = base * (1u64 << failures.saturating_sub(1).min(16));
    doubled.min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let settings = Settings::lan();
        let of = |n| delay(n, None, &settings);
        assert_eq!([of(0), of(1), of(2), of(3)], [500, 500, 1000, 2000].map(Millis));
        assert_eq!(of(40), settings.restart_delay_max);
        let own = Some(Millis(90_000));
        assert_eq!(delay(9, own, &settings), Millis(90_000));
    }
}
