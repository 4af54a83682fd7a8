//! How long it took to notice that a member is gone, and whether that was so at all.

use std::collections::BTreeMap;

use membership::id::NodeId;
use membership::member::MemberState;

use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};

/// A member that could be reached for so long is called down for nothing that just happened.
const ECHO: Span = Span::secs(20);

#[derive(Clone, Debug, Default)]
pub(super) struct Detection {
    ids: BTreeMap<NodeId, HostIx>,
    /// The connected part of each acting host.
    part: BTreeMap<HostIx, usize>,
    parts: usize,
    /// Since when hosts have not been acting, or have been acting again.
    gone: BTreeMap<HostIx, At>,
    back: BTreeMap<HostIx, At>,
    /// Since when there has been more than one part, or one again.
    cut: At,
    whole: At,
    /// From the loss to each verdict of each observer.
    pub(super) each: Vec<Span>,
    /// From the loss to the first verdict of any.
    pub(super) first: Vec<Span>,
    /// Losses that somebody has noticed: a host, and since when it was gone.
    noticed: BTreeMap<HostIx, At>,
}

impl Detection {
    /// Takes an observation in; true if it is a verdict about a member that could be reached.
    pub(super) fn see(&mut self, at: At, seen: &Seen) -> bool {
        match seen {
            Seen::Process { host, id, .. } => {
                self.ids.insert(*id, *host);
            }
            Seen::Parts(parts) => self.parts(at, parts),
            Seen::Verdict { host, about, to: MemberState::Down } => {
                return self.verdict(at, *host, *about);
            }
            _ => {}
        }
        false
    }

    fn parts(&mut self, at: At, parts: &[Vec<HostIx>]) {
        let numbered = parts.iter().enumerate();
        let now: BTreeMap<HostIx, usize> =
            numbered.flat_map(|(n, part)| part.iter().map(move |host| (*host, n))).collect();
        for host in self.part.keys().filter(|host| !now.contains_key(host)) {
            self.gone.insert(*host, at);
            self.back.remove(host);
        }
        for host in now.keys().filter(|host| !self.part.contains_key(host)) {
            self.gone.remove(host);
            self.back.insert(*host, at);
            self.noticed.remove(host);
        }
        if parts.len() > 1 && self.parts <= 1 {
            self.cut = at;
            self.noticed.retain(|host, _| self.gone.contains_key(host));
        }
        if parts.len() <= 1 && self.parts > 1 {
            self.whole = at;
        }
        self.parts = parts.len();
        self.part = now;
    }

    fn verdict(&mut self, at: At, by: HostIx, about: NodeId) -> bool {
        let Some(host) = self.ids.get(&about).copied() else { return false };
        let since = match (self.part.get(&host), self.part.get(&by)) {
            (None, _) => self.gone.get(&host).copied(),
            (Some(theirs), Some(ours)) if theirs != ours => Some(self.cut),
            (Some(_), _) => {
                let back = self.back.get(&host).copied().unwrap_or_default();
                return at.since(back.max(self.whole)) > ECHO;
            }
        };
        if let Some(since) = since {
            self.each.push(at.since(since));
            if self.noticed.insert(host, since) != Some(since) {
                self.first.push(at.since(since));
            }
        }
        false
    }
}
