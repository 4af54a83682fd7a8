//! What was removed stays removed: once faults are over and news has travelled, nothing of a removed
//! service is started any more, and at the end nothing of it runs.

use std::collections::BTreeMap;

use membership::clock::Stamp;
use membership::id::{NodeId, ServiceId};
use membership::record::{Key, Kind};

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

const NEWS: Span = Span::secs(30);

#[derive(Debug, Default)]
pub(super) struct Removed {
    /// With the order of the tombstone.
    removed: BTreeMap<ServiceId, (Stamp, NodeId)>,
}

impl Check for Removed {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Removed { service } => {
                let key = Key { kind: Kind::Service, id: service.0 };
                let orders = picture.disks.values().filter_map(|disk| disk.get(&key));
                self.removed.insert(*service, orders.max().copied().unwrap_or_default());
            }
            // With the last disk that knew of it, nobody can.
            Seen::DiskLost { .. } => self.removed.retain(|service, tombstone| {
                let key = Key { kind: Kind::Service, id: service.0 };
                let mut orders = picture.disks.values().filter_map(|disk| disk.get(&key));
                *tombstone == Default::default() || orders.any(|order| order >= tombstone)
            }),
            Seen::Start { host, place, .. }
                if self.removed.contains_key(&place.service)
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
            .filter(|task| task.running && self.removed.contains_key(&task.place.service));
        for task in left {
            found.push(
                at,
                "removed",
                format!("{} still runs {:?} of a removed service", task.host, task.place),
            );
        }
    }
}
