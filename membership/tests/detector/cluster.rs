//! A cluster of detectors in virtual time: latency, loss, cuts, crashes, freezes, and reports that
//! spread by gossip. The same seed gives the same run.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use membership::detector::{Detector, EdgeReport, Jury, ProbeAction, Timing, Verdict};
use membership::id::{Incarnation, NodeId};
use membership::time::Instant;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

const GOSSIP_EVERY: u64 = 1_000;
const FANOUT: usize = 4;

/// What a node says of itself: its incarnation and its report.
#[derive(Clone, Debug)]
struct News {
    incarnation: Incarnation,
    seq: u64,
    report: Rc<EdgeReport>,
}

#[derive(Clone, Debug)]
enum Said {
    Ping(u64),
    Ack(u64),
    PingFor {
        seq: u64,
        target: usize,
    },
    IndirectAck {
        seq: u64,
        target: usize,
    },
    AskHost,
    HostRefuses,
    News(Rc<BTreeMap<usize, News>>),
    /// Everything the sender has heard; answered with what the receiver knows better.
    Gossip(Rc<BTreeMap<usize, News>>),
}

#[derive(Clone, Debug)]
enum Event {
    Wake(usize),
    Gossip(usize),
    Arrive { from: usize, to: usize, said: Said },
    Thaw(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Process {
    Runs,
    Frozen,
    /// The host answers, nobody listens.
    Gone,
    /// The host is off.
    Off,
}

struct Node {
    process: Process,
    detector: Detector,
    jury: Jury,
    members: BTreeMap<NodeId, Incarnation>,
    known: Rc<BTreeMap<usize, News>>,
    seq: u64,
    wake: u64,
    /// What waits in a frozen process's sockets.
    inbox: Vec<(usize, Said)>,
    seen: BTreeMap<NodeId, Verdict>,
    /// How long the loop takes to get round to anything.
    slowness: u64,
}

/// A verdict that a node arrived at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: u64,
    pub(crate) viewer: usize,
    pub(crate) target: usize,
    pub(crate) verdict: Verdict,
}

pub(crate) struct Cluster {
    pub(crate) now: u64,
    /// Messages lost, in 1000.
    pub(crate) loss: u32,
    pub(crate) log: Vec<Change>,
    timing: Timing,
    nodes: Vec<Node>,
    indexes: BTreeMap<NodeId, usize>,
    cut: BTreeSet<(usize, usize)>,
    queue: BTreeMap<(u64, u64), Event>,
    tie: u64,
    rng: ChaCha8Rng,
}

pub(crate) fn id(index: usize) -> NodeId {
    // Spread like real ids, which are hashes.
    NodeId((index as u128 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835))
}

fn version(known: &BTreeMap<usize, News>) -> u64 {
    known.values().map(|news| news.incarnation.0 + news.seq).sum()
}

impl Node {
    fn set_members(&mut self) {
        self.jury.set_members(&self.members);
        self.detector.follow(&mut self.jury);
    }
}

impl Cluster {
    /// A cluster that has been quiet for five seconds.
    pub(crate) fn new(size: usize, timing: Timing, seed: u64) -> Self {
        let members: BTreeMap<NodeId, Incarnation> =
            (0..size).map(|n| (id(n), Incarnation(1))).collect();
        let mut cluster = Self {
            now: 0,
            loss: 0,
            log: Vec::new(),
            timing,
            nodes: Vec::new(),
            indexes: (0..size).map(|n| (id(n), n)).collect(),
            cut: BTreeSet::new(),
            queue: BTreeMap::new(),
            tie: 0,
            rng: ChaCha8Rng::seed_from_u64(seed),
        };
        for n in 0..size {
            let mut detector = Detector::new(id(n), timing);
            let mut jury = Jury::new(Some(id(n)), &timing);
            jury.set_members(&members);
            detector.follow(&mut jury);
            cluster.nodes.push(Node {
                process: Process::Runs,
                detector,
                jury,
                members: members.clone(),
                known: Rc::default(),
                seq: 0,
                wake: 0,
                inbox: Vec::new(),
                seen: BTreeMap::new(),
                slowness: 0,
            });
            cluster.push(0, Event::Wake(n));
            let phase = cluster.rng.random_range(0..GOSSIP_EVERY);
            cluster.push(phase, Event::Gossip(n));
        }
        cluster.run_for(5_000);
        cluster.log.clear();
        cluster
    }

    pub(crate) fn size(&self) -> usize {
        self.nodes.len()
    }

    // Faults.

    pub(crate) fn crash(&mut self, n: usize) {
        self.nodes[n].process = Process::Off;
    }

    pub(crate) fn kill_process(&mut self, n: usize) {
        self.nodes[n].process = Process::Gone;
    }

    pub(crate) fn start_process(&mut self, n: usize) {
        let incarnation = Incarnation(self.incarnation(n).0 + 1);
        let node = &mut self.nodes[n];
        node.members.insert(id(n), incarnation);
        node.process = Process::Runs;
        node.detector = Detector::new(id(n), self.timing);
        node.jury = Jury::new(Some(id(n)), &self.timing);
        node.set_members();
        node.known = Rc::default();
        node.seen.clear();
        node.wake = self.now;
        self.push(self.now, Event::Wake(n));
        self.push(self.now, Event::Gossip(n));
    }

