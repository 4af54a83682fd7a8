//! The networks that this node has containers on: its blocks of each, and what its engine is asked for.
//!
//! Level-triggered as all of the core: which networks are needed follows from what the node holds, from published
//! ports, and from plain containers that somebody attaches. What is needed gets a block, is published, and is ordered
//! from the engine once the block is settled; what nobody needs any more is taken down and its blocks are given back.
//!
//! The engine is asked first what it has: after a restart of shoal it knows best under which address this host is on
//! a network, and which networks plain containers are still attached to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use membership::fact::{FactKey, SignedFact};
use membership::id::{NetworkId, NodeId};
use membership::time::{Instant, Millis, Now};
use membership::wire;

use super::blocks::{Mine, Theirs, choose, is_lost};
use super::engine::{EngineNetwork, FoundNetwork};
use super::facts::{Block, Blocks};
use super::picture::Picture;
use super::records::Network;
use crate::held::Held;
use crate::io::{Effect, Notice};
use crate::local::Doing;
use crate::node::Node;
use crate::runtime::RuntimeAction;

/// How long a network is kept for a plain container that was announced and may not be there yet.
const ANNOUNCED: Millis = Millis(60_000);
/// How long an address that was given back is not used again: who still has it in mind is heard of that by then.
const COOLING: Millis = Millis(10_000);
/// A further block is taken when fewer addresses than this part of a block are left.
const SPARE_PART: usize = 4;
/// When the engine could not be asked, it is asked again after this; so it is about what is left over, each time after
/// twice as long: plain containers may stay on a network for days.
const ASK_AGAIN: Millis = Millis(2_000);
const ASK_RARELY: Millis = Millis(60_000);

/// A node's networks.
#[derive(Debug, Default)]
pub(crate) struct Networking {
    /// This node's blocks; the first of each network has its own address in it.
    pub here: BTreeMap<NetworkId, Vec<Mine>>,
    /// Networks that somebody is about to attach a plain container to, and until when that is waited for.
    announced: BTreeMap<NetworkId, Instant>,
    /// What the engine has, as it last said; `None` before it did.
    pub found: Option<BTreeMap<NetworkId, FoundNetwork>>,
    /// The engine is being asked.
    asking: bool,
    ask_at: Instant,
    /// What it was last asked for.
    ordered: Option<Vec<EngineNetwork>>,
    /// What it still has and nobody needs, as of the last look, and how long until the next.
    leftover: BTreeSet<NetworkId>,
    patience: Millis,
    /// Its engine's network was made for a block that this node had to let go of: it is taken down first.
    pub remade: BTreeSet<NetworkId>,
    /// Blocks that this process let go of and that tasks which are about to be replaced still have addresses of.
    lost: BTreeSet<(NetworkId, u32)>,
    /// What it could not do then.
    failed: Vec<String>,
    /// Why a network has no block here.
    pub without: BTreeMap<NetworkId, String>,
    /// Addresses of tasks, as of the last look, and those that were given back since, until when.
    taken: BTreeSet<(NetworkId, Ipv4Addr)>,
    pub cooling: BTreeMap<(NetworkId, Ipv4Addr), Instant>,
    /// When something is due by time alone.
    pub wake: Option<Instant>,
    pub stale: bool,
    pub picture: Arc<Picture>,
    pub drawn: Instant,
}

impl Node {
    /// Whether there is anything to do about networks at all.
    fn has_networks(&self) -> bool {
        // What the engine has is looked at once, and until nothing is left of it: networks outlive this process, and
        // the last container on one may go after its service and the network itself were removed.
        let left = self.networking.found.as_ref().is_none_or(|found| !found.is_empty());
        // A runtime without networks takes no part in them.
        self.profile.runtime != "process"
            && (left
                || !self.view.attached.is_empty()
                || self.view.networks.iter().nth(1).is_some()
                || !self.networking.here.is_empty())
    }

    /// Brings blocks and the engine's networks in step with what is needed.
    pub(crate) fn advance_networks(&mut self, now: Now) {
        self.view.refresh_attached();
        if !self.has_networks() {
            // Nothing is due by time alone; a time that is over would wake this node for ever.
            self.networking.wake = None;
            return;
        }
        let due = self.networking.wake.is_some_and(|at| at <= now.at);
        let news = std::mem::take(&mut self.view.network_news);
        if !due && !news && !self.networking.stale && !self.local.is_touched() {
            return;
        }
        self.networking.stale = true;
        self.networking.wake = None;
        self.note_addresses(now.at);
        if self.networking.found.is_none() {
            self.ask_engine(None, now.at);
            return;
        }
        if self.settling.on() {
            return;
        }
        let needed = self.needed_networks(now.at);
        let mut keep = needed.clone();
        let found = self.networking.found.iter().flatten();
        keep.extend(found.filter(|(_, found)| found.used).map(|(id, _)| *id));
        self.drop_networks(&keep);
        for id in &keep {
            self.see_to_blocks(*id, now);
        }
        self.order_networks(&needed, now.at);
    }

