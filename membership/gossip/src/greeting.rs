//! From a finished TLS handshake to an admitted peer, on both sides.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use membership::id::NodeId;
use quinn::{ConnectionError, ReadError, ReadToEndError, VarInt, WriteError};
use tokio::time::timeout;
use tracing::{debug, info};

use crate::connection::{CloseCode, Connection, Greeted, canonical};
use crate::dial::DialError;
use crate::facts::locked;
use crate::hello::{Hello, MAX_HELLO_BYTES, Verdict};
use crate::net::Net;
use crate::peers::Admission;
use crate::receive::serve;
use crate::tls::peer_of;

/// A connection that lost against another one is read on for this long after the longest dial: what the
/// peer sent over it before it knew is not lost, and if the winner's dialler gave up, it is there.
const LINGER: Duration = Duration::from_secs(2);

/// A refused dialler has this long to read why.
const LAST_WORD: Duration = Duration::from_secs(2);

/// The dialler's part. Returns who is there, once they are admitted on both sides (or are connected
/// already in a better way).
pub(crate) async fn dialler(
    net: &Arc<Net>,
    quic: quinn::Connection,
    addr: SocketAddr,
    wanted: Option<NodeId>,
) -> Result<NodeId, DialError> {
    let lost = |error| lost(addr, error);
    let Some(peer) = peer_of(&quic) else {
        quic.close(CloseCode::Refused.code(), b"no Ed25519 certificate");
        return Err(DialError::NotAMember { addr });
    };
    let mut ours = net.hello();
    ours.nonce = nonce();
    let (mut send, mut receive) = quic.open_bi().await.map_err(lost)?;
    let Some(last_seen) = locked(&net.peers).last_seen(peer) else {
        quic.close(CloseCode::Replaced.code(), b"connected meanwhile");
        return Ok(peer);
    };
    ours.last_seen = last_seen;
    send.write_all(&ours.encode()).await.map_err(|error| lost_write(addr, error))?;
    let _ = send.finish();
    let answer = receive.read_to_end(MAX_HELLO_BYTES).await.map_err(|e| lost_read(addr, e))?;
    let Ok(theirs) = Hello::decode(&answer) else {
        quic.close(CloseCode::Malformed.code(), b"not a greeting");
        return Err(DialError::Closed { addr, reason: "it greets in a way not known here".into() });
    };
    if let Some(error) = objection(net, addr, peer, &theirs) {
        quic.close(CloseCode::Refused.code(), error.to_string().as_bytes());
        return Err(error);
    }
    if theirs.verdict == Verdict::Duplicate {
        quic.close(CloseCode::Replaced.code(), b"duplicate");
        return Ok(peer);
    }
    let greeted = Greeted {
        peer,
        incarnation: theirs.incarnation,
        instance: theirs.instance,
        nonce: ours.nonce,
        advertised: reachable(theirs.addr, &quic),
        dialled: true,
    };
    if admit(net, quic, &greeted, 0) == Verdict::Superseded {
        return Err(DialError::Superseded { addr });
    }
    match wanted {
        // An address that changed hands may well belong to a member: that one stays connected.
        Some(wanted) if wanted != peer => Err(DialError::OtherNode { addr, wanted, found: peer }),
        _ => Ok(peer),
    }
}

