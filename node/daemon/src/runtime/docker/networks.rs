//! The engine's networks that stand for networks of the cluster: made when they are needed, taken down when nothing is
//! attached to them any more.
//!
//! Each is a plain bridge network under the name that operators gave, with the cluster's subnet and this host's own
//! address and block in it, so that `docker run --network NAME` and compose work as with any other. What the engine
//! has is told from what others made by labels, as with containers; a network without them is never touched.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Duration;

use bollard::models::{
    EndpointIpamConfig, EndpointSettings, Ipam, IpamConfig, NetworkConnectRequest,
    NetworkCreateRequest, NetworkInspect, NetworkingConfig,
};
use bollard::query_parameters::{InspectNetworkOptions, ListNetworksOptionsBuilder};
use membership::id::NetworkId;
use node::network::engine::{EngineNetwork, FoundNetwork, TaskNetwork};
use node::network::{devices, encryption};
use node::runtime::{ActionResult, label};

use super::Shared;
use super::engine::{CallError, READ_DEADLINE, WORK_DEADLINE};
use super::observe::ours;
use crate::network::way_mtu;
use crate::runtime::Owner;

const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
const MTU_OPTION: &str = "com.docker.network.driver.mtu";

/// How long a start waits for the containers of an earlier network of the same name to go: their grace time, mostly.
const IN_USE_FOR: Duration = Duration::from_secs(15);
const LOOK_EVERY: Duration = Duration::from_millis(300);
/// How often a node that leaves looks: its last containers may just be going.
const LEAVING_LOOKS: usize = 10;

/// Networks that are known to be as they should.
#[derive(Debug, Default)]
pub(super) struct Networks {
    /// One at a time: two starts would both find that a network is missing.
    known: tokio::sync::Mutex<BTreeMap<NetworkId, EngineNetwork>>,
    /// Where other hosts reach this one.
    pub(super) address: OnceLock<IpAddr>,
}

/// Why a network is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetworkError {
    #[error(transparent)]
    Engine(#[from] CallError),
    #[error(
        "a network named {0} is on this host's engine already and is none of the cluster's: shoal does not touch it. Remove it with 'docker network rm {0}' on this host, or give the cluster's network another name"
    )]
    NameTaken(String),
    #[error(
        "network {0} on this host's engine is still an earlier one of that name, or for another block of addresses, and containers are attached to it: it is made anew when they have gone"
    )]
    Outdated(String),
}

impl Networks {
    /// Nothing is known any more: the engine was away, or said that one is missing.
    pub(super) async fn forget(&self) {
        self.known.lock().await.clear();
    }
}

