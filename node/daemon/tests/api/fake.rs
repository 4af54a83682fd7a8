//! A node in memory: takes commands, fills slots at once, and shows what the API reads. It decides
//! nothing that the real core decides; it only makes the API's answers predictable.

#[path = "fake_job.rs"]
mod fake_job;
#[path = "fake_objects.rs"]
mod fake_objects;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use daemon::api::backend::{
    Backend, ClusterView, LogFrame, LogOptions, LogSource, LogStream, LogsUnavailable, StatusView,
    TaskQuery,
};
use daemon::vault::Vault;
use futures_util::StreamExt;
use membership::id::{ClusterId, NodeId, ServiceId, TaskId};
use membership::member::{EngineState, Health, MemberState, Profile, Resources};
use membership::record::Digest;
use membership::time::{Millis, Wall};
use node::assets::AssetKind;
use node::command::{Command, CommandError, Refused, Reply};
use node::foresight::{Holding, Patience, Picture, PicturedMember, PicturedService, Wants};
use node::io::{Notice, ServiceChange};
use node::network::NetworkView;
use node::slot::{Epoch, Phase, Slot, TaskState, TaskStatus, TemplateId};
use node::spec::{Mode, ServiceSpec};
use node::views::{
    AssetView, Availability, ConflictView, DesiredState, JobView, MemberView, ServiceView,
    TaskView, UpdateStatus,
};
use placement::{Accepts, Closed, Host, Request};
use serde_json::Value;
use tokio::sync::broadcast;

/// 2026-01-31T12:00:00Z
pub(crate) const START: u64 = 1_769_860_800_000;

pub(crate) struct World {
    pub(crate) ticks: u64,
    pub(crate) services: BTreeMap<ServiceId, ServiceView>,
    pub(crate) tasks: Vec<TaskView>,
    pub(crate) members: Vec<MemberView>,
    pub(crate) conflicts: Vec<ConflictView>,
    pub(crate) assets: Vec<AssetView>,
    pub(crate) networks: Vec<NetworkView>,
    pub(crate) cluster: ClusterView,
    pub(crate) commands: Vec<Command>,
    /// Nodes whose logs cannot be read.
    pub(crate) unreachable: Vec<NodeId>,
    /// New tasks find no room.
    pub(crate) full: bool,
}

pub(crate) struct Fake {
    world: Mutex<World>,
    notices: broadcast::Sender<Notice>,
    engine: Option<PathBuf>,
    /// How many tasks were handed out since it was last looked at.
    pub(crate) tasks_copied: AtomicUsize,
    vault: Vault,
}

pub(crate) fn member(number: u128, name: &str, state: MemberState) -> MemberView {
    let addr: SocketAddr = format!("10.0.0.{number}:7946").parse().unwrap();
    MemberView {
        id: NodeId(number << 64),
        is_me: number == 1,
        state,
        reason: String::new(),
        since: Wall(START),
        profile: Some(Profile {
            name: name.to_owned(),
            addr,
            zone: String::new(),
            labels: BTreeMap::from([("disk".to_owned(), "ssd".to_owned())]),
            capacity: Resources { cpu_milli: 4000, memory_bytes: 8 << 30 },
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            runtime: "docker".to_owned(),
            engine_version: "20.10.24".to_owned(),
            shoal_version: "0.1.0".to_owned(),
            protocol_version: 1,
            placement_version: 1,
            started: Wall(START),
        }),
        health: Some(Health {
            engine: EngineState::Ok,
            leaving: false,
            settling: false,
            reserved: Resources::default(),
            root: Digest(0),
        }),
        name: name.to_owned(),
        given_name: None,
        addr: addr.to_string(),
        role: "manager".to_owned(),
        availability: Availability::Active,
        labels: BTreeMap::new(),
        version: 7,
        created: Wall(START),
        updated: Wall(START),
        replicas: 0,
    }
}

fn pictured(member: &MemberView) -> PicturedMember {
    let profile = member.profile.as_ref().unwrap();
    PicturedMember {
        name: member.name.clone(),
        state: member.state,
        reason: member.reason.clone(),
        availability: member.availability,
        belongs: true,
        counted: member.state.holds_claims(),
        settling: false,
        host: Some(Host {
            id: member.id,
            name: member.name.clone(),
            zone: profile.zone.clone(),
            node_labels: member.labels.clone(),
            engine_labels: profile.labels.clone(),
            role: member.role.clone(),
            os: profile.os.clone(),
            arch: profile.arch.clone(),
            ip: profile.addr.ip(),
            capacity: profile.capacity,
            accepts: match member.state {
                MemberState::Alive => Accepts::Yes,
                _ => Accepts::No(Closed::Down),
            },
        }),
    }
}

