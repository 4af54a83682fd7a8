//! Operators: they create, scale, update, remove and drain on any node, at any time, and remember what
//! they were told.

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId};
use membership::member::MemberState;
use node::command::{Command, CommandError, Reply};
use node::registry_auth::AuthChange;
use node::views::{Availability, MemberView};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::core::Core;
use crate::links::HostIx;
use crate::world::World;

/// One command of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CommandNo(pub u64);

/// An answer that an operator got.
#[derive(Clone, Debug)]
pub struct Replied {
    pub host: HostIx,
    pub command: CommandNo,
    pub result: Result<Reply, CommandError>,
}

/// What an operator asked for and has no answer to yet.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Asked {
    Create { name: String },
    Remove { id: ServiceId },
    Other,
}

/// How eager the operators are, and what they know to be there.
#[derive(Debug)]
pub struct Operators {
    chance: Chance,
    next: u64,
    asked: BTreeMap<CommandNo, Asked>,
    /// Services that an acknowledged create made and no remove was asked for.
    services: Vec<ServiceId>,
    names: u64,
    /// Most replicas of one service.
    most_replicas: u64,
    most_services: usize,
    pub refused: u64,
    pub acknowledged: u64,
    drained: Option<NodeId>,
}

impl Operators {
    pub fn new(chance: Chance, most_services: usize, most_replicas: u64) -> Self {
        Self {
            chance,
            next: 0,
            asked: BTreeMap::new(),
            services: Vec::new(),
            names: 0,
            most_replicas,
            most_services,
            refused: 0,
            acknowledged: 0,
            drained: None,
        }
    }

    fn number(&mut self, asked: Asked) -> CommandNo {
        self.next += 1;
        self.asked.insert(CommandNo(self.next), asked);
        CommandNo(self.next)
    }

    fn send(
        &mut self,
        world: &mut World,
        host: HostIx,
        asked: Asked,
        command: Command,
    ) -> CommandNo {
        let number = self.number(asked);
        world.command(host, number, command);
        number
    }

    /// Creates a service on a host, whatever it is.
    pub fn create(&mut self, world: &mut World, host: HostIx, spec: Value) -> CommandNo {
        let name = spec["Name"].as_str().unwrap_or_default().to_owned();
        self.send(world, host, Asked::Create { name }, Command::CreateService { spec, auth: None })
    }

    /// Scales a service as the docker CLI does: reads it, changes the number, writes it back.
    pub fn scale(
        &mut self,
        world: &mut World,
        host: HostIx,
        id: ServiceId,
        replicas: u64,
    ) -> Option<CommandNo> {
        let (version, mut spec) = read(world, host, id)?;
        if spec["Mode"]["Replicated"].is_null() {
            return None;
        }
        spec["Mode"] = json!({ "Replicated": { "Replicas": replicas } });
        Some(self.send(
            world,
            host,
            Asked::Other,
            Command::UpdateService { id, version, spec, auth: AuthChange::Keep },
        ))
    }

    pub fn update(
        &mut self,
        world: &mut World,
        host: HostIx,
        id: ServiceId,
        change: impl FnOnce(&mut Value),
    ) -> Option<CommandNo> {
        let (version, mut spec) = read(world, host, id)?;
        change(&mut spec);
        Some(self.send(
            world,
            host,
            Asked::Other,
            Command::UpdateService { id, version, spec, auth: AuthChange::Keep },
        ))
    }

    pub fn remove(&mut self, world: &mut World, host: HostIx, id: ServiceId) -> CommandNo {
        self.services.retain(|known| *known != id);
        self.send(world, host, Asked::Remove { id }, Command::RemoveService { id })
    }

    /// Sets the availability of a node: active, pause or drain.
    pub fn availability(
        &mut self,
        world: &mut World,
        host: HostIx,
        id: NodeId,
        availability: &str,
    ) -> Option<CommandNo> {
        let member = Self::members(world, host).into_iter().find(|member| member.id == id)?;
        let spec =
            json!({ "Role": member.role, "Labels": member.labels, "Availability": availability });
        let command = Command::UpdateNode { id, version: member.version, spec };
        Some(self.send(world, host, Asked::Other, command))
    }

    /// Sets what operators may set of a node: labels, role and availability, as Docker's NodeSpec.
    pub fn update_node(
        &mut self,
        world: &mut World,
        host: HostIx,
        id: NodeId,
        spec: Value,
    ) -> Option<CommandNo> {
        let member = Self::members(world, host).into_iter().find(|member| member.id == id)?;
        let command = Command::UpdateNode { id, version: member.version, spec };
        Some(self.send(world, host, Asked::Other, command))
    }

    fn members(world: &World, host: HostIx) -> Vec<MemberView> {
        world.hosts[host.i()]
            .process
            .as_ref()
            .map(|process| process.core.members())
            .unwrap_or_default()
    }

