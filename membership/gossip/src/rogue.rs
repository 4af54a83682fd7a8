//! Tests with a peer that holds the token and sends what it likes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use membership::id::{CellId, Incarnation, NodeId};
use membership::message::{Envelope, Message};
use membership::wire::{self, Versioned};
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use crate::config::{Config, Pace};
use crate::connection::{TAG_CHITCHAT, TAG_CORE};
use crate::hello::{Hello, MAX_HELLO_BYTES, PROTOCOL_VERSIONS, Verdict};
use crate::identity::NodeKey;
use crate::report::FromGossip;
use crate::tls::{self, SERVER_NAME};
use crate::token::Token;
use crate::{DialError, Gossip, GossipHandle};

const BOUND: Duration = Duration::from_secs(20);

async fn node(token: &Token, seeds: Vec<String>) -> (GossipHandle, Receiver<FromGossip>) {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = Config {
        key: NodeKey::generate().unwrap(),
        token: token.clone(),
        incarnation: Incarnation(1),
        cell: CellId(0),
        listen: loopback,
        advertise: loopback,
        seeds,
        pace: Pace::Local,
    };
    Gossip::start(config).await.unwrap()
}

struct Rogue {
    endpoint: quinn::Endpoint,
    id: NodeId,
    hello: Hello,
}

impl Rogue {
    fn new(token: &Token) -> Self {
        let key = NodeKey::generate().unwrap();
        let roles = tls::roles(&key, token).unwrap();
        let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = quinn::ServerConfig::with_crypto(roles.server);
        let mut endpoint = quinn::Endpoint::server(server, loopback).unwrap();
        endpoint.set_default_client_config(quinn::ClientConfig::new(roles.client));
        let hello = Hello {
            verdict: Verdict::Welcome,
            versions: PROTOCOL_VERSIONS,
            cluster: token.cluster(),
            cell: CellId(0),
            incarnation: Incarnation(1),
            instance: 1,
            nonce: 1,
            last_seen: 0,
            addr: endpoint.local_addr().unwrap(),
        };
        Self { endpoint, id: key.id(), hello }
    }

    async fn connect(&self, to: SocketAddr) -> quinn::Connection {
        self.endpoint.connect(to, SERVER_NAME).unwrap().await.unwrap()
    }

    async fn greet(&self, quic: &quinn::Connection, bytes: &[u8]) -> Option<Hello> {
        let (mut send, mut receive) = quic.open_bi().await.unwrap();
        send.write_all(bytes).await.unwrap();
        send.finish().unwrap();
        let answer = timeout(BOUND, receive.read_to_end(MAX_HELLO_BYTES)).await.unwrap().ok()?;
        Some(Hello::decode(&answer).unwrap())
    }

    async fn join(&mut self, to: SocketAddr) -> quinn::Connection {
        self.hello.nonce += 1;
        // A later run each time, so that it replaces the one before whatever became of it.
        self.hello.instance += 1;
        self.hello.incarnation.0 += 1;
        let quic = self.connect(to).await;
        let answer = self.greet(&quic, &self.hello.encode()).await.unwrap();
        assert_eq!(answer.verdict, Verdict::Welcome);
        quic
    }
}

async fn refused(quic: &quinn::Connection) -> String {
    match timeout(BOUND, quic.closed()).await.unwrap() {
        quinn::ConnectionError::ApplicationClosed(close) => {
            String::from_utf8_lossy(&close.reason).into_owned()
        }
        other => panic!("{other:?}"),
    }
}

async fn stream(quic: &quinn::Connection, bytes: &[u8]) {
    let mut stream = quic.open_uni().await.unwrap();
    // The receiver may close the connection before the end.
    let _ = stream.write_all(bytes).await;
    let _ = stream.finish();
}

fn ping() -> Vec<u8> {
    let mut frame = vec![TAG_CORE];
    let envelope = Envelope { cell: CellId(0), message: Message::Ping { seq: 1 } };
    frame.extend(wire::encode(&envelope).unwrap());
    frame
}

/// Waits for the ping that shows that the node still works.
async fn pinged(reports: &mut Receiver<FromGossip>, by: NodeId) {
    let found = timeout(BOUND, async {
        while let Some(report) = reports.recv().await {
            if matches!(report, FromGossip::Message { from, message: Message::Ping { seq: 1 } } if from == by)
            {
                return;
            }
        }
        panic!("the node has ended");
    });
    found.await.unwrap();
}

