//! Which containers are ours, read from and written to their labels.
//!
//! A container is touched only if it carries this node's id and this cluster's id. The rest of what
//! the core wants to know of it after a restart (slot, epoch, template, ...) is in labels, too, so
//! that a node that lost its disk still knows what it runs.

use std::collections::BTreeMap;

use membership::id::ID_CHARS;
use membership::time::Wall;
use node::runtime::{ContainerState, Found, StartTask, label};
use node::slot::{Epoch, PortStatus, Slot, TemplateId};

use super::Owner;

/// Why a container that claims to be ours is left alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotOurs {
    #[error("its label {0} is missing")]
    Missing(&'static str),
    #[error("its label {label} is '{value}', which is not {wanted}")]
    Garbled { label: &'static str, value: String, wanted: &'static str },
    #[error("its label {0} names another owner")]
    Foreign(&'static str),
}

/// All labels for a new container: those asked for, and over them ours, so that nothing in a spec can
/// make a container look like somebody else's.
pub(super) fn labels(owner: Owner, start: &StartTask) -> BTreeMap<String, String> {
    let mut labels = start.labels.clone();
    let ours = [
        (label::NODE, owner.node.to_string()),
        (label::CLUSTER, owner.cluster.to_string()),
        (label::SLOT, start.slot.to_string()),
        (label::EPOCH, start.epoch.0.to_string()),
        (label::TEMPLATE, start.template.to_string()),
        (label::CREATED, start.created.0.to_string()),
        (label::SWARM_NODE_ID, owner.node.to_string()),
        (label::SWARM_SERVICE_ID, start.service.to_string()),
        (label::SWARM_SERVICE_NAME, start.service_name.clone()),
        (label::SWARM_TASK_ID, start.task.to_string()),
    ];
    labels.extend(ours.map(|(name, value)| (name.to_owned(), value)));
    labels.entry(label::SWARM_TASK.to_owned()).or_default();
    labels.entry(label::SWARM_TASK_NAME.to_owned()).or_insert_with(|| start.name.clone());
    labels
}

/// What the labels say of a container; its state, pid and ports come from the engine.
///
/// # Errors
/// [`NotOurs`] when the container is another node's, or when its labels are not all there: then
/// nobody can say which slot it fills, and it is left alone.
pub(super) fn read(
    owner: Owner,
    container: &str,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Found, NotOurs> {
    let required = |name: &'static str| get(name).ok_or(NotOurs::Missing(name));
    if required(label::NODE)? != owner.node.to_string() {
        return Err(NotOurs::Foreign(label::NODE));
    }
    if required(label::CLUSTER)? != owner.cluster.to_string() {
        return Err(NotOurs::Foreign(label::CLUSTER));
    }
    fn parsed<T>(
        name: &'static str,
        value: String,
        wanted: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, NotOurs> {
        parse(&value).ok_or(NotOurs::Garbled { label: name, value, wanted })
    }
    let text = |name| required(name);
    Ok(Found {
        container: container.to_owned(),
        task: parsed(label::SWARM_TASK_ID, text(label::SWARM_TASK_ID)?, "an id", |t| {
            t.parse().ok()
        })?,
        service: parsed(label::SWARM_SERVICE_ID, text(label::SWARM_SERVICE_ID)?, "an id", |t| {
            t.parse().ok()
        })?,
        service_name: text(label::SWARM_SERVICE_NAME)?,
        slot: parsed(label::SLOT, text(label::SLOT)?, "a slot number or a node id", parse_slot)?,
        epoch: parsed(label::EPOCH, text(label::EPOCH)?, "a number", |t| {
            t.parse().ok().map(Epoch)
        })?,
        template: parsed(label::TEMPLATE, text(label::TEMPLATE)?, "16 hexadecimal digits", |t| {
            u64::from_str_radix(t, 16).ok().map(TemplateId)
        })?,
        created: parsed(label::CREATED, text(label::CREATED)?, "a time in milliseconds", |t| {
            t.parse().ok().map(Wall)
        })?,
        state: ContainerState::Created,
        started: None,
        stopping: false,
        pid: None,
        ports: Vec::<PortStatus>::new(),
        addresses: match get(label::ADDRESSES) {
            None => Vec::new(),
            Some(text) => parsed(label::ADDRESSES, text, "a list of addresses", label::addresses)?,
        },
    })
}

// A node id is told from a slot number by its length: one that begins with zeros is all digits, too.
fn parse_slot(text: &str) -> Option<Slot> {
    if text.len() == ID_CHARS {
        text.parse().map(Slot::Node).ok()
    } else {
        text.parse().map(Slot::Index).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use membership::id::{ClusterId, NodeId, ServiceId, TaskId};

    use super::*;

    const OWNER: Owner = Owner { cluster: ClusterId(7), node: NodeId(8) };

    fn start(slot: Slot) -> StartTask {
        StartTask {
            task: TaskId(1),
            service: ServiceId(2),
            service_name: "web".into(),
            slot,
            epoch: Epoch(u64::MAX),
            template: TemplateId(0xabc),
            created: Wall(1_700_000_000_123),
            name: "web.1.x".into(),
            labels: [(label::NODE.to_owned(), "forged".to_owned()), ("a".into(), "b".into())]
                .into(),
            template_json: Arc::new(serde_json::json!({})),
            registry_auth: None,
            ports: Vec::new(),
            files: Arc::default(),
            networks: Vec::new(),
            name_servers: Vec::new(),
        }
    }

    #[test]
    fn what_is_written_is_read_back_and_cannot_be_forged_by_a_spec() {
        for slot in [Slot::Index(3), Slot::Node(NodeId(u128::MAX)), Slot::Node(NodeId(5))] {
            let start = start(slot);
            let labels = labels(OWNER, &start);
            let found = read(OWNER, "c", |name| labels.get(name).cloned()).unwrap();
            assert_eq!((found.task, found.service, found.slot), (start.task, start.service, slot));
            assert_eq!((found.epoch, found.template), (start.epoch, start.template));
            assert_eq!((found.created, found.service_name.as_str()), (start.created, "web"));
            assert_eq!(labels["a"], "b");
            assert_eq!(labels[label::SWARM_TASK_NAME], "web.1.x");
        }
    }

    #[test]
    fn another_owner_and_garbled_labels_are_told_apart_and_left_alone() {
        let labels = labels(OWNER, &start(Slot::Index(1)));
        let other = Owner { node: NodeId(9), ..OWNER };
        assert_eq!(
            read(other, "c", |n| labels.get(n).cloned()),
            Err(NotOurs::Foreign(label::NODE))
        );
        let other = Owner { cluster: ClusterId(9), ..OWNER };
        assert_eq!(
            read(other, "c", |n| labels.get(n).cloned()),
            Err(NotOurs::Foreign(label::CLUSTER))
        );
        for broken in [label::SLOT, label::EPOCH, label::TEMPLATE, label::CREATED] {
            let without = read(OWNER, "c", |n| labels.get(n).filter(|_| n != broken).cloned());
            assert_eq!(without, Err(NotOurs::Missing(broken)));
            let garbled = read(OWNER, "c", |n| {
                if n == broken { Some("no such".into()) } else { labels.get(n).cloned() }
            });
            assert!(matches!(garbled, Err(NotOurs::Garbled { label, .. }) if label == broken));
        }
    }
}
