//! Promise 3: a replica that is wanted is never stopped before a better one is ready.

use node::slot::Slot;
use node::spec::Partition;

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::{At, Span};

/// A twin that was ready this long ago counts: the node that stops its own cannot have heard yet that
/// the other is gone.
const NEWS: Span = Span::secs(15);

#[derive(Debug, Default)]
pub(super) struct MakeBeforeBreak;

impl Check for MakeBeforeBreak {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        let Seen::Stop { host, place, task, view: Some(view) } = seen else { return };
        let wanted = match place.slot {
            Slot::Index(index) => !view.global && u64::from(index) <= view.desired,
            Slot::Node(_) => view.global,
        };
        let Some(own) = picture.tasks.get(task).filter(|own| own.ready && wanted) else { return };
        let out_of_date = own.template.is_some_and(|template| template != view.template);
        if (out_of_date && view.stop_first) || view.partition == Partition::Fenced {
            return;
        }
        let other_now =
            picture.ready.get(place).is_some_and(|ready| ready.iter().any(|other| other != task));
        let just_gone = picture.last_ready.get(place).is_some_and(|gone| {
            gone.iter().any(|(other, when)| other != host && at.since(*when) <= NEWS)
        });
        if !other_now && !just_gone {
            found.push(at, "make before break", format!("{host} stops the only ready task {task} of {place:?}, wanted by its own view {view:?}"));
        }
    }
}
