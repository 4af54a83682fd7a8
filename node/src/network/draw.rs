//! Draws the picture: what this host's driver and name server have to know, from all that was heard.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use membership::id::{NetworkId, NodeId, ServiceId};
use membership::member::MemberState;
use membership::time::{Millis, Now};

use super::facts::{Endpoint, EndpointPhase};
use super::picture::{Attached, Backend, Ingress, Network, Peer, Picture, Routed};
use crate::expand::words;
use crate::io::Effect;
use crate::node::Node;
use crate::services::Service;
use crate::slot::{Place, Protocol, Slot};
use crate::start::Starter;
use crate::template::expand;

/// A burst of news is one picture.
const AT_MOST_EVERY: Millis = Millis(20);

impl Node {
    /// Hands the picture out when it is another one.
    pub(crate) fn draw_network(&mut self, now: Now) {
        if !self.networking.stale || self.networking.found.is_none() {
            return;
        }
        let next = self.networking.drawn + AT_MOST_EVERY;
        if now.at < next {
            let wake = self.networking.wake.map_or(next, |wake| wake.min(next));
            self.networking.wake = Some(wake);
            return;
        }
        self.networking.stale = false;
        self.networking.drawn = now.at;
        let picture = self.drawn_picture();
        if picture != *self.networking.picture {
            let picture = Arc::new(picture);
            self.networking.picture = Arc::clone(&picture);
            self.out.push(Effect::Network(picture));
        }
    }

    /// What was handed out last.
    pub fn network_picture(&self) -> Arc<Picture> {
        Arc::clone(&self.networking.picture)
    }

    fn drawn_picture(&self) -> Picture {
        let here = self.networking.here.keys();
        let networks: BTreeMap<NetworkId, Network> =
            here.filter_map(|id| Some((*id, self.pictured(*id)?))).collect();
        let ingress = self.view.networks.ingress().map(|network| network.id);
        let ingress = ingress.filter(|id| networks.contains_key(id));
        Picture {
            ingress: ingress.map(|id| self.pictured_ports(id)).unwrap_or_default(),
            routes: ingress.map(|id| self.pictured_routes(id)).unwrap_or_default(),
            networks,
        }
    }

    fn pictured(&self, id: NetworkId) -> Option<Network> {
        let network = self.view.networks.get(id)?;
        let engine = self.engine_network(id)?;
        let is_ingress = network.flag("Ingress");
        let on = self.view.attached.on.get(&id).filter(|_| !is_ingress);
        let services = on.into_iter().flatten().filter_map(|service| {
            let service = self.view.services.get(*service)?;
            Some((service.id, self.pictured_service(id, service)?))
        });
        Some(Network {
            name: network.name.clone(),
            subnet: network.subnet,
            vni: network.vni,
            internal: engine.internal,
            encrypted: network.encrypted,
            open: network.open,
            mtu: network.mtu,
            virtual_range: network.cut.virtual_range(),
            gateway: engine.gateway,
            plain: engine.plain,
            peers: self.pictured_peers(id),
            services: services.collect(),
        })
    }

    fn pictured_peers(&self, id: NetworkId) -> BTreeMap<NodeId, Peer> {
        let Some(network) = self.view.networks.get(id) else { return BTreeMap::new() };
        let said = self.view.blocks.get(&id).into_iter().flatten();
        said.filter(|(node, _)| **node != self.me)
            .filter_map(|(node, blocks)| {
                let known = self.view.members.get(*node).filter(|known| known.belongs())?;
                let address: IpAddr = known.addr()?.ip();
                let first = blocks.first().filter(|block| block.since.is_some());
                let gateway = first.and_then(|block| network.cut.gateway(block.index));
                Some((*node, Peer { address, gateway }))
            })
            .collect()
    }

    fn pictured_service(&self, id: NetworkId, service: &Service) -> Option<Attached> {
        let spec = service.active()?;
        let attachment = spec.networks.iter().find(|attachment| attachment.network == id)?;
        Some(Attached {
            name: service.name().to_owned(),
            aliases: attachment.aliases.clone(),
            address: self.view.attached.address(id, service.id),
            backends: self.backends(id, service),
            prefer_local: spec.prefer_local,
            resolvers: spec.resolvers.clone(),
        })
    }

