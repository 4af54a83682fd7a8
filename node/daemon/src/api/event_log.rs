//! Shoal's part of `docker events`: the core's notices in Docker's words, and the last few of them.
//!
//! A client that asks for `since` is shown what is still remembered on this node. Nothing is promised
//! beyond that: events are news, the lists are the truth.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use membership::time::Wall;
use node::io::{AssetChange, NetworkChange, NodeChange, Notice, ServiceChange};
use serde_json::{Map, Value, json};
use tokio::sync::broadcast;

use super::backend::Backend;
use super::node_json;

/// How many events are remembered, as dockerd does. The oldest goes first.
const REMEMBERED: usize = 256;
/// How many a slow reader may lag behind before it loses the oldest.
const READ_AHEAD: usize = 256;

/// One event, ready to be sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    /// Unix nanoseconds by this node's clock.
    pub(super) at: i64,
    pub(super) body: Value,
}

#[derive(Debug)]
pub(super) struct EventLog {
    recent: Mutex<VecDeque<Arc<Event>>>,
    news: broadcast::Sender<Arc<Event>>,
}

impl EventLog {
    pub(super) fn new() -> Self {
        Self {
            recent: Mutex::new(VecDeque::with_capacity(REMEMBERED)),
            news: broadcast::channel(READ_AHEAD).0,
        }
    }

    /// What is remembered, and what comes after it: nothing is lost or doubled between the two.
    pub(super) fn replay_and_follow(&self) -> (Vec<Arc<Event>>, broadcast::Receiver<Arc<Event>>) {
        match self.recent.lock() {
            Ok(recent) => (recent.iter().cloned().collect(), self.news.subscribe()),
            Err(_) => (Vec::new(), self.news.subscribe()),
        }
    }

    fn add(&self, event: Event) {
        let event = Arc::new(event);
        let Ok(mut recent) = self.recent.lock() else { return };
        if recent.len() == REMEMBERED {
            recent.pop_front();
        }
        recent.push_back(Arc::clone(&event));
        // Nobody listening is fine.
        let _ = self.news.send(event);
    }

    /// Turns notices into events until the node ends.
    pub(super) async fn listen(&self, backend: &dyn Backend) {
        let mut notices = backend.notices();
        loop {
            match notices.recv().await {
                Ok(notice) => {
                    if let Some(event) = event_of(&notice, now_nanos()) {
                        self.add(event);
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    }
}

pub(super) fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

pub(super) fn now_wall() -> Wall {
    Wall(u64::try_from(now_nanos() / 1_000_000).unwrap_or_default())
}

/// The event of a notice that has one in Docker. Tasks, conflicts and warnings have none.
fn event_of(notice: &Notice, at: i64) -> Option<Event> {
    let mut attributes = Map::new();
    let mut put = |key: &str, value: &str| {
        attributes.insert(key.to_owned(), json!(value));
    };
    let (kind, action, id) = match notice {
        // Draining is no state in Docker, but what an operator set.
        Notice::Member { from: Some(from), to, .. }
            if node_json::state(*from) == node_json::state(*to) =>
        {
            return None;
        }
        Notice::Member { id, name, from, to, .. } => {
            put("name", name);
            if let Some(from) = from {
                put("state.old", node_json::state(*from));
                put("state.new", node_json::state(*to));
            }
            ("node", if from.is_some() { "update" } else { "create" }, id.to_string())
        }
        Notice::Node { id, name, what } => {
            put("name", name);
            let action = match what {
                NodeChange::Removed => "remove",
                NodeChange::Updated { availability, role } => {
                    if let Some((old, new)) = availability {
                        put("availability.old", node_json::availability(*old));
                        put("availability.new", node_json::availability(*new));
                    }
                    if let Some((old, new)) = role {
                        put("role.old", old);
                        put("role.new", new);
                    }
                    "update"
                }
            };
            ("node", action, id.to_string())
        }
        Notice::Service { id, name, what } => {
            put("name", name);
            let action = match what {
                ServiceChange::Created => "create",
                ServiceChange::Removed => "remove",
                ServiceChange::Updated => "update",
                ServiceChange::Scaled { from, to } => {
                    put("replicas.old", &from.to_string());
                    put("replicas.new", &to.to_string());
                    "update"
                }
                ServiceChange::Rollout { from, to } => {
                    if !from.is_empty() {
                        put("updatestate.old", from);
                    }
                    put("updatestate.new", to);
                    "update"
                }
            };
            ("service", action, id.to_string())
        }
        Notice::Asset { kind, id, name, what } => {
            put("name", name);
            let action = match what {
                AssetChange::Created => "create",
                AssetChange::Updated => "update",
                AssetChange::Removed => "remove",
            };
            (kind.name(), action, id.to_string())
        }
        Notice::Network { id, name, what } => {
            put("name", name);
            put("type", "overlay");
            let action = match what {
                NetworkChange::Created => "create",
                NetworkChange::Removed => "remove",
            };
            ("network", action, id.to_string())
        }
        Notice::Task { .. }
        | Notice::Conflict { .. }
        | Notice::Warning { .. }
        | Notice::HoldingBack { .. } => return None,
    };
    let body = json!({
        "Type": kind,
        "Action": action,
        "Actor": { "ID": id, "Attributes": attributes },
        "scope": "swarm",
        "time": at / 1_000_000_000,
        "timeNano": at,
    });
    Some(Event { at, body })
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::id::{NodeId, ServiceId};
    use membership::member::MemberState;
    use node::views::Availability;

    #[test]
    fn a_scale_is_one_update_with_both_numbers() {
        let notice = Notice::Service {
            id: ServiceId(7),
            name: "web".to_owned(),
            what: ServiceChange::Scaled { from: 2, to: 5 },
        };
        let event = event_of(&notice, 1_500_000_000_000_000_001).unwrap();
        assert_eq!(
            event.body,
            json!({
                "Type": "service", "Action": "update",
                "Actor": {
                    "ID": "0000000000000000000000007",
                    "Attributes": {"name": "web", "replicas.old": "2", "replicas.new": "5"},
                },
                "scope": "swarm", "time": 1_500_000_000, "timeNano": 1_500_000_000_000_000_001_i64,
            })
        );
    }

    #[test]
    fn a_node_that_goes_down_says_so_in_dockers_states() {
        let notice = Notice::Member {
            id: NodeId(1),
            name: "a".to_owned(),
            from: Some(MemberState::Alive),
            to: MemberState::Down,
            reason: "gone".to_owned(),
        };
        let body = event_of(&notice, 0).unwrap().body;
        assert_eq!(body["Actor"]["Attributes"]["state.new"], "down");
    }

    #[test]
    fn what_an_operator_sets_on_a_node_is_an_update() {
        let availability = Some((Availability::Active, Availability::Drain));
        let what = NodeChange::Updated { availability, role: None };
        let notice = Notice::Node { id: NodeId(1), name: "a".to_owned(), what };
        let body = event_of(&notice, 0).unwrap().body;
        assert_eq!((&body["Type"], &body["Action"]), (&json!("node"), &json!("update")));
        let said = json!({"name": "a", "availability.old": "active", "availability.new": "drain"});
        assert_eq!(body["Actor"]["Attributes"], said);
    }

    #[test]
    fn only_the_last_are_remembered() {
        let log = EventLog::new();
        for at in 0..300 {
            log.add(Event { at, body: json!({}) });
        }
        let (recent, _) = log.replay_and_follow();
        assert_eq!(recent.len(), REMEMBERED);
        assert_eq!(recent.first().map(|e| e.at), Some(44));
    }
}
