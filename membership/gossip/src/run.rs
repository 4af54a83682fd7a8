//! One run of chitchat, from its start to its end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chitchat::transport::Transport;
use chitchat::{ChitchatHandle, KeyChangeEvent, ListenerHandle};
use membership::id::{Incarnation, NodeId};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, warn};

use crate::facts::{GRACE, Shared, chitchat_config, locked};
use crate::guard::Guarded;
use crate::keyspace::{self, BadFact};
use crate::report::FromGossip;

/// How often forgotten nodes and keys are cleared away.
const HOUSEKEEPING: Duration = Duration::from_secs(5);

/// "The group is full" is said this often at most.
const FULL_PAUSE: Duration = Duration::from_secs(60);

/// The old run's socket may take a moment to close: this many attempts, this far apart.
const OPEN_ATTEMPTS: u32 = 50;
const OPEN_PAUSE: Duration = Duration::from_millis(100);

/// How a run ended.
pub(crate) enum End {
    /// Because it was told to.
    Stopped,
    /// By itself. The next generation must be above `above` and above this run's.
    Ended { reason: String, above: Incarnation },
}

impl End {
    pub(crate) fn ended(reason: impl Into<String>) -> Self {
        Self::Ended { reason: reason.into(), above: Incarnation(0) }
    }
}

pub(crate) async fn run(
    shared: Arc<Shared>,
    transport: Arc<dyn Transport>,
    generation: Incarnation,
) -> End {
    let chitchat = match start(&shared, transport, generation).await {
        Ok(chitchat) => chitchat,
        Err(error) => return End::ended(error.to_string()),
    };
    let _listener = listen(&shared, &chitchat).await;
    let mut ended = Box::pin(chitchat.termination_watcher());
    let mut housekeeping = tokio::time::interval(HOUSEKEEPING);
    housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said_full: Option<Instant> = None;
    shared.wake.notify_one();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => {
                // It ends within one message; what it would still say is not needed.
                let _ = tokio::time::timeout(OPEN_PAUSE * 5, chitchat.shutdown()).await;
                return End::Stopped;
            }
            result = &mut ended => {
                let reason = result.err().map_or_else(|| "it stopped".to_owned(), |e| e.to_string());
                return End::ended(reason);
            }
            () = shared.wake.notified() => {
                publish(&shared, &chitchat).await;
                greet(&shared, &chitchat);
                if !take_arrived(&shared, &chitchat, generation).await {
                    return End::Stopped;
                }
            }
            _ = housekeeping.tick() => clear_away(&shared, &chitchat).await,
        }
        let noticed = shared.guard.take_noticed();
        shared.bad_entries.fetch_add(noticed.bad_entries, Ordering::Relaxed);
        if let Some(later) = noticed.later_self {
            let reason = format!(
                "the cluster has seen this node under incarnation {}, later than {}: its data directory is an old copy, or another process uses it",
                later.0, generation.0
            );
            return End::Ended { reason, above: later };
        }
        if noticed.full.is_some() && said_full.is_none_or(|said| said.elapsed() >= FULL_PAUSE) {
            said_full = Some(Instant::now());
            let members = shared.guard.members();
            shared.report(FromGossip::GroupFull { members, refused: noticed.full }).await;
        }
    }
}

async fn start(
    shared: &Shared,
    transport: Arc<dyn Transport>,
    generation: Incarnation,
) -> anyhow::Result<ChitchatHandle> {
    let node = shared.signer.node();
    let guarded = Guarded { inner: transport, guard: shared.guard.clone() };
    let mut attempt = 0;
    loop {
        shared.guard.begin(generation, shared.config.advertise);
        let values = {
            let mut own = locked(&shared.own);
            own.dirty.clear();
            own.facts.retain(|_, own| own.withdrawn.is_none());
            own.facts.iter().map(|(key, own)| (key.clone(), own.text.clone())).collect()
        };
        let config = chitchat_config(&shared.config, node, generation);
        match chitchat::spawn_chitchat(config, values, &guarded).await {
            Ok(handle) => return Ok(handle),
            Err(error) if attempt >= OPEN_ATTEMPTS => return Err(error),
            Err(error) => debug!(%error, "chitchat's transport did not open, trying again"),
        }
        attempt += 1;
        tokio::time::sleep(OPEN_PAUSE).await;
    }
}

async fn listen(shared: &Arc<Shared>, chitchat: &ChitchatHandle) -> ListenerHandle {
    let listener = Arc::downgrade(shared);
    let chitchat = chitchat.chitchat();
    let chitchat = chitchat.lock().await;
    chitchat.subscribe_event("", move |event: KeyChangeEvent<'_>| {
        if let Some(shared) = listener.upgrade() {
            shared.note_arrival(event.node, event.key, event.value);
        }
    })
}

