//! The view: what this node believes about each member, and why.
//!
//! Four sources meet here, each with its own author: admissions (records: who belongs to the cluster),
//! profiles and health (facts: what a member says about itself), verdicts (the detector: what its
//! observers say) and node settings (records: what operators want of it). The state of a member is a
//! pure function of the four, with the reason in the operator's words.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use membership::clock::Stamp;
use membership::detector::Verdict;
use membership::id::{Incarnation, NodeId};
use membership::member::{EngineState, Health, MemberState, Profile};
use membership::record::Kind;
use membership::registers::Registers;
use membership::time::{Instant, Millis, Now, Wall};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::views::Availability;

/// The body of a `Kind::Admission` record: who belongs to the cluster and where it was last reached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdmissionBody {
    pub v: u16,
    pub state: Admission,
    pub name: String,
    pub addr: SocketAddr,
    pub since_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admission {
    Admitted,
    /// It said goodbye; it may come back.
    Left,
    /// An operator removed it; its connections are refused.
    Removed,
}

/// How long a member whose claims are unknown keeps others from taking over what looks like an orphan.
/// Longer than the grace time of a shoal process that is gone, and than settling.
pub(crate) const UNHEARD_BOUND: Millis = Millis(45_000);

/// What operators set on a node: Docker's NodeSpec.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NodeSettings {
    pub name: Option<String>,
    pub role: String,
    pub availability: Availability,
    pub labels: BTreeMap<String, String>,
    pub stamp: Stamp,
}

impl NodeSettings {
    /// Reads the JSON of a NodeSpec.
    ///
    /// # Errors
    /// A sentence in Docker's words.
    pub(crate) fn parse(spec: &Value, stamp: Stamp) -> Result<Self, String> {
        let text = |key: &str| spec.get(key).and_then(Value::as_str).unwrap_or_default();
        let availability = match text("Availability") {
            "" | "active" => Availability::Active,
            "pause" => Availability::Pause,
            "drain" => Availability::Drain,
            other => return Err(format!("invalid Availability: \"{other}\"")),
        };
        let role = match text("Role") {
            "" | "manager" => "manager",
            "worker" => "worker",
            other => return Err(format!("invalid Role: \"{other}\"")),
        };
        let labels = spec.get("Labels").and_then(Value::as_object);
        Ok(Self {
            name: Some(text("Name").to_owned()).filter(|n| !n.is_empty()),
            role: role.to_owned(),
            availability,
            labels: labels
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
                .collect(),
            stamp,
        })
    }

    fn unset() -> Self {
        Self { role: "manager".to_owned(), ..Self::default() }
    }
}

/// One member, as this node sees it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub admission: Option<AdmissionBody>,
    pub incarnation: Incarnation,
    /// `None` until it has been heard of in the life of this process.
    pub profile: Option<Profile>,
    pub health: Option<Health>,
    pub settings: NodeSettings,
    pub state: MemberState,
    pub reason: String,
    pub since: Instant,
    pub since_wall: Wall,
    /// Where it was reached last, by its own word in a handshake.
    pub seen_at: Option<SocketAddr>,
    /// Since when its engine has been silent, by this node's clock.
    pub engine_silent: Option<Instant>,
    /// Since when its claims have been unknown, or it has been settling.
    pub mute_since: Option<Instant>,
}

impl Known {
    fn new(now: Now) -> Self {
        Self {
            admission: None,
            incarnation: Incarnation(0),
            profile: None,
            health: None,
            settings: NodeSettings::unset(),
            state: MemberState::Unstable,
            reason: "not heard of yet".to_owned(),
            since: now.at,
            since_wall: now.wall,
            seen_at: None,
            engine_silent: None,
            mute_since: Some(now.at),
        }
    }

    pub(crate) fn name(&self) -> String {
        let own = self.profile.as_ref().map(|p| p.name.clone());
        own.or_else(|| self.admission.as_ref().map(|a| a.name.clone())).unwrap_or_default()
    }

    pub(crate) fn addr(&self) -> Option<SocketAddr> {
        let admitted = self.admission.as_ref().map(|a| a.addr);
        self.profile.as_ref().map(|p| p.addr).or(self.seen_at).or(admitted)
    }

    /// It belongs to the cluster: neither left nor removed.
    pub(crate) fn belongs(&self) -> bool {
        self.admission.as_ref().is_none_or(|a| a.state == Admission::Admitted)
    }

