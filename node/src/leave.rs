//! Leaving on purpose: hand over first, then say goodbye.
//!
//! A leaving node publishes that it is leaving; the others see it as draining and relieve it slot by
//! slot, each new replica ready before the old one stops. When nothing is left it writes down that it
//! has left and ends. If nobody can take what it runs, it says so and stays.

use membership::message::Message;
use membership::record::Kind;
use membership::time::{Instant, Millis, Now};

use crate::command::{CommandError, Refused, Reply};
use crate::io::{CommandId, Effect};
use crate::members::Admission;
use crate::node::Node;
use crate::writes::{Batch, Origin};

/// How often a leaving node looks whether it is empty.
const LOOK_EVERY: Millis = Millis(200);

#[derive(Clone, Debug)]
pub(crate) struct Leave {
    command: CommandId,
    until: Instant,
    pub(crate) look_at: Instant,
    /// The goodbye is written; the process ends at this time at the latest.
    goodbye: Option<Instant>,
}

impl Node {
    pub(crate) fn begin_leave(&mut self, id: CommandId, now: Now) {
        if self.leaving.is_some() {
            let error = CommandError::new(Refused::Conflict, "this node is leaving already");
            self.out.push(Effect::Reply { id, result: Err(error) });
            return;
        }
        let runs = self.occupied().count();
        if runs > 0 && self.view.members.other_live(self.me).next().is_none() {
            let text = format!(
                "this is the last live node and it runs {runs} replicas: nobody can take them, so nothing was changed; remove the services first, or simply stop shoal"
            );
            let error = CommandError::new(Refused::Invalid, text);
            self.out.push(Effect::Reply { id, result: Err(error) });
            return;
        }
        self.leaving = Some(Leave {
            command: id,
            until: now.at + self.settings.leave_timeout,
            look_at: now.at,
            goodbye: None,
        });
        self.publish_health(now);
        self.look_at_all();
    }

    /// Whether this node may give its cluster up and join another one: nobody and nothing else is in it, so that
    /// nothing is lost.
    ///
    /// # Errors
    /// What is there.
    pub fn may_move(&self) -> Result<(), CommandError> {
        let refuse = |kind, text: &str| Err(CommandError::new(kind, text));
        if self.view.members.iter().any(|(id, known)| id != self.me && known.belongs()) {
            let text = "this node is in a cluster with others: leave it first, with docker swarm leave --force";
            return refuse(Refused::Conflict, text);
        }
        let of_its_own = |kind| {
            matches!(
                kind,
                Kind::Admission
                    | Kind::NodeSettings
                    | Kind::Cluster
                    | Kind::Conflict
                    | Kind::Completions
            )
        };
        let mut live = self.view.registers.iter().filter(|record| !record.is_tombstone());
        if live.any(|record| !of_its_own(record.key.kind)) {
            let text = "this node has services, networks, secrets or configs, which would be lost: remove them first";
            return refuse(Refused::Conflict, text);
        }
        if self.leaving.is_some() || self.writes.busy() {
            return refuse(Refused::Busy, "this node is writing a change or leaving: try again");
        }
        if !self.local.held.is_empty() || !self.local.leaving.is_empty() {
            return refuse(
                Refused::Busy,
                "tasks are still being stopped here: try again in a moment",
            );
        }
        Ok(())
    }

    pub(crate) fn advance_leave(&mut self, now: Now) {
        let Some(leave) = &mut self.leaving else { return };
        if now.at < leave.look_at {
            return;
        }
        leave.look_at = now.at + LOOK_EVERY;
        let (command, until, goodbye) = (leave.command, leave.until, leave.goodbye);
        match goodbye {
            Some(at) if now.at >= at || !self.writes.busy() => self.go(command),
            Some(_) => {}
            None if self.local.held.is_empty() && self.local.leaving.is_empty() => {
                self.say_goodbye(now);
            }
            None if now.at >= until => self.stay(command, now),
            None => {}
        }
    }

    fn say_goodbye(&mut self, now: Now) {
        if let Some(record) = self.write_admission(self.me, Admission::Left, now) {
            self.writes.push(Batch { records: vec![record], origin: Origin::Own });
        }
        if let Some(leave) = &mut self.leaving {
            leave.goodbye = Some(now.at + LOOK_EVERY * 10);
        }
    }

    fn go(&mut self, command: CommandId) {
        for peer in self.connected.clone() {
            self.send(peer, Message::Leaving);
        }
        let reply = Reply::Done { warnings: Vec::new() };
        self.out.push(Effect::Reply { id: command, result: Ok(reply) });
        self.out.push(Effect::Exit);
    }

    fn stay(&mut self, command: CommandId, now: Now) {
        self.leaving = None;
        let left = self.local.held.len();
        let text = format!(
            "{left} replicas could not be handed over within {}: this node stays and goes on running them; `shoal service ps` says why no other node takes them",
            self.settings.leave_timeout
        );
        let error = CommandError::new(Refused::NotStored, text);
        self.out.push(Effect::Reply { id: command, result: Err(error) });
        self.publish_health(now);
        self.look_at_all();
    }

    /// The asking is over: say so, and take up what is this node's.
    pub(crate) fn on_settled(&mut self, now: Now) {
        self.doubt_records(now);
        self.publish_profile(now);
        self.publish_health(now);
        self.ensure_admitted(now);
        self.look_at_all();
    }
}
