//! News of networks into a view, and networks as readers see them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use membership::id::{NetworkId, NodeId, ServiceId, TaskId};
use membership::time::Wall;
use membership::wire::{self, WireError};
use serde_json::Value;

use super::attached::Attached;
use super::facts::{Blocks, Endpoint, Endpoints};
use super::picture::Subnet;
use super::records::Network;
use crate::node::Node;
use crate::view::View;

/// A network of the whole cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct NetworkView {
    pub id: NetworkId,
    pub version: u64,
    pub created: Wall,
    pub updated: Wall,
    pub name: String,
    /// As the client sent it when it was created.
    pub spec: Arc<Value>,
    pub subnet: Subnet,
    /// Names it in packets between hosts.
    pub vni: u32,
    /// What leaves a host is encrypted, whether it was asked for or decided.
    pub encrypted: bool,
    /// The node's own address on it, where the node is on it.
    pub gateway: Option<Ipv4Addr>,
    /// Why nothing can be attached to it.
    pub unusable: Option<String>,
    pub shadowed_by: Option<NetworkId>,
    /// The virtual addresses of services.
    pub services: BTreeMap<ServiceId, Ipv4Addr>,
    /// The addresses of tasks, with where they run.
    pub tasks: BTreeMap<TaskId, (NodeId, Ipv4Addr)>,
}

impl View {
    /// Which blocks a member has of a network, as it says.
    ///
    /// # Errors
    /// When the value cannot be read; what the member said before stands.
    pub(crate) fn hear_blocks(
        &mut self,
        owner: NodeId,
        network: NetworkId,
        value: Option<&[u8]>,
    ) -> Result<(), WireError> {
        let blocks = value.map(wire::decode::<Blocks>).transpose()?;
        let all = self.blocks.entry(network).or_default();
        match blocks {
            Some(blocks) => drop(all.insert(owner, blocks.blocks)),
            None => drop(all.remove(&owner)),
        }
        if all.is_empty() {
            self.blocks.remove(&network);
        }
        self.network_news = true;
        Ok(())
    }

    /// Which of a service's tasks with addresses a member runs, as it says.
    ///
    /// # Errors
    /// As [`Self::hear_blocks`].
    pub(crate) fn hear_endpoints(
        &mut self,
        owner: NodeId,
        service: ServiceId,
        part: u16,
        value: Option<&[u8]>,
    ) -> Result<(), WireError> {
        let said = value.map(wire::decode::<Endpoints>).transpose()?;
        self.set_endpoints(owner, service, part, said.unwrap_or_default().endpoints);
        Ok(())
    }

    pub(crate) fn set_endpoints(
        &mut self,
        owner: NodeId,
        service: ServiceId,
        part: u16,
        endpoints: Vec<Endpoint>,
    ) {
        let key = (service, owner, part);
        if endpoints.is_empty() {
            self.endpoints.remove(&key);
        } else {
            self.endpoints.insert(key, endpoints);
        }
        self.network_news = true;
    }

    /// Brings what services and networks have to do with each other up to date.
    pub(crate) fn refresh_attached(&mut self) {
        if std::mem::take(&mut self.attached_changed) {
            self.attached = Attached::of(&self.services, &self.networks);
            self.network_news = true;
        }
    }
}

impl Node {
    /// All networks of the cluster.
    pub fn networks(&self) -> Vec<NetworkView> {
        self.view.networks.iter().map(|network| self.network_view(network)).collect()
    }

    fn network_view(&self, network: &Network) -> NetworkView {
        let on = self.view.attached.on.get(&network.id);
        let endpoints = on.into_iter().flatten().flat_map(|service| self.endpoints_of(*service));
        let tasks = endpoints.filter_map(|(node, endpoint)| {
            let on = endpoint.addresses.iter().find(|(id, _)| *id == network.id)?;
            Some((endpoint.task, (node, on.1)))
        });
        NetworkView {
            id: network.id,
            version: network.stamp.index().max(1),
            created: Wall(network.created.ms),
            updated: Wall(network.stamp.ms),
            name: network.name.clone(),
            spec: Arc::clone(&network.spec),
            subnet: network.subnet,
            vni: network.vni,
            encrypted: network.encrypted,
            gateway: self.engine_network(network.id).map(|network| network.gateway),
            unusable: network.unusable.clone(),
            shadowed_by: network.shadowed_by,
            services: self.view.attached.virtuals.get(&network.id).cloned().unwrap_or_default(),
            tasks: tasks.collect(),
        }
    }
}
