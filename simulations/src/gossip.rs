//! What carries facts between hosts beside the pushes: one interface, two fidelities.
//!
//! `real` is chitchat itself ([`crate::real_gossip`]); `modelled` is the same exchange in a few lines:
//! every interval a node compares versions with three random live members, sometimes one that is
//! silent and a seed, and each side sends what the other lacks (Scuttlebutt: van Renesse et al.,
//! "Efficient Reconciliation and Flow Control for Anti-Entropy Protocols", 2008). The modelled one
//! draws its choices from the run's seed, which makes it replayable and cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gossip::facts::FULL_PACE_MEMBERS;
use membership::fact::{FactKey, SignedFact};
use membership::id::{Incarnation, NodeId};

use crate::chance::Chance;
use crate::links::HostIx;
use crate::time::{At, Span};

/// What travels. The links only need its size.
#[derive(Debug)]
pub enum Payload {
    Modelled(Box<Exchange>),
    Real(Box<chitchat::ChitchatMessage>),
}

/// One packet to send.
#[derive(Debug)]
pub struct Outgoing {
    pub from: HostIx,
    pub to: HostIx,
    pub bytes: usize,
    pub payload: Payload,
}

/// What a carrier wants done.
#[derive(Debug, Default)]
pub struct GossipOut {
    pub sends: Vec<Outgoing>,
    /// For the core of this host: news that the carrier brought.
    pub facts: Vec<(HostIx, SignedFact)>,
}

/// The interface of both fidelities. Nothing is delivered except by [`Carrier::deliver`].
pub trait Carrier: std::fmt::Debug {
    /// A shoal process starts on a host.
    fn start(
        &mut self,
        at: At,
        host: HostIx,
        id: NodeId,
        incarnation: Incarnation,
        seeds: &[HostIx],
    );
    /// It ends, without a word.
    fn stop(&mut self, host: HostIx);
    /// It stands still, or goes on.
    fn freeze(&mut self, at: At, host: HostIx, frozen: bool);
    /// A connection between the two came up: they compare at once.
    fn connected(&mut self, at: At, host: HostIx, peer: HostIx, out: &mut GossipOut);
    fn publish(&mut self, host: HostIx, fact: SignedFact);
    fn deliver(&mut self, at: At, to: HostIx, from: HostIx, payload: Payload, out: &mut GossipOut);
    /// When [`Carrier::due`] wants to be called next.
    fn next_due(&self) -> Option<At>;
    fn due(&mut self, at: At, chance: &mut Chance, out: &mut GossipOut);
}

/// How often, with how many, and how long before a silent member counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    pub interval: Span,
    pub fanout: usize,
    pub silence: Span,
}

impl Default for Pace {
    /// chitchat's, at the `lan` profile's half second.
    fn default() -> Self {
        Self { interval: Span::ms(500), fanout: 3, silence: Span::secs(10) }
    }
}

impl Pace {
    /// As the gossip crate stretches it: a digest names every member, so larger groups compare less often.
    fn interval_for(self, members: usize) -> Span {
        let factor = members.clamp(FULL_PACE_MEMBERS, FULL_PACE_MEMBERS * 30) as u64;
        Span(self.interval.0 * factor / FULL_PACE_MEMBERS as u64)
    }
}

/// What one side knows of one owner, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    incarnation: Incarnation,
    heartbeat: u64,
    seq: u64,
}

type Digest = Vec<(NodeId, Version)>;

#[derive(Clone, Debug)]
pub struct Delta {
    owner: NodeId,
    host: HostIx,
    version: Version,
    facts: Vec<Arc<SignedFact>>,
}

/// The three steps of an exchange.
#[derive(Clone, Debug)]
pub enum Exchange {
    Syn(Digest),
    SynAck(Digest, Vec<Delta>),
    Ack(Vec<Delta>),
}

