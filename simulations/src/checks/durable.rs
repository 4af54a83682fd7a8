//! Promise 2: what was acknowledged is on two disks (on one, where only one node is alive), and stays:
//! at the end every node has it, or something written later under the same key. And no record leaves a
//! host, in whatever way, before it is on that host's own disk.

use std::collections::BTreeMap;

use membership::record::Kind;

use super::{Check, Found, Picture};
use crate::operators::CommandNo;
use crate::seen::{RecordName, Seen};
use crate::time::At;

#[derive(Debug, Default)]
pub(super) struct Durable {
    acked: BTreeMap<RecordName, CommandNo>,
}

impl Durable {
    fn on_disks(picture: &Picture, (key, stamp, writer): &RecordName) -> usize {
        let holds =
            |disk: &BTreeMap<_, _>| disk.get(key).is_some_and(|order| *order >= (*stamp, *writer));
        picture.disks.values().filter(|disk| holds(disk)).count()
    }
}

impl Check for Durable {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Acked { host, command, records, alive } => {
                for record in records {
                    let disks = Self::on_disks(picture, record);
                    if disks < (*alive).clamp(1, 2) {
                        found.push(at, "durable", format!("{host} acknowledged command {} with {record:?} on {disks} disks, {alive} members alive", command.0));
                    }
                    self.acked.insert(*record, *command);
                }
            }
            Seen::Told { host, records } => {
                let disk = picture.disks.get(host);
                // A conflict is derived from what is on the disk, and derived again if it is lost.
                for (key, stamp, writer) in
                    records.iter().filter(|(key, ..)| key.kind != Kind::Conflict)
                {
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
