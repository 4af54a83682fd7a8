//! Probes under way, this node's own and those it makes for others.

use std::collections::BTreeMap;

use rand::{Rng, RngExt};

use super::{ProbeAction, Timing};
use crate::id::NodeId;
use crate::time::{Instant, Millis};

/// How many probes a node makes for others at a time. Further requests are dropped; the asker has
/// other helpers.
const MAX_RELAYS: usize = 256;

#[derive(Clone, Debug)]
struct Probe {
    target: NodeId,
    sent: Instant,
    /// The second half of its time has begun: others were asked to try.
    helped: bool,
}

#[derive(Clone, Debug)]
struct Relay {
    asker: NodeId,
    asker_seq: u64,
    target: NodeId,
    sent: Instant,
}

/// Keyed by sequence number, that is, in the order of sending.
#[derive(Clone, Debug, Default)]
pub(super) struct Probes {
    last_seq: u64,
    own: BTreeMap<u64, Probe>,
    relays: BTreeMap<u64, Relay>,
}

fn half(timing: &Timing) -> Millis {
    Millis(timing.probe_timeout.0 / 2)
}

impl Probes {
    pub(super) fn send(&mut self, target: NodeId, now: Instant) -> ProbeAction {
        self.last_seq += 1;
        self.own.insert(self.last_seq, Probe { target, sent: now, helped: false });
        ProbeAction::Ping { to: target, seq: self.last_seq }
    }

    /// True if the answer ends a probe of `target` that is still under way.
    pub(super) fn answered(&mut self, target: NodeId, seq: u64) -> bool {
        let ours = self.own.get(&seq).is_some_and(|probe| probe.target == target);
        if ours {
            self.own.remove(&seq);
        }
        ours
    }

    /// Takes out the targets of probes whose time is over.
    pub(super) fn expire(&mut self, now: Instant, timing: &Timing) -> Vec<NodeId> {
        let over = |sent: Instant| sent + timing.probe_timeout <= now;
        self.relays.retain(|_, relay| !over(relay.sent));
        let mut failed = Vec::new();
        self.own.retain(|_, probe| {
            let keep = !over(probe.sent);
            if !keep {
                failed.push(probe.target);
            }
            keep
        });
        failed
    }

    /// Takes out the probes for whose targets `excused` is true.
    pub(super) fn void(&mut self, mut excused: impl FnMut(NodeId) -> bool) {
        self.own.retain(|_, probe| !excused(probe.target));
    }

    /// At half its time a probe is repeated and some others are asked to try, before it fails.
    pub(super) fn seek_help(
        &mut self,
        now: Instant,
        timing: &Timing,
        helpers: impl Fn() -> Vec<NodeId>,
        rng: &mut impl Rng,
    ) -> Vec<ProbeAction> {
        let mut actions = Vec::new();
        let mut candidates = None;
        for (seq, probe) in &mut self.own {
            if probe.helped || probe.sent + half(timing) > now {
                continue;
            }
            probe.helped = true;
            // One lost datagram must not count for much where there are few helpers or none.
            actions.push(ProbeAction::Ping { to: probe.target, seq: *seq });
            let candidates = candidates.get_or_insert_with(&helpers);
            let wanted = timing.indirect_helpers;
            for helper in choose(candidates, wanted, probe.target, rng) {
                actions.push(ProbeAction::PingFor { helper, seq: *seq, target: probe.target });
            }
        }
        actions
    }

    /// When a probe wants attention next.
    pub(super) fn due(&self, timing: &Timing) -> Option<Instant> {
        let over = self.own.values().next().map(|probe| probe.sent + timing.probe_timeout);
        let help = self.own.values().find(|probe| !probe.helped);
        [over, help.map(|probe| probe.sent + half(timing))].into_iter().flatten().min()
    }

    /// A probe on behalf of `asker`.
    pub(super) fn relay(
        &mut self,
        asker: NodeId,
        asker_seq: u64,
        target: NodeId,
        now: Instant,
    ) -> Option<ProbeAction> {
        if self.relays.len() >= MAX_RELAYS {
            return None;
        }
        self.last_seq += 1;
        self.relays.insert(self.last_seq, Relay { asker, asker_seq, target, sent: now });
        Some(ProbeAction::Ping { to: target, seq: self.last_seq })
    }

    /// The good news for whoever asked for the probe that `from` answers.
    pub(super) fn relayed(&mut self, from: NodeId, seq: u64) -> Option<ProbeAction> {
        self.relays.get(&seq).filter(|relay| relay.target == from)?;
        let relay = self.relays.remove(&seq)?;
        Some(ProbeAction::IndirectAck { to: relay.asker, seq: relay.asker_seq, target: from })
    }
}

/// Up to `wanted` different candidates other than `target`, each equally likely. Reorders the candidates.
fn choose(
    candidates: &mut [NodeId],
    wanted: usize,
    target: NodeId,
    rng: &mut impl Rng,
) -> Vec<NodeId> {
    let mut chosen = Vec::new();
    for i in 0..candidates.len() {
        if chosen.len() == wanted {
            break;
        }
        candidates.swap(i, rng.random_range(i..candidates.len()));
        if candidates[i] != target {
            chosen.push(candidates[i]);
        }
    }
    chosen
}
