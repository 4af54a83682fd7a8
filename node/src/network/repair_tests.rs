use proptest::prelude::*;

use super::*;
use crate::network::devices::ENCRYPTED;
use crate::network::picture::{Network, Peer, Picture};
use crate::network::wanted::{Host, wanted};
use membership::id::{NetworkId, NodeId};

fn host() -> Host {
    Host {
        me: NodeId(7 << 48),
        address: IpAddr::from([192, 168, 2, 1]),
        way_mtu: 1500,
        port: 4790,
        sees_bridged: true,
        encrypts: false,
    }
}

fn network(second: u8, peers: &[u8]) -> Network {
    let subnet = |third, prefix| Subnet { first: Ipv4Addr::new(10, second, third, 0), prefix };
    let peer = |n: &u8| {
        let peer = Peer { address: IpAddr::from([192, 168, 2, *n]), gateway: None };
        (NodeId(u128::from(*n) << 48), peer)
    };
    Network {
        name: format!("net{second}"),
        subnet: subnet(0, 16),
        vni: u32::from(second),
        internal: false,
        encrypted: false,
        open: false,
        mtu: None,
        virtual_range: subnet(0, 22),
        gateway: Ipv4Addr::new(10, second, 8, 1),
        plain: subnet(8, 25),
        peers: peers.iter().map(peer).collect(),
        services: BTreeMap::new(),
    }
}

fn two_networks() -> Picture {
    let networks = BTreeMap::from([(ONE, network(1, &[2, 3])), (TWO, network(2, &[3]))]);
    Picture { networks, ..Picture::default() }
}

// Names are made of the first characters of an id.
const ONE: NetworkId = NetworkId(u128::MAX);
const TWO: NetworkId = NetworkId(u128::MAX / 2);
const BRIDGE_1: &str = "shf5lxx1zz5pno";
const TUNNEL_1: &str = "svf5lxx1zz5pno";
const BRIDGE_2: &str = "sh7ksyyizzkutu";

/// What the engine brings: a bridge with its address, and a container's end in it.
fn engines(found: &mut Found, bridge: &str, gateway: Ipv4Addr, port: &str) {
    let made = Link {
        kind: LinkKind::Bridge,
        up: true,
        mtu: 1500,
        addresses: BTreeSet::from([(gateway.into(), 16)]),
        ..Link::default()
    };
    found.links.insert(bridge.to_owned(), made);
    let end = Link { up: true, bridge: Some(bridge.to_owned()), ..Link::default() };
    found.links.insert(port.to_owned(), end);
}

fn from_engine() -> Found {
    let mut found = Found::default();
    engines(&mut found, BRIDGE_1, Ipv4Addr::new(10, 1, 8, 1), "veth1");
    engines(&mut found, BRIDGE_2, Ipv4Addr::new(10, 2, 8, 1), "veth2");
    for path in wanted(&two_networks(), &host()).switches.into_keys() {
        found.switches.insert(path, "0".to_owned());
    }
    found
}

/// What a kernel makes of a step.
fn carry_out(found: &mut Found, step: Step) {
    let link = |found: &mut Found, name: &str, change: &dyn Fn(&mut Link)| {
        if let Some(link) = found.links.get_mut(name) {
            change(link);
        }
    };
    match step {
        Step::Delete { link } => {
            found.links.remove(&link);
            for other in found.links.values_mut().filter(|l| l.bridge.as_ref() == Some(&link)) {
                other.bridge = None;
            }
        }
        Step::MakeBridge { bridge, mtu } => {
            found.lost.remove(&bridge);
            let alias = Some(mark(&bridge));
            let made = Link { kind: LinkKind::Bridge, mtu, alias, ..Link::default() };
            found.links.insert(bridge, made);
        }
        Step::Address { link: name, address, prefix } => {
            link(found, &name, &|l| {
                let _ = l.addresses.insert((address, prefix));
            });
        }
        Step::MakeTunnel { tunnel, bridge, mtu } => {
            let Tunnel { name, vni, port, local, .. } = tunnel;
            let kind = LinkKind::Tunnel { vni, port, local: Some(local) };
            let alias = Some(mark(&bridge));
            let made = Link { kind, mtu, alias, bridge: Some(bridge), ..Link::default() };
            assert!(found.links.insert(name, made).is_none(), "made over another");
        }
        Step::Attach { port, bridge } => {
            link(found, &port, &|l| l.bridge = Some(bridge.clone()));
        }
        Step::Mtu { link: name, mtu } => link(found, &name, &|l| l.mtu = mtu),
        Step::Up { link: name } => link(found, &name, &|l| l.up = true),
        Step::MarkPort { port, bridge } => link(found, &port, &|l| {
            l.alias = Some(mark(&bridge));
            l.hairpin = true;
        }),
        Step::Own { bridge, range, from } => {
            link(found, &bridge, &|l| {
                let _ = l.own.insert((range, Some(from)));
            });
        }
        Step::Disown { bridge, range } => {
            link(found, &bridge, &|l| l.own.retain(|(own, _)| *own != range));
        }
        Step::Flood { tunnel, peer } => {
            link(found, &tunnel, &|l| {
                let _ = l.floods.insert(peer);
            });
        }
        Step::NoFlood { tunnel, peer } => {
            link(found, &tunnel, &|l| {
                let _ = l.floods.remove(&peer);
            });
        }
        Step::Unlearn { tunnel, peer } => {
            link(found, &tunnel, &|l| {
                let _ = l.learned.remove(&peer);
            });
        }
        Step::Switch { path, value } => {
            found.switches.insert(path, value);
        }
    }
}