impl Fake {
    /// Three nodes, `alpha` (this one), `beta` and `gamma`.
    pub(crate) fn new(engine: Option<PathBuf>) -> Arc<Self> {
        let members = ["alpha", "beta", "gamma"]
            .iter()
            .zip(1..)
            .map(|(name, number)| member(number, name, MemberState::Alive))
            .collect();
        let world = World {
            ticks: 0,
            services: BTreeMap::new(),
            tasks: Vec::new(),
            members,
            conflicts: Vec::new(),
            assets: Vec::new(),
            networks: Vec::new(),
            cluster: ClusterView {
                id: ClusterId(99),
                me: NodeId(1 << 64),
                my_addr: "10.0.0.1:7946".to_owned(),
                created: Wall(START),
                updated: Wall(START),
                version: 3,
                spec: None,
            },
            commands: Vec::new(),
            unreachable: Vec::new(),
            full: false,
        };
        Arc::new(Self {
            world: Mutex::new(world),
            notices: broadcast::channel(64).0,
            engine,
            tasks_copied: AtomicUsize::new(0),
            vault: Vault::new(&[5; 32]),
        })
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub(crate) fn notice(&self, notice: Notice) {
        let _ = self.notices.send(notice);
    }
}

fn refuse<T>(kind: Refused, message: &str) -> Result<T, CommandError> {
    Err(CommandError::new(kind, message))
}

impl World {
    fn tick(&mut self) -> Wall {
        self.ticks += 1;
        Wall(START + self.ticks)
    }

    /// Ends tasks that are not wanted or not up to date and starts what is missing.
    fn settle(&mut self, id: ServiceId) {
        let Some(service) = self.services.get(&id).cloned() else { return };
        let template = Arc::new(service.spec["TaskTemplate"].clone());
        if service.job.is_some() {
            return self.do_job(&service, &template);
        }
        let wanted: Vec<Slot> = if service.spec["Mode"]["Global"].is_null() {
            let replicas = service.spec["Mode"]["Replicated"]["Replicas"].as_u64().unwrap();
            (1..=u32::try_from(replicas).unwrap()).map(Slot::Index).collect()
        } else {
            self.members.iter().map(|member| Slot::Node(member.id)).collect()
        };
        let now = self.tick();
        for task in self.tasks.iter_mut().filter(|task| task.service == id) {
            let keep = wanted.contains(&task.slot()) && task.template == template;
            if !keep && task.state() == TaskState::Running {
                task.status.state = TaskState::Shutdown;
                task.status.since = now;
                task.desired = DesiredState::Shutdown;
                task.up_to_date = false;
            }
        }
        for slot in wanted {
            let filled = self.tasks.iter().any(|task| {
                task.service == id && task.slot() == slot && task.state() == TaskState::Running
            });
            if !filled {
                let task = self.new_task(&service, slot, &template, now);
                self.tasks.push(task);
            }
        }
        let running = self
            .tasks
            .iter()
            .filter(|task| task.service == id && task.state() == TaskState::Running)
            .count() as u64;
        let service = self.services.get_mut(&id).unwrap();
        (service.running, service.desired) = (running, running);
    }

    fn picture(&self) -> Picture {
        let second = Millis(1_000);
        Picture {
            me: self.cluster.me,
            members: self.members.iter().map(|member| (member.id, pictured(member))).collect(),
            services: self.services.iter().map(|(id, s)| (*id, self.pictured(*id, s))).collect(),
            lost: 0,
            patience: Patience {
                fence_after: second,
                fence_wait: second,
                even_after: Some(second),
                stagger: second,
            },
            caveats: Vec::new(),
        }
    }

    fn pictured(&self, id: ServiceId, service: &ServiceView) -> PicturedService {
        let spec = ServiceSpec::parse(&service.spec).unwrap();
        let running = self.tasks.iter().filter(|task| {
            task.service == id && task.node.is_some() && task.state() == TaskState::Running
        });
        let holding = |task: &TaskView| Holding {
            node: task.node.unwrap(),
            live: true,
            epoch: Epoch(7),
            phase: Phase::Ready,
            failures: 0,
            task: task.id(),
            created: task.status.created,
            since: task.status.since,
            error: None,
        };
        PicturedService {
            name: service.name.clone(),
            claims: running.map(|task| (task.slot(), vec![holding(task)])).collect(),
            pending: BTreeMap::new(),
            idle: None,
            job: None,
            wants: Some(Wants {
                request: Request {
                    service: id,
                    resources: spec.reservation,
                    constraints: spec.constraints,
                    ..Request::default()
                },
                mode: spec.mode,
                replicas: if spec.mode == Mode::Global { 0 } else { spec.replicas },
                partition: spec.partition,
                rolling: false,
            }),
        }
    }

