//! What has ended of a job: one record for each service and node, written by that node alone.
//!
//! A slot of a job runs to its end once. That it has is therefore no fact of the node that ran it, which
//! would go with the node, but a record: on that node's disk, pushed and repaired like every other. No two
//! nodes write the same register, so nothing conflicts; what all of them hold together is what has ended.
//! A record speaks of one execution of a job, by the template's id, which has the execution's number in it.

use std::collections::BTreeSet;

use membership::id::{NodeId, ServiceId};
use membership::record::{Digest, Key, Kind, MAX_BODY_BYTES, Record};
use membership::registers::Registers;
use membership::wire::{self, Versioned};
use serde::{Deserialize, Serialize};

use crate::slot::{Place, Slot, TaskState, TaskStatus, TemplateId};

/// The most slots that a job may have: what has ended of them has to fit one record of each node.
pub const MAX_JOB_SLOTS: u64 = 100_000;

/// Of so many ended tasks a record has more than the slot, the newest first.
const TASKS_TOLD: usize = 100;

/// A set of slots. Travels as ranges: most jobs end slot by slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Ranges", into = "Ranges")]
pub(crate) struct SlotSet {
    numbers: BTreeSet<u32>,
    nodes: BTreeSet<NodeId>,
}

#[derive(Clone, Serialize, Deserialize)]
struct Ranges {
    /// First and last, both in it.
    numbers: Vec<(u32, u32)>,
    nodes: Vec<NodeId>,
}

impl TryFrom<Ranges> for SlotSet {
    type Error = &'static str;

    fn try_from(ranges: Ranges) -> Result<Self, Self::Error> {
        let beyond = |(first, last): &(u32, u32)| first > last || u64::from(*last) >= MAX_JOB_SLOTS;
        if ranges.numbers.iter().any(beyond) {
            return Err("a range of slots that no job has");
        }
        let numbers = ranges.numbers.into_iter().flat_map(|(first, last)| first..=last).collect();
        Ok(Self { numbers, nodes: ranges.nodes.into_iter().collect() })
    }
}

impl From<SlotSet> for Ranges {
    fn from(set: SlotSet) -> Self {
        let mut numbers: Vec<(u32, u32)> = Vec::new();
        for number in set.numbers {
            match numbers.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => numbers.push((number, number)),
            }
        }
        Self { numbers, nodes: set.nodes.into_iter().collect() }
    }
}

impl SlotSet {
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        match slot {
            Slot::Index(index) => self.numbers.contains(&index),
            Slot::Node(node) => self.nodes.contains(&node),
        }
    }

    pub(crate) fn insert(&mut self, slot: Slot) -> bool {
        match slot {
            Slot::Index(index) => self.numbers.insert(index),
            Slot::Node(node) => self.nodes.insert(node),
        }
    }

    fn extend(&mut self, other: &Self) {
        self.numbers.extend(&other.numbers);
        self.nodes.extend(&other.nodes);
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        let numbers = self.numbers.iter().map(|index| Slot::Index(*index));
        numbers.chain(self.nodes.iter().map(|node| Slot::Node(*node)))
    }
}

/// A task that ended for good, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndedTask {
    pub node: NodeId,
    pub status: TaskStatus,
}

/// The slots of one execution of a job that have ended for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// Ran to their end with exit code 0.
    pub done: SlotSet,
    /// Failed, and are not tried again.
    pub failed: SlotSet,
    /// The tasks that ended them, as far as they are still told of.
    pub tasks: Vec<EndedTask>,
}

impl Ended {
    /// The slot is not to be run (again).
    pub(crate) fn contains(&self, slot: Slot) -> bool {
        self.done.contains(slot) || self.failed.contains(slot)
    }

    /// All that the records of a service say about one execution.
    pub(crate) fn of(registers: &Registers, service: ServiceId, template: TemplateId) -> Self {
        let mut ended = Self::default();
        for record in registers.live_within(Kind::Completions, ids(service)) {
            let Some(body) = Completions::read(record) else { continue };
            if body.service == service && body.template == template {
                ended.done.extend(&body.done);
                ended.failed.extend(&body.failed);
                ended.tasks.extend(body.tasks);
            }
        }
        ended
    }
}

/// The body of a `Kind::Completions` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Completions {
    pub service: ServiceId,
    /// Who writes it.
    pub node: NodeId,
    pub template: TemplateId,
    pub done: SlotSet,
    pub failed: SlotSet,
    /// Newest first.
    pub tasks: Vec<EndedTask>,
}

impl Versioned for Completions {
    const TAG: u8 = b'j';
    const VERSION: u8 = 1;
    const LIMIT: usize = MAX_BODY_BYTES;
}

impl Completions {
    pub(crate) fn read(record: &Record) -> Option<Self> {
        wire::decode(record.body.as_deref()?).ok()
    }

    /// What `node` has written of an execution; empty where that is nothing, or is about another one.
    pub(crate) fn of(
        registers: &Registers,
        service: ServiceId,
        node: NodeId,
        template: TemplateId,
    ) -> Self {
        let written = registers.get(&key(service, node)).and_then(Self::read);
        written.filter(|body| body.template == template).unwrap_or_else(|| Self {
            service,
            node,
            template,
            done: SlotSet::default(),
            failed: SlotSet::default(),
            tasks: Vec::new(),
        })
    }

