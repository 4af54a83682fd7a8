//! A running node: what is started, in which order, and how it ends.
//!
//! ```text
//! settings -> key, token, store, incarnation -> runtime -> gossip -> core -> loop
//!                                                                     ^        |
//!                                     API (reads, commands) ----------+--------+
//! ```
//!
//! Gossip, core and loop share one thread ([`core_thread`]); the runtime and the API run on those of the caller.
//!
//! Ending the process (also by SIGKILL) touches no container: the next process of this node adopts
//! what it finds.

mod backend;
mod clock;
mod core_loop;
mod core_thread;
mod enrol;
mod remote_logs;
mod switch;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use gossip::{Config, GossipHandle, Pace};
use membership::id::{CellId, NodeId};
use membership::member::{Profile as MemberProfile, Resources};
use membership::wire::PROTOCOL_VERSION;
use node::network::devices::TUNNEL_PORT;
use node::network::picture::Picture as NetworkPicture;
use node::{Node, Start};
use placement::PLACEMENT_VERSION;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use zeroize::Zeroizing;

pub use backend::LocalNode;
pub use enrol::EnrolError;

use crate::api::listen::{ApiSocket, BindError};
use crate::network::http::{self, Http};
use crate::network::names::{self, Upstream};
use crate::network::{Place, drive};
use crate::runtime::docker::DockerRuntime;
use crate::runtime::process::{self, ProcessRuntime};
use crate::runtime::{HostError, HostInfo, Layout, MemoryFiles, Owner, Report, Runtime};
use crate::settings::{Profile, RuntimeKind, Settings};
use crate::store::{OpenError, Store, WriteError};
use crate::vault::Vault;
use clock::Clocks;
use switch::LoopEnd;

/// The version that members publish and `shoal --version` prints.
pub const SHOAL_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Requests (reads and commands) that wait for the loop. When full, askers wait with theirs.
const REQUESTS: usize = 1024;
/// Notices a slow reader of events may fall behind by before it loses the oldest.
const NOTICES: usize = 1024;

/// Where the host says whom it asks for names.
const RESOLVERS: &str = "/etc/resolv.conf";

/// How long open connections to peers get to take in that this node stops.
const GOODBYE: std::time::Duration = std::time::Duration::from_secs(1);

/// Why a node did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot use the data directory {dir}: {source}")]
    Key { dir: PathBuf, source: gossip::KeyError },
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error(transparent)]
    Runtime(#[from] HostError),
    #[error(transparent)]
    Store(#[from] OpenError),
    #[error("the store in {dir} cannot be read: {source}")]
    Read { dir: PathBuf, source: WriteError },
    #[error(
        "this node could not be given a new incarnation: {0}. Nothing was started; without one, peers would take it for its own past"
    )]
    Incarnation(WriteError),
    #[error(transparent)]
    Gossip(#[from] gossip::StartError),
    #[error("this node's core cannot have a thread of its own: {0}. Nothing was started")]
    Thread(std::io::Error),
    #[error(transparent)]
    Api(#[from] BindError),
    #[error(transparent)]
    Http(#[from] http::StartError),
    #[error(
        "this node is not in its old cluster any more, and could not be made ready for the other one in {dir}: {why}. Start shoal again: it is alone then, and can join"
    )]
    Move { dir: PathBuf, why: String },
    #[error(
        "the core ended unexpectedly ({0}): a fault of shoal's own. Its containers go on running; start shoal again and it adopts them"
    )]
    Core(String),
}

impl RunError {
    /// Whether a setting is at fault, so that starting again without changing it is of no use.
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Enrol(error) if !matches!(error, EnrolError::File(_)))
    }
}

/// How a node ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop; its containers go on running.
    Stopped,
    /// It has left the cluster.
    Left,
}

/// Runs a node until `stop` is cancelled or it has left. `ready` is called once its API is served.
///
/// # Errors
/// [`RunError`] when it could not start; nothing is left running then.
pub async fn run(
    mut settings: Settings,
    stop: CancellationToken,
    ready: impl FnOnce(&LocalNode),
) -> Result<Ended, RunError> {
    let store = Arc::new(Store::open(&settings.data_dir)?);
    let mut socket = None;
    let mut ready = Some(ready);
    loop {
        let again = ready.is_none();
        let first = |node: &LocalNode| {
            if let Some(ready) = ready.take() {
                ready(node);
            }
        };
        match one_life(&settings, &store, &mut socket, &stop, again, first).await? {
            LoopEnd::Ended(ended) => return Ok(ended),
            LoopEnd::Moves(there) => switch::carry_out(there, &mut settings, &store).await?,
        }
    }
}

