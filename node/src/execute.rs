//! Commands: checked against this node's own view, drafted as records, answered when safe.

use std::sync::Arc;

use membership::id::{NodeId, ServiceId};
use membership::member::MemberState;
use membership::record::{Key, Kind, Record};
use membership::time::Now;
use rand::RngExt;
use serde_json::Value;

use crate::assets::AssetKind;
use crate::command::{Command, CommandError, Refused, Reply};
use crate::expand::check_templates;
use crate::io::{CommandId, Effect};
use crate::members::{Admission, NodeSettings};
use crate::network::Chosen;
use crate::node::Node;
use crate::registry_auth::{AuthChange, RegistryAuth};
use crate::rollout::Rollout;
use crate::services::{BODY_VERSION, JobBody, ScaleBody, Service, ServiceBody};
use crate::spec::{Mode, ServiceSpec, with_replicas};
use crate::writes::{Batch, MAX_WAITING_COMMANDS, Origin};

pub(crate) type Outcome = Result<(Vec<Record>, Reply), CommandError>;

pub(crate) fn refused(kind: Refused, message: impl Into<String>) -> CommandError {
    CommandError::new(kind, message)
}

pub(crate) fn done() -> Reply {
    Reply::Done { warnings: Vec::new() }
}

impl Node {
    /// Commands wait for their turn: each is checked against the outcome of the one before.
    pub(crate) fn on_command(&mut self, id: CommandId, command: Command) {
        if self.writes.waiting.len() >= MAX_WAITING_COMMANDS {
            let text = format!(
                "{MAX_WAITING_COMMANDS} commands are waiting already: nothing was changed; try again in a moment"
            );
            self.out.push(Effect::Reply { id, result: Err(refused(Refused::Busy, text)) });
            return;
        }
        self.writes.waiting.push_back((id, command));
    }

    pub(crate) fn execute(&mut self, id: CommandId, command: Command, now: Now) {
        if command == Command::Leave {
            self.begin_leave(id, now);
            return;
        }
        let subject = subject_of(&command);
        match self.drafts(command, now) {
            Err(error) => self.out.push(Effect::Reply { id, result: Err(error) }),
            Ok((records, reply)) if records.is_empty() => {
                // It changes nothing, but it may repeat what no second disk has confirmed yet: what
                // stands is confirmed again before it is acknowledged.
                let standing =
                    subject.into_iter().filter_map(|key| self.view.registers.get(&key)).cloned();
                let records: Vec<Record> = standing.collect();
                if records.is_empty() {
                    self.out.push(Effect::Reply { id, result: Ok(reply) });
                    return;
                }
                self.writes.push(Batch { records, origin: Origin::Command { id, reply } });
            }
            Ok((records, reply)) => {
                self.writes.push(Batch { records, origin: Origin::Command { id, reply } });
            }
        }
    }

    fn drafts(&mut self, command: Command, now: Now) -> Outcome {
        match command {
            Command::CreateService { spec, auth } => self.create_service(spec, auth, now),
            Command::UpdateService { id, version, spec, auth } => {
                let service = self.service_at(id, version)?;
                self.update_service(&service, spec, auth, now)
            }
            Command::RollbackService { id, version } => {
                let service = self.service_at(id, version)?;
                let records =
                    self.rollback_records(&service, "manually requested rollback", now)?;
                Ok((records, done()))
            }
            Command::RemoveService { id } => self.remove_service(id, now),
            Command::UpdateNode { id, version, spec } => self.update_node(id, version, &spec, now),
            Command::RemoveNode { id } => self.remove_node(id, now),
            Command::DismissConflict { id } => self.dismiss_conflict(id, now),
            Command::UpdateCluster { version, spec } => self.update_cluster(version, &spec, now),
            Command::CreateAsset { kind, spec, content } => {
                self.create_asset(kind, &spec, &content, now)
            }
            Command::UpdateAsset { kind, id, version, spec } => {
                self.update_asset(kind, id, version, &spec, now)
            }
            Command::RemoveAsset { kind, id } => self.remove_asset(kind, id, now),
            Command::ReplaceConfig { id, version, content, signal } => {
                self.replace_config(id, version, &content, signal, now)
            }
            Command::CreateNetwork { spec } => self.create_network(spec, now),
            Command::RemoveNetwork { id } => self.remove_network(id, now),
            Command::AttachHere { id } => self.attach_here(id, now),
            Command::Leave => Err(refused(Refused::Invalid, "leave is not a change of records")),
        }
    }

