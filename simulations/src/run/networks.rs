//! Networks of the cluster: no two containers of one have the same address, no two hosts the same block of addresses,
//! and what each host is told of a network is what runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use membership::id::{NetworkId, NodeId, ServiceId, TaskId};
use node::network::INGRESS;
use node::network::picture::{Backend, Picture};
use node::slot::TemplateId;
use node::spec::template_id;
use serde_json::Value;

use super::Run;
use crate::host::Host;
use crate::links::HostIx;
use crate::operators::networks::{named_in, published_in};

/// Where a replica is reached.
type Reached = BTreeSet<(TaskId, NodeId, Ipv4Addr)>;

/// A network as all nodes have to see it: its range, its number in packets, and the virtual addresses on it.
type Agreed = (String, u32, BTreeMap<ServiceId, Ipv4Addr>);

/// The networks that can be used.
pub(super) type Networks = BTreeMap<NetworkId, Agreed>;

/// What a service wants of networks.
struct Attached {
    networks: Vec<NetworkId>,
    ports: Vec<u16>,
    /// What its tasks are made from by now. Where an update was paused some are still as they were.
    template: TemplateId,
    /// A network of it is missing or cannot be used: what does not run waits.
    waits: bool,
}

impl Run {
    /// The networks that all nodes agree are there and can be used; in words where they do not agree.
    pub(super) fn agreed_networks(&self) -> Result<Networks, String> {
        let mut agreed: Option<(HostIx, Networks)> = None;
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            let Some(process) = &host.process else { continue };
            let views = process.core.networks().into_iter();
            let networks: Networks = views
                .filter(|view| view.unusable.is_none())
                .map(|view| (view.id, (view.subnet.to_string(), view.vni, view.services)))
                .collect();
            match &agreed {
                None => agreed = Some((host.ix, networks)),
                Some((first, theirs)) if *theirs != networks => {
                    let ix = host.ix;
                    return Err(format!(
                        "{first} and {ix} see different networks: {theirs:?} and {networks:?}"
                    ));
                }
                Some(_) => {}
            }
        }
        Ok(agreed.map(|(_, networks)| networks).unwrap_or_default())
    }

    /// A service that is on a network which is gone or cannot be used, which takes two operators on two sides of a
    /// cut. What of it does not run yet waits, and nobody can help it.
    pub(super) fn waits_for_networks(spec: &str, networks: &Networks) -> bool {
        let spec: Value = serde_json::from_str(spec).unwrap_or_default();
        named_in(&spec["TaskTemplate"]).iter().any(|id| !networks.contains_key(id))
    }

    /// Addresses that containers of several hosts in one connected part have.
    pub fn shared_addresses(&self) -> Vec<(NetworkId, Ipv4Addr, Vec<HostIx>)> {
        let mut holders: BTreeMap<(usize, NetworkId, Ipv4Addr), Vec<HostIx>> = BTreeMap::new();
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            let Some(part) = self.checks.picture.part.get(&host.ix) else { continue };
            for container in host.engine.containers().filter(|c| c.is_running() && !c.stopping) {
                for (network, address) in &container.addresses {
                    holders.entry((*part, *network, *address)).or_default().push(host.ix);
                }
            }
        }
        let shared = holders.into_iter().filter(|(_, hosts)| hosts.len() > 1);
        shared.map(|((_, network, address), hosts)| (network, address, hosts)).collect()
    }

    /// No block of a network's addresses is used by two hosts that can talk; in words where one is.
    fn blocks_are_apart(&self) -> Result<(), String> {
        let mut holders: BTreeMap<(usize, NetworkId, u32), HostIx> = BTreeMap::new();
        let picture = &self.checks.picture;
        for (host, networks) in &picture.blocks {
            let Some(part) = picture.part.get(host) else { continue };
            for (network, block) in
                networks.iter().flat_map(|(id, all)| all.iter().map(move |one| (*id, *one)))
            {
                if let Some(other) = holders.insert((*part, network, block), *host) {
                    return Err(format!("{other} and {host} both use block {block} of {network}"));
                }
            }
        }
        Ok(())
    }

    /// Addresses are apart, and what each host is told of the services on its networks and of published ports is what
    /// runs, all of it and nothing else; in words if not.
    ///
    /// # Errors
    /// Which host is told what, and what runs.
    pub fn networks_are_true(&self) -> Result<(), String> {
        if let Some(shared) = self.shared_addresses().first() {
            return Err(format!("several have one address: {shared:?}"));
        }
        self.blocks_are_apart()?;
        let networks = self.agreed_networks()?;
        let attached: BTreeMap<ServiceId, Attached> = self
            .agreed_by_those_who_act()?
            .into_iter()
            .map(|(service, (_, _, text))| {
                let spec: Value = serde_json::from_str(&text).unwrap_or_default();
                let waits = Self::waits_for_networks(&text, &networks);
                let (networks, ports) = (named_in(&spec["TaskTemplate"]), published_in(&spec));
                (service, Attached { networks, ports, template: template_id(&spec), waits })
            })
            .collect();
        self.virtual_addresses_are_apart(&networks)?;
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            let Some(process) = &host.process else { continue };
            let picture = process.core.network_picture();
            self.compare_networks(host, &picture, &attached)?;
            self.compare_ports(host, &picture, &attached)?;
            Self::compare_containers(host, &picture, &networks, &attached)?;
        }
        Ok(())
    }

    fn virtual_addresses_are_apart(&self, networks: &Networks) -> Result<(), String> {
        for (id, (_, _, services)) in networks {
            let addresses: BTreeSet<&Ipv4Addr> = services.values().collect();
            if addresses.len() != services.len() {
                return Err(format!("two services on {id} have one address: {services:?}"));
            }
        }
        Ok(())
    }

    /// The services on each network of a host.
    fn compare_networks(
        &self,
        host: &Host,
        picture: &Picture,
        wanted: &BTreeMap<ServiceId, Attached>,
    ) -> Result<(), String> {
        for (id, network) in &picture.networks {
            for (service, attached) in &network.services {
                self.compare(host, *id, *service, &attached.backends)?;
            }
            let mut on = wanted.iter().filter(|(_, attached)| attached.networks.contains(id));
            if let Some((service, _)) =
                on.find(|(service, _)| !network.services.contains_key(service))
            {
                return Err(format!("{} is not told that {service} is on {id}", host.ix));
            }
            let own = network.plain.contains(network.gateway);
            let theirs = network.peers.values().filter_map(|peer| peer.gateway);
            if !own || theirs.into_iter().any(|gateway| gateway == network.gateway) {
                return Err(format!("{} has no address of its own on {}", host.ix, network.name));
            }
        }
        Ok(())
    }

    /// Ports are open on every host, also where nothing of the service runs, and each leads to one service.
    fn compare_ports(
        &self,
        host: &Host,
        picture: &Picture,
        wanted: &BTreeMap<ServiceId, Attached>,
    ) -> Result<(), String> {
        let mut publishers: BTreeMap<u16, BTreeSet<ServiceId>> = BTreeMap::new();
        for (service, attached) in wanted {
            for port in &attached.ports {
                publishers.entry(*port).or_default().insert(*service);
            }
        }
        for port in &picture.ingress {
            let by = publishers.remove(&port.published);
            if by.is_none_or(|by| !by.contains(&port.service)) {
                let (ix, service, port) = (host.ix, port.service, port.published);
                return Err(format!("{ix} is told that {service} publishes {port}"));
            }
            self.compare(host, INGRESS, port.service, &port.backends)?;
        }
        match publishers.first_key_value() {
            Some((port, by)) => {
                Err(format!("{} is not told that {port} is published by {by:?}", host.ix))
            }
            None => Ok(()),
        }
    }

    /// What runs on a host has its addresses, and the host is told of the networks that they are on.
    fn compare_containers(
        host: &Host,
        picture: &Picture,
        networks: &Networks,
        wanted: &BTreeMap<ServiceId, Attached>,
    ) -> Result<(), String> {
        for container in host.engine.containers().filter(|c| c.is_ready()) {
            let mut on = container.addresses.iter().filter(|(id, _)| networks.contains_key(id));
            if let Some((network, _)) = on.find(|(id, _)| !picture.networks.contains_key(id)) {
                return Err(format!("{} is not told of network {network}", host.ix));
            }
            let Some(attached) = wanted.get(&container.service).filter(|on| !on.waits) else {
                continue;
            };
            if container.template != attached.template {
                continue;
            }
            let ingress = (!attached.ports.is_empty()).then_some(INGRESS);
            let should: BTreeSet<NetworkId> =
                attached.networks.iter().copied().chain(ingress).collect();
            let has: BTreeSet<NetworkId> = container.addresses.iter().map(|(id, _)| *id).collect();
            if should != has {
                let (ix, service) = (host.ix, container.service);
                return Err(format!(
                    "a task of {service} on {ix} is on {has:?}, not on {should:?}"
                ));
            }
        }
        Ok(())
    }

    fn compare(
        &self,
        told: &Host,
        network: NetworkId,
        service: ServiceId,
        backends: &[Backend],
    ) -> Result<(), String> {
        let ready = backends.iter().filter(|backend| backend.ready && !backend.draining);
        let said: Reached = ready.map(|b| (b.task, b.node, b.address)).collect();
        let mut runs = Reached::new();
        for host in self.world.hosts.iter().filter(|host| host.acts()) {
            for container in
                host.engine.containers().filter(|c| c.service == service && c.is_ready())
            {
                let on = container.addresses.iter().filter(|(id, _)| *id == network);
                runs.extend(on.map(|(_, address)| (container.task, host.id, *address)));
            }
        }
        if said == runs {
            return Ok(());
        }
        Err(format!(
            "{} is told {said:?} of {service} on {network}, and what runs is {runs:?}",
            told.ix
        ))
    }
}
