//! The state of the world as the observations so far make it: who runs what, who can talk to whom, what
//! is on which disk. Plain bookkeeping, shared by all checks.

use std::collections::{BTreeMap, BTreeSet};

use membership::clock::Stamp;
use membership::id::{NodeId, ServiceId, TaskId};
use membership::member::Resources;
use membership::record::Key;
use node::slot::{Epoch, Phase, Place, TemplateId};
use node::spec::Partition;

use crate::engine::Became;
use crate::links::HostIx;
use crate::seen::{RecordName, Seen, Stored};
use crate::time::At;

/// One task as it was ordered and became.
#[derive(Clone, Debug)]
pub struct Task {
    pub host: HostIx,
    pub place: Place,
    pub template: Option<TemplateId>,
    pub reservation: Resources,
    /// How many of its service the node may run; 0 for any number.
    pub per_node: u64,
    /// The service has to be stopped where it is in the smaller part.
    pub fenced: bool,
    pub running: bool,
    pub ready: bool,
    /// When it became ready, or ceased to be, last.
    pub since: At,
}

#[derive(Debug, Default)]
pub struct Picture {
    pub capacity: BTreeMap<HostIx, Resources>,
    /// Running processes.
    pub processes: BTreeMap<HostIx, NodeId>,
    /// The connected part of each acting host, as a number, and the size of each part.
    pub part: BTreeMap<HostIx, usize>,
    pub part_sizes: Vec<usize>,
    pub parts_since: At,
    /// When the last fault began or ended.
    pub disturbed: At,
    pub healed: Option<At>,
    pub settled: Option<At>,
    pub tasks: BTreeMap<TaskId, Task>,
    pub ready: BTreeMap<Place, BTreeSet<TaskId>>,
    /// When a ready task of a place last ceased to be.
    pub last_ready: BTreeMap<Place, BTreeMap<HostIx, At>>,
    /// Services of which some replica fell over, turned unhealthy, or had no image.
    pub fell: BTreeSet<ServiceId>,
    pub claims: BTreeMap<Place, BTreeMap<HostIx, (Epoch, Phase)>>,
    pub disks: BTreeMap<HostIx, BTreeMap<Key, (Stamp, NodeId)>>,
    /// Every tombstone that was ever on a disk.
    pub tombstones: BTreeSet<RecordName>,
    /// Concurrent edits that lost, by the disks that keep them as conflicts.
    pub lost_edits: BTreeMap<HostIx, BTreeSet<RecordName>>,
}

impl Picture {
    pub fn see(&mut self, at: At, seen: &Seen) {
        match seen {
            Seen::Host { host, capacity } => {
                self.capacity.insert(*host, *capacity);
            }
            Seen::Process { host, id, .. } => {
                self.processes.insert(*host, *id);
            }
            Seen::ProcessGone { host } => {
                self.processes.remove(host);
            }
            Seen::Parts(parts) => {
                self.part_sizes = parts.iter().map(Vec::len).collect();
                let numbered = parts.iter().enumerate();
                self.part = numbered
                    .flat_map(|(n, part)| part.iter().map(move |host| (*host, n)))
                    .collect();
                self.parts_since = at;
            }
            Seen::Disturbed => self.disturbed = at,
            Seen::Healed => {
                self.healed = Some(at);
                self.disturbed = at;
            }
            Seen::Settled => self.settled = Some(at),
            Seen::Start { host, place, task, template, view, .. } => {
                let reservation = view.as_ref().map(|view| view.reservation).unwrap_or_default();
                let per_node = view.as_ref().map_or(0, |view| view.per_node);
                let fenced = view.as_ref().is_some_and(|view| view.partition == Partition::Fenced);
                let (template, since) = (Some(*template), at);
                let task_of = Task {
                    host: *host,
                    place: *place,
                    template,
                    reservation,
                    per_node,
                    fenced,
                    running: false,
                    ready: false,
                    since,
                };
                self.tasks.insert(*task, task_of);
            }
            Seen::Container { host, place, task, what } => {
                self.container(at, *host, *place, *task, *what)
            }
            Seen::Claim { host, place, epoch, phase, .. } => {
                self.claims.entry(*place).or_default().insert(*host, (*epoch, *phase));
            }
            Seen::Written { host, records } => {
                let disk = self.disks.entry(*host).or_default();
                for Stored { name: (key, stamp, writer), tombstone, keeps } in records {
                    disk.insert(*key, (*stamp, *writer));
                    if *tombstone {
                        self.tombstones.insert((*key, *stamp, *writer));
                    }
                    self.lost_edits.entry(*host).or_default().extend(keeps);
                }
            }
            Seen::DiskLost { host } => {
                self.disks.remove(host);
                self.lost_edits.remove(host);
            }
            Seen::Stop { .. }
            | Seen::Published { .. }
            | Seen::Cloned { .. }
            | Seen::Asked { .. }
            | Seen::Answered { .. }
            | Seen::Drafted { .. }
            | Seen::Engine { .. }
            | Seen::Spoke { .. }
            | Seen::Expelled { .. }
            | Seen::ToldExpelled { .. }
            | Seen::ClockSetBack { .. }
            | Seen::Told { .. }
            | Seen::Strained { .. }
            | Seen::GivesUp { .. }
            | Seen::Acked { .. }
            | Seen::Removed { .. }
            | Seen::Verdict { .. } => {}
        }
    }

    fn container(&mut self, at: At, host: HostIx, place: Place, task: TaskId, what: Became) {
        if what == Became::Fell {
            self.fell.insert(place.service);
            return;
        }
        let entry = self.tasks.entry(task).or_insert(Task {
            host,
            place,
            template: None,
            reservation: Resources::default(),
            per_node: 0,
            fenced: false,
            running: false,
            ready: false,
            since: at,
        });
        match what {
            Became::Started => entry.running = true,
            Became::Ready => {
                entry.ready = true;
                entry.since = at;
                self.ready.entry(place).or_default().insert(task);
            }
            Became::NotReady => {
                entry.ready = false;
                entry.since = at;
                self.last_ready.entry(place).or_default().insert(host, at);
                if let Some(ready) = self.ready.get_mut(&place) {
                    ready.remove(&task);
                    if ready.is_empty() {
                        self.ready.remove(&place);
                    }
                }
            }
            Became::Ended | Became::Fell => entry.running = false,
            Became::Gone => {
                self.tasks.remove(&task);
            }
        }
    }

    /// The hosts on which a place is ready now.
    pub fn holders(&self, place: Place) -> Vec<HostIx> {
        let tasks = self.ready.get(&place).into_iter().flatten();
        tasks.filter_map(|task| self.tasks.get(task)).map(|task| task.host).collect()
    }
}
