//! Whom this node knows, is connected to, and should dial next.
//!
//! A peer is a [`NodeId`]; its address may change. Addresses come from three places, the earlier one
//! counting more: the peer's own greeting on a live connection, the core's list (from its signed
//! profile), and digests that other members pass on. Everything in here is decided under one lock
//! without waiting; the sockets are elsewhere.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use membership::id::NodeId;
use rand::RngExt;
use tokio::time::Instant;

use crate::config::Pace;
use crate::connection::Connection;
use crate::contest::{Outcome, contest};
use crate::dial::DialError;
use crate::facts::GRACE;

/// How many dials run at once, seeds not counted. Further ones wait.
pub(crate) const MAX_DIALS: usize = 32;

/// What waits for a connection that is being made, for each peer: messages and their bytes. Further
/// messages are dropped and counted.
const MAX_HELD: usize = 64;
const MAX_HELD_BYTES: usize = 4 * 1024 * 1024;

/// The first pause after a failed dial; doubled each time up to [`longest_pause`], and shortened by chance
/// by up to half, so that the members of a healed half do not dial all at once.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// A message for an unconnected peer shortens its pause to this.
const EAGER_PAUSE: Duration = Duration::from_millis(500);

/// The one with the greater id lets the other dial first for this long: crossing dials are sorted out,
/// but cost a handshake.
const COURTESY: Duration = Duration::from_millis(300);

/// A connection that lived longer than this was a good one: the next dial starts without a pause.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// The longest pause between dials to one peer: 5 s (`wan`: 15 s), and so long that all unreachable peers
/// together are dialled at most ten times a second.
fn longest_pause(pace: Pace, unreachable: usize) -> Duration {
    let base = match pace {
        Pace::Local | Pace::Lan => Duration::from_secs(5),
        Pace::Wan => Duration::from_secs(15),
    };
    base.max(Duration::from_millis(100) * u32::try_from(unreachable).unwrap_or(u32::MAX))
}

/// Where to dial and whom to expect there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) node: NodeId,
    pub(crate) addr: SocketAddr,
}

#[derive(Default)]
struct Peer {
    /// From the core's list: stay connected.
    wanted: Option<SocketAddr>,
    /// From its last greeting.
    said: Option<SocketAddr>,
    /// From others' digests, and when last.
    heard: Option<(SocketAddr, Instant)>,
    live: Option<Arc<Connection>>,
    /// What `live` replaced, until it is closed. If `live` ends first (its dialler gave up before it
    /// heard that it was admitted), this one is used again, as the other side has done all the time.
    retired: Option<Arc<Connection>>,
    /// The last connection there was, for the greeting of the next.
    last_nonce: u64,
    dialling: bool,
    failures: u32,
    next_dial: Option<Instant>,
    last_failure: Option<Instant>,
    held: VecDeque<Bytes>,
    held_bytes: usize,
}

impl Peer {
    fn addr(&self) -> Option<SocketAddr> {
        // While connected, what it said itself is the truth; afterwards the core knows as much and hears
        // of changes. A dial that fails tries the other one (see `address_for`).
        self.said.or(self.wanted).or(self.heard.map(|(addr, _)| addr))
    }

    /// Which address the next dial takes: after failures the known ones in turn.
    fn address_for(&self) -> Option<SocketAddr> {
        let mut known = Vec::with_capacity(3);
        for addr in [self.wanted, self.said, self.heard.map(|(addr, _)| addr)].into_iter().flatten()
        {
            if !known.contains(&addr) {
                known.push(addr);
            }
        }
        known.get(self.failures as usize % known.len().max(1)).copied()
    }

    fn kept(&self, now: Instant) -> bool {
        self.wanted.is_some() || self.heard.is_some_and(|(_, at)| now < at + GRACE)
    }

    fn drop_held(&mut self) -> usize {
        self.held_bytes = 0;
        std::mem::take(&mut self.held).len()
    }
}

/// What became of a message for a peer.
pub(crate) enum Sending {
    Now(Arc<Connection>, Bytes),
    Held,
    Dropped,
}

