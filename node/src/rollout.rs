//! Rolling updates without a master.
//!
//! Which slots may be replaced by the new template is itself a record: the service's steward (the
//! node that the hash makes responsible) writes it, every node reads it, and each holder replaces its
//! own slots once they are permitted. When the steward dies half way, the next one reads the record
//! and the claims and goes on at that place. Nothing about a rollout lives only in a process, but for
//! the clock of a delay, which then starts again.
//!
//! Swarm's meaning throughout: parallelism, delay, order, monitor, failure action, failure ratio.

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId};
use membership::member::MemberState;
use membership::record::Kind;
use membership::time::{Instant, Millis, Now, Wall};
use serde::{Deserialize, Serialize};

use crate::io::{Effect, Notice};
use crate::node::Node;
use crate::services::Service;
use crate::slot::{Claim, Phase, Place, Slot, TaskState, TaskStatus, TemplateId};
use crate::spec::{FailureAction, ServiceSpec, UpdateConfig};
use crate::views::UpdateStatus;

/// How far a rollout has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RolloutState {
    Updating,
    Paused,
    Completed,
    RollbackStarted,
    RollbackPaused,
    RollbackCompleted,
}

impl RolloutState {
    /// As Docker's API spells it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Updating => "updating",
            Self::Paused => "paused",
            Self::Completed => "completed",
            Self::RollbackStarted => "rollback_started",
            Self::RollbackPaused => "rollback_paused",
            Self::RollbackCompleted => "rollback_completed",
        }
    }

    fn is_back(self) -> bool {
        matches!(self, Self::RollbackStarted | Self::RollbackPaused | Self::RollbackCompleted)
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::RollbackCompleted)
    }

    fn is_running(self) -> bool {
        matches!(self, Self::Updating | Self::RollbackStarted)
    }
}

/// The body of a `Kind::Rollout` record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rollout {
    pub v: u16,
    /// The template that is being rolled out; a record about another one says nothing.
    pub template: u64,
    pub state: RolloutState,
    pub started_ms: u64,
    pub completed_ms: Option<u64>,
    pub message: String,
    /// Slots that may be replaced, in the order in which they were permitted.
    pub permitted: Vec<Slot>,
}

impl Rollout {
    pub(crate) fn begin(template: TemplateId, back: bool, message: &str, wall: Wall) -> Self {
        Self {
            v: 1,
            template: template.0,
            state: if back { RolloutState::RollbackStarted } else { RolloutState::Updating },
            started_ms: wall.0,
            completed_ms: None,
            message: message.to_owned(),
            permitted: Vec::new(),
        }
    }

    /// Whether the holder of `slot` may replace its task by one of `template`.
    pub(crate) fn permits(&self, template: TemplateId, slot: Slot) -> bool {
        self.template == template.0 && (self.state.is_over() || self.permitted.contains(&slot))
    }

    /// Whether a task is one that this rollout brought about, not one from before.
    pub(crate) fn made(&self, task: &TaskStatus) -> bool {
        task.template.0 == self.template && task.created.0 >= self.started_ms
    }

    pub(crate) fn is_running(&self) -> bool {
        self.state.is_running()
    }

    pub(crate) fn status(&self) -> UpdateStatus {
        UpdateStatus {
            state: self.state.name().to_owned(),
            started: Wall(self.started_ms),
            completed: self.completed_ms.map(Wall),
            message: self.message.clone(),
        }
    }
}

/// What a steward remembers between two looks; losing it costs time only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    /// Since when no permitted slot has been on its way.
    idle_since: Option<Instant>,
}

/// What the steward wants written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing before this time, if any.
    Wait(Option<Instant>),
    Write(Rollout),
    /// Go back to the previous spec, for this reason.
    RollBack(String),
}

