//! A node never runs more than it declared to hold: it knows its own load exactly, whatever it knows of
//! the others.

use membership::member::Resources;

use super::{Check, Found, Picture};
use crate::engine::Became;
use crate::seen::Seen;
use crate::time::At;

#[derive(Debug, Default)]
pub(super) struct Capacity;

impl Check for Capacity {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        let Seen::Container { host, task, what: Became::Started, .. } = seen else { return };
        let Some(capacity) = picture.capacity.get(host) else { return };
        let nothing = Resources::default();
        let asks =
            picture.tasks.get(task).is_some_and(|t| t.counts(at) && t.reservation != nothing);
        if !asks {
            return;
        }
        let running = picture.tasks.values().filter(|task| task.host == *host && task.counts(at));
        let used = running.fold(Resources::default(), |sum, task| Resources {
            cpu_milli: sum.cpu_milli + task.reservation.cpu_milli,
            memory_bytes: sum.memory_bytes + task.reservation.memory_bytes,
        });
        if used.cpu_milli > capacity.cpu_milli || used.memory_bytes > capacity.memory_bytes {
            found.push(
                at,
                "capacity",
                format!("{host} holds {capacity:?} and runs what reserves {used:?}"),
            );
        }
    }
}
