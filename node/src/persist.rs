//! Driving changes to the disks and out to the peers (`writes` has the queue, this file the flow).

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId};
use membership::member::MemberState;
use membership::message::Message;
use membership::record::{Key, Kind, Record};
use membership::time::Now;
use serde::Serialize;

use crate::asset_commands::asset_of;
use crate::command::{CommandError, Refused};
use crate::io::{Effect, NodeChange, Notice, PersistId, ServiceChange};
use crate::members::{Admission, AdmissionBody, NodeSettings};
use crate::node::Node;
use crate::writes::{Batch, OFFER_AGAIN, Origin, Unconfirmed, name_of};

impl Node {
    /// A record over what stands under a key now; `None` when that says the same already.
    ///
    /// # Errors
    /// When peers would refuse it, in words.
    pub(crate) fn draft(
        &mut self,
        kind: Kind,
        id: u128,
        body: Option<Vec<u8>>,
        now: Now,
    ) -> Result<Option<Record>, CommandError> {
        let wall = self.wall(now);
        self.view
            .registers
            .draft(Key { kind, id }, body, self.me, &mut self.clock, wall)
            .map_err(|e| CommandError::new(Refused::Invalid, e.to_string()))
    }

    /// Queues records of this node's own making (a steward's step, an admission).
    pub(crate) fn write_own<T: Serialize>(&mut self, kind: Kind, id: u128, body: &T, now: Now) {
        let Ok(bytes) = serde_json::to_vec(body) else { return };
        self.write_own_bytes(Key { kind, id }, bytes, now);
    }

    /// As [`Self::write_own`], for a body that is no JSON.
    pub(crate) fn write_own_bytes(&mut self, key: Key, bytes: Vec<u8>, now: Now) {
        match self.draft(key.kind, key.id, Some(bytes), now) {
            Ok(Some(record)) => {
                self.writes.push(Batch { records: vec![record], origin: Origin::Own });
            }
            Ok(None) => {}
            Err(error) => {
                let text = format!("a change of this node's own could not be written: {error}");
                self.out.push(Effect::Notice(Notice::Warning { text }));
            }
        }
    }

    pub(crate) fn advance_writes(&mut self, now: Now) {
        self.offer_again(now);
        loop {
            if let Some((id, records)) = self.writes.take(&self.view.registers) {
                if !records.is_empty() {
                    self.out.push(Effect::Persist { id, records });
                    return;
                }
                self.on_persisted(id, Ok(()), now);
                continue;
            }
            if self.writes.busy() {
                return;
            }
            let Some((id, command)) = self.writes.waiting.pop_front() else { return };
            self.execute(id, command, now);
        }
    }

    pub(crate) fn on_persisted(&mut self, id: PersistId, result: Result<(), String>, now: Now) {
        for batch in self.writes.finished(id) {
            match &result {
                Ok(()) => self.merge_batch(batch, now),
                Err(reason) => self.refuse_batch(batch, reason),
            }
        }
    }

    fn refuse_batch(&mut self, batch: Batch, reason: &str) {
        let text = format!("nothing was changed: this node's disk did not take it: {reason}");
        match batch.origin {
            Origin::Command { id, .. } => {
                let error = CommandError::new(Refused::NotStored, text);
                self.out.push(Effect::Reply { id, result: Err(error) });
            }
            Origin::Peer { .. } | Origin::Own => {
                self.out.push(Effect::Notice(Notice::Warning { text }));
            }
        }
    }

    fn merge_batch(&mut self, batch: Batch, now: Now) {
        let mut changed = Vec::new();
        let mut conflicts = Vec::new();
        let names = batch.records.iter().map(name_of).collect::<Vec<_>>();
        for record in &batch.records {
            let merge = self.view.registers.merge(record.clone());
            // On the disk already: it was written with what made it.
            if let Some(conflict) = merge.conflict {
                self.conflict_found(&conflict);
                changed.push(conflict.key);
                conflicts.push(conflict);
            }
            if merge.changed {
                changed.push(record.key);
            }
        }
        self.records_changed(&changed, now);
        if !conflicts.is_empty() {
            self.spread_records(&conflicts, false, None);
        }
        match batch.origin {
            Origin::Own => self.spread_records(&batch.records, false, None),
            Origin::Peer { from, confirm } => {
                if confirm {
                    self.send(from, Message::Stored(names));
                }
                if self.passes_records_on() && !changed.is_empty() {
                    self.spread_records(&batch.records, false, Some(from));
                }
            }
            Origin::Command { id, reply } => {
                self.spread_records(&batch.records, true, None);
                let waiting = Unconfirmed {
                    id,
                    reply,
                    missing: names.into_iter().collect(),
                    records: batch.records,
                    deadline: now.at + self.settings.store_deadline,
                    offer_at: now.at + OFFER_AGAIN,
                };
                self.writes.unconfirmed.push(waiting);
                self.settle_unconfirmed(now);
            }
        }
    }

