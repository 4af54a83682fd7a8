//! Promise 3: a slot may run twice while views differ, but not for longer than it takes the two to hear
//! of each other, decide, and stop one.

use std::collections::{BTreeMap, BTreeSet};

use node::slot::Place;

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

/// How long two ready holders may last in one part in which nothing has gone wrong since: detection or
/// its withdrawal (10 s), news (2 s), a stop with its grace (10 s), twice.
const BOUND: Span = Span::secs(60);

#[derive(Debug, Default)]
pub(super) struct Twins {
    since: BTreeMap<Place, At>,
    reported: BTreeSet<Place>,
}

impl Check for Twins {
    fn see(&mut self, _: At, _: &Seen, _: &Picture, _: &mut Found) {}

    fn second(&mut self, at: At, picture: &Picture, found: &mut Found) {
        let doubled: BTreeSet<Place> = picture
            .ready
            .iter()
            .filter(|(_, tasks)| tasks.len() > 1)
            .map(|(place, _)| *place)
            .filter(|place| {
                let holders = picture.holders(*place);
                // Two hosts that bear one key are one node to all others: nobody can tell them apart
                // until the copy is gone.
                let mut nodes = BTreeMap::new();
                // What either says of its slots the others take back when the other one speaks, for as long as a turn.
                for host in holders.iter().filter(|host| !picture.has_double(at, **host)) {
                    if let (Some(part), Some(id)) =
                        (picture.part.get(host), picture.processes.get(host))
                    {
                        nodes.entry(*part).or_insert_with(BTreeSet::new).insert(*id);
                    }
                }
                nodes.values().any(|nodes| nodes.len() > 1)
            })
            .collect();
        self.since.retain(|place, _| doubled.contains(place));
        self.reported.retain(|place| doubled.contains(place));
        for place in doubled {
            let since = *self.since.entry(place).or_insert(at);
            let calm_since = since.max(picture.disturbed).max(picture.parts_since);
            if at.since(calm_since) > BOUND && self.reported.insert(place) {
                let hosts = picture.holders(place);
                found.push(
                    at,
                    "twins",
                    format!(
                        "{} has been ready on {hosts:?} for {}",
                        ShortPlace(place),
                        at.since(since)
                    ),
                );
            }
        }
    }
}
