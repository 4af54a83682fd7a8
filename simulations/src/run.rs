//! One run: hosts come up and operators work, faults strike, everything is healed, and then every slot
//! has to run exactly once and the cluster has to fall silent.

mod liveness;
mod suited;

use std::collections::{BTreeMap, BTreeSet};

use membership::member::Resources;
use node::command::{CommandError, Reply};

use crate::chance::{Chance, Stream};
use crate::checks::{Checks, Violation};
use crate::disk::DiskManner;
use crate::engine::EngineManner;
use crate::faults::{Mix, Undo, strike};
use crate::figures::{Balance, Figures};
use crate::gossip::Pace;
use crate::host::HostSpec;
use crate::links::{HostIx, Quality};
use crate::operators::{CommandNo, Operators};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::{Fidelity, Maker, Traffic, World, WorldSpec};

/// What the runner put into the queue for itself.
#[derive(Clone, Debug)]
enum Todo {
    Boot(HostIx),
    Second,
    Operator,
    Fault,
    Undo(Undo),
}

/// How a run is set up.
#[derive(Clone, Debug)]
pub struct RunSpec {
    pub seed: u64,
    pub hosts: Vec<HostSpec>,
    pub quality: Quality,
    pub engine: EngineManner,
    /// Clocks are off by up to this at the start, in milliseconds.
    pub clocks_off_ms: u64,
    pub most_services: usize,
    pub most_replicas: u64,
    pub gossip: Fidelity,
    pub tell: bool,
    /// Hosts that are not there yet: they start when somebody gives them power.
    pub absent: BTreeSet<HostIx>,
}

