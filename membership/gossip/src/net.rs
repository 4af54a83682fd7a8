//! What all tasks of one node share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use bytes::Bytes;
use chitchat::ChitchatMessage;
use membership::id::{CellId, ClusterId, Incarnation, NodeId};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Pace;
use crate::connection::{Class, Connection};
use crate::counters::Counters;
use crate::facts::{FactGossip, locked};
use crate::hello::{Hello, PROTOCOL_VERSIONS, Verdict};
use crate::peers::{Peers, Sending};
use crate::report::{DisconnectReason, FromGossip};
use crate::signature::KeySigner;
use crate::tunnel::Tunnels;

pub(crate) struct Net {
    pub(crate) me: NodeId,
    pub(crate) cluster: ClusterId,
    pub(crate) cell: CellId,
    /// Random, drawn at start: see [`Hello::instance`].
    pub(crate) instance: u64,
    pub(crate) incarnation: AtomicU64,
    pub(crate) local: SocketAddr,
    pub(crate) advertised: SocketAddr,
    pub(crate) pace: Pace,
    pub(crate) endpoint: quinn::Endpoint,
    pub(crate) client: quinn::ClientConfig,
    pub(crate) signer: Arc<KeySigner>,
    pub(crate) peers: Mutex<Peers>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) tunnels: Tunnels,
    pub(crate) reports: mpsc::Sender<FromGossip>,
    pub(crate) notices: Notices,
    /// Where chitchat's messages go; replaced when chitchat starts again.
    pub(crate) to_chitchat: Mutex<Option<mpsc::Sender<(SocketAddr, ChitchatMessage)>>>,
    pub(crate) facts: OnceLock<FactGossip>,
    /// Wakes the task that dials.
    pub(crate) dial: Notify,
    /// How many streams larger than a few packets are read at once, over all peers.
    pub(crate) large_reads: Semaphore,
    /// How many host questions are open at once.
    pub(crate) questions: Arc<Semaphore>,
    /// Peers whose malformed bytes were logged.
    pub(crate) scolded: Mutex<BTreeSet<NodeId>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) runtime: tokio::runtime::Handle,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({} at {})", self.me, self.advertised)
    }
}

impl Net {
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(Ordering::Relaxed))
    }

    /// This node's greeting, before it is known to whom.
    pub(crate) fn hello(&self) -> Hello {
        Hello {
            verdict: Verdict::Welcome,
            versions: PROTOCOL_VERSIONS,
            cluster: self.cluster,
            cell: self.cell,
            incarnation: self.incarnation(),
            instance: self.instance,
            nonce: 0,
            last_seen: 0,
            addr: self.advertised,
        }
    }

    /// Runs a task that ends with the node.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn_on(
            async move {
                tokio::select! {
                    () = task => {}
                    () = stop.cancelled() => {}
                }
            },
            &self.runtime,
        );
    }

    /// Sends a frame to a peer, now or when the dial is through.
    pub(crate) fn send(&self, to: NodeId, class: Class, frame: Bytes) {
        let sending = locked(&self.peers).send(to, frame, tokio::time::Instant::now());
        match sending {
            Sending::Now(connection, frame) => connection.send(class, frame),
            Sending::Held => self.dial.notify_one(),
            Sending::Dropped => {
                self.counters.unconnected.add(1);
                self.dial.notify_one();
            }
        }
    }

    pub(crate) fn note_connected(&self, connection: &Connection) {
        self.notices.put(
            connection.peer,
            FromGossip::Connected {
                peer: connection.peer,
                incarnation: connection.incarnation,
                addr: connection.advertised,
                observed: connection.observed(),
            },
        );
    }

    pub(crate) fn note_disconnected(&self, peer: NodeId, reason: DisconnectReason) {
        self.notices.put(peer, FromGossip::Disconnected { peer, reason });
    }
}

/// The latest state of each peer's connection that the daemon has not been told yet. As large as the
/// number of peers, whatever happens: a later notice replaces an earlier one.
#[derive(Default)]
pub(crate) struct Notices {
    latest: Mutex<BTreeMap<NodeId, FromGossip>>,
    changed: Notify,
}

impl Notices {
    fn put(&self, peer: NodeId, notice: FromGossip) {
        locked(&self.latest).insert(peer, notice);
        self.changed.notify_one();
    }
}

/// Hands notices to the daemon, in its pace.
pub(crate) async fn pump(net: Arc<Net>) {
    loop {
        net.notices.changed.notified().await;
        let latest = std::mem::take(&mut *locked(&net.notices.latest));
        for (_, notice) in latest {
            if net.reports.send(notice).await.is_err() {
                return;
            }
        }
    }
}
