//! What quinn and the network do with messages: connections that are dialled for ever, datagrams that
//! may be lost, streams that are sent again until the idle timeout, and the stateless reset by which a
//! peer learns of a restart.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::NodeId;
use membership::message::{Envelope, Message};
use membership::wire;
use node::io::Input;

use super::{Event, World};
use crate::engine::Boot;
use crate::links::{Fate, HostIx};
use crate::seen::Seen;
use crate::time::Span;

/// UDP, IP and QUIC headers of one packet, roughly.
pub const PACKET_BYTES: u64 = 28 + 30;
/// Larger messages go as streams.
const DATAGRAM_BYTES: usize = 1_150;
/// A connection that was silent for this long is gone (the gossip crate's setting).
const IDLE: Span = Span::secs(10);
/// How long one attempt to connect may take (the `lan` profile's).
const DIAL_DEADLINE: Span = Span::secs(3);
/// How many messages wait for one peer to be dialled; more are dropped.
const UNSENT: usize = 64;

/// One connection, from its handshake to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnId(pub u64);

/// Two hosts, the lower number first.
pub type Pair = (HostIx, HostIx);

fn pair(a: HostIx, b: HostIx) -> Pair {
    (a.min(b), a.max(b))
}

#[derive(Clone, Copy, Debug)]
struct Conn {
    id: ConnId,
    /// Of the lower and the higher host.
    boots: (Boot, Boot),
    /// An [`Event::Idle`] is under way.
    idle_due: bool,
}

impl Conn {
    fn boot_of(&self, pair: Pair, host: HostIx) -> Boot {
        if host == pair.0 { self.boots.0 } else { self.boots.1 }
    }
}

#[derive(Debug, Default)]
pub struct Net {
    conns: BTreeMap<Pair, Conn>,
    dialing: BTreeSet<(HostIx, HostIx)>,
    next: u64,
}

impl World {
    /// Sends as the gossip crate does: over the connection, or once the peer was dialled.
    pub(super) fn send(&mut self, from: HostIx, to: NodeId, message: Message) {
        let Some(target) = self.host_of(to).map(|target| self.reached(from, target)) else {
            return;
        };
        // A host whose disk was replaced is another node.
        if target == from || self.hosts[target.i()].id != to {
            return;
        }
        match self.usable(from, target) {
            Some(conn) => self.transmit(from, target, conn, message),
            None => {
                let host = &mut self.hosts[from.i()];
                let Some(process) = host.process.as_mut() else { return };
                let unsent = process.unsent.entry(to).or_default();
                if unsent.len() < UNSENT {
                    unsent.push(message);
                }
                self.plan_dial(from, target, Span::ZERO);
            }
        }
    }

    /// Of two hosts with one id, the one that `from` is connected to.
    fn reached(&self, from: HostIx, target: HostIx) -> HostIx {
        let double = self.double_of(target).filter(|double| self.usable(from, *double).is_some());
        double.filter(|_| self.usable(from, target).is_none()).unwrap_or(target)
    }

    /// The run of a node's process that `peer` holds a connection to is as late as that of its double
    /// `ix`, which is therefore refused.
    fn is_superseded(&self, ix: HostIx, peer: HostIx) -> bool {
        let life = |ix: HostIx| self.hosts[ix.i()].process.as_ref().map(|p| p.incarnation);
        self.double_of(ix).is_some_and(|double| {
            double == peer || (self.usable(peer, double).is_some() && life(ix) <= life(double))
        })
    }

    /// The connection that `from` believes to have to `to`.
    fn usable(&self, from: HostIx, to: HostIx) -> Option<ConnId> {
        let pair = pair(from, to);
        let conn = self.net.conns.get(&pair)?;
        self.hosts[from.i()].runs(conn.boot_of(pair, from)).then_some(conn.id)
    }

