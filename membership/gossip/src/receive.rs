//! What comes in over one connection.
//!
//! Nothing a peer sends may hurt: frames are measured before they are read, streams are few, slow ones
//! are given up, datagrams have a rate, and whatever cannot be decoded closes the connection with a
//! reason. A decoder that panics ends this one task, and the connection with it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chitchat::{ChitchatMessage, Deserializable};
use membership::id::NodeId;
use membership::message::{Envelope, Message};
use membership::wire::{self, Versioned};
use quinn::{ConnectionError, RecvStream, VarInt};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::calls;
use crate::connection::{Class, CloseCode, Connection, STREAM_DEADLINE, TAG_CHITCHAT, TAG_CORE};
use crate::digest::{self, MAX_CHITCHAT_BYTES};
use crate::facts::locked;
use crate::net::Net;
use crate::report::{DisconnectReason, FromGossip};
use crate::signature::Signer;

/// Streams that one peer may have open at once. A peer that wants more waits.
pub(crate) const STREAMS_PER_PEER: u32 = 16;

/// Streams larger than this need a place among [`LARGE_READS`].
const SMALL_STREAM_BYTES: usize = 64 * 1024;

/// How many large streams are read at once over all peers: at 2 MiB each, 32 MiB of memory.
pub(crate) const LARGE_READS: usize = 16;

/// Datagrams that one peer may send in a second; further ones are dropped and counted. A node's
/// probes and news are some tens.
const DATAGRAMS_PER_SECOND: u32 = 5000;

/// What is wrong with a frame.
#[derive(Debug, thiserror::Error)]
enum BadFrame {
    #[error("an empty frame")]
    Empty,
    #[error("a frame of an unknown kind ({0})")]
    Tag(u8),
    #[error("a frame of more than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Wire(#[from] wire::WireError),
    #[error("{0}")]
    Digest(#[from] digest::NotChitchat),
    #[error("a gossip message that cannot be unpacked")]
    Chitchat,
}

/// The largest payload of a frame with this tag.
fn largest(tag: u8) -> Result<usize, BadFrame> {
    match tag {
        TAG_CORE => Ok(Envelope::LIMIT),
        // A digest and a delta that are each just below the limit do not occur, but cost nothing.
        TAG_CHITCHAT => Ok(2 * MAX_CHITCHAT_BYTES),
        other => Err(BadFrame::Tag(other)),
    }
}

/// Reads a connection until it ends, then says so.
pub(crate) async fn serve(net: Arc<Net>, connection: Arc<Connection>) {
    // Also runs when this task panics or is cut off.
    let _farewell = Farewell { net: net.clone(), connection: connection.clone() };
    let mut second = Instant::now();
    let mut in_second = 0u32;
    // The greeting is over; from now on a stream with two directions is a call.
    connection.quic.set_max_concurrent_bi_streams(VarInt::from_u32(calls::CALLS_PER_PEER));
    loop {
        tokio::select! {
            datagram = connection.quic.read_datagram() => {
                let Ok(datagram) = datagram else { return };
                let now = Instant::now();
                if now.duration_since(second) >= Duration::from_secs(1) {
                    (second, in_second) = (now, 0);
                }
                in_second += 1;
                if in_second > DATAGRAMS_PER_SECOND {
                    net.counters.flooded.add(1);
                } else if let Err(bad) = take_datagram(&net, &connection, datagram) {
                    return scold(&net, &connection, &bad);
                }
            }
            stream = connection.quic.accept_uni() => {
                let Ok(stream) = stream else { return };
                net.spawn(take_stream(net.clone(), connection.clone(), stream));
            }
            call = connection.quic.accept_bi() => {
                let Ok((send, receive)) = call else { return };
                let (task, from) = (net.clone(), connection.peer);
                net.spawn(async move {
                    if let Some((request, answer)) = calls::take(send, receive).await {
                        // Fails only when the daemon is gone.
                        let _ = task.reports.send(FromGossip::Call { from, request, answer }).await;
                    }
                });
            }
        }
    }
}

struct Farewell {
    net: Arc<Net>,
    connection: Arc<Connection>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        // If it is still open, this task panicked over something that the peer sent. (A second close
        // would overwrite the reason of the first.)
        if self.net.stop.is_cancelled() {
            self.connection.close(CloseCode::Stopping, "stopping");
        } else if self.connection.is_open() {
            self.connection.close(CloseCode::Malformed, "what was sent could not be handled");
        }
        let was_live = locked(&self.net.peers).ended(&self.connection, Instant::now());
        if was_live {
            let reason = reason_of(self.connection.quic.close_reason());
            debug!(peer = %self.connection.peer, ?reason, "disconnected");
            self.net.note_disconnected(self.connection.peer, reason);
            self.net.dial.notify_one();
        }
    }
}

fn reason_of(error: Option<ConnectionError>) -> DisconnectReason {
    match error {
        Some(ConnectionError::TimedOut) => DisconnectReason::Silent,
        Some(ConnectionError::Reset) => DisconnectReason::Restarted,
        Some(ConnectionError::ApplicationClosed(close)) => {
            let text = String::from_utf8_lossy(&close.reason).chars().take(200).collect();
            let code = close.error_code;
            if code == CloseCode::Stopping.code() {
                DisconnectReason::Stopped
            } else if [CloseCode::Removed, CloseCode::Malformed, CloseCode::Refused]
                .iter()
                .any(|refusal| refusal.code() == code)
            {
                DisconnectReason::Refused(text)
            } else {
                DisconnectReason::Other(text)
            }
        }
        Some(other) => DisconnectReason::Other(other.to_string()),
        None => DisconnectReason::Other("closed".to_owned()),
    }
}

