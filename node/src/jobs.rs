//! Jobs: services whose slots each run to their end once, instead of for ever.
//!
//! There is nobody who counts. The slots that are wanted follow from the records of what has ended
//! (`completions`): of those that have not, the lowest `MaxConcurrent` are due, and who takes them is
//! decided as for every other slot. A node that has heard of fewer ends than another wants lower slots,
//! never other ones, so that at most `MaxConcurrent` slots run however much the views differ.
//!
//! What must not happen is that a slot which has ended is run again by somebody who has not heard of it.
//! So the claim on it stands until the record is everywhere ([`SHIELD`]); a claim that tells of an end
//! counts even when its node has died; and after members came, went or were cut off, nothing of a job is
//! taken over before the others were asked for their records. Nor may two begin a slot at the same time:
//! a claim is told a moment before anything is started for it.

use std::collections::BTreeSet;
use std::sync::Arc;

use membership::id::ServiceId;
use membership::member::MemberState;
use membership::record::{Key, Kind};
use membership::sync;
use membership::time::{Instant, Millis, Now, Wall};
use membership::wire;
use placement::misplaced;

use crate::completions::{Completions, Ended, EndedTask, key};
use crate::hosts::request;
use crate::io::{Effect, Notice};
use crate::node::Node;
use crate::reconcile::LOOK_AGAIN;
use crate::services::{JobBody, Service};
use crate::slot::{Phase, Place, Slot, TaskState, TemplateId};
use crate::spec::{Mode, Partition, ServiceSpec};
use crate::writes::{Batch, Origin};

/// How long the claim on a slot that has ended is kept beside the record of it: until the record has
/// come to everybody who could take the slot for an open one.
const SHIELD: Millis = Millis(30_000);
/// After so long without everybody's records being equal a job goes on all the same: in a busy cluster
/// they may hardly ever be.
const DOUBT_AT_MOST: Millis = Millis(15_000);

/// How long a node that has a record of a later execution than the one it knows, and nobody to ask, waits for the
/// service's own record. It must end: the later execution may have been of an edit that lost, on a host that is gone.
const BEHIND_AT_MOST: Millis = Millis(600_000);

/// How many executions can be told apart by the template's id.
const EXECUTIONS: u64 = 1 << 20;

impl TemplateId {
    /// The id of what the tasks of one execution of a job are made from: the same template executed again
    /// is another one.
    pub(crate) fn of_iteration(self, iteration: u64) -> Self {
        Self((self.0 & !(EXECUTIONS - 1)) | (iteration % EXECUTIONS))
    }

    /// Whether this is of a later execution of a job than `other`: by their numbers, as far as half of those
    /// that can be told apart.
    pub(crate) fn is_executed_after(self, other: Self) -> bool {
        let ahead = self.0.wrapping_sub(other.0) % EXECUTIONS;
        (1..EXECUTIONS / 2).contains(&ahead)
    }

    /// The execution that a task belonged to, of a job that is at `present`.
    fn iteration(self, present: u64) -> u64 {
        present.saturating_sub(present.wrapping_sub(self.0) % EXECUTIONS)
    }
}

/// One execution of a job, and how far it has come.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Job {
    pub iteration: u64,
    /// When it was asked for.
    pub executed: Wall,
    pub ended: Ended,
    /// The numbered slots that should run now.
    pub due: Arc<BTreeSet<u32>>,
}

impl Job {
    pub(crate) fn new(spec: &ServiceSpec, body: JobBody, ended: Ended) -> Self {
        let most = usize::try_from(spec.max_concurrent).unwrap_or(usize::MAX);
        let numbered = if spec.mode == Mode::ReplicatedJob { spec.replicas } else { 0 };
        let open = (0..numbered).filter(|index| !ended.contains(Slot::Index(*index)));
        Self {
            due: Arc::new(open.take(most).collect()),
            iteration: body.iteration,
            executed: Wall(body.executed_ms),
            ended,
        }
    }

    /// The slot should run now.
    pub(crate) fn wants(&self, slot: Slot) -> bool {
        match slot {
            Slot::Index(index) => self.due.contains(&index),
            Slot::Node(_) => !self.ended.contains(slot),
        }
    }

