//! A day's watch: so many hosts probe each other over links that lose messages, and nothing ever fails. Who is
//! called down nevertheless?
//!
//! A thousand hosts ask each other 3.5 thousand million questions in a day, far too many to send as
//! messages. So nothing is sent: for each probe it is drawn, message by message, which of the ping, its
//! answer, the repeated ping and the ways over three helpers are lost, and the outcome goes into the real
//! detector of the asking node ([`Detector::round_of`]): the same edges, doubts, reports and verdicts.
//! Reports travel only when they change, to each node after a delay of its own. What is left out: late
//! loops, delays near the time limit, and gossip itself, which has no part in verdicts.

use std::collections::{BTreeMap, BTreeSet};

use membership::detector::{Detector, EdgeReport, Jury, Timing, Verdict};
use membership::id::{Incarnation, NodeId};
use membership::time::{Instant, Millis};

use crate::chance::{Chance, Stream};
use crate::time::Span;

/// How long a changed report is on its way to one node, at least and at most: pushes, and chitchat for
/// whom they miss (docs/BENCHMARKS.md, at 5% loss).
const NEWS: (Span, Span) = (Span::ms(2), Span::secs(5));

/// What is watched.
#[derive(Clone, Copy, Debug)]
pub struct VigilSpec {
    pub seed: u64,
    /// 2 to 65,536.
    pub hosts: u32,
    pub lasts: Span,
    /// Messages lost on every link, per thousand.
    pub loss: u32,
    /// So many hosts, per thousand, have bad links: messages to and from them are lost at `bad_loss`.
    pub bad_hosts: u32,
    pub bad_loss: u32,
    /// This host crashes after half of the time; to see that the watch sees.
    pub crash: Option<u32>,
}

/// What was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VigilReport {
    pub hosts: u64,
    pub bad_hosts: u64,
    pub lasted: Span,
    pub probes: u64,
    /// Messages that these probes would have taken.
    pub messages: u64,
    pub failed_probes: u64,
    /// Reports that named one more edge as down.
    pub edges_down: u64,
    /// Times that some node called some living one unstable, or down.
    pub unstable: u64,
    pub false_verdicts: u64,
    /// Nodes that call the crashed host down in the end.
    pub right_verdicts: u64,
    /// Times that a living node saw itself called down.
    pub refutations: u64,
}

struct Watch {
    chance: Chance,
    timing: Timing,
    /// Loss of each host's own links, on top of what all have.
    extra: Vec<u32>,
    base: u32,
    crashed: Option<usize>,
    report: VigilReport,
}

fn index(id: NodeId) -> usize {
    usize::from(id.0 as u16)
}

impl Watch {
    fn passes(&mut self, a: usize, b: usize) -> bool {
        self.report.messages += 1;
        let loss = (self.base + self.extra[a] + self.extra[b]).min(1000);
        self.crashed != Some(b) && self.crashed != Some(a) && !self.chance.per_mille(loss)
    }

    fn there_and_back(&mut self, a: usize, b: usize) -> bool {
        self.passes(a, b) && self.passes(b, a)
    }

    /// One probe with all its ways, as the detector's `probes` sends them.
    fn fails(&mut self, from: usize, to: usize) -> bool {
        self.report.probes += 1;
        if self.there_and_back(from, to) {
            return false;
        }
        let mut answered = self.there_and_back(from, to);
        let mut helpers = BTreeSet::new();
        while helpers.len() < self.timing.indirect_helpers.min(self.extra.len().saturating_sub(2)) {
            let helper = self.chance.index(self.extra.len());
            if helper != from && helper != to && helpers.insert(helper) {
                answered |= self.passes(from, helper)
                    && self.there_and_back(helper, to)
                    && self.passes(helper, from);
            }
        }
        self.report.failed_probes += u64::from(!answered);
        !answered
    }
}

/// Watches.
pub fn vigil(spec: &VigilSpec) -> VigilReport {
    let hosts = spec.hosts.clamp(2, 1 << 16) as usize;
    let mut chance = Chance::new(spec.seed, Stream::Hosts);
    // The number stands in the last bits, so that a name leads to its host at once.
    let ids: Vec<NodeId> =
        (0..hosts).map(|n| NodeId((chance.id() & !0xffff) | n as u128)).collect();
    let bad = (hosts * spec.bad_hosts as usize).div_ceil(1000);
    let extra = spec.bad_loss.saturating_sub(spec.loss);
    let timing = Timing::lan();
    let members: BTreeMap<NodeId, Incarnation> =
        ids.iter().map(|id| (*id, Incarnation(1))).collect();
    let mut detectors: Vec<(Detector, Jury)> = ids
        .iter()
        .map(|id| {
            let mut jury = Jury::new(Some(*id), &timing);
            jury.set_members(&members);
            (Detector::new(*id, timing), jury)
        })
        .collect();
    let mut watch = Watch {
        chance: Chance::new(spec.seed, Stream::Links),
        timing,
        extra: (0..hosts).map(|n| if n < bad { extra } else { 0 }).collect(),
        base: spec.loss,
        crashed: None,
        report: VigilReport {
            hosts: hosts as u64,
            bad_hosts: bad as u64,
            lasted: spec.lasts,
            ..VigilReport::default()
        },
    };
    let rounds = spec.lasts.as_ms() / timing.probe_interval.0;
    let mut posts = Posts::default();
    for round in 1..=rounds {
        let now = Instant(round * timing.probe_interval.0);
        if round == rounds / 2 {
            watch.crashed = spec.crash.map(|host| host as usize);
        }
        for (me, (detector, jury)) in detectors.iter_mut().enumerate() {
            if watch.crashed == Some(me) {
                continue;
            }
            detector.round_of(jury, now, |target| watch.fails(me, index(target)));
            if let Some(report) = detector.take_changed_report() {
                posts.publish(ids[me], &report, hosts, now, &mut watch);
            }
        }
        posts.deliver(&ids, &mut detectors, now, &mut watch);
    }
    if let Some(crashed) = watch.crashed {
        let end = Instant(rounds * timing.probe_interval.0);
        let calls = |jury: &mut Jury| {
            jury.judge(end);
            jury.verdicts().get(&ids[crashed]) == Some(&Verdict::Down)
        };
        let others = detectors.iter_mut().enumerate().filter(|(n, _)| *n != crashed);
        watch.report.right_verdicts = others.map(|(_, (_, jury))| u64::from(calls(jury))).sum();
    }
    watch.report
}

