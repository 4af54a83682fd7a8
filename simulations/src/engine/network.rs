//! An engine's networks that stand for networks of the cluster.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use membership::id::NetworkId;
use node::network::engine::{EngineNetwork, FoundNetwork};
use node::runtime::{ActionResult, StartTask};

use super::Engine;

impl Engine {
    /// Makes what is wanted, takes down what is not and has no containers, and says what there is.
    pub(super) fn bring_networks(&mut self, wanted: Option<&[EngineNetwork]>) -> ActionResult {
        if let Some(wanted) = wanted {
            let used: Vec<_> = self.networks.keys().filter(|id| self.is_used(**id)).collect();
            let used: Vec<_> = used.into_iter().copied().collect();
            self.networks
                .retain(|id, there| used.contains(id) || wanted.iter().any(|one| one == there));
            for network in wanted {
                self.networks.entry(network.id).or_insert_with(|| network.clone());
            }
        }
        let found = self.networks.values().map(|network| FoundNetwork {
            id: network.id,
            gateway: network.gateway,
            used: self.is_used(network.id),
        });
        ActionResult::Networks { found: found.collect(), failed: Vec::new() }
    }

    /// The networks of the cluster that this engine has.
    pub fn networks(&self) -> impl Iterator<Item = NetworkId> {
        self.networks.keys().copied()
    }

    fn is_used(&self, id: NetworkId) -> bool {
        let running = self.containers.values().filter(|container| container.is_running());
        running.flat_map(|container| &container.addresses).any(|(on, _)| *on == id)
    }

    /// An address of a task that another container here has.
    pub(super) fn address_in_use(&self, start: &StartTask) -> Option<Ipv4Addr> {
        let running = self.containers.values().filter(|container| container.is_running());
        let used: BTreeSet<(NetworkId, Ipv4Addr)> =
            running.flat_map(|container| container.addresses.iter().copied()).collect();
        let wanted = start.networks.iter().map(|on| (on.network.id, on.address));
        wanted.into_iter().find(|one| used.contains(one)).map(|(_, address)| address)
    }

    /// A task's networks are made when they are missing.
    pub(super) fn make_networks(&mut self, start: &StartTask) {
        for on in &start.networks {
            self.networks.entry(on.network.id).or_insert_with(|| on.network.clone());
        }
    }
}
