//! What a node believes: all that it has read in records and heard in facts, and what follows from it.
//!
//! A view is a function of the news that went into it (`hear`) and of nothing else: not of what its node
//! runs, wants or is waiting for. Nodes that have heard the same may therefore share one (`cohort`). What follows (which hosts take replicas, who holds which slot, which slots
//! need somebody) is brought up to date by [`View::refresh`], which costs what has changed: changes are
//! only noted when they come in, so that a burst of them is looked at once.

use std::collections::{BTreeMap, BTreeSet};

use membership::detector::Jury;
use membership::id::{CellId, Incarnation, NetworkId, NodeId, ServiceId};
use membership::record::{Key, Kind, Record};
use membership::registers::Registers;
use membership::time::{Instant, Millis, Now};
use placement::{Cluster, Host};

use crate::assets::Assets;
use crate::claims::ClaimTable;
use crate::completions::Completions;
use crate::facts::Facts;
use crate::hosts::host;
use crate::members::Members;
use crate::network::{Attached, Block, Endpoint, Networks};
use crate::plans::Kept;
use crate::services::{Service, Services};
use crate::settings::Settings;
use crate::slot::{Place, TaskStatus};
use crate::standing::{Standing, Wanted};
use crate::takeover::Losses;

/// What a node believes.
#[derive(Debug)]
pub(crate) struct View {
    /// The node that believes this; `None` when several share it.
    whose: Option<NodeId>,
    pub(crate) registers: Registers,
    pub(crate) services: Services,
    pub(crate) assets: Assets,
    pub(crate) networks: Networks,
    /// What services and networks have to do with each other; brought up to date when it is asked for.
    pub(crate) attached: Attached,
    pub(crate) attached_changed: bool,
    /// Which blocks of addresses members have, as they tell.
    pub(crate) blocks: BTreeMap<NetworkId, BTreeMap<NodeId, Vec<Block>>>,
    /// The addresses of members' tasks, as they tell.
    pub(crate) endpoints: BTreeMap<(ServiceId, NodeId, u16), Vec<Endpoint>>,
    /// Something about networks changed since somebody looked.
    pub(crate) network_news: bool,
    pub(crate) members: Members,
    /// What everybody reports about the others, and the verdicts.
    pub(crate) jury: Jury,
    /// The verdicts that member states were made from.
    pub(crate) judged: u64,
    pub(crate) facts: Facts,
    /// Members that have settled anew, and when what they said before is forgotten.
    pub(crate) forgetting: BTreeMap<NodeId, (Incarnation, Instant)>,
    pub(crate) claims: ClaimTable,
    /// Ended tasks of other nodes, as they tell.
    pub(crate) histories: BTreeMap<(ServiceId, NodeId), Vec<TaskStatus>>,
    /// Hosts and loads, as placement sees them.
    pub(crate) cluster: Cluster,
    /// Members that were lost lately.
    pub(crate) losses: Losses,
    standings: BTreeMap<ServiceId, Standing>,
    /// Services that may concern nodes that hold nothing of them.
    restless: BTreeSet<ServiceId>,
    /// Plans that all who share it go by.
    pub(crate) plans: BTreeMap<ServiceId, Kept>,
    /// Rises when hosts come, open or close.
    pub(crate) hosts_version: u64,
    /// Rises with everything that placement may answer differently after.
    pub(crate) version: u64,
    /// When a member's state last changed.
    pub(crate) members_turned: Instant,
    /// Since when less than a majority of the members could be reached.
    pub(crate) minority_since: Option<Instant>,
    /// More than half of the members were there at some time in the life of this process.
    pub(crate) had_majority: bool,
    /// Delay between two ranks: [`crate::Settings::stagger`].
    pub(crate) stagger: Millis,
    /// Members came, went, moved, or raised their incarnation.
    pub(crate) members_moved: bool,
    /// Something that member states are made from changed.
    pub(crate) members_dirty: bool,
    pub(crate) look_everywhere: bool,
    moved_hosts: BTreeSet<NodeId>,
    changed_services: BTreeSet<ServiceId>,
    pub(crate) touched: BTreeSet<Place>,
    /// Places that several claim and about which there is news; kept for a view that is shared.
    pub(crate) disputes: BTreeSet<Place>,
    /// Services about which something has changed since somebody looked.
    news: BTreeSet<ServiceId>,
}