/// Bytes of one line of a digest, by chitchat 0.11 with our names and IPv4.
const DIGEST_LINE_BYTES: usize = 66;
/// A delta stops growing here; the rest goes in the next round.
const MAX_DELTA_BYTES: usize = 60_000;
const FACT_HEADER_BYTES: usize = 120;

#[derive(Debug)]
struct Owner {
    host: HostIx,
    version: Version,
    facts: BTreeMap<FactKey, Arc<SignedFact>>,
    heard: At,
}

#[derive(Debug)]
struct Side {
    me: NodeId,
    seeds: Vec<HostIx>,
    owners: BTreeMap<NodeId, Owner>,
    next_round: At,
    frozen: bool,
}

/// The modelled carrier.
#[derive(Debug, Default)]
pub struct Modelled {
    pace: Pace,
    sides: BTreeMap<HostIx, Side>,
    due: BTreeSet<(At, HostIx)>,
}

impl Modelled {
    pub fn new(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }
}

impl Side {
    fn digest(&self) -> Digest {
        self.owners.iter().map(|(id, owner)| (*id, owner.version)).collect()
    }

    /// What the other side lacks, oldest first within an owner, so that a cut-off delta leaves no hole.
    fn delta(&self, theirs: &Digest) -> (Vec<Delta>, usize) {
        let (mut deltas, mut bytes) = (Vec::new(), 0);
        for (id, owner) in &self.owners {
            let known = theirs.binary_search_by_key(id, |(id, _)| *id).ok().map(|i| theirs[i].1);
            let known =
                known.unwrap_or(Version { incarnation: Incarnation(0), heartbeat: 0, seq: 0 });
            if known >= owner.version {
                continue;
            }
            let after = if known.incarnation == owner.version.incarnation { known.seq } else { 0 };
            let mut facts: Vec<_> =
                owner.facts.values().filter(|fact| fact.seq > after).cloned().collect();
            facts.sort_by_key(|fact| fact.seq);
            let mut version = owner.version;
            bytes += DIGEST_LINE_BYTES;
            for (n, fact) in facts.iter().enumerate() {
                bytes += FACT_HEADER_BYTES + fact.value.as_ref().map_or(0, Vec::len);
                if bytes > MAX_DELTA_BYTES && n > 0 {
                    facts.truncate(n);
                    version.seq = facts[n - 1].seq;
                    break;
                }
            }
            deltas.push(Delta { owner: *id, host: owner.host, version, facts });
            if bytes > MAX_DELTA_BYTES {
                break;
            }
        }
        (deltas, bytes)
    }

    fn apply(&mut self, at: At, me: HostIx, deltas: Vec<Delta>, out: &mut GossipOut) {
        for delta in deltas {
            if delta.owner == self.me {
                continue;
            }
            let owner = self.owners.entry(delta.owner).or_insert_with(|| Owner {
                host: delta.host,
                version: Version { incarnation: Incarnation(0), heartbeat: 0, seq: 0 },
                facts: BTreeMap::new(),
                heard: at,
            });
            if delta.version.incarnation < owner.version.incarnation {
                continue;
            }
            if delta.version.incarnation > owner.version.incarnation {
                owner.facts.clear();
                owner.version = Version { seq: 0, ..delta.version };
                owner.heard = at;
            }
            if delta.version.heartbeat > owner.version.heartbeat {
                owner.version.heartbeat = delta.version.heartbeat;
                owner.heard = at;
            }
            for fact in delta.facts {
                if fact.seq > owner.version.seq {
                    owner.version.seq = fact.seq;
                    out.facts.push((me, (*fact).clone()));
                    owner.facts.insert(fact.key, fact);
                }
            }
        }
    }

