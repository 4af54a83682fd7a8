//! Numbers that may only rise: a node's incarnation over its starts, its publications within one, the
//! epochs of its claims on a slot.

use std::collections::BTreeMap;

use membership::id::{Incarnation, NodeId};
use node::slot::{Epoch, Place};

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::At;

#[derive(Debug, Default)]
pub(super) struct Rising {
    started: BTreeMap<NodeId, Incarnation>,
    published: BTreeMap<NodeId, (Incarnation, u64)>,
    epochs: BTreeMap<(NodeId, Place), Epoch>,
}

impl Check for Rising {
    fn see(&mut self, at: At, seen: &Seen, _: &Picture, found: &mut Found) {
        match seen {
            Seen::Process { id, incarnation, .. } => {
                if let Some(before) =
                    self.started.insert(*id, *incarnation).filter(|before| before >= incarnation)
                {
                    found.push(
                        at,
                        "rising",
                        format!("{id} starts as incarnation {} after {}", incarnation.0, before.0),
                    );
                }
            }
            Seen::Published { id, incarnation, seq } => {
                let now = (*incarnation, *seq);
                if let Some(before) =
                    self.published.insert(*id, now).filter(|before| *before >= now)
                {
                    found.push(at, "rising", format!("{id} publishes {now:?} after {before:?}"));
                }
            }
            Seen::Claim { id, place, epoch, .. } => {
                if let Some(before) =
                    self.epochs.insert((*id, *place), *epoch).filter(|before| before > epoch)
                {
                    found.push(
                        at,
                        "rising",
                        format!("{id} claims {place:?} with epoch {} after {}", epoch.0, before.0),
                    );
                }
            }
            _ => {}
        }
    }
}