impl View {
    /// What is on a node's disk, and nothing heard yet. `whose`: `None` for several nodes.
    pub(crate) fn new(
        whose: Option<NodeId>,
        cell: CellId,
        records: Vec<Record>,
        settings: &Settings,
        now: Now,
    ) -> Self {
        let mut registers = Registers::load(cell, records);
        registers.expire(now.wall);
        let mut members = Members::new(whose, settings.engine_grace);
        if let Some(me) = whose {
            members.entry(me, now);
        }
        members.read_records(&registers, now);
        let jury = Jury::new(whose, &settings.timing);
        let mut view = Self::of(whose, cell, registers, members, jury, settings.stagger);
        view.members_turned = now.at;
        view.moved_hosts.extend(whose);
        view
    }

    fn of(
        whose: Option<NodeId>,
        cell: CellId,
        registers: Registers,
        members: Members,
        jury: Jury,
        stagger: Millis,
    ) -> Self {
        let services = Services::read(&registers);
        let ids: BTreeSet<ServiceId> = services.ids().collect();
        Self {
            whose,
            assets: Assets::read(&registers),
            networks: Networks::read(&registers),
            attached: Attached::default(),
            attached_changed: true,
            blocks: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            network_news: true,
            registers,
            services,
            members,
            jury,
            judged: 0,
            facts: Facts::new(cell),
            forgetting: BTreeMap::new(),
            claims: ClaimTable::default(),
            histories: BTreeMap::new(),
            cluster: Cluster::default(),
            losses: Losses::default(),
            standings: BTreeMap::new(),
            restless: BTreeSet::new(),
            plans: BTreeMap::new(),
            hosts_version: 0,
            version: 0,
            members_turned: Instant::default(),
            minority_since: None,
            had_majority: false,
            stagger,
            members_moved: true,
            members_dirty: true,
            look_everywhere: false,
            disputes: BTreeSet::new(),
            moved_hosts: BTreeSet::new(),
            changed_services: ids.clone(),
            touched: BTreeSet::new(),
            news: ids,
        }
    }

    /// Something changed about a member that placement asks: its profile, settings, state or address.
    pub(crate) fn host_changed(&mut self, id: NodeId) {
        self.network_news = true;
        self.moved_hosts.insert(id);
    }

    /// A service's registers changed. Answers the services that are to be looked at with it.
    pub(crate) fn service_changed(&mut self, id: ServiceId) {
        let on_networks = |services: &Services| {
            let spec = services.get(id).and_then(|service| service.spec.as_ref().ok());
            spec.is_some_and(|spec| !spec.networks.is_empty() || spec.is_reached_by_all())
        };
        let before = on_networks(&self.services);
        let changed = self.services.refresh(id, &self.registers);
        // A name that falls to another service changes who runs at all.
        self.attached_changed |= before || on_networks(&self.services) || changed.len() > 1;
        self.news.extend(changed.iter().copied());
        self.changed_services.extend(changed);
    }

    /// What a node has written of the ends of a job changed.
    ///
    /// Returns whether the record is about an execution of which this node has not heard: it replaced what was
    /// recorded of the one that this node believes to be the present one.
    pub(crate) fn completions_changed(&mut self, key: &Key) -> bool {
        let body = self.registers.get(key).and_then(Completions::read);
        let jobs = || self.services.iter().filter(|s| s.job.is_some()).map(|s| s.id).collect();
        // A tombstone does not say of which service.
        let about: Vec<ServiceId> = body.as_ref().map_or_else(jobs, |body| vec![body.service]);
        for id in about {
            self.service_changed(id);
        }
        body.is_some_and(|body| self.is_ahead(&body))
    }

    fn is_ahead(&self, body: &Completions) -> bool {
        let present = self.services.get(body.service).and_then(Service::active);
        present.is_some_and(|spec| body.template.is_executed_after(spec.template))
    }

    /// Whether some record is about a later execution of a job than the service's own.
    pub(crate) fn misses_an_execution(&self) -> bool {
        let mut bodies = self.registers.live(Kind::Completions);
        bodies.any(|(_, record)| Completions::read(record).is_some_and(|body| self.is_ahead(&body)))
    }

    /// Something is to be said about a service.
    pub(crate) fn note_news(&mut self, id: ServiceId) {
        self.news.insert(id);
    }

