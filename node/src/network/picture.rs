//! What one host has to know of the networks its containers are on.
//!
//! The picture is whole, never a change of an earlier one: the driver compares what the kernel has with what follows
//! from the picture, and mends the difference, so a deleted bridge and a new network are one and the same case. It
//! holds the networks that this host has or is about to have containers on, and no others.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use membership::id::{NetworkId, NodeId, ServiceId, TaskId};

use super::proxy_protocol::ProxyProtocol;
use super::routes::Route;

/// A range of IPv4 addresses that begins at a multiple of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subnet {
    pub first: Ipv4Addr,
    /// Bits that all addresses of the range share, 0 to 32.
    pub prefix: u8,
}

/// All that this host's driver and name server work from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    pub networks: BTreeMap<NetworkId, Network>,
    /// Ports that are published on every node, whether it runs a replica or not.
    pub ingress: Vec<Ingress>,
    /// Requests over HTTP that any node takes for a service.
    pub routes: Vec<Routed>,
}

/// One network, as this host sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    pub name: String,
    pub subnet: Subnet,
    /// Names the network in packets between hosts: 24 bits, the same on all hosts.
    pub vni: u32,
    /// Containers on it reach nothing outside of it.
    pub internal: bool,
    /// What leaves the host is encrypted.
    pub encrypted: bool,
    /// Operators said that it need not be.
    pub open: bool,
    /// What operators asked for in bytes; none: what the way between the hosts allows.
    pub mtu: Option<u32>,
    /// The part of the subnet that virtual addresses are from: each host takes it for its own and passes on what goes
    /// there. No container has one of these.
    pub virtual_range: Subnet,
    /// This host's own address on the network, and its containers' way out.
    pub gateway: Ipv4Addr,
    /// Where this host's engine takes the addresses of containers from that nobody chose one for.
    pub plain: Subnet,
    /// Hosts that may have containers on the network, without this one; those that are not alive are still here, for
    /// a verdict may be wrong.
    pub peers: BTreeMap<NodeId, Peer>,
    pub services: BTreeMap<ServiceId, Attached>,
}

/// Another host on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where packets for its containers are sent.
    pub address: IpAddr,
    /// Its own address on the network: its name server answers there too.
    pub gateway: Option<Ipv4Addr>,
}

/// A service on a network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attached {
    pub name: String,
    /// Further names that operators gave it on this network.
    pub aliases: Vec<String>,
    /// None where the service wants its replicas' addresses instead (`dnsrr`).
    pub address: Option<Ipv4Addr>,
    /// Replicas that run on nodes which are alive; by slot and node.
    pub backends: Vec<Backend>,
    /// New connections go to replicas on this host, as long as one is ready.
    pub prefer_local: bool,
    /// Whom its containers ask for names that no network here knows; empty: whom their host asks.
    pub resolvers: Vec<IpAddr>,
}

/// One running replica of a service on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backend {
    pub address: Ipv4Addr,
    pub node: NodeId,
    /// On this host.
    pub local: bool,
    pub task: TaskId,
    /// As containers are named: `web.1`, or `web.<node id>` for a global service.
    pub slot_name: String,
    /// What the container calls itself, where its service says so.
    pub hostname: Option<String>,
    /// Healthy, or without a health check: new connections may go there.
    pub ready: bool,
    /// It is about to stop: what is connected goes on, nothing new goes there.
    pub draining: bool,
}

/// A port that is open on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    pub service: ServiceId,
    pub protocol: crate::slot::Protocol,
    /// On the hosts.
    pub published: u16,
    /// In the containers.
    pub target: u16,
    /// New connections go to replicas on this host, as long as one is ready.
    pub prefer_local: bool,
    /// Connections begin with a header that says who asked; shoal itself passes them on then, and no rule does.
    pub proxy: Option<ProxyProtocol>,
    /// Its replicas are on other networks too.
    pub on_others: bool,
    /// Reached over the network that each published service is on.
    pub backends: Vec<Backend>,
}

/// A way for HTTP requests to a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Routed {
    pub service: ServiceId,
    /// What operators call the service.
    pub name: String,
    pub route: Route,
    /// Reached as those of [`Ingress`].
    pub backends: Vec<Backend>,
}