    fn service_at(&self, id: ServiceId, version: u64) -> Result<Service, CommandError> {
        let service = self
            .view
            .services
            .get(id)
            .ok_or_else(|| refused(Refused::NotFound, format!("service {id} not found")))?;
        if service.version() != version {
            return Err(refused(Refused::OutOfSequence, "update out of sequence"));
        }
        Ok(service.clone())
    }

    fn parse(spec: &Value) -> Result<ServiceSpec, CommandError> {
        check_templates(spec).map_err(|e| refused(Refused::Invalid, e.to_string()))?;
        ServiceSpec::parse(spec).map_err(|e| {
            let kind = if e.0.contains("not supported") {
                Refused::NotSupported
            } else {
                Refused::Invalid
            };
            refused(kind, e.to_string())
        })
    }

    fn check_assets(&self, spec: &Value) -> Result<(), CommandError> {
        self.view.assets.check(spec).map_err(|why| {
            let unsupported = why.contains("not supported");
            refused(if unsupported { Refused::NotSupported } else { Refused::Invalid }, why)
        })
    }

    fn body<T: serde::Serialize>(value: &T) -> Result<Option<Vec<u8>>, CommandError> {
        serde_json::to_vec(value).map(Some).map_err(|e| refused(Refused::Invalid, e.to_string()))
    }

    fn create_service(&mut self, spec: Value, auth: Option<RegistryAuth>, now: Now) -> Outcome {
        let mut parsed = Self::parse(&spec)?;
        self.check_assets(&spec)?;
        if let Some(other) = self.view.services.named(&parsed.name) {
            let text = format!(
                "name conflicts with an existing object: service {} already exists ({})",
                parsed.name, other.id
            );
            return Err(refused(Refused::Conflict, text));
        }
        let id = ServiceId(self.rng.random());
        let chosen = self.choose_for(id, &mut parsed, &Chosen::default())?;
        let wall = self.wall(now);
        let created = self.clock.tick(wall);
        let body = ServiceBody {
            v: BODY_VERSION,
            created_ms: created.ms,
            created_counter: created.counter,
            spec,
            previous: None,
            registry_auth: auth,
            previous_registry_auth: None,
            chosen,
            job: parsed.mode.is_job().then_some(JobBody { iteration: 0, executed_ms: created.ms }),
        };
        let mut records = Vec::new();
        records.extend(self.decide_ingress(&parsed, now)?);
        records.extend(self.draft(Kind::Service, id.0, Self::body(&body)?, now)?);
        if parsed.mode == Mode::Replicated {
            let scale = ScaleBody { v: BODY_VERSION, replicas: parsed.replicas };
            records.extend(self.draft(Kind::Scale, id.0, Self::body(&scale)?, now)?);
        }
        Ok((records, Reply::Created { id, warnings: Vec::new() }))
    }

    /// A new spec, a new replica count, or both: two registers, so that a deploy and an autoscaler
    /// never conflict.
    fn update_service(
        &mut self,
        service: &Service,
        spec: Value,
        auth: AuthChange,
        now: Now,
    ) -> Outcome {
        let mut parsed = Self::parse(&spec)?;
        self.check_assets(&spec)?;
        if parsed.name != service.name() {
            return Err(refused(Refused::NotSupported, "renaming services is not supported"));
        }
        let old = service.spec.as_ref().ok();
        if old.is_some_and(|old| old.mode != parsed.mode) {
            return Err(refused(Refused::Invalid, "service mode change is not allowed"));
        }
        let chosen = self.choose_for(service.id, &mut parsed, &service.body.chosen)?;
        let mut records = Vec::new();
        records.extend(self.decide_ingress(&parsed, now)?);
        let count = old.map_or(0, |old| old.replicas);
        // The count lives in its own register: with it set aside, is anything else different?
        let changed = with_replicas(&spec, count) != *service.shown;
        let present = &*service.body;
        let auth = match auth {
            AuthChange::Keep => present.registry_auth.clone(),
            AuthChange::FromPrevious => present.previous_registry_auth.clone(),
            AuthChange::Set(auth) => auth,
        };
        if changed || auth != present.registry_auth {
            // New credentials alone make no other spec: there is nothing to go back to.
            let (previous, previous_auth) = if changed {
                (Some((*service.shown).clone()), present.registry_auth.clone())
            } else {
                (present.previous.clone(), present.previous_registry_auth.clone())
            };
            let body = ServiceBody {
                v: BODY_VERSION,
                created_ms: service.created.ms,
                created_counter: service.created.counter,
                spec: spec.clone(),
                previous,
                registry_auth: auth,
                previous_registry_auth: previous_auth,
                chosen,
                job: if changed { next_execution(service, &parsed, now) } else { present.job },
            };
            records.extend(self.draft(Kind::Service, service.id.0, Self::body(&body)?, now)?);
        }
        if parsed.mode == Mode::Replicated && parsed.replicas != count {
            let scale = ScaleBody { v: BODY_VERSION, replicas: parsed.replicas };
            records.extend(self.draft(Kind::Scale, service.id.0, Self::body(&scale)?, now)?);
        }
        if changed && !parsed.mode.is_job() {
            let rolls = old.is_none_or(|old| old.template != parsed.template);
            let rollout = rolls
                .then(|| Rollout::begin(parsed.template, false, "update in progress", now.wall));
            records.extend(self.draft_rollout(service, rollout.as_ref(), now)?);
        }
        Ok((records, done()))
    }