    /// True once after something that any service may depend on has changed.
    pub(crate) fn take_look_everywhere(&mut self) -> bool {
        std::mem::take(&mut self.look_everywhere)
    }

    /// Whether several nodes that have heard the same share it. What one of them does, the others have not
    /// heard of yet: it comes in as a fact, like everybody's.
    pub(crate) fn is_shared(&self) -> bool {
        self.whose.is_none()
    }

    /// Brings what follows from the news up to date.
    pub(crate) fn refresh(&mut self, at: Instant) {
        let nothing = self.moved_hosts.is_empty() && self.changed_services.is_empty();
        if nothing && self.touched.is_empty() {
            return;
        }
        self.version += 1;
        self.refresh_hosts();
        for id in std::mem::take(&mut self.changed_services) {
            self.refresh_service(id, at);
        }
        for place in std::mem::take(&mut self.touched) {
            let Some(standing) = self.standings.get_mut(&place.service) else { continue };
            let holders = self.claims.on(place);
            standing.touch(place, holders, &self.members, &mut self.cluster, at);
            self.news.insert(place.service);
            if self.whose.is_none() && standing.is_contested(place.slot) {
                self.disputes.insert(place);
            }
            if standing.is_restless() {
                self.restless.insert(place.service);
            } else {
                self.restless.remove(&place.service);
            }
        }
    }

    fn refresh_hosts(&mut self) {
        let moved = std::mem::take(&mut self.moved_hosts);
        let hosts: Vec<Host> =
            moved.iter().filter_map(|id| host(*id, self.members.get(*id)?)).collect();
        for host in &hosts {
            let known = self.cluster.host(host.id);
            if known != Some(host) {
                self.hosts_version += 1;
            }
            if known.is_none_or(|known| known.zone == host.zone) {
                continue;
            }
            // Those included that it has given up a moment ago: they are still counted.
            for place in self.claims.places_of(host.id).chain(self.touched.iter().copied()) {
                if let Some(standing) = self.standings.get_mut(&place.service) {
                    standing.uncount(place.slot, host.id);
                }
            }
        }
        self.cluster.put(hosts);
        for node in moved {
            self.touched.extend(self.claims.places_of(node));
        }
    }

    fn refresh_service(&mut self, id: ServiceId, at: Instant) {
        let wanted = self.services.get(id).and_then(Wanted::of);
        let before = self.standings.get(&id);
        match (before, &wanted) {
            (None, None) => return,
            (Some(before), Some(wanted)) if before.wanted == *wanted => return,
            _ => {}
        }
        let before = self.standings.remove(&id);
        self.restless.remove(&id);
        if let Some(before) = &before {
            before.unload(&mut self.cluster);
        }
        let Some(wanted) = wanted else { return };
        let mut standing = Standing::new(wanted, at);
        if let Some(before) = &before {
            standing.remember_needs(before);
        }
        if standing.is_restless() {
            self.restless.insert(id);
        }
        self.standings.insert(id, standing);
        self.touched.extend(self.claims.slots(id).map(|(slot, _)| Place { service: id, slot }));
    }

    /// How a service stands; `None` for one that is not to run.
    pub(crate) fn standing(&self, id: ServiceId) -> Option<&Standing> {
        self.standings.get(&id)
    }

    /// Services that may concern nodes that hold nothing of them: slots are open, a rollout is under way,
    /// or every node runs one.
    pub(crate) fn restless(&self) -> impl Iterator<Item = ServiceId> + '_ {
        self.restless.iter().copied()
    }

    pub(crate) fn is_restless(&self, id: ServiceId) -> bool {
        self.restless.contains(&id)
    }

    /// The services about which something has changed since this was last called.
    pub(crate) fn take_news(&mut self) -> BTreeSet<ServiceId> {
        std::mem::take(&mut self.news)
    }
}

#[cfg(test)]
mod tests {
    use membership::clock::Stamp;
    use membership::detector::Verdict;
    use membership::fact::FactKey;
    use membership::id::TaskId;
    use membership::member::{EngineState, Health, Profile, Resources};
    use membership::record::{Digest, Kind};
    use membership::time::Wall;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::slot::{Claim, ClaimPart, Epoch, Phase, Slot, TaskState, TemplateId};

    const NODES: u128 = 5;

    fn now(ms: u64) -> Now {
        Now { at: Instant(ms), wall: Wall(ms) }
    }

