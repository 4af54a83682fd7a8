//! Operators: they create, scale, update, remove and drain on any node, at any time, and remember what
//! they were told.

mod act;
pub mod assets;
pub mod networks;

use std::collections::BTreeMap;

use membership::id::{AssetId, NetworkId, NodeId, ServiceId};
use membership::member::MemberState;
use node::assets::AssetKind;
use node::command::{Command, CommandError, Reply};
use node::files::Content;
use node::registry_auth::AuthChange;
use node::views::{Availability, MemberView};
use serde_json::{Value, json};

pub use act::{Act, Desk, Draft};

use crate::chance::Chance;
use crate::core::Core;
use crate::links::HostIx;
use crate::seen::Seen;
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
    Expel { id: NodeId },
    CreateAsset { asset: u32, kind: AssetKind, content: Content },
    RemoveAsset { asset: u32 },
    CreateNetwork { network: u32 },
    RemoveNetwork { network: u32 },
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
    /// The same by their names.
    named: BTreeMap<String, ServiceId>,
    /// Secrets and configs, by the numbers that acts give them.
    assets: BTreeMap<u32, (AssetKind, AssetId)>,
    /// Networks, likewise.
    networks: BTreeMap<u32, NetworkId>,
    desk: Desk,
    pub refused: u64,
    pub acknowledged: u64,
}

impl Operators {
    pub fn new(chance: Chance, most_services: usize, most_replicas: u64) -> Self {
        Self {
            chance,
            next: 0,
            asked: BTreeMap::new(),
            services: Vec::new(),
            named: BTreeMap::new(),
            assets: BTreeMap::new(),
            networks: BTreeMap::new(),
            desk: Desk::new(most_services, most_replicas, 1),
            refused: 0,
            acknowledged: 0,
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

    /// Has a host carry out any command.
    pub fn command(&mut self, world: &mut World, host: HostIx, command: Command) -> CommandNo {
        self.send(world, host, Asked::Other, command)
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
        if !spec["Mode"]["ReplicatedJob"].is_null() {
            spec["Mode"]["ReplicatedJob"]["TotalCompletions"] = json!(replicas);
        } else if spec["Mode"]["Replicated"].is_null() {
            return None;
        } else {
            spec["Mode"] = json!({ "Replicated": { "Replicas": replicas } });
        }
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

    /// Removes a node from the cluster.
    pub fn expel(&mut self, world: &mut World, host: HostIx, id: NodeId) -> CommandNo {
        self.send(world, host, Asked::Expel { id }, Command::RemoveNode { id })
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
        let current: Vec<NodeId> = world.hosts.iter().map(|host| host.id).collect();
        let mut did = false;
        for member in Self::members(world, host) {
            if !current.contains(&member.id) {
                if member.state != MemberState::Left {
                    self.expel(world, host, member.id);
                    did = true;
                }
            } else if member.availability != Availability::Active {
                self.availability(world, host, member.id, "active");
                did = true;
            }
        }
        did
    }

    /// Does what was drawn or written down, on this host or the next one that answers. False when nobody
    /// answers, or the host knows no such service (yet).
    pub fn act(&mut self, world: &mut World, host: u32, act: &Act) -> bool {
        let count = world.hosts.len();
        let answers = |n: &usize| world.hosts[(host as usize + n) % count].acts();
        let Some(n) = (0..count).find(answers) else { return false };
        let on = world.hosts[(host as usize + n) % count].ix;
        let known = |service: &u32| self.named.get(&name_of(*service)).copied();
        let number = match act {
            Act::Create { service, draft } => {
                let name = name_of(*service);
                let spec = self.with_files(draft.spec(&name), &draft.files);
                let spec = spec.and_then(|spec| self.attached(spec, &draft.networks, draft.port));
                spec.map(|spec| self.create(world, on, spec))
            }
            Act::CreateAsset { asset, secret, content } => {
                Some(self.create_asset(world, on, *asset, *secret, *content))
            }
            Act::ReplaceConfig { asset, content } => {
                self.replace_config(world, on, *asset, *content)
            }
            Act::RemoveAsset { asset } => self.remove_asset(world, on, *asset),
            Act::CreateNetwork { network, subnet } => {
                Some(self.create_network(world, on, *network, subnet.as_deref()))
            }
            Act::RemoveNetwork { network } => self.remove_network(world, on, *network),
            Act::Attach { service, networks, port } => {
                known(service).and_then(|id| self.attach(world, on, id, networks, *port))
            }
            Act::Scale { service, replicas } => {
                known(service).and_then(|id| self.scale(world, on, id, *replicas))
            }
            Act::Update { service, tag } => known(service).and_then(|id| {
                self.update(world, on, id, |spec| {
                    spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([format!("V={tag}")]);
                })
            }),
            Act::Remove { service } => known(service).map(|id| self.remove(world, on, id)),
            Act::Drain { host } => self.set_availability(world, on, *host, "drain"),
            Act::Activate { host } => self.set_availability(world, on, *host, "active"),
        };
        number.is_some()
    }

    fn set_availability(
        &mut self,
        world: &mut World,
        on: HostIx,
        host: u32,
        availability: &str,
    ) -> Option<CommandNo> {
        let id = world.hosts.get(host as usize)?.id;
        self.availability(world, on, id, availability)
    }

    /// Something that an operator might do just now, on a host that answers.
    pub fn do_something(&mut self, world: &mut World) {
        let hosts = world.hosts.len() as u64;
        let host = self.chance.below(hosts) as u32;
        self.desk.hosts = hosts as u32;
        if let Some(act) = self.desk.draw(&mut self.chance) {
            self.act(world, host, &act);
        }
    }

    /// Takes an answer in. Gives what an acknowledged command took away.
    pub fn hear(&mut self, replied: &Replied) -> Option<Seen> {
        let asked = self.asked.remove(&replied.command)?;
        match (&replied.result, asked) {
            (Ok(Reply::Created { id, .. }), Asked::Create { name }) => {
                self.acknowledged += 1;
                self.services.push(*id);
                self.named.insert(name, *id);
                None
            }
            (Ok(Reply::AssetCreated { id }), Asked::CreateAsset { asset, kind, content }) => {
                self.acknowledged += 1;
                self.assets.insert(asset, (kind, *id));
                Some(Seen::Offered { asset: *id, content: assets::digest(&content) })
            }
            (Ok(_), Asked::RemoveAsset { asset }) => {
                self.acknowledged += 1;
                self.assets.remove(&asset);
                None
            }
            (Ok(Reply::NetworkCreated { id }), Asked::CreateNetwork { network }) => {
                self.acknowledged += 1;
                self.networks.insert(network, *id);
                None
            }
            (Ok(_), Asked::RemoveNetwork { network }) => {
                self.acknowledged += 1;
                self.networks.remove(&network);
                None
            }
            (Ok(_), Asked::Remove { id }) => {
                self.acknowledged += 1;
                Some(Seen::Removed { service: id })
            }
            (Ok(_), Asked::Expel { id }) => {
                self.acknowledged += 1;
                Some(Seen::Expelled { id })
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

fn name_of(service: u32) -> String {
    format!("s{service}")
}

/// Docker's spec of a plain replicated service.
pub fn service(name: &str, image: &str, replicas: u64) -> Value {
    json!({
        "Name": name,
        "TaskTemplate": { "ContainerSpec": { "Image": image } },
        "Mode": { "Replicated": { "Replicas": replicas } },
    })
}
