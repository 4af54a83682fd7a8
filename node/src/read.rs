//! What readers see: copies of the state in Docker's terms, made on demand.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use membership::id::{CellId, ClusterId, NodeId, ServiceId, TaskId};
use membership::record::{Digest, Kind};
use membership::time::Wall;
use serde_json::Value;

use crate::asset_commands::asset_of;
use crate::jobs::Job;
use crate::members::Known;
use crate::node::Node;
use crate::services::{Service, ServiceBody, without_secrets};
use crate::slot::{Claim, Phase, Place, Slot, TaskState, TaskStatus};
use crate::spec::Mode;
use crate::standing::is_wanted;
use crate::views::{ConflictView, DesiredState, JobView, MemberView, ServiceView, TaskView};

/// Docker's `Version.Index` of a node: 1 until an operator sets something.
pub(crate) fn node_version(known: &Known) -> u64 {
    known.settings.stamp.index().max(1)
}

impl Node {
    pub fn me(&self) -> NodeId {
        self.me
    }

    pub fn cluster_id(&self) -> ClusterId {
        self.cluster_id
    }

    pub fn cell(&self) -> CellId {
        self.cell
    }

    pub fn is_settling(&self) -> bool {
        self.settling.on()
    }

    /// (alive, all) members, as `majority` counts them.
    pub fn quorum(&self) -> (usize, usize) {
        self.view.members.quorum()
    }

    /// The digest of this node's desired state: equal on nodes that hold the same records.
    pub fn root(&self) -> Digest {
        self.view.registers.root()
    }

    pub fn services(&self) -> Vec<ServiceView> {
        self.view.services.iter().map(|service| self.service_view(service)).collect()
    }

    pub fn service(&self, id: ServiceId) -> Option<ServiceView> {
        self.view.services.get(id).map(|service| self.service_view(service))
    }

    fn service_view(&self, service: &Service) -> ServiceView {
        let (running, completed, desired) = match &service.job {
            Some(job) => self.count_job(service, job),
            None => self.count(service),
        };
        ServiceView {
            id: service.id,
            version: service.version(),
            created: Wall(service.created.ms),
            updated: service.updated(),
            name: service.name().to_owned(),
            spec: Arc::clone(&service.shown),
            previous_spec: service.body.previous.clone().map(Arc::new),
            update_status: service.rollout.as_ref().map(crate::rollout::Rollout::status),
            running,
            desired,
            completed,
            job: service
                .job
                .as_ref()
                .map(|job| JobView { iteration: job.iteration, executed: job.executed }),
            shadowed_by: service.shadowed_by,
            published: service.spec.as_ref().map_or(Vec::new(), |s| s.ingress_ports.clone()),
        }
    }

    /// Replicas that run, slots whose work is done, and how many slots there should be.
    fn count(&self, service: &Service) -> (u64, u64, u64) {
        let (mut running, mut completed, mut places) = (0, 0, 0);
        for (slot, holders) in self.view.claims.slots(service.id) {
            let wanted = service.active().is_some_and(|spec| is_wanted(spec, slot));
            let live = || holders.iter().filter(|(node, _)| self.view.members.holds_claims(*node));
            if wanted && live().next().is_some() {
                places += 1;
                running += live().filter(|(_, c)| c.phase == Phase::Ready).count() as u64;
                completed += u64::from(live().any(|(_, c)| c.phase == Phase::Complete));
            }
        }
        let desired = match service.spec.as_ref() {
            Ok(spec) if spec.mode == Mode::Replicated => u64::from(spec.replicas),
            _ => places,
        };
        (running, completed, desired)
    }

