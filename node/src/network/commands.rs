//! Commands about networks, and what services ask of them when they are created or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use membership::id::{NetworkId, ServiceId};
use membership::record::{Key, Kind, Record};
use membership::time::Now;
use rand::RngExt;
use serde_json::Value;

use super::attach::Chosen;
use super::encryption;
use super::picture::Subnet;
use super::records::{Network, NetworkBody};
use super::subnet::{Cut, LARGEST_PREFIX, SMALLEST_PREFIX};
use crate::command::{CommandError, Refused, Reply};
use crate::execute::{Outcome, done, refused};
use crate::io::{Effect, NetworkChange, Notice};
use crate::node::Node;
use crate::slot::Protocol;
use crate::spec::ServiceSpec;

/// The largest spec of a network as JSON, in bytes.
const MAX_SPEC_BYTES: usize = 64 * 1024;
/// The longest name, in bytes.
const MAX_NAME_BYTES: usize = 63;

impl Node {
    pub(crate) fn create_network(&mut self, spec: Value, now: Now) -> Outcome {
        let invalid = |text: String| refused(Refused::Invalid, text);
        let name = spec.get("Name").and_then(Value::as_str).unwrap_or_default();
        check_name(name).map_err(invalid)?;
        let ingress = spec.get("Ingress").and_then(Value::as_bool).unwrap_or(false);
        let named = self.view.networks.named(name);
        if named.is_some_and(|known| !(ingress && known.id == super::INGRESS)) {
            return Err(refused(
                Refused::Conflict,
                format!("network with name {name} already exists"),
            ));
        }
        if ingress {
            self.check_ingress_is_free()?;
        }
        if spec.to_string().len() > MAX_SPEC_BYTES {
            return Err(invalid(format!("its spec has more than {MAX_SPEC_BYTES} bytes")));
        }
        let id = NetworkId(self.rng.random());
        let subnet = match asked_subnet(&spec).map_err(invalid)? {
            Some(subnet) => self.check_range(subnet, ingress)?,
            None => self.free_range(id)?,
        };
        let wall = self.wall(now);
        let created = self.clock.tick(wall);
        let encrypted = encryption::decided(encryption::asked(&spec), self.reached_at());
        let body = NetworkBody::new(created, spec, subnet, encrypted);
        let bytes = serde_json::to_vec(&body).map_err(|e| invalid(e.to_string()))?;
        let record = self.draft(Kind::Network, id.0, Some(bytes), now)?;
        Ok((record.into_iter().collect(), Reply::NetworkCreated { id }))
    }

    /// The addresses of the members that are known.
    fn reached_at(&self) -> impl Iterator<Item = IpAddr> {
        let members = self.view.members.iter().filter(|(_, known)| known.belongs());
        members.filter_map(|(_, known)| Some(known.addr()?.ip()))
    }

    /// The ingress network is there without being created: what it is to be is decided when the first service is
    /// reached over it, and written down with that service.
    pub(crate) fn decide_ingress(
        &mut self,
        spec: &ServiceSpec,
        now: Now,
    ) -> Result<Option<Record>, CommandError> {
        let recorded = self.view.registers.get(&Key { kind: Kind::Network, id: super::INGRESS.0 });
        let is_first = spec.is_reached_by_all() && !self.view.attached.is_reached_by_all();
        let own = self.view.networks.ingress().is_some_and(|one| one.id == super::INGRESS);
        if !is_first || !own || recorded.is_some() {
            return Ok(None);
        }
        if !encryption::decided(None, self.reached_at()) {
            return Ok(None);
        }
        let bytes = serde_json::to_vec(&NetworkBody::encrypted_ingress())
            .map_err(|e| refused(Refused::Invalid, e.to_string()))?;
        self.draft(Kind::Network, super::INGRESS.0, Some(bytes), now)
    }

    fn free_range(&self, id: NetworkId) -> Result<Subnet, CommandError> {
        let hosts = self.view.members.iter().filter_map(|(_, known)| Some(known.addr()?.ip()));
        self.view.networks.free_range(id, hosts).ok_or_else(|| {
            let text = "all ranges from 10.1.0.0/16 to 10.254.0.0/16 are taken by networks and hosts: remove networks, or name a range with --subnet";
            refused(Refused::Invalid, text)
        })
    }