    /// What is needed here, whoever needs it.
    fn needed_networks(&mut self, at: Instant) -> BTreeSet<NetworkId> {
        self.networking.announced.retain(|_, until| *until > at);
        let mut needed: BTreeSet<NetworkId> = self.networking.announced.keys().copied().collect();
        self.wake_at(self.networking.announced.values().copied().min());
        if self.view.attached.is_reached_by_all() {
            needed.extend(self.view.networks.ingress().map(|network| network.id));
        }
        for (place, held) in self.local.held.iter() {
            let service = self.view.services.get(place.service);
            let spec = service.and_then(|service| service.active());
            needed.extend(spec.iter().flat_map(|spec| &spec.networks).map(|a| a.network));
            needed.extend(held.runs().flat_map(|run| &run.addresses).map(|(id, _)| *id));
        }
        let leaving = self.local.leaving.values().flat_map(|leaving| &leaving.addresses);
        needed.extend(leaving.map(|(id, _)| *id));
        needed.retain(|id| self.view.networks.get(*id).is_some_and(|n| n.unusable.is_none()));
        needed
    }

    fn wake_at(&mut self, at: Option<Instant>) {
        let all = [self.networking.wake, at];
        self.networking.wake = all.into_iter().flatten().min();
    }

    fn drop_networks(&mut self, keep: &BTreeSet<NetworkId>) {
        let gone: Vec<NetworkId> =
            self.networking.here.keys().filter(|id| !keep.contains(id)).copied().collect();
        self.networking.without.retain(|id, _| keep.contains(id));
        for id in gone {
            self.networking.here.remove(&id);
            self.networking.lost.retain(|(of, _)| *of != id);
            self.networking.remade.remove(&id);
            self.publish_blocks(id);
        }
    }

    /// Chooses, settles and gives up blocks of one network.
    fn see_to_blocks(&mut self, id: NetworkId, now: Now) {
        let Some(network) = self.view.networks.get(id).cloned() else { return };
        let mut mine = self.networking.here.get(&id).cloned().unwrap_or_default();
        let before = mine.clone();
        if mine.is_empty() {
            mine.extend(self.block_found(&network, now));
        }
        self.keep_of_tasks(&network, &mut mine, now);
        self.give_up_lost(&network, &mut mine);
        let settle = self.settings.stagger.0 / 2;
        let mut settles_at = None;
        for block in mine.iter_mut().filter(|block| !block.is_settled()) {
            let at = block.asked + Millis(settle);
            if now.at >= at {
                block.since = Some(now.wall);
            } else {
                settles_at = Some(at);
            }
        }
        self.wake_at(settles_at);
        if mine.is_empty() || self.wants_more(&network, &mine) {
            match self.choose_block(&network, &mine) {
                Some(index) => {
                    mine.push(Mine { index, asked: now.at, since: None });
                    self.networking.without.remove(&id);
                    self.wake_at(Some(now.at + Millis(settle)));
                }
                None => {
                    let why = format!(
                        "network {} has no free addresses for this node: all blocks of {} are taken by others; create a network with a larger --subnet",
                        network.name, network.subnet
                    );
                    self.networking.without.insert(id, why);
                }
            }
        } else {
            self.networking.without.remove(&id);
        }
        if mine != before {
            self.networking.here.insert(id, mine);
            self.publish_blocks(id);
            // What waits for an address is tried again, and what has one that it may not keep is replaced.
            let on = self.view.attached.on.get(&id);
            let on = on.into_iter().flatten().filter(|service| self.local.holds(**service));
            self.dirty.extend(on.copied());
        }
    }

    /// The block that the engine's network was made for by an earlier process.
    fn block_found(&self, network: &Network, now: Now) -> Option<Mine> {
        let found = self.networking.found.as_ref()?.get(&network.id)?;
        if self.networking.remade.contains(&network.id) {
            return None;
        }
        let index = network.cut.block_of(found.gateway)?;
        let fits = network.cut.gateway(index) == Some(found.gateway);
        fits.then_some(Mine { index, asked: now.at, since: Some(self.started.wall.min(now.wall)) })
    }

