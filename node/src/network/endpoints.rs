//! What this node tells of its tasks' addresses: beside its claims, and in the same parts.

use std::collections::{BTreeMap, BTreeSet};

use membership::fact::{FactKey, SignedFact};
use membership::id::ServiceId;
use membership::wire;

use super::facts::{Endpoint, EndpointPhase, Endpoints};
use crate::node::Node;
use crate::publish::part_of;

impl Node {
    /// The tasks of a service that have addresses here, those on their way out included.
    fn endpoints_here(&self, service: ServiceId) -> Vec<Endpoint> {
        let held = self
            .local
            .places(service)
            .into_iter()
            .filter_map(|place| self.local.held.get(&place).map(|held| (place.slot, held)));
        let held = held.flat_map(|(slot, held)| held.runs().map(move |run| (slot, run)));
        let runs = held.filter(|(_, run)| !run.addresses.is_empty()).map(|(slot, run)| Endpoint {
            task: run.id(),
            slot,
            phase: if run.is_ready() { EndpointPhase::Ready } else { EndpointPhase::Starting },
            addresses: run.addresses.clone(),
        });
        let leaving = self.local.leaving.values().filter(|l| l.place.service == service);
        let leaving = leaving.filter(|l| !l.addresses.is_empty()).map(|leaving| Endpoint {
            task: leaving.status.id,
            slot: leaving.place.slot,
            phase: EndpointPhase::Draining,
            addresses: leaving.addresses.clone(),
        });
        runs.chain(leaving).collect()
    }

    pub(crate) fn publish_endpoints(&mut self, service: ServiceId, facts: &mut Vec<SignedFact>) {
        let mut parts: BTreeMap<u16, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in self.endpoints_here(service) {
            parts.entry(part_of(endpoint.slot)).or_default().push(endpoint);
        }
        let before: BTreeSet<u16> = self
            .endpoint_parts
            .range((service, 0)..=(service, u16::MAX))
            .map(|((_, part), _)| *part)
            .collect();
        for part in before.into_iter().filter(|part| !parts.contains_key(part)) {
            self.endpoint_parts.remove(&(service, part));
            self.hear_own_endpoints(service, part, Vec::new());
            facts.extend(self.facts.publish(FactKey::Endpoints { service, part }, None));
        }
        for (part, mut endpoints) in parts {
            let bytes = loop {
                match wire::encode(&Endpoints { endpoints: endpoints.clone() }) {
                    Ok(bytes) => break bytes,
                    // What is on its way out stands last and is the least that others need to know.
                    Err(_) => drop(endpoints.pop()),
                }
            };
            if self.endpoint_parts.get(&(service, part)) != Some(&bytes) {
                self.endpoint_parts.insert((service, part), bytes.clone());
                self.hear_own_endpoints(service, part, endpoints);
                facts.extend(self.facts.publish(FactKey::Endpoints { service, part }, Some(bytes)));
            }
        }
    }

    fn hear_own_endpoints(&mut self, service: ServiceId, part: u16, endpoints: Vec<Endpoint>) {
        if !self.view.is_shared() {
            self.view.set_endpoints(self.me, service, part, endpoints);
        }
    }
}