/// Repairs until nothing is left to do.
fn settle(wanted: &Wanted, found: &mut Found) {
    for _ in 0..5 {
        let steps = repair(wanted, found);
        if steps.is_empty() {
            return;
        }
        steps.into_iter().for_each(|step| carry_out(found, step));
    }
    panic!("never done: {:?}", repair(wanted, found));
}

fn whole() -> (Wanted, Found) {
    let wanted = wanted(&two_networks(), &host());
    let mut found = from_engine();
    settle(&wanted, &mut found);
    (wanted, found)
}

#[test]
fn a_network_gets_its_tunnel_once_the_engine_has_made_the_bridge() {
    let wanted = wanted(&two_networks(), &host());
    let mut found = Found::default();
    assert_eq!(repair(&wanted, &found), Vec::new());
    engines(&mut found, BRIDGE_1, Ipv4Addr::new(10, 1, 8, 1), "veth1");
    settle(&wanted, &mut found);
    let tunnel = &found.links[TUNNEL_1];
    assert_eq!(tunnel.bridge.as_deref(), Some(BRIDGE_1));
    assert_eq!((tunnel.mtu, tunnel.up), (1450, true));
    let peers = BTreeSet::from([IpAddr::from([192, 168, 2, 2]), IpAddr::from([192, 168, 2, 3])]);
    assert_eq!(tunnel.floods, peers);
    assert!(!found.links.contains_key(BRIDGE_2));
}

#[test]
fn a_lost_bridge_comes_back_with_its_containers() {
    let (wanted, mut found) = whole();
    carry_out(&mut found, Step::Delete { link: BRIDGE_1.to_owned() });
    // An engine that does not have the network any more took the bridge down itself.
    assert_eq!(repair(&wanted, &found), Vec::new());
    found.lost.insert(BRIDGE_1.to_owned());
    settle(&wanted, &mut found);
    for port in ["veth1", TUNNEL_1] {
        assert_eq!(found.links[port].bridge.as_deref(), Some(BRIDGE_1), "{port}");
    }
    assert_eq!(found.links["veth2"].bridge.as_deref(), Some(BRIDGE_2));
    assert!(found.links[BRIDGE_1].addresses.contains(&(Ipv4Addr::new(10, 1, 8, 1).into(), 16)));
}

#[test]
fn a_host_that_moved_is_followed() {
    let (_, mut found) = whole();
    found.links.get_mut(TUNNEL_1).unwrap().learned.insert(IpAddr::from([192, 168, 2, 2]));
    let mut picture = two_networks();
    let peers = &mut picture.networks.get_mut(&ONE).unwrap().peers;
    peers.get_mut(&NodeId(2 << 48)).unwrap().address = IpAddr::from([192, 168, 2, 9]);
    let moved = Host { address: IpAddr::from([192, 168, 2, 7]), way_mtu: 9000, ..host() };
    settle(&wanted(&picture, &moved), &mut found);
    let tunnel = &found.links[TUNNEL_1];
    let kind = LinkKind::Tunnel { vni: 1, port: 4790, local: Some(IpAddr::from([192, 168, 2, 7])) };
    assert_eq!((tunnel.kind.clone(), tunnel.mtu), (kind, 8950));
    assert!(!tunnel.learned.contains(&IpAddr::from([192, 168, 2, 2])));
}

#[test]
fn what_is_not_wanted_any_more_goes_and_what_is_others_stays() {
    let (_, mut found) = whole();
    let foreign = LinkKind::Tunnel { vni: 9, port: 4789, local: None };
    found.links.insert("svother".to_owned(), Link { kind: foreign, ..Link::default() });
    found.links.insert("eth0".to_owned(), Link { up: true, ..Link::default() });
    settle(&wanted(&Picture::default(), &host()), &mut found);
    let left: Vec<&str> = found.links.keys().map(String::as_str).collect();
    let mut kept = ["eth0", BRIDGE_1, BRIDGE_2, "svother", "veth1", "veth2"];
    kept.sort_unstable();
    assert_eq!(left, kept);
    assert!(found.links[BRIDGE_1].own.is_empty());
}