    /// One piece of news.
    #[derive(Clone, Debug)]
    enum News {
        Profile { node: u128, zone: &'static str, cores: u64 },
        Claims { node: u128, service: u128, claims: Vec<(u32, u64, bool, u64)> },
        Verdict { node: u128, down: bool },
        Settling { node: u128, settling: bool },
        Labels { node: u128, drained: bool },
        Service { service: u128, replicas: u32, ssd: bool, cores: u64 },
        Removed { service: u128 },
        Refresh,
    }

    fn news() -> impl Strategy<Value = News> {
        let node = 1..=NODES;
        let service = 1..4u128;
        let claims = proptest::collection::vec((1..7u32, 1..4u64, any::<bool>(), 0..2u64), 0..4);
        prop_oneof![
            (node.clone(), prop::sample::select(vec!["a", "b"]), 1..3u64)
                .prop_map(|(node, zone, cores)| News::Profile { node, zone, cores }),
            (node.clone(), service.clone(), claims)
                .prop_map(|(node, service, claims)| News::Claims { node, service, claims }),
            (node.clone(), any::<bool>()).prop_map(|(node, down)| News::Verdict { node, down }),
            (node.clone(), any::<bool>())
                .prop_map(|(node, settling)| News::Settling { node, settling }),
            (node, any::<bool>()).prop_map(|(node, drained)| News::Labels { node, drained }),
            (service.clone(), 0..7u32, any::<bool>(), 0..3u64).prop_map(
                |(service, replicas, ssd, cores)| News::Service { service, replicas, ssd, cores }
            ),
            service.prop_map(|service| News::Removed { service }),
            Just(News::Refresh),
        ]
    }

    struct World {
        view: View,
        verdicts: BTreeMap<NodeId, Verdict>,
        stamp: u64,
    }

    impl World {
        fn new() -> Self {
            let cell = CellId(0);
            let mut members = Members::new(Some(NodeId(1)), Millis(1_000));
            (1..=NODES).for_each(|id| _ = members.entry(NodeId(id), now(0)));
            let view = view_of(Registers::new(cell), members);
            Self { view, verdicts: BTreeMap::new(), stamp: 0 }
        }

        fn write(&mut self, kind: Kind, id: u128, body: Option<serde_json::Value>) {
            self.stamp += 1;
            self.view.registers.merge(Record {
                cell: CellId(0),
                key: Key { kind, id },
                stamp: Stamp { ms: self.stamp, counter: 0 },
                writer: NodeId(1),
                ancestors: Vec::new(),
                body: body.map(|body| body.to_string().into_bytes()),
            });
        }

        fn judge(&mut self, ms: u64) {
            for turn in self.view.members.judge(&self.verdicts, now(ms)) {
                self.view.host_changed(turn.id);
            }
        }

        fn hear(&mut self, news: News, ms: u64) {
            match news {
                News::Profile { node, zone, cores } => {
                    let known = self.view.members.entry(NodeId(node), now(ms));
                    known.profile = Some(profile(node, zone, cores));
                    known.health.get_or_insert_with(|| health(false));
                    self.view.host_changed(NodeId(node));
                    self.judge(ms);
                }
                News::Claims { node, service, claims } => {
                    let claims = claims.into_iter().map(claim).collect();
                    let bytes = membership::wire::encode(&ClaimPart { claims }).unwrap();
                    let key = FactKey::Claims { service: ServiceId(service), part: 0 };
                    self.view.hear_claims(NodeId(node), key, Some(&bytes)).unwrap();
                }
                News::Verdict { node, down } => {
                    let verdict = if down { Verdict::Down } else { Verdict::Up };
                    self.verdicts.insert(NodeId(node), verdict);
                    self.judge(ms);
                }
                News::Settling { node, settling } => {
                    let known = self.view.members.entry(NodeId(node), now(ms));
                    known.health = Some(health(settling));
                    self.view.host_changed(NodeId(node));
                    self.judge(ms);
                }
                News::Labels { node, drained } => {
                    let availability = if drained { "drain" } else { "active" };
                    let disk = if ms.is_multiple_of(2) { "ssd" } else { "disk" };
                    let body = json!({"Availability": availability, "Labels": {"disk": disk}});
                    self.write(Kind::NodeSettings, node, Some(body));
                    let changed = self.view.members.read_records(&self.view.registers, now(ms));
                    changed.into_iter().for_each(|id| self.view.host_changed(id));
                    self.judge(ms);
                }
                News::Service { service, replicas, ssd, cores } => {
                    let constraints = if ssd { vec!["node.labels.disk==ssd"] } else { vec![] };
                    let body = json!({"v": 1, "created_ms": 1, "created_counter": 0, "spec": {
                        "Name": format!("s{service}"),
                        "TaskTemplate": {
                            "ContainerSpec": {"Image": "x"},
                            "Placement": {"Constraints": constraints},
                            "Resources": {"Reservations": {"NanoCPUs": cores * 100_000_000}},
                        },
                        "Mode": {"Replicated": {"Replicas": replicas}},
                    }});
                    self.write(Kind::Service, service, Some(body));
                    self.view.service_changed(ServiceId(service));
                }
                News::Removed { service } => {
                    self.write(Kind::Service, service, None);
                    self.view.service_changed(ServiceId(service));
                }
                News::Refresh => self.view.refresh(Instant(ms)),
            }
        }

