//! What the kernel of this host should have, worked out from the picture alone.
//!
//! For each network: a tunnel in the engine's bridge, packets for all hosts that no table knows a way for, the virtual
//! addresses taken for this host's own, and some switches of the kernel. For all of them together: the packet
//! [`rules`](super::rules), and the bridges for which the engine's own firewall has to let published ports through.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use membership::id::{NetworkId, NodeId};

use super::devices::{ENCRYPTED, bridge_name, mtu, tunnel_name};
use super::encryption;
use super::picture::{Network, Picture, Subnet};
use super::rules;

/// What a plan has to know of the host besides the picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub me: NodeId,
    /// Where the other hosts send packets of the networks to.
    pub address: IpAddr,
    /// How large a packet may be on the way between the hosts, in bytes.
    pub way_mtu: u32,
    /// The UDP port of all hosts' tunnels.
    pub port: u16,
    /// Packets that cross a bridge pass the rules of IP too (`br_netfilter`), so that answers to a virtual address are
    /// seen and translated back.
    pub sees_bridged: bool,
    /// Packets can be encrypted: the device for that can be made.
    pub encrypts: bool,
}

/// All that shoal wants of the kernel for networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What encrypted networks' packets go through; none where no such network is.
    pub device: Option<Device>,
    /// By the name of the bridge.
    pub overlays: BTreeMap<String, Overlay>,
    /// What `nft` is to load; none where no network is.
    pub rules: Option<String>,
    /// Bridges that packets from outside may be forwarded to if their destination was a published port.
    pub published: BTreeSet<String>,
    /// Switches of the kernel: what they are to be, by their path below `/proc/sys`.
    pub switches: BTreeMap<String, String>,
    /// What cannot be had on this host, and what to do: one sentence each.
    pub complaints: Vec<String>,
}

/// The device whose packets travel encrypted. It is made by the process that carries them and goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub address: IpAddr,
    pub prefix: u8,
    /// In bytes.
    pub mtu: u32,
}

/// One network on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    pub network: NetworkId,
    /// What operators call it.
    pub name: String,
    pub bridge: String,
    /// The bridge's address: for its containers the way out.
    pub gateway: Ipv4Addr,
    pub subnet: Subnet,
    pub virtual_range: Subnet,
    /// In bytes.
    pub mtu: u32,
    /// None where packets must not leave the host.
    pub tunnel: Option<Tunnel>,
}

/// A device that carries a bridge's packets to the other hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    pub name: String,
    pub vni: u32,
    pub port: u16,
    /// Packets are sent from here.
    pub local: IpAddr,
    /// Packets leave by this device and by no other; none: by whatever leads to the peer.
    pub over: Option<String>,
    /// The other hosts of the network.
    pub peers: BTreeSet<IpAddr>,
}

/// What follows from a picture for this host.
pub fn wanted(picture: &Picture, host: &Host) -> Wanted {
    let mut complaints = Vec::new();
    let overlays: BTreeMap<String, Overlay> = picture
        .networks
        .iter()
        .map(|(id, network)| overlay(*id, network, host, &mut complaints))
        .map(|overlay| (overlay.bridge.clone(), overlay))
        .collect();
    if overlays.is_empty() {
        return Wanted::default();
    }
    let reached: Vec<Ipv4Addr> = picture
        .ingress
        .iter()
        .flat_map(|ingress| ingress.backends.iter().map(|backend| backend.address))
        .collect();
    let published = overlays
        .values()
        .filter(|overlay| reached.iter().any(|address| within(overlay.subnet, *address)))
        .map(|overlay| overlay.bridge.clone())
        .collect();
    let rules = Some(rules::script(picture, &overlays, host));
    let switches = switches(&overlays, host);
    let encrypted = |network: &Network| network.encrypted;
    let device = (host.encrypts && picture.networks.values().any(encrypted)).then(|| Device {
        name: ENCRYPTED.to_owned(),
        address: IpAddr::V6(encryption::address(host.me)),
        prefix: encryption::RANGE_BITS,
        mtu: encryption::DEVICE_MTU,
    });
    Wanted { device, overlays, rules, published, switches, complaints }
}