    /// Answers what no longer has to wait: nobody else is alive, or the time is over.
    pub(crate) fn settle_unconfirmed(&mut self, now: Now) {
        if self.writes.unconfirmed.is_empty() {
            return;
        }
        if self.view.members.other_live(self.me).next().is_none() {
            let safe = self.writes.take_where(|_| true);
            self.acknowledge(safe);
            return;
        }
        for late in self.writes.take_where(|u| u.deadline <= now.at) {
            let text = format!(
                "the change is on this node's disk, but no second node confirmed it within {}: it stays here and spreads as soon as others can be reached, and is lost only if this disk is lost before",
                self.settings.store_deadline
            );
            let error = CommandError::new(Refused::NotStored, text);
            self.out.push(Effect::Reply { id: late.id, result: Err(error) });
        }
    }

    pub(crate) fn acknowledge(&mut self, safe: Vec<Unconfirmed>) {
        for waiting in safe {
            self.out.push(Effect::Reply { id: waiting.id, result: Ok(waiting.reply) });
        }
    }

    fn offer_again(&mut self, now: Now) {
        self.settle_unconfirmed(now);
        let mut offers = Vec::new();
        for waiting in &mut self.writes.unconfirmed {
            if waiting.offer_at <= now.at {
                waiting.offer_at = now.at + OFFER_AGAIN;
                offers.push(waiting.records.clone());
            }
        }
        for records in offers {
            self.spread_records(&records, true, None);
        }
    }

    fn conflict_found(&mut self, conflict: &Record) {
        let shown = self.conflicts().into_iter().find(|c| c.id == conflict.key.id);
        if let Some(shown) = shown {
            self.out.push(Effect::Notice(Notice::Conflict { text: shown.text }));
        }
    }

    /// Brings everything that is derived from records in step with those that changed.
    fn records_changed(&mut self, keys: &[Key], now: Now) {
        let mut members = false;
        let mut services: BTreeMap<ServiceId, Kind> = BTreeMap::new();
        for key in keys {
            match key.kind {
                Kind::Service | Kind::Scale | Kind::Rollout => {
                    let kind = services.entry(ServiceId(key.id)).or_insert(key.kind);
                    *kind = (*kind).min(key.kind);
                }
                Kind::Admission | Kind::NodeSettings => members = true,
                Kind::Completions => {
                    if self.view.completions_changed(key) {
                        self.missed_an_execution(now);
                    }
                }
                Kind::Network => self.network_changed(key),
                Kind::Cluster => self.retention_changed(),
                _ => {
                    if let Some((kind, id)) = asset_of(key) {
                        self.asset_changed(kind, id);
                    }
                }
            }
        }
        for (id, kind) in services {
            self.service_changed(id, kind);
        }
        if members {
            let before = self.set_on(keys);
            for id in self.view.members.read_records(&self.view.registers, now) {
                self.view.host_changed(id);
            }
            self.tell_of_nodes(before);
            self.members_changed(now);
            self.look_at_all();
            self.publish_health(now);
        }
    }

    /// What operators have said of the nodes that these records are about.
    fn set_on(&self, keys: &[Key]) -> Vec<(NodeId, NodeSettings, bool)> {
        let about = |key: &&Key| matches!(key.kind, Kind::NodeSettings | Kind::Admission);
        let known = |key: &Key| {
            let known = self.view.members.get(NodeId(key.id))?;
            Some((NodeId(key.id), known.settings.clone(), known.is_removed()))
        };
        keys.iter().filter(about).filter_map(known).collect()
    }

