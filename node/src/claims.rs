//! Who says that it runs what: the claims of all nodes in one table, and the order that decides
//! between two of them.
//!
//! Claims come from facts, and each fact from its owner alone, so the table is a plain copy of what
//! the owners last said. Which claims count depends on the members: those of a node that is down or
//! has left do not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use membership::fact::FactKey;
use membership::id::{NodeId, ServiceId};
use membership::wire;
use placement::Race;

use crate::slot::{Claim, ClaimPart, Epoch, Phase, Place, Slot};

/// What decides between two claims on one slot; the greater one stands.
///
/// (ready, epoch, rank): a claim that serves beats one that does not; of two alike the later
/// take-over; and if two nodes took over in one epoch, the better candidate. `race` is the placement's
/// number for (service, slot, node), of which the smaller wins; the id makes the order total.
pub(crate) fn strength(
    claim: &Claim,
    node: NodeId,
    race: Race,
) -> (bool, Epoch, Reverse<(Race, NodeId)>) {
    let serves = matches!(claim.phase, Phase::Ready | Phase::Complete);
    (serves, claim.epoch, Reverse((race, node)))
}

/// All claims of all nodes, by place.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimTable {
    by_service: BTreeMap<ServiceId, BTreeMap<Slot, BTreeMap<NodeId, Claim>>>,
    /// Which slots each part of a node's claims held, so that a new part replaces exactly the old.
    parts: BTreeMap<(NodeId, ServiceId, u16), BTreeSet<Slot>>,
    highest: BTreeMap<Place, Epoch>,
}

impl ClaimTable {
    /// Takes a fact over. Answers the service whose claims changed.
    ///
    /// # Errors
    /// When the value is not a list of claims; the table is then unchanged.
    pub(crate) fn apply(
        &mut self,
        owner: NodeId,
        key: FactKey,
        value: Option<&[u8]>,
    ) -> Result<Option<ServiceId>, wire::WireError> {
        let FactKey::Claims { service, part } = key else { return Ok(None) };
        let claims = match value {
            Some(bytes) => wire::decode::<ClaimPart>(bytes)?.claims,
            None => Vec::new(),
        };
        let new: BTreeSet<Slot> = claims.iter().map(|c| c.slot).collect();
        let old = if new.is_empty() {
            self.parts.remove(&(owner, service, part))
        } else {
            self.parts.insert((owner, service, part), new.clone())
        };
        for slot in old.unwrap_or_default().difference(&new) {
            self.remove(owner, Place { service, slot: *slot });
        }
        for claim in claims {
            self.insert(owner, service, claim);
        }
        Ok(Some(service))
    }

    fn insert(&mut self, owner: NodeId, service: ServiceId, claim: Claim) {
        let place = Place { service, slot: claim.slot };
        let highest = self.highest.entry(place).or_default();
        *highest = (*highest).max(claim.epoch);
        self.by_service
            .entry(service)
            .or_default()
            .entry(claim.slot)
            .or_default()
            .insert(owner, claim);
    }

    fn remove(&mut self, owner: NodeId, place: Place) {
        let Some(slots) = self.by_service.get_mut(&place.service) else { return };
        if let Some(holders) = slots.get_mut(&place.slot) {
            holders.remove(&owner);
            if holders.is_empty() {
                slots.remove(&place.slot);
            }
        }
        if slots.is_empty() {
            self.by_service.remove(&place.service);
        }
    }

    /// This node's own claims, straight from what it runs.
    pub(crate) fn set_own(
        &mut self,
        me: NodeId,
        service: ServiceId,
        claims: &BTreeMap<Slot, Claim>,
    ) {
        let old: Vec<Slot> = self
            .slots(service)
            .filter(|(_, holders)| holders.contains_key(&me))
            .map(|(slot, _)| slot)
            .filter(|slot| !claims.contains_key(slot))
            .collect();
        for slot in old {
            self.remove(me, Place { service, slot });
        }
        for claim in claims.values() {
            self.insert(me, service, claim.clone());
        }
    }

    /// Every slot of a service that anybody claims, with the claims on it.
    pub(crate) fn slots(
        &self,
        service: ServiceId,
    ) -> impl Iterator<Item = (Slot, &BTreeMap<NodeId, Claim>)> {
        self.by_service.get(&service).into_iter().flatten().map(|(slot, holders)| (*slot, holders))
    }

    pub(crate) fn on(&self, place: Place) -> Option<&BTreeMap<NodeId, Claim>> {
        self.by_service.get(&place.service)?.get(&place.slot)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.by_service.keys().copied()
    }

    /// The services that a node claims slots of.
    pub(crate) fn services_of(&self, node: NodeId) -> BTreeSet<ServiceId> {
        self.parts
            .range((node, ServiceId(0), 0)..=(node, ServiceId(u128::MAX), u16::MAX))
            .map(|((_, service, _), _)| *service)
            .collect()
    }

    /// The greatest epoch ever seen for a place.
    pub(crate) fn highest(&self, place: Place) -> Epoch {
        self.highest.get(&place).copied().unwrap_or_default()
    }

    /// Forgets what is only history: epochs of services that are gone.
    pub(crate) fn forget_service(&mut self, service: ServiceId) {
        if !self.by_service.contains_key(&service) {
            self.highest.retain(|place, _| place.service != service);
        }
    }
}
