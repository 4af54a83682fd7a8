//! What a run looked like from second to second, kept for the report: replicas, hosts, and the marks of
//! what was done to them.

use std::cell::RefCell;
use std::rc::Rc;

use crate::host::Host;
use crate::links::HostIx;
use crate::run::{Run, Watcher};
use crate::time::At;

/// What kind of thing a mark on the time axis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkKind {
    Fault,
    Command,
    Heal,
    Note,
}

/// Something that was done to the cluster, and until when it lasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    pub at: At,
    pub until: Option<At>,
    pub kind: MarkKind,
    pub text: String,
    pub hosts: Vec<HostIx>,
}

impl Mark {
    /// The first word of its text: what was done.
    pub fn what(&self) -> &str {
        self.text.split(' ').next().unwrap_or_default()
    }
}

/// What a host is to somebody who looks at it from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    Up,
    /// Not there yet.
    Absent,
    Off,
    Frozen,
    /// shoal does not run.
    NoShoal,
    /// The engine does not answer.
    NoEngine,
    /// Its loop is slow.
    Slow,
    /// In a part of the network that is not the largest.
    CutOff,
}

impl State {
    pub const ALL: [Self; 8] = [
        Self::Up,
        Self::Absent,
        Self::Off,
        Self::Frozen,
        Self::NoShoal,
        Self::NoEngine,
        Self::Slow,
        Self::CutOff,
    ];

    pub fn of(run: &Run, host: &Host) -> Self {
        let part = &run.checks.picture;
        let largest = part.part_sizes.iter().max().copied().unwrap_or(0);
        let cut_off = part.part.get(&host.ix).is_some_and(|part_of| {
            let size = part.part_sizes.get(*part_of).copied().unwrap_or(0);
            let first = part.part_sizes.iter().position(|size| *size == largest);
            size < largest || first != Some(*part_of)
        });
        match &host.process {
            _ if !host.powered && host.boots.0 == 0 => Self::Absent,
            _ if !host.powered => Self::Off,
            None => Self::NoShoal,
            Some(process) if process.frozen => Self::Frozen,
            Some(_) if host.engine.mood() != crate::engine::Mood::Answers => Self::NoEngine,
            Some(_) if cut_off => Self::CutOff,
            Some(_) if host.slow.0 > 0 => Self::Slow,
            Some(_) => Self::Up,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Absent => "not there yet",
            Self::Off => "without power",
            Self::Frozen => "frozen",
            Self::NoShoal => "shoal is gone",
            Self::NoEngine => "engine is gone",
            Self::Slow => "slow",
            Self::CutOff => "cut off",
        }
    }
}

/// The cluster in one virtual second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    pub at: At,
    pub wanted: u64,
    /// Slots that are ready somewhere.
    pub ready: u64,
    /// Ready tasks beyond one for each slot.
    pub copies: u64,
    /// Starts and stops so far.
    pub starts: u64,
    pub stops: u64,
}

/// One host over time: only changes are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRow {
    pub name: String,
    pub zone: String,
    pub states: Vec<(At, State)>,
    pub replicas: Vec<(At, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    pub samples: Vec<Sample>,
    pub hosts: Vec<HostRow>,
}

/// Watches a run and keeps its history.
#[derive(Debug, Default)]
pub struct Recorder {
    history: Rc<RefCell<History>>,
}

impl Recorder {
    /// The recorder, and where its history will be.
    pub fn new() -> (Self, Rc<RefCell<History>>) {
        let recorder = Self::default();
        let history = Rc::clone(&recorder.history);
        (recorder, history)
    }
}

fn note<T: PartialEq>(row: &mut Vec<(At, T)>, at: At, now: T) {
    if row.last().is_none_or(|(_, before)| *before != now) {
        row.push((at, now));
    }
}

impl Watcher for Recorder {
    fn second(&mut self, run: &Run) {
        let at = run.world.now;
        let mut history = self.history.borrow_mut();
        let ready = &run.checks.picture.ready;
        history.samples.push(Sample {
            at,
            wanted: run.figures.latest.0,
            ready: ready.len() as u64,
            copies: ready.values().map(|tasks| tasks.len() as u64 - 1).sum(),
            starts: run.figures.starts,
            stops: run.figures.stops,
        });
        if history.hosts.is_empty() {
            let row = |host: &Host| HostRow {
                name: host.spec.name.clone(),
                zone: host.spec.zone.clone(),
                ..HostRow::default()
            };
            history.hosts = run.world.hosts.iter().map(row).collect();
        }
        for (row, host) in history.hosts.iter_mut().zip(&run.world.hosts) {
            note(&mut row.states, at, State::of(run, host));
            note(&mut row.replicas, at, host.ready() as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::service;
    use crate::script::{Script, h};

    #[test]
    fn a_crash_and_a_freeze_are_seen_and_changes_alone_are_kept() {
        let mut script = Script::of(5, 4);
        let (recorder, history) = Recorder::new();
        script.run.watch(Box::new(recorder));
        script.create(h(0), service("web", "sim/web", 8));
        script.wait_whole(60);
        script.pass(5);
        script.crash(h(3));
        script.freeze(h(2), true);
        script.pass(3);
        script.freeze(h(2), false);
        script.pass(60);
        let history = history.borrow();
        let states = |host: usize| -> Vec<State> {
            history.hosts[host].states.iter().map(|(_, state)| *state).collect()
        };
        assert_eq!(states(0), [State::Up]);
        assert_eq!(states(2), [State::Up, State::Frozen, State::Up]);
        assert_eq!(states(3), [State::Up, State::Off]);
        let lost = history.samples.iter().find(|sample| sample.wanted == 8 && sample.ready == 6);
        assert!(lost.is_some(), "two slots were not served for a while");
        assert_eq!(
            history.samples.last().map(|sample| (sample.wanted, sample.ready)),
            Some((8, 8))
        );
        assert!(history.hosts[3].replicas.ends_with(&[(history.hosts[3].states[1].0, 0)]));
    }
}
