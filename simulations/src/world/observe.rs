//! What the checks get to see of a process: its effects as observations, and how its host looks to itself.

use std::collections::BTreeMap;

use membership::fact::{FactKey, SignedFact};
use membership::id::ServiceId;
use membership::member::MemberState;
use membership::message::Message;
use membership::record::Digest;
use membership::wire;
use node::io::{Effect, Notice};
use node::network::Blocks;
use node::runtime::RuntimeAction;
use node::slot::{ClaimPart, Place, TaskState};
use node::spec::ServiceSpec;
use node::views::MemberView;
use placement::host::{Accepts, Host};

use super::World;
use super::process::record_name;
use super::tell::{ShortAction, ShortNotice, ShortPlace, ShortRecords};
use crate::links::HostIx;
use crate::operators::assets::{named_in, shows_content};
use crate::operators::networks;
use crate::seen::{AFTERTHOUGHTS, OwnView, Seen};

impl World {
    /// Tells the checks what a core has decided, with what it believed when it did.
    pub(super) fn observe(&mut self, ix: HostIx, effects: &[Effect]) {
        let acts = effects.iter().any(|effect| {
            matches!(
                effect,
                Effect::Runtime { .. }
                    | Effect::Notice(Notice::Task { state: TaskState::Shutdown, .. })
            )
        });
        let views = if acts { self.own_views(ix) } else { BTreeMap::new() };
        for effect in effects {
            match effect {
                Effect::Send { message: Message::Records { records, .. }, .. } => {
                    self.seen.push(Seen::Told {
                        host: ix,
                        records: records.iter().map(record_name).collect(),
                    });
                    if !records.is_empty() {
                        self.seen.push(Seen::Spoke { host: ix, what: "records" });
                    }
                }
                Effect::Send { message: Message::Facts(facts), .. } => {
                    let late = |fact: &SignedFact| {
                        matches!(fact.key, FactKey::Edges | FactKey::History { .. })
                    };
                    if !facts.is_empty() {
                        let what = if facts.iter().all(late) { AFTERTHOUGHTS } else { "facts" };
                        self.seen.push(Seen::Spoke { host: ix, what });
                    }
                }
                Effect::Send { message: Message::Stored(records), .. } => {
                    self.seen.push(Seen::Told { host: ix, records: records.clone() });
                }
                Effect::Send { .. } => {}
                Effect::Publish(fact) => {
                    self.trace.note(
                        self.now,
                        false,
                        format_args!("{ix}p{:?}{}", fact.key, fact.seq),
                    );
                    self.observe_fact(ix, fact);
                }
                Effect::Runtime { id, action } => {
                    let told = *action != RuntimeAction::List;
                    let short = ShortAction(action);
                    self.trace.note(self.now, told, format_args!("{ix} -> {} {short}", id.0));
                    self.observe_action(ix, action, &views);
                }
                Effect::Notice(notice) => {
                    self.trace.note(
                        self.now,
                        true,
                        format_args!("{ix} says {}", ShortNotice(notice)),
                    );
                    self.look_for_contents(ix, "a notice", notice);
                    match notice {
                        Notice::Member { id, to, .. } => {
                            self.seen.push(Seen::Verdict { host: ix, about: *id, to: *to });
                        }
                        Notice::Task { task, state: TaskState::Shutdown, .. } => {
                            let place =
                                self.hosts[ix.i()].engine.containers().find(|c| c.task == *task);
                            let view = place.and_then(|c| views.get(&c.service).cloned());
                            self.seen.push(Seen::GivesUp { host: ix, task: *task, view });
                        }
                        _ => {}
                    }
                }
                Effect::Persist { id, records } => {
                    self.trace.note(
                        self.now,
                        true,
                        format_args!("{ix} persists {} {}", id.0, ShortRecords(records)),
                    );
                }
                other => self.trace.note(self.now, false, format_args!("{ix} -> {other:?}")),
            }
        }
    }

    /// Nothing that people get to read has the content of a secret or config in it.
    pub(crate) fn look_for_contents(
        &mut self,
        host: HostIx,
        by: &'static str,
        shown: &dyn std::fmt::Debug,
    ) {
        if shows_content(&format!("{shown:?}")) {
            self.seen.push(Seen::Shown { host, by });
        }
    }

