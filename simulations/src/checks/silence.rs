//! Once everything is as it should be, nothing is started, stopped or moved.

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::At;
use crate::world::tell::ShortPlace;

#[derive(Debug, Default)]
pub(super) struct Silence;

impl Check for Silence {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        if picture.settled.is_none() {
            return;
        }
        match seen {
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
            _ => {}
        }
    }
}