    pub(crate) fn is_removed(&self) -> bool {
        self.admission.as_ref().is_some_and(|a| a.state == Admission::Removed)
    }

    /// It says that it has not asked its peers yet.
    pub(crate) fn is_settling(&self) -> bool {
        self.health.as_ref().is_some_and(|h| h.settling)
    }
}

/// A state that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub id: NodeId,
    pub name: String,
    pub from: MemberState,
    pub to: MemberState,
    pub reason: String,
}

/// All members that this node knows of.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    /// Whose view this is part of: a node never holds itself for down.
    whose: Option<NodeId>,
    all: BTreeMap<NodeId, Known>,
    engine_grace: Millis,
    /// Counted when the states were computed last.
    sums: Sums,
}

/// What is asked of all members together, so often that it is kept.
#[derive(Clone, Debug, Default)]
struct Sums {
    alive: usize,
    total: usize,
    /// Members that belong, are not down, and of whose claims nothing is known yet.
    mute: BTreeSet<NodeId>,
    engine_grace_runs: bool,
}

impl Members {
    pub(crate) fn new(whose: Option<NodeId>, engine_grace: Millis) -> Self {
        Self { whose, all: BTreeMap::new(), engine_grace, sums: Sums::default() }
    }

    pub(crate) fn get(&self, id: NodeId) -> Option<&Known> {
        self.all.get(&id)
    }