    /// Blocks that tasks of an earlier process have addresses of are this node's.
    fn keep_of_tasks(&mut self, network: &Network, mine: &mut Vec<Mine>, now: Now) {
        if mine.is_empty() {
            return;
        }
        let addresses =
            self.networking.taken.range(all_of(network.id)).map(|(_, address)| *address);
        let blocks: BTreeSet<u32> = addresses
            .filter_map(|address| network.cut.block_of(address))
            .filter(|index| network.cut.block(*index).is_some())
            .collect();
        self.networking.lost.retain(|(id, index)| *id != network.id || blocks.contains(index));
        for index in blocks {
            // What another node has the better right to is not had from an earlier life.
            if self.networking.lost.contains(&(network.id, index)) {
                continue;
            }
            let known = mine.iter().any(|block| block.index == index);
            if !known && !self.networking.remade.contains(&network.id) {
                let since = Some(self.started.wall.min(now.wall));
                let block = Mine { index, asked: now.at, since };
                if !is_lost(self.me, &block, &self.blocks_of_others(network.id)) {
                    mine.push(block);
                }
            }
        }
    }

    fn give_up_lost(&mut self, network: &Network, mine: &mut Vec<Mine>) {
        let others = self.blocks_of_others(network.id);
        let lost: Vec<Mine> =
            mine.iter().filter(|block| is_lost(self.me, block, &others)).copied().collect();
        for block in lost {
            let was_first = mine.first().is_some_and(|first| first.index == block.index);
            mine.retain(|one| one.index != block.index);
            if !block.is_settled() {
                continue;
            }
            self.networking.lost.insert((network.id, block.index));
            let text = format!(
                "network {}: the addresses of {} are also used by another node, which began earlier: this node takes others, and replaces the containers that had them",
                network.name,
                network.cut.block(block.index).map(|block| block.to_string()).unwrap_or_default()
            );
            self.out.push(Effect::Notice(Notice::Warning { text }));
            if was_first {
                // Its address and its engine's network go with it, and so does everything on that.
                mine.clear();
                self.networking.remade.insert(network.id);
                return;
            }
        }
    }

    /// One block more is held ready than is needed.
    fn wants_more(&self, network: &Network, mine: &[Mine]) -> bool {
        let all: Vec<Ipv4Addr> = mine
            .iter()
            .enumerate()
            .flat_map(|(n, block)| network.cut.for_tasks(block.index, n == 0))
            .collect();
        let free = all.iter().filter(|a| self.is_free(network.id, **a)).count();
        let block = network.cut.block(mine.last().map_or(0, |block| block.index));
        let size = block.map_or(0, |block| usize::try_from(block.size()).unwrap_or(0));
        free < size / SPARE_PART
    }

    pub(crate) fn is_free(&self, network: NetworkId, address: Ipv4Addr) -> bool {
        let key = (network, address);
        !self.networking.taken.contains(&key) && !self.networking.cooling.contains_key(&key)
    }

    fn choose_block(&self, network: &Network, mine: &[Mine]) -> Option<u32> {
        let members: BTreeSet<NodeId> = self
            .view
            .members
            .iter()
            .filter(|(id, known)| known.belongs() || *id == self.me)
            .map(|(id, _)| id)
            .collect();
        let others = self.blocks_of_others(network.id);
        choose(network.cut, network.id, self.me, mine, &others, &members)
    }

