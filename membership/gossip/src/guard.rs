//! What stands between chitchat and its transport.
//!
//! chitchat is kept from hurting itself, over any transport: [`Guard`] thins its exchanges out as the
//! group grows (its own interval is fixed when it starts), and takes out of incoming digests what must
//! not enter its state: names that are no node's, generations that are over, removed nodes, and members
//! beyond the number for which one of its messages has room. Since chitchat ignores deltas about nodes
//! that no digest named, nothing else has to be filtered.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable, Serializable};
use membership::id::{ID_CHARS, Incarnation, NodeId};
use tokio::time::Instant;

use crate::config::Pace;
use crate::digest::{self, Entry, MAX_CHITCHAT_BYTES};

/// Up to this many members the gossip interval is the pace's own.
pub const FULL_PACE_MEMBERS: usize = 32;

/// The interval grows at most by this factor.
pub(crate) const SLOWEST: usize = 30;

/// How much of chitchat's largest message a digest may fill. The rest lets every answer carry news.
/// One entry has 41 bytes, the 25 of a node's id and 12 more with IPv6: room for 969 members
/// with IPv4 addresses, for 820 with IPv6.
pub const MAX_DIGEST_BYTES: usize = 64_000;
const _: () = assert!(MAX_DIGEST_BYTES + 1000 < MAX_CHITCHAT_BYTES);

/// A later generation of this node is believed in up to this far ahead of its own: an old copy of the data
/// directory is some starts behind. Digests are not signed, and one that claims the highest number
/// there is would otherwise keep this node from ever having a fresh one.
const MAX_AHEAD: u64 = 1_000_000;

/// A delta this large shows that we lag behind: the next exchange starts at once.
const CATCH_UP_BYTES: usize = 8 * 1024;

/// What a delta without any content weighs.
const EMPTY_DELTA_BYTES: usize = 1;

/// Rounds at full pace after news was seen. Whoever has it takes it to three others in each, so that ten
/// are far more than the largest group needs.
const NEWS_ROUNDS: u32 = 10;

/// With no news, rounds are at least this many of the pace's intervals apart: comparing equal notes was the
/// larger half of what an idle node of a small cluster sent.
const QUIET_FACTOR: u32 = 4;

/// How often a node starts an exchange with three others: the pace's interval x members / 32, at
/// least x 1 and at most x 30. Each exchange carries two digests of 66 bytes for each member, so this
/// holds the cost of an idle node at some 25 kB/s (`lan`) whatever the size. Nothing urgent waits for
/// it: news are pushed, chitchat repairs what a push missed. While a node neither has news nor hears
/// any, its rounds are at least four of the pace's intervals apart.
pub fn gossip_interval(pace: Pace, members: usize) -> Duration {
    let factor = members.clamp(FULL_PACE_MEMBERS, FULL_PACE_MEMBERS * SLOWEST);
    // The factor is below 1000.
    pace.gossip_interval() * factor as u32 / FULL_PACE_MEMBERS as u32
}

/// What one digest entry weighs.
pub(crate) fn entry_bytes(addr: SocketAddr) -> usize {
    41 + ID_CHARS + if addr.is_ipv6() { 12 } else { 0 }
}

/// What the guard noticed and the owner should hear of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Noticed {
    /// The last node that was kept out for want of room.
    pub(crate) full: Option<NodeId>,
    /// The cluster knows a later generation of this very node.
    pub(crate) later_self: Option<Incarnation>,
    /// Entries left out because they should not exist.
    pub(crate) bad_entries: u64,
}

pub(crate) struct Guard {
    me: NodeId,
    pace: Pace,
    state: Mutex<State>,
}

struct State {
    generation: Incarnation,
    /// Everything that was let into chitchat's state, by node and generation.
    admitted: BTreeMap<(NodeId, Incarnation), SocketAddr>,
    digest_bytes: usize,
    refused: BTreeSet<NodeId>,
    /// Exchanges that were asked for and pass whatever the interval.
    asked: BTreeSet<SocketAddr>,
    round_began: Option<Instant>,
    next_round: Option<Instant>,
    /// When something was last said or heard that somebody did not know.
    news: Option<Instant>,
    noticed: Noticed,
}

