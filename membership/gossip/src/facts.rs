//! Facts through chitchat.
//!
//! [`FactGossip`] keeps one chitchat running over any transport: the daemon's is QUIC, the simulator's a
//! channel in virtual time, the wiring is the same. It publishes this node's facts, hands up others'
//! once their signature, owner and order are right, puts back what others wrote into this node's
//! keys, and supervises the task.
//!
//! **Generations.** chitchat takes a node that comes back under a generation it has used before for one
//! that never went, and the two never agree again (measured). The generation is the incarnation under
//! which this process started. When chitchat's task ends (it panics on some hostile messages), its
//! state is gone and the generation is spent: the owner is asked for a new incarnation
//! ([`FromGossip::IncarnationNeeded`]) and chitchat stays down until it comes; facts still travel by
//! push. An incarnation that the core raises for its own reasons does not restart chitchat: facts carry
//! their own (incarnation, seq), which alone orders them.
//!
//! **Withdrawn keys** are kept as signed facts without a value, so that a withdrawal is as well proved
//! as a value, and dropped by everybody after [`GRACE`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chitchat::transport::Transport;
use membership::fact::{FactKey, MAX_FACT_BYTES, SignedFact};
use membership::id::{CellId, ClusterId, Incarnation, NodeId};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::config::Pace;
pub use crate::guard::{FULL_PACE_MEMBERS, MAX_DIGEST_BYTES, gossip_interval};
use crate::guard::{Guard, SLOWEST};
use crate::handle::PublishError;
use crate::keyspace::{self, MAX_KEY_CHARS};
use crate::report::FromGossip;
use crate::run;
use crate::signature::Signer;

/// How long chitchat remembers a node that is gone, and everybody a key that was withdrawn. A node
/// that was cut off for longer gets the whole state anew.
pub const GRACE: Duration = Duration::from_secs(600);

/// How many keys one node may have. Claims take one for each service (or more for large ones), so this
/// is about services on one node; beyond it a publication is refused.
pub const MAX_KEYS: usize = 4096;

/// How many changed keys of others wait to be checked. They are looked at as fast as the daemon takes
/// them; one key counts once however often it changes. When full, further ones are dropped and
/// counted (they come again with the key's next change).
const MAX_ARRIVED: usize = 1 << 17;

/// After chitchat ended, it is started again at the earliest after this; doubled each time, up to 32 s.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// What a [`FactGossip`] needs to know.
#[derive(Clone, Debug)]
pub struct FactGossipConfig {
    pub cluster: ClusterId,
    pub cell: CellId,
    /// Never used before, not even by an earlier run of this process.
    pub generation: Incarnation,
    pub advertise: SocketAddr,
    pub pace: Pace,
}

/// Counters of one [`FactGossip`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FactStats {
    /// Nodes in chitchat's state, this one included.
    pub members: usize,
    pub restarts: u64,
    /// Values that were not their owner's.
    pub forged: u64,
    /// Digest entries that should not exist.
    pub bad_entries: u64,
}

pub(crate) struct Shared {
    pub(crate) config: FactGossipConfig,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) guard: Arc<Guard>,
    pub(crate) out: mpsc::Sender<FromGossip>,
    pub(crate) own: Mutex<Own>,
    pub(crate) arrived: Mutex<BTreeMap<(NodeId, Incarnation, String), String>>,
    /// Addresses with which an exchange shall start now.
    pub(crate) greet: Mutex<BTreeSet<SocketAddr>>,
    /// The order of the last fact handed up, by owner and key.
    pub(crate) seen: Mutex<BTreeMap<(NodeId, FactKey), (Incarnation, u64)>>,
    pub(crate) wake: Notify,
    pub(crate) incarnation: watch::Sender<Incarnation>,
    pub(crate) stop: CancellationToken,
    pub(crate) restarts: AtomicU64,
    pub(crate) forged: AtomicU64,
    pub(crate) bad_entries: AtomicU64,
}

/// This node's facts.
#[derive(Default)]
pub(crate) struct Own {
    /// By key text.
    pub(crate) facts: BTreeMap<String, OwnFact>,
    /// Keys of which chitchat has yet to be told.
    pub(crate) dirty: BTreeSet<String>,
}

pub(crate) struct OwnFact {
    pub(crate) fact: SignedFact,
    pub(crate) text: String,
    pub(crate) withdrawn: Option<Instant>,
}

