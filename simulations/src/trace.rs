//! The fingerprint of a run: a SHA-256 over everything that went into a core, came out of one, or was
//! done to the world, with its time. Two runs of one seed must end with the same one; CI compares.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::time::At;

/// Collects what happens. With `tell` it also prints each line to the standard error stream, which is
/// how a failing seed is read.
#[derive(Debug, Default)]
pub struct Trace {
    hasher: Sha256,
    lines: u64,
    tell: bool,
}

struct IntoHash<'a>(&'a mut Sha256);

impl fmt::Write for IntoHash<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.update(text.as_bytes());
        Ok(())
    }
}

impl Trace {
    pub fn new(tell: bool) -> Self {
        Self { tell, ..Self::default() }
    }

    pub fn tells(&self) -> bool {
        self.tell
    }

    /// Notes one thing that happened. `told` lines are also printed when the run was asked to tell;
    /// the rest (pings, gossip) is only hashed.
    #[allow(clippy::print_stderr, reason = "telling a failing seed is what it was asked for")]
    pub fn note(&mut self, at: At, told: bool, what: fmt::Arguments<'_>) {
        self.lines += 1;
        self.hasher.update(at.0.to_le_bytes());
        // Hashing cannot fail: the writer above never does.
        let _ = fmt::write(&mut IntoHash(&mut self.hasher), what);
        if told && self.tell {
            eprintln!("{at:>12}  {what}");
        }
    }

    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The first 128 bits in hexadecimal.
    pub fn hex(&self) -> String {
        self.hasher.clone().finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_and_content_and_order_all_count() {
        let hash = |notes: &[(u64, &str)]| {
            let mut trace = Trace::default();
            for (at, text) in notes {
                trace.note(At(*at), false, format_args!("{text}"));
            }
            trace.hex()
        };
        let base = hash(&[(1, "a"), (2, "b")]);
        assert_eq!(base, hash(&[(1, "a"), (2, "b")]));
        assert_ne!(base, hash(&[(2, "b"), (1, "a")]));
        assert_ne!(base, hash(&[(1, "a"), (3, "b")]));
        assert_ne!(base, hash(&[(1, "a"), (2, "c")]));
    }
}
