//! What was removed stays removed: once faults are over and news has travelled, nothing of a removed
//! service is started any more, and at the end nothing of it runs.
//!
//! With two exceptions, both of promise 2. A removal that lost against a concurrent edit brings the
//! service back, if it is kept and shown as a conflict wherever it lost. And a removal that is on no
//! surviving disk any more, neither as what stands nor as a conflict, is known to nobody.

use std::collections::BTreeMap;

use membership::id::ServiceId;
use membership::record::{Key, Kind};

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::{RecordName, Seen};
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

const NEWS: Span = Span::secs(30);

#[derive(Debug, Default)]
pub(super) struct Removed {
    /// With the tombstone.
    removed: BTreeMap<ServiceId, RecordName>,
}

fn key_of(service: ServiceId) -> Key {
    Key { kind: Kind::Service, id: service.0 }
}

/// Whether a disk knows of the removal: a tombstone at least as late stands there, or it lost to what
/// stands there and is kept.
fn known_on(picture: &Picture, host: HostIx, tombstone: &RecordName) -> bool {
    let (key, stamp, writer) = *tombstone;
    let standing = picture.disks.get(&host).and_then(|disk| disk.get(&key));
    standing.is_some_and(|(now, by)| {
        (*now, *by) >= (stamp, writer) && picture.tombstones.contains(&(key, *now, *by))
    }) || lost_on(picture, host, tombstone)
}

fn lost_on(picture: &Picture, host: HostIx, tombstone: &RecordName) -> bool {
    picture.lost_edits.get(&host).is_some_and(|kept| kept.contains(tombstone))
}

impl Removed {
    /// The host ought to know that the service is gone for good.
    fn forbids(&self, picture: &Picture, host: HostIx, service: ServiceId) -> bool {
        self.removed.get(&service).is_some_and(|tombstone| !lost_on(picture, host, tombstone))
    }
}

impl Check for Removed {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Removed { service } => {
                let key = key_of(*service);
                let written = picture.tombstones.iter().filter(|(of, ..)| *of == key);
                let never = (key, Default::default(), membership::id::NodeId(0));
                self.removed.insert(*service, written.max().copied().unwrap_or(never));
            }
            // With the last disk that knew of it, nobody can.
            Seen::DiskLost { .. } => self.removed.retain(|_, tombstone| {
                picture.disks.keys().any(|host| known_on(picture, *host, tombstone))
            }),
            Seen::Start { host, place, .. }
                if self.forbids(picture, *host, place.service)
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
            .filter(|task| task.running && self.forbids(picture, task.host, task.place.service));
        for task in left {
            found.push(
                at,
                "removed",
                format!("{} still runs {:?} of a removed service", task.host, task.place),
            );
        }
    }
}