    /// The same of a job's present execution; wanted are, as in Swarm, `MaxConcurrent` slots of a replicated
    /// job and of a global one those that have not ended.
    fn count_job(&self, service: &Service, job: &Job) -> (u64, u64, u64) {
        let Some(spec) = service.active() else { return (0, 0, 0) };
        let mut done: BTreeSet<Slot> = job.ended.done.slots().collect();
        let (mut running, mut open) = (0, 0);
        for (slot, holders) in self.view.claims.slots(service.id) {
            let live = holders.iter().filter(|(node, _)| self.view.members.holds_claims(*node));
            for (_, claim) in live.filter(|(_, claim)| claim.task.template == spec.template) {
                let ended = claim.phase == Phase::Complete;
                running += u64::from(claim.phase == Phase::Ready);
                open += u64::from(!ended && !job.ended.contains(slot));
                if ended && claim.task.state == TaskState::Complete {
                    done.insert(slot);
                }
            }
        }
        let desired = match spec.mode {
            Mode::ReplicatedJob => u64::from(spec.max_concurrent),
            _ => open,
        };
        (running, done.len() as u64, desired)
    }

    /// Every task that this node knows of: held slots, what is still pending, and what ended.
    pub fn tasks(&self) -> Vec<TaskView> {
        let mut tasks = Vec::new();
        let removed =
            self.view.claims.services().filter(|id| self.view.services.get(*id).is_none());
        for id in self.view.services.ids().chain(removed) {
            self.tasks_of(id, &mut tasks);
        }
        tasks
    }

    pub fn tasks_of(&self, id: ServiceId, tasks: &mut Vec<TaskView>) {
        let service = self.view.services.get(id);
        let first = tasks.len();
        for (_, holders) in self.view.claims.slots(id) {
            for (node, claim) in holders {
                let live = self.view.members.holds_claims(*node);
                let desired = match service {
                    Some(service) if live => desired_of(service, claim),
                    _ => DesiredState::Shutdown,
                };
                tasks.push(self.task_view(id, service, Some(*node), claim.task.clone(), desired));
            }
        }
        self.pending_of(id, service, tasks);
        self.recorded_of(id, service, first, tasks);
        self.untold_of(id, service, first, tasks);
        let mine = self.local.history.get(&id).into_iter().flatten().map(|t| (self.me, t));
        let others = self
            .view
            .histories
            .range((id, NodeId(0))..=(id, NodeId(u128::MAX)))
            .flat_map(|((_, node), ended)| ended.iter().map(|t| (*node, t)));
        // The last attempt of a slot is told twice while its holder waits to try again.
        let told: BTreeSet<TaskId> = tasks[first..].iter().map(|t| t.status.id).collect();
        let mut ended: Vec<(NodeId, &TaskStatus)> = mine
            .chain(others)
            .filter(|(_, task)| service.is_some() && !told.contains(&task.id))
            .filter(|(_, task)| !is_scaled_away(service, task.slot))
            .collect();
        // Each node keeps so many for a slot; of all together as many are shown, the newest, and as in Swarm
        // what the slot has now is one of them.
        ended.sort_by_key(|(_, task)| (task.slot, Reverse(task.created), task.id));
        let mut shown: BTreeMap<Slot, usize> = BTreeMap::new();
        for task in &tasks[first..] {
            *shown.entry(task.slot()).or_default() += 1;
        }
        for (node, task) in ended {
            let shown = shown.entry(task.slot).or_default();
            *shown += 1;
            if *shown <= self.local.retention {
                let desired = DesiredState::Shutdown;
                tasks.push(self.task_view(id, service, Some(node), task.clone(), desired));
            }
        }
    }

    /// Tasks of a job that are only told of by the records: their nodes have let go of them, or are gone.
    fn recorded_of(
        &self,
        id: ServiceId,
        service: Option<&Service>,
        first: usize,
        tasks: &mut Vec<TaskView>,
    ) {
        let Some(job) = service.and_then(|service| service.job.as_ref()) else { return };
        let mut told: BTreeSet<TaskId> = tasks[first..].iter().map(|t| t.status.id).collect();
        for task in &job.ended.tasks {
            if told.insert(task.status.id) {
                let complete = task.status.state == TaskState::Complete;
                let desired =
                    if complete { DesiredState::Complete } else { DesiredState::Shutdown };
                let status = task.status.clone();
                tasks.push(self.task_view(id, service, Some(task.node), status, desired));
            }
        }
    }

