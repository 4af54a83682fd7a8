//! How inputs, actions and observations are written in the trace: one short line each, ids by their
//! first letters, so that a failing seed can be read.

use std::fmt;

use membership::id::TaskId;
use membership::record::Record;
use node::io::{Input, Notice};
use node::runtime::{ActionResult, Found, RuntimeAction, RuntimeEvent};
use node::slot::{Place, Slot};

/// The first letters of an id: enough to tell the few of a run apart.
fn first(id: impl fmt::Display) -> String {
    id.to_string().chars().take(6).collect()
}

#[derive(Debug)]
pub struct ShortPlace(pub Place);

impl fmt::Display for ShortPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", first(self.0.service))?;
        match self.0.slot {
            Slot::Index(index) => write!(f, "{index}"),
            Slot::Node(node) => f.write_str(&first(node)),
        }
    }
}

#[derive(Debug)]
pub struct ShortTask(pub TaskId);

impl fmt::Display for ShortTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&first(self.0))
    }
}

#[derive(Debug)]
pub struct ShortFound<'a>(pub &'a Found);

impl fmt::Display for ShortFound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.0;
        let place = ShortPlace(Place { service: found.service, slot: found.slot });
        write!(f, "{place}/{} epoch {} {:?}", ShortTask(found.task), found.epoch.0, found.state)
    }
}

#[derive(Debug)]
pub struct ShortInput<'a>(pub &'a Input);

impl fmt::Display for ShortInput<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Input::Runtime(RuntimeEvent::Container(found)) => {
                write!(f, "container {}", ShortFound(found))
            }
            Input::Runtime(RuntimeEvent::Removed { task, .. }) => {
                write!(f, "removed {}", ShortTask(*task))
            }
            Input::Done { id, result } => {
                write!(f, "done {} ", id.0)?;
                match result {
                    ActionResult::Started(found) => write!(f, "started {}", ShortFound(found)),
                    ActionResult::Listed(all) => {
                        f.write_str("listed")?;
                        all.iter().try_for_each(|found| write!(f, " [{}]", ShortFound(found)))
                    }
                    other => write!(f, "{other:?}"),
                }
            }
            Input::Connected { peer, .. } => write!(f, "connected {}", first(peer)),
            Input::Disconnected { peer } => write!(f, "disconnected {}", first(peer)),
            Input::Command { id, command } => write!(f, "command {} {command:?}", id.0),
            other => write!(f, "{other:?}"),
        }
    }
}

#[derive(Debug)]
pub struct ShortAction<'a>(pub &'a RuntimeAction);

impl fmt::Display for ShortAction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            RuntimeAction::Start(start) => {
                let place = ShortPlace(Place { service: start.service, slot: start.slot });
                write!(
                    f,
                    "start {place}/{} epoch {} template {}",
                    ShortTask(start.task),
                    start.epoch.0,
                    start.template
                )
            }
            RuntimeAction::Networks { wanted } => {
                let wanted = wanted.iter().flatten().map(|network| network.name.as_str());
                write!(f, "networks {}", wanted.collect::<Vec<_>>().join(","))
            }
            RuntimeAction::Refresh { task, container, .. } => {
                write!(f, "refresh {} {container}", ShortTask(*task))
            }
            RuntimeAction::Prepare { task, .. } => write!(f, "prepare {}", ShortTask(*task)),
            RuntimeAction::Stop { task, container, .. } => {
                write!(f, "stop {} {container}", ShortTask(*task))
            }
            RuntimeAction::Remove { task, container } => {
                write!(f, "remove {} {container}", ShortTask(*task))
            }
            RuntimeAction::List => f.write_str("list"),
        }
    }
}

#[derive(Debug)]
pub struct ShortNotice<'a>(pub &'a Notice);

impl fmt::Display for ShortNotice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Notice::Member { name, from, to, reason, .. } => {
                write!(f, "member {name} {from:?} -> {to:?} {reason}")
            }
            Notice::Task { service, slot, task, state, text, .. } => {
                let place = ShortPlace(Place { service: *service, slot: *slot });
                write!(f, "task {place}/{} {state:?} {text}", ShortTask(*task))
            }
            other => write!(f, "{other:?}"),
        }
    }
}

#[derive(Debug)]
pub struct ShortRecords<'a>(pub &'a [Record]);

impl fmt::Display for ShortRecords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|record| {
            let id = first(membership::id::ServiceId(record.key.id));
            let gone = if record.is_tombstone() { " gone" } else { "" };
            let (stamp, writer) = (record.stamp, first(record.writer));
            write!(
                f,
                "[{:?} {id} {}.{} by {writer}{gone}]",
                record.key.kind,
                stamp.ms % 10_000_000,
                stamp.counter
            )
        })
    }
}
