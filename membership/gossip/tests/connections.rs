//! Connections: restarts, moves, crossing dials, big and small messages, hostile bytes, silent hosts.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use gossip::{DisconnectReason, FromGossip, HostAnswer, SendError, Token};
use membership::clock::Stamp;
use membership::fact::FactKey;
use membership::id::{CellId, Incarnation, NodeId};
use membership::message::Message;
use membership::record::{Key, Kind, MAX_BODY_BYTES, Record};
use support::{BOUND, Node, Setup, pair, setup};

fn records(writer: NodeId, bytes: usize) -> Message {
    let record = Record {
        cell: CellId(0),
        key: Key { kind: Kind::Config, id: 1 },
        stamp: Stamp { ms: 1, counter: 0 },
        writer,
        ancestors: Vec::new(),
        body: Some(vec![7; bytes]),
    };
    Message::Records { records: vec![record], confirm: false }
}

#[tokio::test]
async fn crossing_dials_end_in_one_connection_that_stays() {
    let token = Token::generate().unwrap();
    for _ in 0..10 {
        let mut a = setup(&token).start().await;
        let mut b = setup(&token).start().await;
        // Messages to each other force both to dial in the same moment.
        a.handle.set_peers(BTreeMap::from([(b.id(), b.handle.advertised())]));
        b.handle.set_peers(BTreeMap::from([(a.id(), a.handle.advertised())]));
        a.handle.send(b.id(), Message::Ping { seq: 1 }).unwrap();
        b.handle.send(a.id(), Message::Ping { seq: 2 }).unwrap();
        let (a_id, b_id) = (a.id(), b.id());
        assert_eq!(a.message(b_id).await, Message::Ping { seq: 2 });
        assert_eq!(b.message(a_id).await, Message::Ping { seq: 1 });
        // Both hold the same one, and go on holding it: dialled by one, accepted by the other.
        let one = Instant::now();
        let mut settled = None;
        while one.elapsed() < BOUND {
            let (from_a, from_b) = (a.peers().get(&b_id).copied(), b.peers().get(&a_id).copied());
            if let (Some(x), Some(y)) = (from_a, from_b)
                && x != y
            {
                settled = Some(x);
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(settled.is_some(), "one connection: {:?} {:?}", a.peers(), b.peers());
        let mut ended = 0;
        for node in [&mut a, &mut b] {
            while let Ok(report) = node.reports.try_recv() {
                ended += usize::from(matches!(report, FromGossip::Disconnected { .. }));
            }
        }
        assert_eq!(ended, 0, "the daemon is not told of the twin that went");
    }
}

/// Runs a node in a runtime of its own and takes that away: nothing more is sent, as in a crash.
async fn crash(setup: Setup, peer: &mut Node) -> (tempfile::TempDir, SocketAddr) {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = runtime.spawn(setup.start()).await.unwrap();
    peer.connected(node.id()).await;
    let addr = node.handle.local_addr();
    // The handle says goodbye when it is dropped: not before there is nothing left that could send it.
    let gone = move || runtime.shutdown_timeout(Duration::from_secs(5));
    tokio::task::spawn_blocking(gone).await.unwrap();
    (node.dir, addr)
}

#[tokio::test]
async fn a_crashed_node_that_is_back_is_noticed_at_once() {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let (dir, addr) = crash(setup(&token).seed(&a), &mut a).await;
    assert_eq!(a.peers().len(), 1, "nothing told a of the crash");
    let mut again = setup(&token);
    again.dir = dir;
    again.listen = addr;
    again.incarnation = 2;
    let b = again.start().await;
    let restarted = Instant::now();
    a.handle.send(b.id(), Message::Ping { seq: 1 }).unwrap();
    let reason = a
        .wait("the end of the old connection", |report| match report {
            FromGossip::Disconnected { peer, reason } if peer == b.id() => Some(reason),
            _ => None,
        })
        .await;
    // By QUIC's stateless reset; the idle timeout would take ten seconds.
    assert_eq!(reason, DisconnectReason::Restarted);
    assert!(restarted.elapsed() < Duration::from_secs(5), "{:?}", restarted.elapsed());
    assert_eq!(a.connected(b.id()).await, Incarnation(2));
}

#[tokio::test]
async fn a_later_run_that_dials_replaces_the_connection_of_the_crashed_one() {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let (dir, _) = crash(setup(&token).seed(&a), &mut a).await;
    let mut again = setup(&token).seed(&a);
    again.dir = dir;
    again.incarnation = 2;
    let b = again.start().await;
    assert_eq!(a.connected(b.id()).await, Incarnation(2));
    assert_eq!(a.peers().len(), 1);
}

#[tokio::test]
async fn a_node_that_comes_back_under_another_address_replaces_its_old_self() {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let mut b = setup(&token).seed(&a).start().await;
    let (a_id, b_id) = (a.id(), b.id());
    b.connected(a_id).await;
    a.connected(b_id).await;
    let old = b.handle.advertised();
    let dir = b.stop().await;
    let mut moved = setup(&token).seed(&a);
    moved.dir = dir;
    moved.incarnation = 2;
    let b = moved.start().await;
    assert_ne!(b.handle.advertised(), old);
    let addr = a
        .wait("the new address", |report| match report {
            FromGossip::Connected { peer, addr, .. } if peer == b_id && addr != old => Some(addr),
            _ => None,
        })
        .await;
    assert_eq!(addr, b.handle.advertised());
    assert_eq!(a.handle.stats().connections.len(), 1);
    assert_eq!(a.handle.stats().connections[0].addr, b.handle.advertised());
}

#[tokio::test]
async fn a_node_that_stops_says_so() {
    let (a, mut b) = pair().await;
    let a_id = a.id();
    a.handle.send(b.id(), Message::Leaving).unwrap();
    a.stop().await;
    assert_eq!(b.message(a_id).await, Message::Leaving);
    let reason = b
        .wait("the farewell", |report| match report {
            FromGossip::Disconnected { peer, reason } if peer == a_id => Some(reason),
            _ => None,
        })
        .await;
    assert_eq!(reason, DisconnectReason::Stopped);
}

#[tokio::test]
async fn the_largest_record_arrives_and_a_larger_message_is_refused() {
    let (a, mut b) = pair().await;
    let large = records(a.id(), MAX_BODY_BYTES);
    a.handle.send(b.id(), large.clone()).unwrap();
    assert_eq!(b.message(a.id()).await, large);
    let error = a.handle.send(b.id(), records(a.id(), 3 * 1024 * 1024)).unwrap_err();
    assert!(matches!(error, SendError::TooLarge { .. }));
    assert_eq!(a.handle.stats().streams.messages_out, 1);
}

/// Round trips of pings from `a` to `b`, which echoes, one after the other.
async fn pings(a: &mut Node, b: &mut Node, count: u64) -> Vec<Duration> {
    let (a_id, b_id) = (a.id(), b.id());
    let mut trips = Vec::new();
    for seq in 0..count {
        let sent = Instant::now();
        a.handle.send(b_id, Message::Ping { seq }).unwrap();
        loop {
            match b.message(a_id).await {
                Message::Ping { seq } => b.handle.send(a_id, Message::Ack { seq }).unwrap(),
                _ => continue,
            }
            break;
        }
        while a.message(b_id).await != (Message::Ack { seq }) {}
        trips.push(sent.elapsed());
    }
    trips.sort();
    trips
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn probes_pass_the_bulk_that_waits() {
    let (mut a, mut b) = pair().await;
    let b_id = b.id();
    let quiet = pings(&mut a, &mut b, 50).await;
    // Seven of the largest records, one after the other through the same connection.
    let start = Instant::now();
    for _ in 0..7 {
        a.handle.send(b_id, records(a.id(), MAX_BODY_BYTES)).unwrap();
    }
    let busy = pings(&mut a, &mut b, 50).await;
    b.until("the bulk is there", |handle| handle.stats().streams.messages_in == 7).await;
    let bulk = start.elapsed();
    // The median under load stays far below what one record takes; behind the queue it would be as
    // long as all of them.
    assert!(busy[25] < bulk / 5, "quiet {:?}, busy {:?}, bulk {bulk:?}", quiet[25], busy[25]);
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let (a, b) = pair().await;
    // The lane holds 8 MiB; QUIC itself takes one more.
    for _ in 0..12 {
        a.handle.send(b.id(), records(a.id(), MAX_BODY_BYTES)).unwrap();
    }
    assert!(a.handle.stats().drops.queue_full > 0);
}

#[tokio::test]
async fn a_message_for_an_unknown_node_is_counted() {
    let (a, _b) = pair().await;
    a.handle.send(NodeId(12345), Message::Ping { seq: 1 }).unwrap();
    assert_eq!(a.handle.stats().drops.unconnected, 1);
}

#[tokio::test]
async fn a_message_to_a_known_node_waits_for_the_dial() {
    let token = Token::generate().unwrap();
    let a = setup(&token).start().await;
    let mut b = setup(&token).start().await;
    a.handle.set_peers(BTreeMap::from([(b.id(), b.handle.advertised())]));
    a.handle.send(b.id(), Message::Ping { seq: 1 }).unwrap();
    a.handle.send(b.id(), Message::Ping { seq: 2 }).unwrap();
    assert_eq!(b.message(a.id()).await, Message::Ping { seq: 1 });
    assert_eq!(b.message(a.id()).await, Message::Ping { seq: 2 });
}

#[tokio::test]
async fn pushed_facts_are_signed_on_the_way_out_and_checked_on_the_way_in() {
    let (a, mut b) = pair().await;
    let fact = a.fact(1, 1, FactKey::Health, b"fine");
    // Claims to be of a node that did not sign it.
    let mut forged = a.fact(1, 2, FactKey::Edges, b"down with b");
    forged.owner = b.id();
    forged.signature = vec![1; 96];
    a.handle.send(b.id(), Message::Facts(vec![fact.clone(), forged])).unwrap();
    let Message::Facts(facts) = b.message(a.id()).await else { panic!("facts") };
    assert_eq!(facts.len(), 1);
    assert_eq!((facts[0].owner, facts[0].value.as_deref()), (a.id(), Some(&b"fine"[..])));
    assert_eq!(facts[0].signature.len(), 96);
    assert_eq!(b.handle.stats().drops.forged_facts, 1);
}

#[tokio::test]
async fn a_host_without_shoal_refuses_and_a_silent_one_does_not() {
    let (mut a, b) = pair().await;
    let b_id = b.id();
    let addr = b.handle.local_addr();
    let answer = |target| {
        move |report| match report {
            FromGossip::HostAnswer { target: found, answer } if found == target => Some(answer),
            _ => None,
        }
    };
    a.handle.set_peers(BTreeMap::from([(b_id, addr)]));
    b.stop().await;
    a.handle.ask_host(b_id);
    assert_eq!(a.wait("an answer", answer(b_id)).await, HostAnswer::Refused);
    // A process that is frozen has both ports and answers on neither.
    let _silent = std::net::UdpSocket::bind(addr).unwrap();
    let _still = std::net::TcpListener::bind(addr).unwrap();
    a.handle.ask_host(b_id);
    assert_eq!(a.wait("an answer", answer(b_id)).await, HostAnswer::Silent);
}
