//! What peers say, and what is said to them: probes, facts, records, questions after a silence.
//!
//! News is pushed at once. In a small cluster to everybody; in a larger one to a few, who pass on what
//! is new to them (an epidemic with blind stop on the second hearing). What a push misses, chitchat
//! (facts) and the comparison of roots (records) bring later.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use membership::fact::SignedFact;
use membership::id::{Incarnation, NodeId};
use membership::message::Message;
use membership::record::Record;
use membership::sync;
use membership::time::Now;
use rand::RngExt;
use rand::seq::IteratorRandom;

use crate::io::{Effect, Notice};
use crate::node::Node;
use crate::writes::{Batch, Origin, name_of};

/// Up to this many members news goes to everybody directly, and nobody passes it on.
const DIRECT: usize = 16;
/// To how many members news goes first in larger clusters, and to how many each passes it on.
const FANOUT: usize = 4;
/// How far above another process with this node's key a new incarnation lies at most.
const RAISE_STEPS: u64 = 1_000;
/// How many facts go into one message.
const FACTS_PER_MESSAGE: usize = 64;

impl Node {
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.out.push(Effect::Send { to, message });
    }

    pub(crate) fn on_message(&mut self, from: NodeId, message: Message, now: Now) {
        match message {
            Message::Ping { seq } => self.send(from, Message::Ack { seq }),
            Message::Ack { seq } => {
                if let Some(action) = self.detector.on_ack(&mut self.view.jury, from, seq, now.at) {
                    self.probe_action(action);
                }
            }
            Message::PingFor { seq, target } => {
                if let Some(action) =
                    self.detector.on_ping_for(&self.view.jury, from, seq, target, now.at)
                {
                    self.probe_action(action);
                }
            }
            Message::IndirectAck { seq, target } => {
                self.detector.on_indirect_ack(&mut self.view.jury, target, seq, now.at);
            }
            Message::Facts(facts) => {
                let count = u32::try_from(facts.len()).unwrap_or(u32::MAX);
                for fact in facts {
                    self.on_fact(fact, Some(from), now);
                }
                self.settling.heard(from, count);
            }
            Message::Records { records, confirm } => self.on_records(from, records, confirm, now),
            Message::Stored(names) => {
                let safe = self.writes.confirmed(&names);
                self.acknowledge(safe);
            }
            Message::Sync(step) => {
                for message in sync::answer(&self.view.registers, &step) {
                    self.send(from, message);
                }
            }
            Message::Leaving => {}
            Message::Hello { want_facts } => self.on_hello(from, want_facts),
            Message::Welcome { facts } => {
                self.settling.announced(from, facts);
                // Its profile is among them: from now on it is known whether it understands.
                self.tell_time(from, true, now);
            }
            Message::Time { wall, asks } => self.on_time(from, wall, asks, now),
        }
    }

    pub(crate) fn on_connected(&mut self, peer: NodeId, addr: SocketAddr, now: Now) {
        self.connected.insert(peer);
        let known = self.view.members.entry(peer, now);
        let moved = known.addr() != Some(addr);
        known.seen_at = Some(addr);
        if moved {
            if let Some(profile) = &mut known.profile {
                profile.addr = addr;
            }
            self.view.host_changed(peer);
            self.members_changed(now);
        }
        self.send(peer, Message::Hello { want_facts: true });
        let root = sync::start(&self.view.registers);
        self.send(peer, Message::Sync(root));
    }

    fn on_hello(&mut self, from: NodeId, want_facts: bool) {
        if !want_facts {
            return;
        }
        // What it said itself among them: with an old copy of its disk it may not know that it has.
        let facts = self.facts.all().chain(self.view.facts.all());
        let facts: Vec<SignedFact> =
            facts.filter(|fact| self.understands(from, fact)).cloned().collect();
        let count = u32::try_from(facts.len()).unwrap_or(u32::MAX);
        for part in facts.chunks(FACTS_PER_MESSAGE) {
            self.send(from, Message::Facts(part.to_vec()));
        }
        self.send(from, Message::Welcome { facts: count });
    }

    /// A node that stood still, or starts, asks everybody it is connected to.
    pub(crate) fn settle_again(&mut self, now: Now) {
        self.settling.again(now.at, self.settings.settle);
        for peer in self.connected.clone() {
            self.send(peer, Message::Hello { want_facts: true });
            let root = sync::start(&self.view.registers);
            self.send(peer, Message::Sync(root));
        }
        self.doubt_records(now);
        if self.view.misses_an_execution() {
            self.doubt.behind = Some(now.at);
        }
        self.local.look_anew(now.at);
        self.publish_health(now);
    }

    pub(crate) fn start_sync(&mut self, now: Now) {
        let peer = self.connected.iter().copied().choose(&mut self.rng);
        if let Some(peer) = peer {
            let root = sync::start(&self.view.registers);
            self.send(peer, Message::Sync(root));
            self.tell_time(peer, true, now);
        }
    }

    /// The members that news goes to.
    pub(crate) fn audience(&mut self, except: Option<NodeId>) -> Vec<NodeId> {
        let live: BTreeSet<NodeId> = self
            .view
            .members
            .iter()
            .filter(|(id, k)| *id != self.me && Some(*id) != except && k.belongs())
            .filter(|(id, k)| k.state.holds_claims() || self.connected.contains(id))
            .map(|(id, _)| id)
            .collect();
        if live.len() <= DIRECT {
            return live.into_iter().collect();
        }
        live.into_iter().sample(&mut self.rng, FANOUT)
    }

    fn passes_on(&self) -> bool {
        self.view.members.quorum().1 > DIRECT + 1
    }

    /// This node's own news: into chitchat, and to peers at once.
    pub(crate) fn spread_facts(&mut self, facts: Vec<SignedFact>) {
        if facts.is_empty() {
            return;
        }
        for fact in &facts {
            self.out.push(Effect::Publish(fact.clone()));
        }
        if self.view.is_shared() {
            // Whoever keeps it hands the news on.
            return;
        }
        let audience = self.audience(None);
        for part in facts.chunks(FACTS_PER_MESSAGE) {
            for peer in &audience {
                let known = part.iter().filter(|fact| self.understands(*peer, fact));
                let known: Vec<SignedFact> = known.cloned().collect();
                if !known.is_empty() {
                    self.send(*peer, Message::Facts(known));
                }
            }
        }
    }

    /// Whether a peer can read a fact: one of an older version could not read the message that holds it. What it
    /// misses comes by gossip, when it has become newer.
    fn understands(&self, peer: NodeId, fact: &SignedFact) -> bool {
        let needed = fact.key.since_protocol();
        let profile = self.view.members.get(peer).and_then(|known| known.profile.as_ref());
        needed == 1 || profile.is_some_and(|profile| profile.protocol_version >= needed)
    }

    pub(crate) fn spread_records(
        &mut self,
        records: &[Record],
        confirm: bool,
        except: Option<NodeId>,
    ) {
        for peer in self.audience(except) {
            self.send(peer, Message::Records { records: records.to_vec(), confirm });
        }
    }

    /// A verified fact, from chitchat (`from` is `None`) or pushed by a peer.
    pub(crate) fn on_fact(&mut self, fact: SignedFact, from: Option<NodeId>, now: Now) {
        if fact.owner == self.me {
            // Not from this process: an older life of it, or a clone.
            self.on_own_fact(&fact, now);
            return;
        }
        if !self.view.facts.hear(&fact) {
            return;
        }
        if from.is_some() && self.passes_on() {
            for peer in self.audience(from) {
                if self.understands(peer, &fact) {
                    self.send(peer, Message::Facts(vec![fact.clone()]));
                }
            }
        }
        if let Err(error) = self.view.take_fact(&fact, now) {
            let text = format!(
                "a fact of node {} under {:?} cannot be read: {error}; what it said before stands",
                fact.owner, fact.key
            );
            self.out.push(Effect::Notice(Notice::Warning { text }));
        }
    }

    fn on_own_fact(&mut self, fact: &SignedFact, now: Now) {
        // The slots that it held in an earlier life it may have forgotten, and their epochs.
        self.view.claims.remember_epochs(fact.key, fact.value.as_deref());
        if !self.facts.said(fact) {
            self.double.heard(fact.incarnation, self.rng.random(), now.at);
        }
    }

    /// Draws a new incarnation where another process speaks with this node's key, unless one is on its way.
    pub(crate) fn outdo_double(&mut self, now: Now) {
        if self.raising {
            return;
        }
        let Some(heard) = self.double.take_due(now.at) else { return };
        let own = self.facts.incarnation();
        if heard < own {
            // Outdone meanwhile for another reason.
            return;
        }
        let text = format!(
            "another process bears this node's key (incarnation {} there, {} here): was this host cloned? Remove the data directory of the copy; until then the two take turns",
            heard.0, own.0,
        );
        self.out.push(Effect::Notice(Notice::Warning { text }));
        // Both hear of each other and may draw at the same moment: by chance one is well above the other.
        let step = self.rng.random_range(0..RAISE_STEPS);
        self.raise_incarnation(Incarnation(heard.0.saturating_add(step)));
    }

    /// Records from a peer: checked, put on disk, merged, passed on.
    fn on_records(&mut self, from: NodeId, records: Vec<Record>, confirm: bool, now: Now) {
        let mut new = Vec::new();
        let mut known = Vec::new();
        let wall = self.wall(now);
        for record in records {
            let checked = record
                .check(wall)
                .map_err(|e| e.to_string())
                .and_then(|()| self.clock.observe(record.stamp, wall).map_err(|e| e.to_string()));
            match checked {
                Err(reason) => {
                    // It may be the word that a slot of a job has ended. Not asked for at once: it would be
                    // refused again.
                    self.doubt = self.doubt.again(now.at);
                    let text = format!("a record that node {from} sent was refused: {reason}");
                    self.out.push(Effect::Notice(Notice::Warning { text }));
                }
                Ok(()) if self.view.registers.would_change(&record) => new.push(record),
                Ok(()) => known.push(name_of(&record)),
            }
        }
        if confirm && !known.is_empty() {
            self.send(from, Message::Stored(known));
        }
        if !new.is_empty() {
            // Without room the batch is dropped: the sender offers it again, or anti-entropy does.
            let _ =
                self.writes.push(Batch { records: new, origin: Origin::Peer { from, confirm } });
        }
    }

    pub(crate) fn passes_records_on(&self) -> bool {
        self.passes_on()
    }
}