    fn transmit(&mut self, from: HostIx, to: HostIx, conn: ConnId, message: Message) {
        let cell = membership::id::CellId(0);
        let envelope = Envelope { cell, message };
        let Ok(bytes) = wire::encode(&envelope) else { return };
        self.garble(from, to, conn, &bytes);
        let message = Box::new(envelope.message);
        self.traffic.sent(&message, bytes.len() as u64 + PACKET_BYTES);
        self.trace.note(
            self.now,
            false,
            format_args!("m{from}{to}{:x?}", &bytes[..bytes.len().min(64)]),
        );
        if bytes.len() > DATAGRAM_BYTES {
            self.stream(from, to, conn, message, 0);
            return;
        }
        match self.links.datagram(from, to, &mut self.chances.links) {
            Fate::Lost => {}
            Fate::Arrives { after, again } => {
                if let Some(again) = again {
                    self.later(again, Event::Packet { from, to, conn, message: message.clone() });
                }
                self.later(after, Event::Packet { from, to, conn, message });
            }
        }
    }

    pub(super) fn stream(
        &mut self,
        from: HostIx,
        to: HostIx,
        conn: ConnId,
        message: Box<Message>,
        tries: u32,
    ) {
        if self.net.conns.get(&pair(from, to)).is_none_or(|current| current.id != conn) {
            return;
        }
        match self.links.stream(from, to, &mut self.chances.links) {
            Some(after) => self.later(after, Event::Packet { from, to, conn, message }),
            None => {
                // The probe timeout of QUIC doubles with each loss.
                let wait = Span::ms((50 << tries.min(6)).min(2_000));
                self.later(wait, Event::Stream { from, to, conn, message, tries: tries + 1 });
            }
        }
    }

    pub(super) fn packet(&mut self, from: HostIx, to: HostIx, conn: ConnId, message: Message) {
        let pair = pair(from, to);
        let Some(current) = self.net.conns.get(&pair).copied().filter(|current| current.id == conn)
        else {
            return;
        };
        let host = &self.hosts[to.i()];
        if host.runs(current.boot_of(pair, to)) {
            self.told(from, to);
            let host = &self.hosts[to.i()];
            let news = matches!(&message, Message::Records { .. } | Message::Facts(_));
            if news && self.expelled.contains(&host.id) {
                self.seen.push(Seen::ToldExpelled { host: from, id: host.id });
            }
            if let (Some(watched), Message::Facts(facts)) = (&mut self.watched, &message)
                && facts.iter().any(|fact| watched.is_it(fact))
            {
                watched.pushed.entry(to).or_insert(self.now);
            }
            let from = self.hosts[from.i()].id;
            self.feed(to, Input::Message { from, message });
        } else if host.process.is_some() {
            self.later(Span::us(300), Event::Reset { pair, conn });
        }
    }

    pub(super) fn plan_dial(&mut self, from: HostIx, to: HostIx, after: Span) {
        if from == to || !self.net.dialing.insert((from, to)) {
            return;
        }
        let boot = self.hosts[from.i()].boots;
        self.later(after, Event::Dial { from, boot, to });
    }

    /// Dials whatever this host should be connected to and is not.
    pub(super) fn plan_dials(&mut self, from: HostIx, soon: Span) {
        let Some(process) = self.hosts[from.i()].process.as_ref() else { return };
        let wanted: BTreeSet<HostIx> = process
            .wants
            .values()
            .filter_map(|addr| self.by_addr.get(addr).copied())
            .chain(self.seeds.iter().copied())
            .collect();
        for to in wanted {
            if to != from && self.usable(from, to).is_none() {
                self.plan_dial(from, to, soon);
            }
        }
    }

