//! What the core asks of an engine for a network of the whole cluster: a bridge network of its own on this host, to
//! which containers are attached. The driver of links plugs the hosts' bridges together.

use std::net::Ipv4Addr;

use membership::id::NetworkId;

use super::devices::bridge_name;
use super::picture::Subnet;

/// The network of one host's engine that stands for a network of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineNetwork {
    pub id: NetworkId,
    /// As operators called it; the engine's network has the same name.
    pub name: String,
    pub subnet: Subnet,
    /// This host's own address on it, by which the engine's network is told from one that was made for another block.
    pub gateway: Ipv4Addr,
    /// What the engine gives to containers that nobody chose an address for.
    pub plain: Subnet,
    pub internal: bool,
    /// Its packets go between the hosts by the way for encrypted ones, which has less room.
    pub encrypted: bool,
    pub mtu: Option<u32>,
}

impl EngineNetwork {
    /// The name of its bridge on the host.
    pub fn bridge(&self) -> String {
        bridge_name(self.id)
    }
}

/// A network of the whole cluster that is there in an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundNetwork {
    pub id: NetworkId,
    pub gateway: Ipv4Addr,
    /// Containers are attached to it, whoever started them.
    pub used: bool,
}

/// How a task is attached to one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskNetwork {
    pub network: EngineNetwork,
    pub address: Ipv4Addr,
}
