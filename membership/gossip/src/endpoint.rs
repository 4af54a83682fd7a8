//! One UDP socket for everything: QUIC server and client, and so one address for each node.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use quinn::{EndpointConfig, IdleTimeout, Incoming, TransportConfig, VarInt};
use quinn_proto::HashedConnectionIdGenerator;
use tokio::net::lookup_host;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::carrier::Carrier;
use crate::config::{Config, Pace, StartError};
use crate::counters::Counters;
use crate::dial;
use crate::facts::{FactGossip, FactGossipConfig};
use crate::greeting;
use crate::handle::{GossipHandle, OPEN_QUESTIONS};
use crate::identity::NodeKey;
use crate::net::{Net, Notices, pump};
use crate::peers::Peers;
use crate::receive::{LARGE_READS, STREAMS_PER_PEER};
use crate::report::{FromGossip, REPORTS};
use crate::signature::KeySigner;
use crate::tls::{self, Purpose, Roles};
use crate::tunnel::{self, Tunnels};

/// Handshakes that may be under way at once; further ones are ignored and come again.
const HANDSHAKES: usize = 128;

/// From this many handshakes on, a client must first prove that it is where it says (a QUIC retry), so
/// that forged addresses cannot take all the places.
const HANDSHAKES_UNPROVEN: usize = 16;

/// A connection that hears nothing for this long ends. The core finds out much sooner.
const IDLE: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// The running network side of a node.
#[derive(Debug)]
pub struct Gossip;

impl Gossip {
    /// Binds the socket, starts serving, dialling and gossiping.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then. An unreachable seed is no error: it is reported
    /// as [`FromGossip::SeedFailed`] and tried on.
    pub async fn start(
        config: Config,
    ) -> Result<(GossipHandle, mpsc::Receiver<FromGossip>), StartError> {
        for seed in &config.seeds {
            check_seed(seed)?;
        }
        let key = config.key;
        let roles = tls::roles(&key, &config.token).map_err(|reason| StartError::Key { reason })?;
        let tunnels = Tunnels::new(quinn::ClientConfig::new(roles.tunnel.clone()), config.pace);
        let (endpoint, client) = bind(config.listen, &key, roles, config.pace)?;
        let listen = StartError::listen(config.listen);
        let local = endpoint.local_addr().map_err(listen)?;
        let advertised = advertised(config.advertise, local, &config.seeds)
            .await
            .map_err(|source| StartError::NoAdvertise { source })?;

        let (reports, receiver) = mpsc::channel(REPORTS);
        let signer = Arc::new(KeySigner::new(key.clone()));
        let net = Arc::new(Net {
            me: key.id(),
            cluster: config.token.cluster(),
            cell: config.cell,
            instance: rand::random(),
            incarnation: AtomicU64::new(config.incarnation.0),
            local,
            advertised,
            pace: config.pace,
            endpoint,
            client,
            signer: signer.clone(),
            peers: Mutex::new(Peers::new(key.id(), advertised, config.pace)),
            counters: Arc::new(Counters::default()),
            tunnels,
            reports: reports.clone(),
            notices: Notices::default(),
            to_chitchat: Mutex::default(),
            facts: OnceLock::new(),
            dial: Notify::new(),
            large_reads: Semaphore::new(LARGE_READS),
            questions: Arc::new(Semaphore::new(OPEN_QUESTIONS)),
            scolded: Mutex::default(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        let facts = FactGossipConfig {
            cluster: net.cluster,
            cell: net.cell,
            generation: config.incarnation,
            advertise: advertised,
            pace: config.pace,
        };
        let carrier = Arc::new(Carrier(Arc::downgrade(&net)));
        // Set once, here.
        let _ = net.facts.set(FactGossip::spawn(facts, carrier, signer, reports));

        net.spawn(accept(net.clone()));
        net.spawn(dial::run(net.clone()));
        net.spawn(crate::host::sign_of_life(local));
        net.spawn(pump(net.clone()));
        for seed in config.seeds {
            net.spawn(dial::seed(net.clone(), seed));
        }
        info!(node = %net.me, cluster = %net.cluster, %local, %advertised, "listening for peers");
        Ok((GossipHandle::new(net), receiver))
    }
}

/// `HOST:PORT`; whether the name exists is found out later, and again and again.
fn check_seed(seed: &str) -> Result<(), StartError> {
    let well_formed = seed.parse::<SocketAddr>().is_ok()
        || seed.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && !host.contains(|c: char| c.is_whitespace() || c == ':' || c == '/')
                && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
    if well_formed { Ok(()) } else { Err(StartError::BadSeed { seed: seed.to_owned() }) }
}

fn bind(
    listen: SocketAddr,
    key: &NodeKey,
    roles: Roles,
    pace: Pace,
) -> Result<(quinn::Endpoint, quinn::ClientConfig), StartError> {
    let transport = Arc::new(transport(pace));
    let mut server = quinn::ServerConfig::with_crypto(roles.server);
    server.transport_config(transport.clone());
    server.max_incoming(HANDSHAKES).incoming_buffer_size(64 * 1024);
    let mut client = quinn::ClientConfig::new(roles.client);
    client.transport_config(transport);

    // A restarted node must be able to say "I do not know this connection" in a way that its peers
    // believe: the reset key and the key that marks its connection ids are the same at each start.
    // Without both, peers notice a restart only when the connection idles out (10 s against 0.2 ms).
    let reset = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key.derive("stateless reset"));
    let mut config = EndpointConfig::new(Arc::new(reset));
    let [a, b, c, d, e, f, g, h, ..] = key.derive("connection ids");
    let ids = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));

