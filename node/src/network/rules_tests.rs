use std::net::IpAddr;

use super::*;
use crate::network::picture::{Attached, Network};
use crate::network::proxy_protocol::ProxyProtocol;
use crate::network::wanted::{Wanted, wanted};
use membership::id::{NetworkId, NodeId, ServiceId, TaskId};

fn backend(last: u8, local: bool, ready: bool, draining: bool) -> Backend {
    Backend {
        address: Ipv4Addr::new(10, 1, 9, last),
        node: NodeId(1),
        local,
        task: TaskId(u128::from(last)),
        slot_name: format!("web.{last}"),
        hostname: None,
        ready,
        draining,
    }
}

fn picture(backends: Vec<Backend>, ingress: Vec<Ingress>) -> Picture {
    let subnet = |third, prefix| Subnet { first: Ipv4Addr::new(10, 1, third, 0), prefix };
    let web = Attached {
        name: "web".to_owned(),
        aliases: Vec::new(),
        address: Some(Ipv4Addr::new(10, 1, 0, 5)),
        backends,
        ..Attached::default()
    };
    let network = Network {
        name: "front".to_owned(),
        subnet: subnet(0, 16),
        vni: 7,
        internal: false,
        encrypted: false,
        open: false,
        mtu: None,
        virtual_range: subnet(0, 22),
        gateway: Ipv4Addr::new(10, 1, 8, 1),
        plain: subnet(8, 25),
        peers: BTreeMap::new(),
        services: BTreeMap::from([(ServiceId(3), web)]),
    };
    Picture { networks: BTreeMap::from([(NetworkId(1), network)]), ingress, ..Picture::default() }
}

fn of(picture: &Picture, sees_bridged: bool) -> Wanted {
    let address = IpAddr::from([192, 168, 2, 1]);
    wanted(
        picture,
        &Host { me: NodeId(1), address, way_mtu: 1500, port: 4790, sees_bridged, encrypts: false },
    )
}

fn script_of(backends: Vec<Backend>) -> String {
    of(&picture(backends, Vec::new()), true).rules.unwrap()
}

fn ingress(protocol: Protocol, published: u16, backends: Vec<Backend>) -> Ingress {
    Ingress {
        service: ServiceId(3),
        protocol,
        published,
        target: 80,
        prefer_local: false,
        on_others: false,
        proxy: None,
        backends,
    }
}

#[test]
fn ready_replicas_take_turns() {
    let script = script_of(vec![
        backend(1, true, true, false),
        backend(2, false, true, false),
        backend(3, false, false, false),
        backend(4, false, true, true),
    ]);
    assert!(
        script.contains("dnat to numgen inc mod 2 map { 0 : 10.1.9.1, 1 : 10.1.9.2 }"),
        "{script}"
    );
    assert!(script.contains("\"sh000000000000\" . 10.1.0.5 : goto v_"), "{script}");
}

#[test]
fn one_that_is_about_to_stop_serves_only_where_there_is_no_other() {
    let script = script_of(vec![backend(3, true, false, false), backend(4, false, true, true)]);
    assert!(script.contains("\t\tdnat to 10.1.9.4\n"), "{script}");
}

#[test]
fn a_service_without_a_ready_replica_is_refused() {
    let script = script_of(vec![backend(3, true, false, false)]);
    assert!(!script.contains("dnat to"), "{script}");
    assert!(script.contains("ip daddr @ranges meta l4proto tcp reject with tcp reset"));
}

#[test]
fn published_ports_lead_to_the_port_in_the_container() {
    let backends = vec![backend(1, true, true, false), backend(2, false, true, false)];
    let ports = vec![
        ingress(Protocol::Tcp, 8080, backends.clone()),
        ingress(Protocol::Udp, 8080, backends[..1].to_vec()),
        ingress(Protocol::Tcp, 8080, Vec::new()),
        ingress(Protocol::Sctp, 8081, backends.clone()),
    ];
    let wanted = of(&picture(backends, ports), true);
    let script = wanted.rules.unwrap();
    assert!(script.contains("tcp . 8080 : goto p_tcp_8080, udp . 8080 : goto p_udp_8080 }"));
    assert!(script.contains("meta l4proto udp dnat to 10.1.9.1:80"), "{script}");
    assert!(script.contains("10.1.9.2 }:80"), "{script}");
    assert!(!script.contains("8081"));
    // Clients of the replica on this host keep their address.
    assert!(script.contains("elements = { 10.1.9.1 }"), "{script}");
    assert_eq!(wanted.published, BTreeSet::from(["sh000000000000".to_owned()]));
}

#[test]
fn replicas_of_this_host_come_first_where_that_is_asked_for() {
    let backends = vec![backend(1, true, true, false), backend(2, false, true, false)];
    let mut picture = picture(backends.clone(), vec![ingress(Protocol::Tcp, 8080, backends)]);
    for network in picture.networks.values_mut() {
        network.services.values_mut().for_each(|service| service.prefer_local = true);
    }
    picture.ingress[0].prefer_local = true;
    let script = of(&picture, true).rules.unwrap();
    assert!(script.contains("\t\tdnat to 10.1.9.1\n"), "{script}");
    assert!(script.contains("meta l4proto tcp dnat to 10.1.9.1:80"), "{script}");
}

#[test]
fn datagrams_are_answered_by_the_way_they_came() {
    let backends = vec![backend(1, true, true, false), backend(2, false, true, false)];
    let mut port = ingress(Protocol::Udp, 53, backends.clone());
    let apart = |port: &Ingress| {
        let script = of(&picture(backends.clone(), vec![port.clone()]), true).rules.unwrap();
        assert!(script.contains("meta l4proto udp ip saddr != 10.1.0.0/16 ip daddr @apart_sh"));
        script
            .contains("set apart_sh000000000000 {\n\t\ttype ipv4_addr\n\t\telements = { 10.1.9.1 }")
    };
    // A replica on this one network sees the client.
    assert!(!apart(&port));
    port.on_others = true;
    assert!(apart(&port));
}

#[test]
fn a_port_that_shoal_takes_itself_has_no_rule() {
    let backends = vec![backend(1, true, true, false)];
    let mut port = ingress(Protocol::Tcp, 8080, backends.clone());
    port.proxy = Some(ProxyProtocol::V2);
    let script = of(&picture(backends, vec![port]), true).rules.unwrap();
    assert!(!script.contains("8080"), "{script}");
}

#[test]
fn where_bridged_packets_are_not_seen_neighbours_are_hidden_behind_the_host() {
    let picture = picture(vec![backend(1, true, true, false)], Vec::new());
    let hidden = "ct status dnat ip saddr 10.1.0.0/16 snat to 10.1.8.1";
    assert!(of(&picture, false).rules.unwrap().contains(hidden));
    assert!(!of(&picture, true).rules.unwrap().contains(hidden));
}

#[test]
fn without_networks_there_are_no_rules() {
    assert_eq!(of(&Picture::default(), true), Wanted::default());
    assert!(no_rules().contains("delete table bridge shoal"));
}
