//! The same wiring of chitchat in virtual time, over chitchat's own channels instead of QUIC.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{ChannelTransport, Socket, Transport};
use chitchat::{ChitchatMessage, Deserializable};
use gossip::facts::{FactGossip, FactGossipConfig, GRACE};
use gossip::{FromGossip, KeySigner, NodeKey, Pace, Signer, Unsigned};
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, ClusterId, Incarnation, NodeId};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

struct Sim {
    facts: FactGossip,
    reports: mpsc::Receiver<FromGossip>,
    node: NodeId,
    addr: SocketAddr,
}

fn addr(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

fn start<T: Transport + Clone>(n: u16, generation: u64, net: &T, signer: Arc<dyn Signer>) -> Sim {
    let (out, reports) = mpsc::channel(4096);
    let config = FactGossipConfig {
        cluster: ClusterId(1),
        cell: CellId(0),
        generation: Incarnation(generation),
        advertise: addr(n),
        pace: Pace::Lan,
    };
    let node = signer.node();
    let facts = FactGossip::spawn(config, Arc::new(net.clone()), signer, out);
    Sim { facts, reports, node, addr: addr(n) }
}

fn unsigned<T: Transport + Clone>(n: u16, net: &T) -> Sim {
    start(n, 1, net, Arc::new(Unsigned(NodeId(n.into()))))
}

fn fact(owner: NodeId, seq: u64, value: Option<&[u8]>) -> SignedFact {
    SignedFact {
        cell: CellId(0),
        owner,
        incarnation: Incarnation(1),
        seq,
        key: FactKey::Health,
        value: value.map(<[u8]>::to_vec),
        signature: Vec::new(),
    }
}

async fn next_fact(sim: &mut Sim) -> SignedFact {
    loop {
        if let FromGossip::Fact(fact) = sim.reports.recv().await.unwrap() {
            return fact;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn forty_nodes_agree_within_seconds_of_virtual_time() {
    let net = ChannelTransport::with_mtu(65_507);
    let mut all: Vec<Sim> = (1..=40).map(|n| unsigned(n, &net)).collect();
    for sim in &all {
        sim.facts.publish(fact(sim.node, 1, Some(b"here"))).unwrap();
        sim.facts.greet(all[0].addr);
    }
    let began = Instant::now();
    for sim in &mut all {
        let mut heard = BTreeMap::new();
        while heard.len() < 39 {
            let fact = timeout(Duration::from_secs(60), next_fact(sim)).await.unwrap();
            heard.insert(fact.owner, fact.seq);
        }
    }
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert!(all.iter().all(|sim| sim.facts.stats().members == 40));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_is_gone_is_forgotten_after_the_grace() {
    let net = ChannelTransport::with_mtu(65_507);
    let (mut a, b) = (unsigned(1, &net), unsigned(2, &net));
    b.facts.publish(fact(b.node, 1, Some(b"here"))).unwrap();
    b.facts.greet(a.addr);
    next_fact(&mut a).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(a.facts.stats().members, 2);
    b.facts.shutdown().await;
    tokio::time::sleep(GRACE / 2).await;
    assert_eq!(a.facts.stats().members, 2, "remembered for a while");
    tokio::time::sleep(GRACE).await;
    assert_eq!(a.facts.stats().members, 1);
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_is_news_and_then_gone_everywhere() {
    let net = ChannelTransport::with_mtu(65_507);
    let (mut a, b) = (unsigned(1, &net), unsigned(2, &net));
    b.facts.publish(fact(b.node, 1, Some(b"here"))).unwrap();
    b.facts.greet(a.addr);
    assert_eq!(next_fact(&mut a).await.seq, 1);
    b.facts.publish(fact(b.node, 2, None)).unwrap();
    let gone = next_fact(&mut a).await;
    assert_eq!((gone.seq, gone.value), (2, None));
    // Long after the grace the key can be used anew, and a stranger hears only of that.
    tokio::time::sleep(GRACE * 2).await;
    b.facts.publish(fact(b.node, 3, Some(b"again"))).unwrap();
    let mut c = unsigned(3, &net);
    c.facts.greet(b.addr);
    assert_eq!(next_fact(&mut c).await.seq, 3);
}

/// A network that hands messages over as they are. (chitchat's own packs each again and insists that
/// nothing changes by that, which no hand-made message passes.)
#[derive(Clone, Default)]
struct Hub(Arc<Mutex<Boxes>>);

type Boxes = BTreeMap<SocketAddr, mpsc::Sender<(SocketAddr, ChitchatMessage)>>;

struct HubSocket {
    hub: Hub,
    addr: SocketAddr,
    inbox: mpsc::Receiver<(SocketAddr, ChitchatMessage)>,
}

#[async_trait]
impl Transport for Hub {
    async fn open(&self, addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(4096);
        self.0.lock().unwrap().insert(addr, sender);
        Ok(Box::new(HubSocket { hub: self.clone(), addr, inbox }))
    }
}

#[async_trait]
impl Socket for HubSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        if let Some(inbox) = self.hub.0.lock().unwrap().get(&to) {
            let _ = inbox.try_send((self.addr, message));
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.inbox.recv().await.ok_or_else(|| anyhow::Error::msg("replaced"))
    }
}

/// A member that speaks chitchat itself and says what it likes.
struct Rogue {
    socket: Box<dyn Socket>,
}

impl Rogue {
    async fn new(n: u16, net: &Hub) -> Self {
        Self { socket: net.open(addr(n)).await.unwrap() }
    }

    async fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let message = ChitchatMessage::deserialize(&mut &bytes[..]).unwrap();
        self.socket.send(to, message).await.unwrap();
    }
}

fn id_bytes(node: NodeId, generation: u64, at: SocketAddr) -> Vec<u8> {
    let name = node.to_string();
    let mut out = (name.len() as u16).to_le_bytes().to_vec();
    out.extend(name.as_bytes());
    out.extend(generation.to_le_bytes());
    out.push(4);
    let SocketAddr::V4(at) = at else { unreachable!("the tests use IPv4") };
    out.extend(at.ip().octets());
    out.extend(at.port().to_le_bytes());
    out
}

fn syn(node: NodeId, generation: u64, at: SocketAddr) -> Vec<u8> {
    let mut out = vec![0x53, 0xb0, 0, 0, 1, 0];
    out.extend(id_bytes(node, generation, at));
    for number in [1u64, 0, 1] {
        out.extend(number.to_le_bytes());
    }
    let cluster = ClusterId(1).to_string();
    out.extend((cluster.len() as u16).to_le_bytes());
    out.extend(cluster.as_bytes());
    out
}

/// An ACK with one key, and then `max_version` if there is one.
fn ack(
    node: NodeId,
    generation: u64,
    at: SocketAddr,
    kv: (&str, &str, u64),
    max: Option<u64>,
) -> Vec<u8> {
    let mut ops = vec![0u8];
    ops.extend(id_bytes(node, generation, at));
    ops.extend([0; 16]);
    ops.push(1);
    for text in [kv.0, kv.1] {
        ops.extend((text.len() as u16).to_le_bytes());
        ops.extend(text.as_bytes());
    }
    ops.extend(kv.2.to_le_bytes());
    ops.push(0);
    if let Some(max) = max {
        ops.push(2);
        ops.extend(max.to_le_bytes());
    }
    let mut out = vec![0x53, 0xb0, 0, 2, 2];
    out.extend((ops.len() as u16).to_le_bytes());
    out.extend(ops);
    out.push(0);
    out
}

fn signed(signer: &KeySigner, seq: u64, value: &[u8]) -> SignedFact {
    let mut fact = fact(signer.node(), seq, Some(value));
    signer.sign(&mut fact);
    fact
}

fn text(fact: &SignedFact) -> String {
    use base64::Engine;
    let bytes = membership::wire::encode(fact).unwrap();
    base64::engine::general_purpose::STANDARD_NO_PAD.encode(bytes)
}

fn keys() -> Arc<KeySigner> {
    Arc::new(KeySigner::new(NodeKey::generate().unwrap()))
}

#[tokio::test(start_paused = true)]
async fn a_rightly_signed_fact_under_another_nodes_name_is_not_believed() {
    let net = Hub::default();
    let (a_keys, victim, rogue) = (keys(), keys(), keys());
    let mut a = start(1, 1, &net, a_keys);
    let mut mole = Rogue::new(9, &net).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    // The rogue's own fact in the victim's key space; then one with the victim's name on it.
    let own = signed(&rogue, 1, b"victim has left");
    let mut renamed = signed(&rogue, 2, b"victim has left");
    renamed.owner = victim.node();
    mole.send(a.addr, &syn(victim.node(), 1, addr(2))).await;
    mole.send(a.addr, &ack(victim.node(), 1, addr(2), ("health", &text(&own), 1), None)).await;
    mole.send(a.addr, &ack(victim.node(), 1, addr(2), ("health", &text(&renamed), 2), None)).await;
    // What the victim really signed is believed, whoever brings it.
    let real = signed(&victim, 1, b"fine");
    mole.send(a.addr, &ack(victim.node(), 1, addr(2), ("health", &text(&real), 3), None)).await;
    let heard = timeout(Duration::from_secs(10), next_fact(&mut a)).await.unwrap();
    assert_eq!(heard, real);
    // The first may have been overwritten before it was looked at.
    assert!(a.facts.stats().forged <= 2);
    // Alone, each is looked at and refused.
    for (version, bad) in [(4, &own), (5, &renamed)] {
        let before = a.facts.stats().forged;
        let kv = ("health", &*text(bad), version);
        mole.send(a.addr, &ack(victim.node(), 1, addr(2), kv, None)).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(a.facts.stats().forged, before + 1);
    }
    assert!(a.reports.try_recv().is_err(), "nothing of it was handed up");
}

#[tokio::test(start_paused = true)]
async fn what_others_write_into_our_keys_is_put_back() {
    let net = Hub::default();
    let (a_keys, rogue) = (keys(), keys());
    let a_id = a_keys.node();
    let a = start(1, 1, &net, a_keys);
    let mut b = start(2, 1, &net, keys());
    let ours = a.facts.publish(fact(a_id, 1, Some(b"fine"))).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut mole = Rogue::new(9, &net).await;
    let lie = text(&signed(&rogue, 1, b"dying"));
    mole.send(a.addr, &ack(a_id, 1, addr(1), ("health", &lie, 500), None)).await;
    mole.send(a.addr, &ack(a_id, 1, addr(1), ("nonsense", &lie, 501), None)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(a.facts.stats().forged, 2);
    // A node that comes later sees what a said.
    b.facts.greet(a.addr);
    let heard = timeout(Duration::from_secs(10), next_fact(&mut b)).await.unwrap();
    assert_eq!(heard, ours);
    assert_eq!(b.facts.stats().forged, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_kills_chitchat_costs_an_incarnation_and_no_facts() {
    let net = Hub::default();
    let mut a = start(1, 4, &net, keys());
    let ours = a.facts.publish(fact(a.node, 1, Some(b"fine"))).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut mole = Rogue::new(9, &net).await;
    // A delta whose highest version lies below its own keys: an assertion in chitchat.
    mole.send(a.addr, &ack(a.node, 4, addr(1), ("health", "x", 900), Some(600))).await;
    let asked = timeout(Duration::from_secs(10), a.reports.recv()).await.unwrap().unwrap();
    let FromGossip::IncarnationNeeded { above, .. } = asked else { panic!("{asked:?}") };
    assert_eq!(above, Incarnation(4));
    // Nothing happens under the spent number.
    a.facts.set_incarnation(Incarnation(4));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(a.reports.try_recv().is_err());
    a.facts.set_incarnation(Incarnation(5));
    let back = timeout(Duration::from_secs(60), a.reports.recv()).await.unwrap().unwrap();
    assert!(matches!(back, FromGossip::Restarted { incarnation: Incarnation(5) }));
    let mut b = start(2, 1, &net, keys());
    tokio::time::sleep(Duration::from_secs(1)).await;
    b.facts.greet(a.addr);
    assert_eq!(timeout(Duration::from_secs(10), next_fact(&mut b)).await.unwrap(), ours);
}

#[tokio::test(start_paused = true)]
async fn a_full_group_says_so_and_goes_on() {
    let net = Hub::default();
    let mut a = unsigned(1, &net);
    let mut mole = Rogue::new(9, &net).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    for n in 10..1300u32 {
        let at = SocketAddr::from(([10, 1, (n >> 8) as u8, n as u8], 7946));
        mole.send(a.addr, &syn(NodeId(n.into()), 1, at)).await;
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let full = timeout(Duration::from_secs(10), a.reports.recv()).await.unwrap().unwrap();
    assert!(matches!(full, FromGossip::GroupFull { members: 969, refused: Some(_) }), "{full:?}");
    assert!(a.facts.has_room_for(NodeId(10), addr(3)));
    assert!(!a.facts.has_room_for(NodeId(5000), addr(3)));
    // It still works: chitchat did not panic over its own digest.
    assert_eq!(a.facts.stats().restarts, 0);
    let mut b = unsigned(2, &net);
    let said = a.facts.publish(fact(a.node, 1, Some(b"fine"))).unwrap();
    b.facts.greet(a.addr);
    let heard = loop {
        let fact = timeout(Duration::from_secs(60), next_fact(&mut b)).await.unwrap();
        if fact.owner == a.node {
            break fact;
        }
    };
    assert_eq!(heard, said);
}