#[tokio::test]
async fn garbage_closes_its_connection_with_a_reason_and_disturbs_nobody() {
    let token = Token::generate().unwrap();
    let (handle, mut reports) = node(&token, Vec::new()).await;
    let to = handle.local_addr();
    let mut good = Rogue::new(&token);
    let bystander = good.join(to).await;
    let mut rogue = Rogue::new(&token);

    let cut = ping()[..3].to_vec();
    let mut trailing = ping();
    trailing.push(0);
    let cases: [(&[u8], &str); 7] = [
        (&[], "empty"),
        (&[9, 9, 9], "unknown kind"),
        (&cut, "cut short"),
        (&trailing, "left over"),
        (&[TAG_CHITCHAT, 1, 2, 3, 4], "gossip message"),
        (&[TAG_CHITCHAT], "gossip message"),
        (&[TAG_CORE, 1, 200, 0], "upgrade shoal"),
    ];
    for (bytes, reason) in cases {
        let quic = rogue.join(to).await;
        quic.send_datagram(bytes.to_vec().into()).unwrap();
        let said = refused(&quic).await;
        assert!(said.contains(reason), "datagram {bytes:?}: {said}");
        let quic = rogue.join(to).await;
        stream(&quic, bytes).await;
        let said = refused(&quic).await;
        assert!(said.contains(reason), "stream {bytes:?}: {said}");
    }
    assert_eq!(handle.stats().drops.malformed, 14);
    assert!(bystander.close_reason().is_none());
    bystander.send_datagram(ping().into()).unwrap();
    pinged(&mut reports, good.id).await;
}

#[tokio::test]
async fn frames_without_end_are_cut_off_at_their_limit() {
    let token = Token::generate().unwrap();
    let (handle, mut reports) = node(&token, Vec::new()).await;
    let mut rogue = Rogue::new(&token);
    for (tag, limit) in [(TAG_CORE, Envelope::LIMIT), (TAG_CHITCHAT, 2 * 65_507)] {
        let quic = rogue.join(handle.local_addr()).await;
        let mut endless = vec![tag; limit];
        endless.extend([0; 70_000]);
        stream(&quic, &endless).await;
        assert!(refused(&quic).await.contains("a frame of more than"));
    }
    let quic = rogue.join(handle.local_addr()).await;
    stream(&quic, &ping()).await;
    pinged(&mut reports, rogue.id).await;
}

#[tokio::test]
async fn streams_that_never_end_hold_up_nobody_else() {
    let token = Token::generate().unwrap();
    let (handle, mut reports) = node(&token, Vec::new()).await;
    let mut rogue = Rogue::new(&token);
    let quic = rogue.join(handle.local_addr()).await;
    let mut open = Vec::new();
    // As many as it may have; each says that a large message follows.
    for _ in 0..crate::receive::STREAMS_PER_PEER {
        let mut stream = quic.open_uni().await.unwrap();
        stream.write_all(&[TAG_CORE; 100]).await.unwrap();
        open.push(stream);
    }
    let more = timeout(Duration::from_millis(200), quic.open_uni()).await;
    assert!(more.is_err(), "no more streams than allowed");
    // Its own datagrams and another peer's streams still pass.
    quic.send_datagram(ping().into()).unwrap();
    pinged(&mut reports, rogue.id).await;
    let mut good = Rogue::new(&token);
    let other = good.join(handle.local_addr()).await;
    stream(&other, &ping()).await;
    pinged(&mut reports, good.id).await;
}

#[tokio::test]
async fn a_flood_of_datagrams_is_counted_and_survived() {
    let token = Token::generate().unwrap();
    let (handle, mut reports) = node(&token, Vec::new()).await;
    let mut rogue = Rogue::new(&token);
    let quic = rogue.join(handle.local_addr()).await;
    // Nobody takes the reports meanwhile: they fill up, and what does not fit is dropped.
    let full = timeout(BOUND, async {
        while handle.stats().drops.reports_full == 0 {
            quic.send_datagram_wait(ping().into()).await.unwrap();
        }
    });
    full.await.unwrap();
    while reports.try_recv().is_ok() {}
    stream(&quic, &ping()).await;
    pinged(&mut reports, rogue.id).await;
}

#[tokio::test]
async fn bytes_that_are_not_quic_are_ignored() {
    let token = Token::generate().unwrap();
    let (handle, mut reports) = node(&token, Vec::new()).await;
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for length in 0..1400 {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7 + length) as u8).collect();
        socket.send_to(&bytes, handle.local_addr()).unwrap();
    }
    let mut rogue = Rogue::new(&token);
    let quic = rogue.join(handle.local_addr()).await;
    quic.send_datagram(ping().into()).unwrap();
    pinged(&mut reports, rogue.id).await;
}

#[tokio::test]
async fn greetings_that_do_not_fit_are_refused_with_the_reason() {
    let token = Token::generate().unwrap();
    let (handle, _reports) = node(&token, Vec::new()).await;
    let rogue = Rogue::new(&token);
    let check = async |change: fn(&mut Hello), verdict| {
        let mut hello = rogue.hello.clone();
        change(&mut hello);
        let quic = rogue.connect(handle.local_addr()).await;
        let answer = rogue.greet(&quic, &hello.encode()).await.unwrap();
        assert_eq!(answer.verdict, verdict);
        assert_eq!((answer.versions, answer.cell), (PROTOCOL_VERSIONS, CellId(0)));
        quic.close(0u32.into(), b"");
    };
    check(|hello| hello.versions = (7, 9), Verdict::Version).await;
    check(|hello| hello.cell = CellId(3), Verdict::OtherCell).await;
    check(|hello| hello.cluster.0 += 1, Verdict::OtherCluster).await;
    assert!(handle.stats().connections.is_empty());

    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 4000]] {
        let quic = rogue.connect(handle.local_addr()).await;
        rogue.greet(&quic, garbage).await;
        assert!(refused(&quic).await.contains("not a greeting"));
    }
    // Nor does one who greets nobody stay connected.
    let quic = rogue.connect(handle.local_addr()).await;
    timeout(BOUND, quic.closed()).await.unwrap();
}