    pub(crate) fn iteration_of(&self, template: TemplateId) -> u64 {
        template.iteration(self.iteration)
    }
}

/// Whether what others have recorded may not have come yet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doubt {
    pub since: Instant,
    asked: Instant,
    /// When a record came that is about a later execution of a job than this node has heard of. It replaced what
    /// was recorded of the one that this node knows, so whether a slot of that has ended cannot be told any more.
    pub behind: Option<Instant>,
    /// When it was over. Turns are counted from here: nodes come out of it at about one time, and those
    /// that would have been due long before must not all begin the same slot.
    pub over: Option<Instant>,
}

impl Doubt {
    pub(crate) fn at(at: Instant) -> Self {
        Self { since: at, asked: at, behind: None, over: None }
    }

    /// Anew, and for no less.
    pub(crate) fn again(self, at: Instant) -> Self {
        Self { behind: self.behind.filter(|_| self.over.is_none()), ..Self::at(at) }
    }
}

impl Node {
    /// Members came, went or were cut off, or this node was: it asks for records that it may have missed.
    pub(crate) fn doubt_records(&mut self, now: Now) {
        self.doubt = self.doubt.again(now.at);
        if self.has_jobs() {
            self.ask_for_records();
        }
    }

    /// A record came that is about a later execution of a job than this node has heard of: whoever wrote it has the
    /// service's record that is missing here.
    pub(crate) fn missed_an_execution(&mut self, now: Now) {
        self.doubt_records(now);
        self.doubt.behind = Some(now.at);
    }

    fn has_jobs(&self) -> bool {
        self.view.services.iter().any(|service| service.job.is_some())
    }

    fn ask_for_records(&mut self) {
        let root = sync::start(&self.view.registers);
        for peer in self.audience(None) {
            self.send(peer, membership::message::Message::Sync(root.clone()));
        }
    }

    /// Whether others may know slots to have ended of which this node has not heard.
    pub(crate) fn doubts_what_ended(&self, at: Instant) -> bool {
        if self.doubt.over.is_some() {
            return false;
        }
        let doubted = at.since(self.doubt.since);
        let mine = self.view.registers.root();
        let differs = |k: &crate::members::Known| k.health.as_ref().is_none_or(|h| h.root != mine);
        let mut others = self
            .view
            .members
            .iter()
            .filter(|(id, k)| *id != self.me && k.state.holds_claims())
            .peekable();
        let alone = others.peek().is_none();
        let differ = others.any(|(_, k)| differs(k));
        let behind = self.is_behind(at);
        doubted < self.settings.settle
            || (differ && doubted < DOUBT_AT_MOST)
            || (behind && (differ || alone) && self.view.misses_an_execution())
    }

    /// Whether the record of a job's next execution may be missing here.
    fn is_behind(&self, at: Instant) -> bool {
        self.doubt.behind.is_some_and(|since| at.since(since) < BEHIND_AT_MOST)
    }

    /// Whether it is known here what has ended. Asks, now and then, while it is not.
    pub(crate) fn knows_what_ended(&mut self, now: Now) -> bool {
        if !self.doubts_what_ended(now.at) {
            self.doubt.over.get_or_insert(now.at);
            return true;
        }
        if now.at.since(self.doubt.asked) >= self.settings.sync_interval {
            self.doubt.asked = now.at;
            self.ask_for_records();
        }
        false
    }

    pub(crate) fn reconcile_job(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        let Some(job) = service.job.clone() else { return };
        self.record_ends(service, spec, Vec::new(), now);
        for place in self.local.places(service.id) {
            self.review_job_slot(place, &job, spec, now);
        }
        self.tidy_earlier(service.id, spec.template);
        match spec.mode {
            Mode::ReplicatedJob => {
                self.give_way(service.id, spec, now);
                self.take_open(service, spec, now);
            }
            _ => self.take_own(service, &job, spec, now),
        }
    }