    let failed = || StartError::listen(listen);
    let socket = bind_socket(listen).map_err(failed())?;
    let endpoint =
        quinn::Endpoint::new(config, Some(server), socket, Arc::new(quinn::TokioRuntime))
            .map_err(failed())?;
    Ok((endpoint, client))
}

/// The standard library leaves a wildcard IPv6 socket as the system has it, which on Linux takes IPv4
/// as well unless `net.ipv6.bindv6only` says otherwise.
fn bind_socket(listen: SocketAddr) -> io::Result<std::net::UdpSocket> {
    std::net::UdpSocket::bind(listen)
}

/// Windows are small, since most connections are idle and there is one to each member: 512 KiB for a
/// stream and 1 MiB for a connection move a record of the largest size in a few round trips.
fn transport(pace: Pace) -> TransportConfig {
    let mut transport = TransportConfig::default();
    // Ten seconds are within what the type holds.
    transport.max_idle_timeout(IdleTimeout::try_from(IDLE).ok());
    transport
        .keep_alive_interval(Some(KEEP_ALIVE))
        .initial_rtt(pace.initial_rtt())
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_PER_PEER))
        .stream_receive_window(VarInt::from_u32(512 * 1024))
        .receive_window(VarInt::from_u32(1024 * 1024))
        .send_window(1024 * 1024)
        // Also for containers' packets, which come over connections that the peer made: see `tunnel`.
        .datagram_receive_buffer_size(Some(1024 * 1024))
        .datagram_send_buffer_size(64 * 1024);
    transport
}

/// Takes connections for ever.
async fn accept(net: Arc<Net>) {
    let places = Arc::new(Semaphore::new(HANDSHAKES));
    while let Some(incoming) = net.endpoint.accept().await {
        let Ok(place) = places.clone().try_acquire_owned() else {
            incoming.ignore();
            continue;
        };
        let crowded = HANDSHAKES - places.available_permits() > HANDSHAKES_UNPROVEN;
        if crowded && !incoming.remote_address_validated() && incoming.may_retry() {
            // Refused only when it was validated already.
            let _ = incoming.retry();
            continue;
        }
        let task = net.clone();
        net.spawn(async move {
            let _place = place;
            let from = incoming.remote_address();
            let admitted = timeout(task.pace.dial_deadline() * 2, admit(&task, incoming)).await;
            match admitted {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    task.counters.refused.add(1);
                    debug!(%from, %error, "a connection attempt failed");
                }
                Err(_) => {
                    task.counters.refused.add(1);
                    debug!(%from, "a connection attempt took too long");
                }
            }
        });
    }
}

async fn admit(net: &Arc<Net>, incoming: Incoming) -> Result<(), quinn::ConnectionError> {
    let quic = incoming.accept()?.await?;
    match tls::purpose_of(&quic) {
        Purpose::Members => greeting::acceptor(net, quic).await,
        Purpose::Packets => {
            // Its life is not that of a handshake, which has a deadline.
            let task = net.clone();
            net.spawn(async move { tunnel::receive(&task, quic).await });
            Ok(())
        }
    }
}

/// Fills in what `advertise` leaves open.
async fn advertised(
    advertise: SocketAddr,
    local: SocketAddr,
    seeds: &[String],
) -> io::Result<SocketAddr> {
    let port = if advertise.port() == 0 { local.port() } else { advertise.port() };
    if !advertise.ip().is_unspecified() {
        return Ok(SocketAddr::new(advertise.ip(), port));
    }
    if !local.ip().is_unspecified() {
        return Ok(SocketAddr::new(local.ip(), port));
    }
    for seed in seeds {
        let Ok(Ok(found)) = timeout(Duration::from_secs(3), lookup_host(seed)).await else {
            continue;
        };
        for addr in found {
            if let Ok(ip) = local_ip_towards(addr) {
                return Ok(SocketAddr::new(ip, port));
            }
        }
    }
    // Documentation addresses (RFC 5737, RFC 3849): nothing is sent to them, only a route is chosen.
    let four = SocketAddr::from(([192, 0, 2, 1], 9));
    let six = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9));
    local_ip_towards(four)
        .or_else(|error| if local.is_ipv6() { local_ip_towards(six) } else { Err(error) })
        .map(|ip| SocketAddr::new(ip, port))
}

/// The address from which this host would send to `to`. Sends nothing.
fn local_ip_towards(to: SocketAddr) -> io::Result<std::net::IpAddr> {
    let any: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = std::net::UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_host_and_port() {
        for good in ["10.0.0.1:7946", "[fd00::1]:7946", "node-1.example.org:7946", "localhost:1"] {
            assert!(check_seed(good).is_ok(), "{good}");
        }
        for bad in
            ["", "node-1", ":7946", "node:0", "node:99999", "fd00::1", "http://node:1", "a b:1"]
        {
            assert!(matches!(check_seed(bad), Err(StartError::BadSeed { .. })), "{bad}");
        }
    }

    #[tokio::test]
    async fn what_is_advertised_is_filled_in() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let fill = async |said, local, seeds: &[&str]| {
            let seeds: Vec<String> = seeds.iter().map(|seed| (*seed).to_owned()).collect();
            advertised(addr(said), addr(local), &seeds).await.ok()
        };
        assert_eq!(fill("1.2.3.4:0", "0.0.0.0:7", &[]).await, Some(addr("1.2.3.4:7")));
        assert_eq!(fill("1.2.3.4:9", "0.0.0.0:7", &[]).await, Some(addr("1.2.3.4:9")));
        assert_eq!(fill("0.0.0.0:0", "10.0.0.1:7", &[]).await, Some(addr("10.0.0.1:7")));
        assert_eq!(
            fill("0.0.0.0:0", "0.0.0.0:7", &["127.0.0.1:5"]).await,
            Some(addr("127.0.0.1:7"))
        );
    }
}