/// What became of a connection that passed its greeting.
pub(crate) enum Admission {
    /// It is the one now. `held` waited for it; `replaced` is to be closed.
    Live {
        held: Vec<Bytes>,
        replaced: Option<Arc<Connection>>,
    },
    Duplicate,
    Superseded,
}

pub(crate) struct Peers {
    me: NodeId,
    own_addr: SocketAddr,
    pace: Pace,
    map: BTreeMap<NodeId, Peer>,
    by_addr: BTreeMap<SocketAddr, NodeId>,
    refused: BTreeSet<NodeId>,
    dialling: usize,
}

impl Peers {
    pub(crate) fn new(me: NodeId, own_addr: SocketAddr, pace: Pace) -> Self {
        Self {
            me,
            own_addr,
            pace,
            map: BTreeMap::new(),
            by_addr: BTreeMap::new(),
            refused: BTreeSet::new(),
            dialling: 0,
        }
    }

    pub(crate) fn live(&self, node: NodeId) -> Option<&Arc<Connection>> {
        self.map.get(&node)?.live.as_ref()
    }

    pub(crate) fn all_live(&self) -> impl Iterator<Item = &Arc<Connection>> {
        self.map.values().filter_map(|peer| peer.live.as_ref())
    }

    /// Who said that it is reached at `addr`.
    pub(crate) fn at(&self, addr: SocketAddr) -> Option<NodeId> {
        self.by_addr.get(&addr).copied()
    }

    pub(crate) fn addr_of(&self, node: NodeId) -> Option<SocketAddr> {
        self.map.get(&node)?.addr()
    }

    /// What a greeting to `node` names as the last connection, 0 if there was none. `None` if there is
    /// a connection now: then the dial is not needed any more, and naming that one would say that it has
    /// been given up.
    pub(crate) fn last_seen(&self, node: NodeId) -> Option<u64> {
        match self.map.get(&node) {
            Some(peer) if peer.live.as_ref().is_some_and(|live| live.is_open()) => None,
            peer => Some(peer.map_or(0, |peer| peer.last_nonce)),
        }
    }

    pub(crate) fn is_refused(&self, node: NodeId) -> bool {
        self.refused.contains(&node)
    }

    /// The members to stay connected to; what is neither in it, connected nor heard of is forgotten.
    pub(crate) fn set_wanted(&mut self, wanted: &BTreeMap<NodeId, SocketAddr>, now: Instant) {
        for (node, addr) in wanted {
            if *node == self.me {
                continue;
            }
            let peer = self.map.entry(*node).or_default();
            if peer.wanted != Some(*addr) {
                peer.wanted = Some(*addr);
                // News of an address are a reason to try at once.
                peer.failures = 0;
                peer.next_dial = None;
                self.by_addr.insert(*addr, *node);
            }
        }
        for (node, peer) in &mut self.map {
            if !wanted.contains_key(node) {
                peer.wanted = None;
            }
        }
        self.forget(now);
    }

    fn forget(&mut self, now: Instant) {
        self.map.retain(|_, peer| peer.live.is_some() || peer.dialling || peer.kept(now));
        self.by_addr.retain(|_, node| self.map.contains_key(node));
    }

    /// Refuses these from now on; returns the connections to close.
    pub(crate) fn set_refused(&mut self, refused: BTreeSet<NodeId>) -> Vec<Arc<Connection>> {
        self.refused = refused;
        let refused = &self.refused;
        self.map
            .iter()
            .filter(|(node, _)| refused.contains(node))
            .filter_map(|(_, peer)| peer.live.clone())
            .collect()
    }

    /// A member's address, as somebody's digest says. True if it is news.
    pub(crate) fn hear(&mut self, node: NodeId, addr: SocketAddr, now: Instant) -> bool {
        if node == self.me || self.refused.contains(&node) {
            return false;
        }
        let courtesy = self.courtesy(node, now);
        let news = !self.map.contains_key(&node);
        let peer = self.map.entry(node).or_default();
        if news {
            peer.next_dial = courtesy;
        }
        let changed = peer.heard.is_none_or(|(heard, _)| heard != addr);
        peer.heard = Some((addr, now));
        if changed {
            self.by_addr.entry(addr).or_insert(node);
        }
        news || changed
    }

