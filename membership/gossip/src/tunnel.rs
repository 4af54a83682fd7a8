//! Packets of containers between hosts, encrypted: each is one QUIC datagram.
//!
//! They travel over connections of their own, to the same ports and under the same keys, told apart by their protocol
//! name. So a transfer between containers fills its own buffers and never those that probes and news wait in. A node
//! sends over the connection that it made and receives over those that others made to it; nobody has to agree on
//! which of two to keep. A connection is made when there is a packet for it, and ends when there have been none for
//! ten seconds.
//!
//! A packet that does not fit a datagram (the path is narrower than usual, or not measured yet) goes as a stream, so
//! that there is no size that never arrives. What cannot be sent is dropped and counted, as by any network.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use membership::id::NodeId;
use quinn::{Connection, IdleTimeout, RecvStream, SendDatagramError, TransportConfig, VarInt};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout};
use tracing::debug;

use crate::config::Pace;
use crate::connection::CloseCode;
use crate::counters::{Count, Flow};
use crate::facts::locked;
use crate::net::Net;
use crate::stats::Traffic;
use crate::tls::{SERVER_NAME, peer_of};

/// The largest packet, in bytes. Devices that feed the tunnel have a smaller MTU.
pub const MAX_PACKET_BYTES: usize = 9216;

/// Received packets that wait for the device; what comes while it is full is dropped.
const INBOX: usize = 4096;
/// Packets that wait for a connection which is being made, for each peer.
const HELD: usize = 64;
/// Packets on the way as streams, over all peers.
const STREAMS: usize = 256;
/// Unsent bytes for one peer: some milliseconds at a gigabit. Beyond it packets are dropped, which tells the sending
/// container to slow down.
const UNSENT_BYTES: usize = 1024 * 1024;
/// After a dial that failed, packets are dropped for so long before the next.
const PAUSE: Duration = Duration::from_secs(1);
const STREAM_DEADLINE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(10);

/// The way out to one peer.
enum Way {
    Dialling(VecDeque<Bytes>),
    Open(Connection),
    /// Until when there is no use in trying.
    Failed(Instant),
}

/// All that is shared between senders, dials and receivers.
pub(crate) struct Tunnels {
    client: quinn::ClientConfig,
    out: Mutex<BTreeMap<NodeId, Way>>,
    /// The latest connection that each peer made.
    incoming: Mutex<BTreeMap<NodeId, Connection>>,
    inbox: Mutex<Option<mpsc::Sender<(NodeId, Bytes)>>>,
    streams: Arc<Semaphore>,
    packets: Flow,
    /// For want of a connection, of room or of a receiver.
    dropped: Count,
}

impl Tunnels {
    pub(crate) fn new(mut client: quinn::ClientConfig, pace: Pace) -> Self {
        client.transport_config(Arc::new(transport(pace)));
        Self {
            client,
            out: Mutex::default(),
            incoming: Mutex::default(),
            inbox: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            packets: Flow::default(),
            dropped: Count::default(),
        }
    }

    /// Packets and bytes that were carried, and how many packets were dropped.
    pub(crate) fn read(&self) -> (Traffic, u64) {
        (self.packets.read(), self.dropped.get())
    }

    /// The node ends: whoever takes packets is told.
    pub(crate) fn stop(&self) {
        *locked(&self.inbox) = None;
    }

    /// Closes what there is with these peers.
    pub(crate) fn close(&self, refused: impl Fn(NodeId) -> bool) {
        let close = |connection: &Connection| {
            connection.close(CloseCode::Removed.code(), b"this node was removed from the cluster");
        };
        locked(&self.incoming).retain(|peer, connection| {
            let keep = !refused(*peer);
            if !keep {
                close(connection);
            }
            keep
        });
        locked(&self.out).retain(|peer, way| {
            let keep = !refused(*peer);
            if let (false, Way::Open(connection)) = (keep, &*way) {
                close(connection);
            }
            keep
        });
    }
}

/// For the side that sends. Nothing comes back over this connection, so it takes no streams.
fn transport(pace: Pace) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .initial_rtt(pace.initial_rtt())
        .max_concurrent_bidi_streams(VarInt::from_u32(0))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(Some(64 * 1024))
        .datagram_send_buffer_size(UNSENT_BYTES);
    transport
}

/// Sends packets. Cheap to clone; never blocks.
#[derive(Clone)]
pub struct Tunnel {
    net: Arc<Net>,
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({})", self.net.me)
    }
}

impl Tunnel {
    /// The sender, and what comes in: each packet with the member that sent it. A second call takes the packets over
    /// from the first.
    pub(crate) fn open(net: Arc<Net>) -> (Self, mpsc::Receiver<(NodeId, Bytes)>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        *locked(&net.tunnels.inbox) = Some(sender);
        (Self { net }, inbox)
    }

