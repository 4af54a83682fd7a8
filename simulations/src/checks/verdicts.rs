//! No false verdict: a member that runs, answers and can be reached is not called down.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::member::MemberState;

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};

/// How long after a disturbance a verdict may still be about it.
const ECHO: Span = Span::secs(20);

#[derive(Debug, Default)]
pub(super) struct Verdicts {
    up_since: BTreeMap<NodeId, (HostIx, At)>,
    strained: BTreeSet<HostIx>,
}

impl Check for Verdicts {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Process { host, id, .. } => {
                self.up_since.insert(*id, (*host, at));
            }
            Seen::Strained { host, strained: true } => {
                self.strained.insert(*host);
            }
            Seen::Strained { host, strained: false } => {
                self.strained.remove(host);
            }
            Seen::ProcessGone { host } => self.up_since.retain(|_, (of, _)| of != host),
            Seen::Verdict { host, about, to: MemberState::Down } => {
                let Some((target, since)) = self.up_since.get(about) else { return };
                let same_part = picture.part.contains_key(host)
                    && picture.part.get(host) == picture.part.get(target);
                let calm_since = picture.disturbed.max(picture.parts_since).max(*since);
                let strained = [host, target].into_iter().any(|host| self.strained.contains(host));
                if same_part && !strained && at.since(calm_since) > ECHO {
                    found.push(
                        at,
                        "verdicts",
                        format!("{host} calls {target} down, which runs and can be reached"),
                    );
                }
            }
            _ => {}
        }
    }
}
