//! One admitted connection: what goes out over it.
//!
//! A message that fits a packet is a QUIC datagram: it passes everything that waits, and may be lost.
//! A larger one is a stream of its own. Streams wait in two lanes, one for the core's messages and one for
//! chitchat's, so that neither holds the other up; each lane writes one stream at a time.
//!
//! A frame is one tag byte and the payload, on datagrams and streams alike.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use membership::id::{Incarnation, NodeId};
use quinn::{SendDatagramError, VarInt};
use tokio::time::{Instant, timeout};

use crate::contest::Contender;
use crate::counters::Counters;
use crate::facts::locked;

/// First byte of a frame with a message of the core: an encoded `Envelope`.
pub(crate) const TAG_CORE: u8 = 1;
/// First byte of a frame with a message of chitchat.
pub(crate) const TAG_CHITCHAT: u8 = 2;

/// How long one stream may take from its opening to its last byte handed to QUIC.
pub(crate) const STREAM_DEADLINE: Duration = Duration::from_secs(30);

/// Streams of the core that wait, for each peer. Further messages are dropped and counted: records and
/// facts come again through anti-entropy.
const CORE_LANE: Limit = Limit { frames: 256, bytes: 8 * 1024 * 1024, keep_newest: false };

/// Streams of chitchat that wait, for each peer. The oldest is dropped: a later exchange says more.
const CHITCHAT_LANE: Limit = Limit { frames: 8, bytes: 1024 * 1024, keep_newest: true };

/// Why this side closed a connection; the peer reads it. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseCode {
    Stopping = 1,
    /// Another connection between the two is the better one.
    Replaced = 2,
    Removed = 3,
    Malformed = 4,
    Refused = 5,
}

impl CloseCode {
    pub(crate) fn code(self) -> VarInt {
        VarInt::from_u32(self as u32)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Core,
    Chitchat,
}

struct Limit {
    frames: usize,
    bytes: usize,
    keep_newest: bool,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Bytes>,
    bytes: usize,
    writing: bool,
}

pub(crate) struct Connection {
    pub(crate) quic: quinn::Connection,
    pub(crate) peer: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) instance: u64,
    pub(crate) nonce: u64,
    /// Where the peer says that it is reached.
    pub(crate) advertised: SocketAddr,
    /// This node made it.
    pub(crate) dialled: bool,
    pub(crate) since: Instant,
    counters: Arc<Counters>,
    runtime: tokio::runtime::Handle,
    core: Mutex<Lane>,
    chitchat: Mutex<Lane>,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} at {})", self.peer, self.quic.remote_address())
    }
}

/// What the greetings said about a connection.
pub(crate) struct Greeted {
    pub(crate) peer: NodeId,
    pub(crate) incarnation: Incarnation,
    pub(crate) instance: u64,
    pub(crate) nonce: u64,
    pub(crate) advertised: SocketAddr,
    pub(crate) dialled: bool,
}

impl Connection {
    pub(crate) fn new(quic: quinn::Connection, greeted: &Greeted, counters: Arc<Counters>) -> Self {
        Self {
            quic,
            peer: greeted.peer,
            incarnation: greeted.incarnation,
            instance: greeted.instance,
            nonce: greeted.nonce,
            advertised: greeted.advertised,
            dialled: greeted.dialled,
            since: Instant::now(),
            counters,
            runtime: tokio::runtime::Handle::current(),
            core: Mutex::default(),
            chitchat: Mutex::default(),
        }
    }

    pub(crate) fn contender(&self) -> Contender {
        Contender {
            incarnation: self.incarnation,
            instance: self.instance,
            nonce: self.nonce,
            dialled: self.dialled,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.quic.close_reason().is_none()
    }

    pub(crate) fn observed(&self) -> SocketAddr {
        canonical(self.quic.remote_address())
    }

    pub(crate) fn close(&self, code: CloseCode, reason: &str) {
        self.quic.close(code.code(), reason.as_bytes());
    }

    /// Sends a frame: as a datagram if it fits one, else through its lane.
    pub(crate) fn send(self: &Arc<Self>, class: Class, frame: Bytes) {
        let length = frame.len();
        if self.quic.max_datagram_size().is_some_and(|largest| length <= largest) {
            // When QUIC's own buffer of unsent datagrams is full it drops the oldest.
            match self.quic.send_datagram(frame.clone()) {
                Ok(()) => return self.counters.sent(class, false, length),
                // The path's limit has just shrunk, or the peer takes none.
                Err(
                    SendDatagramError::TooLarge
                    | SendDatagramError::UnsupportedByPeer
                    | SendDatagramError::Disabled,
                ) => {}
                Err(SendDatagramError::ConnectionLost(_)) => {
                    return self.counters.unconnected.add(1);
                }
            }
        }
        self.enqueue(class, frame);
    }

    fn lane(&self, class: Class) -> (&Mutex<Lane>, &'static Limit) {
        match class {
            Class::Core => (&self.core, &CORE_LANE),
            Class::Chitchat => (&self.chitchat, &CHITCHAT_LANE),
        }
    }

    fn enqueue(self: &Arc<Self>, class: Class, frame: Bytes) {
        let (lane, limit) = self.lane(class);
        let mut lane = locked(lane);
        while lane.queue.len() >= limit.frames || lane.bytes + frame.len() > limit.bytes {
            self.counters.queue_full.add(1);
            if !limit.keep_newest {
                return;
            }
            let Some(oldest) = lane.queue.pop_front() else { return };
            lane.bytes -= oldest.len();
        }
        lane.bytes += frame.len();
        lane.queue.push_back(frame);
        if !std::mem::replace(&mut lane.writing, true) {
            drop(lane);
            self.runtime.spawn(write_lane(self.clone(), class));
        }
    }

    /// The next frame of a lane; when there is none, its writer is taken to have ended.
    fn next_frame(&self, class: Class) -> Option<Bytes> {
        let mut lane = locked(self.lane(class).0);
        let next = lane.queue.pop_front();
        match &next {
            Some(frame) => lane.bytes -= frame.len(),
            None => lane.writing = false,
        }
        next
    }
}

/// Writes out a lane and ends. Runs at most once for each lane.
async fn write_lane(connection: Arc<Connection>, class: Class) {
    while let Some(frame) = connection.next_frame(class) {
        let length = frame.len();
        let written = timeout(STREAM_DEADLINE, write_stream(&connection.quic, class, frame)).await;
        match written {
            Ok(Ok(())) => connection.counters.sent(class, true, length),
            // The connection or the stream is gone; the rest of the lane meets the same end.
            Ok(Err(_)) => connection.counters.unconnected.add(1),
            // Dropping the stream has reset it.
            Err(_) => connection.counters.slow_stream.add(1),
        }
    }
}

async fn write_stream(
    quic: &quinn::Connection,
    class: Class,
    frame: Bytes,
) -> Result<(), quinn::WriteError> {
    let mut stream = quic.open_uni().await?;
    // Set before the first byte: chitchat's exchanges are short and wait for nobody's bulk.
    let _ = stream.set_priority(match class {
        Class::Core => 0,
        Class::Chitchat => 1,
    });
    let result = stream.write_chunk(frame).await;
    match &result {
        Ok(()) => {
            let _ = stream.finish();
        }
        Err(_) => {
            let _ = stream.reset(VarInt::from_u32(0));
        }
    }
    result
}

/// An IPv4 address that a dual-stack socket shows as IPv6, as IPv4.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}
