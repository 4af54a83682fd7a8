//! Real nodes on loopback, and waiting for what they report.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use gossip::{Config, FromGossip, Gossip, GossipHandle, NodeKey, Pace, Token};
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation, NodeId};
use membership::message::Message;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

/// Nothing in these tests takes longer, unless it is broken.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) handle: GossipHandle,
    pub(crate) reports: Receiver<FromGossip>,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) struct Setup {
    pub(crate) token: Token,
    pub(crate) dir: tempfile::TempDir,
    pub(crate) incarnation: u64,
    pub(crate) cell: u16,
    pub(crate) listen: SocketAddr,
    pub(crate) seeds: Vec<String>,
}

pub(crate) fn setup(token: &Token) -> Setup {
    Setup {
        token: token.clone(),
        dir: tempfile::tempdir().unwrap(),
        incarnation: 1,
        cell: 0,
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        seeds: Vec::new(),
    }
}

impl Setup {
    pub(crate) fn seed(mut self, node: &Node) -> Self {
        self.seeds.push(node.handle.advertised().to_string());
        self
    }

    pub(crate) fn config(&self) -> Config {
        Config {
            key: NodeKey::load_or_create(self.dir.path()).unwrap(),
            token: self.token.clone(),
            incarnation: Incarnation(self.incarnation),
            cell: CellId(self.cell),
            listen: self.listen,
            advertise: SocketAddr::new(self.listen.ip(), 0),
            seeds: self.seeds.clone(),
            pace: Pace::Local,
        }
    }

    pub(crate) async fn start(self) -> Node {
        let (handle, reports) = Gossip::start(self.config()).await.unwrap();
        Node { handle, reports, dir: self.dir }
    }
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.handle.node()
    }

    pub(crate) fn fact(
        &self,
        incarnation: u64,
        seq: u64,
        key: FactKey,
        value: &[u8],
    ) -> SignedFact {
        SignedFact {
            cell: CellId(0),
            owner: self.id(),
            incarnation: Incarnation(incarnation),
            seq,
            key,
            value: Some(value.to_vec()),
            signature: Vec::new(),
        }
    }

    /// The first report for which `pick` has an answer; the others are passed over.
    pub(crate) async fn wait<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(FromGossip) -> Option<T>,
    ) -> T {
        let found = timeout(BOUND, async {
            loop {
                let report = self.reports.recv().await.expect("the node runs");
                if let Some(found) = pick(report) {
                    return found;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
    }

    pub(crate) async fn connected(&mut self, peer: NodeId) -> Incarnation {
        self.wait("a connection", |report| match report {
            FromGossip::Connected { peer: found, incarnation, .. } if found == peer => {
                Some(incarnation)
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn message(&mut self, peer: NodeId) -> Message {
        self.wait("a message", |report| match report {
            FromGossip::Message { from, message } if from == peer => Some(message),
            _ => None,
        })
        .await
    }

    pub(crate) fn peers(&self) -> BTreeMap<NodeId, bool> {
        let stats = self.handle.stats();
        stats.connections.iter().map(|connection| (connection.peer, connection.dialled)).collect()
    }

    /// Waits until `check` holds, looking often. Reports that come meanwhile are passed over.
    pub(crate) async fn until(&mut self, what: &str, check: impl Fn(&GossipHandle) -> bool) {
        let reached = timeout(BOUND, async {
            while !check(&self.handle) {
                let _ = timeout(Duration::from_millis(5), self.reports.recv()).await;
            }
        });
        assert!(reached.await.is_ok(), "waited in vain until {what}: {:?}", self.handle.stats());
    }

    /// Ends the node without a word to its peers and returns what a restart needs.
    pub(crate) async fn stop(self) -> tempfile::TempDir {
        self.handle.shutdown(Duration::from_secs(2)).await;
        self.dir
    }
}

/// Two nodes that are connected to each other.
pub(crate) async fn pair() -> (Node, Node) {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let mut b = setup(&token).seed(&a).start().await;
    let (a_id, b_id) = (a.id(), b.id());
    b.connected(a_id).await;
    a.connected(b_id).await;
    (a, b)
}