/// Sees that a network is there before a container is attached to it.
pub(super) async fn ensure(shared: &Shared, wanted: &EngineNetwork) -> Result<(), NetworkError> {
    let until = tokio::time::Instant::now() + IN_USE_FOR;
    loop {
        let mut known = shared.networks.known.lock().await;
        if known.get(&wanted.id) == Some(wanted) {
            return Ok(());
        }
        match make(shared, wanted).await {
            // A stack that is removed and deployed again has the same names; its old containers are about to go.
            Err(NetworkError::Outdated(_)) if tokio::time::Instant::now() < until => {}
            Err(error) => return Err(error),
            Ok(()) => {
                known.insert(wanted.id, wanted.clone());
                return Ok(());
            }
        }
        drop(known);
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Answers [`node::runtime::RuntimeAction::Networks`].
pub(super) async fn bring(shared: &Shared, wanted: Option<&[EngineNetwork]>) -> ActionResult {
    let mut known = shared.networks.known.lock().await;
    known.clear();
    let mut failed = Vec::new();
    let found = match look_at_all(shared).await {
        Ok(found) => found,
        Err(error) => return networks_failed(&error),
    };
    let Some(wanted) = wanted else {
        return ActionResult::Networks { found: found.into_iter().map(|f| f.0).collect(), failed };
    };
    for (network, name) in &found {
        let is_wanted = wanted.iter().any(|one| one.id == network.id);
        if !is_wanted
            && !network.used
            && let Err(error) = remove(shared, name).await
        {
            failed.push(format!("the network {name} cannot be taken down: {error}"));
        }
    }
    for network in wanted {
        match make(shared, network).await {
            Ok(()) => drop(known.insert(network.id, network.clone())),
            Err(error @ NetworkError::Engine(CallError::Unavailable(_))) => {
                return networks_failed(&error);
            }
            Err(error) => {
                failed.push(format!("the network {} cannot be made: {error}", network.name));
            }
        }
    }
    match look_at_all(shared).await {
        Ok(found) => {
            let found = found.into_iter().map(|(network, _)| network).collect();
            ActionResult::Networks { found, failed }
        }
        Err(error) => networks_failed(&error),
    }
}

/// Takes all networks down to which nothing is attached; says which are left, and why.
pub(super) async fn leave(shared: &Shared) -> Vec<String> {
    let mut left = Vec::new();
    for look in 0..LEAVING_LOOKS {
        if look > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        left = match bring(shared, Some(&[])).await {
            ActionResult::Networks { found, failed } => {
                let used = found.iter().filter(|network| network.used).map(|network| {
                    let bridge = devices::bridge_name(network.id);
                    format!("containers are still attached to the network with the bridge {bridge}")
                });
                used.chain(failed).collect()
            }
            ActionResult::NetworksFailed { message } => vec![message],
            _ => Vec::new(),
        };
        if left.is_empty() {
            break;
        }
    }
    left
}

fn networks_failed(error: &dyn std::fmt::Display) -> ActionResult {
    let message = format!("the engine's networks cannot be brought in step: {error}");
    ActionResult::NetworksFailed { message }
}

/// Makes a network, or finds that it is there.
async fn make(shared: &Shared, wanted: &EngineNetwork) -> Result<(), NetworkError> {
    if let Some(there) = inspect(shared, &wanted.name).await? {
        let Some(found) = read(shared.owner, &there) else {
            return Err(NetworkError::NameTaken(wanted.name.clone()));
        };
        // One that was removed and created anew has the name, too.
        if found.id == wanted.id && fits(wanted, &there) {
            return Ok(());
        }
        if found.used {
            return Err(NetworkError::Outdated(wanted.name.clone()));
        }
        remove(shared, &wanted.name).await?;
    }
    let request = request(shared.owner, wanted, packet_size(shared, wanted).await);
    shared
        .engine
        .call("make a network", WORK_DEADLINE, |docker| async move {
            docker.create_network(request).await
        })
        .await?;
    Ok(())
}

/// How large packets may be: what fits on the way between the hosts.
async fn packet_size(shared: &Shared, wanted: &EngineNetwork) -> u32 {
    if wanted.encrypted {
        return devices::mtu(encryption::DEVICE_MTU, true, wanted.mtu);
    }
    let address = shared.networks.address.get().copied();
    let way = match address {
        Some(address) => way_mtu(address).await.ok().flatten(),
        None => None,
    };
    let v6 = address.is_some_and(|address| address.is_ipv6());
    devices::mtu(way.unwrap_or(devices::USUAL_MTU), v6, wanted.mtu)
}

fn request(owner: Owner, wanted: &EngineNetwork, mtu: u32) -> NetworkCreateRequest {
    NetworkCreateRequest {
        name: wanted.name.clone(),
        driver: Some("bridge".to_owned()),
        internal: Some(wanted.internal),
        ipam: Some(Ipam {
            config: Some(vec![IpamConfig {
                subnet: Some(wanted.subnet.to_string()),
                ip_range: Some(wanted.plain.to_string()),
                gateway: Some(wanted.gateway.to_string()),
                // The first of the block ends with 0 on large networks: valid, and not everything believes it.
                auxiliary_addresses: Some(HashMap::from([(
                    "first".to_owned(),
                    wanted.plain.first.to_string(),
                )])),
            }]),
            ..Ipam::default()
        }),
        options: Some(HashMap::from([
            (BRIDGE_OPTION.to_owned(), wanted.bridge()),
            (MTU_OPTION.to_owned(), mtu.to_string()),
        ])),
        labels: Some(HashMap::from([
            (label::NODE.to_owned(), owner.node.to_string()),
            (label::CLUSTER.to_owned(), owner.cluster.to_string()),
            (label::NETWORK.to_owned(), wanted.id.to_string()),
        ])),
        ..NetworkCreateRequest::default()
    }
}

async fn remove(shared: &Shared, name: &str) -> Result<(), CallError> {
    let name = name.to_owned();
    let removed = shared
        .engine
        .call("remove a network", WORK_DEADLINE, |docker| async move {
            docker.remove_network(&name).await
        })
        .await;
    match removed {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

async fn inspect(shared: &Shared, name: &str) -> Result<Option<NetworkInspect>, CallError> {
    let wanted = name.to_owned();
    let found = shared
        .engine
        .call("inspect a network", READ_DEADLINE, |docker| async move {
            docker.inspect_network(&wanted, None::<InspectNetworkOptions>).await
        })
        .await;
    match found {
        // The engine also takes the beginning of an id for a name.
        Ok(found) => Ok(Some(found).filter(|found| found.name.as_deref() == Some(name))),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// All networks of the cluster that this node has made, with their names.
async fn look_at_all(shared: &Shared) -> Result<Vec<(FoundNetwork, String)>, CallError> {
    let filters = HashMap::from([("label", ours(shared.owner))]);
    let options = ListNetworksOptionsBuilder::default().filters(&filters).build();
    let listed = shared
        .engine
        .call("list networks", READ_DEADLINE, |docker| async move {
            docker.list_networks(Some(options)).await
        })
        .await?;
    let mut all = Vec::new();
    for name in listed.into_iter().filter_map(|network| network.name) {
        // Only a look at one says what is attached to it.
        let there = inspect(shared, &name).await?;
        let found = there.as_ref().and_then(|there| read(shared.owner, there));
        all.extend(found.map(|found| (found, name)));
    }
    Ok(all)
}

/// What a network of this node's stands for; `None` for anybody else's.
fn read(owner: Owner, there: &NetworkInspect) -> Option<FoundNetwork> {
    let labels = there.labels.as_ref()?;
    let is = |name: &str, value: String| labels.get(name) == Some(&value);
    let mine =
        is(label::NODE, owner.node.to_string()) && is(label::CLUSTER, owner.cluster.to_string());
    Some(FoundNetwork {
        id: labels.get(label::NETWORK).filter(|_| mine)?.parse().ok()?,
        gateway: gateway(there)?,
        used: there.containers.as_ref().is_some_and(|containers| !containers.is_empty()),
    })
}

fn gateway(there: &NetworkInspect) -> Option<Ipv4Addr> {
    let config = there.ipam.as_ref()?.config.as_ref()?.first()?;
    config.gateway.as_deref()?.split('/').next()?.parse().ok()
}

fn fits(wanted: &EngineNetwork, there: &NetworkInspect) -> bool {
    let config =
        there.ipam.as_ref().and_then(|ipam| ipam.config.as_ref()).and_then(|all| all.first());
    let subnet = config.and_then(|config| config.subnet.clone());
    subnet == Some(wanted.subnet.to_string())
        && gateway(there) == Some(wanted.gateway)
        && there.internal.unwrap_or(false) == wanted.internal
}

/// How a container is attached to the first of its networks; the engine takes one when it creates a container.
pub(super) fn first(networks: &[TaskNetwork]) -> Option<NetworkingConfig> {
    let first = networks.first()?;
    let endpoints = HashMap::from([(first.network.name.clone(), endpoint(first.address))]);
    Some(NetworkingConfig { endpoints_config: Some(endpoints) })
}

/// Attaches a created container to the others of its networks.
pub(super) async fn connect_others(
    shared: &Shared,
    container: &str,
    networks: &[TaskNetwork],
) -> Result<(), CallError> {
    for on in networks.iter().skip(1) {
        let request = NetworkConnectRequest {
            container: container.to_owned(),
            endpoint_config: Some(endpoint(on.address)),
        };
        let name = on.network.name.clone();
        let connected = shared
            .engine
            .call("attach a container to a network", WORK_DEADLINE, |docker| async move {
                docker.connect_network(&name, request).await
            })
            .await;
        match connected {
            // An earlier attempt got that far.
            Err(CallError::Refused { message, .. })
                if message.contains("already exists in network") => {}
            other => other?,
        }
    }
    Ok(())
}

fn endpoint(address: Ipv4Addr) -> EndpointSettings {
    EndpointSettings {
        ipam_config: Some(EndpointIpamConfig {
            ipv4_address: Some(address.to_string()),
            ..EndpointIpamConfig::default()
        }),
        ..EndpointSettings::default()
    }
}

#[cfg(test)]
mod tests {
    use membership::id::{ClusterId, NodeId};

    use super::*;

    const OWNER: Owner = Owner { cluster: ClusterId(7), node: NodeId(8) };

    fn wanted() -> EngineNetwork {
        EngineNetwork {
            id: NetworkId(5),
            name: "back".to_owned(),
            subnet: "10.9.0.0/16".parse().unwrap(),
            gateway: Ipv4Addr::new(10, 9, 40, 1),
            plain: "10.9.40.0/25".parse().unwrap(),
            internal: true,
            encrypted: false,
            mtu: None,
        }
    }

    fn there(request: NetworkCreateRequest) -> NetworkInspect {
        NetworkInspect {
            name: Some(request.name),
            ipam: request.ipam,
            internal: request.internal,
            labels: request.labels,
            ..NetworkInspect::default()
        }
    }

    #[test]
    fn what_is_made_is_found_again_and_nobody_elses() {
        let network = there(request(OWNER, &wanted(), 1450));
        let found = read(OWNER, &network).unwrap();
        assert_eq!((found.id, found.gateway), (NetworkId(5), Ipv4Addr::new(10, 9, 40, 1)));
        assert!(!found.used && fits(&wanted(), &network));
        assert_eq!(read(Owner { node: NodeId(9), ..OWNER }, &network), None);
        assert_eq!(read(OWNER, &NetworkInspect { labels: None, ..network.clone() }), None);
        let moved = EngineNetwork { gateway: Ipv4Addr::new(10, 9, 41, 1), ..wanted() };
        assert!(!fits(&moved, &network));
    }
}