    /// Ended slots of a job of which no record has more than the number: jobs of thousands have such.
    fn untold_of(
        &self,
        id: ServiceId,
        service: Option<&Service>,
        first: usize,
        tasks: &mut Vec<TaskView>,
    ) {
        let Some(service) = service else { return };
        let (Some(job), Some(spec)) = (&service.job, service.active()) else { return };
        let present = tasks[first..].iter().filter(|t| t.status.template == spec.template);
        let over = present.filter(|t| t.state().is_over());
        let told: BTreeSet<Slot> = over.map(TaskView::slot).collect();
        let done = job.ended.done.slots().map(|slot| (slot, TaskState::Complete));
        let failed = job.ended.failed.slots().map(|slot| (slot, TaskState::Failed));
        for (slot, state) in done.chain(failed).filter(|(slot, _)| !told.contains(slot)) {
            let complete = state == TaskState::Complete;
            let desired = if complete { DesiredState::Complete } else { DesiredState::Shutdown };
            let status = TaskStatus {
                state,
                message: "ended".to_owned(),
                ..unknown_task(service, Place { service: id, slot })
            };
            let node = if let Slot::Node(node) = slot { Some(node) } else { None };
            tasks.push(self.task_view(id, Some(service), node, status, desired));
        }
    }

    fn pending_of(&self, id: ServiceId, service: Option<&Service>, tasks: &mut Vec<TaskView>) {
        let Some(service) = service else { return };
        let slots: Vec<u32> = match (service.active(), &service.job) {
            (Some(spec), None) if spec.mode == Mode::Replicated => (1..=spec.replicas).collect(),
            (Some(_), Some(job)) => job.due.iter().copied().collect(),
            // A shadowed service shows one line that says why it does not run.
            (None, _) => vec![1],
            (Some(_), None) => return,
        };
        let desired =
            if service.job.is_some() { DesiredState::Complete } else { DesiredState::Running };
        let mut reasons = None;
        for index in slots {
            let place = Place { service: id, slot: Slot::Index(index) };
            let held = self.view.claims.on(place);
            if held.iter().any(|(node, _)| self.view.members.holds_claims(*node)) {
                continue;
            }
            let reasons = reasons.get_or_insert_with(|| self.pending_reasons(service));
            let status =
                TaskStatus { error: reasons.get(&index).cloned(), ..unknown_task(service, place) };
            tasks.push(self.task_view(id, Some(service), None, status, desired));
        }
    }

    fn task_view(
        &self,
        id: ServiceId,
        service: Option<&Service>,
        node: Option<NodeId>,
        status: TaskStatus,
        desired: DesiredState,
    ) -> TaskView {
        let template = service.and_then(Service::active).map(|s| s.template);
        let job = service.and_then(|service| service.job.as_ref());
        TaskView {
            iteration: job.map(|job| job.iteration_of(status.template)),
            service: id,
            service_name: service.map(|s| s.name().to_owned()).unwrap_or_default(),
            node,
            up_to_date: template == Some(status.template),
            template: service.map(|s| Arc::clone(&s.task_template)).unwrap_or_default(),
            version: service.map_or(0, Service::version),
            status,
            desired,
        }
    }

    /// Slots that failed on this node and are left to others for a while.
    pub fn kept_away(&self) -> BTreeSet<Place> {
        self.takeovers.kept_away(self.timers.last_handled)
    }

    pub fn members(&self) -> Vec<MemberView> {
        self.view.members.iter().map(|(id, known)| self.member_view(id, known)).collect()
    }

    fn member_view(&self, id: NodeId, known: &Known) -> MemberView {
        let replicas = self.view.claims.places_of(id).count();
        let since = known.admission.as_ref().map_or(0, |a| a.since_ms);
        MemberView {
            id,
            is_me: id == self.me,
            state: known.state,
            reason: known.reason.clone(),
            since: known.since_wall,
            profile: known.profile.clone(),
            health: known.health.clone(),
            name: known.settings.name.clone().unwrap_or_else(|| known.name()),
            given_name: known.settings.name.clone(),
            addr: known.addr().map(|a| a.to_string()).unwrap_or_default(),
            role: known.settings.role.clone(),
            availability: known.settings.availability,
            labels: known.settings.labels.clone(),
            version: node_version(known),
            created: Wall(since),
            updated: Wall(known.settings.stamp.ms.max(since)),
            replicas: u32::try_from(replicas).unwrap_or(u32::MAX),
        }
    }

