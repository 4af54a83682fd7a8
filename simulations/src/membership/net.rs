//! The network of a membership run: what was sent and has not arrived, in virtual milliseconds.
//!
//! Everything that nodes say to each other goes through [`Net`], the core's messages and chitchat's alike:
//! it is counted, lost or delayed here. Loss strikes each message by itself, whatever its size. That is
//! harsher than the product's network, where a message larger than a packet is a QUIC stream and
//! its lost packets are sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Serializable};
use membership::id::CellId;
use membership::message::{Envelope, Message};
use membership::wire;
use node::io::Input;
use serde::Serialize;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::chance::Chance;

/// chitchat's messages that wait for its loop, as in the product. Further ones are dropped.
const INBOX: usize = 128;
/// The frame tag that the product puts before every message.
const TAG_BYTES: u64 = 1;
/// How long a message is under way, ms: tokio's timers know nothing smaller than one.
const DELAY_MS: (u64, u64) = (1, 3);

/// Number of a node in its run.
pub(crate) type Ix = usize;
/// What arrived for a chitchat, and from where.
type Parcel = (SocketAddr, ChitchatMessage);

/// What happens later.
pub(crate) enum Event {
    Start(Ix),
    Dialled(Ix, Ix),
    Core {
        from: Ix,
        to: Ix,
        message: Message,
    },
    Chitchat {
        from: SocketAddr,
        to: Ix,
        message: ChitchatMessage,
    },
    Input {
        to: Ix,
        input: Box<Input>,
    },
    /// Its connections have been silent for so long that all give them up.
    Silent(Ix),
}

/// Messages and bytes sent, lost ones included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sent {
    pub messages: u64,
    pub bytes: u64,
}

/// What was sent, by class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Pings, also for others, and their answers.
    pub probes: Sent,
    /// Pushed facts, and asking for them.
    pub facts: Sent,
    /// Desired state: comparing it, and sending what differs.
    pub records: Sent,
    pub chitchat: Sent,
}

impl Sent {
    fn add(&mut self, bytes: u64) {
        self.messages += 1;
        self.bytes += bytes + TAG_BYTES;
    }

    fn since(self, before: Self) -> Self {
        Self { messages: self.messages - before.messages, bytes: self.bytes - before.bytes }
    }
}

impl Traffic {
    fn class(&mut self, message: &Message) -> &mut Sent {
        match message {
            Message::Ping { .. }
            | Message::Ack { .. }
            | Message::PingFor { .. }
            | Message::IndirectAck { .. }
            | Message::Time { .. } => &mut self.probes,
            Message::Facts(_) | Message::Hello { .. } | Message::Welcome { .. } => &mut self.facts,
            Message::Records { .. } | Message::Stored(_) | Message::Sync(_) | Message::Leaving => {
                &mut self.records
            }
        }
    }

    /// What was sent since `before`, an earlier reading of the same counters.
    pub(crate) fn since(&self, before: &Self) -> Self {
        Self {
            probes: self.probes.since(before.probes),
            facts: self.facts.since(before.facts),
            records: self.records.since(before.records),
            chitchat: self.chitchat.since(before.chitchat),
        }
    }
}

pub(crate) struct Net {
    chance: Chance,
    loss_per_mille: u32,
    queue: BTreeMap<(u64, u64), Event>,
    next: u64,
    began: Instant,
    by_addr: BTreeMap<SocketAddr, Ix>,
    inboxes: BTreeMap<Ix, mpsc::Sender<Parcel>>,
    /// Connections that are up: the smaller number first.
    connected: BTreeSet<(Ix, Ix)>,
    pub(crate) traffic: Traffic,
}

fn pair(a: Ix, b: Ix) -> (Ix, Ix) {
    (a.min(b), a.max(b))
}

