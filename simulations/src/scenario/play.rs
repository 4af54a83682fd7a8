//! A scenario is played: the cluster comes up and runs what it is to run, the timeline passes, everything
//! is healed and liveness demanded, and the figures are held against what was expected.

use std::collections::BTreeMap;

use membership::id::ServiceId;
use membership::member::MemberState;
use serde_json::json;

use super::Scenario;
use super::action::Action;
use super::ends::{Ends, HANDS_ON};
use super::expect::AtEnd;
use super::step::Step;
use super::strike::strike;
use crate::chance::{Chance, Stream};
use crate::checks::Violation;
use crate::disk::Content;
use crate::faults::Mix;
use crate::figures::Sheet;
use crate::history::MarkKind;
use crate::links::{HostIx, Quality};
use crate::run::{Outcome, Run, RunSpec, Watcher};
use crate::seen::Seen;
use crate::time::{At, Span};
use crate::world::Maker;

/// How long the hosts have to find each other, plus a second for every ten.
const FORM: Span = Span::secs(30);
/// How long the services have to come up before the timeline begins without them.
const FILL: Span = Span::secs(90);
/// Quiet before the timeline begins.
const CALM: Span = Span::secs(10);
/// So many hosts are asked whether all see all.
const ASKED: usize = 12;

/// How a scenario ended.
#[derive(Debug)]
pub struct Played {
    pub outcome: Outcome,
    pub sheet: Sheet,
    pub end: AtEnd,
    /// When the timeline began, on the clock of the run.
    pub origin: At,
}

/// What is still to come.
#[derive(Clone, Debug)]
enum Item {
    Step(usize),
    /// A step reaches these hosts (`apart`).
    Reach(usize, Vec<HostIx>),
    End(u64),
    Join(HostIx),
    Churn(bool),
}

struct Player<'a> {
    scenario: &'a Scenario,
    run: Run,
    agenda: BTreeMap<(At, u64), Item>,
    next: u64,
    chance: Chance,
    named: BTreeMap<String, Vec<HostIx>>,
    /// What ends the faults that go on, and the mark that shows each.
    open: BTreeMap<u64, (Ends, usize)>,
    /// Disks as somebody copied them.
    copies: BTreeMap<HostIx, Content>,
    updates: u64,
}

/// Plays it with this seed. `watcher` looks on.
pub fn play(
    scenario: &Scenario,
    seed: u64,
    tell: bool,
    watcher: Option<Box<dyn Watcher>>,
    maker: Maker,
) -> Played {
    let started = std::time::Instant::now();
    let spec = RunSpec {
        hosts: scenario.layout.hosts.clone(),
        quality: scenario.network,
        engine: scenario.engine,
        clocks_off_ms: scenario.clocks_off_ms,
        most_services: scenario.churn.as_ref().map_or(5, |churn| churn.most_services),
        most_replicas: scenario.churn.as_ref().map_or(10, |churn| churn.most_replicas),
        gossip: scenario.gossip,
        tell,
        absent: scenario.layout.joins.keys().copied().collect(),
        outsiders: scenario.layout.outsiders.clone(),
        ..RunSpec::plain(seed, 0)
    };
    let mut run = Run::new(&spec, maker);
    if let Some(watcher) = watcher {
        run.watch(watcher);
    }
    let mut player = Player {
        scenario,
        run,
        agenda: BTreeMap::new(),
        next: 0,
        chance: Chance::new(seed, Stream::Scenario),
        named: BTreeMap::new(),
        open: BTreeMap::new(),
        copies: BTreeMap::new(),
        updates: 0,
    };
    player.form();
    player.fill();
    let origin = player.run.world.now;
    player.timeline(origin);
    let end = player.at_end();
    if scenario.heal {
        player.mark(MarkKind::Heal, "everything is healed".to_owned(), Vec::new());
        player.run.heal();
        player.run.demand_liveness();
    }
    let ended = player.run.world.now;
    let mut outcome = player.run.finish();
    let mut sheet = Sheet::of(&scenario.name, &outcome, Some(started.elapsed()));
    for text in scenario.expect.judge(&sheet, &end) {
        outcome.violations.push(Violation { at: ended, check: "expected", text });
        outcome.count += 1;
    }
    sheet.violations = outcome.count;
    Played { outcome, sheet, end, origin }
}