    /// What is held of a job and should not be any more is let go of.
    fn review_job_slot(&mut self, place: Place, job: &Job, spec: &ServiceSpec, now: Now) {
        let leaving = self.leaving.is_some();
        let Some(held) = self.local.held.get_mut(&place) else { return };
        if let Some(outcome) = &held.outcome {
            if outcome.template != spec.template {
                self.local.retire(place);
            } else if job.ended.contains(place.slot) {
                let until = *held.recorded.get_or_insert(now.at) + SHIELD;
                if now.at >= until || leaving {
                    self.local.retire(place);
                } else {
                    self.look_again(place.service, until);
                }
            }
            return;
        }
        if !job.wants(place.slot) {
            let ended = job.ended.contains(place.slot);
            let why = if ended { "its work is done" } else { "not wanted any more: scaled down" };
            return self.local.release(place, now, why, spec.stop_grace);
        }
        let present = held.run.as_ref().map(|run| run.recipe.template);
        let present = present.or(held.last.as_ref().map(|last| last.template));
        if present.is_some_and(|template| template != spec.template) {
            let why = "the job is executed anew";
            return self.local.release(place, now, why, spec.stop_grace);
        }
        if let Some(reason) = misplaced(&self.view.cluster, &request(place.service, spec), self.me)
        {
            self.leave_job_slot(place, &reason.to_string(), spec, now);
        }
    }

    /// Stops first and lets go then, for elsewhere the slot begins from the start: two of it at a time
    /// would do its work twice.
    fn leave_job_slot(&mut self, place: Place, reason: &str, spec: &ServiceSpec, now: Now) {
        let why = format!("this node {reason}");
        let Some(held) = self.local.held.get_mut(&place) else { return };
        let begun = held.run.take_if(|run| !run.is_ahead());
        if let Some(run) = begun {
            held.waits_for = Some(run.id());
            held.last = Some(run.status.clone());
            self.local.stop_run(place, run, now, &why, spec.stop_grace);
        } else if held.waits_for.is_none() {
            self.local.release(place, now, &why, spec.stop_grace);
        }
    }

    /// A global job runs on every node that was there when it was executed and that fits.
    fn take_own(&mut self, service: &Service, job: &Job, spec: &ServiceSpec, now: Now) {
        let place = Place { service: service.id, slot: Slot::Node(self.me) };
        if self.local.held.contains_key(&place) || !job.wants(place.slot) {
            return;
        }
        let admitted = self.view.members.get(self.me).and_then(|known| known.admission.as_ref());
        if admitted.is_none_or(|admission| admission.since_ms > job.executed.0) {
            return;
        }
        let minority = spec.partition != Partition::Available && !self.view.members.has_majority();
        let waits = self.settling.on() || self.leaving.is_some() || minority;
        if waits || !self.knows_what_ended(now) {
            self.look_again(service.id, now.at + LOOK_AGAIN);
            return;
        }
        let request = request(service.id, spec);
        if placement::eligible(&self.view.cluster, &request, self.me).is_ok()
            && self.has_room(place, spec)
        {
            self.claim(place, None, now);
        }
    }

    /// Ends and claims are on their way all the time, so that two nodes may each find that the same slot is
    /// its own turn. Of a service two would serve for a moment; here the work would be begun twice. So a claim
    /// is told first, and what it is for is started when those of others have had the time to come.
    pub(crate) fn let_claim_settle(&mut self, place: Place, now: Now) {
        if self.view.members.other_live(self.me).next().is_none() {
            return;
        }
        let at = now.at + Millis(self.settings.stagger.0 / 2);
        if let Some(held) = self.local.held.get_mut(&place) {
            held.settles_at = Some(at);
        }
        self.look_again(place.service, at);
    }

    /// Somebody's word that the slot has ended, be it that of a node that is gone by now.
    pub(crate) fn witnessed_end(&self, place: Place, spec: &ServiceSpec) -> Option<EndedTask> {
        let ended = |task: &crate::slot::TaskStatus| {
            task.template == spec.template && task.state == TaskState::Complete
        };
        let claims = self.view.claims.on(place).iter();
        claims
            .filter(|(node, _)| *node != self.me)
            .find(|(_, claim)| claim.phase == Phase::Complete && ended(&claim.task))
            .map(|(node, claim)| EndedTask { node: *node, status: claim.task.clone() })
    }