    fn peers(&self, at: At, pace: Pace, chance: &mut Chance) -> Vec<HostIx> {
        let others = || self.owners.iter().filter(|(id, _)| **id != self.me);
        let silent = |owner: &Owner| at.since(owner.heard) > pace.silence;
        let mut live: Vec<HostIx> =
            others().filter(|(_, o)| !silent(o)).map(|(_, o)| o.host).collect();
        let dead: Vec<HostIx> = others().filter(|(_, o)| silent(o)).map(|(_, o)| o.host).collect();
        chance.shuffle(&mut live);
        live.truncate(pace.fanout);
        // As chitchat: a silent member with a chance that grows with their number, a seed when alone
        // and now and then anyhow, so that halves find each other again.
        if !dead.is_empty() && chance.below((live.len() + 1) as u64) < dead.len() as u64 {
            live.extend(chance.pick(&dead));
        }
        if live.is_empty() || chance.per_mille(100) {
            live.extend(chance.pick(&self.seeds));
        }
        live
    }
}

impl Carrier for Modelled {
    fn start(
        &mut self,
        at: At,
        host: HostIx,
        id: NodeId,
        incarnation: Incarnation,
        seeds: &[HostIx],
    ) {
        self.stop(host);
        let version = Version { incarnation, heartbeat: 1, seq: 0 };
        let owners = [(id, Owner { host, version, facts: BTreeMap::new(), heard: at })].into();
        // Spread over the interval by number, as independent starts would be.
        let next_round = at + Span(self.pace.interval.0 / 16 * u64::from(host.0 % 16 + 1));
        let seeds = seeds.iter().copied().filter(|seed| *seed != host).collect();
        self.sides.insert(host, Side { me: id, seeds, owners, next_round, frozen: false });
        self.due.insert((next_round, host));
    }

    fn stop(&mut self, host: HostIx) {
        if let Some(side) = self.sides.remove(&host) {
            self.due.remove(&(side.next_round, host));
        }
    }

    fn freeze(&mut self, at: At, host: HostIx, frozen: bool) {
        let Some(side) = self.sides.get_mut(&host) else { return };
        side.frozen = frozen;
        self.due.remove(&(side.next_round, host));
        if !frozen {
            side.next_round = at;
            self.due.insert((at, host));
        }
    }

    fn connected(&mut self, _: At, host: HostIx, peer: HostIx, out: &mut GossipOut) {
        let Some(side) = self.sides.get(&host).filter(|side| !side.frozen) else { return };
        let digest = side.digest();
        let bytes = digest.len() * DIGEST_LINE_BYTES;
        let payload = Payload::Modelled(Box::new(Exchange::Syn(digest)));
        out.sends.push(Outgoing { from: host, to: peer, bytes, payload });
    }

    fn publish(&mut self, host: HostIx, fact: SignedFact) {
        let Some(side) = self.sides.get_mut(&host) else { return };
        let Some(own) = side.owners.get_mut(&side.me) else { return };
        if fact.owner != side.me {
            return;
        }
        if fact.incarnation > own.version.incarnation {
            own.facts.clear();
            own.version =
                Version { incarnation: fact.incarnation, heartbeat: own.version.heartbeat, seq: 0 };
        }
        own.version.seq = own.version.seq.max(fact.seq);
        own.facts.insert(fact.key, Arc::new(fact));
    }

    fn deliver(&mut self, at: At, to: HostIx, from: HostIx, payload: Payload, out: &mut GossipOut) {
        let Some(side) = self.sides.get_mut(&to) else { return };
        let Payload::Modelled(exchange) = payload else { return };
        let mut send = |exchange, bytes| {
            let payload = Payload::Modelled(Box::new(exchange));
            out.sends.push(Outgoing { from: to, to: from, bytes, payload });
        };
        match *exchange {
            Exchange::Syn(theirs) => {
                let (deltas, bytes) = side.delta(&theirs);
                let digest = side.digest();
                let size = bytes + digest.len() * DIGEST_LINE_BYTES;
                send(Exchange::SynAck(digest, deltas), size);
            }
            Exchange::SynAck(theirs, deltas) => {
                let (mine, bytes) = side.delta(&theirs);
                send(Exchange::Ack(mine), bytes);
                side.apply(at, to, deltas, out);
            }
            Exchange::Ack(deltas) => side.apply(at, to, deltas, out),
        }
    }