    pub(super) fn dial(&mut self, from: HostIx, boot: Boot, to: HostIx) {
        if !self.hosts[from.i()].runs(boot) || self.usable(from, to).is_some() {
            self.net.dialing.remove(&(from, to));
            return;
        }
        let (caller, callee) = (&self.hosts[from.i()], &self.hosts[to.i()]);
        let refuses = |a: &crate::host::Host, b: &crate::host::Host| {
            a.process.as_ref().is_some_and(|process| process.refused.contains(&b.id))
        };
        let open = self.links.both_ways(from, to) && callee.powered;
        let answers = open
            && callee.is_awake()
            && caller.is_awake()
            && self.same_side(from, to)
            && !refuses(caller, callee)
            && !refuses(callee, caller)
            && !self.is_superseded(from, to)
            && !self.is_superseded(to, from);
        let round_trip = self.links.delay(from, to, &mut self.chances.links);
        if answers && self.links.stream(from, to, &mut self.chances.links).is_some() {
            let to_boot = callee.boots;
            self.later(Span(round_trip.0 * 3), Event::DialUp { from, boot, to, to_boot });
        } else {
            let closed = open && callee.process.is_none();
            let after = if closed { Span(round_trip.0 * 2) } else { DIAL_DEADLINE };
            self.later(after, Event::DialFailed { from, boot, to });
        }
    }

    pub(super) fn dial_failed(&mut self, from: HostIx, boot: Boot, to: HostIx) {
        self.net.dialing.remove(&(from, to));
        let to_id = self.hosts[to.i()].id;
        let to_addr = self.hosts[to.i()].addr;
        let host = &mut self.hosts[from.i()];
        if !host.runs(boot) {
            return;
        }
        let Some(process) = host.process.as_mut() else { return };
        process.unsent.remove(&to_id);
        let wanted =
            process.wants.values().any(|addr| *addr == to_addr) || self.seeds.contains(&to);
        if wanted {
            let pause = self.chances.links.span(Span::ms(500), Span::ms(1_500));
            self.plan_dial(from, to, pause);
        }
    }

    pub(super) fn dial_up(&mut self, from: HostIx, boot: Boot, to: HostIx, to_boot: Boot) {
        self.net.dialing.remove(&(from, to));
        if !self.hosts[from.i()].runs(boot) || !self.hosts[to.i()].runs(to_boot) {
            return;
        }
        let pair = pair(from, to);
        let boots = if from < to { (boot, to_boot) } else { (to_boot, boot) };
        if self.net.conns.get(&pair).is_some_and(|conn| conn.boots == boots) {
            return;
        }
        // A later run of a process takes the place of its double.
        for (one, peer) in [(from, to), (to, from)] {
            let old = self.double_of(one).map(|double| self::pair(double, peer));
            if let Some((old, conn)) =
                old.and_then(|old| self.net.conns.get(&old).map(|conn| (old, conn.id)))
            {
                self.disconnect(old, conn);
            }
        }
        self.net.next += 1;
        let id = ConnId(self.net.next);
        self.net.conns.insert(pair, Conn { id, boots, idle_due: false });
        if self.hosts[from.i()].outsider != self.hosts[to.i()].outsider {
            let (inside, outside) =
                if self.hosts[to.i()].outsider { (from, to) } else { (to, from) };
            self.seen.push(Seen::LetIn { host: inside, id: self.hosts[outside.i()].id });
        }
        for (host, peer) in [(from, to), (to, from)] {
            let (peer_id, addr) = (self.hosts[peer.i()].id, self.hosts[peer.i()].addr);
            self.feed(host, Input::Connected { peer: peer_id, addr });
            self.gossip_connected(host, peer);
            let unsent = self.hosts[host.i()]
                .process
                .as_mut()
                .and_then(|process| process.unsent.remove(&peer_id));
            for message in unsent.unwrap_or_default() {
                self.transmit(host, peer, id, message);
            }
        }
    }

    fn healthy(&self, pair: Pair, conn: &Conn) -> bool {
        let (a, b) = (&self.hosts[pair.0.i()], &self.hosts[pair.1.i()]);
        a.runs(conn.boots.0)
            && b.runs(conn.boots.1)
            && a.is_awake()
            && b.is_awake()
            && self.links.both_ways(pair.0, pair.1)
    }