    fn new_task(
        &self,
        service: &ServiceView,
        slot: Slot,
        template: &Arc<Value>,
        now: Wall,
    ) -> TaskView {
        let number = u128::try_from(self.tasks.len()).unwrap() + 1;
        let node = match slot {
            Slot::Node(node) => node,
            Slot::Index(index) => self.members[index as usize % self.members.len()].id,
        };
        TaskView {
            service: service.id,
            service_name: service.name.clone(),
            node: (!self.full).then_some(node),
            status: TaskStatus {
                id: TaskId(number << 100),
                slot,
                template: TemplateId(1),
                created: now,
                state: if self.full { TaskState::Pending } else { TaskState::Running },
                since: now,
                message: "started".to_owned(),
                error: self
                    .full
                    .then(|| "no suitable node (insufficient resources on 3 nodes)".to_owned()),
                container: (!self.full).then(|| format!("{number:064x}")),
                pid: Some(4242),
                exit_code: None,
                ports: Vec::new(),
            },
            desired: DesiredState::Running,
            up_to_date: true,
            iteration: service.job.map(|job| job.iteration),
            template: Arc::clone(template),
            version: 11,
        }
    }

    fn change(
        &mut self,
        id: ServiceId,
        version: u64,
        edit: impl FnOnce(&mut ServiceView),
    ) -> Result<Reply, CommandError> {
        let now = self.tick();
        let Some(service) = self.services.get_mut(&id) else {
            return refuse(Refused::NotFound, "service not found");
        };
        if service.version != version {
            return refuse(Refused::OutOfSequence, "update out of sequence");
        }
        service.version += 1;
        service.updated = now;
        if let Some(job) = &mut service.job {
            *job = JobView { iteration: job.iteration + 1, executed: now };
        }
        edit(service);
        self.settle(id);
        Ok(Reply::Done { warnings: Vec::new() })
    }

    fn obey(&mut self, command: Command) -> Result<Reply, CommandError> {
        match command {
            Command::CreateService { spec, .. } => {
                let now = self.tick();
                let id = ServiceId((u128::try_from(self.services.len()).unwrap() + 1) << 96);
                let is_job = ServiceSpec::parse(&spec).unwrap().mode.is_job();
                let view = ServiceView {
                    id,
                    version: 10,
                    created: now,
                    updated: now,
                    name: spec["Name"].as_str().unwrap().to_owned(),
                    spec: Arc::new(spec),
                    previous_spec: None,
                    update_status: None,
                    running: 0,
                    desired: 0,
                    completed: 0,
                    job: is_job.then_some(JobView { iteration: 0, executed: now }),
                    shadowed_by: None,
                    published: Vec::new(),
                };
                self.services.insert(id, view);
                self.settle(id);
                Ok(Reply::Created { id, warnings: Vec::new() })
            }
            Command::UpdateService { id, version, spec, .. } => {
                self.change(id, version, |service| {
                    service.previous_spec = Some(Arc::clone(&service.spec));
                    service.spec = Arc::new(spec);
                    service.update_status = None;
                })
            }
            Command::RollbackService { id, version } => {
                let started = self.tick();
                self.change(id, version, |service| {
                    let previous = service.previous_spec.take().unwrap();
                    service.previous_spec = Some(std::mem::replace(&mut service.spec, previous));
                    service.update_status = Some(UpdateStatus {
                        state: "rollback_completed".to_owned(),
                        started,
                        completed: Some(started),
                        message: "rollback completed".to_owned(),
                    });
                })
            }
            Command::RemoveService { id } => {
                self.tasks.retain(|task| task.service != id);
                self.services.remove(&id);
                Ok(Reply::Done { warnings: Vec::new() })
            }
            Command::UpdateNode { id, version, spec } => {
                let member = self.members.iter_mut().find(|member| member.id == id).unwrap();
                if member.version != version {
                    return refuse(Refused::OutOfSequence, "update out of sequence");
                }
                member.version += 1;
                member.role = spec["Role"].as_str().unwrap().to_owned();
                member.availability = serde_json::from_value(spec["Availability"].clone()).unwrap();
                member.labels = serde_json::from_value(spec["Labels"].clone()).unwrap();
                Ok(Reply::Done { warnings: Vec::new() })
            }
            Command::RemoveNode { id } => {
                self.members.retain(|member| member.id != id);
                Ok(Reply::Done { warnings: Vec::new() })
            }
            Command::DismissConflict { id } => {
                self.conflicts.retain(|conflict| conflict.id != id);
                Ok(Reply::Done { warnings: Vec::new() })
            }
            Command::UpdateCluster { spec, .. } => {
                self.cluster.spec = Some(spec);
                self.cluster.version += 1;
                Ok(Reply::Done { warnings: Vec::new() })
            }
            Command::Leave => Ok(Reply::Done { warnings: Vec::new() }),
            other => self.obey_about_objects(other),
        }
    }
}

#[async_trait]
impl Backend for Fake {
    async fn command(&self, command: Command) -> Result<Reply, CommandError> {
        let reply = {
            let mut world = self.world();
            world.commands.push(command.clone());
            world.obey(command.clone())?
        };
        if let (Command::CreateService { spec, .. }, Reply::Created { id, .. }) = (&command, &reply)
        {
            let name = spec["Name"].as_str().unwrap().to_owned();
            self.notice(Notice::Service { id: *id, name, what: ServiceChange::Created });
        }
        Ok(reply)
    }

