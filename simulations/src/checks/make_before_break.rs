//! Promise 3: a replica that is wanted is never stopped before a better one is ready.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::TaskId;
use node::slot::{Phase, Place, Slot};
use node::spec::Partition;

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::{OwnView, Seen};
use crate::time::{At, Span};
use crate::world::tell::{ShortPlace, ShortTask};

/// A twin that was ready this long ago counts: the node that stops its own cannot have heard yet that
/// the other is gone.
const NEWS: Span = Span::secs(15);

const OLD_NEWS: Span = Span::secs(120);

/// A node that learns of readiness and of the reason to stop in one breath has not broken anything.
const NOTICED: Span = Span::ms(100);

/// What was decided this long ago may be carried out; after that it has to be right anew.
const DECIDED: Span = Span::secs(2);

#[derive(Debug, Default)]
pub(super) struct MakeBeforeBreak {
    /// Given up for a good reason, and when.
    given_up: BTreeMap<TaskId, At>,
    /// Stopped for a good reason: what the engine did not finish is ordered again.
    ordered: BTreeSet<TaskId>,
    /// Hosts whose loops are too slow: what their own engines say waits there, too.
    strained: BTreeSet<HostIx>,
}

/// The place is ready elsewhere, or was until just now.
fn has_twin(
    at: At,
    picture: &Picture,
    place: Place,
    task: TaskId,
    (host, strained): (HostIx, bool),
) -> bool {
    // Just out of a cut, what it hears of the others may be as old as the cut.
    let news =
        if at.since(picture.disturbed.max(picture.parts_since)) <= NEWS { OLD_NEWS } else { NEWS };
    let ready = picture.ready.get(&place);
    let just_gone = picture.last_ready.get(&place);
    ready.is_some_and(|ready| ready.iter().any(|other| *other != task))
        || just_gone.is_some_and(|gone| {
            let hears_late = |other: HostIx| other != host || strained;
            gone.iter().any(|(other, when)| hears_late(*other) && at.since(*when) <= news)
        })
}

/// Whether stopping a task now breaks the promise, by what its own node believes and all that is true.
fn breaks(
    at: At,
    picture: &Picture,
    (host, strained): (HostIx, bool),
    task: TaskId,
    view: &OwnView,
) -> bool {
    let Some(own) = picture.tasks.get(&task).filter(|own| own.ready) else { return false };
    let wanted = match own.place.slot {
        Slot::Index(index) => !view.global && u64::from(index) <= view.desired,
        // A global service has no other place for this slot.
        Slot::Node(_) => view.global && !view.draining,
    };
    // What its node has not told of as ready is a start being called off, not a replica.
    let told = picture.claims.get(&own.place).and_then(|claims| claims.get(&host));
    let told =
        told.is_some_and(|(_, phase)| *phase == Phase::Ready) && at.since(own.since) >= NOTICED;
    let out_of_date = own.template.is_some_and(|template| template != view.template);
    // Its engine's network may have to go before there can be another one: two containers with one address
    // would be no twins, but in each other's way.
    let readdressed = picture.has_lost_its_address(host, task);
    let by_design =
        (out_of_date && view.stop_first) || view.partition == Partition::Fenced || readdressed;
    wanted && told && !by_design && !has_twin(at, picture, own.place, task, (host, strained))
}

impl Check for MakeBeforeBreak {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        let of = |host: &HostIx| (*host, self.strained.contains(host));
        match seen {
            Seen::Strained { host, strained: true } => {
                self.strained.insert(*host);
            }
            Seen::Strained { host, strained: false } => {
                self.strained.remove(host);
            }
            Seen::GivesUp { host, task, view: Some(view) }
                if !breaks(at, picture, of(host), *task, view) =>
            {
                self.given_up.insert(*task, at);
            }
            Seen::Stop { host, place, task, view: Some(view) } if !self.ordered.contains(task) => {
                let decided =
                    self.given_up.get(task).is_some_and(|when| at.since(*when) <= DECIDED);
                if decided || !breaks(at, picture, of(host), *task, view) {
                    self.ordered.insert(*task);
                    return;
                }
                let (place, task) = (ShortPlace(*place), ShortTask(*task));
                let text = format!(
                    "{host} stops the only ready task {task} of {place}, wanted by its own view ({:?})",
                    view.partition
                );
                found.push(at, "make before break", text);
            }
            _ => {}
        }
    }
}
