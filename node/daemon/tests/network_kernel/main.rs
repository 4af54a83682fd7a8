//! The driver of networks against this machine's kernel, in network namespaces; needs root.

#![allow(clippy::unwrap_used)]

mod sandbox;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::time::Duration;

use membership::id::{NetworkId, NodeId, ServiceId, TaskId};
use node::network::devices::{bridge_name, tunnel_name};
use node::network::picture::{Attached, Backend, Ingress, Network, Peer, Picture, Subnet};
use node::slot::Protocol;
use sandbox::{Host, Sandbox, ask, eventually, inside, name_at, run};

const FRONT: NetworkId = NetworkId(u128::MAX);
const BACK: NetworkId = NetworkId(u128::MAX / 2);
const WEB: ServiceId = ServiceId(7);
const VIRTUAL: &str = "10.231.0.5:80";
const PUBLISHED: u16 = 8080;

fn second(network: NetworkId) -> u8 {
    if network == FRONT { 231 } else { 232 }
}

/// Each host has a block of its own: the number of the host is the third part of the address.
fn address(network: NetworkId, host: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, second(network), 8 + host, last)
}

fn gateway(network: NetworkId, host: u8) -> Ipv4Addr {
    address(network, host, 1)
}

fn network(id: NetworkId, me: u8, backends: Vec<Backend>) -> Network {
    let range = |third, prefix| Subnet { first: Ipv4Addr::new(10, second(id), third, 0), prefix };
    let peers = [1, 2].into_iter().filter(|host| *host != me).map(|host| {
        let address = IpAddr::from([192, 168, 77, host]);
        (NodeId(u128::from(host)), Peer { address, gateway: Some(gateway(id, host)) })
    });
    let web = Attached {
        name: "web".to_owned(),
        aliases: Vec::new(),
        address: Some(Ipv4Addr::new(10, second(id), 0, 5)),
        backends,
        ..Attached::default()
    };
    Network {
        name: format!("net{}", second(id)),
        subnet: range(0, 16),
        vni: u32::from(second(id)),
        internal: false,
        encrypted: false,
        open: false,
        mtu: None,
        virtual_range: range(0, 22),
        gateway: gateway(id, me),
        plain: range(8 + me, 28),
        peers: peers.collect(),
        services: BTreeMap::from([(WEB, web)]),
    }
}

fn backend(me: u8, host: u8, last: u8) -> Backend {
    Backend {
        address: address(FRONT, host, last),
        node: NodeId(u128::from(host)),
        local: host == me,
        task: TaskId(u128::from(last)),
        slot_name: format!("web.{last}"),
        hostname: None,
        ready: true,
        draining: false,
    }
}

/// What host `me` sees: these replicas, as (host, last part of the address), on the first network, with their port
/// published.
fn picture(me: u8, replicas: &[(u8, u8)]) -> Picture {
    let backends: Vec<Backend> =
        replicas.iter().map(|(host, last)| backend(me, *host, *last)).collect();
    let ingress = Ingress {
        service: WEB,
        protocol: Protocol::Tcp,
        published: PUBLISHED,
        target: sandbox::PORT,
        prefer_local: false,
        on_others: false,
        proxy: None,
        backends: backends.clone(),
    };
    let networks = BTreeMap::from([
        (FRONT, network(FRONT, me, backends)),
        (BACK, network(BACK, me, Vec::new())),
    ]);
    Picture { networks, ingress: vec![ingress], routes: Vec::new() }
}

const ALL: &[(u8, u8)] = &[(1, 20), (1, 21), (2, 20), (2, 21)];

/// Two hosts with two containers each on one network, and one each on another.
struct Scene {
    hosts: [Host; 2],
    /// Namespaces of the containers of the first network, by host.
    front: [Vec<String>; 2],
    back: [String; 2],
    sandbox: Sandbox,
}

fn scene() -> Scene {
    let mut sandbox = Sandbox::new();
    let hosts = [sandbox.host(1), sandbox.host(2)];
    let mut front = [Vec::new(), Vec::new()];
    let mut back = Vec::new();
    for (number, host) in (1..).zip(&hosts) {
        for id in [FRONT, BACK] {
            sandbox.bridge(host, &bridge_name(id), gateway(id, number));
        }
        let mut container = |id: NetworkId, name: String, last| {
            let (own, out) = (address(id, number, last), gateway(id, number));
            sandbox.container(host, &name, &bridge_name(id), own, out)
        };
        for last in [20, 21] {
            front[usize::from(number) - 1].push(container(FRONT, format!("f{number}{last}"), last));
        }
        back.push(container(BACK, format!("b{number}"), 20));
        host.show(picture(number, ALL));
    }
    let back = <[String; 2]>::try_from(back).unwrap();
    Scene { hosts, front, back, sandbox }
}