    /// A new rollout, or none: what the last one ended with no longer speaks of this spec.
    fn draft_rollout(
        &mut self,
        service: &Service,
        rollout: Option<&Rollout>,
        now: Now,
    ) -> Result<Option<Record>, CommandError> {
        let body = match rollout {
            Some(rollout) => Self::body(rollout)?,
            None if service.rollout.as_ref().is_none_or(Rollout::is_running) => return Ok(None),
            None => None,
        };
        self.draft(Kind::Rollout, service.id.0, body, now)
    }

    fn rollback_records(
        &mut self,
        service: &Service,
        reason: &str,
        now: Now,
    ) -> Result<Vec<Record>, CommandError> {
        let Some(previous) = service.body.previous.clone() else {
            let text = format!("service {} does not have a previous spec", service.name());
            return Err(refused(Refused::Invalid, text));
        };
        let mut parsed = Self::parse(&previous)?;
        self.check_assets(&previous)?;
        let chosen = self.choose_for(service.id, &mut parsed, &service.body.chosen)?;
        let body = ServiceBody {
            v: BODY_VERSION,
            created_ms: service.created.ms,
            created_counter: service.created.counter,
            spec: previous,
            previous: Some((*service.shown).clone()),
            registry_auth: service.body.previous_registry_auth.clone(),
            previous_registry_auth: service.body.registry_auth.clone(),
            chosen,
            job: next_execution(service, &parsed, now),
        };
        let mut records = Vec::new();
        records.extend(self.decide_ingress(&parsed, now)?);
        records.extend(self.draft(Kind::Service, service.id.0, Self::body(&body)?, now)?);
        if parsed.mode == Mode::Replicated {
            let scale = ScaleBody { v: BODY_VERSION, replicas: parsed.replicas };
            records.extend(self.draft(Kind::Scale, service.id.0, Self::body(&scale)?, now)?);
        }
        if parsed.mode.is_job() {
            return Ok(records);
        }
        let rollout = Rollout::begin(parsed.template, true, reason, now.wall);
        records.extend(self.draft_rollout(service, Some(&rollout), now)?);
        Ok(records)
    }

    /// The steward's own rollback after too many failures.
    pub(crate) fn write_rollback(
        &mut self,
        service: &Service,
        reason: &str,
        now: Now,
    ) -> Result<(), CommandError> {
        let records = self.rollback_records(service, reason, now)?;
        self.writes.push(Batch { records, origin: Origin::Own });
        Ok(())
    }

    fn remove_service(&mut self, id: ServiceId, now: Now) -> Outcome {
        if self.view.services.get(id).is_none() {
            return Err(refused(Refused::NotFound, format!("service {id} not found")));
        }
        let mut records = Vec::new();
        for kind in [Kind::Service, Kind::Scale, Kind::Rollout] {
            let key = Key { kind, id: id.0 };
            if self.view.registers.get(&key).is_some_and(|r| !r.is_tombstone()) {
                records.extend(self.draft(kind, id.0, None, now)?);
            }
        }
        Ok((records, done()))
    }

    /// Drops a conflict from the list, and those about edits that its loser was built upon.
    fn dismiss_conflict(&mut self, id: u128, now: Now) -> Outcome {
        let open = self.view.registers.conflicts();
        let Some(conflict) = open.into_iter().find(|c| c.id.id == id) else {
            let text = "there is no such conflict (any more): `shoal conflicts ls` lists them";
            return Err(refused(Refused::NotFound, text));
        };
        let mut records = Vec::new();
        for key in std::iter::once(conflict.id).chain(conflict.covers) {
            records.extend(self.draft(key.kind, key.id, None, now)?);
        }
        Ok((records, done()))
    }

