//! How a detector brings its own edges, its doubts and the reports of others together.

use std::collections::{BTreeMap, BTreeSet};

use super::edge::Observed;
use super::report::{Edge, EdgeReport, MAX_REPORTED_EDGES};
use super::verdict::{Evidence, Received, Tally};
use super::{Detector, MAX_FLAPS, Verdict};
use crate::id::NodeId;
use crate::time::Instant;

/// A node that is called down again and again refutes at intervals of up to 2^5 times
/// [`super::Timing::self_suspect_hold`].
const MAX_REFUTE_DOUBLINGS: usize = 5;

impl Detector {
    /// Edges may have changed: whom to probe, whether to doubt, what to publish.
    pub(super) fn reconsider(&mut self, now: Instant) {
        self.judge(now);
        let (mut failing, mut others) = (0, 0);
        for id in &self.assigned {
            if self.verdicts.get(id) != Some(&Verdict::Down) {
                others += 1;
                failing += usize::from(self.observed.get(id).is_some_and(Observed::is_failing));
            }
        }
        self.suspicion.observe(failing, others, now, &self.timing);
        self.publish(now);
    }

    /// Brings the published report up to date, but for new accusations while this node doubts itself.
    fn publish(&mut self, now: Instant) {
        let holds_back = self.holds_back(now);
        let accusations = self.observed.iter().filter_map(|(id, edge)| {
            let held_back = holds_back && !self.published.edges.contains_key(id);
            let state = edge.state().filter(|_| !held_back)?;
            Some((*id, Edge { incarnation: edge.incarnation, state }))
        });
        let report = EdgeReport { edges: accusations.take(MAX_REPORTED_EDGES).collect() };
        if report != self.published {
            self.published = report;
            self.is_report_new = true;
            self.adopt_own_report();
        }
    }

    /// This node's own report counts like anybody's, as published: all judge by the same.
    pub(super) fn adopt_own_report(&mut self) {
        let incarnation = self.members.get(&self.me).copied().unwrap_or_default();
        let report = self.published.clone();
        self.reports.insert(self.me, Received { incarnation, report });
        self.is_stale = true;
    }

    /// Observes those it is assigned, those it must check, and for as long as they are down those that it
    /// accused: nobody else may be there to notice that they are back.
    pub(super) fn choose_observed(&mut self) {
        let wanted = |id: &NodeId| self.assigned.contains(id) || self.checks.contains(id);
        self.observed.retain(|id, edge| wanted(id) || edge.is_down());
        for id in self.assigned.union(&self.checks) {
            if let Some(incarnation) = self.members.get(id) {
                let is_stand_in = !self.assigned.contains(id);
                self.observed
                    .entry(*id)
                    .or_insert_with(|| Observed::new(*incarnation, is_stand_in))
                    .stand_in(is_stand_in);
            }
        }
    }

    /// Computes the verdicts if reports, members or a grace period have changed them.
    pub(super) fn judge(&mut self, now: Instant) {
        let grace = self.timing.gone_grace;
        let grace_over = |id: &NodeId, since: &Instant| {
            now >= *since + grace && self.verdicts.get(id) != Some(&Verdict::Down)
        };
        if !self.is_stale && !self.gone_since.iter().any(|(id, since)| grace_over(id, since)) {
            // Its pause may be over.
            self.consider_refuting(now);
            return;
        }
        self.is_stale = false;
        let observers = std::mem::take(&mut self.observers);
        let evidence =
            Evidence::gather(self.me, &self.members, &self.rings, observers, &self.reports);
        let down = evidence.down();
        let tallies: BTreeMap<NodeId, Tally> =
            evidence.accused().map(|id| (id, evidence.tally(id, &down))).collect();
        // Either they agree as far as this node believes them, or they all agree.
        self.is_called_down = tallies.get(&self.me).is_some_and(|tally| tally.is_down())
            || evidence.tally(self.me, &BTreeSet::new()).is_down();
        let checks = match self.rings.is_all_to_all() {
            true => BTreeSet::new(),
            false => evidence.checks(&down),
        };
        self.observers = evidence.into_observers();
        self.gone_since.retain(|id, _| down.contains(id));
        let members: Vec<NodeId> = self.members.keys().copied().collect();
        let verdicts = members
            .into_iter()
            .map(|id| {
                let tally = tallies.get(&id).copied().unwrap_or_default();
                let verdict = match down.contains(&id) {
                    true => self.judge_down(id, tally, now),
                    false if id != self.me && tally.is_unstable() => {
                        Verdict::Unstable { down_edges: tally.down, of: tally.of }
                    }
                    false => Verdict::Up,
                };
                (id, verdict)
            })
            .collect();
        self.note_flaps(&verdicts, now);
        self.are_verdicts_new |= self.verdicts != verdicts;
        self.verdicts = verdicts;
        self.consider_refuting(now);
        if checks != self.checks {
            self.checks = checks;
            self.choose_observed();
        }
    }

    /// A node that is called down and finds itself well says so: at once the first time, then at growing
    /// intervals. One that reaches few others would only come and go.
    fn consider_refuting(&mut self, now: Instant) {
        if !self.is_called_down {
            self.refute = false;
        } else if !self.refute && !self.suspicion.is_lonely() {
            let recent = self.flaps(self.me, now);
            let last = self.flaps.get(&self.me).and_then(|refuted| refuted.back());
            let pause = self.timing.self_suspect_hold * (1 << recent.min(MAX_REFUTE_DOUBLINGS));
            if recent == 0 || last.is_none_or(|last| now >= *last + pause) {
                self.refute = true;
                self.remember_flap(self.me, now);
            }
        }
    }

    /// Gone with its host, or only its process and for how long.
    fn judge_down(&mut self, id: NodeId, tally: Tally, now: Instant) -> Verdict {
        let was_down = self.verdicts.get(&id) == Some(&Verdict::Down);
        if was_down || !tally.is_refused() {
            self.gone_since.remove(&id);
            return Verdict::Down;
        }
        let since = *self.gone_since.entry(id).or_insert(now);
        if now >= since + self.timing.gone_grace {
            return Verdict::Down;
        }
        Verdict::ProcessGone { since }
    }

    fn note_flaps(&mut self, verdicts: &BTreeMap<NodeId, Verdict>, now: Instant) {
        for (id, verdict) in verdicts {
            let was_down = self.verdicts.get(id) == Some(&Verdict::Down);
            if was_down && *verdict != Verdict::Down {
                self.remember_flap(*id, now);
            }
        }
    }

    fn remember_flap(&mut self, id: NodeId, now: Instant) {
        let flaps = self.flaps.entry(id).or_default();
        flaps.push_back(now);
        if flaps.len() > MAX_FLAPS {
            flaps.pop_front();
        }
    }
}
