//! The simulated daemon loop: inputs go into the core one by one, and its effects are carried out in
//! order, with nothing passing a write that has not reached the disk.

use membership::id::Incarnation;
use membership::member::{MemberState, Profile};
use membership::message::Message;
use membership::record::{Digest, Key, Kind, Record};
use membership::time::Wall;
use membership::wire;
use node::command::{Command, CommandError, Refused, Reply};
use node::io::{CommandId, Effect, Input};
use placement::PLACEMENT_VERSION;

use super::tell::ShortInput;
use super::{Event, StartArgs, World};
use crate::engine::Boot;
use crate::host::{BACKLOG, Process};
use crate::links::HostIx;
use crate::operators::{CommandNo, Replied};
use crate::seen::{Lineage, RecordName, Seen, Stored};
use crate::time::{At, Span};

impl World {
    /// Starts shoal on a host that is powered and does not run it.
    pub fn start_process(&mut self, ix: HostIx) {
        let seed = self.chances.cores.word();
        let host = &mut self.hosts[ix.i()];
        host.boots = Boot(host.boots.0 + 1);
        let boot = host.boots;
        let now = host.now(self.now);
        let incarnation = host.disk.next_incarnation(Incarnation(0), now.wall);
        let args = StartArgs {
            host: ix,
            id: host.id,
            incarnation,
            profile: profile_of(host, now.wall),
            records: host.disk.content().records.values().cloned().collect(),
            seed,
            now,
        };
        let id = args.id;
        self.trace.note(
            self.now,
            true,
            format_args!("{ix} starts as {id} incarnation {}", incarnation.0),
        );
        let (core, effects) = (self.maker)(args);
        self.hosts[ix.i()].process = Some(Process::new(boot, incarnation, core));
        self.seen.push(Seen::Process { host: ix, id, incarnation });
        self.carrier.start(self.now, ix, id, incarnation, &self.seeds);
        self.plan_gossip();
        self.reset_old_connections(ix);
        self.plan_dials(ix, Span::ms(5));
        let after = self.chances.hosts.span(Span::ms(1), Span::ms(50));
        self.later(after, Event::Attach { host: ix, boot });
        self.take_effects(ix, effects);
        self.connectivity_changed();
    }

    pub(super) fn attach(&mut self, ix: HostIx, boot: Boot) {
        if self.hosts[ix.i()].runs(boot) {
            self.with_engine(ix, |engine, _, out| engine.attach(boot, out));
        }
    }

    /// Hands an operator's command to a node. False if nothing runs there.
    pub fn command(&mut self, ix: HostIx, number: CommandNo, command: Command) -> bool {
        if !self.hosts[ix.i()].acts() {
            return false;
        }
        let subject = subject_of(&command);
        self.seen.push(Seen::Asked { host: ix, command: number });
        self.commands.insert(number, (ix, subject, self.held_about(ix, subject)));
        self.feed(ix, Input::Command { id: CommandId(number.0), command });
        true
    }

    pub(super) fn feed_boot(&mut self, ix: HostIx, boot: Boot, input: Input) {
        if self.hosts[ix.i()].runs(boot) {
            self.feed(ix, input);
        }
    }

    /// An input for a process: handled now, or when the process gets round to it.
    pub fn feed(&mut self, ix: HostIx, input: Input) {
        let slow = self.hosts[ix.i()].slow;
        let Some(process) = self.hosts[ix.i()].process.as_mut() else { return };
        if !process.frozen && slow == Span::ZERO && process.backlog.is_empty() {
            self.handle(ix, input);
            return;
        }
        let small = matches!(&input, Input::Message { message, .. } if !matches!(message, Message::Records { .. }));
        if process.backlog.len() >= BACKLOG && small {
            return;
        }
        process.backlog.push_back(input);
        self.plan_turn(ix, slow);
    }

    fn plan_turn(&mut self, ix: HostIx, after: Span) {
        let Some(process) = self.hosts[ix.i()].process.as_mut() else { return };
        if process.frozen || process.turn_due || process.backlog.is_empty() {
            return;
        }
        process.turn_due = true;
        let boot = process.boot;
        self.later(after, Event::Turn { host: ix, boot });
    }

    pub(super) fn turn(&mut self, ix: HostIx, boot: Boot) {
        let slow = self.hosts[ix.i()].slow;
        let Some(process) =
            self.hosts[ix.i()].process.as_mut().filter(|process| process.boot == boot)
        else {
            return;
        };
        process.turn_due = false;
        if process.frozen {
            return;
        }
        if let Some(input) = process.backlog.pop_front() {
            self.handle(ix, input);
        }
        self.plan_turn(ix, slow);
    }

