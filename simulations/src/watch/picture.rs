//! What the live picture shows of a moment: plain data, taken from the run once a virtual second.

use membership::member::MemberState;

use crate::history::{MarkKind, State};
use crate::run::Run;
use crate::time::At;

/// Faults, commands and verdicts that are listed.
const NEWS: usize = 40;
/// Seconds of replicas that the curve shows.
const CURVE: usize = 240;

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) replicas: usize,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Fault,
    Command,
    Heal,
    Verdict,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Picture {
    pub(super) title: String,
    pub(super) now: At,
    pub(super) hosts: Vec<Cell>,
    pub(super) wanted: u64,
    pub(super) ready: u64,
    pub(super) copies: u64,
    pub(super) starts: u64,
    pub(super) stops: u64,
    pub(super) violations: u64,
    /// Slots served, second by second, newest last.
    pub(super) curve: Vec<u64>,
    /// Newest last.
    pub(super) news: Vec<(At, Tone, String)>,
    marks_seen: usize,
    verdicts_seen: usize,
}

impl Picture {
    pub(super) fn new(title: &str) -> Self {
        Self { title: title.to_owned(), ..Self::default() }
    }

    pub(super) fn look(&mut self, run: &Run) {
        let ready = &run.checks.picture.ready;
        self.now = run.world.now;
        self.wanted = run.figures.latest.0;
        self.ready = ready.len() as u64;
        self.copies = ready.values().map(|tasks| tasks.len() as u64 - 1).sum();
        (self.starts, self.stops) = (run.figures.starts, run.figures.stops);
        self.violations = run.checks.found.count();
        let cell = |host: &crate::host::Host| Cell {
            name: host.spec.name.clone(),
            state: State::of(run, host),
            replicas: host.ready(),
        };
        self.hosts = run.world.hosts.iter().map(cell).collect();
        self.curve.push(self.ready);
        if self.curve.len() > CURVE {
            self.curve.remove(0);
        }
        self.marks(run);
        self.verdicts(run);
        let old = self.news.len().saturating_sub(NEWS);
        self.news.drain(..old);
    }

    fn marks(&mut self, run: &Run) {
        for mark in &run.figures.marks[self.marks_seen.min(run.figures.marks.len())..] {
            let tone = match mark.kind {
                MarkKind::Fault => Tone::Fault,
                MarkKind::Heal => Tone::Heal,
                MarkKind::Command | MarkKind::Note => Tone::Command,
            };
            self.news.push((mark.at, tone, mark.text.clone()));
        }
        self.marks_seen = run.figures.marks.len();
    }

    /// Verdicts of one second about one member make one line, with the number of those who agree.
    fn verdicts(&mut self, run: &Run) {
        let verdicts = &run.figures.verdicts;
        let mut lines: Vec<(At, membership::id::NodeId, MemberState, usize)> = Vec::new();
        for (at, about, to) in &verdicts[self.verdicts_seen.min(verdicts.len())..] {
            let same = |line: &&mut (At, _, MemberState, usize)| line.1 == *about && line.2 == *to;
            match lines.iter_mut().find(same) {
                Some(line) => line.3 += 1,
                None => lines.push((*at, *about, *to, 1)),
            }
        }
        self.verdicts_seen = verdicts.len();
        for (at, about, to, agree) in lines {
            let host =
                run.world.host_of(about).map(|host| run.world.hosts[host.i()].spec.name.as_str());
            let word = format!("{to:?}").to_lowercase();
            let text = format!("{agree} say that {} is {word}", host.unwrap_or("a node"));
            self.news.push((at, Tone::Verdict, text));
        }
    }

    /// `2:05` since the run began.
    pub(super) fn clock(at: At) -> String {
        let seconds = at.since(At::ZERO).as_ms() / 1000;
        if seconds < 3600 {
            format!("{}:{:02}", seconds / 60, seconds % 60)
        } else {
            format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
        }
    }
}
