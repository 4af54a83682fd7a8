//! Networks of the cluster: operators create them, attach services to them, publish ports, and remove them.

use membership::id::{NetworkId, ServiceId};
use node::command::Command;
use serde_json::{Value, json};

use super::{Asked, CommandNo, Operators};
use crate::links::HostIx;
use crate::world::World;

/// The port in the containers that a published one leads to.
const TARGET: u16 = 80;

fn name_of(network: u32) -> String {
    format!("n{network}")
}

impl Operators {
    pub(super) fn create_network(
        &mut self,
        world: &mut World,
        on: HostIx,
        network: u32,
        subnet: Option<&str>,
    ) -> CommandNo {
        let config: Vec<Value> = subnet.iter().map(|range| json!({ "Subnet": range })).collect();
        let spec = json!({
            "Name": name_of(network), "Driver": "overlay", "IPAM": { "Config": config },
        });
        self.send(world, on, Asked::CreateNetwork { network }, Command::CreateNetwork { spec })
    }

    pub(super) fn remove_network(
        &mut self,
        world: &mut World,
        on: HostIx,
        network: u32,
    ) -> Option<CommandNo> {
        let id = *self.networks.get(&network)?;
        let asked = Asked::RemoveNetwork { network };
        Some(self.send(world, on, asked, Command::RemoveNetwork { id }))
    }

    /// The spec of a service that is on these networks, and reached at this port. `None` where there is no such
    /// network: the client looks them up by name and finds nothing.
    pub(super) fn attached(
        &self,
        mut spec: Value,
        networks: &[u32],
        port: Option<u16>,
    ) -> Option<Value> {
        let ids = networks.iter().map(|network| self.networks.get(network));
        let ids: Vec<NetworkId> = ids.map(|id| id.copied()).collect::<Option<_>>()?;
        attach_to(&mut spec, &ids, port);
        Some(spec)
    }

    /// Other networks and another port for a service that is there.
    pub(super) fn attach(
        &mut self,
        world: &mut World,
        on: HostIx,
        id: ServiceId,
        networks: &[u32],
        port: Option<u16>,
    ) -> Option<CommandNo> {
        let ids = networks.iter().map(|network| self.networks.get(network));
        let ids: Vec<NetworkId> = ids.map(|id| id.copied()).collect::<Option<_>>()?;
        self.update(world, on, id, |spec| attach_to(spec, &ids, port))
    }
}

fn attach_to(spec: &mut Value, networks: &[NetworkId], port: Option<u16>) {
    let targets = networks.iter().map(|id| json!({ "Target": id.to_string() }));
    let targets: Vec<Value> = targets.collect();
    if !targets.is_empty() || !spec["TaskTemplate"]["Networks"].is_null() {
        spec["TaskTemplate"]["Networks"] = json!(targets);
    }
    if let Some(port) = port {
        spec["EndpointSpec"] =
            json!({ "Ports": [{ "TargetPort": TARGET, "PublishedPort": port }] });
    } else if !spec["EndpointSpec"].is_null() {
        spec["EndpointSpec"] = json!({});
    }
}

/// The networks that a template names.
pub fn named_in(template: &Value) -> Vec<NetworkId> {
    let all = template["Networks"].as_array().into_iter().flatten();
    all.filter_map(|one| one["Target"].as_str()?.parse().ok()).collect()
}

/// The ports at which a service of this spec is reached on every node.
pub fn published_in(spec: &Value) -> Vec<u16> {
    let all = spec["EndpointSpec"]["Ports"].as_array().into_iter().flatten();
    all.filter_map(|port| u16::try_from(port["PublishedPort"].as_u64()?).ok()).collect()
}