    /// Freezes a process (SIGSTOP) or lets it go on.
    pub fn freeze(&mut self, ix: HostIx, frozen: bool) {
        let Some(process) = self.hosts[ix.i()].process.as_mut() else { return };
        process.frozen = frozen;
        process.turn_due = false;
        if !frozen {
            // Its timer has long expired; it fires before what waits in the sockets is read.
            process.wake_at = None;
            process.backlog.push_front(Input::Tick);
        }
        self.carrier.freeze(self.now, ix, frozen);
        self.plan_gossip();
        self.plan_turn(ix, Span::us(10));
        self.connectivity_changed();
    }

    pub(super) fn wake(&mut self, ix: HostIx, boot: Boot, at: At) {
        let now = self.hosts[ix.i()].now(self.now).at;
        let Some(process) = self.hosts[ix.i()].process.as_mut() else { return };
        if process.boot != boot || process.wake_at != Some(at) || process.frozen {
            return;
        }
        process.wake_at = None;
        if process.core.next_wake() <= now {
            self.feed(ix, Input::Tick);
        }
        self.plan_wake(ix);
    }

    fn plan_wake(&mut self, ix: HostIx) {
        let Some(process) = self.hosts[ix.i()].process.as_ref() else { return };
        let wanted = self.hosts[ix.i()].moment(process.core.next_wake());
        // A core that is late already is woken a millisecond on: time must pass between two ticks.
        let at = wanted.max(self.now + Span::ms(1));
        if process.wake_at.is_none_or(|wake| at < wake) {
            let boot = process.boot;
            if let Some(process) = self.hosts[ix.i()].process.as_mut() {
                process.wake_at = Some(at);
            }
            self.queue.push(at, Event::Wake { host: ix, boot, at });
        }
    }

    fn handle(&mut self, ix: HostIx, input: Input) {
        let now = self.hosts[ix.i()].now(self.now);
        let Some(process) = self.hosts[ix.i()].process.as_mut() else { return };
        match &input {
            Input::Tick => self.trace.note(self.now, false, format_args!("{ix}t")),
            Input::Message { from, .. } => {
                self.trace.note(self.now, false, format_args!("{ix}<{}", from.0))
            }
            Input::Fact(fact) => {
                self.trace.note(self.now, false, format_args!("{ix}f{}.{}", fact.owner.0, fact.seq))
            }
            other => self.trace.note(self.now, true, format_args!("{ix} <- {}", ShortInput(other))),
        }
        let effects = process.core.handle(now, input);
        self.take_effects(ix, effects);
    }

    fn take_effects(&mut self, ix: HostIx, effects: Vec<Effect>) {
        self.observe(ix, &effects);
        if let Some(process) = self.hosts[ix.i()].process.as_mut() {
            process.outbox.extend(effects);
        }
        self.drain(ix);
        self.plan_wake(ix);
    }

    /// Carries effects out, in order. A write goes on beside the loop and ends with an input: it is the
    /// core that lets nothing of it leave before.
    fn drain(&mut self, ix: HostIx) {
        loop {
            let Some(process) = self.hosts[ix.i()].process.as_mut() else { return };
            let Some(effect) = process.outbox.pop_front() else { return };
            let boot = process.boot;
            match effect {
                Effect::Send { to, message } => self.send(ix, to, message),
                Effect::Publish(fact) => {
                    if let Some(watched) = self.watched.as_mut()
                        && (watched.owner, watched.key) == (ix, fact.key)
                    {
                        watched.order.get_or_insert((fact.owner, fact.incarnation, fact.seq));
                    }
                    self.carrier.publish(self.now, ix, fact);
                    // News may bring the next round forward.
                    self.plan_gossip();
                }
                Effect::Persist { id, records } => {
                    process.writing.push_back((id, records));
                    if process.writing.len() == 1 {
                        self.begin_write(ix);
                    }
                }
                Effect::Forget(records) => self.hosts[ix.i()].disk.forget(&records),
                Effect::Peers(peers) => {
                    process.wants = peers;
                    self.plan_dials(ix, Span::ms(1));
                }
                Effect::Refuse(nodes) => process.refused = nodes.into_iter().collect(),
                Effect::Runtime { id, action } => {
                    self.with_engine(ix, |engine, chance, out| {
                        engine.act(boot, id, action, chance, out)
                    });
                }
                Effect::Reply { id, result } => self.reply(ix, CommandNo(id.0), result),
                Effect::AskHost { target } => self.ask_host(ix, target),
                Effect::RaiseIncarnation { above } => {
                    let after = self.hosts[ix.i()].disk.write_time(&mut self.chances.disks);
                    self.later(after, Event::Incarnation { host: ix, boot, above });
                }
                Effect::Network(_) | Effect::Notice(_) => {}
                Effect::Exit => {
                    self.hosts[ix.i()].left = true;
                    self.close_connections(ix);
                    self.end_process(ix);
                    return;
                }
            }
        }
    }

