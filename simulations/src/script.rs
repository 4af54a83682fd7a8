//! Runs that are written down instead of drawn: a cluster, what is done to it, and what must follow.
//! The checks watch all the while, so a script only says what is special about it.
//!
//! A condition that does not come about, or a violation, ends the script with a panic that says when and
//! why: scripts are for tests.

use std::collections::BTreeSet;

use membership::id::{NodeId, ServiceId, TaskId};
use membership::member::MemberState;
use node::Settings;
use node::command::{Command, CommandError, Reply};
use node::slot::Slot;
use node::views::{MemberView, TaskView};
use serde_json::Value;

use crate::cores;
use crate::engine::{Engine, Out};
use crate::links::{Cut, CutId, HostIx};
use crate::operators::{CommandNo, service};
use crate::run::{Run, RunSpec};
use crate::seen::Seen;
use crate::time::{At, Span};

#[derive(Debug)]
pub struct Script {
    pub run: Run,
}

/// Shorthand for a host.
pub fn h(number: u32) -> HostIx {
    HostIx(number)
}

impl Script {
    /// Equal hosts that have found each other.
    pub fn of(seed: u64, hosts: usize) -> Self {
        Self::with(&RunSpec::plain(seed, hosts))
    }

    pub fn with(spec: &RunSpec) -> Self {
        Self::with_settings(spec, cores::settings())
    }

    /// As [`Self::with`], of nodes with other settings.
    pub fn with_settings(spec: &RunSpec, settings: Settings) -> Self {
        let mut script = Self { run: Run::new(spec, cores::real(settings)) };
        let hosts = spec.hosts.len();
        script.wait("all see all alive", 20, |script| {
            (0..hosts).all(|n| {
                script.states(h(n as u32)).iter().filter(|s| **s == MemberState::Alive).count()
                    == hosts
            })
        });
        script
    }

    pub fn now(&self) -> At {
        self.run.world.now
    }

    pub fn pass(&mut self, secs: u64) {
        self.run.pass(Span::secs(secs));
    }

    /// Waits for a condition; gives how long it took.
    ///
    /// # Panics
    /// If it does not come about in time.
    pub fn wait(
        &mut self,
        what: &str,
        secs: u64,
        mut holds: impl FnMut(&mut Self) -> bool,
    ) -> Span {
        let start = self.now();
        while !holds(self) {
            let waited = self.now().since(start);
            assert!(
                waited < Span::secs(secs),
                "at {}: not {what} within {secs} s; {:?}",
                self.now(),
                self.whole()
            );
            self.run.pass(Span::ms(100));
        }
        self.now().since(start)
    }

    /// Every wanted slot runs exactly once; in words where not.
    ///
    /// # Errors
    /// What is missing or too much.
    pub fn whole(&self) -> Result<(), String> {
        self.run.whole()
    }

    pub fn wait_whole(&mut self, secs: u64) -> Span {
        self.wait("every slot exactly once", secs, |script| script.whole().is_ok())
    }

    // ---- operators

    fn answer(&mut self, number: CommandNo) -> Result<Reply, CommandError> {
        self.wait("answered", 30, |script| script.run.answers.contains_key(&number));
        self.run.answers.remove(&number).unwrap_or_else(|| unreachable!("waited for it"))
    }

    /// Has a node carry out any command.
    ///
    /// # Errors
    /// The node's refusal.
    pub fn command(&mut self, on: HostIx, command: Command) -> Result<Reply, CommandError> {
        let number = self.run.operators.command(&mut self.run.world, on, command);
        self.answer(number)
    }

    /// Creates a service and waits for the acknowledgement.
    ///
    /// # Panics
    /// If it is refused.
    pub fn create(&mut self, on: HostIx, spec: Value) -> ServiceId {
        match self.try_create(on, spec) {
            Ok(Reply::Created { id, .. }) => id,
            other => panic!("the create was answered {other:?}"),
        }
    }

    /// # Errors
    /// The node's refusal.
    pub fn try_create(&mut self, on: HostIx, spec: Value) -> Result<Reply, CommandError> {
        let number = self.run.operators.create(&mut self.run.world, on, spec);
        self.answer(number)
    }

    /// A plain service of so many replicas that run.
    pub fn create_web(&mut self, replicas: u64) -> ServiceId {
        let id = self.create(h(0), service("web", "sim/web", replicas));
        self.wait_whole(60);
        id
    }

    /// # Errors
    /// The node's refusal.
    pub fn scale(
        &mut self,
        on: HostIx,
        id: ServiceId,
        replicas: u64,
    ) -> Result<Reply, CommandError> {
        let number = self.run.operators.scale(&mut self.run.world, on, id, replicas);
        self.answer(number.unwrap_or_else(|| panic!("{on} does not know the service")))
    }