    /// Sends a packet to a member, or drops it.
    pub fn send(&self, to: NodeId, packet: Bytes) {
        let tunnels = &self.net.tunnels;
        if packet.len() > MAX_PACKET_BYTES || packet.is_empty() {
            return tunnels.dropped.add(1);
        }
        let mut out = locked(&tunnels.out);
        match out.get_mut(&to) {
            Some(Way::Open(connection)) if connection.close_reason().is_none() => {
                let connection = connection.clone();
                drop(out);
                return self.send_over(&connection, packet);
            }
            Some(Way::Dialling(held)) => {
                if held.len() < HELD {
                    held.push_back(packet);
                } else {
                    tunnels.dropped.add(1);
                }
                return;
            }
            Some(Way::Failed(until)) if *until > Instant::now() => {
                return tunnels.dropped.add(1);
            }
            _ => {}
        }
        out.insert(to, Way::Dialling(VecDeque::from([packet])));
        drop(out);
        let task = self.clone();
        self.net.spawn(async move { task.dial(to).await });
    }

    fn send_over(&self, connection: &Connection, packet: Bytes) {
        let tunnels = &self.net.tunnels;
        let length = packet.len();
        if connection.max_datagram_size().is_some_and(|largest| length <= largest) {
            // QUIC would drop the oldest packet for the newest: a transfer would lose its beginning.
            if connection.datagram_send_buffer_space() < length {
                return tunnels.dropped.add(1);
            }
            match connection.send_datagram(packet.clone()) {
                Ok(()) => return tunnels.packets.sent(length),
                Err(SendDatagramError::ConnectionLost(_)) => return tunnels.dropped.add(1),
                // The path has just become narrower.
                Err(_) => {}
            }
        }
        let Ok(place) = self.net.tunnels.streams.clone().try_acquire_owned() else {
            return tunnels.dropped.add(1);
        };
        let (net, connection) = (self.net.clone(), connection.clone());
        self.net.spawn(async move {
            let _place = place;
            let write = async {
                let mut stream = connection.open_uni().await.ok()?;
                stream.write_chunk(packet).await.ok()?;
                stream.finish().ok()
            };
            match timeout(STREAM_DEADLINE, write).await {
                Ok(Some(())) => net.tunnels.packets.sent(length),
                _ => net.tunnels.dropped.add(1),
            }
        });
    }

    async fn dial(self, to: NodeId) {
        let net = &self.net;
        let made = timeout(net.pace.dial_deadline(), connect(net, to)).await.ok().flatten();
        let way = match &made {
            Some(connection) => Way::Open(connection.clone()),
            None => Way::Failed(Instant::now() + PAUSE),
        };
        let before = locked(&net.tunnels.out).insert(to, way);
        let Some(Way::Dialling(held)) = before else { return };
        match made {
            Some(connection) => {
                for packet in held {
                    self.send_over(&connection, packet);
                }
            }
            None => net.tunnels.dropped.add(held.len() as u64),
        }
    }
}

async fn connect(net: &Net, to: NodeId) -> Option<Connection> {
    let addr = {
        let peers = locked(&net.peers);
        peers.addr_of(to).filter(|_| !peers.is_refused(to))
    }?;
    let failed = |error: &dyn fmt::Display| {
        debug!(node = %to, %addr, %error, "no connection for packets of containers");
    };
    let connecting = net
        .endpoint
        .connect_with(net.tunnels.client.clone(), addr, SERVER_NAME)
        .map_err(|error| failed(&error))
        .ok()?;
    let connection = connecting.await.map_err(|error| failed(&error)).ok()?;
    if peer_of(&connection) != Some(to) {
        connection.close(CloseCode::Refused.code(), b"another node was expected here");
        failed(&"another node answers there");
        return None;
    }
    Some(connection)
}

/// Takes the packets of a connection that a member made for them, until it ends.
pub(crate) async fn receive(net: &Arc<Net>, connection: Connection) {
    let Some(peer) = peer_of(&connection) else {
        connection.close(CloseCode::Refused.code(), b"no Ed25519 certificate");
        return net.counters.refused.add(1);
    };
    if peer == net.me || locked(&net.peers).is_refused(peer) {
        connection.close(CloseCode::Removed.code(), b"not a member");
        return net.counters.refused.add(1);
    }
    let before = locked(&net.tunnels.incoming).insert(peer, connection.clone());
    if let Some(before) = before {
        before.close(CloseCode::Replaced.code(), b"replaced");
    }
    loop {
        tokio::select! {
            packet = connection.read_datagram() => match packet {
                Ok(packet) => take(net, peer, packet),
                Err(_) => break,
            },
            stream = connection.accept_uni() => match stream {
                Ok(stream) => {
                    let task = net.clone();
                    net.spawn(async move { take_stream(&task, peer, stream).await });
                }
                Err(_) => break,
            },
        }
    }
    let mut incoming = locked(&net.tunnels.incoming);
    if incoming.get(&peer).is_some_and(|one| one.stable_id() == connection.stable_id()) {
        incoming.remove(&peer);
    }
}

async fn take_stream(net: &Net, peer: NodeId, mut stream: RecvStream) {
    match timeout(STREAM_DEADLINE, stream.read_to_end(MAX_PACKET_BYTES)).await {
        Ok(Ok(packet)) => take(net, peer, packet.into()),
        _ => net.tunnels.dropped.add(1),
    }
}

fn take(net: &Net, peer: NodeId, packet: Bytes) {
    let length = packet.len();
    let taken = match &*locked(&net.tunnels.inbox) {
        Some(inbox) => inbox.try_send((peer, packet)).is_ok(),
        None => false,
    };
    if taken { net.tunnels.packets.received(length) } else { net.tunnels.dropped.add(1) }
}
