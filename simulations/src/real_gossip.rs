//! chitchat itself under the simulator's links: the gossip crate's own wiring of it, over a transport
//! whose packets are handed to the world, in a tokio runtime whose clock stands still but for us.
//!
//! chitchat draws its choices from the operating system. The program `simulations` answers for the system
//! (its `randomness`), so there one seed in one process is one run, to the byte; elsewhere a run
//! with it measures and is not replayed. The clock goes forward in steps of [`STEP`], and what is sent
//! within one step is on its way from the end of it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Serializable};
use gossip::facts::{FactGossip, FactGossipConfig};
use gossip::{FromGossip, Unsigned};
use membership::fact::SignedFact;
use membership::id::{CellId, Incarnation, NodeId};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::chance::Chance;
use crate::cores::CLUSTER;
use crate::gossip::{Carrier, GossipOut, Outgoing, Payload};
use crate::host::addr_of;
use crate::links::HostIx;
use crate::time::{At, Span};

const STEP: Span = Span::ms(5);
/// Packets that wait for one chitchat, and reports that wait for the world; more are dropped.
const BUFFER: usize = 4096;

type Packet = (SocketAddr, ChitchatMessage);

/// What is between the sockets and the world.
#[derive(Default)]
struct Wire {
    sent: Vec<(SocketAddr, SocketAddr, ChitchatMessage)>,
    inboxes: BTreeMap<SocketAddr, mpsc::Sender<Packet>>,
}

#[derive(Clone, Default)]
struct Ether(Arc<Mutex<Wire>>);

impl Ether {
    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct EtherSocket {
    ether: Ether,
    addr: SocketAddr,
    inbox: mpsc::Receiver<Packet>,
}

#[async_trait]
impl Transport for Ether {
    async fn open(&self, addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let (sender, inbox) = mpsc::channel(BUFFER);
        self.wire().inboxes.insert(addr, sender);
        Ok(Box::new(EtherSocket { ether: self.clone(), addr, inbox }))
    }
}

#[async_trait]
impl Socket for EtherSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        self.ether.wire().sent.push((self.addr, to, message));
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<Packet> {
        self.inbox.recv().await.ok_or_else(|| anyhow::Error::msg("the socket was replaced"))
    }
}

struct Side {
    facts: FactGossip,
    reports: mpsc::Receiver<FromGossip>,
    incarnation: Incarnation,
    frozen: bool,
}

/// The `real` carrier.
pub struct Chitchat {
    runtime: Runtime,
    origin: Instant,
    reached: At,
    ether: Ether,
    hosts: BTreeMap<SocketAddr, HostIx>,
    sides: BTreeMap<HostIx, Side>,
}

impl fmt::Debug for Chitchat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chitchat").field("sides", &self.sides.len()).finish_non_exhaustive()
    }
}

impl Chitchat {
    /// # Errors
    /// When the runtime cannot be made (the machine is out of file descriptors).
    pub fn new() -> std::io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()?;
        let origin = runtime.block_on(async { Instant::now() });
        Ok(Self {
            runtime,
            origin,
            reached: At::ZERO,
            ether: Ether::default(),
            hosts: BTreeMap::new(),
            sides: BTreeMap::new(),
        })
    }

    fn collect(&mut self, out: &mut GossipOut) {
        for (from, to, message) in std::mem::take(&mut self.ether.wire().sent) {
            let (Some(from), Some(to)) = (self.hosts.get(&from), self.hosts.get(&to)) else {
                continue;
            };
            if self.sides.get(from).is_none_or(|side| side.frozen) {
                continue;
            }
            let bytes = message.serialized_len();
            let payload = Payload::Real(Box::new(message));
            out.sends.push(Outgoing { from: *from, to: *to, bytes, payload });
        }
        for (host, side) in &mut self.sides {
            while let Ok(report) = side.reports.try_recv() {
                match report {
                    FromGossip::Fact(fact) => out.facts.push((*host, fact)),
                    FromGossip::IncarnationNeeded { above, .. } => {
                        side.incarnation = Incarnation(side.incarnation.max(above).0 + 1);
                        side.facts.set_incarnation(side.incarnation);
                    }
                    _ => {}
                }
            }
        }
    }
}

impl Carrier for Chitchat {
    fn start(
        &mut self,
        _: At,
        host: HostIx,
        id: NodeId,
        incarnation: Incarnation,
        seeds: &[HostIx],
    ) {
        self.stop(host);
        let addr = addr_of(host);
        self.hosts.insert(addr, host);
        let (out, reports) = mpsc::channel(BUFFER);
        let config = FactGossipConfig {
            cluster: CLUSTER,
            cell: CellId(0),
            generation: incarnation,
            advertise: addr,
            pace: gossip::Pace::Lan,
        };
        let (ether, signer) = (Arc::new(self.ether.clone()), Arc::new(Unsigned(id)));
        let _guard = self.runtime.enter();
        let facts = FactGossip::spawn(config, ether, signer, out);
        for seed in seeds.iter().filter(|seed| **seed != host) {
            facts.greet(addr_of(*seed));
        }
        self.sides.insert(host, Side { facts, reports, incarnation, frozen: false });
    }

    fn stop(&mut self, host: HostIx) {
        let _guard = self.runtime.enter();
        self.sides.remove(&host);
        self.ether.wire().inboxes.remove(&addr_of(host));
    }

    fn freeze(&mut self, _: At, host: HostIx, frozen: bool) {
        if let Some(side) = self.sides.get_mut(&host) {
            side.frozen = frozen;
        }
    }

    fn connected(&mut self, _: At, host: HostIx, peer: HostIx, _: &mut GossipOut) {
        if let Some(side) = self.sides.get(&host) {
            side.facts.greet(addr_of(peer));
        }
    }

    fn publish(&mut self, _: At, host: HostIx, fact: SignedFact) {
        if let Some(side) = self.sides.get(&host) {
            let _guard = self.runtime.enter();
            // Refusals concern sizes and owners; the core is checked for those elsewhere.
            let _ = side.facts.publish(fact);
        }
    }

    fn deliver(&mut self, _: At, to: HostIx, from: HostIx, payload: Payload, _: &mut GossipOut) {
        let Payload::Real(message) = payload else { return };
        if let Some(inbox) = self.ether.wire().inboxes.get(&addr_of(to)) {
            // A full inbox drops, as a socket does.
            let _ = inbox.try_send((addr_of(from), *message));
        }
    }

    fn next_due(&self) -> Option<At> {
        (!self.sides.is_empty()).then(|| self.reached + STEP)
    }

    fn due(&mut self, at: At, _: &mut Chance, out: &mut GossipOut) {
        let until = self.origin + Duration::from_micros(at.0);
        self.runtime.block_on(async move { tokio::time::sleep_until(until).await });
        self.reached = self.reached.max(at);
        self.collect(out);
    }
}