/// One look of the steward. `best` has the best claim of each wanted slot that anybody holds; `ended` the
/// latest task of this rollout that failed in a slot, as its holder tells it.
pub(crate) fn steer(
    spec: &ServiceSpec,
    rollout: Option<&Rollout>,
    best: &BTreeMap<Slot, (NodeId, &Claim)>,
    ended: impl Fn(Slot, NodeId) -> Option<TaskStatus>,
    memory: &mut Memory,
    now: Now,
) -> Step {
    let outdated: Vec<Slot> = best
        .iter()
        .filter(|(_, (_, claim))| claim.task.template != spec.template)
        .map(|(slot, _)| *slot)
        .collect();
    let Some(rollout) = rollout.filter(|r| r.template == spec.template.0) else {
        if outdated.is_empty() {
            return Step::Wait(None);
        }
        // A spec won that was written without a rollout of its own (a concurrent edit, most likely).
        memory.idle_since = None;
        return Step::Write(Rollout::begin(spec.template, false, "update in progress", now.wall));
    };
    if !rollout.state.is_running() {
        return Step::Wait(None);
    }
    let config = if rollout.state.is_back() { spec.rollback } else { spec.update };
    let is_new = |claim: &Claim| claim.task.template == spec.template;
    let failed = failed_slots(rollout, best, ended);
    if let Some(step) = on_failures(rollout, config, best.len(), &failed) {
        return step;
    }
    // A slot whose new task failed, where that is put up with, is not waited for: it may never serve.
    let working: Vec<Slot> = rollout
        .permitted
        .iter()
        .filter(|slot| best.get(slot).is_some_and(|(_, claim)| !(is_new(claim) && serves(claim))))
        .filter(|slot| !failed.contains_key(slot))
        .copied()
        .collect();
    if working.is_empty() {
        memory.idle_since.get_or_insert(now.at);
    } else {
        memory.idle_since = None;
    }
    let idle_since = memory.idle_since;
    let waiting: Vec<Slot> =
        outdated.into_iter().filter(|slot| !rollout.permitted.contains(slot)).collect();
    if waiting.is_empty() {
        return finish(rollout, config, working.is_empty().then_some(idle_since).flatten(), now);
    }
    let started = !rollout.permitted.is_empty();
    if started && config.delay > Millis::ZERO {
        match idle_since {
            None => return Step::Wait(None),
            Some(since) if now.at < since + config.delay => {
                return Step::Wait(Some(since + config.delay));
            }
            Some(_) => {}
        }
    }
    let at_once = usize::try_from(config.parallelism).unwrap_or(usize::MAX);
    let room = if at_once == 0 { usize::MAX } else { at_once.saturating_sub(working.len()) };
    if room == 0 {
        return Step::Wait(None);
    }
    let mut next = rollout.clone();
    next.permitted.extend(waiting.into_iter().take(room));
    memory.idle_since = None;
    Step::Write(next)
}

fn serves(claim: &Claim) -> bool {
    matches!(claim.phase, Phase::Ready | Phase::Complete)
}

/// The slots whose new task failed, each with its latest such task. A claim that tells of failures is not
/// enough: they may be the old template's, and while an old task serves it is the one that is claimed.
fn failed_slots(
    rollout: &Rollout,
    best: &BTreeMap<Slot, (NodeId, &Claim)>,
    ended: impl Fn(Slot, NodeId) -> Option<TaskStatus>,
) -> BTreeMap<Slot, TaskStatus> {
    rollout
        .permitted
        .iter()
        .filter_map(|slot| best.get(slot).map(|(node, claim)| (slot, node, claim)))
        .filter(|(_, _, claim)| claim.failures > 0)
        .filter_map(|(slot, node, claim)| {
            let told = (rollout.made(&claim.task) && claim.task.error.is_some())
                .then(|| claim.task.clone());
            told.or_else(|| ended(*slot, *node)).map(|task| (*slot, task))
        })
        .collect()
}

/// Whether too many new tasks failed, and what the spec says to do then.
fn on_failures(
    rollout: &Rollout,
    config: UpdateConfig,
    slots: usize,
    failed: &BTreeMap<Slot, TaskStatus>,
) -> Option<Step> {
    let first = rollout.permitted.iter().find_map(|slot| failed.get(slot))?;
    let total = slots.max(1) as u64;
    if failed.len() as u64 * 1000 <= config.max_failures_per_mille * total {
        return None;
    }
    let back = rollout.state.is_back();
    let reason = first.error.clone().unwrap_or_else(|| "it did not become ready".to_owned());
    let text = format!(
        "{} paused due to failure or early termination of task {}: {reason}",
        if back { "rollback" } else { "update" },
        first.id,
    );
    match config.action {
        FailureAction::Continue => None,
        FailureAction::Rollback if !back => Some(Step::RollBack(format!(
            "update rolled back due to failure or early termination of task {}: {reason}",
            first.id
        ))),
        FailureAction::Pause | FailureAction::Rollback => {
            let mut paused = rollout.clone();
            paused.state = if back { RolloutState::RollbackPaused } else { RolloutState::Paused };
            paused.message = text;
            paused.completed_ms = None;
            Some(Step::Write(paused))
        }
    }
}

/// All slots are new: done once they have stayed so for the monitoring time.
fn finish(rollout: &Rollout, config: UpdateConfig, idle: Option<Instant>, now: Now) -> Step {
    let Some(since) = idle else { return Step::Wait(None) };
    let done_at = since + if rollout.permitted.is_empty() { Millis::ZERO } else { config.monitor };
    if now.at < done_at {
        return Step::Wait(Some(done_at));
    }
    let mut done = rollout.clone();
    let back = rollout.state.is_back();
    done.state = if back { RolloutState::RollbackCompleted } else { RolloutState::Completed };
    done.message = if back { "rollback completed" } else { "update completed" }.to_owned();
    done.completed_ms = Some(now.wall.0);
    Step::Write(done)
}