impl Scene {
    /// That all containers of the first network reach each other, also by the service's address.
    fn is_whole(&self) -> Result<(), String> {
        for from in self.front.iter().flatten() {
            for (host, last) in ALL {
                let to = format!("{}:80", address(FRONT, *host, *last));
                let name = name_at(from, &to).map_err(|e| format!("{from} to {to}: {e}"))?;
                if name != format!("f{host}{last}") {
                    return Err(format!("{name} answers at {to}"));
                }
            }
        }
        for from in self.front.iter().map(|on_host| &on_host[0]) {
            let answers = self.answers(from, VIRTUAL, 4)?;
            if answers.len() != 4 {
                return Err(format!("only {answers:?} answer {from}"));
            }
        }
        Ok(())
    }

    fn answers(&self, from: &str, at: &str, times: usize) -> Result<BTreeSet<String>, String> {
        (0..times).map(|_| name_at(from, at)).collect()
    }

    fn eventually_whole(&self, when: &str) {
        eventually(when, || self.is_whole());
    }
}

#[test]
fn containers_reach_those_of_their_own_network_on_any_host() {
    let scene = scene();
    scene.eventually_whole("at first");
    let [ours, theirs] = &scene.back;
    assert_eq!(name_at(ours, &format!("{}:80", address(BACK, 2, 20))), Ok("b2".to_owned()));
    // A neighbour on the same wire of another network, told the way.
    for from in [ours, theirs] {
        run(&format!("ip -n {from} route add 10.231.0.0/16 dev eth0"));
        assert!(name_at(from, &format!("{}:80", address(FRONT, 2, 20))).is_err());
        assert!(name_at(from, VIRTUAL).is_err());
    }
    assert_eq!(scene.hosts[0].complaints.borrow().as_slice(), &[] as &[String]);
}

#[test]
fn connections_are_spread_over_what_is_ready() {
    let mut scene = scene();
    scene.eventually_whole("at first");
    let from = scene.front[0][0].clone();
    // In turn, so eight connections reach four replicas, this container itself among them.
    assert_eq!(scene.answers(&from, VIRTUAL, 8).unwrap().len(), 4);
    // The host itself may ask too.
    assert_eq!(scene.answers(&scene.hosts[1].space, VIRTUAL, 8).unwrap().len(), 4);
    // Replicas see who asks.
    let (_, who) =
        (0..8).find_map(|_| ask(&from, VIRTUAL).ok().filter(|(n, _)| n == "f220")).unwrap();
    assert_eq!(who, address(FRONT, 1, 20).to_string());
    // An address that no service has is refused, and not answered by the host.
    assert!(name_at(&from, "10.231.0.77:80").unwrap_err().contains("refused"));

    let mut next = picture(1, ALL);
    let web = next.networks.get_mut(&FRONT).unwrap().services.get_mut(&WEB).unwrap();
    web.backends[0].ready = false;
    web.backends[1].draining = true;
    scene.hosts[0].show(next);
    eventually("only ready ones answer", || {
        let names = scene.answers(&from, VIRTUAL, 8)?;
        let ready = BTreeSet::from(["f220".to_owned(), "f221".to_owned()]);
        if names == ready { Ok(()) } else { Err(format!("{names:?}")) }
    });

    // From outside, on a host with replicas.
    let outside = scene.sandbox.machine(9);
    let (name, who) = (0..8)
        .find_map(|_| ask(&outside, "192.168.77.2:8080").ok().filter(|(n, _)| n.starts_with("f2")))
        .unwrap();
    assert_eq!(who, "192.168.77.9", "{name} is on that host and sees its client");
    assert_eq!(scene.answers(&outside, "192.168.77.2:8080", 8).unwrap().len(), 4);
    assert_eq!(scene.answers(&scene.hosts[1].space, "127.0.0.1:8080", 8).unwrap().len(), 4);

    // An engine's firewall: what is not let through by name does not pass, so only shoal's chain lets these in.
    let bridge = bridge_name(FRONT);
    let forward = |rule: &str| scene.hosts[1].run(&format!("iptables {rule}"));
    forward("-P FORWARD DROP");
    forward(&format!("-I FORWARD -i {bridge} -o {bridge} -j ACCEPT"));
    forward(&format!("-I FORWARD -i {bridge} ! -o {bridge} -j ACCEPT"));
    eventually("published ports pass the firewall", || {
        let names = scene.answers(&outside, "192.168.77.2:8080", 8)?;
        if names.len() == 4 { Ok(()) } else { Err(format!("{names:?}")) }
    });
    forward("-F SHOAL");
    let refused = ask(&outside, "192.168.77.2:8080");
    assert!(refused.is_err() || forward("-S SHOAL").contains("ACCEPT"), "{refused:?}");
}