    fn courtesy(&self, node: NodeId, now: Instant) -> Option<Instant> {
        (self.me > node).then(|| now + COURTESY)
    }

    /// Takes in a connection whose greetings are through. `last_seen` as in [`contest`].
    pub(crate) fn admit(&mut self, connection: Arc<Connection>, last_seen: u64) -> Admission {
        let me = self.me;
        let node = connection.peer;
        let peer = self.map.entry(node).or_default();
        if let Some(live) = &peer.live
            && live.is_open()
        {
            match contest(me, node, &live.contender(), &connection.contender(), last_seen) {
                Outcome::Newcomer => {}
                Outcome::Incumbent => return Admission::Duplicate,
                Outcome::Superseded => return Admission::Superseded,
            }
        }
        peer.said = Some(connection.advertised);
        peer.last_nonce = connection.nonce;
        peer.next_dial = None;
        peer.held_bytes = 0;
        let held = std::mem::take(&mut peer.held).into();
        self.by_addr.insert(connection.advertised, node);
        let instance = connection.instance;
        let replaced = peer.live.replace(connection);
        // A run of the process that is over is not gone back to.
        peer.retired = replaced.clone().filter(|old| old.instance == instance);
        Admission::Live { held, replaced }
    }

    /// A connection has ended. True if the peer has none any more because of that.
    pub(crate) fn ended(&mut self, connection: &Connection, now: Instant) -> bool {
        let courtesy = self.courtesy(connection.peer, now);
        let Some(peer) = self.map.get_mut(&connection.peer) else { return false };
        let is = |held: &Option<Arc<Connection>>| {
            held.as_ref().is_some_and(|held| held.nonce == connection.nonce)
        };
        if is(&peer.retired) {
            peer.retired = None;
        }
        if !is(&peer.live) {
            return false;
        }
        peer.live = peer.retired.take().filter(|retired| retired.is_open());
        if let Some(again) = &peer.live {
            peer.last_nonce = again.nonce;
            return false;
        }
        // That it was connected is as good a reason to look for it as a digest that names it.
        peer.heard = Some((connection.advertised, now));
        if now.duration_since(connection.since) >= GOOD_LIFE {
            peer.failures = 0;
            peer.next_dial = courtesy;
        } else {
            peer.failures += 1;
            peer.next_dial = Some(now + pause(peer.failures, longest_pause(self.pace, 0)));
        }
        true
    }

    /// The time of a replaced connection is over. False if it is in use again.
    pub(crate) fn bury(&mut self, connection: &Connection) -> bool {
        let Some(peer) = self.map.get_mut(&connection.peer) else { return true };
        if peer.live.as_ref().is_some_and(|live| live.nonce == connection.nonce) {
            return false;
        }
        if peer.retired.as_ref().is_some_and(|retired| retired.nonce == connection.nonce) {
            peer.retired = None;
        }
        true
    }

    /// What to do with a message for `node`: its connection, or keep it for the dial.
    pub(crate) fn send(&mut self, node: NodeId, frame: Bytes, now: Instant) -> Sending {
        let Some(peer) = self.map.get_mut(&node) else { return Sending::Dropped };
        if let Some(live) = &peer.live {
            return Sending::Now(live.clone(), frame);
        }
        if peer.addr().is_none() || self.refused.contains(&node) {
            return Sending::Dropped;
        }
        if !peer.dialling {
            let eager = peer.last_failure.map_or(now, |failed| failed + EAGER_PAUSE);
            if peer.next_dial.is_some_and(|next| next > eager) {
                peer.next_dial = Some(eager);
            }
            if eager > now {
                return Sending::Dropped;
            }
        }
        if peer.held.len() >= MAX_HELD || peer.held_bytes + frame.len() > MAX_HELD_BYTES {
            return Sending::Dropped;
        }
        peer.held_bytes += frame.len();
        peer.held.push_back(frame);
        Sending::Held
    }