impl Node {
    /// If this node is the service's steward: the next step of its rollout.
    pub(crate) fn steward(&mut self, service: &Service, spec: &ServiceSpec, now: Now) {
        // Choosing the steward asks every member: only where there is something to decide.
        let Some(standing) = self.view.standing(service.id) else { return };
        let ours = service.rollout.as_ref().filter(|r| r.template == spec.template.0);
        if !ours.map_or(standing.has_outdated(), Rollout::is_running) {
            return;
        }
        let able = self
            .view
            .members
            .iter()
            .filter(|(_, k)| k.belongs() && k.profile.is_some() && !k.is_settling())
            .filter(|(_, k)| matches!(k.state, MemberState::Alive | MemberState::Draining))
            .map(|(id, _)| id);
        if placement::steward(service.id, able) != Some(self.me) || self.settling.on() {
            return;
        }
        let best: BTreeMap<Slot, (NodeId, &Claim)> = standing
            .held()
            .filter_map(|(slot, node)| {
                let holders = self.view.claims.on(Place { service: service.id, slot });
                let (_, claim) = holders.iter().find(|(holder, _)| *holder == node)?;
                Some((slot, (node, claim.as_ref())))
            })
            .collect();
        let mut memory = self.stewarding.remove(&service.id).unwrap_or_default();
        let rollout = service.rollout.as_ref();
        let ended = |slot, node| self.failed_in(rollout?, service.id, slot, node).cloned();
        let step = steer(spec, rollout, &best, ended, &mut memory, now);
        self.stewarding.insert(service.id, memory);
        match step {
            Step::Wait(None) => {}
            Step::Wait(Some(at)) => self.look_again(service.id, at),
            _ if self.writes.busy() => {
                self.look_again(service.id, now.at + self.settings.pass_interval)
            }
            Step::Write(rollout) => {
                self.write_own(Kind::Rollout, service.id.0, &rollout, now);
            }
            Step::RollBack(reason) => {
                if let Err(error) = self.write_rollback(service, &reason, now) {
                    let text =
                        format!("service {}: automatic rollback failed: {error}", service.name());
                    self.out.push(Effect::Notice(Notice::Warning { text }));
                }
            }
        }
    }

    /// The latest task of a rollout that failed in a slot on a node, by what that node tells of ended tasks.
    fn failed_in(
        &self,
        rollout: &Rollout,
        service: ServiceId,
        slot: Slot,
        node: NodeId,
    ) -> Option<&TaskStatus> {
        let told = if node == self.me {
            self.local.history.get(&service)
        } else {
            self.view.histories.get(&(service, node))
        };
        let failed = |t: &TaskStatus| matches!(t.state, TaskState::Failed | TaskState::Rejected);
        told?.iter().find(|t| t.slot == slot && failed(t) && rollout.made(t))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::Epoch;
    use membership::id::TaskId;
    use serde_json::json;

    fn task(template: TemplateId, id: u128, error: Option<&str>) -> TaskStatus {
        TaskStatus {
            id: TaskId(id),
            slot: Slot::Index(1),
            template,
            created: Wall(50),
            state: if error.is_some() { TaskState::Failed } else { TaskState::Running },
            since: Wall(50),
            message: String::new(),
            error: error.map(str::to_owned),
            container: None,
            pid: None,
            exit_code: None,
            ports: Vec::new(),
        }
    }

    /// Two slots, the first already permitted and failing; what the steward does next.
    fn after_a_failure(update: serde_json::Value) -> Step {
        let spec = ServiceSpec::parse(&json!({
            "Name": "w", "TaskTemplate": {"ContainerSpec": {"Image": "new"}}, "UpdateConfig": update,
        }))
        .unwrap();
        let claim = |slot, template, failures, error| Claim {
            slot: Slot::Index(slot),
            epoch: Epoch(1),
            phase: if failures > 0 { Phase::Starting } else { Phase::Ready },
            failures,
            task: task(template, u128::from(slot), error),
        };
        let failing = claim(1, spec.template, 1, Some("no such image"));
        let old = claim(2, TemplateId(1), 0, None);
        let best = BTreeMap::from([
            (Slot::Index(1), (NodeId(1), &failing)),
            (Slot::Index(2), (NodeId(2), &old)),
        ]);
        let mut rollout = Rollout::begin(spec.template, false, "update in progress", Wall(10));
        rollout.permitted = vec![Slot::Index(1)];
        let now = Now { at: Instant(1000), wall: Wall(1000) };
        steer(&spec, Some(&rollout), &best, |_, _| None, &mut Memory::default(), now)
    }

    #[test]
    fn a_failure_that_is_put_up_with_holds_nothing_up() {
        for update in [json!({"FailureAction": "continue"}), json!({"MaxFailureRatio": 0.5})] {
            let Step::Write(next) = after_a_failure(update) else { panic!("it waits for ever") };
            assert_eq!(next.permitted, [Slot::Index(1), Slot::Index(2)]);
            assert_eq!(next.state, RolloutState::Updating);
        }
    }

    #[test]
    fn any_other_failure_pauses_or_goes_back() {
        let Step::Write(next) = after_a_failure(json!({})) else { panic!("it goes on") };
        assert_eq!(next.state, RolloutState::Paused);
        assert!(next.message.contains("no such image"), "{}", next.message);
        let back = after_a_failure(json!({"FailureAction": "rollback"}));
        assert!(matches!(back, Step::RollBack(_)), "{back:?}");
    }
}
