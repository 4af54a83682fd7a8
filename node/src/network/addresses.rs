//! Addresses for tasks that are about to start: one on each network, from this node's blocks.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;

use membership::id::NetworkId;

use super::engine::{EngineNetwork, TaskNetwork};
use crate::node::Node;
use crate::start::Recipe;

/// What a task gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub networks: Vec<TaskNetwork>,
    /// Whom its containers ask for names, in this order; empty: as the engine has it.
    pub name_servers: Vec<Ipv4Addr>,
}

/// What one pass may give away.
#[derive(Debug, Default)]
pub(crate) struct Handout {
    pools: BTreeMap<NetworkId, Result<Pool, String>>,
    ingress: Option<NetworkId>,
    /// Why this node has no networks at all.
    none: Option<String>,
}

#[derive(Debug)]
struct Pool {
    engine: EngineNetwork,
    free: VecDeque<Ipv4Addr>,
    /// Another host's name server, for when this one's does not answer.
    other: Option<Ipv4Addr>,
}

impl Handout {
    /// Takes an address on each network that a task is on. `had`: what an earlier order for it said.
    ///
    /// # Errors
    /// Why there is none, in words; nothing was taken then.
    pub(crate) fn give(
        &mut self,
        recipe: &Recipe,
        had: &[(NetworkId, Ipv4Addr)],
    ) -> Result<Given, String> {
        if recipe.networks.is_empty() && !recipe.published {
            return Ok(Given::default());
        }
        if let Some(why) = &self.none {
            return Err(why.clone());
        }
        let ingress = self.ingress.filter(|_| recipe.published);
        let wanted: Vec<NetworkId> = recipe.networks.iter().copied().chain(ingress).collect();
        let before = |id: NetworkId| had.iter().find(|(had, _)| *had == id).map(|(_, a)| *a);
        for id in &wanted {
            match self.pools.get(id) {
                Some(Ok(pool)) if before(*id).is_none() && pool.free.is_empty() => {
                    let name = &pool.engine.name;
                    return Err(format!(
                        "network {name} has no free address on this node at the moment: it takes more, or others have them all"
                    ));
                }
                Some(Ok(_)) => {}
                Some(Err(why)) => return Err(why.clone()),
                None => return Err(format!("network {id} not found")),
            }
        }
        let mut given = Given::default();
        for id in wanted {
            let Some(Ok(pool)) = self.pools.get_mut(&id) else { continue };
            let Some(address) = before(id).or_else(|| pool.free.pop_front()) else { continue };
            // Names are those of the first network; the one for published ports has none.
            if given.name_servers.is_empty() && Some(id) != self.ingress {
                given.name_servers =
                    std::iter::once(pool.engine.gateway).chain(pool.other).collect();
            }
            given.networks.push(TaskNetwork { network: pool.engine.clone(), address });
        }
        Ok(given)
    }
}

/// Why a task cannot keep its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// Its block is another node's: it is replaced by one with another address, which starts beside it.
    Lost,
    /// The engine's network has to be made anew: it has to go first.
    Remade,
}

impl Node {
    pub(crate) fn handout(&self) -> Handout {
        if self.profile.runtime == "process" {
            let why = "this node runs plain processes (the process runtime), which cannot be on networks of the cluster or publish ports on every node: run the service on nodes with Docker, or leave networks and ports out";
            return Handout { none: Some(why.to_owned()), ..Handout::default() };
        }
        if self.view.attached.is_empty() {
            return Handout::default();
        }
        let ids = self.view.networks.iter().map(|network| network.id);
        Handout {
            pools: ids.map(|id| (id, self.pool(id))).collect(),
            ingress: self.view.networks.ingress().map(|network| network.id),
            none: None,
        }
    }

    fn pool(&self, id: NetworkId) -> Result<Pool, String> {
        let network =
            self.view.networks.get(id).ok_or_else(|| format!("network {id} not found"))?;
        if let Some(why) = &network.unusable {
            return Err(why.clone());
        }
        if self.networking.remade.contains(&id) {
            return Err(format!("network {} is being made anew on this node", network.name));
        }
        let engine = self.engine_network(id).ok_or_else(|| {
            let none = self.networking.without.get(&id).cloned();
            none.unwrap_or_else(|| format!("network {} is being set up on this node", network.name))
        })?;
        let blocks = self.networking.here.get(&id).into_iter().flatten().enumerate();
        let settled = blocks.filter(|(_, block)| block.is_settled());
        let all = settled.flat_map(|(n, block)| network.cut.for_tasks(block.index, n == 0));
        let free = all.filter(|address| self.is_free(id, *address)).collect();
        Ok(Pool { engine, free, other: self.other_gateway(id) })
    }

    /// The address of another live node on the network: the next one in the order of ids, so that not all ask one.
    fn other_gateway(&self, id: NetworkId) -> Option<Ipv4Addr> {
        let cut = self.view.networks.get(id)?.cut;
        let said = self.view.blocks.get(&id)?;
        let live = |node: &membership::id::NodeId| {
            *node != self.me && self.view.members.holds_claims(*node)
        };
        let after = said.range((std::ops::Bound::Excluded(self.me), std::ops::Bound::Unbounded));
        let next = after.chain(said.range(..self.me)).find(|(node, _)| live(node));
        let first = next.and_then(|(_, blocks)| blocks.first().filter(|b| b.since.is_some()))?;
        cut.gateway(first.index)
    }

    /// Whether a task may keep the addresses that it has.
    pub(crate) fn trouble(&self, addresses: &[(NetworkId, Ipv4Addr)]) -> Option<Trouble> {
        let one = |(id, address): &(NetworkId, Ipv4Addr)| {
            let network = self.view.networks.get(*id)?;
            if self.networking.remade.contains(id) {
                return Some(Trouble::Remade);
            }
            let mine = self.networking.here.get(id)?;
            let index = network.cut.block_of(*address);
            let kept = mine.iter().any(|block| Some(block.index) == index);
            (!kept).then_some(Trouble::Lost)
        };
        let all: Vec<Trouble> = addresses.iter().filter_map(one).collect();
        let remade = all.contains(&Trouble::Remade).then_some(Trouble::Remade);
        remade.or(all.first().copied())
    }
}