impl Guard {
    pub(crate) fn new(me: NodeId, pace: Pace) -> Self {
        let state = State {
            generation: Incarnation(0),
            admitted: BTreeMap::new(),
            digest_bytes: 0,
            refused: BTreeSet::new(),
            asked: BTreeSet::new(),
            round_began: None,
            next_round: None,
            news: None,
            noticed: Noticed::default(),
        };
        Self { me, pace, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; if it did, the state would still be whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new run of chitchat, with nothing in its state but this node.
    pub(crate) fn begin(&self, generation: Incarnation, advertise: SocketAddr) {
        let mut state = self.lock();
        state.generation = generation;
        state.admitted = BTreeMap::from([((self.me, generation), advertise)]);
        state.digest_bytes = entry_bytes(advertise);
        state.asked.clear();
        state.round_began = None;
        state.next_round = None;
        state.news = None;
        state.noticed.later_self = None;
    }

    /// Something is new, here or elsewhere: rounds are at full pace for a while.
    pub(crate) fn note_news(&self, now: Instant) {
        let mut state = self.lock();
        if !state.has_news(self.pace, now)
            && let Some(began) = state.round_began
        {
            let interval = gossip_interval(self.pace, state.members());
            state.next_round = Some(began + interval - self.pace.gossip_interval() / 2);
        }
        state.news = Some(now);
    }

    pub(crate) fn refuse(&self, refused: BTreeSet<NodeId>) {
        self.lock().refused = refused;
    }

    /// Lets the next exchange with `addr` pass.
    pub(crate) fn ask(&self, addr: SocketAddr) {
        let mut state = self.lock();
        // One for each connection at most; beyond that the rounds do it.
        if state.asked.len() < 1024 {
            state.asked.insert(addr);
        }
    }

    /// Forgets what chitchat has dropped; `held` is all that it holds.
    pub(crate) fn prune(&self, held: &BTreeSet<(NodeId, Incarnation)>) {
        let mut state = self.lock();
        state.admitted.retain(|key, _| held.contains(key));
        state.digest_bytes = state.admitted.values().map(|addr| entry_bytes(*addr)).sum();
    }

    pub(crate) fn take_noticed(&self) -> Noticed {
        std::mem::take(&mut self.lock().noticed)
    }

    /// Different nodes in chitchat's state, this one included.
    pub(crate) fn members(&self) -> usize {
        self.lock().members()
    }

    /// True if `node` is a member or there is room for one more.
    pub(crate) fn has_room_for(&self, node: NodeId, addr: SocketAddr) -> bool {
        let state = self.lock();
        state.newest(node).is_some() || state.digest_bytes + entry_bytes(addr) <= MAX_DIGEST_BYTES
    }

    /// The highest generation of `node` that was seen.
    pub(crate) fn newest(&self, node: NodeId) -> Option<Incarnation> {
        self.lock().newest(node)
    }

    /// True if this exchange may start now: it was asked for, or a round is due or under way.
    fn may_start(&self, to: SocketAddr, now: Instant) -> bool {
        let mut state = self.lock();
        if state.asked.remove(&to) {
            return true;
        }
        let base = self.pace.gossip_interval();
        if state.round_began.is_some_and(|began| now < began + base / 2) {
            return true;
        }
        if state.next_round.is_some_and(|next| now < next) {
            return false;
        }
        let mut interval = gossip_interval(self.pace, state.members());
        if !state.has_news(self.pace, now) {
            interval = interval.max(base * QUIET_FACTOR);
        }
        state.round_began = Some(now);
        // chitchat ticks at the base interval: half of one less, lest a tick that comes a moment
        // early is missed and the next one waited for.
        state.next_round = Some(now + interval - base / 2);
        true
    }

    /// A message as it may reach chitchat; `None` when it must not.
    fn screen(&self, message: ChitchatMessage) -> Option<ChitchatMessage> {
        match message {
            ChitchatMessage::Syn { cluster_id, digest } => {
                let bytes = self.screen_digest(&digest.serialize_to_vec())?;
                let digest = match bytes {
                    Some(bytes) => Deserializable::deserialize(&mut &bytes[..]).ok()?,
                    None => digest,
                };
                Some(ChitchatMessage::Syn { cluster_id, digest })
            }
            ChitchatMessage::SynAck { digest, delta } => {
                let bytes = self.screen_digest(&digest.serialize_to_vec())?;
                let digest = match bytes {
                    Some(bytes) => Deserializable::deserialize(&mut &bytes[..]).ok()?,
                    None => digest,
                };
                self.note_delta(delta.serialized_len(), Instant::now());
                Some(ChitchatMessage::SynAck { digest, delta })
            }
            ChitchatMessage::Ack { delta } => {
                self.note_delta(delta.serialized_len(), Instant::now());
                Some(ChitchatMessage::Ack { delta })
            }
            ChitchatMessage::BadCluster => Some(ChitchatMessage::BadCluster),
        }
    }

    fn note_delta(&self, bytes: usize, now: Instant) {
        if bytes > EMPTY_DELTA_BYTES {
            self.note_news(now);
        }
        if bytes >= CATCH_UP_BYTES {
            self.lock().next_round = None;
        }
    }

    /// Whether a message of chitchat's is to leave. An answer without content is not: nobody waits for it.
    fn may_leave(&self, to: SocketAddr, message: &ChitchatMessage, now: Instant) -> bool {
        match message {
            ChitchatMessage::Syn { .. } => self.may_start(to, now),
            ChitchatMessage::Ack { delta } => {
                let bytes = delta.serialized_len();
                self.note_delta(bytes, now);
                bytes > EMPTY_DELTA_BYTES
            }
            ChitchatMessage::SynAck { delta, .. } => {
                self.note_delta(delta.serialized_len(), now);
                true
            }
            ChitchatMessage::BadCluster => true,
        }
    }

    /// `Some(None)`: the digest is fine as it is.
    #[allow(
        clippy::option_option,
        reason = "unreadable, unchanged, changed: three outcomes of one step"
    )]
    fn screen_digest(&self, bytes: &[u8]) -> Option<Option<Vec<u8>>> {
        let (entries, _) = digest::read_digest(bytes).ok()?;
        let before = entries.len();
        let mut state = self.lock();
        let kept: Vec<Entry> =
            entries.into_iter().filter(|entry| state.admit(self.me, entry)).collect();
        Some((kept.len() != before).then(|| digest::rebuild(bytes, &kept)))
    }
}