    /// Writes down what has ended here and what others were heard to have ended.
    pub(crate) fn record_ends(
        &mut self,
        service: &Service,
        spec: &ServiceSpec,
        mut ended: Vec<EndedTask>,
        now: Now,
    ) {
        let Some(job) = &service.job else { return };
        let here = self.local.places(service.id).into_iter().filter_map(|place| {
            let outcome = self.local.held.get(&place)?.outcome.as_ref()?;
            (outcome.template == spec.template)
                .then(|| EndedTask { node: self.me, status: outcome.clone() })
        });
        ended.extend(here);
        ended.retain(|task| !job.ended.contains(task.status.slot));
        if ended.is_empty() {
            return;
        }
        if self.writes.busy() {
            self.look_again(service.id, now.at + self.settings.pass_interval);
            return;
        }
        let registers = &self.view.registers;
        let mut body = Completions::of(registers, service.id, self.me, spec.template);
        ended.into_iter().for_each(|task| body.add(task));
        match wire::encode(&body) {
            Ok(bytes) => self.write_own_bytes(key(service.id, self.me), bytes, now),
            Err(error) => {
                let text = format!(
                    "what has ended of job {} here cannot be written down: {error}; it may be run again when this node is lost",
                    service.name()
                );
                self.out.push(Effect::Notice(Notice::Warning { text }));
            }
        }
        // A disk that refuses is asked again.
        self.look_again(service.id, now.at + LOOK_AGAIN * 5);
    }

    /// Containers that are kept of earlier executions, in slots that this node does not hold now.
    fn tidy_earlier(&mut self, service: ServiceId, template: TemplateId) {
        for place in self.local.kept_places(service) {
            let earlier = self.local.kept.get(&place).is_some_and(|kept| kept.template != template);
            if earlier && !self.local.held.contains_key(&place) {
                self.local.tidy_kept(place);
            }
        }
    }

    /// Drops records of executions that are over and of services that are gone: each node its own, the
    /// service's steward those of nodes that have left. Only while all members are here and hold the same,
    /// so that no edit that would bring the service back is still on its way.
    pub(crate) fn drop_old_completions(&mut self, now: Now) {
        let busy = self.writes.busy() || self.is_behind(now.at);
        if self.view.is_shared() || self.settling.on() || busy {
            return;
        }
        let mine = self.view.registers.root();
        let mut present = BTreeSet::from([self.me]);
        for (id, known) in self.view.members.iter().filter(|(_, k)| k.belongs()) {
            let reached = matches!(known.state, MemberState::Alive | MemberState::Draining);
            let agrees = reached && known.health.as_ref().is_some_and(|h| h.root == mine);
            if id != self.me && !agrees {
                return;
            }
            present.insert(id);
        }
        let old: Vec<Key> = self
            .view
            .registers
            .live(Kind::Completions)
            .filter_map(|(_, record)| Some((record.key, Completions::read(record)?)))
            .filter(|(_, body)| self.is_over(body))
            .filter(|(_, body)| {
                let steward = || placement::steward(body.service, present.iter().copied());
                let writer = Some(body.node).filter(|node| present.contains(node));
                writer.or_else(steward) == Some(self.me)
            })
            .map(|(key, _)| key)
            .collect();
        let drafts =
            old.into_iter().filter_map(|key| self.draft(key.kind, key.id, None, now).ok()?);
        let records: Vec<_> = drafts.collect();
        if !records.is_empty() {
            self.writes.push(Batch { records, origin: Origin::Own });
        }
    }

    fn is_over(&self, body: &Completions) -> bool {
        if let Some(service) = self.view.services.get(body.service) {
            return service.spec.as_ref().is_ok_and(|spec| spec.template != body.template);
        }
        // Where nothing stands, the service's own record may be yet to come.
        let key = Key { kind: Kind::Service, id: body.service.0 };
        self.view.registers.get(&key).is_some_and(membership::record::Record::is_tombstone)
    }
}
