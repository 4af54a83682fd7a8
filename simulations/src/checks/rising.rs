//! Numbers that may only rise: a node's incarnation over its starts, its publications within one, the
//! epochs under which its replicas of a slot are ready. (A claim that had no container yet is forgotten
//! in a crash, so what is not ready may be claimed again with the epoch of an older container. And epochs are
//! drawn from the clock: a node that is started again after its clock was set back draws lower ones than
//! those that it, and everybody who heard them, has forgotten. So does one that had drawn above the claim of
//! a node whose clock runs ahead, and has given the slot up since: the word about the epoch is on the
//! container, and goes with it. And an engine may carry out late what an earlier process of the node ordered,
//! under the epoch of then.)

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{Incarnation, NodeId};
use node::slot::{Epoch, Phase, Place};

use super::picture::Task;
use super::{Check, Found, Picture};
use crate::engine::Became;
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::At;
use crate::world::tell::ShortPlace;

#[derive(Debug, Default)]
pub(super) struct Rising {
    ids: BTreeMap<HostIx, BTreeSet<NodeId>>,
    cloned: BTreeSet<NodeId>,
    /// Whose clock was set back since their last start.
    set_back: BTreeSet<HostIx>,
    /// Some clock was wrong at some time, so that epochs may have been drawn from the future.
    was_wrong: bool,
    started: BTreeMap<NodeId, Incarnation>,
    published: BTreeMap<NodeId, (Incarnation, u64)>,
    ready: BTreeMap<(NodeId, Place), Epoch>,
}

impl Check for Rising {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Process { id, .. } | Seen::Published { id, .. } | Seen::Claim { id, .. }
                if self.cloned.contains(id) => {}
            Seen::ClockSetBack { host } => {
                self.set_back.insert(*host);
                self.was_wrong = true;
            }
            Seen::Container { host, place, what: Became::Gone, .. } if self.was_wrong => {
                let id = picture.processes.get(host);
                id.and_then(|id| self.ready.remove(&(*id, *place)));
            }
            Seen::Process { host, id, incarnation } => {
                let set_back = self.set_back.remove(host);
                let containers = picture.tasks.values();
                let containers = containers.filter(|task| task.host == *host && task.made);
                let kept: BTreeSet<Place> = containers.map(|task| task.place).collect();
                self.ready.retain(|(of, place), _| of != id || !set_back && kept.contains(place));
                self.ids.entry(*host).or_default().insert(*id);
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
            // An old disk does not know what was drawn after the copy was made, and two processes with
            // one key take turns: what they say from now on rises again.
            Seen::Cloned { id, .. } => {
                self.cloned.insert(*id);
            }
            Seen::DiskLost { host } => {
                for id in self.ids.get(host).into_iter().flatten() {
                    self.started.remove(id);
                    self.published.remove(id);
                    self.ready.retain(|(of, _), _| of != id);
                }
            }
            Seen::Claim { host, id, place, epoch, phase: Phase::Ready } => {
                let before = self.ready.insert((*id, *place), *epoch);
                let here = |task: &&Task| task.place == *place && task.host == *host && task.ready;
                let late = picture.tasks.values().filter(here).any(|task| task.called_off);
                if let Some(before) = before.filter(|before| before > epoch && !late) {
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
