//! Promise 3: a replica that is wanted is never stopped before a better one is ready.

use std::collections::BTreeSet;

use membership::id::TaskId;
use node::slot::{Phase, Place, Slot};
use node::spec::Partition;

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::{ShortPlace, ShortTask};

/// A twin that was ready this long ago counts: the node that stops its own cannot have heard yet that
/// the other is gone.
const NEWS: Span = Span::secs(15);

/// A node that learns of readiness and of the reason to stop in one breath has not broken anything.
const NOTICED: Span = Span::ms(100);

#[derive(Debug, Default)]
pub(super) struct MakeBeforeBreak {
    /// Given up while a twin was ready: the stop may come later, when an engine answers again.
    given_up: BTreeSet<TaskId>,
}

/// Another host has the place ready, or had until just now.
fn has_twin(at: At, picture: &Picture, place: Place, task: TaskId, host: HostIx) -> bool {
    let ready = picture.ready.get(&place);
    let just_gone = picture.last_ready.get(&place);
    ready.is_some_and(|ready| ready.iter().any(|other| *other != task))
        || just_gone.is_some_and(|gone| {
            gone.iter().any(|(other, when)| *other != host && at.since(*when) <= NEWS)
        })
}

impl Check for MakeBeforeBreak {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        if let Seen::GivesUp { host, task } = seen
            && let Some(own) = picture.tasks.get(task)
            && has_twin(at, picture, own.place, *task, *host)
        {
            self.given_up.insert(*task);
        }
        let Seen::Stop { host, place, task, view: Some(view) } = seen else { return };
        let wanted = match place.slot {
            Slot::Index(index) => !view.global && u64::from(index) <= view.desired,
            // A global service has no other place for this slot.
            Slot::Node(_) => view.global && !view.draining,
        };
        let Some(own) = picture.tasks.get(task).filter(|own| own.ready && wanted) else { return };
        // What its node has not told of as ready is a start being called off, not a replica.
        let told = picture.claims.get(place).and_then(|claims| claims.get(host));
        if told.is_none_or(|(_, phase)| *phase != Phase::Ready) || at.since(own.since) < NOTICED {
            return;
        }
        let out_of_date = own.template.is_some_and(|template| template != view.template);
        if (out_of_date && view.stop_first) || view.partition == Partition::Fenced {
            return;
        }
        if !has_twin(at, picture, *place, *task, *host) && !self.given_up.contains(task) {
            found.push(at, "make before break", format!("{host} stops the only ready task {task} of {place}, wanted by its own view (template {}, {:?})", view.template, view.partition, task = ShortTask(*task), place = ShortPlace(*place)));
        }
    }
}