#[tokio::test]
async fn a_member_of_a_version_that_is_not_known_is_named_to_the_joiner() {
    let token = Token::generate().unwrap();
    let rogue = Arc::new(Rogue::new(&token));
    let addr = rogue.endpoint.local_addr().unwrap();
    let member = rogue.clone();
    tokio::spawn(async move {
        while let Some(incoming) = member.endpoint.accept().await {
            let quic = incoming.await.unwrap();
            let (mut send, mut receive) = quic.accept_bi().await.unwrap();
            receive.read_to_end(MAX_HELLO_BYTES).await.unwrap();
            let hello = Hello { versions: (40, 41), ..member.hello.clone() };
            send.write_all(&hello.encode()).await.unwrap();
            send.finish().unwrap();
            quic.closed().await;
        }
    });
    let (_handle, mut reports) = node(&token, vec![addr.to_string()]).await;
    let error = timeout(BOUND, async {
        loop {
            if let FromGossip::SeedFailed { error, .. } = reports.recv().await.unwrap() {
                return error;
            }
        }
    });
    let error = error.await.unwrap();
    assert_eq!(error, DialError::Version { addr, theirs: (40, 41), ours: PROTOCOL_VERSIONS });
}

#[tokio::test]
async fn a_dial_that_is_overtaken_by_the_peers_own_greets_nobody() {
    let token = Token::generate().unwrap();
    let (handle, _reports) = node(&token, Vec::new()).await;
    let mut rogue = Rogue::new(&token);
    let there = rogue.endpoint.local_addr().unwrap();
    handle.set_peers([(rogue.id, there)].into());
    // The node dials, and its handshake is held up until the rogue's own dial is through. A greeting
    // after that would name the rogue's connection as one that the node has given up.
    let dial = timeout(BOUND, rogue.endpoint.accept()).await.unwrap().unwrap();
    let quic = rogue.join(handle.local_addr()).await;
    let overtaken = dial.await.unwrap();
    assert_eq!(refused(&overtaken).await, "connected meanwhile");
    assert!(quic.close_reason().is_none());
}

#[tokio::test]
async fn when_a_dialler_gives_up_the_connection_that_was_replaced_is_used_again() {
    let token = Token::generate().unwrap();
    let (handle, mut reports) = node(&token, Vec::new()).await;
    let mut rogue = Rogue::new(&token);
    let first = rogue.join(handle.local_addr()).await;
    rogue.hello.nonce += 1;
    let second = rogue.connect(handle.local_addr()).await;
    let answer = rogue.greet(&second, &rogue.hello.encode()).await.unwrap();
    assert_eq!(answer.verdict, Verdict::Welcome);
    let send_one = async |on: &quinn::Connection| {
        handle.send(rogue.id, Message::Ping { seq: 1 }).unwrap();
        let sent = async { while on.read_datagram().await.unwrap()[0] != TAG_CORE {} };
        timeout(BOUND, sent).await.unwrap();
    };
    send_one(&second).await;
    second.close(0u32.into(), b"gave up");
    // Sent until the node has heard of the end of the second.
    let again = async {
        loop {
            handle.send(rogue.id, Message::Ping { seq: 1 }).unwrap();
            let found = timeout(Duration::from_millis(20), first.read_datagram()).await;
            if found.is_ok_and(|datagram| datagram.unwrap()[0] == TAG_CORE) {
                return;
            }
        }
    };
    timeout(BOUND, again).await.unwrap();
    assert_eq!(handle.stats().connections.len(), 1);
    while let Ok(report) = reports.try_recv() {
        assert!(!matches!(report, FromGossip::Disconnected { .. }));
    }
}

#[tokio::test]
async fn many_may_join_in_the_same_moment() {
    let token = Token::generate().unwrap();
    let (handle, _reports) = node(&token, Vec::new()).await;
    let to = handle.local_addr();
    let all: Vec<_> = (0..40)
        .map(|_| {
            let mut rogue = Rogue::new(&token);
            tokio::spawn(async move {
                let quic = rogue.join(to).await;
                (rogue, quic)
            })
        })
        .collect();
    let mut joined = Vec::new();
    for task in all {
        joined.push(timeout(BOUND, task).await.unwrap().unwrap());
    }
    assert_eq!(handle.stats().connections.len(), 40);
}
