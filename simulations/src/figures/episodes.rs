//! Outages as their victims see them: from the moment when a slot is not served any more to the moment
//! when all are again.

use crate::time::{At, Span};

#[derive(Clone, Debug, Default)]
pub(super) struct Episodes {
    since: Option<At>,
    /// The first slot of this episode is served again.
    begun: bool,
    pub(super) first: Vec<Span>,
    pub(super) full: Vec<Span>,
}

impl Episodes {
    /// Gaps may have opened, or been forgotten.
    pub(super) fn look(&mut self, at: At, open: usize) {
        if open == 0 {
            // What was missing is not wanted any more: no recovery.
            self.since = None;
        } else if self.since.is_none() {
            self.since = Some(at);
            self.begun = false;
        }
    }

    /// A gap was closed; so many are still open.
    pub(super) fn closed(&mut self, at: At, open: usize) {
        let Some(since) = self.since else { return };
        if !self.begun {
            self.begun = true;
            self.first.push(at.since(since));
        }
        if open == 0 {
            self.full.push(at.since(since));
            self.since = None;
        }
    }
}