    pub(crate) fn add(&mut self, task: EndedTask) {
        let complete = task.status.state == TaskState::Complete;
        let set = if complete { &mut self.done } else { &mut self.failed };
        if set.insert(task.status.slot) {
            self.tasks.insert(0, task);
            self.tasks.truncate(TASKS_TOLD);
        }
    }
}

/// For checks from outside: the slots that a record says have ended, and of what execution.
pub fn recorded_ends(record: &Record) -> Vec<(Place, TemplateId)> {
    if record.key.kind != Kind::Completions {
        return Vec::new();
    }
    let Some(body) = Completions::read(record) else { return Vec::new() };
    let slots = body.done.slots().chain(body.failed.slots());
    slots.map(|slot| (Place { service: body.service, slot }, body.template)).collect()
}

/// Where a node writes what has ended there of a service.
pub(crate) fn key(service: ServiceId, node: NodeId) -> Key {
    let node = (Digest::of_bytes(&node.0.to_be_bytes()).0 >> 64) as u64;
    Key { kind: Kind::Completions, id: *ids(service).start() | u128::from(node) }
}

/// The ids of all records of a service, and, should ever two ids of services begin alike, those of another.
fn ids(service: ServiceId) -> std::ops::RangeInclusive<u128> {
    let first = Digest::of_bytes(&service.0.to_be_bytes()).0 >> 64 << 64;
    first..=first | u128::from(u64::MAX)
}

#[cfg(test)]
mod tests {
    use membership::clock::Stamp;
    use membership::id::{CellId, TaskId};
    use membership::time::Wall;
    use proptest::prelude::*;

    use super::*;

    fn task(slot: Slot, state: TaskState) -> EndedTask {
        let status = TaskStatus {
            id: TaskId(7),
            slot,
            template: TemplateId(3),
            created: Wall(1),
            state,
            since: Wall(2),
            message: String::new(),
            error: None,
            container: None,
            pid: None,
            exit_code: Some(0),
            ports: Vec::new(),
        };
        EndedTask { node: NodeId(9), status }
    }

    fn body(service: u128, node: u128) -> Completions {
        let (service, node) = (ServiceId(service), NodeId(node));
        Completions::of(&Registers::new(CellId(0)), service, node, TemplateId(3))
    }

    fn record(body: &Completions) -> Record {
        Record {
            cell: CellId(0),
            key: key(body.service, body.node),
            stamp: Stamp { ms: 1, counter: 0 },
            writer: body.node,
            ancestors: Vec::new(),
            body: Some(wire::encode(body).unwrap()),
        }
    }

    #[test]
    fn the_layout_stands_still() {
        let mut body = body(1, 2);
        for slot in [0, 1, 2, 7] {
            body.add(task(Slot::Index(slot), TaskState::Complete));
        }
        body.add(task(Slot::Node(NodeId(2)), TaskState::Failed));
        body.tasks.clear();
        let golden = [b'j', 1, 1, 2, 3, 2, 0, 2, 7, 7, 0, 0, 1, 2, 0];
        assert_eq!(wire::encode(&body).unwrap(), golden);
        assert_eq!(wire::decode::<Completions>(&golden).unwrap(), body);
    }

    #[test]
    fn the_union_over_the_nodes_is_what_has_ended() {
        let mut registers = Registers::new(CellId(0));
        for (service, node, slot, state) in [
            (1, 1, 0, TaskState::Complete),
            (1, 2, 1, TaskState::Failed),
            (2, 1, 2, TaskState::Complete),
        ] {
            let mut body = body(service, node);
            body.add(task(Slot::Index(slot), state));
            registers.merge(record(&body));
        }
        let ended = Ended::of(&registers, ServiceId(1), TemplateId(3));
        assert_eq!(ended.done.slots().collect::<Vec<_>>(), [Slot::Index(0)]);
        assert_eq!(ended.failed.slots().collect::<Vec<_>>(), [Slot::Index(1)]);
        assert_eq!(ended.tasks.len(), 2);
        assert_eq!(Ended::of(&registers, ServiceId(1), TemplateId(4)), Ended::default());
        // What a node adds, it adds to what it wrote before.
        let own = |template| Completions::of(&registers, ServiceId(1), NodeId(1), template);
        assert!(own(TemplateId(3)).done.contains(Slot::Index(0)));
        assert!(own(TemplateId(4)).tasks.is_empty());
    }

    #[test]
    fn a_record_holds_the_largest_job_and_nothing_larger() {
        let mut largest = body(1, 1);
        for index in (0..MAX_JOB_SLOTS as u32).step_by(2) {
            largest.add(task(Slot::Index(index), TaskState::Complete));
            largest.add(task(Slot::Index(index + 1), TaskState::Failed));
        }
        let bytes = wire::encode(&largest).unwrap();
        assert!(wire::decode::<Completions>(&bytes).unwrap() == largest);
        for lie in [(1, 0), (0, u32::MAX)] {
            assert!(SlotSet::try_from(Ranges { numbers: vec![lie], nodes: Vec::new() }).is_err());
        }
    }

    proptest! {
        #[test]
        fn sets_come_back(numbers: BTreeSet<u16>, nodes: BTreeSet<u8>) {
            let set = SlotSet {
                numbers: numbers.into_iter().map(u32::from).collect(),
                nodes: nodes.into_iter().map(|node| NodeId(node.into())).collect(),
            };
            prop_assert_eq!(SlotSet::try_from(Ranges::from(set.clone())).unwrap(), set);
        }
    }
}
