//! Making connections: to every known member and to the seeds, again and again, and why it failed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use membership::id::{CellId, NodeId};
use quinn::ConnectError;
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use crate::connection::CloseCode;
use crate::facts::locked;
use crate::greeting;
use crate::net::Net;
use crate::peers::{Target, pause};
use crate::report::FromGossip;
use crate::tls::SERVER_NAME;

/// How many addresses of one name are tried.
const ADDRESSES_PER_NAME: usize = 4;

/// How long a name may take to resolve.
const NAME_DEADLINE: Duration = Duration::from_secs(3);

/// The longest pause between attempts at a seed, and how often a seed that has been joined is looked at
/// again.
const SEED_PAUSE: Duration = Duration::from_secs(5);

/// Why a node could not be connected to, in words for the operator. Attempts go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    #[error(
        "the name '{host}' cannot be resolved ({reason}): check the spelling and this host's DNS, or give an IP address"
    )]
    Name { host: String, reason: String },
    #[error(
        "nothing answers at {addr}/udp: check that shoal runs there, the address and port, and that no firewall drops UDP in between"
    )]
    Unreachable { addr: SocketAddr },
    #[error(
        "the member at {addr} does not accept this node's token: it belongs to another cluster (or speaks a version that this shoal does not know). Get the token with `shoal token` on that member"
    )]
    OtherToken { addr: SocketAddr },
    #[error(
        "what answers at {addr} does not hold this cluster's token: it is a member of another cluster, or not shoal at all"
    )]
    NotAMember { addr: SocketAddr },
    #[error("the member at {addr} is of another cluster: nothing was exchanged")]
    OtherCluster { addr: SocketAddr },
    #[error("the member at {addr} is of cell {theirs}, this node of cell {ours}: join a member of its own cell", theirs = .theirs.0, ours = .ours.0)]
    OtherCell { addr: SocketAddr, theirs: CellId, ours: CellId },
    #[error(
        "the member at {addr} speaks protocol versions {theirs:?}, this node {ours:?}: upgrade the older of the two"
    )]
    Version { addr: SocketAddr, theirs: (u16, u16), ours: (u16, u16) },
    #[error(
        "this node was removed from the cluster, the member at {addr} says: to join again as a new node, remove its data directory"
    )]
    Removed { addr: SocketAddr },
    #[error(
        "the node at {addr} was removed from this cluster: it is not connected to. Join through another member"
    )]
    RemovedThere { addr: SocketAddr },
    #[error(
        "the group of the member at {addr} is full ({members} members): it takes no more, start a second cluster"
    )]
    Full { addr: SocketAddr, members: usize },
    #[error(
        "another running process holds this node's key and is connected to the member at {addr}: was the data directory copied? Each node needs its own"
    )]
    Superseded { addr: SocketAddr },
    #[error(
        "{addr} cannot be reached from this node's socket: it listens on one address family only. Listen on [::] for both, or join under an address of the other family"
    )]
    Family { addr: SocketAddr },
    #[error("{addr} is this node itself")]
    Myself { addr: SocketAddr },
    #[error("at {addr} answers {found}, not {wanted}: the address has changed hands")]
    OtherNode { addr: SocketAddr, wanted: NodeId, found: NodeId },
    #[error("the member at {addr} closed the connection: {reason}")]
    Closed { addr: SocketAddr, reason: String },
    #[error("this node is shutting down")]
    ShuttingDown,
}

/// Dials whoever is due, for ever.
pub(crate) async fn run(net: Arc<Net>) {
    loop {
        let (due, next) = locked(&net.peers).due(Instant::now());
        for target in due {
            net.spawn(member(net.clone(), target));
        }
        // With nothing due there is nothing to wake for but a notice; the hour is any long time.
        let next = next.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            () = sleep_until(next) => {}
            () = net.dial.notified() => {}
        }
    }
}