    /// Something about who can talk to whom has changed: connections that are broken by it will be
    /// given up after the idle timeout, and the checks hear of the parts.
    pub(super) fn connectivity_changed(&mut self) {
        let broken: Vec<(Pair, ConnId)> = self
            .net
            .conns
            .iter()
            .filter(|(pair, conn)| !conn.idle_due && !self.healthy(**pair, conn))
            .map(|(pair, conn)| (*pair, conn.id))
            .collect();
        for (pair, conn) in broken {
            if let Some(current) = self.net.conns.get_mut(&pair) {
                current.idle_due = true;
            }
            self.later(IDLE, Event::Idle { pair, conn });
        }
        let acting: Vec<HostIx> =
            self.hosts.iter().filter(|host| host.acts()).map(|host| host.ix).collect();
        self.seen.push(Seen::Parts(self.links.parts(&acting)));
    }

    pub(super) fn idle(&mut self, pair: Pair, id: ConnId) {
        let Some(conn) = self.net.conns.get(&pair).copied().filter(|conn| conn.id == id) else {
            return;
        };
        if self.healthy(pair, &conn) {
            if let Some(current) = self.net.conns.get_mut(&pair) {
                current.idle_due = false;
            }
        } else {
            self.disconnect(pair, id);
        }
    }

    /// Ends a connection: both sides that still know it are told, and dial again.
    pub(super) fn disconnect(&mut self, pair: Pair, id: ConnId) {
        let Some(conn) = self.net.conns.get(&pair).copied().filter(|conn| conn.id == id) else {
            return;
        };
        self.net.conns.remove(&pair);
        for (host, peer) in [(pair.0, pair.1), (pair.1, pair.0)] {
            if self.hosts[host.i()].runs(conn.boot_of(pair, host)) {
                let peer = self.hosts[peer.i()].id;
                self.feed(host, Input::Disconnected { peer });
                self.plan_dials(host, Span::ms(100));
            }
        }
    }

    /// A process has started: peers that still hold a connection to the one before learn that it is
    /// gone from the first packet that they send.
    pub(super) fn reset_old_connections(&mut self, host: HostIx) {
        let old: Vec<(Pair, ConnId)> = self.conns_of(host);
        for (pair, conn) in old {
            if self.links.both_ways(pair.0, pair.1) {
                let after = self.chances.links.span(Span::ms(1), Span::ms(300));
                self.later(after, Event::Reset { pair, conn });
            }
        }
    }

    /// It says goodbye on all its connections.
    pub(super) fn close_connections(&mut self, host: HostIx) {
        for (pair, conn) in self.conns_of(host) {
            if self.links.both_ways(pair.0, pair.1) {
                self.later(Span::ms(1), Event::Reset { pair, conn });
            }
        }
    }

    fn conns_of(&self, host: HostIx) -> Vec<(Pair, ConnId)> {
        let involved = |pair: &Pair| pair.0 == host || pair.1 == host;
        self.net
            .conns
            .iter()
            .filter(|(pair, _)| involved(pair))
            .map(|(pair, conn)| (*pair, conn.id))
            .collect()
    }

    /// What the host of a silent node says when asked outside QUIC.
    pub(super) fn ask_host(&mut self, from: HostIx, target: NodeId) {
        let Some(to) = self.host_of(target) else { return };
        let boot = self.hosts[from.i()].boots;
        let asked = &self.hosts[to.i()];
        let refused = asked.powered
            && asked.process.is_none()
            && asked.id == target
            && self.links.both_ways(from, to);
        let lost = self.links.stream(from, to, &mut self.chances.links).is_none();
        let refused = refused && !lost;
        let after = if refused {
            Span(self.links.delay(from, to, &mut self.chances.links).0 * 2)
        } else {
            Span::secs(1)
        };
        let input = Box::new(Input::HostAnswer { target, refused });
        self.later(after, Event::Input { host: from, boot, input });
    }
}
