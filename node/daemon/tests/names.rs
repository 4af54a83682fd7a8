//! The name server as containers use it: datagrams and connections, changing pictures, names of others.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use daemon::network::names::{Upstream, serve};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RecordType;
use membership::id::{NetworkId, NodeId, ServiceId, TaskId};
use node::network::picture::{Attached, Backend, Network, Picture, Subnet};
use tokio::sync::watch;

/// Addresses of the loopback network that nobody has: the servers listen there as on a bridge that is to come.
fn gateway(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 77, std::process::id().to_le_bytes()[0], last)
}

fn network(gateway: Ipv4Addr, services: Vec<Attached>) -> Network {
    Network {
        name: "front".to_owned(),
        subnet: Subnet { first: Ipv4Addr::new(127, 77, 0, 0), prefix: 16 },
        vni: 1,
        internal: false,
        encrypted: false,
        open: false,
        mtu: None,
        virtual_range: Subnet { first: Ipv4Addr::new(127, 77, 0, 0), prefix: 24 },
        gateway,
        plain: Subnet { first: Ipv4Addr::new(127, 77, 1, 0), prefix: 24 },
        peers: BTreeMap::new(),
        services: (1..).map(ServiceId).zip(services).collect(),
    }
}

/// A service without a virtual address.
fn replicas(name: &str, count: u8) -> Attached {
    let backends = (1..=count).map(|slot| Backend {
        address: Ipv4Addr::new(10, 9, 8, slot),
        node: NodeId(1),
        local: false,
        task: TaskId(u128::from(slot)),
        slot_name: format!("{name}.{slot}"),
        hostname: None,
        ready: true,
        draining: false,
    });
    Attached {
        name: name.to_owned(),
        aliases: Vec::new(),
        address: None,
        backends: backends.collect(),
        ..Attached::default()
    }
}

fn picture(gateway: Ipv4Addr, services: Vec<Attached>) -> Arc<Picture> {
    let networks = BTreeMap::from([(NetworkId(1), network(gateway, services))]);
    Arc::new(Picture { networks, ..Picture::default() })
}

/// A port that is free for datagrams and connections on all the addresses.
fn free_port(addresses: &[Ipv4Addr]) -> u16 {
    for _ in 0..100 {
        let probe = UdpSocket::bind((addresses[0], 0)).unwrap();
        let port = probe.local_addr().unwrap().port();
        drop(probe);
        let free = |address: &Ipv4Addr| {
            UdpSocket::bind((*address, port)).is_ok() && TcpListener::bind((*address, port)).is_ok()
        };
        if addresses.iter().all(free) {
            return port;
        }
    }
    panic!("no free port on {addresses:?}");
}

fn client(server: Ipv4Addr, port: u16, mut ways: Vec<ConnectionConfig>) -> TokioResolver {
    for way in &mut ways {
        way.port = port;
    }
    let server = NameServerConfig::new(IpAddr::V4(server), true, ways);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.build().unwrap()
}

/// A client with an address of its own.
fn client_from(from: Ipv4Addr, server: Ipv4Addr, port: u16) -> TokioResolver {
    let mut way = ConnectionConfig::udp();
    way.bind_addr = Some(SocketAddr::from((from, 0)));
    client(server, port, vec![way])
}

async fn ask(client: &TokioResolver, name: &str) -> Vec<String> {
    match client.lookup(name, RecordType::A).await {
        Ok(found) => found.answers().iter().map(|one| one.data.to_string()).collect(),
        Err(error) if error.is_no_records_found() => Vec::new(),
        Err(error) => panic!("{name}: {error}"),
    }
}