impl RunSpec {
    /// So many equal hosts, in no zone, with good clocks, on a good network.
    pub fn plain(seed: u64, hosts: usize) -> Self {
        let capacity = Resources { cpu_milli: 8_000, memory_bytes: 32 << 30 };
        let host = |n| HostSpec {
            name: format!("host-{n}"),
            zone: String::new(),
            labels: BTreeMap::new(),
            capacity,
        };
        Self {
            seed,
            hosts: (0..hosts).map(host).collect(),
            quality: Quality::default(),
            engine: EngineManner::default(),
            clocks_off_ms: 0,
            most_services: 5,
            most_replicas: 10,
            gossip: Fidelity::Modelled(Pace::default()),
            tell: false,
            absent: BTreeSet::new(),
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub seed: u64,
    pub trace: String,
    pub violations: Vec<Violation>,
    pub count: u64,
    pub figures: Figures,
    pub traffic: Traffic,
    pub hosts: usize,
    pub lasted: Span,
}

impl Outcome {
    /// The last line of a run.
    pub fn line(&self) -> String {
        format!("seed {} trace {} violations {}", self.seed, self.trace, self.count)
    }
}

#[derive(Debug)]
pub struct Run {
    pub world: World,
    pub checks: Checks,
    pub figures: Figures,
    pub operators: Operators,
    /// Answers to all commands, until somebody takes them.
    pub answers: BTreeMap<CommandNo, Result<Reply, CommandError>>,
    seed: u64,
    todo: BTreeMap<u64, Todo>,
    next_todo: u64,
    faults: Chance,
    mix: Option<Mix>,
    undone: bool,
    working: bool,
    watcher: Option<Box<dyn Watcher>>,
}

/// Looks at a run once in a virtual second, to draw it or to keep its history. It sees everything and
/// changes nothing.
pub trait Watcher: std::fmt::Debug {
    fn second(&mut self, run: &Run);
}

/// Between the first host's start and the last one's.
const BOOT_SPREAD: Span = Span::secs(3);

impl Run {
    pub fn new(spec: &RunSpec, maker: Maker) -> Self {
        let world = WorldSpec {
            seed: spec.seed,
            hosts: spec.hosts.clone(),
            quality: spec.quality,
            engine: spec.engine,
            gossip: spec.gossip,
            tell: spec.tell,
        };
        let mut chance = Chance::new(spec.seed, Stream::Workload);
        let operators = Chance::new(spec.seed, Stream::Operators);
        let mut run = Self {
            world: World::new(&world, maker),
            checks: Checks::default(),
            figures: Figures::default(),
            operators: Operators::new(operators, spec.most_services, spec.most_replicas),
            answers: BTreeMap::new(),
            seed: spec.seed,
            todo: BTreeMap::new(),
            next_todo: 0,
            faults: Chance::new(spec.seed, Stream::Faults),
            mix: None,
            undone: true,
            working: false,
            watcher: None,
        };
        for n in 0..spec.hosts.len() {
            let off = spec.clocks_off_ms;
            let host = &mut run.world.hosts[n];
            host.clock_off_ms = i64::try_from(chance.between(0, 2 * off)).unwrap_or(0)
                - i64::try_from(off).unwrap_or(0);
            let ix = host.ix;
            // The first host is up before the others: somebody has to be there to join.
            let at =
                if n == 0 { At::ZERO } else { At::ZERO + chance.span(Span::ms(50), BOOT_SPREAD) };
            if spec.absent.contains(&ix) {
                run.world.hosts[n].powered = false;
            } else {
                run.plan(at, Todo::Boot(ix));
            }
        }
        run.plan(At(1_000_000), Todo::Second);
        run
    }

    fn plan(&mut self, at: At, todo: Todo) {
        self.next_todo += 1;
        self.todo.insert(self.next_todo, todo);
        self.world.schedule(at, self.next_todo);
    }

    /// Lets somebody look at the run from now on.
    pub fn watch(&mut self, watcher: Box<dyn Watcher>) {
        self.watcher = Some(watcher);
    }

    /// Replicas that the first host which can be asked believes are wanted.
    fn wanted(&self) -> Option<u64> {
        let acting = self.world.hosts.iter().filter(|host| host.acts());
        let core = &acting.clone().next()?.process.as_ref()?.core;
        Some(core.services().iter().map(|service| service.desired).sum())
    }

    /// Lets operators do things from now on, or no more.
    pub fn operators_work(&mut self, working: bool) {
        if working && !self.working {
            self.plan(self.world.now + Span::secs(1), Todo::Operator);
        }
        self.working = working;
    }

    /// Lets faults of a mix strike from now on, or no more.
    pub fn faults_strike(&mut self, mix: Option<Mix>) {
        if mix.is_some() && self.mix.is_none() {
            self.plan(self.world.now + Span::ms(1), Todo::Fault);
        }
        self.mix = mix;
    }

    /// Runs up to a moment.
    pub fn until(&mut self, end: At) {
        while self.world.queue.next_at().is_some_and(|at| at <= end) {
            self.step();
        }
        self.world.now = end;
    }

    pub fn pass(&mut self, span: Span) {
        self.until(self.world.now + span);
    }

    /// Runs until a condition holds, looked at every half second. Gives how long it took.
    pub fn until_true(
        &mut self,
        limit: Span,
        mut holds: impl FnMut(&Self) -> bool,
    ) -> Option<Span> {
        let start = self.world.now;
        loop {
            if holds(self) {
                return Some(self.world.now.since(start));
            }
            if self.world.now.since(start) >= limit {
                return None;
            }
            self.pass(Span::ms(500));
        }
    }

    fn step(&mut self) {
        if let Some(number) = self.world.step()
            && let Some(todo) = self.todo.remove(&number)
        {
            self.act(todo);
        }
        self.observe();
    }

    fn observe(&mut self) {
        while !self.world.seen.is_empty() {
            for seen in std::mem::take(&mut self.world.seen) {
                self.checks.see(self.world.now, &seen);
                self.figures.see(self.world.now, &seen, &self.checks.picture);
            }
        }
        for replied in std::mem::take(&mut self.world.replies) {
            if let Some(service) = self.operators.hear(&replied) {
                let removed = Seen::Removed { service };
                self.checks.see(self.world.now, &removed);
                self.figures.see(self.world.now, &removed, &self.checks.picture);
            }
            self.answers.insert(replied.command, replied.result);
        }
    }

    /// Puts an observation of the runner's own into the stream.
    pub fn note(&mut self, seen: Seen) {
        self.world.seen.push(seen);
        self.observe();
    }

    fn act(&mut self, todo: Todo) {
        match todo {
            Todo::Boot(host) => self.world.start_process(host),
            Todo::Second => {
                self.checks.second(self.world.now);
                let wanted = self.wanted();
                self.figures.second(self.world.now, &self.checks.picture, wanted);
                if let Some(mut watcher) = self.watcher.take() {
                    watcher.second(self);
                    self.watcher = Some(watcher);
                }
                self.plan(self.world.now + Span::secs(1), Todo::Second);
            }
            Todo::Operator => {
                if self.working {
                    self.operators.do_something(&mut self.world);
                    let pause = self.faults.tailed(Span::ms(200), Span::secs(20));
                    self.plan(self.world.now + pause, Todo::Operator);
                }
            }
            Todo::Fault => self.fault(),
            Todo::Undo(undo) => {
                if !self.undone {
                    undo.apply(&mut self.world);
                    self.note(Seen::Disturbed);
                }
            }
        }
    }

    fn fault(&mut self) {
        let Some(mix) = self.mix.clone() else { return };
        if let Some(kind) = self.faults.pick(&mix.kinds).copied() {
            self.undone = false;
            self.figures.fault(format!("{kind:?}"));
            if let Some((after, undo)) = strike(kind, &mut self.world, &mut self.faults) {
                self.plan(self.world.now + after, Todo::Undo(undo));
            }
            self.note(Seen::Disturbed);
        }
        let pause = self.faults.tailed(mix.pause.0, mix.pause.1);
        self.plan(self.world.now + pause, Todo::Fault);
    }

    /// Ends all faults, brings everything back, and sends the operators home.
    pub fn heal(&mut self) {
        self.world.trace.note(self.world.now, true, format_args!("heal"));
        self.operators_work(false);
        self.faults_strike(None);
        self.undone = true;
        self.world.links.set_base(Quality::default());
        self.world.heal_links();
        for ix in self.world.hosts.iter().map(|host| host.ix).collect::<Vec<_>>() {
            self.heal_host(ix);
        }
        self.note(Seen::Healed);
        // What the last commands did may still be on its way to some nodes' disks: they look until there
        // has been nothing to do for a while.
        let mut clean = 0;
        for _ in 0..20 {
            self.pass(Span::secs(5));
            let acting = self.world.hosts.iter().filter(|host| host.acts()).map(|host| host.ix);
            let acting: Vec<HostIx> = acting.collect();
            let busy = acting.into_iter().any(|host| self.operators.tidy_up(&mut self.world, host));
            self.observe();
            clean = if busy { 0 } else { clean + 1 };
            if clean == 4 {
                break;
            }
        }
    }

    fn heal_host(&mut self, ix: HostIx) {
        self.world.slow_down(ix, Span::ZERO);
        let host = &mut self.world.hosts[ix.i()];
        host.clock_off_ms = 0;
        host.disk.set_manner(DiskManner::default());
        host.engine.manner = EngineManner {
            images_act: false,
            start_fails: 0,
            events_lost: 0,
            ..host.engine.manner
        };
        let (powered, frozen) =
            (host.powered, host.process.as_ref().is_some_and(|process| process.frozen));
        if !powered {
            self.world.power_on(ix);
            return;
        }
        self.world.with_engine(ix, |engine, chance, out| engine.recover(chance, out));
        if frozen {
            self.world.freeze(ix, false);
        }
        if self.world.hosts[ix.i()].process.is_none() && !self.world.hosts[ix.i()].left {
            self.world.start_process(ix);
        }
    }

    pub fn finish(mut self) -> Outcome {
        self.observe();
        self.checks.end(self.world.now);
        self.figures.acknowledged = self.operators.acknowledged;
        self.figures.refused = self.operators.refused;
        let acting = self.world.hosts.iter().filter(|host| host.acts());
        self.figures.balance = Balance::of(acting.map(crate::host::Host::ready));
        Outcome {
            seed: self.seed,
            trace: self.world.trace.hex(),
            count: self.checks.found.count(),
            violations: self.checks.found.violations,
            figures: self.figures,
            traffic: self.world.traffic,
            hosts: self.world.hosts.len(),
            lasted: self.world.now.since(At::ZERO),
        }
    }
}

/// A whole random run from its seed.
pub fn random(seed: u64, tell: bool, maker: Maker) -> Outcome {
    let mut chance = Chance::new(seed, Stream::Workload);
    let hosts = [2, 3, 3, 4, 5, 5, 7, 9][chance.index(8)];
    let mut spec =
        RunSpec { tell, clocks_off_ms: chance.between(0, 500), ..RunSpec::plain(seed, hosts) };
    if chance.per_mille(300) {
        spec.hosts.iter_mut().enumerate().for_each(|(n, host)| host.zone = format!("z{}", n % 3));
    }
    spec.most_replicas = chance.between(2, 12);
    spec.engine.events_lost = [0, 0, 0, 20][chance.index(4)];
    spec.engine.start_fails = [0, 0, 50][chance.index(3)];
    let mut faults = Chance::new(seed, Stream::Faults);
    let mix = Mix::draw(&mut faults);
    let fault_time = Span::secs(chance.between(60, 400));
    let mut run = Run::new(&spec, maker);
    run.world.trace.note(At::ZERO, true, format_args!("{hosts} hosts, {fault_time} of {mix:?}"));
    run.until(At(8_000_000));
    run.operators_work(true);
    run.pass(Span::secs(20));
    run.faults_strike(Some(mix));
    run.pass(fault_time);
    run.heal();
    run.demand_liveness();
    run.finish()
}
