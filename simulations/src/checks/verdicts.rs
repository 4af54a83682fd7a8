//! No false verdict: a member that runs, answers and can be reached is not called down. One of which there are
//! two, with copies of one disk, is not one member: what answers the probes of one of them reaches the other, so
//! neither can be judged, nor judge.
//!
//! Reached by probes, that is: where every way from one to the other, over a third included, loses so many
//! packets that most round trips fail now and then, nobody can tell a host from a dead one.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::member::MemberState;

use super::{Check, Found, Picture};
use crate::links::HostIx;
use crate::seen::Seen;
use crate::time::{At, Span};

/// How long after a disturbance a verdict may still be about it.
const ECHO: Span = Span::secs(20);

/// Of round trips that lose a twentieth of their packets each way, six of ten fail once in ten thousand times.
const SURE: u32 = 50;
/// With a fifth lost that is as rare where a third host asks as well, and has to find the same.
const FAIR: u32 = 200;

#[derive(Debug, Default)]
pub(super) struct Verdicts {
    up_since: BTreeMap<NodeId, (HostIx, At)>,
    strained: BTreeSet<HostIx>,
    /// Packets of a thousand that are lost between two hosts, where it is more than usual.
    losses: BTreeMap<(HostIx, HostIx), u32>,
}

impl Verdicts {
    fn loss(&self, a: HostIx, b: HostIx) -> u32 {
        self.losses.get(&(a.min(b), a.max(b))).copied().unwrap_or(0)
    }

    /// Neither the direct way nor one over a third host is good enough for probes.
    fn is_out_of_hearing(&self, host: HostIx, target: HostIx, picture: &Picture) -> bool {
        let part = picture.part.get(&host);
        let others = picture
            .part
            .iter()
            .filter(|(other, of)| Some(*of) == part && **other != host && **other != target);
        let helps =
            |other: HostIx| self.loss(host, other) <= FAIR && self.loss(other, target) <= FAIR;
        self.loss(host, target) > SURE && !others.into_iter().any(|(other, _)| helps(*other))
    }
}

impl Check for Verdicts {
    fn see(&mut self, at: At, seen: &Seen, picture: &Picture, found: &mut Found) {
        match seen {
            Seen::Process { host, id, .. } => {
                self.up_since.insert(*id, (*host, at));
            }
            Seen::Strained { host, strained: true } => {
                self.strained.insert(*host);
            }
            Seen::Strained { host, strained: false } => {
                self.strained.remove(host);
            }
            Seen::Lossy(pairs) => {
                self.losses = pairs.iter().map(|(a, b, loss)| ((*a, *b), *loss)).collect();
            }
            Seen::ProcessGone { host } => self.up_since.retain(|_, (of, _)| of != host),
            Seen::Verdict { host, about, to: MemberState::Down } => {
                let Some((target, since)) = self.up_since.get(about) else { return };
                let same_part = picture.part.contains_key(host)
                    && picture.part.get(host) == picture.part.get(target);
                let calm_since = picture.disturbed.max(picture.parts_since).max(*since);
                let strained = [host, target].into_iter().any(|host| self.strained.contains(host));
                let two = [host, target].into_iter().any(|one| picture.has_double(at, *one));
                let fair = !strained && !two && !self.is_out_of_hearing(*host, *target, picture);
                if same_part && fair && at.since(calm_since) > ECHO {
                    found.push(
                        at,
                        "verdicts",
                        format!("{host} calls {target} down, which runs and can be reached"),
                    );
                }
            }
            _ => {}
        }
    }
}