async fn member(net: Arc<Net>, target: Target) {
    let result = once(&net, target.addr, Some(target.node)).await;
    if let Err(error) = &result {
        debug!(node = %target.node, %error, "could not connect");
    }
    let result = result.as_ref().map(|_| ());
    let dropped = locked(&net.peers).dialled(target.node, result, Instant::now());
    net.counters.unconnected.add(dropped as u64);
    net.dial.notify_one();
}

/// One attempt. Handshake and greeting have the deadline each: a peer that has been reached is given
/// time, since it takes the connection for made as soon as it has answered.
async fn once(
    net: &Arc<Net>,
    addr: SocketAddr,
    wanted: Option<NodeId>,
) -> Result<NodeId, DialError> {
    let deadline = net.pace.dial_deadline();
    let connecting =
        net.endpoint.connect_with(net.client.clone(), addr, SERVER_NAME).map_err(|error| {
            match error {
                ConnectError::EndpointStopping => DialError::ShuttingDown,
                ConnectError::InvalidRemoteAddress(_) => DialError::Family { addr },
                other => DialError::Closed { addr, reason: other.to_string() },
            }
        })?;
    let quic = timeout(deadline, connecting)
        .await
        .map_err(|_| DialError::Unreachable { addr })?
        .map_err(|error| greeting::lost(addr, error))?;
    let greeted = timeout(deadline, greeting::dialler(net, quic.clone(), addr, wanted)).await;
    greeted.unwrap_or_else(|_| {
        quic.close(CloseCode::Refused.code(), b"no answer to the greeting in time");
        Err(DialError::Unreachable { addr })
    })
}

/// Joins through one seed and keeps an eye on it for ever: as long as the member behind it is
/// connected nothing is done, and that somebody is connected through another seed is no reason to
/// stop, since the two may be halves that have not met.
pub(crate) async fn seed(net: Arc<Net>, text: String) {
    let mut joined: Option<NodeId> = None;
    let mut last_error: Option<DialError> = None;
    let mut failures = 0;
    loop {
        let connected = joined.is_some_and(|node| locked(&net.peers).live(node).is_some());
        if !connected {
            match by_name(&net, &text).await {
                Ok(peer) => {
                    let news = last_error.take().is_some() | (joined.replace(peer) != Some(peer));
                    if news {
                        let seed = text.clone();
                        let _ = net.reports.send(FromGossip::SeedJoined { seed, peer }).await;
                    }
                    failures = 0;
                }
                // A list of seeds may well name this node too.
                Err(DialError::Myself { .. }) => failures = 0,
                Err(error) => {
                    failures += 1;
                    if last_error.as_ref() != Some(&error) {
                        last_error = Some(error.clone());
                        let seed = text.clone();
                        let _ = net.reports.send(FromGossip::SeedFailed { seed, error }).await;
                    }
                }
            }
        }
        let rest = if failures == 0 { SEED_PAUSE } else { pause(failures, SEED_PAUSE) };
        tokio::time::sleep(rest).await;
    }
}

/// Resolves the name and tries its addresses in turn.
async fn by_name(net: &Arc<Net>, text: &str) -> Result<NodeId, DialError> {
    let unknown = |reason: String| DialError::Name { host: text.to_owned(), reason };
    let found = timeout(NAME_DEADLINE, lookup_host(text))
        .await
        .map_err(|_| unknown(format!("no answer within {} s", NAME_DEADLINE.as_secs())))?
        .map_err(|error| unknown(error.to_string()))?;
    let mut worst = None;
    for addr in found.take(ADDRESSES_PER_NAME) {
        if addr == net.advertised {
            return Err(DialError::Myself { addr });
        }
        let connected = {
            let peers = locked(&net.peers);
            peers.at(addr).filter(|node| peers.live(*node).is_some())
        };
        if let Some(node) = connected {
            return Ok(node);
        }
        match once(net, addr, None).await {
            Ok(node) => return Ok(node),
            Err(error) => {
                // "Nothing answers" says less than any other answer.
                let telling = !matches!(error, DialError::Unreachable { .. });
                if worst.is_none() || telling {
                    worst = Some(error);
                }
            }
        }
    }
    Err(worst.unwrap_or_else(|| unknown("it has no address".to_owned())))
}