impl Player<'_> {
    fn present(&self) -> Vec<HostIx> {
        let layout = &self.scenario.layout;
        let absent =
            |host: &HostIx| layout.joins.contains_key(host) || layout.outsiders.contains(host);
        layout.all().into_iter().filter(|host| !absent(host)).collect()
    }

    /// All hosts find each other.
    fn form(&mut self) {
        let present = self.present();
        let limit = FORM + Span::secs(present.len() as u64 / 10);
        let sees_all = |run: &Run, host: &HostIx| {
            let process = run.world.hosts[host.i()].process.as_ref();
            let members = process.map(|process| process.core.members()).unwrap_or_default();
            members.iter().filter(|member| member.state == MemberState::Alive).count()
                == present.len()
        };
        let asked: Vec<HostIx> = present.iter().copied().take(ASKED).collect();
        self.run.until_true(limit, |run| asked.iter().all(|host| sees_all(run, host)));
    }

    /// Nodes are labelled, and the services of the beginning come up.
    fn fill(&mut self) {
        for (host, spec) in &self.scenario.layout.node_specs {
            let Some(via) = self.any_host() else { break };
            let id = self.run.world.hosts[host.i()].id;
            self.run.operators.update_node(&mut self.run.world, via, id, spec.clone());
        }
        if !self.scenario.layout.node_specs.is_empty() {
            self.run.pass(Span::secs(2));
        }
        for spec in &self.scenario.services {
            let host = self.any_host().unwrap_or(HostIx(0));
            self.run.operators.create(&mut self.run.world, host, spec.clone());
        }
        self.run.pass(Span::secs(1));
        let limit = FILL + Span::ms(self.scenario.services.iter().map(replicas).sum::<u64>() * 100);
        self.run.until_true(limit, |run| {
            let (wanted, ready) = run.figures.latest;
            wanted > 0 && ready >= wanted
        });
        self.run.pass(CALM);
        self.run.figures.counts_from = Some(self.run.world.now);
    }

    fn timeline(&mut self, origin: At) {
        for (n, step) in self.scenario.steps.iter().enumerate() {
            for moment in step.moments() {
                self.later(origin + moment, Item::Step(n));
            }
        }
        for (host, after) in &self.scenario.layout.joins {
            self.later(origin + *after, Item::Join(*host));
        }
        if let Some(churn) = &self.scenario.churn {
            self.later(origin + churn.from, Item::Churn(true));
            self.later(origin + churn.until, Item::Churn(false));
        }
        let end = origin + self.scenario.duration;
        while let Some(entry) = self.agenda.first_entry() {
            let (at, _) = *entry.key();
            if at > end {
                break;
            }
            let item = entry.remove();
            self.run.until(at);
            self.happen(item);
        }
        self.run.until(end);
    }

    fn later(&mut self, at: At, item: Item) {
        self.next += 1;
        self.agenda.insert((at, self.next), item);
    }

    fn happen(&mut self, item: Item) {
        match item {
            Item::Step(n) => self.step(n),
            Item::Reach(n, hosts) => self.act(n, &hosts),
            Item::End(number) => self.end(number),
            Item::Join(host) => {
                let name = self.names(&[host]);
                self.mark(MarkKind::Command, format!("{name} joins"), vec![host]);
                self.run.world.power_on(host);
                self.run.note(Seen::Disturbed);
            }
            Item::Churn(on) => self.churn(on),
        }
    }

    fn churn(&mut self, on: bool) {
        let Some(churn) = &self.scenario.churn else { return };
        self.run.operators_work(on && churn.operators);
        let mix = (on && !churn.kinds.is_empty()).then(|| Mix::only(&churn.kinds, churn.pause));
        self.run.faults_strike(mix);
        let text = if on { "churn begins" } else { "churn ends" };
        self.mark(MarkKind::Note, text.to_owned(), Vec::new());
    }

    /// A step comes: its hosts are chosen, and it happens to all of them, or to one after the other.
    fn step(&mut self, n: usize) {
        let step = &self.scenario.steps[n];
        let hosts = self.choose(step.on.as_ref(), &step.action);
        if let Some(name) = &step.named {
            self.named.insert(name.clone(), hosts.clone());
        }
        if step.apart == Span::ZERO {
            return self.act(n, &hosts);
        }
        for (k, host) in hosts.into_iter().enumerate() {
            let at = self.run.world.now + Span(step.apart.0.saturating_mul(k as u64));
            self.later(at, Item::Reach(n, vec![host]));
        }
    }

    fn choose(&mut self, target: Option<&super::target::Target>, action: &Action) -> Vec<HostIx> {
        let Some(target) = target else { return Vec::new() };
        let world = &self.run.world;
        let fit = |host: HostIx| {
            let host = &world.hosts[host.i()];
            match action {
                Action::Boot => !host.powered,
                Action::StartShoal => host.powered && host.process.is_none(),
                Action::Thaw => host.process.as_ref().is_some_and(|process| process.frozen),
                _ => host.acts(),
            }
        };
        let named = |name: &str| self.named.get(name).cloned();
        target.pick(&self.scenario.layout, named, fit, &mut self.chance)
    }

    fn act(&mut self, n: usize, hosts: &[HostIx]) {
        let step = &self.scenario.steps[n];
        let to = self.choose(step.to.as_ref(), &step.action);
        let text = self.describe(step, hosts, &to);
        self.run.world.trace.note(self.run.world.now, true, format_args!("step {text}"));
        let kind = match &step.action {
            Action::Heal => MarkKind::Heal,
            action if action.is_fault() => MarkKind::Fault,
            action if action.is_command() => MarkKind::Command,
            _ => MarkKind::Note,
        };
        let mark = self.mark(kind, text, hosts.to_vec());
        if step.action == Action::Heal {
            let open: Vec<u64> = self.open.keys().copied().collect();
            open.into_iter().for_each(|number| self.end(number));
        } else if step.action.is_command() {
            self.command(&step.action, hosts);
        } else {
            if step.action.is_fault() {
                self.run.figures.fault(step.word);
            }
            self.disks(step, hosts, mark);
            let base = self.scenario.network;
            let world = &mut self.run.world;
            let ends = strike(&step.action, hosts, &to, world, base, &mut self.chance);
            for ends in ends {
                self.next += 1;
                let number = self.next;
                self.open.insert(number, (ends, mark));
                if let Some((least, most)) = step.lasts {
                    let after = self.chance.span(least, most);
                    self.later(self.run.world.now + after, Item::End(number));
                }
            }
        }
        self.run.note(Seen::Disturbed);
    }

    /// What a step does to disks over more than one moment.
    fn disks(&mut self, step: &Step, hosts: &[HostIx], mark: usize) {
        for host in hosts {
            let world = &mut self.run.world;
            match step.action {
                Action::TornWrite { damaged } => {
                    let (least, most) = step.lasts.unwrap_or_default();
                    world.hosts[host.i()].torn = Some((self.chance.span(least, most), damaged));
                }
                Action::CopyDisk => {
                    let content = world.hosts[host.i()].disk.content().clone();
                    self.copies.insert(*host, content);
                }
                Action::RestoreDisk => {
                    let Some(copy) = self.copies.get(host).cloned() else { continue };
                    world.power_off(*host);
                    world.restore_disk(*host, copy);
                    self.next += 1;
                    let ends = Ends::PowerOn { host: *host, new_disk: false };
                    self.open.insert(self.next, (ends, mark));
                    self.later(self.run.world.now + HANDS_ON, Item::End(self.next));
                }
                _ => {}
            }
        }
    }

    fn end(&mut self, number: u64) {
        let Some((ends, mark)) = self.open.remove(&number) else { return };
        ends.apply(&mut self.run.world);
        let now = self.run.world.now;
        if let Some(mark) = self.run.figures.marks.get_mut(mark) {
            mark.until = Some(now);
        }
        self.run.note(Seen::Disturbed);
    }

    fn mark(&mut self, kind: MarkKind, text: String, hosts: Vec<HostIx>) -> usize {
        self.run.mark(kind, None, text, hosts);
        self.run.figures.marks.len() - 1
    }

    fn names(&self, hosts: &[HostIx]) -> String {
        let all = &self.scenario.layout.hosts;
        if hosts.len() == all.len() && hosts.len() > 1 {
            return "all hosts".to_owned();
        }
        let names = hosts.iter().take(4).map(|host| all[host.i()].name.as_str());
        let mut text = names.collect::<Vec<_>>().join(", ");
        if hosts.len() > 4 {
            text = format!("{} hosts ({text}, ...)", hosts.len());
        }
        text
    }

    fn describe(&self, step: &Step, hosts: &[HostIx], to: &[HostIx]) -> String {
        let on = self.names(hosts);
        let detail = match &step.action {
            Action::Create(spec) => spec["Name"].as_str().unwrap_or_default().to_owned(),
            Action::Scale { service, replicas } => format!("{service} to {replicas}"),
            Action::Update { service } | Action::Remove { service } => service.clone(),
            Action::OneWay => format!("{on} to {}", self.names(to)),
            Action::Clone => format!("of {on} on {}", self.names(to)),
            Action::Bridge => format!("{on} and {}", self.names(to)),
            Action::Link(quality) => {
                format!("{on} and {}: {}", self.names(to), in_words(*quality))
            }
            Action::Clock { ms } => format!("{on} by {ms} ms"),
            Action::Network(quality) => {
                let at = if hosts.is_empty() { String::new() } else { format!("{on}: ") };
                format!("{at}{}", in_words(*quality))
            }
            Action::Note(text) => return text.clone(),
            _ => on,
        };
        format!("{} {detail}", step.word).trim_end().to_owned()
    }

    /// Some host that answers.
    fn any_host(&mut self) -> Option<HostIx> {
        let acting = self.run.world.hosts.iter().filter(|host| host.acts()).map(|host| host.ix);
        self.chance.pick(&acting.collect::<Vec<_>>()).copied()
    }

    fn command(&mut self, action: &Action, hosts: &[HostIx]) {
        let Some(via) = self.any_host() else { return };
        let Run { world, operators, .. } = &mut self.run;
        match action {
            Action::Create(spec) => {
                operators.create(world, via, spec.clone());
            }
            Action::Availability(word) => {
                for host in hosts {
                    let id = world.hosts[host.i()].id;
                    operators.availability(world, via, id, word);
                }
            }
            Action::Scale { service, replicas } => {
                if let Some(id) = find(&self.run, via, service) {
                    let Run { world, operators, .. } = &mut self.run;
                    operators.scale(world, via, id, *replicas);
                }
            }
            Action::Update { service } => {
                self.updates += 1;
                let version = format!("VERSION={}", self.updates);
                if let Some(id) = find(&self.run, via, service) {
                    let Run { world, operators, .. } = &mut self.run;
                    operators.update(world, via, id, |spec| {
                        spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([version]);
                    });
                }
            }
            Action::Remove { service } => {
                if let Some(id) = find(&self.run, via, service) {
                    let Run { world, operators, .. } = &mut self.run;
                    operators.remove(world, via, id);
                }
            }
            _ => {}
        }
    }

    fn at_end(&self) -> AtEnd {
        let figures = &self.run.figures;
        let now = self.run.world.now;
        let (wanted, ready) = (figures.latest.0, self.run.ready());
        AtEnd {
            running_per_mille: (ready * 1000)
                .checked_div(wanted)
                .map_or(1000, |share| share.min(1000)),
            open_gap: figures.oldest_gap().map(|since| now.since(since)),
            starts: figures.starts,
            stops: figures.stops,
        }
    }
}

fn in_words(quality: Quality) -> String {
    let (loss, (least, most)) = (quality.loss, quality.delay);
    format!("{}.{}% lost, {least} to {most}", loss / 10, loss % 10)
}

/// The service of this name, as a host knows it.
fn find(run: &Run, on: HostIx, name: &str) -> Option<ServiceId> {
    let core = &run.world.hosts[on.i()].process.as_ref()?.core;
    core.services().into_iter().find(|service| service.name == name).map(|service| service.id)
}

fn replicas(spec: &serde_json::Value) -> u64 {
    spec["Mode"]["Replicated"]["Replicas"].as_u64().unwrap_or(1)
}