    fn check_range(&self, subnet: Subnet, ingress: bool) -> Result<Subnet, CommandError> {
        if Cut::of(subnet).is_none() {
            let text = format!(
                "the subnet {subnet} cannot be shared among hosts: it has to be a /{LARGEST_PREFIX} to a /{SMALLEST_PREFIX}, for each host takes a block of at least 16 of its addresses"
            );
            return Err(refused(Refused::Invalid, text));
        }
        let replaced = |network: &&Network| !(ingress && network.id == super::INGRESS);
        if let Some(other) = self.view.networks.overlapping(subnet).filter(replaced) {
            let text = format!(
                "Pool overlaps with other one on this address space: {subnet} with {} of network {}",
                other.subnet, other.name
            );
            return Err(refused(Refused::Invalid, text));
        }
        let on_host = self.view.members.iter().find_map(|(_, known)| match known.addr()?.ip() {
            IpAddr::V4(ip) if subnet.contains(ip) => Some((known.name(), ip)),
            _ => None,
        });
        match on_host {
            Some((name, ip)) => {
                let text = format!(
                    "the subnet {subnet} holds the address {ip} of node {name}: its containers would not reach that host; name another one"
                );
                Err(refused(Refused::Invalid, text))
            }
            None => Ok(subnet),
        }
    }

    fn check_ingress_is_free(&self) -> Result<(), CommandError> {
        if self.view.networks.ingress().is_some_and(|network| network.id != super::INGRESS) {
            let text = "ingress network is already present: remove it first";
            return Err(refused(Refused::Conflict, text));
        }
        match self.view.attached.published.values().next() {
            Some(service) => {
                let name = self.view.services.get(*service).map(|s| s.name().to_owned());
                let text = format!(
                    "the ingress network is in use by service {}, which publishes a port: remove its ports first",
                    name.unwrap_or_default()
                );
                Err(refused(Refused::Invalid, text))
            }
            None => Ok(()),
        }
    }

    pub(crate) fn remove_network(&mut self, id: NetworkId, now: Now) -> Outcome {
        self.view.refresh_attached();
        let Some(network) = self.view.networks.get(id) else {
            return Err(refused(Refused::NotFound, format!("network {id} not found")));
        };
        let name = network.name.clone();
        let on = self.view.attached.on.get(&id).into_iter().flatten().next();
        if let Some(service) = on {
            let text = format!("network {name} is in use by service {service}");
            return Err(refused(Refused::Invalid, text));
        }
        if id == super::INGRESS {
            let text = "the ingress network is always there; docker network create --ingress puts another one in its place";
            return Err(refused(Refused::Invalid, text));
        }
        let record = self.draft(Kind::Network, id.0, None, now)?;
        Ok((record.into_iter().collect(), done()))
    }

    /// A plain container is about to be attached on this node.
    pub(crate) fn attach_here(&mut self, id: NetworkId, now: Now) -> Outcome {
        let Some(network) = self.view.networks.get(id) else {
            return Err(refused(Refused::NotFound, format!("network {id} not found")));
        };
        if let Some(why) = &network.unusable {
            return Err(refused(Refused::Invalid, why.clone()));
        }
        if !network.flag("Attachable") {
            let text = format!(
                "Could not attach to network {0}: network {0} not manually attachable",
                network.name
            );
            return Err(refused(Refused::Forbidden, text));
        }
        self.announce_network(id, now.at);
        Ok((Vec::new(), done()))
    }

    /// Whether the networks and ports that a spec asks for can be had; chooses what it leaves open.
    pub(crate) fn choose_for(
        &mut self,
        id: ServiceId,
        spec: &mut ServiceSpec,
        before: &Chosen,
    ) -> Result<Chosen, CommandError> {
        self.view.refresh_attached();
        let mut addresses = BTreeMap::new();
        for attachment in &spec.networks {
            let network = self.view.networks.get(attachment.network).ok_or_else(|| {
                refused(Refused::NotFound, format!("network {} not found", attachment.network))
            })?;
            if let Some(why) = &network.unusable {
                return Err(refused(Refused::Invalid, why.clone()));
            }
            let held = self.view.attached.address(network.id, id);
            let chosen = before.address(network.id).or(held);
            let chosen = chosen.or_else(|| self.view.attached.free_address(network, id));
            if let Some(address) = chosen.filter(|_| !spec.dnsrr) {
                addresses.insert(network.id.to_string(), address);
            }
        }
        let mut chosen = Chosen { addresses, ports: before.ports.clone() };
        chosen.fill(&mut spec.ingress_ports);
        self.check_ports(id, spec)?;
        let others = self.view.attached.published.iter().filter(|(_, service)| **service != id);
        let taken: BTreeSet<(Protocol, u16)> = others.map(|(port, _)| *port).collect();
        chosen
            .choose(&mut spec.ingress_ports, taken)
            .map_err(|text| refused(Refused::Invalid, text))?;
        Ok(chosen)
    }