fn overlay(id: NetworkId, network: &Network, host: &Host, complaints: &mut Vec<String>) -> Overlay {
    let (tunnel, mtu) = if network.encrypted {
        (
            encrypted_tunnel(id, network, host, complaints),
            mtu(encryption::DEVICE_MTU, true, network.mtu),
        )
    } else {
        (
            Some(plain_tunnel(id, network, host, complaints)),
            mtu(host.way_mtu, host.address.is_ipv6(), network.mtu),
        )
    };
    Overlay {
        network: id,
        name: network.name.clone(),
        bridge: bridge_name(id),
        gateway: network.gateway,
        subnet: network.subnet,
        virtual_range: network.virtual_range,
        mtu,
        tunnel,
    }
}

fn plain_tunnel(
    id: NetworkId,
    network: &Network,
    host: &Host,
    complaints: &mut Vec<String>,
) -> Tunnel {
    let same_version = |peer: &IpAddr| peer.is_ipv4() == host.address.is_ipv4();
    let (peers, other): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) =
        network.peers.values().map(|peer| peer.address).partition(same_version);
    if !other.is_empty() {
        let list: Vec<String> = other.iter().map(ToString::to_string).collect();
        complaints.push(format!(
            "network '{}' does not reach the hosts at {}: this host's address, {}, is of the other IP version. \
             Give all hosts addresses of one version (--advertise); its containers reach those on the other hosts",
            network.name,
            list.join(", "),
            host.address
        ));
    }
    let exposed: BTreeSet<IpAddr> = peers
        .iter()
        .chain([&host.address])
        .filter(|address| !network.open && !encryption::is_private(**address))
        .copied()
        .collect();
    if !exposed.is_empty() && !network.peers.is_empty() {
        let list: Vec<String> = exposed.iter().map(ToString::to_string).collect();
        complaints.push(format!(
            "network '{}' is not encrypted, and hosts of it are reached outside of private networks ({}): what its \
             containers say to each other can be read on the way. Networks that are created now are encrypted by \
             themselves: create another one and move the services; or say that it is meant with --opt \
             encrypted=false",
            network.name,
            list.join(", ")
        ));
    }
    Tunnel {
        name: tunnel_name(id),
        vni: network.vni,
        port: host.port,
        local: host.address,
        over: None,
        peers: peers.into_iter().filter(|peer| *peer != host.address).collect(),
    }
}

/// The same between other addresses: those of the device that encrypts. Bound to it, for without it the packets would
/// leave by the next best way, as they are.
fn encrypted_tunnel(
    id: NetworkId,
    network: &Network,
    host: &Host,
    complaints: &mut Vec<String>,
) -> Option<Tunnel> {
    if !host.encrypts {
        complaints.push(format!(
            "network '{}' is to be encrypted, and this host cannot: its packets do not leave the host. Containers on \
             it that share a host reach each other",
            network.name
        ));
        return None;
    }
    let peers = network.peers.keys().map(|peer| IpAddr::V6(encryption::address(*peer)));
    Some(Tunnel {
        name: tunnel_name(id),
        vni: network.vni,
        port: host.port,
        local: IpAddr::V6(encryption::address(host.me)),
        over: Some(ENCRYPTED.to_owned()),
        peers: peers.collect(),
    })
}

fn switches(overlays: &BTreeMap<String, Overlay>, host: &Host) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut set = |path: String, value: &str| {
        all.insert(path, value.to_owned());
    };
    set("net/ipv4/ip_forward".to_owned(), "1");
    if host.sees_bridged {
        set("net/bridge/bridge-nf-call-iptables".to_owned(), "1");
    }
    for bridge in overlays.keys() {
        // A published port answers at 127.0.0.1 too; the rules keep such addresses from coming in by the bridge.
        set(format!("net/ipv4/conf/{bridge}/route_localnet"), "1");
        // An answer may come back by another network of the container than the question went out by.
        set(format!("net/ipv4/conf/{bridge}/rp_filter"), "2");
    }
    all
}

/// Whether a range has the address.
pub(super) fn within(range: Subnet, address: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(range.prefix.min(32));
    let (first, address) = (u32::from(range.first), u32::from(address));
    first.checked_shr(shift).unwrap_or(0) == address.checked_shr(shift).unwrap_or(0)
}
