//! Who says that it runs what: the claims of all nodes in one table, and the order that decides
//! between two of them.
//!
//! Claims come from facts, and each fact from its owner alone, so the table is a plain copy of what
//! the owners last said. Which claims count depends on the members: those of a node that is down or
//! has left do not.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

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

/// The claims on one slot, in the order of their holders' ids: nearly always one.
pub(crate) type Holders = Vec<(NodeId, Arc<Claim>)>;

/// All claims of all nodes, by place.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClaimTable {
    by_service: BTreeMap<ServiceId, BTreeMap<Slot, Holders>>,
    /// Which slots each part of a node's claims held, so that a new part replaces exactly the old.
    parts: BTreeMap<(NodeId, ServiceId, u16), Vec<Slot>>,
    highest: BTreeMap<Place, Epoch>,
}

impl ClaimTable {
    /// Takes a fact over. Answers the places about which it says something, or said before.
    ///
    /// # Errors
    /// When the value is not a list of claims; the table is then unchanged.
    pub(crate) fn apply(
        &mut self,
        owner: NodeId,
        key: FactKey,
        value: Option<&[u8]>,
    ) -> Result<BTreeSet<Place>, wire::WireError> {
        let FactKey::Claims { service, part } = key else { return Ok(BTreeSet::new()) };
        let claims = match value {
            Some(bytes) => wire::decode::<ClaimPart>(bytes)?.claims,
            None => Vec::new(),
        };
        Ok(self.replace(owner, service, part, claims))
    }

    fn replace(
        &mut self,
        owner: NodeId,
        service: ServiceId,
        part: u16,
        claims: Vec<Claim>,
    ) -> BTreeSet<Place> {
        // A peer may name a slot twice: the last word counts, once.
        let mut places: BTreeSet<Place> =
            claims.iter().map(|claim| Place { service, slot: claim.slot }).collect();
        let new: Vec<Slot> = places.iter().map(|place| place.slot).collect();
        let key = (owner, service, part);
        let old =
            if new.is_empty() { self.parts.remove(&key) } else { self.parts.insert(key, new) };
        for slot in old.unwrap_or_default() {
            let place = Place { service, slot };
            if places.insert(place) {
                self.remove(owner, place);
            }
        }
        for claim in claims {
            self.insert(owner, service, claim);
        }
        places
    }

    fn insert(&mut self, owner: NodeId, service: ServiceId, claim: Claim) {
        let place = Place { service, slot: claim.slot };
        self.note_epoch(place, claim.epoch);
        let slots = self.by_service.entry(service).or_default();
        let holders = slots.entry(claim.slot).or_default();
        match holders.binary_search_by_key(&owner, |(node, _)| *node) {
            Ok(at) => holders[at].1 = Arc::new(claim),
            Err(at) => {
                // One is the rule: no room is kept for more.
                holders.reserve_exact(1);
                holders.insert(at, (owner, Arc::new(claim)));
            }
        }
    }

    fn remove(&mut self, owner: NodeId, place: Place) {
        let Some(slots) = self.by_service.get_mut(&place.service) else { return };
        if let Some(holders) = slots.get_mut(&place.slot) {
            holders.retain(|(node, _)| *node != owner);
            if holders.is_empty() {
                slots.remove(&place.slot);
            }
        }
        if slots.is_empty() {
            self.by_service.remove(&place.service);
        }
    }

    /// This node's own claims, straight from what it runs. Answers as [`Self::apply`] does.
    pub(crate) fn set_own(
        &mut self,
        me: NodeId,
        service: ServiceId,
        claims: &BTreeMap<Slot, Claim>,
    ) -> BTreeSet<Place> {
        self.replace(me, service, 0, claims.values().cloned().collect())
    }

    /// Every slot of a service that anybody claims, with the claims on it.
    pub(crate) fn slots(&self, service: ServiceId) -> impl Iterator<Item = (Slot, &Holders)> {
        self.by_service.get(&service).into_iter().flatten().map(|(slot, holders)| (*slot, holders))
    }

    /// Who claims a slot.
    pub(crate) fn on(&self, place: Place) -> &[(NodeId, Arc<Claim>)] {
        let slots = self.by_service.get(&place.service);
        slots.and_then(|slots| slots.get(&place.slot)).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn services(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.by_service.keys().copied()
    }

    /// The places that a node claims.
    pub(crate) fn places_of(&self, node: NodeId) -> impl Iterator<Item = Place> + '_ {
        self.parts.range((node, ServiceId(0), 0)..=(node, ServiceId(u128::MAX), u16::MAX)).flat_map(
            |((_, service, _), slots)| {
                slots.iter().map(|slot| Place { service: *service, slot: *slot })
            },
        )
    }

    /// The greatest epoch ever seen for a place.
    pub(crate) fn highest(&self, place: Place) -> Epoch {
        self.highest.get(&place).copied().unwrap_or_default()
    }

    /// The epochs of claims that are made no more: later ones are drawn above them.
    pub(crate) fn remember_epochs(&mut self, key: FactKey, value: Option<&[u8]>) {
        let (FactKey::Claims { service, .. }, Some(bytes)) = (key, value) else { return };
        let Ok(part) = wire::decode::<ClaimPart>(bytes) else { return };
        for claim in part.claims {
            self.note_epoch(Place { service, slot: claim.slot }, claim.epoch);
        }
    }

    fn note_epoch(&mut self, place: Place, epoch: Epoch) {
        let highest = self.highest.entry(place).or_default();
        *highest = (*highest).max(epoch);
    }

    /// Forgets what is only history: epochs of services that are gone.
    pub(crate) fn forget_service(&mut self, service: ServiceId) {
        if !self.by_service.contains_key(&service) {
            let first = Place { service, slot: Slot::Index(0) };
            let last = Place { service, slot: Slot::Node(NodeId(u128::MAX)) };
            let places: Vec<Place> = self.highest.range(first..=last).map(|(p, _)| *p).collect();
            places.iter().for_each(|place| _ = self.highest.remove(place));
        }
    }
}
