//! How foresight and explanations are written as JSON. Pure.

use std::collections::BTreeMap;

use membership::id::NodeId;
use membership::member::Resources;
use membership::time::Wall;
use node::foresight::why::{HostWhy, Why, phase_name};
use node::foresight::{Foresight, Holding, HostOutlook, Move, MoveKind, Picture, ServiceOutlook};
use node::slot::Slot;
use node::views::TaskView;
use serde_json::{Value, json};

use super::own::state_name;
use super::rfc3339;

fn named(picture: &Names<'_>, node: NodeId) -> Value {
    json!({ "id": node.to_string(), "name": picture.name(node) })
}

/// Names of members, and of hosts that are only supposed.
struct Names<'p> {
    picture: &'p Picture,
    supposed: BTreeMap<NodeId, &'p str>,
}

impl<'p> Names<'p> {
    fn of(picture: &'p Picture) -> Self {
        Self { picture, supposed: BTreeMap::new() }
    }

    fn name(&self, node: NodeId) -> String {
        match self.supposed.get(&node) {
            Some(name) => (*name).to_owned(),
            None => self.picture.name(node),
        }
    }

    fn zone(&self, node: NodeId) -> &str {
        let host = self.picture.members.get(&node).and_then(|member| member.host.as_ref());
        host.map_or("", |host| host.zone.as_str())
    }
}

/// `web.3`, or `agent.NODE` for global services.
fn replica(names: &Names<'_>, service: &str, slot: Slot) -> String {
    match slot {
        Slot::Index(index) => format!("{service}.{index}"),
        Slot::Node(node) => format!("{service}.{}", names.name(node)),
    }
}

fn slot_value(slot: Slot) -> Value {
    match slot {
        Slot::Index(index) => json!(index),
        Slot::Node(node) => json!(node.to_string()),
    }
}

pub(super) fn foresight(picture: &Picture, found: &Foresight, taken: Wall) -> Value {
    let mut names = Names::of(picture);
    for host in found.hosts.iter().filter(|host| host.state.0.is_none()) {
        names.supposed.insert(host.id, &host.name);
    }
    let (pending, already) = found.pending();
    json!({
        "supposed": found.supposed,
        "summary": found.summary(),
        "whole": found.is_whole(),
        "taken": rfc3339::from_wall(taken),
        "asked": named(&names, picture.me),
        "counts": {
            "replaced": found.moves(MoveKind::Replaces),
            "handed_over": found.moves(MoveKind::Relieves),
            "started": found.moves(MoveKind::Starts),
            "stopped": found.stops(),
            "evened": found.moves(MoveKind::Evens),
            "pending": pending,
            "pending_already": already,
        },
        "quorum": { "alive": found.quorum.0, "all": found.quorum.1 },
        "services": found.services.iter().map(|one| service(&names, found, one)).collect::<Vec<_>>(),
        "hosts": found.hosts.iter().map(host).collect::<Vec<_>>(),
        "notes": found.notes,
    })
}

fn service(names: &Names<'_>, found: &Foresight, one: &ServiceOutlook) -> Value {
    let moves = |moves: &[Move]| -> Vec<Value> {
        moves.iter().map(|m| move_value(names, &one.name, m)).collect()
    };
    let [before, after, end] = &one.spread;
    json!({
        "id": one.id.to_string(),
        "name": one.name,
        "global": one.global,
        "wanted": { "before": one.wanted.0, "after": one.wanted.1 },
        "running": { "before": one.running.0, "after": one.running.1 },
        "moves": moves(&one.moves),
        "stops": one.stops.iter().map(|stop| json!({
            "replica": replica(names, &one.name, stop.slot),
            "slot": slot_value(stop.slot),
            "node": named(names, stop.node),
            "why": stop.why,
        })).collect::<Vec<_>>(),
        "pending": one.pending.iter().map(|waiting| json!({
            "replica": replica(names, &one.name, waiting.slot),
            "slot": slot_value(waiting.slot),
            "stays_on": waiting.stays_on.map(|node| named(names, node)),
            "already": waiting.already,
            "why": waiting.why,
        })).collect::<Vec<_>>(),
        "later": moves(&one.later),
        "spread": {
            "before": spread(names, found, before),
            "after": spread(names, found, after),
            "end": spread(names, found, end),
        },
        "remarks": one.remarks,
    })
}

