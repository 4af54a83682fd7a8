//! Promise 7: who was removed from the cluster is told nothing any more.

use std::collections::BTreeMap;

use membership::id::NodeId;

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::{At, Span};

/// How long the news of a removal may take to everybody.
const NEWS: Span = Span::secs(30);

#[derive(Debug, Default)]
pub(super) struct Expelled {
    since: BTreeMap<NodeId, At>,
}

impl Check for Expelled {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Expelled { id } => {
                self.since.insert(*id, at);
            }
            Seen::ToldExpelled { host, id } => {
                let since = self.since.get(id).copied().unwrap_or(at);
                if at.since(since.max(picture.disturbed).max(picture.parts_since)) > NEWS {
                    found.push(at, "expelled", format!("{host} tells {id}, which was removed"));
                }
            }
            _ => {}
        }
    }
}