/// A guard whatever happened: no code panics while it holds one of these locks, and if it did, maps
/// would still be whole.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One chitchat, kept running. Stops when dropped.
pub struct FactGossip {
    shared: Arc<Shared>,
    task: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl fmt::Debug for FactGossip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FactGossip").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

impl FactGossip {
    /// Starts chitchat over `transport` in the current tokio runtime. `out` receives
    /// [`FromGossip::Fact`], [`FromGossip::IncarnationNeeded`], [`FromGossip::Restarted`] and
    /// [`FromGossip::GroupFull`].
    pub fn spawn(
        config: FactGossipConfig,
        transport: Arc<dyn Transport>,
        signer: Arc<dyn Signer>,
        out: mpsc::Sender<FromGossip>,
    ) -> Self {
        let guard = Arc::new(Guard::new(signer.node(), config.pace));
        let shared = Arc::new(Shared {
            incarnation: watch::Sender::new(config.generation),
            config,
            signer,
            guard,
            out,
            own: Mutex::default(),
            arrived: Mutex::default(),
            greet: Mutex::default(),
            seen: Mutex::default(),
            wake: Notify::new(),
            stop: CancellationToken::new(),
            restarts: AtomicU64::new(0),
            forged: AtomicU64::new(0),
            bad_entries: AtomicU64::new(0),
        });
        let task = tokio::spawn(supervise(shared.clone(), transport));
        Self { shared, task: Mutex::new(Some(task)) }
    }

    /// Publishes or withdraws one of this node's facts; see [`crate::GossipHandle::publish`].
    ///
    /// # Errors
    /// [`PublishError`]; what stood under the key still stands.
    pub fn publish(&self, mut fact: SignedFact) -> Result<SignedFact, PublishError> {
        let this = self.shared.signer.node();
        if fact.owner != this {
            return Err(PublishError::NotOurs { owner: fact.owner, this });
        }
        let bytes = fact.value.as_ref().map_or(0, Vec::len);
        if bytes > MAX_FACT_BYTES {
            return Err(PublishError::TooLarge { bytes, limit: MAX_FACT_BYTES });
        }
        if fact.signature.is_empty() {
            self.shared.signer.sign(&mut fact);
        }
        let text =
            keyspace::value_text(&fact).map_err(|error| PublishError::Encode(error.to_string()))?;
        let withdrawn = fact.value.is_none().then(Instant::now);
        let key = keyspace::key_text(fact.key);
        let mut own = locked(&self.shared.own);
        match own.facts.get(&key) {
            Some(standing) if !fact.supersedes(&standing.fact) => return Ok(fact),
            Some(_) => {}
            // Nothing to withdraw: the key is spared.
            None if withdrawn.is_some() => return Ok(fact),
            None if own.facts.len() >= MAX_KEYS => {
                return Err(PublishError::TooManyKeys { limit: MAX_KEYS });
            }
            None => {}
        }
        own.dirty.insert(key.clone());
        own.facts.insert(key, OwnFact { fact: fact.clone(), text, withdrawn });
        drop(own);
        self.shared.wake.notify_one();
        Ok(fact)
    }

    /// Starts an exchange with the node at `addr` at once: a connection to it has just come up.
    pub fn greet(&self, addr: SocketAddr) {
        let mut greet = locked(&self.shared.greet);
        // At most one for each member; beyond that the rounds do it.
        if greet.len() < 1024 {
            greet.insert(addr);
        }
        drop(greet);
        self.shared.wake.notify_one();
    }

    /// The owner's current incarnation. Starts chitchat again if it waits for one.
    pub fn set_incarnation(&self, incarnation: Incarnation) {
        self.shared.incarnation.send_if_modified(|current| {
            let higher = incarnation > *current;
            if higher {
                *current = incarnation;
            }
            higher
        });
    }

    /// Keeps these out of the state from now on.
    pub fn set_refused(&self, refused: BTreeSet<NodeId>) {
        self.shared.guard.refuse(refused);
    }

    /// False if the group is full and `node` is not in it.
    pub fn has_room_for(&self, node: NodeId, addr: SocketAddr) -> bool {
        self.shared.guard.has_room_for(node, addr)
    }

    pub fn stats(&self) -> FactStats {
        FactStats {
            members: self.shared.guard.members(),
            restarts: self.shared.restarts.load(Ordering::Relaxed),
            forged: self.shared.forged.load(Ordering::Relaxed),
            bad_entries: self.shared.bad_entries.load(Ordering::Relaxed),
        }
    }

    /// Ends all tasks and waits for that.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        let task = locked(&self.task).take();
        if let Some(task) = task {
            // It ends by itself, or panicked: either way it is gone.
            let _ = task.await;
        }
    }
}

