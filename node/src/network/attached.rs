//! Which services are on which networks, under which virtual addresses, and who has which published port: what follows
//! from the records alone, and is therefore the same on every node that has heard of them.
//!
//! A virtual address is chosen when a service is created and written down with it, so that it stays whatever else
//! comes and goes. Of two services that chose the same one on both sides of a partition the earlier keeps it; the other
//! gets the next one that is free, in an order that its id gives. Of two that publish one port the earlier has it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use membership::id::{NetworkId, ServiceId};
use membership::record::Digest;

use super::attach::Attachment;
use super::records::{Network, Networks};
use crate::services::{Service, Services};
use crate::slot::Protocol;

/// What services and networks have to do with each other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attached {
    /// Services by the network that they are on.
    pub on: BTreeMap<NetworkId, BTreeSet<ServiceId>>,
    pub virtuals: BTreeMap<NetworkId, BTreeMap<ServiceId, Ipv4Addr>>,
    pub published: BTreeMap<(Protocol, u16), ServiceId>,
    /// Services that HTTP requests are routed to.
    pub routed: BTreeSet<ServiceId>,
}

impl Attached {
    pub(crate) fn of(services: &Services, networks: &Networks) -> Self {
        let mut services: Vec<&Service> =
            services.iter().filter(|s| s.active().is_some()).collect();
        services.sort_by_key(|service| (service.created, service.id));
        let mut attached = Self::default();
        for service in &services {
            let Some(spec) = service.active() else { continue };
            for Attachment { network, .. } in &spec.networks {
                attached.on.entry(*network).or_default().insert(service.id);
            }
            for port in spec.ingress_ports.iter().filter(|port| port.published != 0) {
                let key = (port.protocol, port.published);
                attached.published.entry(key).or_insert(service.id);
            }
            if !spec.routes.is_empty() {
                attached.routed.insert(service.id);
            }
            if let (true, Some(ingress)) = (spec.is_reached_by_all(), networks.ingress()) {
                attached.on.entry(ingress.id).or_default().insert(service.id);
            }
        }
        for (id, on) in &attached.on {
            let Some(network) = networks.get(*id).filter(|n| !n.flag("Ingress")) else { continue };
            let wanting = services.iter().filter(|s| on.contains(&s.id));
            let wanting = wanting.filter(|s| s.active().is_some_and(|spec| !spec.dnsrr));
            let wanting = wanting.map(|s| (s.id, s.body.chosen.address(*id)));
            attached.virtuals.insert(*id, settle(network, wanting.collect()));
        }
        attached
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.on.is_empty()
    }

    /// Every node passes something on to replicas anywhere.
    pub(crate) fn is_reached_by_all(&self) -> bool {
        !self.published.is_empty() || !self.routed.is_empty()
    }

    pub(crate) fn address(&self, network: NetworkId, service: ServiceId) -> Option<Ipv4Addr> {
        self.virtuals.get(&network)?.get(&service).copied()
    }

    /// An address for a service that is about to be created.
    pub(crate) fn free_address(&self, network: &Network, service: ServiceId) -> Option<Ipv4Addr> {
        let taken = self.virtuals.get(&network.id);
        let taken = taken.into_iter().flatten().map(|(_, address)| *address).collect();
        probe(network, service, &taken)
    }
}

/// Services in the order of their creation, with what each chose.
fn settle(
    network: &Network,
    wanting: Vec<(ServiceId, Option<Ipv4Addr>)>,
) -> BTreeMap<ServiceId, Ipv4Addr> {
    let usable = |address: &Ipv4Addr| is_usable(network, *address);
    let mut taken = BTreeSet::new();
    let mut settled = BTreeMap::new();
    for (service, chosen) in &wanting {
        if let Some(address) = chosen.filter(usable).filter(|address| taken.insert(*address)) {
            settled.insert(*service, address);
        }
    }
    for (service, _) in wanting {
        if !settled.contains_key(&service)
            && let Some(address) = probe(network, service, &taken)
        {
            taken.insert(address);
            settled.insert(service, address);
        }
    }
    settled
}

fn is_usable(network: &Network, address: Ipv4Addr) -> bool {
    // The first address of a subnet is its own.
    network.cut.virtual_range().contains(address) && address != network.subnet.first
}

/// The first address that nobody has, in an order that is the service's own. None when the range is full.
fn probe(network: &Network, service: ServiceId, taken: &BTreeSet<Ipv4Addr>) -> Option<Ipv4Addr> {
    let range = network.cut.virtual_range();
    let size = range.size();
    let hash = Digest::of_bytes(format!("address {} {service}", network.id).as_bytes()).0;
    // Remainders are below the size of the range, which is a part of a subnet's.
    let first = (hash % u128::from(size)) as u64;
    let mut all = (0..size).filter_map(|n| range.nth(((first + n) % size) as u32));
    all.find(|address| is_usable(network, *address) && !taken.contains(address))
}
