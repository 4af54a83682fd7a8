//! `docker swarm join`: a node that is alone and has nothing moves to another cluster, within one process.
//!
//! In three steps, so that a wrong token or address costs nothing. The other cluster is reached first, from a second
//! endpoint that has the new token. Then the loop ends, but only if the node is alone and empty at that very
//! moment. Then the records of its old cluster are dropped, the new token takes the place of the old one, and
//! everything starts again on the same store and the same API socket: who asks meanwhile waits a moment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gossip::{Config, FromGossip, Gossip, NodeKey, StartError, Token};
use membership::id::CellId;
use node::command::{CommandError, Refused};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::clock::Clocks;
use super::{Ended, RunError, pace};
use crate::settings::Settings;
use crate::store::{Store, WriteError};

/// How long a member of the other cluster may take to answer. Then nothing was changed.
const REACH_TIME: Duration = Duration::from_secs(15);
/// How long the second endpoint gets to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);
/// How long the address of the old endpoint may stay taken: API connections that end hold it for up to a second.
const FREE_TIME: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Where the store keeps the members that were joined, until others are known.
const SEEDS: &str = "seeds";

/// Another cluster, and members of it.
#[derive(Clone, Debug)]
pub(crate) struct Destination {
    token: Token,
    seeds: Vec<String>,
}

/// How the loop ended.
#[derive(Debug)]
pub(super) enum LoopEnd {
    Ended(Ended),
    /// The node was alone and empty, and is to start again over there.
    Moves(Destination),
}

/// The members that were joined by `docker swarm join`, as the store keeps them.
#[derive(Debug, Serialize, Deserialize)]
struct Seeds {
    v: u16,
    /// They are of this cluster; what was kept for another one says nothing.
    cluster: String,
    seeds: Vec<String>,
}

/// What is needed to find out whether another cluster takes this node.
#[derive(Clone, Debug)]
pub(crate) struct Scout {
    pub(super) key: NodeKey,
    pub(super) store: Arc<Store>,
    pub(super) settings: Settings,
    pub(super) clocks: Clocks,
}

impl Scout {
    /// Reads what a person gave.
    ///
    /// # Errors
    /// What is wrong with it; nothing was done.
    pub(super) fn destination(
        &self,
        token: &str,
        seeds: Vec<String>,
    ) -> Result<Destination, CommandError> {
        let invalid = |text: String| CommandError::new(Refused::Invalid, text);
        let token: Token = token.trim().parse().map_err(|error| {
            invalid(format!(
                "invalid join token: {error}. `shoal token` or `docker swarm join-token worker` on any member prints it"
            ))
        })?;
        if seeds.is_empty() {
            return Err(invalid("no member to join: give the address of any of them".to_owned()));
        }
        if self.settings.token.is_some() {
            return Err(invalid(
                "this node was started with a token (--token, SHOAL_TOKEN or token_file) and would not start with it once it is in another cluster: start it without, then join"
                    .to_owned(),
            ));
        }
        Ok(Destination { token, seeds })
    }

    /// Whether a member answers there and takes this node.
    ///
    /// # Errors
    /// In the operator's words; nothing was changed here.
    pub(super) async fn reach(&self, there: &Destination) -> Result<(), CommandError> {
        let failed = |text: String| {
            let text = format!("cannot join: {text}. Nothing was changed");
            CommandError::new(Refused::NotStored, text)
        };
        let drawn = self.store.draw_incarnation(self.clocks.now().wall).await;
        let incarnation = drawn.map_err(|error| failed(error.to_string()))?;
        let config = Config {
            key: self.key.clone(),
            token: there.token.clone(),
            incarnation,
            cell: CellId(0),
            listen: SocketAddr::new(self.settings.listen.ip(), 0),
            // Where it will be: the others need not learn a second address.
            advertise: self.settings.advertise,
            seeds: there.seeds.clone(),
            pace: pace(self.settings.profile),
        };
        let started = Gossip::start(config).await;
        let (gossip, mut reports) = started.map_err(|error| failed(error.to_string()))?;
        let mut refused: BTreeMap<String, String> = BTreeMap::new();
        let reaching = async {
            while let Some(report) = reports.recv().await {
                match report {
                    FromGossip::SeedJoined { .. } | FromGossip::Connected { .. } => return true,
                    FromGossip::SeedFailed { seed, error } => {
                        refused.insert(seed, error.to_string());
                        if there.seeds.iter().all(|seed| refused.contains_key(seed)) {
                            return false;
                        }
                    }
                    _ => {}
                }
            }
            false
        };
        let reached = tokio::time::timeout(REACH_TIME, reaching).await.unwrap_or(false);
        gossip.shutdown(GOODBYE).await;
        if reached {
            return Ok(());
        }
        let why: Vec<String> = refused.into_values().collect();
        Err(failed(if why.is_empty() {
            format!("no member answered within {} s", REACH_TIME.as_secs())
        } else {
            why.join("; ")
        }))
    }
}

/// Drops what was of the old cluster and puts the new token in its place.
///
/// # Errors
/// What could not be written. The old records may be gone, and they said only that this node was alone.
pub(super) async fn carry_out(
    there: Destination,
    settings: &mut Settings,
    store: &Store,
) -> Result<(), RunError> {
    let dir = settings.data_dir.clone();
    let failed = |source: WriteError| RunError::Move { dir: dir.clone(), why: source.to_string() };
    let (records, _) = store.load_records().await.map_err(failed)?;
    store.forget(records).await.map_err(failed)?;
    let cluster = there.token.cluster();
    let seeds = Seeds { v: 1, cluster: cluster.to_string(), seeds: there.seeds.clone() };
    let bytes = serde_json::to_vec(&seeds)
        .map_err(|error| RunError::Move { dir: dir.clone(), why: error.to_string() })?;
    store.set_meta(SEEDS, bytes).await.map_err(failed)?;
    there
        .token
        .store(&dir)
        .map_err(|error| RunError::Move { dir: dir.clone(), why: error.to_string() })?;
    info!(%cluster, "joining another cluster");
    settings.join = there.seeds;
    Ok(())
}

/// The members that are tried to begin with: those of the settings, and those that were joined by the API.
pub(super) async fn seeds(settings: &Settings, store: &Store, token: &Token) -> Vec<String> {
    let mut seeds = settings.join.clone();
    let kept = match store.meta(SEEDS).await {
        Ok(kept) => kept,
        Err(error) => {
            warn!(%error, "the members that were joined once cannot be read");
            None
        }
    };
    let kept = kept.and_then(|bytes| serde_json::from_slice::<Seeds>(&bytes).ok());
    for seed in kept
        .filter(|kept| kept.cluster == token.cluster().to_string())
        .into_iter()
        .flat_map(|kept| kept.seeds)
    {
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
    }
    seeds
}

/// Starts gossip; `again` in a process whose endpoint has just ended, and whose address may not be free yet.
///
/// # Errors
/// [`StartError`].
pub(super) async fn start_gossip(
    config: impl Fn() -> Config,
    again: bool,
) -> Result<(gossip::GossipHandle, tokio::sync::mpsc::Receiver<FromGossip>), StartError> {
    let until = tokio::time::Instant::now() + FREE_TIME;
    loop {
        match Gossip::start(config()).await {
            Err(StartError::AddressInUse { .. })
                if again && tokio::time::Instant::now() < until =>
            {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            other => return other,
        }
    }
}