        /// All that follows, worked out from what is known now and nothing else.
        fn anew(&self, ms: u64) -> View {
            let (registers, members) = (self.view.registers.clone(), self.view.members.clone());
            let mut anew = view_of(registers, members);
            anew.claims = self.view.claims.clone();
            (1..=NODES).for_each(|id| anew.host_changed(NodeId(id)));
            anew.refresh(Instant(ms));
            anew
        }
    }

    fn view_of(registers: Registers, members: Members) -> View {
        let whose = Some(NodeId(1));
        let jury = Jury::new(whose, &membership::detector::Timing::lan());
        View::of(whose, CellId(0), registers, members, jury, Millis(1_000))
    }

    fn profile(node: u128, zone: &str, cores: u64) -> Profile {
        Profile {
            name: format!("n{node}"),
            addr: std::net::SocketAddr::from(([10, 0, 0, 1], 7946)),
            zone: zone.to_owned(),
            labels: BTreeMap::new(),
            capacity: Resources { cpu_milli: cores * 1000, memory_bytes: 1 << 30 },
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            runtime: "docker".to_owned(),
            engine_version: String::new(),
            shoal_version: String::new(),
            protocol_version: 1,
            placement_version: placement::PLACEMENT_VERSION,
            started: Wall(0),
        }
    }

    fn health(settling: bool) -> Health {
        let reserved = Resources::default();
        Health { engine: EngineState::Ok, leaving: false, settling, reserved, root: Digest(0) }
    }

    fn claim((slot, epoch, ready, template): (u32, u64, bool, u64)) -> Claim {
        let slot = Slot::Index(slot);
        Claim {
            slot,
            epoch: Epoch(epoch),
            phase: if ready { Phase::Ready } else { Phase::Starting },
            failures: 0,
            task: TaskStatus {
                id: TaskId(1),
                slot,
                template: TemplateId(template),
                created: Wall(0),
                state: TaskState::Running,
                since: Wall(0),
                message: String::new(),
                error: None,
                container: None,
                pid: None,
                exit_code: None,
                ports: Vec::new(),
            },
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        /// Whatever came in whatever order, what follows is what would follow from scratch.
        #[test]
        fn what_is_kept_up_to_date_is_what_is_worked_out_anew(
            all in proptest::collection::vec(news(), 0..60),
        ) {
            let mut world = World::new();
            let end = all.len() as u64 + 1;
            for (ms, news) in all.into_iter().enumerate() {
                world.hear(news, ms as u64);
            }
            world.view.refresh(Instant(end));
            let anew = world.anew(end);
            let view = &world.view;
            prop_assert_eq!(
                view.cluster.hosts().collect::<Vec<_>>(),
                anew.cluster.hosts().collect::<Vec<_>>()
            );
            for host in view.cluster.hosts() {
                prop_assert_eq!(view.cluster.load(host.id), anew.cluster.load(host.id));
            }
            prop_assert_eq!(&view.restless, &anew.restless);
            prop_assert_eq!(
                view.standings.keys().collect::<Vec<_>>(),
                anew.standings.keys().collect::<Vec<_>>()
            );
            for (id, standing) in &view.standings {
                prop_assert!(standing.stands_like(&anew.standings[id]), "{standing:?}\n{:?}", anew.standings[id]);
            }
        }
    }
}
