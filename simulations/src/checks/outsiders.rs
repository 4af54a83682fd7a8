//! Promise 7: a node that is not admitted learns nothing and changes nothing, and what a peer garbles does
//! no harm. (How a handshake finds out who has the token is shown in the gossip crate, where it is made.)

use std::collections::BTreeSet;

use membership::id::NodeId;

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::At;

#[derive(Debug, Default)]
pub(super) struct Outsiders {
    outside: BTreeSet<NodeId>,
    /// Ids of records that were only noise.
    garbage: BTreeSet<u128>,
}

impl Check for Outsiders {
    fn see(&mut self, at: At, seen: &Seen, _: &Picture, found: &mut Found) {
        match seen {
            Seen::Outsider { id, .. } => {
                self.outside.insert(*id);
            }
            Seen::Garbage { id } => {
                self.garbage.insert(*id);
            }
            Seen::LetIn { host, id } => {
                found.push(at, "outsiders", format!("{host} lets {id} in, which has no token"));
            }
            Seen::ToldOutsider { host, id } => {
                found.push(at, "outsiders", format!("{host} tells {id}, which has no token"));
            }
            Seen::Verdict { host, about, to } if self.outside.contains(about) => {
                let text = format!("{host} calls {about} {to:?}, which was never let in");
                found.push(at, "outsiders", text);
            }
            Seen::Written { host, records } => {
                for (key, _, writer) in records.iter().map(|record| record.name) {
                    if self.outside.contains(&writer) {
                        let text = format!("{host} keeps {key:?} of {writer}, which has no token");
                        found.push(at, "outsiders", text);
                    } else if self.garbage.contains(&key.id) {
                        found.push(
                            at,
                            "outsiders",
                            format!("{host} keeps {key:?}, which is garbage"),
                        );
                    }
                }
            }
            _ => {}
        }
    }
}