/// Waits until a name has so many addresses.
async fn settles(client: &TokioResolver, name: &str, count: usize) {
    for _ in 0..200 {
        if ask(client, name).await.len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("{name} has {:?}", ask(client, name).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_follow_the_picture_and_large_ones_fit() {
    let here = gateway(1);
    let port = free_port(&[here]);
    let (tell, pictures) = watch::channel(picture(here, vec![replicas("web", 2)]));
    let server =
        tokio::spawn(serve(pictures, port, Upstream::from_file("/nonexistent".into(), port)));
    let udp = client(here, port, vec![ConnectionConfig::udp()]);
    let tcp = client(here, port, vec![ConnectionConfig::tcp()]);
    settles(&udp, "web.", 2).await;
    let mut both = ask(&tcp, "tasks.web.").await;
    both.sort();
    assert_eq!(both, ["10.9.8.1", "10.9.8.2"]);
    // A replica that is gone is gone at once.
    tell.send(picture(here, vec![replicas("web", 1)])).unwrap();
    settles(&udp, "web.", 1).await;
    // What no datagram holds is marked as cut off there, and comes whole over a connection.
    tell.send(picture(here, vec![replicas("web", 200)])).unwrap();
    settles(&tcp, "web.", 200).await;
    let cut_off = udp.lookup("web.", RecordType::A).await.unwrap_err();
    assert!(cut_off.to_string().contains("truncated"), "{cut_off}");
    let ways = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
    assert_eq!(ask(&client(here, port, ways), "web.").await.len(), 200);
    // An address that is no longer this host's is not answered on.
    tell.send(Arc::default()).unwrap();
    for _ in 0..200 {
        if UdpSocket::bind(SocketAddr::from((here, port))).is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    assert!(UdpSocket::bind(SocketAddr::from((here, port))).is_ok());
    // It ends with the sender of pictures.
    drop(tell);
    tokio::time::timeout(Duration::from_secs(30), server).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_of_others_are_asked_for_at_the_hosts_resolvers() {
    let (here, host) = (gateway(2), gateway(3));
    let port = free_port(&[here, host]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    // The host's resolver is another of these servers, which asks nobody.
    let (_host, pictures) = watch::channel(picture(host, vec![replicas("elsewhere", 3)]));
    tokio::spawn(serve(pictures, port, Upstream::from_file("/nonexistent".into(), port)));
    let (_here, pictures) = watch::channel(picture(here, vec![replicas("web", 2)]));
    tokio::spawn(serve(pictures, port, Upstream::from_file(file.clone(), port)));
    settles(&client(host, port, vec![ConnectionConfig::udp()]), "elsewhere.", 3).await;
    let udp = client(here, port, vec![ConnectionConfig::udp()]);
    settles(&udp, "web.", 2).await;
    // Nobody to ask: that is no answer, so that a client asks its other server.
    let refused = udp.lookup("elsewhere.", RecordType::A).await.unwrap_err();
    assert!(!refused.is_no_records_found(), "{refused}");
    std::fs::write(&file, format!("search example.org\nnameserver {host}\n")).unwrap();
    let udp = client(here, port, vec![ConnectionConfig::udp()]);
    settles(&udp, "elsewhere.", 3).await;
    settles(&udp, "web.", 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_services_own_resolvers_are_asked_for_what_no_network_knows() {
    let (here, other) = (gateway(4), gateway(5));
    let port = free_port(&[here, other]);
    let (_other, pictures) = watch::channel(picture(other, vec![replicas("elsewhere", 3)]));
    tokio::spawn(serve(pictures, port, Upstream::from_file("/nonexistent".into(), port)));
    // Who asks here is a replica of a service that names the other server; the host itself has none.
    let mut web = replicas("web", 2);
    web.backends[0].address = here;
    web.resolvers = vec![IpAddr::V4(other)];
    let (tell, pictures) = watch::channel(picture(here, vec![web.clone()]));
    tokio::spawn(serve(pictures, port, Upstream::from_file("/nonexistent".into(), port)));
    let udp = client_from(here, here, port);
    settles(&udp, "elsewhere.", 3).await;
    settles(&udp, "web.", 2).await;
    // A service that names nobody is left with the host's.
    web.resolvers.clear();
    tell.send(picture(here, vec![web])).unwrap();
    let unknown = udp.lookup("elsewhere.", RecordType::A).await.unwrap_err();
    assert!(!unknown.is_no_records_found(), "{unknown}");
}
