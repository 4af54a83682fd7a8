//! How many tasks of a slot are told of: what `docker swarm update --task-history-limit` sets for the cluster.
//!
//! As in Swarm the task that a slot has now is one of them, and a negative limit means all: here all that fit
//! the fact in which a node tells what ended. Each node keeps one ended task of a slot whatever the limit
//! is, because a steward sees by it that an update fails.

use std::collections::BTreeMap;

use membership::id::ServiceId;
use membership::record::{Key, Kind};
use membership::registers::Registers;
use serde_json::Value;

use crate::local::Local;
use crate::node::Node;
use crate::slot::{Slot, TaskStatus};

/// The most ended tasks of one service that one node tells of: its history has to fit one fact.
const HISTORY_PER_SERVICE: usize = 40;

/// The cluster's limit; `None` where nobody has set one.
fn limit(registers: &Registers) -> Option<usize> {
    let body = registers.get(&Key { kind: Kind::Cluster, id: 0 })?.body.as_deref()?;
    let spec: Value = serde_json::from_slice(body).ok()?;
    let wanted = spec["Orchestration"]["TaskHistoryRetentionLimit"].as_i64()?;
    Some(usize::try_from(wanted).unwrap_or(usize::MAX))
}

impl Node {
    /// The cluster's settings were read, or changed.
    pub(crate) fn retention_changed(&mut self) {
        let limit = limit(&self.view.registers).unwrap_or(self.settings.history);
        if limit != self.local.retention {
            self.local.retain(limit);
        }
    }
}

impl Local {
    /// Adds an ended task to the history, newest first, and drops what exceeds the limit of its slot.
    pub(crate) fn remember(&mut self, service: ServiceId, status: TaskStatus) {
        let limit = self.retention;
        let list = self.history.entry(service).or_default();
        list.retain(|old| old.id != status.id);
        list.insert(0, status);
        keep_newest(list, limit);
        list.truncate(HISTORY_PER_SERVICE);
        self.changed.insert(service);
    }

    /// From now on so many tasks of a slot are told of.
    pub(crate) fn retain(&mut self, limit: usize) {
        self.retention = limit;
        for (service, list) in &mut self.history {
            let before = list.len();
            keep_newest(list, limit);
            if list.len() != before {
                self.changed.insert(*service);
            }
        }
    }
}

/// Drops what exceeds the limit of its slot, but for the newest.
fn keep_newest(list: &mut Vec<TaskStatus>, limit: usize) {
    let mut seen: BTreeMap<Slot, usize> = BTreeMap::new();
    list.retain(|task| {
        let seen = seen.entry(task.slot).or_default();
        *seen += 1;
        *seen <= limit.max(1)
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::clock::Stamp;
    use membership::id::{CellId, NodeId};
    use membership::record::Record;
    use serde_json::json;

    fn with(spec: &Value) -> Option<usize> {
        let record = Record {
            cell: CellId(0),
            key: Key { kind: Kind::Cluster, id: 0 },
            stamp: Stamp { ms: 1, counter: 0 },
            writer: NodeId(1),
            ancestors: Vec::new(),
            body: Some(serde_json::to_vec(spec).unwrap()),
        };
        limit(&Registers::load(CellId(0), vec![record]))
    }

    #[test]
    fn the_limit_is_what_the_cluster_says_and_negative_means_all() {
        let of = |limit: i64| json!({"Orchestration": {"TaskHistoryRetentionLimit": limit}});
        assert_eq!(with(&of(2)), Some(2));
        assert_eq!(with(&of(0)), Some(0));
        assert_eq!(with(&of(-1)), Some(usize::MAX));
        assert_eq!(with(&json!({"Name": "default"})), None);
        assert_eq!(limit(&Registers::load(CellId(0), Vec::new())), None);
    }
}
