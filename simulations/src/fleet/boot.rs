//! What a large cluster is made of, and the moment at which a run begins: every host is up, every slot runs
//! where placement puts it, and everybody has heard of everybody.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use membership::clock::Stamp;
use membership::id::{CellId, NodeId, ServiceId, TaskId};
use membership::member::{Profile, Resources};
use membership::record::{Key, Kind, Record};
use membership::time::Wall;
use membership::wire;
use node::slot::{Epoch, Place, Slot, TemplateId};
use node::spec::ServiceSpec;
use placement::{Accepts, Cluster, Host, PLACEMENT_VERSION, Request};
use serde_json::{Value, json};

use super::engine::Container;
use super::{FleetSpec, WALL_START};
use crate::chance::Chance;
use crate::host::addr_of;
use crate::links::HostIx;

/// What each replica reserves.
pub const EACH: Resources = Resources { cpu_milli: 100, memory_bytes: 128 << 20 };

/// A service of the run.
#[derive(Debug)]
pub struct Service {
    pub id: ServiceId,
    pub name: String,
    pub template: TemplateId,
    spec: Value,
}

/// A host before it starts.
#[derive(Clone, Debug)]
pub struct Site {
    pub id: NodeId,
    pub name: String,
    pub addr: SocketAddr,
    pub zone: usize,
    pub capacity: Resources,
}

#[derive(Debug)]
pub struct Plot {
    pub sites: Vec<Site>,
    pub services: Vec<Service>,
    /// Replicas of each service.
    pub slots: usize,
}

impl Plot {
    pub fn new(spec: &FleetSpec, chance: &mut Chance) -> Self {
        let slots = (spec.replicas / spec.services).max(1);
        // Room for twice as much as there is: after the loss of a third three quarters are full.
        let room = 2 * (spec.services * slots).div_ceil(spec.hosts).max(1) as u64;
        let capacity =
            Resources { cpu_milli: EACH.cpu_milli * room, memory_bytes: EACH.memory_bytes * room };
        let site = |n: usize| {
            let id = NodeId(chance.id());
            // The ordinary simulation draws a host's uptime here: with one seed both have the same nodes.
            chance.below(100_000_000);
            let addr = addr_of(HostIx(u32::try_from(n).unwrap_or(u32::MAX)));
            Site { id, name: format!("host-{n}"), addr, zone: n % spec.zones.max(1), capacity }
        };
        let sites: Vec<Site> = (0..spec.hosts).map(site).collect();
        let service = |n: usize| {
            let name = format!("s{n}");
            let spec = json!({
                "Name": name,
                "TaskTemplate": {
                    "ContainerSpec": { "Image": "sim/plain" },
                    "Resources": { "Reservations": {
                        "NanoCPUs": EACH.cpu_milli * 1_000_000,
                        "MemoryBytes": EACH.memory_bytes,
                    } },
                },
                "Mode": { "Replicated": { "Replicas": slots } },
            });
            let template = ServiceSpec::parse(&spec).map(|s| s.template).unwrap_or_default();
            Service { id: ServiceId(chance.id()), name, template, spec }
        };
        Self { sites, services: (0..spec.services).map(service).collect(), slots }
    }

    /// What is on every disk: the services, and who belongs to the cluster.
    pub fn records(&self) -> Vec<Record> {
        let stamp = Stamp { ms: WALL_START.0 - 1_000, counter: 0 };
        let writer = self.sites.first().map_or(NodeId(0), |site| site.id);
        let record = |kind, id, body: Value| Record {
            cell: CellId(0),
            key: Key { kind, id },
            stamp,
            writer,
            ancestors: Vec::new(),
            body: Some(body.to_string().into_bytes()),
        };
        let services = self.services.iter().map(|service| {
            let body = json!({
                "v": 1, "created_ms": stamp.ms, "created_counter": 0, "spec": service.spec,
            });
            record(Kind::Service, service.id.0, body)
        });
        let admissions = self.sites.iter().map(|site| {
            let body = json!({
                "v": 1, "state": "admitted", "name": site.name, "addr": site.addr,
                "since_ms": stamp.ms,
            });
            record(Kind::Admission, site.id.0, body)
        });
        services.chain(admissions).collect()
    }

    /// Where each slot runs, as one plan after the other puts it: (host, place, container).
    pub fn placed(&self, chance: &mut Chance) -> Vec<(usize, TaskId, Container)> {
        let mut cluster = Cluster::new(self.sites.iter().map(Site::as_host));
        let numbers: BTreeMap<NodeId, usize> =
            self.sites.iter().enumerate().map(|(n, site)| (site.id, n)).collect();
        let slots: Vec<u32> = (1..=self.slots as u32).collect();
        let mut placed = Vec::with_capacity(self.slots * self.services.len());
        for service in &self.services {
            let request = Request { service: service.id, resources: EACH, ..Request::default() };
            let plan = placement::plan(&cluster, &request, &BTreeMap::new(), &slots);
            for (slot, candidates) in plan.choices {
                cluster.add_load(candidates[0], &request);
                let container = Container {
                    place: Place { service: service.id, slot: Slot::Index(slot) },
                    epoch: Epoch(1),
                    template: service.template,
                    created: Wall(WALL_START.0 - 1_000),
                    number: 0,
                    given_up: false,
                };
                placed.push((numbers[&candidates[0]], TaskId(chance.id()), container));
            }
        }
        placed
    }
}

impl Site {
    fn zone_name(&self) -> String {
        format!("zone-{}", self.zone)
    }

    fn as_host(&self) -> Host {
        Host {
            id: self.id,
            name: self.name.clone(),
            zone: self.zone_name(),
            node_labels: BTreeMap::new(),
            engine_labels: BTreeMap::new(),
            role: "manager".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            ip: IpAddr::from([0, 0, 0, 0]),
            capacity: self.capacity,
            accepts: Accepts::Yes,
        }
    }

    pub fn weight(&self) -> u64 {
        u64::from(self.as_host().weight())
    }

    pub fn profile(&self) -> Profile {
        Profile {
            name: self.name.clone(),
            addr: self.addr,
            zone: self.zone_name(),
            labels: BTreeMap::new(),
            capacity: self.capacity,
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            runtime: "docker".to_owned(),
            engine_version: "28.0.0".to_owned(),
            shoal_version: env!("CARGO_PKG_VERSION").to_owned(),
            protocol_version: wire::PROTOCOL_VERSION,
            placement_version: PLACEMENT_VERSION,
            started: WALL_START,
        }
    }
}