#[test]
fn a_network_that_may_be_read_on_the_way_is_complained_about_unless_it_is_meant() {
    let mut picture = two_networks();
    let complaints = |picture: &Picture| wanted(picture, &host()).complaints;
    assert!(complaints(&picture).is_empty());
    let network = picture.networks.get_mut(&ONE).unwrap();
    let peer = network.peers.values_mut().next().unwrap();
    peer.address = "203.0.113.9".parse().unwrap();
    let said = complaints(&picture);
    assert!(
        said.len() == 1 && said[0].contains("203.0.113.9") && said[0].contains("not encrypted")
    );
    picture.networks.get_mut(&ONE).unwrap().open = true;
    assert!(complaints(&picture).is_empty());
}

#[test]
fn an_encrypted_network_does_not_leave_the_host_in_the_clear() {
    let mut picture = two_networks();
    picture.networks.get_mut(&ONE).unwrap().encrypted = true;
    let wanted = wanted(&picture, &host());
    assert_eq!(wanted.complaints.len(), 1);
    let (_, mut found) = whole();
    settle(&wanted, &mut found);
    assert!(!found.links.contains_key(TUNNEL_1));
    assert!(found.links[BRIDGE_1].own.len() == 1);
}

#[test]
fn an_encrypted_network_leaves_by_the_device_that_encrypts_and_by_no_other() {
    let mut picture = two_networks();
    picture.networks.get_mut(&ONE).unwrap().encrypted = true;
    let wanted = wanted(&picture, &Host { encrypts: true, ..host() });
    assert_eq!(wanted.complaints, Vec::<String>::new());
    let mut found = from_engine();
    settle(&wanted, &mut found);
    assert!(!found.links.contains_key(TUNNEL_1), "nothing encrypts yet");
    found.links.insert(ENCRYPTED.to_owned(), Link { mtu: 1500, ..Link::default() });
    settle(&wanted, &mut found);
    let device = &found.links[ENCRYPTED];
    let address = "fd73:686f:616c::7".parse().unwrap();
    assert_eq!((device.mtu, device.up), (1400, true));
    assert_eq!(device.addresses, BTreeSet::from([(address, 48)]));
    let tunnel = &found.links[TUNNEL_1];
    let kind = LinkKind::Tunnel { vni: 1, port: 4790, local: Some(address) };
    assert_eq!((tunnel.kind.clone(), tunnel.mtu), (kind, 1330));
    assert!(tunnel.floods.iter().all(|peer| peer.to_string().starts_with("fd73:686f:616c:")));
    assert_eq!(tunnel.floods.len(), 2);
}

#[test]
fn a_range_that_would_swallow_the_containers_is_not_taken() {
    let mut picture = two_networks();
    let network = picture.networks.get_mut(&ONE).unwrap();
    network.virtual_range = network.subnet;
    let (_, mut found) = whole();
    settle(&wanted(&picture, &host()), &mut found);
    assert!(found.links[BRIDGE_1].own.is_empty());
}

proptest! {
    /// Whatever somebody deleted or changed, the same state comes back and nothing is done twice.
    #[test]
    fn any_damage_is_mended(
        deleted: [bool; 4], bare: [bool; 6], peer in 1u8..9, number in 0u32..20,
    ) {
        let (wanted, good) = whole();
        let mut found = good.clone();
        let names: Vec<String> =
            found.links.keys().filter(|name| name.starts_with('s')).cloned().collect();
        for (name, damage) in names.iter().zip(bare) {
            let link = found.links.get_mut(name).unwrap();
            if damage {
                link.up = false;
                link.own.clear();
                if let LinkKind::Tunnel { vni, .. } = &mut link.kind {
                    *vni = number;
                    link.mtu = 1500 + number;
                    link.floods = BTreeSet::from([IpAddr::from([192, 168, 2, peer])]);
                }
            }
        }
        for (name, gone) in names.iter().zip(deleted) {
            if gone {
                carry_out(&mut found, Step::Delete { link: name.clone() });
                if name.starts_with(BRIDGE) {
                    found.lost.insert(name.clone());
                }
            }
        }
        settle(&wanted, &mut found);
        for (name, link) in &good.links {
            let mended = &found.links[name];
            prop_assert_eq!(&mended.bridge, &link.bridge, "{}", name);
            prop_assert_eq!(&mended.kind, &link.kind);
            prop_assert_eq!(mended.up, link.up);
            prop_assert_eq!(&mended.own, &link.own);
            prop_assert_eq!(&mended.floods, &link.floods);
            prop_assert!(mended.addresses.is_superset(&link.addresses));
        }
    }
}
