//! Numbers that may only rise: a node's incarnation over its starts, its publications within one, the
//! epochs under which its replicas of a slot are ready. (A claim that had no container yet is forgotten
//! in a crash, so what is not ready may be claimed again with the epoch of an older container.)

use std::collections::BTreeMap;

use membership::id::{Incarnation, NodeId};
use node::slot::{Epoch, Phase, Place};

use super::{Check, Found, Picture};
use crate::seen::Seen;
use crate::time::At;
use crate::world::tell::ShortPlace;

#[derive(Debug, Default)]
pub(super) struct Rising {
    started: BTreeMap<NodeId, Incarnation>,
    published: BTreeMap<NodeId, (Incarnation, u64)>,
    ready: BTreeMap<(NodeId, Place), Epoch>,
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
            Seen::Claim { id, place, epoch, phase: Phase::Ready, .. } => {
                let before = self.ready.insert((*id, *place), *epoch);
                if let Some(before) = before.filter(|before| before > epoch) {
                    let place = ShortPlace(*place);
                    found.push(
                        at,
                        "rising",
                        format!(
                            "{id} is ready for {place} with epoch {} after {}",
                            epoch.0, before.0
                        ),
                    );
                }
            }
            _ => {}
        }
    }
}