impl Net {
    fn delay(&mut self) -> u64 {
        self.chance.between(DELAY_MS.0, DELAY_MS.1)
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn later(&mut self, after_ms: u64, event: Event) {
        self.next += 1;
        let key = (self.now() + after_ms, self.next);
        self.queue.insert(key, event);
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn take_due(&mut self, now: u64) -> Option<Event> {
        let due = self.next_due().is_some_and(|at| at <= now);
        due.then(|| self.queue.pop_first()).flatten().map(|(_, event)| event)
    }

    pub(crate) fn is_connected(&self, a: Ix, b: Ix) -> bool {
        self.connected.contains(&pair(a, b))
    }

    /// False if they were already.
    pub(crate) fn connect(&mut self, a: Ix, b: Ix) -> bool {
        self.connected.insert(pair(a, b))
    }

    pub(crate) fn disconnect(&mut self, gone: Ix) {
        self.connected.retain(|(a, b)| *a != gone && *b != gone);
    }

    /// Nothing that arrives reaches its chitchat any more.
    pub(crate) fn close(&mut self, gone: Ix) {
        self.inboxes.remove(&gone);
    }

    pub(crate) fn send(&mut self, from: Ix, to: Ix, message: Message) {
        if !self.is_connected(from, to) {
            return;
        }
        let envelope = Envelope { cell: CellId(0), message };
        // What cannot be encoded cannot be sent: the product drops it as well.
        let Ok(bytes) = wire::encode(&envelope) else { return };
        let message = envelope.message;
        self.traffic.class(&message).add(bytes.len() as u64);
        self.carry(Event::Core { from, to, message });
    }

    fn carry(&mut self, event: Event) {
        if !self.chance.per_mille(self.loss_per_mille) {
            let after = self.delay();
            self.later(after, event);
        }
    }

    fn send_chitchat(&mut self, from: Ix, source: SocketAddr, to: SocketAddr, m: ChitchatMessage) {
        let Some(to) = self.by_addr.get(&to).copied().filter(|to| self.is_connected(from, *to))
        else {
            return;
        };
        self.traffic.chitchat.add(m.serialized_len() as u64);
        self.carry(Event::Chitchat { from: source, to, message: m });
    }

    pub(crate) fn deliver_chitchat(&self, from: SocketAddr, to: Ix, message: ChitchatMessage) {
        if let Some(inbox) = self.inboxes.get(&to) {
            // A full inbox drops: a later exchange says more.
            let _ = inbox.try_send((from, message));
        }
    }
}

/// The network as nodes and the driver share it.
#[derive(Clone)]
pub(crate) struct Shared {
    net: Arc<Mutex<Net>>,
    /// Something was sent: the driver looks again when it is due.
    pub(crate) news: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(chance: Chance, loss_per_mille: u32, addrs: &[SocketAddr]) -> Self {
        let net = Net {
            chance,
            loss_per_mille,
            queue: BTreeMap::new(),
            next: 0,
            began: Instant::now(),
            by_addr: addrs.iter().enumerate().map(|(ix, addr)| (*addr, ix)).collect(),
            inboxes: BTreeMap::new(),
            connected: BTreeSet::new(),
            traffic: Traffic::default(),
        };
        Self { net: Arc::new(Mutex::new(net)), news: Arc::default() }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Net> {
        self.net.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// chitchat's transport over the simulated network.
pub(crate) struct Carrier {
    pub(crate) shared: Shared,
    pub(crate) me: Ix,
    pub(crate) addr: SocketAddr,
}

struct CarrierSocket {
    shared: Shared,
    me: Ix,
    addr: SocketAddr,
    inbox: mpsc::Receiver<Parcel>,
}

#[async_trait]
impl Transport for Carrier {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(INBOX);
        self.shared.lock().inboxes.insert(self.me, sender);
        let shared = self.shared.clone();
        Ok(Box::new(CarrierSocket { shared, me: self.me, addr: self.addr, inbox }))
    }
}

#[async_trait]
impl Socket for CarrierSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.shared.lock().send_chitchat(self.me, self.addr, to, message);
        self.shared.news.notify_one();
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.inbox.recv().await.ok_or_else(|| anyhow::Error::msg("the node has ended"))
    }
}