    fn update_node(&mut self, id: NodeId, version: u64, spec: &Value, now: Now) -> Outcome {
        let Some(known) = self.view.members.get(id).filter(|k| k.belongs()) else {
            return Err(refused(Refused::NotFound, format!("node {id} not found")));
        };
        if version != crate::read::node_version(known) {
            return Err(refused(Refused::OutOfSequence, "update out of sequence"));
        }
        NodeSettings::parse(spec, known.settings.stamp)
            .map_err(|text| refused(Refused::Invalid, text))?;
        let body = Self::body(spec)?;
        let record = self.draft(Kind::NodeSettings, id.0, body, now)?;
        Ok((record.into_iter().collect(), done()))
    }

    fn remove_node(&mut self, id: NodeId, now: Now) -> Outcome {
        let Some(known) = self.view.members.get(id) else {
            return Err(refused(Refused::NotFound, format!("node {id} not found")));
        };
        if id == self.me {
            let text = format!("node {id} is this node: use `shoal leave` on it");
            return Err(refused(Refused::Invalid, text));
        }
        if !matches!(known.state, MemberState::Down | MemberState::Left) {
            let text = format!(
                "node {id} is not down and can't be removed: it would only come back; run `shoal leave` on it, or stop it first"
            );
            return Err(refused(Refused::Invalid, text));
        }
        let record = self.write_admission(id, Admission::Removed, now);
        Ok((record.into_iter().collect(), done()))
    }

    fn update_cluster(&mut self, version: u64, spec: &Value, now: Now) -> Outcome {
        let key = Key { kind: Kind::Cluster, id: 0 };
        let present = self.view.registers.get(&key).map_or(0, |r| r.stamp.index());
        if version != present {
            return Err(refused(Refused::OutOfSequence, "update out of sequence"));
        }
        let record = self.draft(Kind::Cluster, 0, Self::body(spec)?, now)?;
        Ok((record.into_iter().collect(), done()))
    }

    /// The cluster's settings as stored, with their version.
    pub fn cluster_spec(&self) -> (u64, Option<Arc<Value>>) {
        let key = Key { kind: Kind::Cluster, id: 0 };
        let record = self.view.registers.get(&key);
        let spec =
            record.and_then(|r| r.body.as_deref()).and_then(|b| serde_json::from_slice(b).ok());
        (record.map_or(0, |r| r.stamp.index()), spec.map(Arc::new))
    }
}

/// As in Swarm each change of a job's spec executes it anew.
fn next_execution(service: &Service, parsed: &ServiceSpec, now: Now) -> Option<JobBody> {
    let before = service.body.job.unwrap_or_default();
    let next = JobBody { iteration: before.iteration + 1, executed_ms: now.wall.0 };
    parsed.mode.is_job().then_some(next)
}

/// The registers that a command may write, as far as they can be told before it is carried out.
fn subject_of(command: &Command) -> Vec<Key> {
    let (id, kinds): (u128, &[Kind]) = match command {
        Command::UpdateService { id, .. }
        | Command::RollbackService { id, .. }
        | Command::RemoveService { id } => (id.0, &[Kind::Service, Kind::Scale, Kind::Rollout]),
        Command::UpdateNode { id, .. } => (id.0, &[Kind::NodeSettings]),
        Command::RemoveNode { id } => (id.0, &[Kind::Admission]),
        Command::DismissConflict { id } => (*id, &[Kind::Conflict]),
        Command::UpdateAsset { kind, id, .. } | Command::RemoveAsset { kind, id } => match kind {
            AssetKind::Secret => (id.0, &[Kind::Secret]),
            AssetKind::Config => (id.0, &[Kind::Config]),
        },
        Command::ReplaceConfig { id, .. } => (id.0, &[Kind::Config]),
        Command::RemoveNetwork { id } => (id.0, &[Kind::Network]),
        Command::CreateService { .. }
        | Command::CreateNetwork { .. }
        | Command::AttachHere { .. }
        | Command::CreateAsset { .. }
        | Command::Leave
        | Command::UpdateCluster { .. } => (0, &[]),
    };
    kinds.iter().map(|kind| Key { kind: *kind, id }).collect()
}