    fn pictured_ports(&self, ingress: NetworkId) -> Vec<Ingress> {
        let published = self.view.attached.published.iter();
        published
            .filter_map(|((protocol, published), id)| {
                let service = self.view.services.get(*id)?;
                let spec = service.active()?;
                let port = spec
                    .ingress_ports
                    .iter()
                    .find(|port| (port.protocol, port.published) == (*protocol, *published))?;
                Some(Ingress {
                    service: *id,
                    protocol: *protocol,
                    published: *published,
                    target: port.target,
                    prefer_local: spec.prefer_local,
                    on_others: !spec.networks.is_empty(),
                    proxy: spec.proxy.filter(|_| *protocol == Protocol::Tcp),
                    backends: self.backends(ingress, service),
                })
            })
            .collect()
    }

    fn pictured_routes(&self, ingress: NetworkId) -> Vec<Routed> {
        let services =
            self.view.attached.routed.iter().filter_map(|id| self.view.services.get(*id));
        services
            .flat_map(|service| {
                let routes =
                    service.active().map(|spec| spec.routes.as_slice()).unwrap_or_default();
                let backends = self.backends(ingress, service);
                routes.iter().map(move |route| Routed {
                    service: service.id,
                    name: service.name().to_owned(),
                    route: route.clone(),
                    backends: backends.clone(),
                })
            })
            .collect()
    }

    /// The replicas that run on nodes which are there, by slot and node.
    fn backends(&self, network: NetworkId, service: &Service) -> Vec<Backend> {
        let mut backends: Vec<(Slot, Backend)> = self
            .endpoints_of(service.id)
            .filter(|(node, _)| self.may_serve(*node))
            .filter_map(|(node, endpoint)| {
                let on = endpoint.addresses.iter().find(|(id, _)| *id == network)?;
                let backend = Backend {
                    address: on.1,
                    node,
                    local: node == self.me,
                    task: endpoint.task,
                    slot_name: format!("{}.{}", service.name(), endpoint.slot),
                    hostname: self.hostname_of(service, endpoint, node),
                    ready: endpoint.phase == EndpointPhase::Ready,
                    draining: endpoint.phase == EndpointPhase::Draining,
                };
                Some((endpoint.slot, backend))
            })
            .collect();
        backends.sort_by_key(|(slot, backend)| (*slot, backend.node, backend.task));
        backends.into_iter().map(|(_, backend)| backend).collect()
    }

    /// What a task's container calls itself: a template is filled in as the node that runs it does.
    fn hostname_of(&self, service: &Service, endpoint: &Endpoint, node: NodeId) -> Option<String> {
        let text = service.task_template.pointer("/ContainerSpec/Hostname")?.as_str()?;
        if !text.contains("{{") {
            return (!text.is_empty()).then(|| text.to_owned());
        }
        let profile = self.view.members.get(node)?.profile.as_ref()?;
        let starter = Starter {
            cluster: self.cluster_id,
            node,
            hostname: profile.name.clone(),
            os: profile.os.clone(),
            arch: profile.arch.clone(),
        };
        let place = Place { service: service.id, slot: endpoint.slot };
        let name = format!("{}.{}.{}", service.name(), endpoint.slot, endpoint.task);
        let words = words(&starter, service, place, &endpoint.task.to_string(), &name);
        expand(text, &words).ok()
    }

    /// What a member says that it runs may be taken for running.
    fn may_serve(&self, node: NodeId) -> bool {
        node == self.me
            || self.view.members.get(node).is_some_and(|known| {
                known.belongs() && !matches!(known.state, MemberState::Down | MemberState::Left)
            })
    }

    /// All tasks of a service that have addresses, wherever they are.
    pub(crate) fn endpoints_of(
        &self,
        service: ServiceId,
    ) -> impl Iterator<Item = (NodeId, &Endpoint)> {
        let all = (service, NodeId(0), 0)..=(service, NodeId(u128::MAX), u16::MAX);
        let parts = self.view.endpoints.range(all);
        parts.flat_map(|((_, node, _), endpoints)| endpoints.iter().map(move |e| (*node, e)))
    }
}