    /// # Errors
    /// The node's refusal.
    pub fn update(
        &mut self,
        on: HostIx,
        id: ServiceId,
        change: impl FnOnce(&mut Value),
    ) -> Result<Reply, CommandError> {
        let number = self.run.operators.update(&mut self.run.world, on, id, change);
        self.answer(number.unwrap_or_else(|| panic!("{on} does not know the service")))
    }

    /// # Errors
    /// The node's refusal.
    pub fn remove(&mut self, on: HostIx, id: ServiceId) -> Result<Reply, CommandError> {
        let number = self.run.operators.remove(&mut self.run.world, on, id);
        self.answer(number)
    }

    pub fn availability(&mut self, on: HostIx, of: HostIx, availability: &str) {
        let id = self.id(of);
        let number = self.run.operators.availability(&mut self.run.world, on, id, availability);
        let answer = self.answer(number.unwrap_or_else(|| panic!("{on} does not know {of}")));
        assert!(answer.is_ok(), "{answer:?}");
    }

    // ---- faults

    pub fn crash(&mut self, host: HostIx) {
        self.run.world.power_off(host);
        self.run.note(Seen::Disturbed);
    }

    pub fn boot(&mut self, host: HostIx) {
        self.run.world.power_on(host);
        self.run.note(Seen::Disturbed);
    }

    /// `kill -9` of shoal alone.
    pub fn kill_shoal(&mut self, host: HostIx) {
        self.run.world.kill_process(host, None);
        self.run.note(Seen::Disturbed);
    }

    pub fn start_shoal(&mut self, host: HostIx) {
        self.run.world.start_process(host);
        self.run.note(Seen::Disturbed);
    }

    pub fn freeze(&mut self, host: HostIx, frozen: bool) {
        self.run.world.freeze(host, frozen);
        self.run.note(Seen::Disturbed);
    }

    /// Cuts these off from the rest, both ways.
    pub fn cut_off(&mut self, hosts: &[HostIx]) -> CutId {
        let group = |host: &crate::host::Host| u8::from(hosts.contains(&host.ix));
        let cut = Cut::Groups(self.run.world.hosts.iter().map(group).collect());
        let id = self.run.world.cut(cut);
        self.run.note(Seen::Disturbed);
        id
    }

    pub fn mend(&mut self, cut: CutId) {
        self.run.world.mend(cut);
        self.run.note(Seen::Disturbed);
    }

    pub fn engine(
        &mut self,
        host: HostIx,
        f: impl FnOnce(&mut Engine, &mut crate::chance::Chance, &mut Out),
    ) {
        self.run.world.with_engine(host, f);
        self.run.note(Seen::Disturbed);
    }

    // ---- looks

    pub fn id(&self, host: HostIx) -> NodeId {
        self.run.world.hosts[host.i()].id
    }

    pub fn members(&self, on: HostIx) -> Vec<MemberView> {
        let process = self.run.world.hosts[on.i()].process.as_ref();
        process.map(|process| process.core.members()).unwrap_or_default()
    }

    fn states(&self, on: HostIx) -> Vec<MemberState> {
        self.members(on).into_iter().map(|member| member.state).collect()
    }

    /// What one node thinks of another's host.
    pub fn state_of(&self, on: HostIx, of: HostIx) -> Option<MemberState> {
        let id = self.id(of);
        self.members(on).into_iter().find(|member| member.id == id).map(|member| member.state)
    }

    /// Tasks of all services that run on a host.
    pub fn running(&self, host: HostIx) -> BTreeSet<TaskId> {
        let containers = self.run.world.hosts[host.i()].engine.containers();
        containers
            .filter(|container| container.is_running())
            .map(|container| container.task)
            .collect()
    }

    /// Ready replicas of a service on each host.
    pub fn counts(&self, id: ServiceId) -> Vec<usize> {
        let ready = |host: &crate::host::Host| {
            host.engine
                .containers()
                .filter(|container| container.service == id && container.is_ready())
                .count()
        };
        self.run.world.hosts.iter().map(ready).collect()
    }

    /// Slots of a service that are ready on any of these hosts.
    pub fn slots(&self, id: ServiceId, on: &[HostIx]) -> BTreeSet<Slot> {
        let containers =
            on.iter().flat_map(|host| self.run.world.hosts[host.i()].engine.containers());
        containers.filter(|c| c.service == id && c.is_ready()).map(|c| c.slot).collect()
    }

    pub fn tasks(&self, on: HostIx) -> Vec<TaskView> {
        let process = self.run.world.hosts[on.i()].process.as_ref();
        process.map(|process| process.core.tasks()).unwrap_or_default()
    }

    /// Starts and stops that cores have ordered so far.
    pub fn actions(&self) -> (u64, u64) {
        (self.run.figures.starts, self.run.figures.stops)
    }

    /// Ends the script.
    ///
    /// # Panics
    /// If a check found something.
    pub fn done(self) {
        let outcome = self.run.finish();
        assert!(outcome.count == 0, "{:#?}", outcome.violations);
    }
}
