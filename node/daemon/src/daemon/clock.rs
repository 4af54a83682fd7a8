//! The operating system's two clocks, as the core wants them.

use std::time::{Duration, Instant as Monotonic, SystemTime};

use membership::time::{Instant, Now, Wall};

/// Counts from the start of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    origin: Monotonic,
}

impl Clocks {
    pub(crate) fn start() -> Self {
        Self { origin: Monotonic::now() }
    }

    pub(crate) fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Now { at: Instant(millis(self.origin.elapsed())), wall: Wall(millis(wall)) }
    }

    /// When the process's clock shows `at`. Rounded up, so that a timer is never early.
    pub(crate) fn when(&self, at: Instant) -> tokio::time::Instant {
        tokio::time::Instant::from_std(self.origin + Duration::from_millis(at.0))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
