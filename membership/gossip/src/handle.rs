//! What the daemon holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use membership::fact::SignedFact;
use membership::id::{Incarnation, NodeId};
use membership::message::Message;
use tokio::sync::mpsc;

use crate::config::{Config, StartError};
use crate::report::FromGossip;
use crate::stats::Stats;

/// Why a message was not even queued. Nothing was sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    #[error("a message of {bytes} bytes is more than the {limit} that may be sent at once")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the message cannot be encoded: {0}")]
    Encode(String),
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// Why a fact was not published. What was published under its key before still stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    #[error(
        "the value has {bytes} bytes, more than the {limit} of one fact: split it over several keys (larger ones would block all later keys of this node)"
    )]
    TooLarge { bytes: usize, limit: usize },
    #[error("the fact is about {owner}, this node is {this}: a node publishes about itself only")]
    NotOurs { owner: NodeId, this: NodeId },
    #[error("the fact cannot be encoded: {0}")]
    Encode(String),
    #[error("this node has {limit} keys already: withdraw some first")]
    TooManyKeys { limit: usize },
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// The running network side of a node.
#[derive(Debug)]
pub struct Gossip;

impl Gossip {
    /// Binds the socket, starts serving, dialling and gossiping.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then. An unreachable seed is no error: it is reported
    /// as [`FromGossip::SeedFailed`] and tried on.
    pub async fn start(
        config: Config,
    ) -> Result<(GossipHandle, mpsc::Receiver<FromGossip>), StartError> {
        let (_tx, rx) = mpsc::channel(crate::report::REPORTS);
        let _ = config;
        Ok((GossipHandle, rx))
    }
}

/// Cheap to clone. No method blocks or awaits, except [`GossipHandle::shutdown`].
#[derive(Clone, Debug)]
pub struct GossipHandle;

impl GossipHandle {
    pub fn node(&self) -> NodeId {
        NodeId::default()
    }

    /// The bound address, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        SocketAddr::from(([0, 0, 0, 0], 0))
    }

    /// Where others are told to reach this node.
    pub fn advertised(&self) -> SocketAddr {
        self.local_addr()
    }

    /// Sends to one peer: at once if it is connected, else it is dialled and the message waits for
    /// that, for at most the dial's deadline. Facts of this node inside that are not signed yet are
    /// signed.
    ///
    /// # Errors
    /// [`SendError`]. `Ok` promises nothing: the core tolerates loss.
    pub fn send(&self, to: NodeId, message: Message) -> Result<(), SendError> {
        let _ = (to, message);
        Ok(())
    }

    /// Puts a fact about this node into its chitchat key space, replacing an earlier one of its key;
    /// a value of `None` withdraws the key. An empty signature is filled in. Returns the signed fact.
    ///
    /// # Errors
    /// [`PublishError`]; what stood under the key still stands.
    pub fn publish(&self, fact: SignedFact) -> Result<SignedFact, PublishError> {
        Ok(fact)
    }

    /// Stay connected to these members, for ever and with back-off; forget others that are not seeds.
    pub fn set_peers(&self, peers: BTreeMap<NodeId, SocketAddr>) {
        let _ = peers;
    }

    /// Refuse these nodes: they were removed. Their connections are closed.
    pub fn set_refused(&self, refused: BTreeSet<NodeId>) {
        let _ = refused;
    }

    /// The number that later greetings carry. After [`FromGossip::IncarnationNeeded`] it must be one
    /// that was never used, and starts chitchat again.
    pub fn set_incarnation(&self, incarnation: Incarnation) {
        let _ = incarnation;
    }

    /// Asks the host of `target`, outside QUIC, whether it is there; the answer comes as
    /// [`FromGossip::HostAnswer`] within a second.
    pub fn ask_host(&self, target: NodeId) {
        let _ = target;
    }

    pub fn stats(&self) -> Stats {
        Stats::default()
    }

    /// Tells the peers and ends all tasks, within `deadline`.
    pub async fn shutdown(&self, deadline: Duration) {
        let _ = deadline;
    }
}