    /// Shortens the pause before the next dial to whoever is at `addr`.
    pub(crate) fn hasten(&mut self, node: NodeId, now: Instant) {
        if let Some(peer) = self.map.get_mut(&node)
            && peer.live.is_none()
        {
            let eager = peer.last_failure.map_or(now, |failed| failed + EAGER_PAUSE);
            if peer.next_dial.is_some_and(|next| next > eager) {
                peer.next_dial = Some(eager);
            }
        }
    }

    /// Whom to dial now (they are marked as being dialled), and when to ask again.
    pub(crate) fn due(&mut self, now: Instant) -> (Vec<Target>, Option<Instant>) {
        let mut due = Vec::new();
        let mut next: Option<Instant> = None;
        for (node, peer) in &mut self.map {
            if peer.live.is_some() || peer.dialling || self.refused.contains(node) {
                continue;
            }
            let wanted = peer.kept(now) || !peer.held.is_empty();
            let Some(addr) = peer.address_for().filter(|addr| wanted && *addr != self.own_addr)
            else {
                continue;
            };
            match peer.next_dial.filter(|at| *at > now) {
                Some(at) => next = Some(next.map_or(at, |next| next.min(at))),
                None if self.dialling >= MAX_DIALS => break,
                None => {
                    peer.dialling = true;
                    self.dialling += 1;
                    due.push(Target { node: *node, addr });
                }
            }
        }
        (due, next)
    }

    /// A dial has ended. Returns how many messages that waited for it were dropped.
    pub(crate) fn dialled(
        &mut self,
        node: NodeId,
        result: Result<(), &DialError>,
        now: Instant,
    ) -> usize {
        self.dialling = self.dialling.saturating_sub(1);
        let unreachable = self.map.values().filter(|peer| peer.failures > 0).count();
        let longest = longest_pause(self.pace, unreachable);
        let Some(peer) = self.map.get_mut(&node) else { return 0 };
        peer.dialling = false;
        let mut dropped = 0;
        match result {
            // Also after a duplicate, whose better twin may be a moment away.
            Ok(()) => peer.next_dial = Some(now + FIRST_PAUSE),
            Err(_) if peer.live.is_some() => {}
            Err(_) => {
                peer.failures = peer.failures.saturating_add(1);
                peer.last_failure = Some(now);
                peer.next_dial = Some(now + pause(peer.failures, longest));
                dropped = peer.drop_held();
            }
        }
        self.forget(now);
        dropped
    }
}

