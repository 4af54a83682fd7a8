//! Promise 2: of two concurrent edits one wins and the other is kept. An acknowledged edit that does not stand at
//! the end was written over by somebody who knew it, was said again later, or is kept on
//! every disk as a conflict.

use std::collections::{BTreeMap, BTreeSet};

use membership::record::{Digest, Kind};

use super::{Check, Found, Picture};
use crate::operators::CommandNo;
use crate::seen::{Lineage, RecordName, Seen};
use crate::time::At;

#[derive(Debug, Default)]
pub(super) struct Conflicts {
    acked: BTreeMap<RecordName, CommandNo>,
    written: BTreeMap<RecordName, Lineage>,
    /// Digests of what somebody has written over.
    built_upon: BTreeSet<Digest>,
}

impl Check for Conflicts {
    fn see(&mut self, _: At, seen: &Seen, _: &Picture, _: &mut Found) {
        match seen {
            Seen::Acked { command, records, .. } => {
                self.acked.extend(records.iter().map(|record| (*record, *command)));
            }
            Seen::Drafted { record, lineage } => {
                self.built_upon.extend(&lineage.ancestors);
                self.written.insert(*record, lineage.clone());
            }
            // What was lost with a disk may have been the only copy of either edit.
            Seen::DiskLost { .. } => self.acked.clear(),
            _ => {}
        }
    }

    fn end(&mut self, at: At, picture: &Picture, found: &mut Found) {
        for (name, command) in self.acked.iter().filter(|((key, ..), _)| key.kind != Kind::Conflict)
        {
            let Some(lineage) = self.written.get(name) else { continue };
            if self.built_upon.contains(&lineage.digest) {
                continue;
            }
            let (key, stamp, writer) = *name;
            for host in picture.processes.keys() {
                let standing = picture.disks.get(host).and_then(|disk| disk.get(&key));
                let Some((now, by)) = standing.filter(|order| **order > (stamp, writer)) else {
                    continue;
                };
                // Somebody said the same later: that is no conflict, and what stands may be built on it.
                let later = self.written.range((key, stamp, writer)..=(key, *now, *by)).skip(1);
                let same = later.into_iter().any(|(_, later)| later.body == lineage.body);
                let kept = picture.lost_edits.get(host).is_some_and(|kept| kept.contains(name));
                if !same && !kept {
                    let text = format!(
                        "{host} does not keep the edit {key:?} {stamp:?} of acknowledged command {}, which lost",
                        command.0
                    );
                    found.push(at, "conflicts", text);
                }
            }
        }
    }
}