    fn blocks_of_others(&self, network: NetworkId) -> Vec<Theirs<'_>> {
        let said = self.view.blocks.get(&network).into_iter().flatten();
        said.filter(|(node, _)| **node != self.me)
            .filter(|(node, _)| self.view.members.get(**node).is_some_and(|k| k.belongs()))
            .map(|(node, blocks)| Theirs {
                node: *node,
                blocks,
                alive: self.view.members.holds_claims(*node),
            })
            .collect()
    }

    fn publish_blocks(&mut self, id: NetworkId) {
        let blocks: Vec<Block> =
            self.networking.here.get(&id).into_iter().flatten().map(Mine::shown).collect();
        let value = if blocks.is_empty() { None } else { wire::encode(&Blocks { blocks }).ok() };
        let fact = self.facts.publish(FactKey::Blocks { network: id }, value);
        self.spread_facts(fact.into_iter().collect::<Vec<SignedFact>>());
    }

    /// What tasks have, and since when they do not any more.
    fn note_addresses(&mut self, at: Instant) {
        let held = self.local.held.values().flat_map(Held::runs).flat_map(|run| &run.addresses);
        let leaving = self.local.leaving.values().flat_map(|leaving| &leaving.addresses);
        let taken: BTreeSet<(NetworkId, Ipv4Addr)> = held.chain(leaving).copied().collect();
        let networking = &mut self.networking;
        let cooling = networking.cooling.len();
        networking.cooling.retain(|_, until| *until > at);
        let warmed = networking.cooling.len() < cooling;
        for given_back in networking.taken.difference(&taken) {
            networking.cooling.insert(*given_back, at + COOLING);
        }
        networking.taken = taken;
        if warmed {
            // Somebody may have waited for one.
            self.look_at_all();
        }
        self.wake_at(self.networking.cooling.values().copied().min());
    }

    /// As the engine is to have it; `None` until its block is settled.
    pub(crate) fn engine_network(&self, id: NetworkId) -> Option<EngineNetwork> {
        let network = self.view.networks.get(id)?;
        let first = self.networking.here.get(&id)?.first().filter(|block| block.is_settled())?;
        Some(EngineNetwork {
            id,
            name: network.name.clone(),
            subnet: network.subnet,
            gateway: network.cut.gateway(first.index)?,
            plain: network.cut.plain(first.index)?,
            internal: network.flag("Internal"),
            encrypted: network.encrypted,
            mtu: network.mtu,
        })
    }

    fn order_networks(&mut self, needed: &BTreeSet<NetworkId>, at: Instant) {
        let remade = &self.networking.remade;
        let wanted = needed.iter().filter(|id| !remade.contains(id));
        let wanted: Vec<EngineNetwork> = wanted.filter_map(|id| self.engine_network(*id)).collect();
        if self.networking.ordered.as_ref() != Some(&wanted) {
            self.ask_engine(Some(wanted), at);
        } else if !self.networking.remade.is_empty() {
            // Until nothing is attached to it any more.
            self.ask_networks_again(at + ASK_AGAIN);
        } else if !self.networking.asking {
            self.ask_about_leftovers(needed, at);
        }
    }

    /// A network that still had containers when it was to be taken down is taken down when they have gone.
    fn ask_about_leftovers(&mut self, needed: &BTreeSet<NetworkId>, at: Instant) {
        let networking = &mut self.networking;
        let found = networking.found.iter().flatten().map(|(id, _)| *id);
        let leftover: BTreeSet<NetworkId> = found.filter(|id| !needed.contains(id)).collect();
        let same = leftover == networking.leftover;
        networking.patience = match networking.patience {
            Millis(waited) if same => Millis(waited.saturating_mul(2)).clamp(ASK_AGAIN, ASK_RARELY),
            _ => ASK_AGAIN,
        };
        networking.leftover = leftover;
        if !networking.leftover.is_empty() {
            let again = at + networking.patience;
            self.ask_networks_again(again);
        }
    }

    fn ask_engine(&mut self, wanted: Option<Vec<EngineNetwork>>, at: Instant) {
        if self.networking.asking || !self.local.engine_ok {
            return;
        }
        if at < self.networking.ask_at {
            self.wake_at(Some(self.networking.ask_at));
            return;
        }
        self.networking.asking = true;
        self.networking.ordered.clone_from(&wanted);
        self.local.act(Doing::Networks, RuntimeAction::Networks { wanted });
    }

    /// The engine said what it has.
    pub(crate) fn networks_found(
        &mut self,
        result: Result<(Vec<FoundNetwork>, Vec<String>), String>,
        now: Now,
    ) {
        self.networking.asking = false;
        self.networking.stale = true;
        self.networking.wake = Some(now.at);
        match result {
            Ok((found, failed)) => {
                let found: BTreeMap<NetworkId, FoundNetwork> =
                    found.into_iter().map(|found| (found.id, found)).collect();
                self.networking.remade.retain(|id| found.contains_key(id));
                self.networking.found = Some(found);
                // Tried again with each start, and with each look at all; said once.
                if self.networking.failed != failed {
                    for text in failed.iter().cloned() {
                        self.out.push(Effect::Notice(Notice::Warning { text }));
                    }
                    self.networking.failed = failed;
                }
            }
            Err(text) => {
                self.out.push(Effect::Notice(Notice::Warning { text }));
                self.ask_networks_again(now.at + ASK_AGAIN);
            }
        }
        self.look_at_all();
    }

    /// What the engine has may have changed behind our back: it is told again what is wanted.
    pub(crate) fn ask_networks_again(&mut self, at: Instant) {
        self.networking.ask_at = at;
        if self.networking.ordered.take().is_some() || self.networking.found.is_none() {
            self.networking.stale = true;
            self.wake_at(Some(at));
        }
    }

    /// Somebody is about to attach a plain container.
    pub(crate) fn announce_network(&mut self, id: NetworkId, at: Instant) {
        self.networking.announced.insert(id, at + ANNOUNCED);
        self.networking.stale = true;
        self.networking.wake = Some(at);
    }
}

fn all_of(network: NetworkId) -> std::ops::RangeInclusive<(NetworkId, Ipv4Addr)> {
    (network, Ipv4Addr::UNSPECIFIED)..=(network, Ipv4Addr::BROADCAST)
}