/// The reason not to talk to whoever answered, ours or theirs.
fn objection(net: &Net, addr: SocketAddr, peer: NodeId, theirs: &Hello) -> Option<DialError> {
    let ours = net.hello();
    if peer == net.me {
        return Some(if theirs.instance == ours.instance {
            DialError::Myself { addr }
        } else {
            DialError::Superseded { addr }
        });
    }
    if locked(&net.peers).is_refused(peer) {
        return Some(DialError::RemovedThere { addr });
    }
    let verdict = match theirs.verdict {
        Verdict::Welcome | Verdict::Duplicate => theirs.objection(&ours)?,
        refusal => refusal,
    };
    Some(match verdict {
        Verdict::Welcome | Verdict::Duplicate => return None,
        Verdict::OtherCluster => DialError::OtherCluster { addr },
        Verdict::OtherCell => DialError::OtherCell { addr, theirs: theirs.cell, ours: ours.cell },
        Verdict::Version => {
            DialError::Version { addr, theirs: theirs.versions, ours: ours.versions }
        }
        Verdict::Removed => DialError::Removed { addr },
        Verdict::Full { members } => DialError::Full { addr, members: members as usize },
        Verdict::Superseded => DialError::Superseded { addr },
        Verdict::Myself => DialError::Myself { addr },
        Verdict::Unknown(code) => {
            DialError::Closed { addr, reason: format!("for a reason not known here ({code})") }
        }
    })
}

/// The acceptor's part: reads the greeting, answers with a verdict, admits or refuses.
pub(crate) async fn acceptor(
    net: &Arc<Net>,
    quic: quinn::Connection,
) -> Result<(), ConnectionError> {
    let Some(peer) = peer_of(&quic) else {
        quic.close(CloseCode::Refused.code(), b"no Ed25519 certificate");
        net.counters.refused.add(1);
        return Ok(());
    };
    let (mut send, mut receive) = quic.accept_bi().await?;
    let theirs = receive.read_to_end(MAX_HELLO_BYTES).await.ok();
    let Some(theirs) = theirs.and_then(|bytes| Hello::decode(&bytes).ok()) else {
        quic.close(CloseCode::Malformed.code(), b"not a greeting");
        net.counters.malformed.add(1);
        return Ok(());
    };
    // One greeting is all there is to say in both directions at once.
    quic.set_max_concurrent_bi_streams(VarInt::from_u32(0));
    let mut ours = net.hello();
    ours.nonce = theirs.nonce;
    ours.verdict = verdict(net, peer, &theirs, &ours);
    if ours.verdict == Verdict::Welcome {
        let greeted = Greeted {
            peer,
            incarnation: theirs.incarnation,
            instance: theirs.instance,
            nonce: theirs.nonce,
            advertised: reachable(theirs.addr, &quic),
            dialled: false,
        };
        // Admitted before it is told: once the dialler reads its welcome, it may be spoken to.
        ours.verdict = admit(net, quic.clone(), &greeted, theirs.last_seen);
    }
    let written = send.write_all(&ours.encode()).await;
    let _ = send.finish();
    if ours.verdict == Verdict::Welcome {
        return Ok(());
    }
    debug!(%peer, addr = %quic.remote_address(), verdict = ?ours.verdict, "connection refused");
    if ours.verdict != Verdict::Duplicate {
        net.counters.refused.add(1);
    }
    if written.is_ok() {
        let _ = timeout(LAST_WORD, quic.closed()).await;
    }
    quic.close(CloseCode::Refused.code(), b"refused");
    Ok(())
}

fn verdict(net: &Net, peer: NodeId, theirs: &Hello, ours: &Hello) -> Verdict {
    if let Some(objection) = theirs.objection(ours) {
        return objection;
    }
    if peer == net.me {
        return if theirs.instance == ours.instance {
            Verdict::Myself
        } else {
            Verdict::Superseded
        };
    }
    if locked(&net.peers).is_refused(peer) {
        return Verdict::Removed;
    }
    if let Some(facts) = net.facts.get()
        && !facts.has_room_for(peer, theirs.addr)
    {
        let members = facts.stats().members;
        return Verdict::Full { members: u32::try_from(members).unwrap_or(u32::MAX) };
    }
    Verdict::Welcome
}

