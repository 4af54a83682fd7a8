//! How a detector brings its own edges, its doubts and the jury's verdicts together.

use super::edge::Observed;
use super::report::{Edge, EdgeReport, MAX_REPORTED_EDGES};
use super::{Detector, Jury, Verdict};
use crate::id::NodeId;
use crate::time::Instant;

/// A node that is called down again and again refutes at intervals of up to 2^5 times
/// [`super::Timing::self_suspect_hold`].
const MAX_REFUTE_DOUBLINGS: usize = 5;

impl Detector {
    /// Edges may have changed: whom to probe, whether to doubt, what to publish.
    pub(super) fn reconsider(&mut self, jury: &mut Jury, now: Instant) {
        self.hear_verdicts(jury, now);
        let (mut failing, mut others) = (0, 0);
        for id in &self.assigned {
            if jury.verdicts.get(id) != Some(&Verdict::Down) {
                others += 1;
                failing += usize::from(self.observed.get(id).is_some_and(Observed::is_failing));
            }
        }
        self.suspicion.observe(failing, others, now, &self.timing);
        self.publish(jury, now);
    }

    /// Brings the published report up to date, but for new accusations while this node doubts itself.
    fn publish(&mut self, jury: &mut Jury, now: Instant) {
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
            jury.adopt(self.me, &self.published);
        }
    }

    /// Observes those it is assigned, those it must check, and for as long as they are down those that it
    /// accused: nobody else may be there to notice that they are back.
    pub(super) fn choose_observed(&mut self, jury: &Jury) {
        let wanted = |id: &NodeId| self.assigned.contains(id) || self.checks.contains(id);
        self.observed.retain(|id, edge| wanted(id) || edge.is_down());
        for id in self.assigned.union(&self.checks) {
            if let Some(incarnation) = jury.members.get(id) {
                let is_stand_in = !self.assigned.contains(id);
                self.observed
                    .entry(*id)
                    .or_insert_with(|| Observed::new(*incarnation, is_stand_in))
                    .stand_in(is_stand_in);
            }
        }
    }

    /// What follows from the verdicts for this node itself: whether it is called down, whom it must check.
    fn hear_verdicts(&mut self, jury: &mut Jury, now: Instant) {
        jury.judge(now);
        if self.followed.1 != jury.session {
            self.followed.1 = jury.session;
            self.is_called_down = jury.called_down.contains(&self.me);
            let checks = jury.checks.get(&self.me).cloned().unwrap_or_default();
            if checks != self.checks {
                self.checks = checks;
                self.choose_observed(jury);
            }
        }
        // Its pause may be over.
        self.consider_refuting(now);
    }

    /// A node that is called down and finds itself well says so: at once the first time, then at growing
    /// intervals. One that reaches few others would only come and go.
    fn consider_refuting(&mut self, now: Instant) {
        if !self.is_called_down {
            self.refute = false;
        } else if !self.refute && !self.suspicion.is_lonely() {
            let recent = super::recent_flaps(&self.refuted, &self.timing, now);
            let last = self.refuted.back();
            let pause = self.timing.self_suspect_hold * (1 << recent.min(MAX_REFUTE_DOUBLINGS));
            if recent == 0 || last.is_none_or(|last| now >= *last + pause) {
                self.refute = true;
                super::remember_flap(&mut self.refuted, now);
            }
        }
    }
}