    /// Losing concurrent edits that nobody has dismissed, and services whose name another one bears.
    pub fn conflicts(&self) -> Vec<ConflictView> {
        self.view.registers.conflicts().into_iter().map(|c| self.conflict_view(&c)).collect()
    }

    fn conflict_view(&self, conflict: &membership::registers::Conflict) -> ConflictView {
        let loser = &conflict.loser;
        let about = matches!(conflict.key.kind, Kind::Service | Kind::Scale);
        let service = about.then_some(ServiceId(conflict.key.id));
        let body = loser.body.as_deref().and_then(|b| serde_json::from_slice::<Value>(b).ok());
        let body = body.map(without_secrets);
        let named = service.and_then(|id| self.view.services.get(id)).map(|s| s.name().to_owned());
        let in_body =
            loser.body.as_deref().and_then(|b| serde_json::from_slice::<ServiceBody>(b).ok());
        let in_body = in_body.and_then(|b| b.spec.get("Name")?.as_str().map(str::to_owned));
        let asset = asset_of(&conflict.key).and_then(|(kind, id)| self.view.assets.get(kind, id));
        let asset = asset.map(|asset| format!("{} {}", asset.kind.name(), asset.name()));
        let name =
            named.or(in_body).or(asset).unwrap_or_else(|| format!("{:?}", conflict.key.kind));
        let winner = self.view.registers.get(&conflict.key).map(|r| self.node_name(r.writer));
        let what = match (conflict.key.kind, loser.is_tombstone()) {
            (_, true) => "the removal",
            (Kind::Scale, false) => "the replica count",
            _ => "the edit",
        };
        let text = format!(
            "CONFLICT {name}: {what} made on {} was superseded by one made on {} at the same time; it is kept until it is dismissed",
            self.node_name(loser.writer),
            winner.unwrap_or_else(|| "another node".to_owned()),
        );
        ConflictView {
            id: conflict.id.id,
            text,
            service,
            writer: loser.writer,
            when: Wall(loser.stamp.ms),
            body,
        }
    }
}

/// What a task that its node claims is wanted to become.
fn desired_of(service: &Service, claim: &Claim) -> DesiredState {
    let Some(spec) = service.active() else { return DesiredState::Shutdown };
    let complete = claim.phase == Phase::Complete;
    if let Some(job) = &service.job {
        let present = claim.task.template == spec.template;
        let ended_well = complete && claim.task.state == TaskState::Complete;
        let wanted = present && (ended_well || !complete && job.wants(claim.slot));
        return if wanted { DesiredState::Complete } else { DesiredState::Shutdown };
    }
    let wanted = is_wanted(spec, claim.slot) && !complete;
    if wanted { DesiredState::Running } else { DesiredState::Shutdown }
}

/// Nothing is told of a slot that is not wanted any more, as in Swarm.
fn is_scaled_away(service: Option<&Service>, slot: Slot) -> bool {
    match (service.and_then(Service::active), slot) {
        (Some(spec), Slot::Index(index)) if spec.mode == Mode::Replicated => index > spec.replicas,
        (Some(spec), Slot::Index(index)) => index >= spec.replicas,
        _ => false,
    }
}

/// What can be said of a slot of which there is no task, or no word of it: that it waits.
fn unknown_task(service: &Service, place: Place) -> TaskStatus {
    let job = service.job.as_ref();
    // Clients want an id that stays the same while it waits.
    let execution = job.map_or(String::new(), |job| format!(" {}", job.iteration));
    let text = format!("pending {} {}{execution}", place.service, place.slot);
    TaskStatus {
        id: TaskId(Digest::of_bytes(text.as_bytes()).0),
        slot: place.slot,
        template: service.active().map(|s| s.template).unwrap_or_default(),
        created: service.updated(),
        state: TaskState::Pending,
        since: service.updated(),
        message: "waiting for a node".to_owned(),
        error: None,
        container: None,
        pid: None,
        exit_code: None,
        ports: Vec::new(),
    }
}