    pub(crate) fn entry(&mut self, id: NodeId, now: Now) -> &mut Known {
        let sums = &mut self.sums;
        self.all.entry(id).or_insert_with(|| {
            sums.total += 1;
            sums.mute.insert(id);
            Known::new(now)
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (NodeId, &Known)> {
        self.all.iter().map(|(id, known)| (*id, known))
    }

    pub(crate) fn state(&self, id: NodeId) -> Option<MemberState> {
        self.all.get(&id).map(|k| k.state)
    }

    /// Its claims count.
    pub(crate) fn holds_claims(&self, id: NodeId) -> bool {
        self.state(id).is_some_and(MemberState::holds_claims)
    }

    /// Members other than `me` that could confirm a write now.
    pub(crate) fn other_live(&self, me: NodeId) -> impl Iterator<Item = NodeId> + '_ {
        self.iter()
            .filter(move |(id, k)| *id != me && k.belongs() && k.profile.is_some())
            .filter(|(_, k)| k.state.holds_claims())
            .map(|(id, _)| id)
    }

    /// (alive, all) of the last agreed membership, for `majority`.
    pub(crate) fn quorum(&self) -> (usize, usize) {
        (self.sums.alive, self.sums.total)
    }

    pub(crate) fn has_majority(&self) -> bool {
        let (alive, total) = self.quorum();
        alive * 2 > total
    }

    /// Members that belong, are not down, and of whose claims nothing is known yet: what looks like an
    /// orphan may be theirs. Bounded: one that says nothing for [`UNHEARD_BOUND`] is not waited for.
    pub(crate) fn unheard(&self, me: NodeId, at: Instant) -> impl Iterator<Item = NodeId> + '_ {
        let waits = move |id: &NodeId| {
            let since = self.all.get(id).and_then(|k| k.mute_since);
            *id != me && since.is_some_and(|since| at.since(since) < UNHEARD_BOUND)
        };
        self.sums.mute.iter().copied().filter(waits)
    }

    /// Some member's engine is silent and its grace time runs: states may change by time alone.
    pub(crate) fn engine_grace_running(&self) -> bool {
        self.sums.engine_grace_runs
    }

    fn sum_up(&mut self) {
        let mut sums = Sums::default();
        for (id, known) in &self.all {
            sums.engine_grace_runs |=
                known.engine_silent.is_some() && known.state != MemberState::Draining;
            if !known.belongs() {
                continue;
            }
            sums.total += 1;
            let counted = Some(*id) == self.whose || known.profile.is_some();
            sums.alive += usize::from(counted && known.state.holds_claims());
            if known.mute_since.is_some() && known.state != MemberState::Down {
                sums.mute.insert(*id);
            }
        }
        self.sums = sums;
    }

    /// Reads admissions and settings again. Cheap enough to do for every change: one entry a member.
    /// Answers whose settings changed.
    pub(crate) fn read_records(&mut self, registers: &Registers, now: Now) -> Vec<NodeId> {
        let mut changed = Vec::new();
        for (id, record) in registers.live(Kind::Admission) {
            let body = record.body.as_deref().and_then(|b| serde_json::from_slice(b).ok());
            if let Some(body) = body {
                self.entry(NodeId(id), now).admission = Some(body);
            }
        }
        for (id, known) in &mut self.all {
            let key = membership::record::Key { kind: Kind::NodeSettings, id: id.0 };
            let record = registers.get(&key);
            let settings = record
                .and_then(|r| Some((r.stamp, r.body.as_deref()?)))
                .and_then(|(stamp, body)| {
                    Some((stamp, serde_json::from_slice::<Value>(body).ok()?))
                })
                .and_then(|(stamp, spec)| NodeSettings::parse(&spec, stamp).ok())
                .unwrap_or_else(NodeSettings::unset);
            if known.settings != settings {
                known.settings = settings;
                changed.push(*id);
            }
        }
        changed
    }

    /// Computes every state anew. Answers what changed.
    pub(crate) fn judge(&mut self, verdicts: &BTreeMap<NodeId, Verdict>, now: Now) -> Vec<Turn> {
        let mut turns = Vec::new();
        let (whose, grace) = (self.whose, self.engine_grace);
        for (id, known) in &mut self.all {
            let silent = matches!(
                known.health.as_ref().map(|h| &h.engine),
                Some(EngineState::Unavailable { .. })
            );
            let mute = known.profile.is_none() || known.is_settling();
            known.mute_since = mute.then(|| known.mute_since.unwrap_or(now.at));
            known.engine_silent = silent.then(|| known.engine_silent.unwrap_or(now.at));
            let is_me = Some(*id) == whose;
            let verdict = if is_me { Some(&Verdict::Up) } else { verdicts.get(id) };
            let (state, reason) = judge_one(known, is_me, verdict, grace, now);
            if state != known.state {
                turns.push(Turn {
                    id: *id,
                    name: known.name(),
                    from: known.state,
                    to: state,
                    reason: reason.clone(),
                });
                known.state = state;
                known.since = now.at;
                known.since_wall = now.wall;
            }
            known.reason = reason;
        }
        self.sum_up();
        turns
    }
}

fn judge_one(
    known: &Known,
    is_me: bool,
    verdict: Option<&Verdict>,
    engine_grace: Millis,
    now: Now,
) -> (MemberState, String) {
    use MemberState::{Alive, Down, Draining, Left, Unstable};
    match known.admission.as_ref().map(|a| a.state) {
        Some(Admission::Left) if !is_me => return (Left, "it left the cluster".to_owned()),
        Some(Admission::Removed) => return (Left, "an operator removed it".to_owned()),
        _ => {}
    }
    match verdict {
        Some(Verdict::Down) => {
            return (Down, "its observers agree that it does not answer".to_owned());
        }
        Some(Verdict::ProcessGone { .. }) => {
            let text = "its host answers but its shoal process is gone; its containers are left alone until the grace time is over";
            return (Unstable, text.to_owned());
        }
        Some(Verdict::Unstable { down_edges, of }) => {
            let text = format!("{down_edges} of its {of} observers cannot reach it");
            return (Unstable, text);
        }
        Some(Verdict::Up) | None => {}
    }
    let Some(health) = known.health.as_ref().filter(|_| known.profile.is_some()) else {
        return (Unstable, "not heard of yet".to_owned());
    };
    if health.leaving {
        return (Draining, "it is leaving and hands its replicas over".to_owned());
    }
    if let EngineState::Unavailable { reason, .. } = &health.engine {
        let silent = known.engine_silent.map_or(Millis::ZERO, |since| now.at.since(since));
        if silent >= engine_grace {
            let text = format!("its container engine has not answered for {silent}: {reason}");
            return (Draining, text);
        }
        return (Unstable, format!("its container engine does not answer: {reason}"));
    }
    match known.settings.availability {
        Availability::Drain => (Draining, "an operator drained it".to_owned()),
        Availability::Pause => (Alive, "paused by an operator: it takes nothing new".to_owned()),
        Availability::Active if health.settling => (
            Alive,
            "it has just started and asks its peers before it takes anything over".to_owned(),
        ),
        Availability::Active => (Alive, String::new()),
    }
}
