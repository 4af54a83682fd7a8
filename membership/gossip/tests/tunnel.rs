//! Packets of containers: they arrive whatever their size, over and over, from members only, and beside the news.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use gossip::tunnel::{MAX_PACKET_BYTES, Tunnel};
use membership::id::NodeId;
use membership::message::Message;
use support::{BOUND, pair};
use tokio::sync::mpsc;
use tokio::time::timeout;

type Inbox = mpsc::Receiver<(NodeId, Bytes)>;

/// Sends until it arrives, as whoever sends packets has to.
async fn arrives(tunnel: &Tunnel, from: NodeId, to: NodeId, inbox: &mut Inbox, packet: &Bytes) {
    let arrived = async {
        loop {
            tunnel.send(to, packet.clone());
            let next = timeout(Duration::from_millis(200), inbox.recv()).await;
            if let Ok(Some((sender, found))) = next
                && found == *packet
            {
                assert_eq!(sender, from);
                return;
            }
        }
    };
    timeout(BOUND, arrived).await.unwrap();
}

fn packet(bytes: usize, mark: u8) -> Bytes {
    vec![mark; bytes].into()
}

#[tokio::test]
async fn packets_of_all_sizes_arrive_both_ways() {
    let (a, b) = pair().await;
    let ((to_b, mut at_a), (to_a, mut at_b)) = (a.handle.tunnel(), b.handle.tunnel());
    for (mark, bytes) in
        [1, 60, 1150, 1300, 1400, 1500, 4000, MAX_PACKET_BYTES].into_iter().enumerate()
    {
        let packet = packet(bytes, mark as u8);
        arrives(&to_b, a.id(), b.id(), &mut at_b, &packet).await;
        arrives(&to_a, b.id(), a.id(), &mut at_a, &packet).await;
    }
    let carried = a.handle.stats().packets;
    assert!(carried.messages_out >= 8 && carried.bytes_out > 10_000, "{carried:?}");
    // Larger ones are nobody's packets.
    let dropped = a.handle.stats().drops.packets;
    to_b.send(b.id(), packet(MAX_PACKET_BYTES + 1, 9));
    to_b.send(b.id(), Bytes::new());
    assert_eq!(a.handle.stats().drops.packets, dropped + 2);
}

#[tokio::test]
async fn news_passes_a_flood_of_packets() {
    let (a, mut b) = pair().await;
    let ((to_b, _at_a), (_to_a, mut at_b)) = (a.handle.tunnel(), b.handle.tunnel());
    arrives(&to_b, a.id(), b.id(), &mut at_b, &packet(1000, 0)).await;
    let reader = tokio::spawn(async move {
        let mut bytes = 0;
        while let Some((_, packet)) = at_b.recv().await {
            bytes += packet.len();
        }
        bytes
    });
    for round in 0..50 {
        for _ in 0..200 {
            to_b.send(b.id(), packet(1100, 1));
        }
        // A datagram may be lost where the system's buffers are small, so it is sent until it is there.
        let news = async {
            loop {
                a.handle.send(b.id(), Message::Ping { seq: round }).unwrap();
                let heard = timeout(Duration::from_millis(250), b.message(a.id())).await;
                if heard == Ok(Message::Ping { seq: round }) {
                    return;
                }
            }
        };
        timeout(BOUND, news).await.unwrap();
    }
    drop((to_b, a, b));
    let bytes = timeout(BOUND, reader).await.unwrap().unwrap();
    assert!(bytes > 100_000, "{bytes}");
}

#[tokio::test]
async fn a_removed_member_gets_no_packets_through() {
    let (a, b) = pair().await;
    let ((to_b, _at_a), (_to_a, mut at_b)) = (a.handle.tunnel(), b.handle.tunnel());
    arrives(&to_b, a.id(), b.id(), &mut at_b, &packet(100, 1)).await;
    b.handle.set_refused(BTreeSet::from([a.id()]));
    while at_b.try_recv().is_ok() {}
    for _ in 0..20 {
        to_b.send(b.id(), packet(100, 2));
        let next = timeout(Duration::from_millis(50), at_b.recv()).await;
        assert!(next.is_err(), "{next:?}");
    }
    // Taken in again, its packets pass again.
    b.handle.set_refused(BTreeSet::new());
    arrives(&to_b, a.id(), b.id(), &mut at_b, &packet(100, 3)).await;
}