#[test]
fn what_somebody_deletes_comes_back() {
    let scene = scene();
    scene.eventually_whole("at first");
    let host = &scene.hosts[0];
    let (bridge, tunnel) = (bridge_name(FRONT), tunnel_name(FRONT));
    let damages = [
        format!("ip link del {tunnel}"),
        format!("ip link del {bridge}"),
        "nft flush ruleset".to_owned(),
        format!("ip link set {tunnel} down"),
        format!("bridge fdb del 00:00:00:00:00:00 dev {tunnel}"),
        format!("ip route del local 10.231.0.0/22 dev {bridge}"),
        "nft flush chain ip shoal arriving".to_owned(),
        format!("ip addr del {}/16 dev {bridge}", gateway(FRONT, 1)),
        "busybox sysctl -w net.ipv4.ip_forward=0".to_owned(),
    ];
    for damage in &damages {
        host.run(damage);
        scene.eventually_whole(damage);
    }
    host.run("iptables -F SHOAL");
    eventually("the chain in the firewall", || {
        let rules = host.run("iptables -S SHOAL");
        if rules.contains("ACCEPT") { Ok(()) } else { Err(rules) }
    });
}

#[test]
fn a_killed_driver_leaves_traffic_flowing_and_the_next_one_takes_over() {
    let mut scene = scene();
    scene.eventually_whole("at first");
    let of_tunnel = |scene: &Scene| {
        let line = scene.hosts[0].run(&format!("ip -o link show {}", tunnel_name(FRONT)));
        line.split(':').next().map(str::to_owned)
    };
    let before = of_tunnel(&scene);
    scene.hosts[0].stop();
    assert_eq!(scene.is_whole(), Ok(()));
    scene.hosts[0].start();
    // It has looked at everything when it mends again.
    scene.hosts[0].run("nft delete table ip shoal");
    scene.eventually_whole("after the next start");
    assert_eq!(of_tunnel(&scene), before, "the same device");

    for host in &mut scene.hosts {
        host.stop();
        host.clear();
        let links = host.run("ip -o link");
        assert!(!links.contains(" sv"), "{links}");
        assert!(!host.run("nft list tables").contains("shoal"));
        assert!(!host.run("iptables -S").contains("SHOAL"));
        assert!(!host.run("ip route show table local").contains("/22"));
    }
}

#[test]
fn connections_to_a_replica_that_is_gone_end_at_once() {
    let scene = scene();
    scene.eventually_whole("at first");
    let host = &scene.hosts[0];
    host.show(picture(1, &[(2, 20)]));
    let from = scene.front[0][0].clone();
    eventually("one replica is left", || {
        let names = scene.answers(&from, VIRTUAL, 4)?;
        if names.len() == 1 { Ok(()) } else { Err(format!("{names:?}")) }
    });
    // A server that keeps its connections.
    let other = scene.front[1][0].clone();
    let listener = inside(&other, || std::net::TcpListener::bind(("0.0.0.0", 81)).unwrap());
    let listener = listener.join().unwrap();
    let mut client = inside(&from, || TcpStream::connect("10.231.0.5:81").unwrap()).join().unwrap();
    let (mut server, _) = listener.accept().unwrap();
    server.write_all(b"hello").unwrap();
    client.read_exact(&mut [0; 5]).unwrap();
    // Its host goes, without a word to the client.
    run(&format!("ip -n {} link set eth0 down", scene.hosts[1].space));
    host.show(picture(1, &[(1, 21)]));
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    eventually("the connection ends", || {
        match client.write_all(b"?").and_then(|()| client.read(&mut [0; 8])) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err("still open".to_owned())
            }
            Ok(0) | Err(_) => Ok(()),
            Ok(more) => Err(format!("{more} bytes")),
        }
    });
}