    async fn join(&self, members: Vec<String>, token: &str) -> Result<(), CommandError> {
        let known = token == "SHOAL-1-other" && members == ["10.0.0.9:7946"];
        let wrong = || CommandError::new(Refused::Invalid, "invalid join token");
        known.then_some(()).ok_or_else(wrong)
    }

    async fn services(&self) -> Vec<ServiceView> {
        self.world().services.values().cloned().collect()
    }

    async fn tasks(&self, which: TaskQuery) -> Vec<TaskView> {
        let wanted = |task: &&TaskView| match which {
            TaskQuery::All => true,
            TaskQuery::Service(id) => task.service == id,
            TaskQuery::Node(id) => task.node == Some(id),
            TaskQuery::Task(id) => task.id() == id,
        };
        let tasks: Vec<TaskView> = self.world().tasks.iter().filter(wanted).cloned().collect();
        self.tasks_copied.fetch_add(tasks.len(), Ordering::Relaxed);
        tasks
    }

    async fn members(&self) -> Vec<MemberView> {
        self.world().members.clone()
    }

    async fn assets(&self, kind: AssetKind) -> Vec<AssetView> {
        self.world().assets.iter().filter(|asset| asset.kind == kind).cloned().collect()
    }

    async fn networks(&self) -> Vec<NetworkView> {
        self.world().networks.clone()
    }

    fn vault(&self) -> &Vault {
        &self.vault
    }

    async fn conflicts(&self) -> Vec<ConflictView> {
        self.world().conflicts.clone()
    }

    async fn picture(&self) -> Option<Picture> {
        Some(self.world().picture())
    }

    async fn cluster(&self) -> ClusterView {
        self.world().cluster.clone()
    }

    async fn status(&self) -> StatusView {
        StatusView {
            name: "alpha".to_owned(),
            shoal_version: "0.1.0".to_owned(),
            started: Wall(START),
            data_dir: PathBuf::from("/var/lib/shoal"),
            profile: "lan".to_owned(),
            runtime: if self.engine.is_some() { "docker" } else { "process" }.to_owned(),
            engine: EngineState::Ok,
            engine_version: "20.10.24".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            cpus: 4,
            memory_bytes: 8 << 30,
            holding_back: None,
            warnings: Vec::new(),
        }
    }

    fn token(&self) -> String {
        "SHOAL-1-secret".to_owned()
    }

    async fn logs(
        &self,
        node: NodeId,
        task: TaskId,
        options: LogOptions,
    ) -> Result<LogStream, LogsUnavailable> {
        if self.world().unreachable.contains(&node) {
            return Err(LogsUnavailable("node gamma does not answer".to_owned()));
        }
        let frame = |source, second: u32, line: &str| LogFrame {
            source,
            timestamp: format!("2026-01-31T12:00:{second:02}.000000007Z"),
            line: line.as_bytes().to_vec(),
        };
        let mut frames = vec![
            frame(LogSource::Stdout, 1, &format!("hello from {task}\n")),
            frame(LogSource::Stderr, 2, "a complaint\n"),
        ];
        frames.retain(|frame| match frame.source {
            LogSource::Stderr => options.stderr,
            LogSource::Stdout | LogSource::Console => options.stdout,
        });
        if let Some(tail) = options.tail {
            let skip = frames.len().saturating_sub(usize::try_from(tail).unwrap());
            frames.drain(..skip);
        }
        let lines = futures_util::stream::iter(frames.into_iter().map(Ok));
        if options.follow {
            Ok(lines.chain(futures_util::stream::pending()).boxed())
        } else {
            Ok(lines.boxed())
        }
    }

    fn notices(&self) -> broadcast::Receiver<Notice> {
        self.notices.subscribe()
    }

    fn engine(&self) -> Option<PathBuf> {
        self.engine.clone()
    }
}