impl State {
    fn newest(&self, node: NodeId) -> Option<Incarnation> {
        let all = (node, Incarnation(0))..=(node, Incarnation(u64::MAX));
        self.admitted.range(all).next_back().map(|((_, generation), _)| *generation)
    }

    fn has_news(&self, pace: Pace, now: Instant) -> bool {
        let recent = gossip_interval(pace, self.members()) * NEWS_ROUNDS;
        self.news.is_some_and(|at| now < at + recent)
    }

    fn members(&self) -> usize {
        let mut nodes: Vec<NodeId> = self.admitted.keys().map(|(node, _)| *node).collect();
        nodes.dedup();
        nodes.len()
    }

    fn admit(&mut self, me: NodeId, entry: &Entry) -> bool {
        let Some(node) = entry.node else {
            self.noticed.bad_entries += 1;
            return false;
        };
        if self.admitted.contains_key(&(node, entry.generation)) {
            return true;
        }
        if node == me {
            // Our own past is over. A future that we do not know means that our number was used
            // before: the data directory is an old copy, or is in use twice.
            let ahead = entry.generation.0.saturating_sub(self.generation.0);
            if (1..=MAX_AHEAD).contains(&ahead) {
                self.noticed.later_self = self.noticed.later_self.max(Some(entry.generation));
            }
            return false;
        }
        if self.newest(node).is_some_and(|newest| newest > entry.generation)
            || self.refused.contains(&node)
        {
            return false;
        }
        let bytes = entry_bytes(entry.addr);
        if self.digest_bytes + bytes > MAX_DIGEST_BYTES {
            self.noticed.full = Some(node);
            return false;
        }
        self.digest_bytes += bytes;
        self.admitted.insert((node, entry.generation), entry.addr);
        true
    }
}

