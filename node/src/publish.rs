//! What this node says about itself: profile, health, edges, claims and history as signed facts.

use std::collections::{BTreeMap, BTreeSet};

use membership::detector::EdgeReport;
use membership::fact::{FactKey, MAX_FACT_BYTES, SignedFact};
use membership::id::{Incarnation, NodeId, ServiceId};
use membership::member::Resources;
use membership::time::Now;
use membership::wire::{self, Versioned};

use crate::io::{Effect, Notice};
use crate::node::Node;
use crate::slot::{Claim, ClaimPart, History, Place, Slot};

/// Slots of one service that share a part: few enough that a part fits a fact, many enough that a
/// service of a hundred replicas is a handful of facts.
const SLOTS_PER_PART: u32 = 24;
/// What is left of texts when a part would be too large.
const TRIMMED_TEXT: usize = 40;

impl Node {
    fn publish<T: Versioned>(&mut self, key: FactKey, value: &T) -> Option<SignedFact> {
        match wire::encode(value) {
            Ok(bytes) => self.facts.publish(key, Some(bytes)),
            Err(error) => {
                let text = format!(
                    "this node's fact {key:?} could not be published: {error}; peers keep what it said before"
                );
                self.out.push(Effect::Notice(Notice::Warning { text }));
                None
            }
        }
    }

    pub(crate) fn publish_profile(&mut self, now: Now) {
        let profile = self.profile.clone();
        if !self.view.is_shared() {
            let known = self.view.members.entry(self.me, now);
            known.profile = Some(profile.clone());
            known.incarnation = self.facts.incarnation();
            self.view.host_changed(self.me);
        }
        let fact = self.publish(FactKey::Profile, &profile);
        self.spread_facts(fact.into_iter().collect());
        self.members_changed(now);
    }

    pub(crate) fn publish_health(&mut self, now: Now) {
        let health = self.health();
        if !self.view.is_shared() {
            let known = self.view.members.entry(self.me, now);
            if known.health.as_ref() != Some(&health) {
                known.health = Some(health.clone());
                self.view.members_dirty = true;
                self.view.host_changed(self.me);
            }
        }
        let fact = self.publish(FactKey::Health, &health);
        self.spread_facts(fact.into_iter().collect());
    }

    pub(crate) fn publish_report(&mut self, report: &EdgeReport) {
        let fact = self.publish(FactKey::Edges, report);
        self.spread_facts(fact.into_iter().collect());
    }

    /// What this node's replicas reserve, by its own exact count.
    pub(crate) fn reserved(&self) -> Resources {
        self.reserved_by(self.occupied())
    }

    pub(crate) fn reserved_by(&self, places: impl Iterator<Item = Place>) -> Resources {
        let mut sum = Resources::default();
        for place in places {
            let spec = self.view.services.get(place.service).and_then(|s| s.spec.as_ref().ok());
            let each = spec.map(|s| s.reservation).unwrap_or_default();
            sum.cpu_milli = sum.cpu_milli.saturating_add(each.cpu_milli);
            sum.memory_bytes = sum.memory_bytes.saturating_add(each.memory_bytes);
        }
        sum
    }

    /// Tells the others which of this node's claims and ended tasks changed.
    pub(crate) fn publish_changes(&mut self) {
        let changed = std::mem::take(&mut self.local.changed);
        let mut facts = Vec::new();
        for service in changed {
            let claims = self.local.claims(service);
            if !self.view.is_shared() {
                self.view.set_claims(self.me, service, &claims);
            }
            self.publish_claims(service, claims, &mut facts);
            self.publish_endpoints(service, &mut facts);
            let ended = self.local.history.get(&service).cloned().unwrap_or_default();
            if let Some(fact) = self.publish_history(service, ended) {
                facts.push(fact);
            }
        }
        self.spread_facts(facts);
    }

    fn publish_claims(
        &mut self,
        service: ServiceId,
        claims: BTreeMap<Slot, Claim>,
        facts: &mut Vec<SignedFact>,
    ) {
        let mut parts: BTreeMap<u16, Vec<Claim>> = BTreeMap::new();
        for (slot, claim) in claims {
            parts.entry(part_of(slot)).or_default().push(claim);
        }
        let before: BTreeSet<u16> = self
            .parts
            .range((service, 0)..=(service, u16::MAX))
            .map(|((_, part), _)| *part)
            .collect();
        for part in before.iter().filter(|part| !parts.contains_key(part)) {
            self.parts.remove(&(service, *part));
            facts.extend(self.facts.publish(FactKey::Claims { service, part: *part }, None));
        }
        for (part, claims) in parts {
            let Some(bytes) = encode_part(claims) else { continue };
            if self.parts.get(&(service, part)) != Some(&bytes) {
                self.parts.insert((service, part), bytes.clone());
                facts.extend(self.facts.publish(FactKey::Claims { service, part }, Some(bytes)));
            }
        }
    }

    fn publish_history(
        &mut self,
        service: ServiceId,
        mut ended: Vec<crate::slot::TaskStatus>,
    ) -> Option<SignedFact> {
        let key = FactKey::History { service };
        loop {
            if ended.is_empty() {
                return self.facts.publish(key, None);
            }
            // Oldest first to go when it does not fit.
            match wire::encode(&History { ended: ended.clone() }) {
                Ok(bytes) if bytes.len() <= MAX_FACT_BYTES => {
                    return self.facts.publish(key, Some(bytes));
                }
                _ => ended.truncate(ended.len() * 3 / 4),
            }
        }
    }

    pub(crate) fn on_incarnation(&mut self, incarnation: Incarnation, now: Now) {
        self.raising = false;
        self.facts.raise(incarnation);
        let facts = self.facts.republish();
        self.spread_facts(facts);
        self.publish_profile(now);
    }

    pub(crate) fn node_name(&self, id: NodeId) -> String {
        let name = self.view.members.get(id).map(crate::members::Known::name).unwrap_or_default();
        if name.is_empty() { id.to_string() } else { name }
    }
}

/// In which part of a service's facts a slot is told of.
pub(crate) fn part_of(slot: Slot) -> u16 {
    let part = match slot {
        Slot::Index(index) => index / SLOTS_PER_PART,
        Slot::Node(_) => 0,
    };
    u16::try_from(part).unwrap_or(u16::MAX)
}

fn encode_part(mut claims: Vec<Claim>) -> Option<Vec<u8>> {
    for trim in [usize::MAX, TRIMMED_TEXT, 0] {
        for claim in &mut claims {
            trim_text(&mut claim.task.message, trim);
            if let Some(error) = &mut claim.task.error {
                trim_text(error, trim);
            }
            if trim == 0 {
                claim.task.ports.clear();
            }
        }
        if let Ok(bytes) = wire::encode(&ClaimPart { claims: claims.clone() }) {
            return Some(bytes);
        }
    }
    None
}

fn trim_text(text: &mut String, to: usize) {
    if text.len() > to {
        let mut end = to;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
}
