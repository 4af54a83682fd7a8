//! The state of the world as the observations so far make it: who runs what, who can talk to whom, what
//! is on which disk. Plain bookkeeping, shared by all checks.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use membership::clock::Stamp;
use membership::id::{NetworkId, NodeId, ServiceId, TaskId};
use membership::member::Resources;
use membership::record::Key;
use node::slot::{Epoch, Phase, Place, TemplateId};
use node::spec::Partition;

use crate::engine::Became;
use crate::links::HostIx;
use crate::seen::{RecordName, Seen, Stored};
use crate::time::{At, Span};

/// What stands on a disk: who wrote each record, and when.
pub(super) type Disk = BTreeMap<Key, (Stamp, NodeId)>;

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
    /// There is a container of it.
    pub made: bool,
    pub running: bool,
    pub ready: bool,
    /// When it began to run, became ready, or ceased to be, last.
    pub since: At,
    /// Its start was called off, or the process that ordered it is gone, before the engine had carried it out.
    /// An engine that was given up may still do so, and its node cannot know before it is told.
    pub called_off: bool,
}

/// By then a node has been told, or has listed everything anew, what its engine runs.
const LEARNT: Span = Span::secs(40);

/// For how long after that what was said by two of one key may still be believed.
const ECHO: Span = Span::secs(90);

impl Task {
    /// It runs, and its node can know that it does.
    pub fn counts(&self, at: At) -> bool {
        self.running && (!self.called_off || at.since(self.since) > LEARNT)
    }
}

#[derive(Debug, Default)]
pub struct Picture {
    pub capacity: BTreeMap<HostIx, Resources>,
    /// Running processes.
    pub processes: BTreeMap<HostIx, NodeId>,
    /// The connected part of each acting host, as a number, and the size of each part.
    pub part: BTreeMap<HostIx, usize>,
    /// Keys that two hosts have, a copy of a disk among them: which one is the copy, and since when it is none
    /// any more.
    doubled: BTreeMap<NodeId, (HostIx, Option<At>)>,
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
    /// Services of which some node still kept a slot away when all was settled.
    pub kept_away: BTreeSet<ServiceId>,
    pub claims: BTreeMap<Place, BTreeMap<HostIx, (Epoch, Phase)>>,
    pub disks: BTreeMap<HostIx, Disk>,
    /// What was on the last disk that each host lost, and when.
    pub lost_disks: BTreeMap<HostIx, (At, Disk)>,
    /// Every tombstone that was ever on a disk.
    pub tombstones: BTreeSet<RecordName>,
    /// Concurrent edits that lost, by the disks that keep them as conflicts.
    pub lost_edits: BTreeMap<HostIx, BTreeSet<RecordName>>,
    /// Blocks of addresses that each host uses, as its present process says.
    pub blocks: BTreeMap<HostIx, BTreeMap<NetworkId, Vec<u32>>>,
    /// The addresses that tasks were started with, and of which blocks they are.
    pub addresses: BTreeMap<TaskId, Vec<(NetworkId, Ipv4Addr, u32)>>,
}

