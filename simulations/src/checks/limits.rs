//! Hard limits: a node starts nothing that a service's constraints keep from it, and no more replicas of one
//! service than it allows on a node, as far as the node itself can tell.

use std::collections::BTreeSet;

use super::{Check, Found, Picture};
use crate::engine::Became;
use crate::seen::Seen;
use crate::time::At;
use crate::world::tell::ShortPlace;

#[derive(Debug, Default)]
pub(super) struct Limits;

impl Check for Limits {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Start { host, place, view: Some(view), .. } => {
                if let Some(why) = &view.forbidden {
                    let text = format!("{host} starts {}, against {why}", ShortPlace(*place));
                    found.push(at, "limits", text);
                }
            }
            Seen::Container { host, place, task, what: Became::Started } => {
                let started = picture.tasks.get(task).filter(|task| task.counts(at));
                let Some(most) = started.map(|task| task.per_node) else { return };
                let slots: BTreeSet<_> = picture
                    .tasks
                    .values()
                    .filter(|t| t.host == *host && t.counts(at) && t.place.service == place.service)
                    .map(|task| task.place.slot)
                    .collect();
                if most > 0 && slots.len() as u64 > most {
                    let text = format!("{host} runs {slots:?} of a service that allows {most}");
                    found.push(at, "limits", text);
                }
            }
            _ => {}
        }
    }
}