    /// Ports in Swarm's words.
    fn check_ports(&self, id: ServiceId, spec: &ServiceSpec) -> Result<(), CommandError> {
        let others = || self.view.services.iter().filter(|other| other.id != id);
        for other in others() {
            let Some(theirs) = other.active() else { continue };
            let clash = |ours: &[crate::slot::PortStatus], theirs: &[crate::slot::PortStatus]| {
                let open = ours.iter().filter(|port| port.published != 0);
                let same = |p: &&crate::slot::PortStatus| {
                    theirs.iter().any(|t| (t.protocol, t.published) == (p.protocol, p.published))
                };
                open.into_iter().find(same).map(|port| port.published)
            };
            let ingress = clash(&spec.ingress_ports, &theirs.ingress_ports)
                .or_else(|| clash(&spec.host_ports, &theirs.ingress_ports))
                .map(|port| (port, "an ingress port"));
            let host = clash(&spec.ingress_ports, &theirs.host_ports)
                .map(|port| (port, "a host-published port"));
            if let Some((port, what)) = ingress.or(host) {
                let text = format!(
                    "port '{port}' is already in use by service '{}' ({}) as {what}",
                    other.name(),
                    other.id
                );
                return Err(refused(Refused::Invalid, text));
            }
        }
        Ok(())
    }

    /// A network's register changed: says so, and has those planned anew who are on it.
    pub(crate) fn network_changed(&mut self, key: &Key) {
        let id = NetworkId(key.id);
        let before = self.view.networks.refresh(id, &self.view.registers);
        self.view.attached_changed = true;
        let after = self.view.networks.get(id);
        let what = match (&before, after) {
            (None, Some(_)) => NetworkChange::Created,
            (Some(_), None) => NetworkChange::Removed,
            _ => return,
        };
        let name = after.or(before.as_ref()).map(|n| n.name.clone()).unwrap_or_default();
        self.out.push(Effect::Notice(Notice::Network { id, name, what }));
        let on = self.view.attached.on.get(&id).into_iter().flatten().copied();
        self.dirty.extend(on);
    }
}

fn check_name(name: &str) -> Result<(), String> {
    let inside = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if name.is_empty() {
        return Err("network name cannot be empty".to_owned());
    }
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("a network's name may have {MAX_NAME_BYTES} characters"));
    }
    if matches!(name, "host" | "bridge" | "none" | "default" | "container") {
        return Err(format!("operation is not permitted on predefined {name} network"));
    }
    if !name.as_bytes()[0].is_ascii_alphanumeric() || !name.bytes().all(inside) {
        return Err(format!(
            "invalid network name '{name}': letters, digits, '-', '_' and '.' are allowed, the first has to be a letter or a digit"
        ));
    }
    Ok(())
}

/// The subnet that a spec asks for.
///
/// # Errors
/// What of its IPAM cannot be honoured.
fn asked_subnet(spec: &Value) -> Result<Option<Subnet>, String> {
    if spec.get("EnableIPv6").and_then(Value::as_bool).unwrap_or(false) {
        return Err(
            "IPv6 is not supported on networks of the whole cluster: leave --ipv6 out".to_owned()
        );
    }
    let ipam = spec.get("IPAM");
    let driver = ipam.and_then(|ipam| ipam.get("Driver")).and_then(Value::as_str);
    if !matches!(driver, None | Some("" | "default")) {
        return Err(format!(
            "the address driver '{}' is not supported: leave it out",
            driver.unwrap_or_default()
        ));
    }
    let config = ipam.and_then(|ipam| ipam.get("Config")).and_then(Value::as_array);
    let config = config.map(Vec::as_slice).unwrap_or_default();
    let [one] = config else {
        return match config {
            [] => Ok(None),
            _ => Err("several subnets on one network are not supported: name one".to_owned()),
        };
    };
    for (field, why) in [
        ("Gateway", "each host has an address of its own on the network"),
        ("IPRange", "each host takes a block of the subnet by itself"),
        ("AuxiliaryAddresses", "hosts take their addresses by themselves"),
        ("AuxAddress", "hosts take their addresses by themselves"),
    ] {
        let given = one.get(field).is_some_and(|value| match value {
            Value::String(text) => !text.is_empty(),
            Value::Object(map) => !map.is_empty(),
            _ => false,
        });
        if given {
            return Err(format!("IPAM {field} is not supported: {why}; leave it out"));
        }
    }
    let subnet = one.get("Subnet").and_then(Value::as_str).filter(|text| !text.is_empty());
    subnet.map(|text| text.parse().map_err(|e| format!("{e}"))).transpose()
}