fn move_value(names: &Names<'_>, service: &str, one: &Move) -> Value {
    json!({
        "replica": replica(names, service, one.slot),
        "slot": slot_value(one.slot),
        "kind": one.kind.name(),
        "from": one.from.map(|node| named(names, node)),
        "to": named(names, one.to),
        "backups": one.backups.iter().map(|node| named(names, *node)).collect::<Vec<_>>(),
    })
}

/// Replicas on hosts and in zones.
fn spread(names: &Names<'_>, found: &Foresight, counts: &BTreeMap<NodeId, u32>) -> Value {
    let zone = |node: NodeId| {
        let host = found.hosts.iter().find(|host| host.id == node);
        host.map_or_else(|| names.zone(node), |host| &host.zone).to_owned()
    };
    let mut zones: BTreeMap<String, u32> = BTreeMap::new();
    let mut hosts = Vec::new();
    for (node, count) in counts {
        *zones.entry(zone(*node)).or_insert(0) += count;
        let mut host = named(names, *node);
        host["replicas"] = json!(count);
        hosts.push(host);
    }
    json!({ "hosts": hosts, "zones": zones })
}

fn host(one: &HostOutlook) -> Value {
    let [before, after, end] = &one.loads;
    json!({
        "id": one.id.to_string(),
        "name": one.name,
        "zone": one.zone,
        "state": {
            "before": one.state.0.map(state_name),
            "after": state_name(one.state.1),
        },
        "capacity": resources(one.capacity),
        "reserved": {
            "before": resources(before.reserved),
            "after": resources(after.reserved),
            "end": resources(end.reserved),
        },
        "replicas": { "before": before.tasks, "after": after.tasks, "end": end.tasks },
        "tight": one.tight,
    })
}

fn resources(resources: Resources) -> Value {
    json!(resources)
}

pub(super) fn why(picture: &Picture, why: &Why, task: Option<&TaskView>, taken: Wall) -> Value {
    let names = Names::of(picture);
    let mut value = why_shortly(picture, why);
    value["service"] = json!({ "id": why.service.to_string(), "name": why.service_name });
    value["taken"] = json!(rfc3339::from_wall(taken));
    value["asked"] = named(&names, picture.me);
    value["holders"] = why.holders.iter().map(|one| holding(&names, one)).collect();
    value["hosts"] = why.hosts.iter().map(|one| host_why(&names, one)).collect();
    value["task"] = task.map_or(Value::Null, |task| {
        json!({
            "id": task.id().to_string(),
            "state": task.state().name(),
            "since": rfc3339::from_wall(task.status.since),
            "node": task.node.map(|node| named(&names, node)),
            "error": task.status.error,
        })
    });
    value["caveats"] = json!(picture.caveats);
    value
}

/// One slot in one line.
pub(super) fn why_shortly(picture: &Picture, why: &Why) -> Value {
    let names = Names::of(picture);
    let holder = why.holders.first().filter(|holder| holder.live);
    let first = why.hosts.iter().find(|host| host.rank == Some(0));
    json!({
        "replica": replica(&names, &why.service_name, why.slot),
        "slot": slot_value(why.slot),
        "fate": why.fate.name(),
        "text": why.text,
        "to": why.fate.to().map(|node| named(&names, node)),
        "holder": holder.map(|holder| holding(&names, holder)),
        "first": first.map(|host| named(&names, host.node)),
    })
}

fn holding(names: &Names<'_>, one: &Holding) -> Value {
    json!({
        "node": named(names, one.node),
        "live": one.live,
        "epoch": one.epoch.0,
        "phase": phase_name(one.phase),
        "failures": one.failures,
        "task": one.task.to_string(),
        "created": rfc3339::from_wall(one.created),
        "since": rfc3339::from_wall(one.since),
        "error": one.error,
    })
}

fn host_why(names: &Names<'_>, one: &HostWhy) -> Value {
    let figures = one.figures.as_ref();
    let refused = matches!(figures.map(|f| &f.verdict), Some(placement::Verdict::Refused(_)));
    json!({
        "node": named(names, one.node),
        "zone": names.zone(one.node),
        "holds_it": one.holds_it,
        "rank": one.rank,
        "refused": refused,
        "reason": one.reason,
        "replicas": figures.map(|f| f.replicas),
        "zone_replicas": figures.map(|f| f.zone_replicas),
        "weight": figures.map(|f| f.weight),
        "tasks": figures.map(|f| f.tasks),
        "cpu_percent": figures.and_then(|f| f.cpu_percent),
        "memory_percent": figures.and_then(|f| f.memory_percent),
        "above_fair_share": figures.map(|f| f.above_fair_share),
        "race_place": figures.map(|f| f.race_place + 1),
    })
}