impl Picture {
    pub fn see(&mut self, at: At, seen: &Seen) {
        match seen {
            Seen::Host { host, capacity } => {
                self.capacity.insert(*host, *capacity);
            }
            Seen::Process { host, id, .. } => {
                self.processes.insert(*host, *id);
                self.blocks.remove(host);
            }
            Seen::ProcessGone { host } => {
                self.processes.remove(host);
                let ordered = self.tasks.values_mut().filter(|t| t.host == *host && !t.running);
                ordered.for_each(|task| task.called_off = true);
            }
            Seen::CalledOff { task } => {
                if let Some(task) = self.tasks.get_mut(task) {
                    task.called_off = true;
                }
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
            Seen::Settled { kept_away } => {
                self.settled = Some(at);
                self.kept_away.clone_from(kept_away);
            }
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
                    made: false,
                    running: false,
                    ready: false,
                    since,
                    called_off: false,
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
                for Stored { name: (key, stamp, writer), tombstone, keeps, .. } in records {
                    disk.insert(*key, (*stamp, *writer));
                    if *tombstone {
                        self.tombstones.insert((*key, *stamp, *writer));
                    }
                    self.lost_edits.entry(*host).or_default().extend(keeps);
                }
            }
            Seen::Cloned { host, id } => {
                self.doubled.insert(*id, (*host, None));
            }
            Seen::DiskLost { host } => {
                let copies = self.doubled.values_mut();
                copies
                    .filter(|(copy, ended)| copy == host && ended.is_none())
                    .for_each(|(_, ended)| *ended = Some(at));
                if let Some(disk) = self.disks.remove(host) {
                    self.lost_disks.insert(*host, (at, disk));
                }
                self.lost_edits.remove(host);
            }
            Seen::Addressed { task, has, .. } => {
                self.addresses.insert(*task, has.clone());
            }
            Seen::Blocks { host, network, blocks } => {
                self.blocks.entry(*host).or_default().insert(*network, blocks.clone());
            }
            Seen::Stop { .. }
            | Seen::Published { .. }
            | Seen::Lossy(_)
            | Seen::Asked { .. }
            | Seen::Answered { .. }
            | Seen::Drafted { .. }
            | Seen::Engine { .. }
            | Seen::Spoke { .. }
            | Seen::Expelled { .. }
            | Seen::ToldExpelled { .. }
            | Seen::Outsider { .. }
            | Seen::LetIn { .. }
            | Seen::ToldOutsider { .. }
            | Seen::Garbage { .. }
            | Seen::ClockSetBack { .. }
            | Seen::Told { .. }
            | Seen::Strained { .. }
            | Seen::GivesUp { .. }
            | Seen::Acked { .. }
            | Seen::Removed { .. }
            | Seen::Offered { .. }
            | Seen::Files { .. }
            | Seen::Shown { .. }
            | Seen::Verdict { .. } => {}
        }
    }

    fn container(&mut self, at: At, host: HostIx, place: Place, task: TaskId, what: Became) {
        if what == Became::Fell {
            return;
        }
        let entry = self.tasks.entry(task).or_insert(Task {
            host,
            place,
            template: None,
            reservation: Resources::default(),
            per_node: 0,
            fenced: false,
            made: false,
            running: false,
            ready: false,
            since: at,
            called_off: false,
        });
        match what {
            Became::Started => {
                entry.made = true;
                entry.running = true;
                entry.since = at;
            }
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
                self.addresses.remove(&task);
            }
        }
    }

    /// The task has an address of a block that its node has let go of, because another node has the better right
    /// to it.
    pub fn has_lost_its_address(&self, host: HostIx, task: TaskId) -> bool {
        let said = self.blocks.get(&host);
        let addresses = self.addresses.get(&task).into_iter().flatten();
        addresses.into_iter().any(|(network, _, block)| {
            // What its node has not spoken of since it was started may be as it was.
            let blocks = said.and_then(|said| said.get(network));
            blocks.is_some_and(|blocks| !blocks.contains(block))
        })
    }

    /// Two processes speak with the key of this host, or did a moment ago: each of them takes back what the
    /// other one says.
    pub fn has_double(&self, at: At, host: HostIx) -> bool {
        let doubled = self.processes.get(&host).and_then(|id| self.doubled.get(id));
        doubled.is_some_and(|(_, ended)| ended.is_none_or(|ended| at.since(ended) <= ECHO))
    }

    /// The hosts on which a place is ready now.
    pub fn holders(&self, place: Place) -> Vec<HostIx> {
        let tasks = self.ready.get(&place).into_iter().flatten();
        tasks.filter_map(|task| self.tasks.get(task)).map(|task| task.host).collect()
    }
}