    pub(crate) fn freeze(&mut self, n: usize, millis: u64) {
        self.nodes[n].process = Process::Frozen;
        self.push(self.now + millis, Event::Thaw(n));
    }

    pub(crate) fn slow_down(&mut self, n: usize, slowness: u64) {
        self.nodes[n].slowness = slowness;
    }

    pub(crate) fn cut_one_way(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Nothing passes between the nodes below `first` and the others.
    pub(crate) fn partition(&mut self, first: usize) {
        for a in 0..first {
            for b in first..self.size() {
                self.cut.extend([(a, b), (b, a)]);
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
    }

    // What can be seen.

    pub(crate) fn incarnation(&self, n: usize) -> Incarnation {
        self.nodes[n].members[&id(n)]
    }

    /// How often node `n` saw node `of` come back.
    pub(crate) fn flaps(&self, n: usize, of: usize) -> usize {
        self.nodes[n].jury.flaps(id(of), &self.timing, self.now())
    }

    pub(crate) fn detector(&self, n: usize) -> &Detector {
        &self.nodes[n].detector
    }

    pub(crate) fn verdict(&self, viewer: usize, target: usize) -> Verdict {
        self.nodes[viewer].seen[&id(target)]
    }

    /// The members that `viewer` holds for down.
    pub(crate) fn down(&self, viewer: usize) -> Vec<usize> {
        (0..self.size()).filter(|t| self.verdict(viewer, *t) == Verdict::Down).collect()
    }

    pub(crate) fn now(&self) -> Instant {
        Instant(self.now)
    }

    // Time.

    pub(crate) fn run_for(&mut self, millis: u64) {
        self.run_until(millis, |_| false);
    }

    /// Runs until `done`, looked at after every event; false if that did not happen within `millis`.
    pub(crate) fn run_until(&mut self, millis: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + millis;
        while let Some(entry) = self.queue.first_entry() {
            let (at, _) = *entry.key();
            if at > end {
                break;
            }
            let event = entry.remove();
            self.now = at;
            let before = self.log.len();
            self.handle(event);
            if self.log.len() > before && done(self) {
                return true;
            }
        }
        self.now = end;
        done(self)
    }

    fn push(&mut self, at: u64, event: Event) {
        self.tie += 1;
        self.queue.insert((at, self.tie), event);
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(n) => {
                let node = &self.nodes[n];
                if node.process == Process::Runs && node.wake == self.now {
                    self.tick(n);
                    self.settle(n);
                }
            }
            Event::Gossip(n) => {
                if self.nodes[n].process != Process::Off && self.nodes[n].process != Process::Gone {
                    self.push(self.now + GOSSIP_EVERY, Event::Gossip(n));
                }
                if self.nodes[n].process == Process::Runs && self.size() > 1 {
                    let all = self.nodes[n].known.clone();
                    for peer in self.others(n) {
                        self.send(n, peer, Said::Gossip(all.clone()));
                    }
                }
            }
            Event::Thaw(n) => {
                if self.nodes[n].process == Process::Frozen {
                    self.nodes[n].process = Process::Runs;
                    self.tick(n);
                    for (from, said) in std::mem::take(&mut self.nodes[n].inbox) {
                        self.hear(n, from, said);
                    }
                    self.settle(n);
                }
            }
            Event::Arrive { from, to, said } => match self.nodes[to].process {
                Process::Off => {}
                Process::Gone => {
                    if matches!(said, Said::AskHost) {
                        self.send(to, from, Said::HostRefuses);
                    }
                }
                // A socket's buffer is finite too.
                Process::Frozen if self.nodes[to].inbox.len() < 1_000 => {
                    self.nodes[to].inbox.push((from, said));
                }
                Process::Frozen => {}
                Process::Runs => {
                    let is_ping = matches!(said, Said::Ping(_));
                    self.hear(to, from, said);
                    if !is_ping {
                        self.settle(to);
                    }
                }
            },
        }
    }

    /// A few different others, whatever is known about them.
    fn others(&mut self, n: usize) -> BTreeSet<usize> {
        let mut others = BTreeSet::new();
        while others.len() < FANOUT.min(self.size() - 1) {
            let peer = self.rng.random_range(0..self.size());
            if peer != n {
                others.insert(peer);
            }
        }
        others
    }

    fn send(&mut self, from: usize, to: usize, said: Said) {
        let lost = self.rng.random_range(0..1000) < self.loss;
        if !lost && !self.cut.contains(&(from, to)) {
            let at = self.now + self.nodes[to].slowness + self.rng.random_range(1..4);
            self.push(at, Event::Arrive { from, to, said });
        }
    }

    fn index(&self, node: NodeId) -> usize {
        self.indexes[&node]
    }

    fn tick(&mut self, n: usize) {
        let now = self.now();
        let node = &mut self.nodes[n];
        for action in node.detector.tick(&mut node.jury, now, &mut self.rng) {
            self.perform(n, action);
        }
    }

    fn perform(&mut self, n: usize, action: ProbeAction) {
        let (to, said) = match action {
            ProbeAction::Ping { to, seq } => (to, Said::Ping(seq)),
            ProbeAction::PingFor { helper, seq, target } => {
                (helper, Said::PingFor { seq, target: self.index(target) })
            }
            ProbeAction::IndirectAck { to, seq, target } => {
                (to, Said::IndirectAck { seq, target: self.index(target) })
            }
            ProbeAction::AskHost { target } => (target, Said::AskHost),
        };
        let to = self.index(to);
        self.send(n, to, said);
    }

    fn hear(&mut self, n: usize, from: usize, said: Said) {
        let now = self.now();
        let Node { detector, jury, .. } = &mut self.nodes[n];
        let action = match said {
            Said::Ping(seq) => return self.send(n, from, Said::Ack(seq)),
            Said::Ack(seq) => detector.on_ack(jury, id(from), seq, now),
            Said::PingFor { seq, target } => {
                detector.on_ping_for(jury, id(from), seq, id(target), now)
            }
            Said::IndirectAck { seq, target } => {
                detector.on_indirect_ack(jury, id(target), seq, now);
                None
            }
            Said::AskHost => None,
            Said::HostRefuses => {
                detector.on_host_answer(jury, id(from), true, now);
                None
            }
            Said::News(all) => {
                self.learn(n, &all);
                None
            }
            Said::Gossip(all) => {
                self.learn(n, &all);
                if self.nodes[n].known.len() == all.len()
                    && version(&self.nodes[n].known) == version(&all)
                {
                    return;
                }
                let mut better = BTreeMap::clone(&self.nodes[n].known);
                better.retain(|owner, ours| {
                    all.get(owner)
                        .is_none_or(|t| (t.incarnation, t.seq) < (ours.incarnation, ours.seq))
                });
                if !better.is_empty() {
                    self.send(n, from, Said::News(Rc::new(better)));
                }
                None
            }
        };
        if let Some(action) = action {
            self.perform(n, action);
        }
    }

    /// Takes in what is new and passes that on.
    fn learn(&mut self, n: usize, all: &BTreeMap<usize, News>) {
        let node = &mut self.nodes[n];
        let mut fresh = BTreeMap::new();
        for (owner, news) in all.iter().filter(|(owner, _)| **owner != n) {
            let held = node.known.get(owner).map(|held| (held.incarnation, held.seq));
            if held.is_some_and(|held| held >= (news.incarnation, news.seq)) {
                continue;
            }
            Rc::make_mut(&mut node.known).insert(*owner, news.clone());
            fresh.insert(*owner, news.clone());
            let incarnation = node.members.entry(id(*owner)).or_default();
            *incarnation = news.incarnation.max(*incarnation);
        }
        if !fresh.is_empty() {
            node.set_members();
            for (owner, news) in &fresh {
                let report = EdgeReport::clone(&news.report);
                node.jury.on_report(id(*owner), news.incarnation, report);
            }
            self.spread(n, fresh);
        }
    }

    fn spread(&mut self, n: usize, news: BTreeMap<usize, News>) {
        let news = Rc::new(news);
        for peer in self.others(n) {
            self.send(n, peer, Said::News(news.clone()));
        }
    }

    /// What a driver does after everything it fed: note verdicts, refute, publish, set the timer.
    fn settle(&mut self, n: usize) {
        let now = self.now();
        let node = &mut self.nodes[n];
        node.jury.judge(now);
        let verdicts = node.jury.verdicts();
        if *verdicts != node.seen {
            for (target, verdict) in verdicts {
                if node.seen.get(target).copied().unwrap_or(Verdict::Up) != *verdict {
                    self.log.push(Change {
                        at: self.now,
                        viewer: n,
                        target: self.indexes[target],
                        verdict: *verdict,
                    });
                }
            }
            node.seen.clone_from(verdicts);
        }
        let refute = node.detector.refute_needed();
        if refute {
            let incarnation = node.members.get_mut(&id(n)).expect("itself");
            incarnation.0 += 1;
            node.set_members();
        }
        let report = node.detector.take_changed_report();
        if refute || report.is_some() {
            node.seq += 1;
            let news = News {
                incarnation: node.members[&id(n)],
                seq: node.seq,
                report: Rc::new(node.detector.report().clone()),
            };
            Rc::make_mut(&mut node.known).insert(n, news.clone());
            if self.size() > 1 {
                self.spread(n, BTreeMap::from([(n, news)]));
            }
        }
        let node = &mut self.nodes[n];
        let wake = node.detector.next_wake().0.max(self.now) + node.slowness;
        if wake != node.wake && wake < u64::MAX / 2 {
            // A slow loop gets round to it when it gets round to it, and not later for being asked.
            let pending = node.wake > self.now && node.slowness > 0;
            if !pending {
                node.wake = wake;
                self.push(wake, Event::Wake(n));
            }
        }
    }
}
