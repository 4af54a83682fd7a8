//! What was removed stays removed: once faults are over and news has travelled, nothing of a removed
//! service is started any more, and at the end nothing of it runs.

use std::collections::BTreeSet;

use membership::id::ServiceId;

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

const NEWS: Span = Span::secs(30);

#[derive(Debug, Default)]
pub(super) struct Removed {
    removed: BTreeSet<ServiceId>,
}

impl Check for Removed {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Removed { service } => {
                self.removed.insert(*service);
            }
            Seen::Start { host, place, .. }
                if self.removed.contains(&place.service)
                    && picture.healed.is_some_and(|healed| at.since(healed) > NEWS) =>
            {
                let text = format!("{host} starts {} of a removed service", ShortPlace(*place));
                found.push(at, "removed", text);
            }
            _ => {}
        }
    }

    fn end(&mut self, at: At, picture: &Picture, found: &mut Found) {
        let left = picture
            .tasks
            .values()
            .filter(|task| task.running && self.removed.contains(&task.place.service));
        for task in left {
            found.push(
                at,
                "removed",
                format!("{} still runs {:?} of a removed service", task.host, task.place),
            );
        }
    }
}
