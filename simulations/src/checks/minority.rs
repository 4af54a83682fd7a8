//! Promise 6: a part without more than half of the members takes nothing over for a service that may
//! not run twice (`majority`, `fenced`), and stops after a while what it has of a `fenced` one.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::TaskId;
use node::spec::Partition;

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::tell::ShortPlace;

/// How long after a cut a node may not have noticed yet that it is in the smaller part.
const NOTICE: Span = Span::secs(15);

/// How long the smaller part may keep what is fenced: to notice, the fixed time of 20 s, a stop with its
/// grace, twice.
const FENCED: Span = Span::secs(90);

#[derive(Debug, Default)]
pub(super) struct Minority {
    /// Since when each host has been in a part that is no majority.
    small_since: BTreeMap<HostIx, At>,
    /// Engines that do not answer, and loops that are too slow to stop anything.
    ill: BTreeMap<HostIx, u32>,
    reported: BTreeSet<TaskId>,
    /// When each host's process started: one that starts in the smaller part counts from there, for it cannot
    /// know since when it has been one.
    started: BTreeMap<HostIx, At>,
}

impl Minority {
    fn note_health(&mut self, host: HostIx, well: bool) {
        let ill = self.ill.entry(host).or_default();
        *ill = if well { ill.saturating_sub(1) } else { *ill + 1 };
    }
}

impl Check for Minority {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Parts(_) => {
                let all = picture.capacity.len();
                let small = |host: &HostIx| {
                    picture.part.get(host).is_none_or(|part| picture.part_sizes[*part] * 2 <= all)
                };
                self.small_since.retain(|host, _| small(host));
                for host in picture.part.keys().filter(|host| small(host)) {
                    self.small_since.entry(*host).or_insert(at);
                }
            }
            Seen::Process { host, .. } => {
                self.started.insert(*host, at);
            }
            Seen::Engine { host, well } => self.note_health(*host, *well),
            Seen::Strained { host, strained } => self.note_health(*host, !strained),
            Seen::Start { host, place, view: Some(view), .. }
                if view.partition != Partition::Available && !view.global =>
            {
                let noticed =
                    self.small_since.get(host).is_some_and(|since| at.since(*since) > NOTICE);
                let had_it =
                    picture.claims.get(place).is_some_and(|claims| claims.contains_key(host));
                if noticed && !had_it {
                    found.push(
                        at,
                        "minority",
                        format!(
                            "{host} takes {short} over ({:?}) in a part that is no majority",
                            view.partition,
                            short = ShortPlace(*place)
                        ),
                    );
                }
            }
            _ => {}
        }
    }

    fn second(&mut self, at: At, picture: &Picture, found: &mut Found) {
        let small = &self.small_since;
        let kept = picture.tasks.iter().filter(|(_, task)| task.fenced && task.ready).filter(
            |(_, task)| {
                let well = self.ill.get(&task.host).is_none_or(|count| *count == 0);
                let started = self.started.get(&task.host).copied().unwrap_or_default();
                let since =
                    small.get(&task.host).map(|since| (*since).max(task.since).max(started));
                well && since.is_some_and(|since| at.since(since) > FENCED)
                    && picture.part.contains_key(&task.host)
            },
        );
        for (id, task) in kept {
            if self.reported.insert(*id) {
                let text = format!(
                    "{} still runs {} (fenced) in a part that is no majority",
                    task.host,
                    ShortPlace(task.place)
                );
                found.push(at, "minority", text);
            }
        }
    }
}