/// Reports on their way.
#[derive(Default)]
struct Posts {
    sent: u64,
    under_way: BTreeMap<(Instant, u64), (usize, NodeId, EdgeReport)>,
    /// The latest report that each node has of each owner, by the order of sending: one that is overtaken
    /// is dropped, as an older fact is.
    latest: BTreeMap<(usize, NodeId), u64>,
    edges: BTreeMap<NodeId, usize>,
    /// What is called about whom, so that each call counts once.
    called: BTreeMap<(usize, NodeId), Verdict>,
}

impl Posts {
    fn publish(
        &mut self,
        owner: NodeId,
        report: &EdgeReport,
        hosts: usize,
        now: Instant,
        watch: &mut Watch,
    ) {
        let before = self.edges.insert(owner, report.edges.len()).unwrap_or(0);
        if report.edges.is_empty() && before == 0 {
            return;
        }
        watch.report.edges_down += report.edges.len().saturating_sub(before) as u64;
        self.sent += 1;
        for to in 0..hosts {
            let after =
                if to == index(owner) { Span::ZERO } else { watch.chance.tailed(NEWS.0, NEWS.1) };
            let key = (now + Millis(after.as_ms()), self.sent * hosts as u64 + to as u64);
            self.under_way.insert(key, (to, owner, report.clone()));
        }
    }

    fn deliver(
        &mut self,
        ids: &[NodeId],
        detectors: &mut [(Detector, Jury)],
        now: Instant,
        watch: &mut Watch,
    ) {
        while let Some(entry) = self.under_way.first_entry() {
            if entry.key().0 > now {
                return;
            }
            let ((_, number), (to, owner, report)) = entry.remove_entry();
            let order = number / ids.len() as u64;
            let latest = self.latest.entry((to, owner)).or_default();
            if watch.crashed == Some(to) || *latest > order {
                continue;
            }
            *latest = order;
            let about: Vec<NodeId> = report.edges.keys().copied().collect();
            let (detector, jury) = &mut detectors[to];
            jury.on_report(owner, Incarnation(1), report);
            self.judge(to, jury, &about, now, watch);
            watch.report.refutations += u64::from(detector.refute_needed());
        }
    }

    fn judge(
        &mut self,
        me: usize,
        jury: &mut Jury,
        about: &[NodeId],
        now: Instant,
        watch: &mut Watch,
    ) {
        jury.judge(now);
        let verdicts = jury.verdicts();
        for id in about {
            let verdict = verdicts.get(id).copied().unwrap_or(Verdict::Up);
            let before = self.called.insert((me, *id), verdict);
            if watch.crashed == Some(index(*id)) {
                continue;
            }
            match verdict {
                Verdict::Down if before != Some(verdict) => watch.report.false_verdicts += 1,
                Verdict::Unstable { .. } if !matches!(before, Some(Verdict::Unstable { .. })) => {
                    watch.report.unstable += 1;
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(hosts: u32, secs: u64) -> VigilSpec {
        VigilSpec {
            seed: 1,
            hosts,
            lasts: Span::secs(secs),
            loss: 50,
            bad_hosts: 10,
            bad_loss: 200,
            crash: None,
        }
    }

    #[test]
    fn nobody_is_called_down_for_lost_messages_alone() {
        let report = vigil(&quiet(40, 600));
        assert_eq!(report.probes, 40 * 10 * 600 * 4);
        assert!(
            report.failed_probes > 0 && report.failed_probes * 200 < report.probes,
            "{report:?}"
        );
        assert_eq!((report.false_verdicts, report.refutations), (0, 0), "{report:?}");
        assert_eq!(vigil(&quiet(40, 600)), report, "one seed is one watch");
    }

    #[test]
    fn the_watch_sees_what_is_there_to_see() {
        let crashed = vigil(&VigilSpec { crash: Some(30), ..quiet(40, 60) });
        assert_eq!((crashed.right_verdicts, crashed.false_verdicts), (39, 0), "{crashed:?}");
        let hopeless = vigil(&VigilSpec { loss: 700, bad_loss: 700, ..quiet(40, 60) });
        assert!(hopeless.false_verdicts > 0, "{hopeless:?}");
    }

    #[test]
    fn probes_fail_as_often_as_their_messages_say() {
        // Direct: 1 - 0.95^2 = 9.75%, twice; over a helper 1 - 0.95^4 = 18.55%, three times.
        let report = vigil(&VigilSpec { bad_hosts: 0, ..quiet(40, 3_000) });
        let per_million = report.failed_probes * 1_000_000 / report.probes;
        assert!((50..72).contains(&per_million), "60.7 expected: {per_million}");
    }
}