fn scold(net: &Net, connection: &Connection, bad: &BadFrame) {
    net.counters.malformed.add(1);
    if locked(&net.scolded).insert(connection.peer) {
        warn!(peer = %connection.peer, addr = %connection.observed(), reason = %bad, "closing the connection to a peer that sent what cannot be read; later cases are only counted");
    }
    connection.close(CloseCode::Malformed, &bad.to_string());
}

/// A datagram is never waited for: when the daemon lags it is dropped.
fn take_datagram(net: &Net, connection: &Connection, frame: Bytes) -> Result<(), BadFrame> {
    let (tag, payload) = frame.split_first().ok_or(BadFrame::Empty)?;
    if *tag == TAG_CHITCHAT {
        net.counters.received(Class::Chitchat, false, frame.len());
        return take_chitchat(net, connection.advertised, payload);
    }
    if *tag != TAG_CORE {
        return Err(BadFrame::Tag(*tag));
    }
    net.counters.received(Class::Core, false, frame.len());
    if let Some(report) = take_core(net, connection.peer, payload)?
        && net.reports.try_send(report).is_err()
    {
        net.counters.reports_full.add(1);
    }
    Ok(())
}

/// A stream waits for the daemon, and its sender with it.
async fn take_stream(net: Arc<Net>, connection: Arc<Connection>, stream: RecvStream) {
    let frame = match timeout(STREAM_DEADLINE, read_stream(&net, stream)).await {
        Ok(Ok(Some(frame))) => frame,
        // Reset by the sender, or the connection is gone.
        Ok(Ok(None)) => return,
        Ok(Err(bad)) => return scold(&net, &connection, &bad),
        Err(_) => return net.counters.slow_stream.add(1),
    };
    let Some((tag, payload)) = frame.split_first() else { return };
    let result = if *tag == TAG_CHITCHAT {
        net.counters.received(Class::Chitchat, true, frame.len());
        take_chitchat(&net, connection.advertised, payload).map(|()| None)
    } else {
        net.counters.received(Class::Core, true, frame.len());
        take_core(&net, connection.peer, payload)
    };
    match result {
        Ok(Some(report)) => {
            drop(frame);
            // Fails only when the daemon is gone.
            let _ = net.reports.send(report).await;
        }
        Ok(None) => {}
        Err(bad) => scold(&net, &connection, &bad),
    }
}

/// The whole frame; `None` if it was broken off.
async fn read_stream(net: &Net, mut stream: RecvStream) -> Result<Option<BytesMut>, BadFrame> {
    let mut frame = BytesMut::new();
    let mut limit = 1;
    let mut _place = None;
    loop {
        let Ok(chunk) = stream.read_chunk(SMALL_STREAM_BYTES, true).await else { return Ok(None) };
        let Some(chunk) = chunk else { break };
        frame.extend_from_slice(&chunk.bytes);
        if limit == 1
            && let Some(tag) = frame.first()
        {
            limit = 1 + largest(*tag)?;
        }
        if frame.len() > limit {
            return Err(BadFrame::TooLarge(limit));
        }
        if frame.len() > SMALL_STREAM_BYTES && _place.is_none() {
            // Closed only when the node stops.
            let Ok(place) = net.large_reads.acquire().await else { return Ok(None) };
            _place = Some(place);
        }
    }
    if frame.is_empty() { Err(BadFrame::Empty) } else { Ok(Some(frame)) }
}

/// Decodes a message of the core and leaves out facts that are not their owners'.
fn take_core(net: &Net, from: NodeId, payload: &[u8]) -> Result<Option<FromGossip>, BadFrame> {
    let envelope: Envelope = wire::decode(payload)?;
    if envelope.cell != net.cell {
        // Between cells nothing is said yet; a later version may.
        return Ok(None);
    }
    let mut message = envelope.message;
    if let Message::Facts(facts) = &mut message {
        let before = facts.len();
        facts.retain(|fact| fact.cell == net.cell && net.signer.verify(fact));
        net.counters.forged_facts.add((before - facts.len()) as u64);
        if facts.is_empty() && before > 0 {
            return Ok(None);
        }
    }
    Ok(Some(FromGossip::Message { from, message }))
}

fn take_chitchat(net: &Net, from: SocketAddr, payload: &[u8]) -> Result<(), BadFrame> {
    if payload.len() > 2 * MAX_CHITCHAT_BYTES {
        return Err(BadFrame::TooLarge(2 * MAX_CHITCHAT_BYTES));
    }
    let named = digest::inspect(payload)?;
    let mut rest = payload;
    let message = ChitchatMessage::deserialize(&mut rest).map_err(|_| BadFrame::Chitchat)?;
    let now = Instant::now();
    let news = {
        let mut peers = locked(&net.peers);
        named.iter().fold(false, |news, entry| {
            news | entry.node.is_some_and(|node| peers.hear(node, entry.addr, now))
        })
    };
    if news {
        net.dial.notify_one();
    }
    let to = locked(&net.to_chitchat).clone();
    if let Some(to) = to
        && to.try_send((from, message)).is_err()
    {
        net.counters.reports_full.add(1);
    }
    Ok(())
}