/// A transport with the guard in it.
pub(crate) struct Guarded {
    pub(crate) inner: Arc<dyn Transport>,
    pub(crate) guard: Arc<Guard>,
}

struct GuardedSocket {
    inner: Box<dyn Socket>,
    guard: Arc<Guard>,
}

#[async_trait]
impl Transport for Guarded {
    async fn open(&self, listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let inner = self.inner.open(listen_addr).await?;
        Ok(Box::new(GuardedSocket { inner, guard: self.guard.clone() }))
    }
}

#[async_trait]
impl Socket for GuardedSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        if self.guard.may_leave(to, &message, Instant::now()) {
            self.inner.send(to, message).await
        } else {
            Ok(())
        }
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            let (from, message) = self.inner.recv().await?;
            if let Some(message) = self.guard.screen(message) {
                return Ok((from, message));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::tests::digest_of;

    const ME: NodeId = NodeId(1);

    fn addr(last: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (last >> 8) as u8, last as u8], 7946))
    }

    fn guard() -> Guard {
        let guard = Guard::new(ME, Pace::Lan);
        guard.begin(Incarnation(5), addr(1));
        guard
    }

    fn screen(guard: &Guard, nodes: &[(NodeId, u64)]) -> Vec<(NodeId, u64)> {
        let names: Vec<String> = nodes.iter().map(|(node, _)| node.to_string()).collect();
        let listed: Vec<(&str, u64, SocketAddr)> = names
            .iter()
            .zip(nodes)
            .map(|(name, (_, generation))| (name.as_str(), *generation, addr(9)))
            .collect();
        let bytes = digest_of(&listed);
        let screened = guard.screen_digest(&bytes).unwrap().unwrap_or(bytes);
        let (entries, _) = digest::read_digest(&screened).unwrap();
        entries.into_iter().map(|entry| (entry.node.unwrap(), entry.generation.0)).collect()
    }

    #[test]
    fn the_interval_grows_with_the_group_and_stops_growing() {
        let at = |members| gossip_interval(Pace::Lan, members);
        assert_eq!(at(1), Duration::from_millis(500));
        assert_eq!(at(32), Duration::from_millis(500));
        assert_eq!(at(64), Duration::from_secs(1));
        assert_eq!(at(960), Duration::from_secs(15));
        assert_eq!(at(100_000), Duration::from_secs(15));
        assert_eq!(gossip_interval(Pace::Local, 64), Duration::from_millis(200));
    }

    #[test]
    fn only_the_newest_generation_of_a_node_comes_in() {
        let guard = guard();
        assert_eq!(screen(&guard, &[(NodeId(2), 3)]), [(NodeId(2), 3)]);
        assert_eq!(screen(&guard, &[(NodeId(2), 2)]), []);
        // The older one stays known until chitchat drops it: taking it out of the peers' digests
        // would make us send them its whole state each time.
        assert_eq!(screen(&guard, &[(NodeId(2), 3), (NodeId(2), 4)]).len(), 2);
        assert_eq!(guard.newest(NodeId(2)), Some(Incarnation(4)));
        assert_eq!(guard.members(), 2);
        guard.prune(&BTreeSet::from([(ME, Incarnation(5)), (NodeId(2), Incarnation(4))]));
        assert_eq!(screen(&guard, &[(NodeId(2), 3), (NodeId(2), 4)]), [(NodeId(2), 4)]);
    }

    #[test]
    fn our_own_other_generations_stay_out_and_a_later_one_is_noticed() {
        let guard = guard();
        assert_eq!(screen(&guard, &[(ME, 5), (ME, 4)]), [(ME, 5)]);
        assert_eq!(guard.take_noticed(), Noticed::default());
        assert_eq!(screen(&guard, &[(ME, 9), (ME, 7)]), []);
        assert_eq!(guard.take_noticed().later_self, Some(Incarnation(9)));
        assert_eq!(screen(&guard, &[(ME, u64::MAX)]), []);
        assert_eq!(guard.take_noticed(), Noticed::default());
    }

    #[test]
    fn removed_nodes_and_strange_names_stay_out() {
        let guard = guard();
        guard.refuse(BTreeSet::from([NodeId(2)]));
        assert_eq!(screen(&guard, &[(NodeId(2), 1), (NodeId(3), 1)]), [(NodeId(3), 1)]);
        let strange = digest_of(&[("quickwit", 1, addr(3))]);
        assert_eq!(guard.screen_digest(&strange), Some(Some(digest_of(&[]))));
        assert_eq!(guard.take_noticed().bad_entries, 1);
    }

    #[test]
    fn a_full_group_takes_no_more_and_its_digest_fits_a_message() {
        let guard = guard();
        let many: Vec<(NodeId, u64)> = (2..1200).map(|n| (NodeId(n), 1)).collect();
        let kept: usize = many.chunks(100).map(|part| screen(&guard, part).len()).sum();
        assert_eq!(kept + 1, 969);
        assert_eq!(guard.members(), 969);
        assert_eq!(guard.take_noticed().full, Some(NodeId(1199)));
        assert!(guard.has_room_for(NodeId(2), addr(2)));
        assert!(!guard.has_room_for(NodeId(5000), addr(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_are_thinned_but_what_was_asked_for_passes() {
        let guard = guard();
        let many: Vec<(NodeId, u64)> = (2..129).map(|n| (NodeId(n), 1)).collect();
        screen(&guard, &many);
        let mut started = 0;
        for tick in 0..40u32 {
            let now = Instant::now();
            let round = [2, 3, 4].map(|to| guard.may_start(addr(to), now));
            assert!(round[0] == round[1] && round[1] == round[2], "a round is whole: {tick}");
            started += u32::from(round[0]);
            guard.ask(addr(7));
            assert!(guard.may_start(addr(7), now));
            tokio::time::advance(Duration::from_millis(500)).await;
        }
        assert_eq!(started, 10, "128 members: every fourth tick");
        guard.note_delta(CATCH_UP_BYTES, Instant::now());
        assert!(guard.may_start(addr(2), Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn rounds_are_rare_while_there_is_no_news_and_at_full_pace_while_there_is() {
        let guard = guard();
        screen(&guard, &[(NodeId(2), 1), (NodeId(3), 1)]);
        let rounds = async |ticks: u32| {
            let mut started = 0;
            for _ in 0..ticks {
                tokio::time::advance(Duration::from_millis(500)).await;
                started += u32::from(guard.may_start(addr(2), Instant::now()));
            }
            started
        };
        assert_eq!(rounds(40).await, 10, "every fourth tick");
        // In the middle of a pause: the next tick is a round already.
        assert_eq!(rounds(1).await, 1);
        guard.note_news(Instant::now());
        assert_eq!(rounds(9).await, 9, "every tick");
        guard.note_delta(EMPTY_DELTA_BYTES, Instant::now());
        assert_eq!(rounds(41).await, 11, "quiet again");
        guard.note_delta(EMPTY_DELTA_BYTES + 1, Instant::now());
        assert_eq!(rounds(2).await, 2);
    }

    #[tokio::test]
    async fn an_answer_without_content_is_no_news_and_stays_here() {
        let guard = guard();
        let empty = ChitchatMessage::Ack { delta: Default::default() };
        assert!(!guard.may_leave(addr(2), &empty, Instant::now()));
        assert_eq!(guard.lock().news, None);
    }
}