    fn tell_of_nodes(&mut self, before: Vec<(NodeId, NodeSettings, bool)>) {
        for (id, old, was_removed) in before {
            let Some(known) = self.view.members.get(id) else { continue };
            let new = &known.settings;
            let what = if known.is_removed() && !was_removed {
                NodeChange::Removed
            } else if *new != old {
                NodeChange::Updated {
                    availability: (new.availability != old.availability)
                        .then_some((old.availability, new.availability)),
                    role: (new.role != old.role).then(|| (old.role, new.role.clone())),
                }
            } else {
                continue;
            };
            let name = self.node_name(id);
            self.out.push(Effect::Notice(Notice::Node { id, name, what }));
        }
    }

    fn service_changed(&mut self, id: ServiceId, kind: Kind) {
        let before = self.view.services.get(id).cloned();
        self.view.service_changed(id);
        let after = self.view.services.get(id);
        let what = match (&before, after) {
            (None, Some(_)) => ServiceChange::Created,
            (Some(_), None) => ServiceChange::Removed,
            (None, None) => return,
            (Some(old), Some(new)) => {
                let count =
                    |s: &crate::services::Service| s.active().map_or(0, |s| u64::from(s.replicas));
                let state = |s: &crate::services::Service| {
                    s.rollout.as_ref().map(|r| r.state.name().to_owned()).unwrap_or_default()
                };
                if kind == Kind::Rollout {
                    if state(old) == state(new) {
                        return;
                    }
                    ServiceChange::Rollout { from: state(old), to: state(new) }
                } else if kind == Kind::Scale && count(old) != count(new) {
                    ServiceChange::Scaled { from: count(old), to: count(new) }
                } else {
                    ServiceChange::Updated
                }
            }
        };
        let name = after.or(before.as_ref()).map(|s| s.name().to_owned()).unwrap_or_default();
        self.out.push(Effect::Notice(Notice::Service { id, name, what }));
    }

    /// Forgets the tombstones that every member is known to hold (`membership`'s rule), here and on the disk.
    ///
    /// A member that is alive is believed to hold what it last said; of one that is down or unstable
    /// nothing is known since it was alive last. Who has left or was removed is not waited for.
    pub(crate) fn forget_tombstones(&mut self, now: Now) {
        if self.view.is_shared() {
            return;
        }
        self.view.registers.expire(now.wall);
        let others = self.view.members.iter().filter(|(id, k)| *id != self.me && k.belongs());
        let mut heard = Vec::new();
        for (id, known) in others {
            let reached = matches!(known.state, MemberState::Alive | MemberState::Draining);
            if reached {
                self.reached.insert(id, now.wall);
            }
            // What others tell of one that this process never reached may be from any time.
            let at = self.reached.get(&id).copied().unwrap_or_default();
            heard.push((known.health.as_ref().map(|h| h.root).unwrap_or_default(), at));
        }
        if self.view.registers.waiting_to_be_forgotten() == 0
            || self.settling.on()
            || self.writes.busy()
        {
            return;
        }
        let forgotten = self.view.registers.collect_garbage(now.wall, heard);
        if !forgotten.is_empty() {
            self.out.push(Effect::Forget(forgotten));
        }
    }

    /// Writes this node's admission where it is missing or says another name or address.
    pub(crate) fn ensure_admitted(&mut self, now: Now) {
        if self.settling.on() || self.leaving.is_some() || self.writes.busy() {
            return;
        }
        let known = self.view.members.get(self.me).and_then(|k| k.admission.clone());
        let same = known.as_ref().is_some_and(|a| {
            a.state == Admission::Admitted
                && a.name == self.profile.name
                && a.addr == self.profile.addr
        });
        if same || known.as_ref().is_some_and(|a| a.state == Admission::Removed) {
            return;
        }
        let body = AdmissionBody {
            v: 1,
            state: Admission::Admitted,
            name: self.profile.name.clone(),
            addr: self.profile.addr,
            since_ms: known.map_or(now.wall.0, |a| a.since_ms),
        };
        self.write_own(Kind::Admission, self.me.0, &body, now);
    }

    /// Marks a member as gone for good.
    pub(crate) fn write_admission(
        &mut self,
        id: NodeId,
        state: Admission,
        now: Now,
    ) -> Option<Record> {
        let known = self.view.members.get(id)?;
        let body = AdmissionBody {
            v: 1,
            state,
            name: known.name(),
            addr: known.addr().unwrap_or(self.profile.addr),
            since_ms: now.wall.0,
        };
        let bytes = serde_json::to_vec(&body).ok()?;
        self.draft(Kind::Admission, id.0, Some(bytes), now).ok().flatten()
    }
}
