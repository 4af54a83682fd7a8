//! Once everything is as it should be, nothing is started, stopped, moved, written or told: what travels is
//! heartbeats and comparisons.

use super::{Check, Found, Picture};
use crate::seen::{AFTERTHOUGHTS, Seen};
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

/// How long afterthoughts come: ten probes, and half a minute between two looks through an engine.
const AFTER: Span = Span::secs(45);

#[derive(Debug, Default)]
pub(super) struct Silence;

impl Check for Silence {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        let Some(settled) = picture.settled else { return };
        match seen {
            // What failed on a node too often is kept from it for up to an hour, and evened out then.
            Seen::Start { place, .. } | Seen::Stop { place, .. }
                if picture.kept_away.contains(&place.service) => {}
            Seen::Start { host, place, .. } => {
                found.push(
                    at,
                    "silence",
                    format!("{host} starts {} in a settled cluster", ShortPlace(*place)),
                );
            }
            Seen::Stop { host, place, task, .. }
                if picture.tasks.get(task).is_some_and(|task| task.running) =>
            {
                found.push(
                    at,
                    "silence",
                    format!("{host} stops {} in a settled cluster", ShortPlace(*place)),
                );
            }
            Seen::Spoke { .. } | Seen::Written { .. } if !picture.kept_away.is_empty() => {}
            Seen::Spoke { what: AFTERTHOUGHTS, .. } if at.since(settled) < AFTER => {}
            Seen::Spoke { host, what } => {
                found.push(at, "silence", format!("{host} tells of {what} in a settled cluster"));
            }
            Seen::Written { host, records } if !records.is_empty() => {
                let text = format!("{host} writes {:?} in a settled cluster", records[0].name);
                found.push(at, "silence", text);
            }
            _ => {}
        }
    }
}
