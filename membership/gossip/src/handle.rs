//! What the daemon holds: methods that never block.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use membership::fact::SignedFact;
use membership::id::{Incarnation, NodeId};
use membership::message::{Envelope, Message};
use membership::wire::{self, WireError};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::calls::{self, CallError, CallReader};
use crate::connection::{Class, CloseCode, TAG_CORE};
use crate::facts::locked;
use crate::host;
use crate::net::Net;
use crate::report::FromGossip;
use crate::signature::Signer;
use crate::stats::{ConnectionStats, Stats};
use crate::tunnel::Tunnel;

/// How many questions to hosts are open at once. Further ones are answered with silence, as a lost
/// packet would be; the core asks again.
pub(crate) const OPEN_QUESTIONS: usize = 64;

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

/// Ends everything when the last handle goes.
#[derive(Debug)]
struct Owner {
    net: Arc<Net>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.net.endpoint.close(CloseCode::Stopping.code(), b"stopping");
        self.net.stop.cancel();
        self.net.tunnels.stop();
    }
}

/// Cheap to clone. No method blocks or awaits, except [`GossipHandle::shutdown`]. When the last clone
/// is dropped everything ends.
#[derive(Clone, Debug)]
pub struct GossipHandle {
    owner: Arc<Owner>,
}

impl GossipHandle {
    pub(crate) fn new(net: Arc<Net>) -> Self {
        Self { owner: Arc::new(Owner { net }) }
    }

    fn net(&self) -> &Arc<Net> {
        &self.owner.net
    }

    pub fn node(&self) -> NodeId {
        self.net().me
    }

    /// The bound address, with the port that the system chose.
    pub fn local_addr(&self) -> SocketAddr {
        self.net().local
    }

    /// Where others are told to reach this node.
    pub fn advertised(&self) -> SocketAddr {
        self.net().advertised
    }

    /// Sends to one peer: at once if it is connected, else it is dialled and the message waits for
    /// that, for at most the dial's deadline. Facts of this node inside that are not signed yet are
    /// signed.
    ///
    /// A message that fits a packet (about 1,400 bytes) may be lost; a larger one arrives or is counted
    /// among the drops.
    ///
    /// # Errors
    /// [`SendError`]. `Ok` promises nothing: the core tolerates loss.
    pub fn send(&self, to: NodeId, mut message: Message) -> Result<(), SendError> {
        let net = self.net();
        if net.stop.is_cancelled() {
            return Err(SendError::ShuttingDown);
        }
        if let Message::Facts(facts) = &mut message {
            let unsigned = facts.iter_mut().filter(|fact| fact.signature.is_empty());
            unsigned.filter(|fact| fact.owner == net.me).for_each(|fact| net.signer.sign(fact));
        }
        let encoded = match wire::encode(&Envelope { cell: net.cell, message }) {
            Ok(encoded) => encoded,
            Err(WireError::TooLarge { bytes, limit, .. }) => {
                net.counters.too_large.add(1);
                return Err(SendError::TooLarge { bytes, limit });
            }
            Err(error) => return Err(SendError::Encode(error.to_string())),
        };
        let mut frame = Vec::with_capacity(1 + encoded.len());
        frame.push(TAG_CORE);
        frame.extend_from_slice(&encoded);
        net.send(to, Class::Core, Bytes::from(frame));
        Ok(())
    }

    /// Puts a fact about this node into its chitchat key space, replacing an earlier one of its key;
    /// a value of `None` withdraws the key. An empty signature is filled in. Returns the signed fact,
    /// for pushing. A fact that is not later than the standing one changes nothing.
    ///
    /// # Errors
    /// [`PublishError`]; what stood under the key still stands.
    pub fn publish(&self, fact: SignedFact) -> Result<SignedFact, PublishError> {
        match self.net().facts.get() {
            Some(facts) if !self.net().stop.is_cancelled() => facts.publish(fact),
            _ => Err(PublishError::ShuttingDown),
        }
    }

    /// Stay connected to these members, for ever and with back-off; forget others, except those that
    /// are connected or that chitchat has heard of in the last ten minutes.
    pub fn set_peers(&self, peers: BTreeMap<NodeId, SocketAddr>) {
        locked(&self.net().peers).set_wanted(&peers, Instant::now());
        self.net().dial.notify_one();
    }

