//! One run: hosts come up and operators work, faults strike, everything is healed, and then every slot
//! has to run exactly once and the cluster has to fall silent.

mod files;
mod liveness;
mod networks;
mod suited;

use std::collections::{BTreeMap, BTreeSet};

use membership::clock::MAX_AHEAD;
use membership::member::Resources;
use node::command::{CommandError, Reply};

use crate::chance::{Chance, Stream};
use crate::checks::{Checks, Violation};
use crate::disk::DiskManner;
use crate::engine::EngineManner;
use crate::faults::{After, Fault, Ground, Kind, Mix};
use crate::figures::{Balance, Figures};
use crate::gossip::Pace;
use crate::history::{Mark, MarkKind};
use crate::host::{HostSpec, WALL_ORIGIN_MS};
use crate::links::{HostIx, Quality};
use crate::operators::{CommandNo, Operators};
use crate::schedule::{Schedule, Step, What};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::{Fidelity, Maker, Traffic, World, WorldSpec};

/// What the runner put into the queue for itself.
#[derive(Clone, Debug)]
enum Todo {
    Boot(HostIx),
    Second,
    Operator,
    /// The next fault of a kind is due, and how long the pause after it is at most.
    Fault(Kind, Span),
    After(After),
    Step(Step),
}

/// How a run is set up.
#[derive(Clone, Debug)]
pub struct RunSpec {
    pub seed: u64,
    pub hosts: Vec<HostSpec>,
    /// So many of them, the last, are not started: they join when a fault lets them.
    pub spare: usize,
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
    /// Hosts without a token.
    pub outsiders: BTreeSet<HostIx>,
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
            spare: 0,
            quality: Quality::default(),
            engine: EngineManner::default(),
            clocks_off_ms: 0,
            most_services: 5,
            most_replicas: 10,
            gossip: Fidelity::Modelled(Pace::default()),
            tell: false,
            absent: BTreeSet::new(),
            outsiders: BTreeSet::new(),
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
            spare: spec.spare,
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
        spec.outsiders.iter().for_each(|host| run.world.keep_out(*host));
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
            } else if !run.world.hosts[n].spare {
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
        for (kind, longest) in mix.iter().flat_map(|mix| &mix.rates) {
            let at = self.world.now + self.faults.span(Span::ms(1), *longest);
            self.plan(at, Todo::Fault(*kind, *longest));
        }
        self.mix = mix;
    }

    /// Does what is on a list, each step at its time.
    pub fn follow(&mut self, steps: &[Step]) {
        for step in steps {
            self.plan(At::ZERO + Span::ms(step.at_ms), Todo::Step(step.clone()));
        }
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
                // What somebody who does not belong does at home concerns nobody.
                if seen.host().is_some_and(|host| self.world.hosts[host.i()].outsider) {
                    continue;
                }
                self.checks.see(self.world.now, &seen);
                self.figures.see(self.world.now, &seen, &self.checks.picture);
            }
        }
        for replied in std::mem::take(&mut self.world.replies) {
            if let Some(seen) = self.operators.hear(&replied) {
                if let Seen::Expelled { id } = &seen {
                    self.world.expelled.insert(*id);
                }
                self.checks.see(self.world.now, &seen);
                self.figures.see(self.world.now, &seen, &self.checks.picture);
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
            Todo::Fault(kind, longest) => self.draw_fault(kind, longest),
            Todo::Step(Step { what: What::Fault(fault), .. }) => {
                self.strike(&fault);
            }
            Todo::Step(Step { what: What::Operator { on, act }, .. }) => {
                if self.operators.act(&mut self.world, on, &act) {
                    self.mark(MarkKind::Command, None, act.to_string(), Vec::new());
                }
            }
            Todo::After(after) => {
                if !self.undone {
                    let later = after.apply(&mut self.world);
                    self.plan_all(later);
                    self.note(Seen::Disturbed);
                }
            }
        }
    }

    fn draw_fault(&mut self, kind: Kind, longest: Span) {
        if self.mix.as_ref().is_none_or(|mix| !mix.rates.contains(&(kind, longest))) {
            return;
        }
        let present = self.world.hosts.iter().filter(|host| !host.spare);
        let ground = Ground::of(present.map(|host| &host.spec));
        let fault = Fault::draw(kind, &ground, &mut self.faults);
        self.strike(&fault);
        let pause = Mix::pause(longest, &mut self.faults);
        self.plan(self.world.now + pause, Todo::Fault(kind, longest));
    }

    /// Lets a fault happen, now. False when it found nothing to strike.
    pub fn strike(&mut self, fault: &Fault) -> bool {
        self.undone = false;
        let later = fault.strike(&mut self.world);
        let struck = later.is_some();
        if let Some(later) = later {
            self.figures.fault(fault.kind.to_string());
            let until = (fault.lasts_ms > 0).then(|| self.world.now + Span::ms(fault.lasts_ms));
            let all = fault.hosts.iter().map(|host| HostIx(*host));
            let hosts: Vec<HostIx> = all.filter(|host| host.i() < self.world.hosts.len()).collect();
            let text = format!("{} {}", fault.kind, named(&hosts, self.world.hosts.len()));
            self.mark(MarkKind::Fault, until, text.trim_end().to_owned(), hosts);
            self.plan_all(later);
        }
        self.note(Seen::Disturbed);
        struck
    }

    /// Puts something on the time axis.
    pub fn mark(&mut self, kind: MarkKind, until: Option<At>, text: String, hosts: Vec<HostIx>) {
        let at = self.world.now;
        self.figures.marks.push(Mark { at, until, kind, text, hosts });
    }

    fn plan_all(&mut self, later: Vec<(Span, After)>) {
        for (after, what) in later {
            self.plan(self.world.now + after, Todo::After(what));
        }
    }

    /// Ends all faults, brings everything back, and sends the operators home.
    pub fn heal(&mut self) {
        self.world.trace.note(self.world.now, true, format_args!("heal"));
        self.operators_work(false);
        self.faults_strike(None);
        self.undone = true;
        self.world.links.set_base(Quality::default());
        self.world.heal_links();
        self.world.garbling.clear();
        for ix in self.world.hosts.iter().map(|host| host.ix).collect::<Vec<_>>() {
            self.heal_host(ix);
        }
        self.note(Seen::Disturbed);
        self.let_the_future_come();
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

    /// A record that was stamped by a clock far ahead is refused everywhere else until its time has
    /// come; only then can all agree.
    fn let_the_future_come(&mut self) {
        let records = self.world.hosts.iter().flat_map(|host| host.disk.content().records.values());
        let latest = records.map(|record| record.stamp.ms).max().unwrap_or(0);
        let wall = WALL_ORIGIN_MS + self.world.now.0 / 1_000;
        if latest > wall + MAX_AHEAD.0 {
            self.world.trace.note(self.world.now, true, format_args!("waits for {latest}"));
            self.pass(Span::ms(latest - wall));
        }
    }

    fn heal_host(&mut self, ix: HostIx) {
        if self.world.hosts[ix.i()].spare || self.world.hosts[ix.i()].outsider {
            return;
        }
        self.world.slow_down(ix, Span::ZERO);
        let usual = self.world.engine;
        let off = self.world.hosts[ix.i()].clock_off_ms;
        self.world.turn_clock(ix, -off);
        let host = &mut self.world.hosts[ix.i()];
        host.torn = None;
        host.disk.set_manner(DiskManner::default());
        host.engine.manner =
            EngineManner { images_act: false, start_fails: 0, events_lost: 0, ..usual };
        let (older, damaged) = (std::mem::take(&mut host.older), host.disk.damaged);
        if host.clone_of.is_some() {
            self.world.unclone(ix);
            return;
        }
        if damaged {
            self.world.replace_disk(ix);
        }
        if older && self.world.hosts[ix.i()].process.is_some() {
            self.world.kill_process(ix, None);
        }
        let host = &self.world.hosts[ix.i()];
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

    /// What each node lists shows no content of a secret or config.
    fn look_into_lists(&mut self) {
        for ix in self.world.hosts.iter().map(|host| host.ix).collect::<Vec<_>>() {
            let Some(process) = &self.world.hosts[ix.i()].process else { continue };
            let core = &process.core;
            let lists = (core.services(), core.tasks(), core.members(), core.assets());
            let conflicts = core.conflicts();
            self.world.look_for_contents(ix, "a list", &lists);
            self.world.look_for_contents(ix, "the list of conflicts", &conflicts);
        }
    }

    pub fn finish(mut self) -> Outcome {
        self.look_into_lists();
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

/// Hosts in words, few of them by number.
fn named(hosts: &[HostIx], of: usize) -> String {
    match hosts.len() {
        0 => String::new(),
        all if all == of && all > 1 => "all hosts".to_owned(),
        1..=4 => hosts.iter().map(HostIx::to_string).collect::<Vec<_>>().join(", "),
        many => format!("{many} hosts"),
    }
}

/// A whole random run from its seed.
pub fn random(seed: u64, tell: bool, maker: Maker) -> Outcome {
    Schedule::draw(seed).run(tell, maker)
}