/// From the start of a node in its cluster to its end there. `socket` is the API's: it outlives a move to another
/// cluster, so that who asks meanwhile waits and finds a node.
async fn one_life(
    settings: &Settings,
    store: &Arc<Store>,
    socket: &mut Option<ApiSocket>,
    stop: &CancellationToken,
    again: bool,
    ready: impl FnOnce(&LocalNode),
) -> Result<LoopEnd, RunError> {
    let dir = settings.data_dir.clone();
    let clocks = Clocks::start();
    let key = gossip::NodeKey::load_or_create(&dir)
        .map_err(|source| RunError::Key { dir: dir.clone(), source })?;
    let me = key.id();
    let token = enrol::token(settings)?;
    let cluster = token.cluster();
    let read = |source| RunError::Read { dir: dir.clone(), source };
    let (records, damaged) = store.load_records().await.map_err(read)?;
    for record in &damaged {
        warn!(key = ?record.key, why = %record.why, "a stored record cannot be used; a good copy from another node replaces it");
    }
    let incarnation =
        store.draw_incarnation(clocks.now().wall).await.map_err(RunError::Incarnation)?;

    let api = match socket.take() {
        Some(api) => api,
        None => ApiSocket::bind(&settings.api).await?,
    };
    let network = watch::Sender::new(Arc::default());
    // Until the end of this function.
    let _http = Http::start(&settings.http, network.subscribe()).await?;
    let vault = Arc::new(Vault::new(&Zeroizing::new(token.secrets_key())));
    let owner = Owner { cluster, node: me };
    let (runtime, runtime_reports) = start_runtime(settings, owner, Arc::clone(&vault))?;
    let host = host_info(settings, runtime.as_ref()).await;

    let signer = enrol::signer(key.clone());
    let scout = switch::Scout {
        key: key.clone(),
        store: Arc::clone(store),
        settings: settings.clone(),
        clocks,
    };
    let seeds = switch::seeds(settings, store, &token).await;
    let (listen, advertise, pace) = (settings.listen, settings.advertise, pace(settings.profile));
    let config = {
        let token = token.clone();
        move || Config {
            key: key.clone(),
            token: token.clone(),
            incarnation,
            cell: CellId(0),
            listen,
            advertise,
            seeds: seeds.clone(),
            pace,
        }
    };
    let core_thread = core_thread::CoreThread::start().map_err(RunError::Thread)?;
    let starting = core_thread.handle().spawn(switch::start_gossip(config, again));
    let (gossip, from_gossip) =
        starting.await.map_err(|error| RunError::Core(error.to_string()))??;
    let profile = profile(settings, &host, runtime.name(), &gossip, &clocks);
    info!(node = %me, name = %profile.name, addr = %profile.addr, incarnation = incarnation.0, "starting");

    let start = Start {
        me,
        cluster,
        cell: CellId(0),
        incarnation,
        profile: profile.clone(),
        settings: core_settings(settings),
        records,
        seed: rand::random(),
        now: clocks.now(),
    };
    let (node, first) = Node::new(start, signer);
    let (requests, asked) = mpsc::channel(REQUESTS);
    let (notices, _) = broadcast::channel(NOTICES);
    let shown = Arc::new(Mutex::new(backend::Shown::new(settings, &profile)));
    let (complaints, driving) = drive_networks(settings, me, &gossip, &network, stop);
    runtime.reached_at(gossip.advertised().ip());
    let local = LocalNode::new(
        requests,
        notices.clone(),
        Arc::clone(&runtime),
        gossip.clone(),
        Arc::clone(&shown),
        token.reveal(),
        (settings.runtime == RuntimeKind::Docker).then(|| settings.docker.clone()),
        vault,
        complaints,
        scout,
    );
    let engine = Arc::clone(&runtime);
    let looping = core_loop::CoreLoop {
        node,
        clocks,
        gossip: gossip.clone(),
        runtime,
        store: Arc::clone(store),
        from_gossip,
        runtime_reports,
        asked,
        notices,
        shown,
        network,
        work: Handle::current(),
        stop: stop.clone(),
    };
    let core = core_thread.handle().spawn(looping.run(first));
    let serving = stop.child_token();
    let stays = Arc::new(AtomicBool::new(false));
    let backend = Arc::new(local.clone());
    let served = tokio::spawn(api.serve_in_turn(backend, serving.clone(), Arc::clone(&stays)));
    ready(&local);
    drop(local);
    let ended = core.await.map_err(|error| RunError::Core(error.to_string()));
    stays.store(matches!(ended, Ok(LoopEnd::Moves(_))), Ordering::Relaxed);
    serving.cancel();
    match served.await {
        Ok(api) => *socket = Some(api),
        Err(error) => warn!(%error, "the API ended unexpectedly"),
    }
    gossip.shutdown(GOODBYE).await;
    if let Some(driving) = driving {
        let left = matches!(ended, Ok(LoopEnd::Ended(Ended::Left) | LoopEnd::Moves(_)));
        driving.end(left, engine.as_ref()).await;
    }
    ended
}

