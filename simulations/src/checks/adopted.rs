//! Promise 5: whatever happens to the shoal process, its containers are adopted again. A node never starts
//! beside a replica of its own that is ready and up to date, unless it has given that one up (a start that was
//! called off may be carried out by a slow engine all the same), or its address is another node's.

use std::collections::BTreeSet;

use membership::id::TaskId;

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::{ShortPlace, ShortTask};

/// How long a node may take to hear of what its engine has made, where its loop is slow: an engine may still carry
/// out what an earlier process ordered.
const HEARD: Span = Span::secs(5);

#[derive(Debug, Default)]
pub(super) struct Adopted {
    given_up: BTreeSet<TaskId>,
}

impl Check for Adopted {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        let (host, place, task, template) = match seen {
            Seen::GivesUp { task, .. } | Seen::Stop { task, .. } => {
                self.given_up.insert(*task);
                return;
            }
            Seen::Start { host, place, task, template, .. } => (host, place, task, template),
            _ => return,
        };
        let ready = picture.ready.get(place).into_iter().flatten();
        let own =
            ready.filter(|other| *other != task && !self.given_up.contains(other)).find(|other| {
                picture.tasks.get(other).is_some_and(|other| {
                    let heard = at.since(other.since) > HEARD;
                    let same = other.host == *host && other.template == Some(*template);
                    heard && same && other.running
                }) && !picture.has_lost_its_address(*host, **other)
            });
        if let Some(own) = own {
            let (place, task, own) = (ShortPlace(*place), ShortTask(*task), ShortTask(*own));
            let text = format!(
                "{host} starts {task} of {place} beside {own}, which it should have adopted"
            );
            found.push(at, "adopted", text);
        }
    }
}