    /// Refuse these nodes: they were removed. Their connections are closed and their state is not taken in
    /// again. Replaces the earlier set.
    pub fn set_refused(&self, refused: BTreeSet<NodeId>) {
        let net = self.net();
        if let Some(facts) = net.facts.get() {
            facts.set_refused(refused.clone());
        }
        net.tunnels.close(|node| refused.contains(&node));
        let closing = locked(&net.peers).set_refused(refused);
        for connection in closing {
            connection.close(CloseCode::Removed, "this node was removed from the cluster");
        }
    }

    /// The number that later greetings carry; it only rises. After [`FromGossip::IncarnationNeeded`] it
    /// must be one that was never used, and starts chitchat again.
    pub fn set_incarnation(&self, incarnation: Incarnation) {
        self.net().incarnation.fetch_max(incarnation.0, Ordering::Relaxed);
        if let Some(facts) = self.net().facts.get() {
            facts.set_incarnation(incarnation);
        }
    }

    /// Asks the host of `target`, outside QUIC, whether it is there; the answer comes as
    /// [`FromGossip::HostAnswer`] within about a second. No answer comes for a node whose address is
    /// unknown, and when this host itself cannot send.
    pub fn ask_host(&self, target: NodeId) {
        let net = self.net();
        let addr = locked(&net.peers).addr_of(target);
        let (Some(addr), Ok(place)) = (addr, net.questions.clone().try_acquire_owned()) else {
            return;
        };
        let task = net.clone();
        net.spawn(async move {
            let _place = place;
            match host::ask_host(addr).await {
                Ok(answer) => {
                    let _ = task.reports.send(FromGossip::HostAnswer { target, answer }).await;
                }
                Err(error) => debug!(%target, %addr, %error, "could not ask the host"),
            }
        });
    }

    /// Asks one peer for something that its daemon answers on a stream of its own
    /// ([`FromGossip::Call`] there).
    ///
    /// # Errors
    /// [`CallError`] when there is no connection to the peer or it does not take the request.
    pub async fn call(&self, to: NodeId, request: &[u8]) -> Result<CallReader, CallError> {
        let quic = locked(&self.net().peers).live(to).map(|c| c.quic.clone());
        calls::ask(&quic.ok_or(CallError::NotConnected)?, request).await
    }

    /// Carries packets of containers: see [`crate::tunnel`]. What comes in is each packet with the member that
    /// sent it; a second call takes it over from the first.
    pub fn tunnel(&self) -> (Tunnel, mpsc::Receiver<(NodeId, Bytes)>) {
        Tunnel::open(self.net().clone())
    }

    pub fn stats(&self) -> Stats {
        let net = self.net();
        let now = Instant::now();
        let connections = {
            let peers = locked(&net.peers);
            peers
                .all_live()
                .map(|connection| ConnectionStats {
                    peer: connection.peer,
                    incarnation: connection.incarnation,
                    addr: connection.advertised,
                    observed: connection.observed(),
                    rtt: connection.quic.rtt(),
                    up_for: now.duration_since(connection.since),
                    dialled: connection.dialled,
                })
                .collect()
        };
        let facts = net.facts.get().map(crate::facts::FactGossip::stats).unwrap_or_default();
        let mut drops = net.counters.drops();
        drops.forged_facts += facts.forged;
        drops.gossip_entries = facts.bad_entries;
        let (packets, dropped) = net.tunnels.read();
        drops.packets = dropped;
        Stats {
            connections,
            datagrams: net.counters.datagrams.read(),
            streams: net.counters.streams.read(),
            chitchat: net.counters.chitchat.read(),
            packets,
            drops,
            gossip_members: facts.members,
            chitchat_restarts: facts.restarts,
        }
    }

    /// Tells the peers and ends all tasks, within `deadline`. Messages sent just before are given a
    /// moment of it to leave.
    pub async fn shutdown(&self, deadline: Duration) {
        let net = self.net();
        let orderly = async {
            // A close discards what QUIC has not sent: a last `Leaving` needs one turn of its loop.
            tokio::time::sleep(Duration::from_millis(20).min(deadline / 4)).await;
            net.endpoint.close(CloseCode::Stopping.code(), b"stopping");
            net.stop.cancel();
            if let Some(facts) = net.facts.get() {
                facts.shutdown().await;
            }
            net.tasks.close();
            net.tasks.wait().await;
            net.endpoint.wait_idle().await;
        };
        // What is not done by then goes with the process.
        let _ = timeout(deadline, orderly).await;
        net.stop.cancel();
        net.tunnels.stop();
    }
}