    fn next_due(&self) -> Option<At> {
        self.due.first().map(|(at, _)| *at)
    }

    fn due(&mut self, at: At, chance: &mut Chance, out: &mut GossipOut) {
        while let Some((when, host)) = self.due.first().copied().filter(|(when, _)| *when <= at) {
            self.due.remove(&(when, host));
            let Some(side) = self.sides.get_mut(&host) else { continue };
            // Up to an eighth of jitter keeps the rounds of different nodes from falling into step.
            let interval = self.pace.interval_for(side.owners.len());
            side.next_round = at + interval + Span(chance.below(interval.0 / 8));
            self.due.insert((side.next_round, host));
            if let Some(own) = side.owners.get_mut(&side.me) {
                own.version.heartbeat += 1;
                own.heard = at;
            }
            let digest = side.digest();
            for to in side.peers(at, self.pace, chance) {
                let bytes = digest.len() * DIGEST_LINE_BYTES;
                let payload = Payload::Modelled(Box::new(Exchange::Syn(digest.clone())));
                out.sends.push(Outgoing { from: host, to, bytes, payload });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chance::Stream;
    use membership::id::CellId;

    fn fact(owner: u128, incarnation: u64, seq: u64, key: FactKey) -> SignedFact {
        SignedFact {
            cell: CellId(0),
            owner: NodeId(owner),
            incarnation: Incarnation(incarnation),
            seq,
            key,
            value: Some(vec![seq as u8]),
            signature: Vec::new(),
        }
    }

    /// Runs rounds with instant delivery and gives what each host heard.
    fn run(carrier: &mut Modelled, rounds: u64, from: At) -> BTreeMap<HostIx, Vec<SignedFact>> {
        let mut chance = Chance::new(1, Stream::Gossip);
        let mut heard: BTreeMap<HostIx, Vec<SignedFact>> = BTreeMap::new();
        for n in 0..rounds {
            let at = from + Span::ms(100 * n);
            let mut out = GossipOut::default();
            carrier.due(at, &mut chance, &mut out);
            while !out.sends.is_empty() {
                for send in std::mem::take(&mut out.sends) {
                    carrier.deliver(at, send.to, send.from, send.payload, &mut out);
                }
            }
            out.facts
                .into_iter()
                .for_each(|(host, fact)| heard.entry(host).or_default().push(fact));
        }
        heard
    }

    #[test]
    fn everybody_hears_of_everybody_once_and_a_restart_replaces_what_was_known() {
        let mut carrier = Modelled::new(Pace::default());
        for n in 0..10u32 {
            carrier.start(
                At::ZERO,
                HostIx(n),
                NodeId(u128::from(n) + 1),
                Incarnation(1),
                &[HostIx(0)],
            );
            carrier.publish(HostIx(n), fact(u128::from(n) + 1, 1, 1, FactKey::Profile));
            carrier.publish(HostIx(n), fact(u128::from(n) + 1, 1, 2, FactKey::Health));
        }
        let heard = run(&mut carrier, 100, At::ZERO);
        for n in 0..10 {
            assert_eq!(heard[&HostIx(n)].len(), 18, "host {n}");
        }
        carrier.start(At(10_000_000), HostIx(3), NodeId(4), Incarnation(2), &[HostIx(0)]);
        carrier.publish(HostIx(3), fact(4, 2, 1, FactKey::Profile));
        let heard = run(&mut carrier, 100, At(10_000_000));
        for n in (0..10).filter(|n| *n != 3) {
            let own: Vec<_> = heard[&HostIx(n)].iter().map(|f| (f.incarnation.0, f.seq)).collect();
            assert_eq!(own, [(2, 1)], "host {n}");
        }
    }
}
