//! Evening load out: a node that came back empty takes over, one by one, what others have too much of.
//!
//! Only where the view has been quiet for a while, and only services that are whole: what a failure needs
//! comes first.

use std::collections::BTreeMap;

use membership::id::ServiceId;
use membership::member::MemberState;
use membership::time::Now;
use placement::Held as Holder;

use crate::node::Node;
use crate::services::Service;
use crate::slot::{Place, Slot};
use crate::spec::Mode;
use crate::standing::Standing;

/// Slots that one node takes over at once to even load out.
const AT_ONCE: usize = 2;

impl Node {
    pub(crate) fn rebalance(&mut self, now: Now) {
        // Nothing has changed since there was nothing to do.
        if self.even_at == Some(self.view.version) && !self.takeovers.remembers_failures() {
            return;
        }
        let quiet = now.at.since(self.view.members_turned) >= self.settings.rebalance_after;
        // What a member that is gone said last, that it is settling most likely, stands for ever.
        let calm = self
            .view
            .members
            .iter()
            .filter(|(_, k)| k.state.holds_claims())
            .all(|(_, k)| k.state != MemberState::Unstable && !k.is_settling());
        let free = self.reliefs_under_way() < AT_ONCE;
        if !quiet || !calm || !free || self.settling.on() || self.leaving.is_some() {
            return;
        }
        let mut waits = false;
        let ids: Vec<ServiceId> = self.view.services.ids().collect();
        for id in ids {
            let Some(standing) = self.view.standing(id) else { continue };
            let wanted = &standing.wanted;
            if wanted.mode != Mode::Replicated || wanted.rolling || !standing.is_whole() {
                continue;
            }
            let held = self.holders(id, standing, now);
            let pull = placement::pull(&self.view.cluster, &wanted.request, &held, self.me);
            if let Some(pull) = pull {
                let place = Place { service: id, slot: Slot::Index(pull.slot) };
                let spec = self.view.services.get(id).and_then(Service::active);
                if spec.is_none_or(|spec| !self.has_room(place, spec)) {
                    // What is being stopped here still takes it up, or what runs here for good: the others do
                    // not wait for that.
                    waits = true;
                    continue;
                }
                self.claim(place, Some(pull.from), now);
                self.dirty.insert(id);
                return;
            }
        }
        if !waits {
            self.even_at = Some(self.view.version);
        }
    }

    fn holders(&self, id: ServiceId, standing: &Standing, now: Now) -> BTreeMap<u32, Holder> {
        let held = standing.held().filter_map(|(slot, node)| {
            let Slot::Index(index) = slot else { return None };
            // One that failed here is left where it is; another may take its place.
            let place = Place { service: id, slot };
            let settled = self.takeovers.failures_before(place, now.at).is_none();
            Some((index, Holder { node, settled }))
        });
        held.collect()
    }
}