impl Drop for FactGossip {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

impl Shared {
    /// Takes note of a value that chitchat set. Called under chitchat's lock: must be quick.
    pub(crate) fn note_arrival(&self, node: &chitchat::ChitchatId, key: &str, value: &str) {
        let Ok(owner) = node.node_id.parse::<NodeId>() else { return };
        if key.len() > MAX_KEY_CHARS {
            self.forged.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut arrived = locked(&self.arrived);
        if arrived.len() >= MAX_ARRIVED {
            self.bad_entries.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let name = (owner, Incarnation(node.generation_id), key.to_owned());
        arrived.insert(name, value.to_owned());
        drop(arrived);
        self.wake.notify_one();
    }

    /// Reports to the owner unless it goes away; false if nobody listens any more.
    pub(crate) async fn report(&self, report: FromGossip) -> bool {
        tokio::select! {
            sent = self.out.send(report) => sent.is_ok(),
            () = self.stop.cancelled() => false,
        }
    }
}

/// Runs chitchat again and again, under a new generation each time.
async fn supervise(shared: Arc<Shared>, transport: Arc<dyn Transport>) {
    let mut generation = shared.config.generation;
    let mut pause = RESTART_PAUSE;
    loop {
        let began = Instant::now();
        // A task of its own, so that a panic inside chitchat, also in calls of ours, ends here.
        let run = tokio::spawn(run::run(shared.clone(), transport.clone(), generation)).await;
        let end = run.unwrap_or_else(|_| run::End::ended("chitchat panicked"));
        let run::End::Ended { reason, above } = end else { return };
        warn!(%reason, generation = generation.0, "chitchat ended; facts travel by push alone until it runs again");
        shared.restarts.fetch_add(1, Ordering::Relaxed);
        if began.elapsed() > RESTART_PAUSE * 64 {
            pause = RESTART_PAUSE;
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.stop.cancelled() => return,
        }
        pause = (pause * 2).min(RESTART_PAUSE * 64);
        match fresh_generation(&shared, generation.max(above), &reason).await {
            Some(fresh) => generation = fresh,
            None => return,
        }
        info!(generation = generation.0, "chitchat starts again");
        if !shared.report(FromGossip::Restarted { incarnation: generation }).await {
            return;
        }
    }
}

/// The owner's incarnation once it is above `spent`; asks for one each time that it is not. `None` when
/// this node stops.
async fn fresh_generation(
    shared: &Shared,
    spent: Incarnation,
    reason: &str,
) -> Option<Incarnation> {
    let mut incarnation = shared.incarnation.subscribe();
    loop {
        let current = *incarnation.borrow_and_update();
        if current > spent {
            return Some(current);
        }
        let ask = FromGossip::IncarnationNeeded { reason: reason.to_owned(), above: spent };
        if !shared.report(ask).await {
            return None;
        }
        tokio::select! {
            changed = incarnation.changed() => changed.ok()?,
            () = shared.stop.cancelled() => return None,
        }
    }
}

/// chitchat's own settings. Its failure detector serves nothing but its choice of whom to gossip with
/// and when to forget; the interval it is given is the base, which the guard thins out.
pub(crate) fn chitchat_config(
    config: &FactGossipConfig,
    node: NodeId,
    generation: Incarnation,
) -> chitchat::ChitchatConfig {
    let base = config.pace.gossip_interval();
    debug!(%node, generation = generation.0, "chitchat starts");
    chitchat::ChitchatConfig {
        chitchat_id: chitchat::ChitchatId::new(node.to_string(), generation.0, config.advertise),
        cluster_id: config.cluster.to_string(),
        gossip_interval: base,
        listen_addr: config.advertise,
        // Ours: connections are made elsewhere, and each new one is greeted.
        seed_nodes: Vec::new(),
        failure_detector_config: chitchat::FailureDetectorConfig {
            phi_threshold: 8.0,
            sampling_window_size: 100,
            // Longer ones are left out of the mean; a full group's interval must not be.
            max_interval: base * SLOWEST as u32 * 4,
            initial_interval: base * 2,
            dead_node_grace_period: GRACE,
        },
        marked_for_deletion_grace_period: GRACE,
        catchup_callback: None,
        // Nobody reads chitchat's list of live nodes. With this it stays empty and chitchat does not
        // clone every node's state whenever one key changed (69 ms for 1,000 nodes x 50 keys).
        extra_liveness_predicate: Some(Box::new(|_| false)),
    }
}
