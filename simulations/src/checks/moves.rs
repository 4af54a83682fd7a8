//! Promise 4: a running replica never moves because something else failed.
//!
//! A node that has just changed its mind about some member must not start a slot whose holder, another
//! one, is well by its own view and by all that is true, and the only one of its key: a copy of it that
//! starts says that it runs nothing. (When a view has been quiet for half a minute a node
//! may pull, to even load out; that is a move, but not because of a failure.)

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{NodeId, TaskId};
use membership::member::MemberState;
use node::slot::{Epoch, Place, Slot};

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

/// Shorter than the quiet after which load is evened out.
const RECENT: Span = Span::secs(25);
/// How long a host must have been well for its trouble not to be the reason.
const WELL: Span = Span::secs(90);

#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Since when each host has been well: its process up, its loop and engine good, in the largest part.
    well_since: BTreeMap<HostIx, At>,
    /// Loops and engines that are not.
    ill: BTreeMap<HostIx, u32>,
    beliefs: BTreeMap<(HostIx, NodeId), MemberState>,
    /// When each node last changed its mind about somebody, to the worse.
    turned: BTreeMap<HostIx, At>,
    /// When a node decided to run a slot: it may have waited for an image since.
    decided: BTreeMap<(HostIx, Place), (Epoch, At)>,
    /// A slot that a node is trying already.
    tried: BTreeMap<(HostIx, Place), At>,
    /// What its own node is about to stop: it has told the others, and serves for a moment longer.
    given_up: BTreeSet<TaskId>,
}

impl Moves {
    fn is_well(&self, at: At, host: HostIx) -> bool {
        let ill = self.ill.get(&host).is_some_and(|count| *count > 0);
        !ill && self.well_since.get(&host).is_some_and(|since| at.since(*since) > WELL)
    }

    fn health(&mut self, at: At, host: HostIx, well: bool) {
        let ill = self.ill.entry(host).or_default();
        *ill = if well { ill.saturating_sub(1) } else { *ill + 1 };
        self.well_since.insert(host, at);
    }
}

impl Check for Moves {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Parts(parts) => {
                let largest = parts.iter().max_by_key(|part| part.len());
                let inside: Vec<HostIx> = largest.into_iter().flatten().copied().collect();
                self.well_since.retain(|host, _| inside.binary_search(host).is_ok());
                for host in inside {
                    self.well_since.entry(host).or_insert(at);
                }
            }
            Seen::Process { host, .. } => {
                self.decided.retain(|(of, _), _| of != host);
                self.well_since.insert(*host, at);
                self.beliefs.retain(|(of, _), _| of != host);
            }
            Seen::GivesUp { task, .. } => drop(self.given_up.insert(*task)),
            Seen::Strained { host, strained } => self.health(at, *host, !strained),
            Seen::Engine { host, well } => self.health(at, *host, *well),
            Seen::Verdict { host, about, to } => {
                self.beliefs.insert((*host, *about), *to);
                if *to == MemberState::Down {
                    self.turned.insert(*host, at);
                }
            }
            Seen::Claim { host, place, epoch, .. } => {
                let decided = self.decided.entry((*host, *place)).or_insert((*epoch, at));
                if decided.0 != *epoch {
                    *decided = (*epoch, at);
                }
            }
            Seen::Start { host, place, template, epoch, view: Some(view), .. } => {
                let again = self.tried.insert((*host, *place), at);
                let again = again.is_some_and(|before| at.since(before) < WELL + WELL);
                let decided = self.decided.get(&(*host, *place)).filter(|(of, _)| of == epoch);
                let turned = self.turned.get(host).copied();
                // Decided before: for another reason.
                let before = decided.is_some_and(|(_, when)| turned.is_some_and(|t| *when < t));
                let turned = turned.is_some_and(|when| at.since(when) <= RECENT);
                let fixed = matches!(place.slot, Slot::Node(_)) || view.global;
                if again || fixed || before || !turned || !self.is_well(at, *host) {
                    return;
                }
                let ready = picture.ready.get(place).into_iter().flatten();
                let ready = ready.filter(|task| !self.given_up.contains(task));
                let holder = ready.filter_map(|task| picture.tasks.get(task)).find(|task| {
                    let id = picture.processes.get(&task.host);
                    let believed = id.and_then(|id| self.beliefs.get(&(*host, *id)));
                    task.host != *host
                        && task.template == Some(*template)
                        && believed.is_none_or(|state| *state == MemberState::Alive)
                        && self.is_well(at, task.host)
                        && !picture.has_double(at, task.host)
                        && at.since(task.since) > RECENT
                });
                if let Some(holder) = holder {
                    let text = format!(
                        "{host} starts {}, which {} runs and has no trouble with",
                        ShortPlace(*place),
                        holder.host
                    );
                    found.push(at, "moves", text);
                }
            }
            _ => {}
        }
    }
}