/// Tells chitchat what this node published since the last time.
async fn publish(shared: &Shared, chitchat: &ChitchatHandle) {
    let changed: Vec<(String, Option<(String, bool)>)> = {
        let mut own = locked(&shared.own);
        let dirty = std::mem::take(&mut own.dirty);
        dirty
            .into_iter()
            .map(|key| {
                let value = own.facts.get(&key);
                let value = value.map(|own| (own.text.clone(), own.withdrawn.is_some()));
                (key, value)
            })
            .collect()
    };
    if changed.is_empty() {
        return;
    }
    shared.guard.note_news(Instant::now());
    let chitchat = chitchat.chitchat();
    let mut chitchat = chitchat.lock().await;
    let state = chitchat.self_node_state();
    for (key, value) in changed {
        match value {
            Some((text, false)) => state.set(key, text),
            Some((text, true)) => state.set_with_ttl(key, text),
            None if state.contains_key(&key) => state.delete(&key),
            None => {}
        }
    }
}

fn greet(shared: &Shared, chitchat: &ChitchatHandle) {
    for addr in std::mem::take(&mut *locked(&shared.greet)) {
        shared.guard.ask(addr);
        // Fails only when chitchat has ended, which is noticed elsewhere.
        let _ = chitchat.gossip(addr);
    }
}

/// Checks what chitchat brought and hands up what is right. False if nobody listens any more.
async fn take_arrived(shared: &Shared, chitchat: &ChitchatHandle, generation: Incarnation) -> bool {
    let me = shared.signer.node();
    let arrived = std::mem::take(&mut *locked(&shared.arrived));
    for ((owner, spoken, key), value) in arrived {
        if owner == me {
            if spoken == generation {
                put_back(shared, chitchat, &key, &value).await;
            }
            continue;
        }
        if shared.guard.newest(owner).is_some_and(|newest| newest > spoken) {
            continue;
        }
        let fact = match keyspace::read(owner, shared.config.cell, &key, &value) {
            Ok(fact) => fact,
            Err(reason) => {
                distrust(shared, owner, &key, &reason);
                continue;
            }
        };
        let order = (fact.incarnation, fact.seq);
        let name = (owner, fact.key);
        if locked(&shared.seen).get(&name).is_some_and(|seen| *seen >= order) {
            continue;
        }
        if !shared.signer.verify(&fact) {
            distrust(shared, owner, &key, &BadFact::Signature);
            continue;
        }
        if !shared.report(FromGossip::Fact(fact)).await {
            return false;
        }
        locked(&shared.seen).insert(name, order);
    }
    true
}

fn distrust(shared: &Shared, owner: NodeId, key: &str, reason: &BadFact) {
    // The first is worth a line; a flood of them only a number.
    if shared.forged.fetch_add(1, Ordering::Relaxed) == 0 {
        warn!(%owner, key, %reason, "a fact was not believed; more of them are only counted");
    }
}

/// chitchat lets others write our keys too: what is not ours is replaced by what is, or deleted.
async fn put_back(shared: &Shared, chitchat: &ChitchatHandle, key: &str, value: &str) {
    {
        let mut own = locked(&shared.own);
        // A key that is about to be written anyway is not compared: `value` may be our own last one.
        let ours = own.facts.get(key).is_some_and(|own| own.text == value);
        if ours || own.dirty.contains(key) {
            return;
        }
        own.dirty.insert(key.to_owned());
    }
    distrust(shared, shared.signer.node(), key, &BadFact::Signature);
    publish(shared, chitchat).await;
}

/// Follows chitchat in forgetting.
async fn clear_away(shared: &Shared, chitchat: &ChitchatHandle) {
    let held: BTreeSet<(NodeId, Incarnation)> = {
        let chitchat = chitchat.chitchat();
        let chitchat = chitchat.lock().await;
        chitchat
            .node_states()
            .keys()
            .filter_map(|id| Some((id.node_id.parse().ok()?, Incarnation(id.generation_id))))
            .collect()
    };
    shared.guard.prune(&held);
    let owners: BTreeSet<NodeId> = held.iter().map(|(node, _)| *node).collect();
    locked(&shared.seen).retain(|(owner, _), _| owners.contains(owner));
    locked(&shared.own).facts.retain(|_, own| own.withdrawn.is_none_or(|at| at.elapsed() < GRACE));
}