    fn observe_fact(&mut self, ix: HostIx, fact: &SignedFact) {
        let id = fact.owner;
        self.seen.push(Seen::Published { id, incarnation: fact.incarnation, seq: fact.seq });
        if let FactKey::Blocks { network } = fact.key {
            let said = fact.value.as_ref().and_then(|value| wire::decode::<Blocks>(value).ok());
            let blocks = said.unwrap_or_default().blocks.into_iter();
            let used = blocks.filter(|block| block.since.is_some()).map(|block| block.index);
            self.seen.push(Seen::Blocks { host: ix, network, blocks: used.collect() });
        }
        if let (FactKey::Claims { service, .. }, Some(value)) = (fact.key, &fact.value)
            && let Ok(part) = wire::decode::<ClaimPart>(value)
        {
            for claim in part.claims {
                let place = Place { service, slot: claim.slot };
                let news = self.claims.insert((ix, place), (claim.epoch, claim.phase))
                    != Some((claim.epoch, claim.phase));
                self.trace.note(
                    self.now,
                    news,
                    format_args!(
                        "{ix} claims {} epoch {} {:?} {:?}",
                        ShortPlace(place),
                        claim.epoch.0,
                        claim.phase,
                        claim.task.state
                    ),
                );
                self.seen.push(Seen::Claim {
                    host: ix,
                    id,
                    place,
                    epoch: claim.epoch,
                    phase: claim.phase,
                });
            }
        }
    }

    fn observe_action(
        &mut self,
        ix: HostIx,
        action: &RuntimeAction,
        views: &BTreeMap<ServiceId, OwnView>,
    ) {
        match action {
            RuntimeAction::Start(start) => {
                let place = Place { service: start.service, slot: start.slot };
                let view = views.get(&start.service).cloned();
                let (task, epoch, template) = (start.task, start.epoch, start.template);
                self.seen.push(Seen::Start { host: ix, place, task, epoch, template, view });
                let wants = named_in(&start.template_json);
                if !wants.is_empty() {
                    let files = start.files.files.iter();
                    let has = files.map(|f| (f.id, Digest::of_bytes(f.content.bytes()))).collect();
                    self.seen.push(Seen::Files { host: ix, task, place, wants, has });
                }
                let wants = networks::named_in(&start.template_json);
                if !wants.is_empty() || !start.networks.is_empty() {
                    let has = start.networks.iter().map(|on| {
                        let block = on.network.subnet.block_of(on.address);
                        (on.network.id, on.address, block.unwrap_or(0))
                    });
                    let has = has.collect();
                    self.seen.push(Seen::Addressed { host: ix, task, place, wants, has });
                }
            }
            RuntimeAction::Stop { task, .. } | RuntimeAction::Remove { task, .. } => {
                let found = self.hosts[ix.i()]
                    .engine
                    .containers()
                    .find(|container| container.task == *task);
                let Some(place) = found.map(|container| container.place()) else {
                    self.seen.push(Seen::CalledOff { task: *task });
                    return;
                };
                let view = views.get(&place.service).cloned();
                self.seen.push(Seen::Stop { host: ix, place, task: *task, view });
            }
            RuntimeAction::Prepare { .. }
            | RuntimeAction::Refresh { .. }
            | RuntimeAction::Networks { .. }
            | RuntimeAction::List => {}
        }
    }

    fn own_views(&self, ix: HostIx) -> BTreeMap<ServiceId, OwnView> {
        let Some(process) = self.hosts[ix.i()].process.as_ref() else { return BTreeMap::new() };
        let services = process.core.services();
        let me = process.core.members().into_iter().find(|member| member.is_me);
        let draining = me.as_ref().is_some_and(|me| me.state == MemberState::Draining);
        let own = me.as_ref().and_then(|me| self.as_host(ix, me));
        services
            .into_iter()
            .filter_map(|view| {
                let spec = ServiceSpec::parse(&view.spec).ok()?;
                let own = OwnView {
                    draining,
                    // Another service bears its name: nothing of it is wanted for the time being.
                    desired: if view.shadowed_by.is_some() { 0 } else { view.desired },
                    global: spec.mode.is_global(),
                    partition: spec.partition,
                    stop_first: !spec.update.start_first || !spec.host_ports.is_empty(),
                    reservation: spec.reservation,
                    forbidden: own.as_ref().and_then(|host| {
                        let broken = spec.constraints.iter().find(|c| !c.holds(host));
                        broken.map(|constraint| format!("{constraint:?}"))
                    }),
                    per_node: spec.max_per_node,
                    template: spec.template,
                };
                Some((view.id, own))
            })
            .collect()
    }

    /// The node as placement would see it, by its own word.
    fn as_host(&self, ix: HostIx, me: &MemberView) -> Option<Host> {
        let profile = me.profile.as_ref()?;
        Some(Host {
            id: me.id,
            name: me.name.clone(),
            zone: profile.zone.clone(),
            node_labels: me.labels.clone(),
            engine_labels: profile.labels.clone(),
            role: me.role.clone(),
            os: profile.os.clone(),
            arch: profile.arch.clone(),
            ip: self.hosts[ix.i()].addr.ip(),
            capacity: profile.capacity,
            accepts: Accepts::Yes,
        })
    }
}
