//! No false verdict: a member that runs, answers and can be reached is not called down.

use std::collections::BTreeMap;

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
}

impl Check for Verdicts {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Process { host, id, .. } => {
                self.up_since.insert(*id, (*host, at));
            }
            Seen::ProcessGone { host } => self.up_since.retain(|_, (of, _)| of != host),
            Seen::Verdict { host, about, to: MemberState::Down } => {
                let Some((target, since)) = self.up_since.get(about) else { return };
                let same_part = picture.part.contains_key(host)
                    && picture.part.get(host) == picture.part.get(target);
                let calm_since = picture.disturbed.max(picture.parts_since).max(*since);
                if same_part && at.since(calm_since) > ECHO {
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