    fn begin_write(&mut self, ix: HostIx) {
        let boot = self.hosts[ix.i()].boots;
        let after = self.hosts[ix.i()].disk.write_time(&mut self.chances.disks);
        self.later(after, Event::Written { host: ix, boot });
    }

    /// The write at the head of the line has ended.
    pub(super) fn written(&mut self, ix: HostIx, boot: Boot) {
        let host = &mut self.hosts[ix.i()];
        let Some(process) = host.process.as_mut().filter(|process| process.boot == boot) else {
            return;
        };
        if let Some((back, damaged)) = host.torn.take() {
            self.tear(ix, back, damaged);
            return;
        }
        let Some((id, records)) = process.writing.pop_front() else { return };
        let more = !process.writing.is_empty();
        let result = host.disk.write(&records);
        if result.is_ok() {
            self.note_write(ix, &records);
        }
        self.feed(ix, Input::Persisted { id, result });
        if more {
            self.begin_write(ix);
        }
    }

    /// Tells the checks what is on a disk now, and how it came about.
    fn note_write(&mut self, ix: HostIx, records: &[Record]) {
        let own = self.hosts[ix.i()].id;
        for record in records.iter().filter(|record| record.writer == own && heeded(record)) {
            let lineage = Lineage {
                digest: record.digest(),
                ancestors: record.ancestors.clone(),
                body: Digest::of_bytes(record.body.as_deref().unwrap_or_default()),
            };
            self.seen.push(Seen::Drafted { record: record_name(record), lineage });
        }
        let records = records.iter().map(stored).collect();
        self.seen.push(Seen::Written { host: ix, records });
    }

    /// Power fails in the middle of a write. A transaction is there whole or not at all: this one is not.
    fn tear(&mut self, ix: HostIx, back: Span, damaged: bool) {
        if let Some(process) = self.hosts[ix.i()].process.as_mut() {
            process.writing.clear();
        }
        self.trace.note(self.now, true, format_args!("{ix} is torn out of a write"));
        self.power_off(ix);
        self.hosts[ix.i()].disk.damaged = damaged;
        self.later(back, Event::PowerBack { host: ix });
        self.seen.push(Seen::Disturbed);
    }

    /// Power is back; a damaged store is refused, so the operator puts an empty disk in.
    pub(super) fn power_back(&mut self, ix: HostIx) {
        if self.hosts[ix.i()].powered {
            return;
        }
        if self.hosts[ix.i()].disk.damaged {
            self.replace_disk(ix);
        }
        self.power_on(ix);
        self.seen.push(Seen::Disturbed);
    }

    pub(super) fn incarnation_drawn(&mut self, ix: HostIx, boot: Boot, above: Incarnation) {
        let host = &mut self.hosts[ix.i()];
        if host.runs(boot) {
            let wall = host.now(self.now).wall;
            let incarnation = host.disk.next_incarnation(above, wall);
            if let Some(process) = host.process.as_mut() {
                process.incarnation = incarnation;
            }
            self.feed(ix, Input::Incarnation(incarnation));
        }
    }

    fn reply(&mut self, ix: HostIx, command: CommandNo, result: Result<Reply, CommandError>) {
        let records = self.acknowledged(ix, command, &result);
        self.trace.note(self.now, true, format_args!("{ix} replies {} {result:?}", command.0));
        self.look_for_contents(ix, "an answer", &result);
        let refused = result.as_ref().err().map(|error| error.kind);
        let stored = !matches!(refused, Some(Refused::NotStored | Refused::Busy));
        self.seen.push(Seen::Answered { host: ix, command, stored });
        if result.is_ok() {
            let alive = self.hosts[ix.i()].process.as_ref().map_or(0, |process| {
                let counts = |state: MemberState| matches!(state, MemberState::Alive);
                process.core.members().iter().filter(|member| counts(member.state)).count()
            });
            self.seen.push(Seen::Acked { host: ix, command, records, alive });
        }
        self.replies.push(Replied { host: ix, command, result });
    }