/// What makes networks real on this host, while it does.
struct Driving {
    stop: CancellationToken,
    driver: JoinHandle<()>,
}

impl Driving {
    /// Ends it, and with `left` takes away what it made.
    async fn end(self, left: bool, engine: &dyn Runtime) {
        self.stop.cancel();
        // It makes nothing anew behind what is taken away.
        let _ = self.driver.await;
        if !left {
            return;
        }
        for text in engine.leave_networks().await {
            warn!("this node has left, and its engine keeps a network of the cluster: {text}");
        }
        if let Err(error) = crate::network::clear().await {
            warn!(%error, "some of what this node made for networks is still on this host");
        }
    }
}

/// Starts what makes networks real on this host; gives what it finds missing.
fn drive_networks(
    settings: &Settings,
    me: NodeId,
    gossip: &GossipHandle,
    pictures: &watch::Sender<Arc<NetworkPicture>>,
    stop: &CancellationToken,
) -> (watch::Receiver<Vec<String>>, Option<Driving>) {
    let (complaints, missing) = watch::channel(Vec::new());
    let driving = (settings.runtime == RuntimeKind::Docker).then(|| {
        let stop = stop.child_token();
        let place = Place {
            address: gossip.advertised().ip(),
            port: TUNNEL_PORT,
            engine: settings.docker.clone(),
            me,
            gossip: Some(gossip.clone()),
        };
        let driver = tokio::spawn(drive(place, pictures.subscribe(), complaints, stop.clone()));
        let upstream = Upstream::from_file(PathBuf::from(RESOLVERS), names::PORT);
        let serving = names::serve(pictures.subscribe(), names::PORT, upstream);
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Driving { stop, driver }
    });
    (missing, driving)
}

fn start_runtime(
    settings: &Settings,
    owner: Owner,
    vault: Arc<Vault>,
) -> Result<(Arc<dyn Runtime>, mpsc::Receiver<Report>), HostError> {
    match settings.runtime {
        RuntimeKind::Docker => {
            let files = MemoryFiles::open(owner, Layout::Flat, vault);
            let (runtime, reports) =
                DockerRuntime::start(&settings.docker, owner, settings.allow_privileged, files);
            Ok((Arc::new(runtime), reports))
        }
        RuntimeKind::Process => {
            let files = MemoryFiles::open(owner, Layout::Tree, vault);
            let (runtime, reports) = ProcessRuntime::start(&settings.data_dir, owner, files)?;
            Ok((Arc::new(runtime), reports))
        }
    }
}

/// What the engine says of its host; while it does not answer, what the host itself says. The core is
/// told of the engine by the runtime, so a node starts without one and takes it up when it comes.
async fn host_info(settings: &Settings, runtime: &dyn Runtime) -> HostInfo {
    match runtime.host().await {
        Ok(info) => info,
        Err(error) => {
            warn!(%error, "starting without a container engine");
            process::this_host().unwrap_or_else(|error| {
                warn!(%error, "this host's capacity is unknown: no limit is applied");
                HostInfo {
                    capacity: Resources::default(),
                    hostname: settings.name.clone(),
                    os: std::env::consts::OS.to_owned(),
                    arch: std::env::consts::ARCH.to_owned(),
                    engine_version: String::new(),
                    labels: std::collections::BTreeMap::new(),
                }
            })
        }
    }
}

fn profile(
    settings: &Settings,
    host: &HostInfo,
    runtime: &str,
    gossip: &GossipHandle,
    clocks: &Clocks,
) -> MemberProfile {
    let mut labels = host.labels.clone();
    labels.extend(settings.labels.clone());
    let keep = settings.reserve;
    MemberProfile {
        name: settings.name.clone(),
        addr: gossip.advertised(),
        zone: settings.zone.clone(),
        labels,
        capacity: Resources {
            cpu_milli: host.capacity.cpu_milli.saturating_sub(keep.cpu_milli),
            memory_bytes: host.capacity.memory_bytes.saturating_sub(keep.memory_bytes),
        },
        os: host.os.clone(),
        arch: host.arch.clone(),
        runtime: runtime.to_owned(),
        engine_version: host.engine_version.clone(),
        shoal_version: SHOAL_VERSION.to_owned(),
        protocol_version: PROTOCOL_VERSION,
        placement_version: PLACEMENT_VERSION,
        started: clocks.now().wall,
    }
}

fn pace(profile: Profile) -> Pace {
    match profile {
        Profile::Local => Pace::Local,
        Profile::Lan => Pace::Lan,
        Profile::Wan => Pace::Wan,
    }
}

fn core_settings(settings: &Settings) -> node::Settings {
    let mut core = match settings.profile {
        Profile::Local => node::Settings::local(),
        Profile::Lan => node::Settings::lan(),
        Profile::Wan => node::Settings::wan(),
    };
    if !settings.rebalance {
        core.rebalance_every = membership::time::Millis::ZERO;
    }
    core
}
