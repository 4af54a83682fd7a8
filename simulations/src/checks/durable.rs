//! Promise 2: what was acknowledged is on two disks (on one, where only one node is alive), and stays:
//! at the end every node has it, or something written later under the same key. And no record leaves a
//! host, in whatever way, before it is on that host's own disk.

use std::collections::BTreeMap;

use membership::clock::Stamp;
use membership::id::NodeId;
use membership::record::Key;

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::operators::CommandNo;
use crate::seen::{RecordName, Seen};
use crate::time::{At, Span};

/// After this a node gives up waiting for the word of a second disk.
const ON_THE_WAY: Span = Span::secs(10);

fn holds(disk: &BTreeMap<Key, (Stamp, NodeId)>, (key, stamp, writer): &RecordName) -> bool {
    disk.get(key).is_some_and(|order| *order >= (*stamp, *writer))
}

#[derive(Debug, Default)]
pub(super) struct Durable {
    acked: BTreeMap<RecordName, CommandNo>,
}

impl Durable {
    fn on_disks(picture: &Picture, record: &RecordName) -> usize {
        picture.disks.values().filter(|disk| holds(disk, record)).count()
    }

    /// As the node that acknowledges can know: of a disk that was lost while its word was on the way it cannot.
    fn on_disks_lately(at: At, picture: &Picture, record: &RecordName) -> usize {
        let now = |host: &HostIx| picture.disks.get(host).is_some_and(|disk| holds(disk, record));
        let lost = picture.lost_disks.iter().filter(|(host, (when, disk))| {
            !now(host) && at.since(*when) <= ON_THE_WAY && holds(disk, record)
        });
        Self::on_disks(picture, record) + lost.count()
    }
}

impl Check for Durable {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Acked { host, command, records, alive } => {
                for record in records {
                    let disks = Self::on_disks_lately(at, picture, record);
                    if disks < (*alive).clamp(1, 2) {
                        found.push(at, "durable", format!("{host} acknowledged command {} with {record:?} on {disks} disks, {alive} members alive", command.0));
                    }
                    self.acked.insert(*record, *command);
                }
            }
            Seen::Told { host, records } => {
                let disk = picture.disks.get(host);
                for (key, stamp, writer) in records {
                    let held = disk.and_then(|disk| disk.get(key));
                    if held.is_none_or(|order| *order < (*stamp, *writer)) {
                        found.push(at, "durable", format!("{host} tells of {key:?} {stamp:?}, which is not on its disk: that has {held:?}"));
                    }
                }
            }
            // With the last disk that held it gone, nobody can be asked for it.
            Seen::DiskLost { .. } => {
                self.acked.retain(|record, _| Self::on_disks(picture, record) > 0)
            }
            _ => {}
        }
    }

    fn end(&mut self, at: At, picture: &Picture, found: &mut Found) {
        for ((key, stamp, writer), command) in &self.acked {
            for host in picture.processes.keys() {
                let held = picture.disks.get(host).and_then(|disk| disk.get(key));
                if held.is_none_or(|order| *order < (*stamp, *writer)) {
                    found.push(at, "durable", format!("{host} ends without the record {key:?} {stamp:?} of acknowledged command {}: it has {held:?}", command.0));
                }
            }
        }
    }
}