    /// The records that an answer speaks of: what is new on the node's disk about the subject of the
    /// command, or all of it when the command found everything as it wants it. Nothing when it has another command about it under way, whose records cannot be told
    /// from these.
    fn acknowledged(
        &mut self,
        ix: HostIx,
        command: CommandNo,
        result: &Result<Reply, CommandError>,
    ) -> Vec<RecordName> {
        let Some((_, subject, before)) = self.commands.remove(&command) else { return Vec::new() };
        let subject = match result {
            Ok(Reply::Created { id, .. }) => id.0,
            Ok(Reply::AssetCreated { id }) => id.0,
            _ => subject,
        };
        if self.commands.values().any(|(host, other, _)| *host == ix && *other == subject) {
            return Vec::new();
        }
        let held = self.held_about(ix, subject);
        let new: Vec<RecordName> =
            held.iter().filter(|name| !before.contains(name)).copied().collect();
        if new.is_empty() { held } else { new }
    }

    fn held_about(&self, ix: HostIx, subject: u128) -> Vec<RecordName> {
        let disk = &self.hosts[ix.i()].disk;
        let kinds = [Kind::Service, Kind::Scale, Kind::NodeSettings, Kind::Secret, Kind::Config];
        let held = kinds.map(|kind| Key { kind, id: subject }).into_iter().filter_map(|key| {
            let (stamp, writer) = disk.holds(&key)?;
            Some((key, stamp, writer))
        });
        held.collect()
    }

    /// The process is gone, without a word. A write that was under way may have reached the disk.
    pub fn end_process(&mut self, ix: HostIx) {
        let host = &mut self.hosts[ix.i()];
        let Some(process) = host.process.take() else { return };
        if let Some((_, records)) = process.writing.into_iter().next()
            && self.chances.disks.per_mille(500)
            && host.disk.write(&records).is_ok()
        {
            self.note_write(ix, &records);
        }
        self.hosts[ix.i()].engine.detach(&mut self.chances.engines);
        self.commands.retain(|_, (host, ..)| *host != ix);
        self.carrier.stop(ix);
        self.trace.note(self.now, true, format_args!("{ix} process ends"));
        self.seen.push(Seen::ProcessGone { host: ix });
        self.connectivity_changed();
    }
}

/// The id of the service or node that a command is about.
fn subject_of(command: &Command) -> u128 {
    match command {
        Command::UpdateService { id, .. }
        | Command::RollbackService { id, .. }
        | Command::RemoveService { id } => id.0,
        Command::UpdateNode { id, .. } | Command::RemoveNode { id } => id.0,
        Command::DismissConflict { id } => *id,
        Command::UpdateAsset { id, .. }
        | Command::RemoveAsset { id, .. }
        | Command::ReplaceConfig { id, .. } => id.0,
        Command::CreateService { .. }
        | Command::CreateAsset { .. }
        | Command::Leave
        | Command::CreateNetwork { .. }
        | Command::AttachHere { .. }
        | Command::UpdateCluster { .. } => 0,
        Command::RemoveNetwork { id } => id.0,
    }
}

/// What operators write.
fn heeded(record: &Record) -> bool {
    matches!(
        record.key.kind,
        Kind::Service | Kind::Scale | Kind::NodeSettings | Kind::Secret | Kind::Config
    )
}

pub(super) fn record_name(record: &Record) -> RecordName {
    (record.key, record.stamp, record.writer)
}

pub(super) fn stored(record: &Record) -> Stored {
    let body = record.body.as_deref().filter(|_| record.key.kind == Kind::Conflict);
    let loser = body.and_then(|body| wire::decode::<Record>(body).ok());
    let keeps = loser.as_ref().map(record_name);
    let ended = node::recorded_ends(record);
    Stored { name: record_name(record), tombstone: record.is_tombstone(), keeps, ended }
}

fn profile_of(host: &crate::host::Host, started: Wall) -> Profile {
    Profile {
        name: host.spec.name.clone(),
        addr: host.addr,
        zone: host.spec.zone.clone(),
        labels: host.spec.labels.clone(),
        capacity: host.spec.capacity,
        os: "linux".to_owned(),
        arch: "x86_64".to_owned(),
        runtime: "docker".to_owned(),
        engine_version: "28.0.0".to_owned(),
        shoal_version: if host.older { OLDER } else { env!("CARGO_PKG_VERSION") }.to_owned(),
        protocol_version: wire::PROTOCOL_VERSION,
        placement_version: if host.older { PLACEMENT_VERSION - 1 } else { PLACEMENT_VERSION },
        started,
    }
}

/// The release that a rolling upgrade begins with. There is only one release's code here, so such a node
/// differs in what it says of itself: it knows an older placement, and nothing new may be put there.
/// Another protocol version cannot be shown: greetings refuse it before a core hears of the node.
const OLDER: &str = "0.0.9";