    /// The end of maintenance: every node is made active again, and nodes whose disk is gone for good
    /// are removed from the cluster. True if there was anything to do.
    pub fn tidy_up(&mut self, world: &mut World, host: HostIx) -> bool {
        self.drained = None;
        let current: Vec<NodeId> = world.hosts.iter().map(|host| host.id).collect();
        let mut did = false;
        for member in Self::members(world, host) {
            if !current.contains(&member.id) {
                if member.state != MemberState::Left {
                    self.send(world, host, Asked::Other, Command::RemoveNode { id: member.id });
                    did = true;
                }
            } else if member.availability != Availability::Active {
                self.availability(world, host, member.id, "active");
                did = true;
            }
        }
        did
    }

    /// Something that an operator might do just now, on a host that answers.
    pub fn do_something(&mut self, world: &mut World) {
        let acting: Vec<HostIx> =
            world.hosts.iter().filter(|host| host.acts()).map(|host| host.ix).collect();
        let Some(host) = self.chance.pick(&acting).copied() else { return };
        let service = self.chance.pick(&self.services).copied();
        match (self.chance.below(10), service) {
            (0..=3, _) if self.services.len() < self.most_services => {
                let spec = self.some_service();
                self.create(world, host, spec);
            }
            (0..=5, Some(id)) => {
                let replicas = self.chance.between(0, self.most_replicas);
                self.scale(world, host, id, replicas);
            }
            (6..=7, Some(id)) => {
                let tag = self.chance.below(1000);
                self.update(world, host, id, |spec| {
                    spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([format!("V={tag}")]);
                });
            }
            (8, Some(id)) => {
                self.remove(world, host, id);
            }
            (9, _) => self.drain_or_not(world, host),
            _ => {}
        }
    }

    fn drain_or_not(&mut self, world: &mut World, host: HostIx) {
        if let Some(id) = self.drained.take() {
            self.availability(world, host, id, "active");
        } else {
            let ids: Vec<NodeId> = world.hosts.iter().map(|host| host.id).collect();
            if let Some(id) = self.chance.pick(&ids).copied() {
                self.drained = Some(id);
                self.availability(world, host, id, "drain");
            }
        }
    }

    fn some_service(&mut self) -> Value {
        self.names += 1;
        let name = format!("s{}", self.names);
        let images = [
            "sim/web",
            "sim/web",
            "sim/web",
            "sim/web",
            "sim/flaky",
            "sim/crash",
            "sim/slow",
            "sim/sick",
            "sim/missing",
        ];
        let image = self.chance.pick(&images).copied().unwrap_or("sim/web");
        let replicas = self.chance.between(1, self.most_replicas);
        let mut spec = service(&name, image, replicas);
        if self.chance.per_mille(300) {
            spec["TaskTemplate"]["ContainerSpec"]["Healthcheck"] =
                json!({ "Test": ["CMD", "true"] });
        }
        if self.chance.per_mille(150) {
            spec["Mode"] = json!({ "Global": {} });
        }
        if self.chance.per_mille(200) {
            let policies = ["majority", "fenced"];
            let policy = self.chance.pick(&policies).copied().unwrap_or("majority");
            spec["Labels"] = json!({ "shoal.partition": policy });
        }
        if self.chance.per_mille(300) {
            let orders = ["start-first", "stop-first"];
            let order = self.chance.pick(&orders).copied().unwrap_or("stop-first");
            let parallelism = self.chance.between(0, 3);
            spec["UpdateConfig"] =
                json!({ "Parallelism": parallelism, "Order": order, "FailureAction": "continue" });
        }
        spec
    }

    /// Takes an answer in. Gives the id of a service that an acknowledged remove took away.
    pub fn hear(&mut self, replied: &Replied) -> Option<ServiceId> {
        let asked = self.asked.remove(&replied.command)?;
        match (&replied.result, asked) {
            (Ok(Reply::Created { id, .. }), Asked::Create { .. }) => {
                self.acknowledged += 1;
                self.services.push(*id);
                None
            }
            (Ok(_), Asked::Remove { id }) => {
                self.acknowledged += 1;
                Some(id)
            }
            (Ok(_), _) => {
                self.acknowledged += 1;
                None
            }
            (Err(_), _) => {
                self.refused += 1;
                None
            }
        }
    }

    pub fn services(&self) -> &[ServiceId] {
        &self.services
    }
}

fn read(world: &World, host: HostIx, id: ServiceId) -> Option<(u64, Value)> {
    let core: &dyn Core = world.hosts[host.i()].process.as_ref()?.core.as_ref();
    let view = core.services().into_iter().find(|service| service.id == id)?;
    Some((view.version, (*view.spec).clone()))
}

/// Docker's spec of a plain replicated service.
pub fn service(name: &str, image: &str, replicas: u64) -> Value {
    json!({
        "Name": name,
        "TaskTemplate": { "ContainerSpec": { "Image": image } },
        "Mode": { "Replicated": { "Replicas": replicas } },
    })
}