/// The pause after the `failures`th failure in a row.
pub(crate) fn pause(failures: u32, longest: Duration) -> Duration {
    let doubled = FIRST_PAUSE * 2u32.saturating_pow(failures.saturating_sub(1).min(16));
    doubled.min(longest).mul_f64(rand::rng().random_range(0.5..1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn peers(me: u128) -> Peers {
        Peers::new(NodeId(me), addr(1), Pace::Lan)
    }

    const FAILED: DialError = DialError::ShuttingDown;

    #[tokio::test(start_paused = true)]
    async fn a_wanted_peer_is_dialled_for_ever_and_ever_more_slowly() {
        let mut peers = peers(1);
        peers.set_wanted(&BTreeMap::from([(NodeId(2), addr(2))]), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..50 {
            let (due, _) = peers.due(Instant::now());
            assert_eq!(due, [Target { node: NodeId(2), addr: addr(2) }]);
            assert!(peers.due(Instant::now()).0.is_empty(), "one dial at a time");
            peers.dialled(NodeId(2), Err(&FAILED), Instant::now());
            let (none, next) = peers.due(Instant::now());
            assert!(none.is_empty());
            let pause = next.unwrap() - Instant::now();
            pauses.push(pause);
            tokio::time::advance(pause).await;
        }
        assert!(pauses[0] <= Duration::from_millis(250) && pauses[1] >= Duration::from_millis(250));
        assert!(pauses[49] >= Duration::from_millis(2500) && pauses[49] <= Duration::from_secs(5));
    }

    #[tokio::test(start_paused = true)]
    async fn many_unreachable_peers_cost_ten_dials_a_second_together() {
        let mut peers = peers(1);
        let all: BTreeMap<_, _> = (2..502).map(|n| (NodeId(n), addr(n as u16))).collect();
        peers.set_wanted(&all, Instant::now());
        let mut in_last_minute = 0;
        for step in 0..2 * 60 * 20 {
            let now = Instant::now();
            let (due, _) = peers.due(now);
            assert!(due.len() <= MAX_DIALS);
            for target in due {
                peers.dialled(target.node, Err(&FAILED), now);
                in_last_minute += usize::from(step >= 60 * 20);
            }
            tokio::time::advance(Duration::from_millis(50)).await;
        }
        // Chance shortens the pauses by a quarter on average.
        assert!((600..=1200).contains(&in_last_minute), "{in_last_minute}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_hastens_the_dial_and_is_dropped_when_that_fails() {
        let mut peers = peers(1);
        let now = Instant::now();
        let frame = Bytes::from_static(b"x");
        assert!(matches!(peers.send(NodeId(2), frame.clone(), now), Sending::Dropped));
        peers.set_wanted(&BTreeMap::from([(NodeId(2), addr(2))]), now);
        peers.due(now);
        for held in 0..MAX_HELD + 9 {
            let sent = peers.send(NodeId(2), frame.clone(), now);
            assert_eq!(matches!(sent, Sending::Held), held < MAX_HELD);
        }
        assert_eq!(peers.dialled(NodeId(2), Err(&FAILED), now), MAX_HELD);
        for _ in 0..9 {
            peers.due(Instant::now());
            peers.dialled(NodeId(2), Err(&FAILED), Instant::now());
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        peers.due(Instant::now());
        peers.dialled(NodeId(2), Err(&FAILED), Instant::now());
        assert!(matches!(peers.send(NodeId(2), frame.clone(), Instant::now()), Sending::Dropped));
        let (_, next) = peers.due(Instant::now());
        assert!(next.unwrap() - Instant::now() <= EAGER_PAUSE);
    }

    #[tokio::test(start_paused = true)]
    async fn only_wanted_and_heard_of_peers_stay_and_the_removed_are_left_alone() {
        let mut peers = peers(5);
        let now = Instant::now();
        peers.set_wanted(&BTreeMap::from([(NodeId(2), addr(2)), (NodeId(5), addr(1))]), now);
        assert!(peers.hear(NodeId(3), addr(3), now));
        assert!(!peers.hear(NodeId(3), addr(3), now) && !peers.hear(NodeId(5), addr(9), now));
        assert_eq!(peers.at(addr(3)), Some(NodeId(3)));
        peers.set_wanted(&BTreeMap::new(), now);
        assert_eq!((peers.addr_of(NodeId(2)), peers.addr_of(NodeId(3))), (None, Some(addr(3))));
        // The greater id is courteous, the smaller dials at once.
        assert!(peers.due(now).0.is_empty());
        assert!(peers.hear(NodeId(9), addr(9), now));
        assert_eq!(peers.due(now).0, [Target { node: NodeId(9), addr: addr(9) }]);
        peers.set_refused(BTreeSet::from([NodeId(3)]));
        tokio::time::advance(COURTESY).await;
        assert!(peers.due(Instant::now()).0.is_empty());
        tokio::time::advance(GRACE).await;
        peers.dialled(NodeId(9), Err(&FAILED), Instant::now());
        assert_eq!((peers.addr_of(NodeId(3)), peers.at(addr(9))), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_the_other_known_addresses_are_tried() {
        let mut peers = peers(1);
        let now = Instant::now();
        peers.set_wanted(&BTreeMap::from([(NodeId(2), addr(2))]), now);
        peers.hear(NodeId(2), addr(22), now);
        let mut tried = Vec::new();
        for _ in 0..3 {
            let (due, _) = peers.due(Instant::now());
            tried.push(due[0].addr);
            peers.dialled(NodeId(2), Err(&FAILED), Instant::now());
            tokio::time::advance(Duration::from_secs(6)).await;
        }
        assert_eq!(tried, [addr(2), addr(22), addr(2)]);
    }
}
