//! News into a view: facts of members, and the states that follow from them.

use std::collections::{BTreeMap, BTreeSet};

use membership::detector::EdgeReport;
use membership::fact::{FactKey, SignedFact};
use membership::id::{Incarnation, NodeId, ServiceId};
use membership::member::{Health, MemberState, Profile};
use membership::time::{Instant, Now};
use membership::wire::{self, WireError};

use crate::members::Turn;
use crate::slot::{Claim, History, Slot};
use crate::view::View;

/// How many staggers a member that has settled in a new incarnation gets to say its claims again before
/// those of its earlier life are forgotten: time for a lost push and for the gossip that repairs it.
const FORGET_AFTER_STAGGERS: u64 = 4;

impl View {
    /// Acts on a fact that [`crate::facts::Facts::hear`] found to be news.
    ///
    /// # Errors
    /// When the value cannot be read; what the member said before stands.
    pub(crate) fn take_fact(&mut self, fact: &SignedFact, now: Now) -> Result<(), WireError> {
        let owner = fact.owner;
        let known = self.members.entry(owner, now);
        if fact.incarnation > known.incarnation {
            known.incarnation = fact.incarnation;
            self.members_moved = true;
        }
        match (fact.key, fact.value.as_deref()) {
            (FactKey::Profile, Some(bytes)) => {
                let profile: Profile = wire::decode(bytes)?;
                self.members.entry(owner, now).profile = Some(profile);
                self.host_changed(owner);
                self.members_moved = true;
            }
            (FactKey::Health, Some(bytes)) => {
                let health = wire::decode(bytes)?;
                self.take_health(owner, fact.incarnation, health, now);
            }
            (FactKey::Edges, Some(bytes)) => {
                let report = wire::decode::<EdgeReport>(bytes)?;
                self.jury.on_report(owner, fact.incarnation, report);
            }
            (FactKey::Edges, None) => self.jury.forget(owner),
            (FactKey::Profile | FactKey::Health, None) => {}
            (FactKey::Claims { .. }, value) => self.hear_claims(owner, fact.key, value)?,
            (FactKey::History { service }, Some(bytes)) => {
                let history: History = wire::decode(bytes)?;
                self.histories.insert((service, owner), history.ended);
                // The steward of a rollout reads there why a task failed.
                self.note_news(service);
            }
            (FactKey::History { service }, None) => {
                self.histories.remove(&(service, owner));
            }
            (FactKey::Blocks { network }, value) => self.hear_blocks(owner, network, value)?,
            (FactKey::Endpoints { service, part }, value) => {
                self.hear_endpoints(owner, service, part, value)?;
            }
        }
        Ok(())
    }

    fn take_health(&mut self, owner: NodeId, incarnation: Incarnation, health: Health, now: Now) {
        let settled = !health.settling;
        let known = self.members.entry(owner, now);
        let counts = |h: &Health| (h.engine.clone(), h.leaving, h.settling);
        let matters = known.health.as_ref().map(counts) != Some(counts(&health));
        known.health = Some(health);
        if matters {
            self.members_dirty = true;
            self.host_changed(owner);
            self.look_everywhere = true;
        }
        if settled && self.facts.takes_earlier(owner, incarnation) {
            let at = now.at + self.stagger * FORGET_AFTER_STAGGERS;
            let due = self.forgetting.entry(owner).or_insert((incarnation, at));
            if due.0 < incarnation {
                *due = (incarnation, at);
            }
        }
    }

    /// A member's claims on some slots of a service, as it told them under `key`.
    ///
    /// # Errors
    /// When the value cannot be read; what the member said before stands.
    pub(crate) fn hear_claims(
        &mut self,
        owner: NodeId,
        key: FactKey,
        value: Option<&[u8]>,
    ) -> Result<(), WireError> {
        let places = self.claims.apply(owner, key, value)?;
        if let FactKey::Claims { service, .. } = key {
            self.note_news(service);
        }
        self.touch(places);
        Ok(())
    }

    /// A member's claims on all slots of a service that it holds.
    pub(crate) fn set_claims(
        &mut self,
        owner: NodeId,
        service: ServiceId,
        claims: &BTreeMap<Slot, Claim>,
    ) {
        let places = self.claims.set_own(owner, service, claims);
        self.note_news(service);
        self.touch(places);
    }

    /// Lets go of what members said in earlier incarnations and have not said again. Not at once: the
    /// fact that it has settled is small and overtakes its claims, which are not, and a member whose
    /// claims are missing for a moment looks as if it had lost everything it runs.
    pub(crate) fn forget_earlier(&mut self, at: Instant) {
        let due: Vec<NodeId> =
            self.forgetting.iter().filter(|(_, (_, due))| *due <= at).map(|(id, _)| *id).collect();
        for owner in due {
            let Some((incarnation, _)) = self.forgetting.remove(&owner) else { continue };
            for key in self.facts.settled(owner, incarnation) {
                // Without a value there is nothing that could not be read.
                let _ = match key {
                    FactKey::Blocks { network } => self.hear_blocks(owner, network, None),
                    FactKey::Endpoints { service, part } => {
                        self.hear_endpoints(owner, service, part, None)
                    }
                    _ => self.hear_claims(owner, key, None),
                };
                if let FactKey::History { service } = key {
                    self.histories.remove(&(service, owner));
                }
            }
        }
    }

    /// Tells the jury who belongs to the cluster now.
    pub(crate) fn seat_jury(&mut self) {
        self.members_moved = false;
        self.members_dirty = true;
        let incarnations: BTreeMap<NodeId, Incarnation> = self
            .members
            .iter()
            .filter(|(_, k)| k.belongs())
            .map(|(id, k)| (id, k.incarnation))
            .collect();
        self.jury.set_members(&incarnations);
    }

    /// Turns verdicts, facts and records into member states. `None` when nothing of that is new.
    pub(crate) fn judge(&mut self, now: Now) -> Option<Vec<Turn>> {
        self.jury.judge(now.at);
        let news = self.jury.version() != self.judged;
        if !news && !self.members_dirty && !self.members.engine_grace_running() {
            return None;
        }
        self.judged = self.jury.version();
        self.members_dirty = false;
        let turns = self.members.judge(self.jury.verdicts(), now);
        let minority = !self.members.has_majority();
        self.had_majority |= !minority;
        self.minority_since = minority.then(|| self.minority_since.unwrap_or(now.at));
        for turn in &turns {
            self.members_turned = now.at;
            if turn.to == MemberState::Down {
                self.losses.note(now.at);
            }
            self.host_changed(turn.id);
        }
        (news || !turns.is_empty()).then_some(turns)
    }

    /// Places about which somebody said something.
    fn touch(&mut self, places: BTreeSet<crate::slot::Place>) {
        self.touched.extend(places);
    }
}