/// Puts a connection into use, or finds that there is a better one.
fn admit(net: &Arc<Net>, quic: quinn::Connection, greeted: &Greeted, last_seen: u64) -> Verdict {
    let connection = Arc::new(Connection::new(quic, greeted, net.counters.clone()));
    let admission = locked(&net.peers).admit(connection.clone(), last_seen);
    match admission {
        Admission::Duplicate => {
            if connection.dialled {
                // The acceptor took it for the one and may have sent over it already.
                net.spawn(serve(net.clone(), connection.clone()));
                let instance = connection.instance;
                retire(net, connection, instance);
            }
            Verdict::Duplicate
        }
        Admission::Superseded => Verdict::Superseded,
        Admission::Live { held, replaced } => {
            let peer = connection.peer;
            let news = replaced.as_ref().is_none_or(|old| {
                old.incarnation != connection.incarnation
                    || old.advertised != connection.advertised
                    || !old.is_open()
            });
            if let Some(old) = replaced {
                retire(net, old, connection.instance);
            }
            if news {
                info!(%peer, addr = %connection.advertised, incarnation = connection.incarnation.0, dialled = connection.dialled, "connected");
                net.note_connected(&connection);
            }
            for frame in held {
                connection.send(crate::connection::Class::Core, frame);
            }
            if let Some(facts) = net.facts.get() {
                facts.greet(connection.advertised);
            }
            net.spawn(serve(net.clone(), connection));
            Verdict::Welcome
        }
    }
}

/// Closes a connection that another one replaces: at once if its peer is gone, else after a while.
fn retire(net: &Arc<Net>, old: Arc<Connection>, instance: u64) {
    if old.instance != instance {
        return old.close(CloseCode::Replaced, "a later run of this node is connected");
    }
    let keeper = net.clone();
    net.spawn(async move {
        tokio::time::sleep(keeper.pace.dial_deadline() + LINGER).await;
        if locked(&keeper.peers).bury(&old) {
            old.close(CloseCode::Replaced, "another connection is in use");
        }
    });
}

/// A peer that does not know its own IP is reached where its packets come from.
fn reachable(said: SocketAddr, quic: &quinn::Connection) -> SocketAddr {
    if said.ip().is_unspecified() {
        SocketAddr::new(canonical(quic.remote_address()).ip(), said.port())
    } else {
        said
    }
}

fn nonce() -> u64 {
    // 0 means "none" in a greeting.
    rand::random::<u64>().max(1)
}

/// What the loss of a connection during handshake or greeting says. Alerts are TLS's: whoever does
/// not hold the token fails in TLS, on one side or the other.
pub(crate) fn lost(addr: SocketAddr, error: ConnectionError) -> DialError {
    match error {
        ConnectionError::TimedOut => DialError::Unreachable { addr },
        ConnectionError::TransportError(error) if is_alert(error.code) => {
            DialError::NotAMember { addr }
        }
        ConnectionError::ConnectionClosed(close) if is_alert(close.error_code) => {
            DialError::OtherToken { addr }
        }
        ConnectionError::VersionMismatch => DialError::NotAMember { addr },
        ConnectionError::ApplicationClosed(close) => {
            let reason = String::from_utf8_lossy(&close.reason).chars().take(200).collect();
            DialError::Closed { addr, reason }
        }
        ConnectionError::LocallyClosed => DialError::ShuttingDown,
        other => DialError::Closed { addr, reason: other.to_string() },
    }
}

/// QUIC carries TLS alerts as transport errors 0x100 to 0x1ff (RFC 9001, section 4.8).
fn is_alert(code: quinn::TransportErrorCode) -> bool {
    (0x100..0x200).contains(&u64::from(code))
}

fn lost_write(addr: SocketAddr, error: WriteError) -> DialError {
    match error {
        WriteError::ConnectionLost(error) => lost(addr, error),
        other => DialError::Closed { addr, reason: other.to_string() },
    }
}

fn lost_read(addr: SocketAddr, error: ReadToEndError) -> DialError {
    match error {
        ReadToEndError::Read(ReadError::ConnectionLost(error)) => lost(addr, error),
        other => DialError::Closed { addr, reason: other.to_string() },
    }
}
