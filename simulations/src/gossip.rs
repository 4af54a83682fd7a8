//! What carries facts between hosts beside the pushes: one interface, two fidelities.
//!
//! `real` is chitchat itself ([`crate::real_gossip`]); `modelled` is the same exchange in a few lines:
//! every interval a node compares versions with three random live members, sometimes one that is
//! silent, and each side sends what the other lacks; without news it does so at a quarter of the pace, as
//! the gossip crate's guard lets chitchat. [`crate::fidelity`] shows that the two agree (Scuttlebutt: van Renesse et al.,
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
    fn publish(&mut self, at: At, host: HostIx, fact: SignedFact);
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

    /// How long after a round the next one comes in a group of so many members; without news at a quarter of the pace.
    pub fn round_every(self, members: usize, news: bool) -> Span {
        let mut interval = self.interval_for(members);
        if !news {
            interval = interval.max(Span(self.interval.0 * QUIET_FACTOR));
        }
        self.between_rounds(interval)
    }

    /// For how long after a piece of news rounds come at full pace.
    pub fn news_lasts(self, members: usize) -> Span {
        Span(self.interval_for(members).0 * NEWS_ROUNDS)
    }

    /// The time between two rounds: chitchat ticks at the base interval, and a round is the first tick
    /// after the interval but for half a tick.
    fn between_rounds(self, interval: Span) -> Span {
        let wait = interval.0.saturating_sub(self.interval.0 / 2);
        Span(wait.div_ceil(self.interval.0.max(1)).max(1) * self.interval.0)
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
pub(crate) const DIGEST_LINE_BYTES: usize = 66;
/// A delta stops growing here; the rest goes in the next round.
const MAX_DELTA_BYTES: usize = 60_000;
pub(crate) const FACT_HEADER_BYTES: usize = 120;
/// Rounds at full pace after news was said or heard; without any, rounds are so many of the pace's intervals
/// apart at least; and who is sent this much lags behind and asks again at once (the guard's settings).
const NEWS_ROUNDS: u64 = 10;
const QUIET_FACTOR: u64 = 4;
const CATCH_UP_BYTES: usize = 8 * 1024;
/// Rounds without a sign of life after which a member counts as silent, where that is longer.
const SILENT_ROUNDS: u64 = 8;

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
    last_round: Option<At>,
    /// When something was last said or heard that somebody did not know.
    news: Option<At>,
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
            // Heartbeats travel in the digests.
            let (theirs, ours) = (known, owner.version);
            if (theirs.incarnation, theirs.seq) >= (ours.incarnation, ours.seq) || ours.seq == 0 {
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

    /// Signs of life of others.
    fn hear(&mut self, at: At, digest: &Digest) {
        for (id, version) in digest {
            let Some(owner) = self.owners.get_mut(id).filter(|_| *id != self.me) else { continue };
            if owner.version.incarnation == version.incarnation
                && owner.version.heartbeat < version.heartbeat
            {
                owner.version.heartbeat = version.heartbeat;
                owner.heard = at;
            }
        }
    }

    fn has_news(&self, at: At, pace: Pace) -> bool {
        let recent = pace.news_lasts(self.owners.len());
        self.news.is_some_and(|news| at < news + recent)
    }

    /// News was said or heard: full pace for a while. A pause that is under way is cut short.
    fn note_news(&mut self, at: At, pace: Pace, bytes: usize) {
        if !self.has_news(at, pace)
            && let Some(last) = self.last_round
        {
            let full = pace.between_rounds(pace.interval_for(self.owners.len()));
            let ticks = at.since(last).0.div_ceil(pace.interval.0.max(1));
            let next = (last + full).max(last + Span(ticks * pace.interval.0));
            self.next_round = self.next_round.min(next);
        }
        self.news = Some(at);
        if bytes >= CATCH_UP_BYTES {
            let ticks = self.last_round.map_or(0, |last| at.since(last).0 / pace.interval.0.max(1));
            let next = self.last_round.map(|last| last + Span((ticks + 1) * pace.interval.0));
            self.next_round = self.next_round.min(next.unwrap_or(at));
        }
    }

    fn apply(&mut self, at: At, me: HostIx, deltas: Vec<Delta>, out: &mut GossipOut) {
        for delta in deltas {
            if delta.owner == self.me {
                // Somebody bears this node's key in a later life: it has to know.
                let own = self.owners.get(&self.me).map(|owner| owner.version.incarnation);
                let later = own.is_some_and(|own| delta.version.incarnation > own);
                let fact = delta.facts.first().filter(|_| later);
                out.facts.extend(fact.map(|fact| (me, (**fact).clone())));
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
        let quiet = Span(pace.interval.0 * QUIET_FACTOR).max(pace.interval_for(self.owners.len()));
        let silence = pace.silence.max(Span(quiet.0 * SILENT_ROUNDS));
        let silent = |owner: &Owner| at.since(owner.heard) > silence;
        let mut live: Vec<HostIx> =
            others().filter(|(_, o)| !silent(o)).map(|(_, o)| o.host).collect();
        let dead: Vec<HostIx> = others().filter(|(_, o)| silent(o)).map(|(_, o)| o.host).collect();
        chance.shuffle(&mut live);
        live.truncate(pace.fanout);
        // As chitchat: a silent member with a chance that grows with their number, so that halves find each
        // other again, and a seed when alone.
        if !dead.is_empty() && chance.below((live.len() + 1) as u64) < dead.len() as u64 {
            live.extend(chance.pick(&dead));
        }
        if live.is_empty() {
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
        let (last_round, news, frozen) = (None, Some(at), false);
        let side = Side { me: id, seeds, owners, next_round, last_round, news, frozen };
        self.sides.insert(host, side);
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

    fn publish(&mut self, at: At, host: HostIx, fact: SignedFact) {
        let pace = self.pace;
        self.with_side(host, |side| {
            side.publish(fact);
            side.note_news(at, pace, 0);
        });
    }

    fn deliver(&mut self, at: At, to: HostIx, from: HostIx, payload: Payload, out: &mut GossipOut) {
        let Payload::Modelled(exchange) = payload else { return };
        let pace = self.pace;
        self.with_side(to, |side| side.take(at, pace, (to, from), *exchange, out));
    }

    fn next_due(&self) -> Option<At> {
        self.due.first().map(|(at, _)| *at)
    }

    fn due(&mut self, at: At, chance: &mut Chance, out: &mut GossipOut) {
        while let Some((when, host)) = self.due.first().copied().filter(|(when, _)| *when <= at) {
            self.due.remove(&(when, host));
            let Some(side) = self.sides.get_mut(&host) else { continue };
            let pause = self.pace.round_every(side.owners.len(), side.has_news(at, self.pace));
            side.last_round = Some(at);
            side.next_round = at + pause;
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

impl Modelled {
    /// Lets a side do something that may bring its next round forward.
    fn with_side(&mut self, host: HostIx, f: impl FnOnce(&mut Side)) {
        let Some(side) = self.sides.get_mut(&host) else { return };
        let before = side.next_round;
        f(side);
        if side.next_round != before && !side.frozen {
            self.due.remove(&(before, host));
            self.due.insert((side.next_round, host));
        }
    }
}

impl Side {
    fn publish(&mut self, fact: SignedFact) {
        let Some(own) = self.owners.get_mut(&self.me) else { return };
        if fact.owner != self.me {
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

    fn take(
        &mut self,
        at: At,
        pace: Pace,
        (to, from): (HostIx, HostIx),
        exchange: Exchange,
        out: &mut GossipOut,
    ) {
        let mut send = |exchange, bytes| {
            let payload = Payload::Modelled(Box::new(exchange));
            out.sends.push(Outgoing { from: to, to: from, bytes, payload });
        };
        let deltas = match exchange {
            Exchange::Syn(theirs) => {
                self.hear(at, &theirs);
                let (deltas, bytes) = self.delta(&theirs);
                let digest = self.digest();
                let size = bytes + digest.len() * DIGEST_LINE_BYTES;
                if !deltas.is_empty() {
                    self.note_news(at, pace, 0);
                }
                send(Exchange::SynAck(digest, deltas), size);
                return;
            }
            Exchange::SynAck(theirs, deltas) => {
                self.hear(at, &theirs);
                let (mine, bytes) = self.delta(&theirs);
                // An answer without content is not sent.
                if !mine.is_empty() {
                    self.note_news(at, pace, 0);
                    send(Exchange::Ack(mine), bytes);
                }
                deltas
            }
            Exchange::Ack(deltas) => deltas,
        };
        if !deltas.is_empty() {
            let facts = deltas.iter().flat_map(|delta| &delta.facts);
            let bytes = facts.map(|fact| fact.value.as_ref().map_or(0, Vec::len)).sum();
            self.note_news(at, pace, bytes);
        }
        self.apply(at, to, deltas, out);
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
            let facts = [(1, FactKey::Profile), (2, FactKey::Health)];
            for (seq, key) in facts {
                carrier.publish(At::ZERO, HostIx(n), fact(u128::from(n) + 1, 1, seq, key));
            }
        }
        let heard = run(&mut carrier, 100, At::ZERO);
        for n in 0..10 {
            assert_eq!(heard[&HostIx(n)].len(), 18, "host {n}");
        }
        carrier.start(At(10_000_000), HostIx(3), NodeId(4), Incarnation(2), &[HostIx(0)]);
        carrier.publish(At(10_000_000), HostIx(3), fact(4, 2, 1, FactKey::Profile));
        let heard = run(&mut carrier, 100, At(10_000_000));
        for n in (0..10).filter(|n| *n != 3) {
            let own: Vec<_> = heard[&HostIx(n)].iter().map(|f| (f.incarnation.0, f.seq)).collect();
            assert_eq!(own, [(2, 1)], "host {n}");
        }
    }
}
