//! `shoal demo`: a cluster on this machine that loses a host, to be watched.
//!
//! Several nodes run as child processes of this very program, on loopback addresses and in a temporary
//! directory; a service is spread over them; one node is made to die as a host dies, silently and with
//! all that ran on it; and the times are measured by asking a survivor. Everything is cleaned up in the
//! end, also after Ctrl-C, SIGTERM and a panic; only after a SIGKILL of the demo itself something stays.

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::FutureExt;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::cluster::Cluster;
use self::stage::Stage;
use crate::exit::{Code, Failure, Outcome};
use crate::output::{note, say};

mod cluster;
mod crash;
mod image;
mod node;
mod show;
mod stage;
mod watch;

const SERVICE: &str = "demo";
/// How long the replicas may take to run in the first place.
const START_TIME: Duration = Duration::from_secs(120);
/// How long the survivors may take to be whole again before the demo gives up.
const HEAL_TIME: Duration = Duration::from_secs(120);

#[derive(Args, Clone, Debug)]
pub(crate) struct DemoFlags {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=9))]
    nodes: u8,
    /// How many replicas
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u16).range(1..=200))]
    replicas: u16,
    /// Leave the cluster running at the end
    #[arg(long)]
    keep: bool,
    /// `docker` or `process` [default: docker, if it answers]
    #[arg(long, value_parser = ["docker", "process"])]
    runtime: Option<String>,
    /// The Docker engine's socket
    #[arg(long, value_name = "ADDRESS", default_value = "unix:///var/run/docker.sock")]
    docker: String,
}

/// How the story ended.
enum End {
    Told,
    Interrupted(&'static str),
}

pub(crate) async fn run(flags: DemoFlags) -> Outcome {
    // From here on no signal ends this process before it has cleaned up.
    let mut signals = Signals::listen()?;
    let mut cluster = Cluster::new(Stage::choose(&flags.docker, flags.runtime.as_deref()).await?)?;
    let ended = tokio::select! {
        told = AssertUnwindSafe(story(&flags, &mut cluster)).catch_unwind() => match told {
            Ok(told) => told.map(|()| End::Told),
            Err(_) => Err(Failure::failed("the demo itself broke; this is a mistake in shoal")),
        },
        signal = signals.next() => Ok(End::Interrupted(signal)),
    };
    if flags.keep && matches!(ended, Ok(End::Told)) {
        return cluster.leave_running();
    }
    if let Ok(End::Interrupted(signal)) = &ended {
        note(format!("\n{signal}: cleaning up"));
    }
    let cleaned = cluster.clean_up().await;
    match ended {
        Ok(End::Told) => cleaned,
        Ok(End::Interrupted(_)) => cleaned.and(Err(Failure::new(
            Code::NotConverged,
            "the demo was interrupted; nothing of it is left running",
        ))),
        Err(failure) => Err(failure),
    }
}

/// What asks the demo to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|e| Failure::failed(format!("cannot listen for signals: {e}")))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        }
    }
}

async fn story(flags: &DemoFlags, cluster: &mut Cluster) -> Outcome {
    say(cluster.stage().introduction(flags.nodes))?;
    let began = Instant::now();
    cluster.start(flags.nodes).await?;
    say(format!("  {} nodes know each other after {}\n", flags.nodes, seconds(began.elapsed())))?;

    let replicas = flags.replicas;
    say(format!("Creating a service of {replicas} replicas:"))?;
    let began = Instant::now();
    let spec = cluster.stage().spec(SERVICE, replicas);
    cluster.client()?.post("/services/create", &spec).await?;
    let before = watch::until_whole(cluster, usize::from(replicas), START_TIME).await?;
    say(format!("  all {replicas} running after {}\n", seconds(began.elapsed())))?;
    show::spread(&cluster.members(), &before)?;

    let victim = cluster.victim();
    let lost = before.iter().filter(|replica| replica.node == victim.id).count();
    say(format!(
        "\nThe host {} dies: its shoal and its {lost} replicas are killed at once, and nobody is told.",
        victim.name
    ))?;
    let died = cluster.crash(&victim).await?;
    let healed = watch::recovery(cluster, &victim, &before, died, HEAL_TIME).await?;
    show::recovery(&healed, &victim.name, usize::from(replicas), lost)?;
    say("")?;
    show::spread(&cluster.members(), &healed.after)?;
    how_to_go_on(flags.keep)
}

fn how_to_go_on(keep: bool) -> Outcome {
    if keep {
        return Ok(());
    }
    say("\nTo play with it:           shoal demo --keep")?;
    say("A first node of your own:  shoal up")?;
    say("On it, for the next host:  shoal token")?;
    say("Then, on any node:         shoal service create --name web --replicas 3 IMAGE")?;
    say("The docker command line:   docker -H unix:///run/shoal/docker.sock service ls")
}

fn seconds(time: Duration) -> String {
    format!("{}.{} s", time.as_secs(), time.subsec_millis() / 100)
}

/// One running replica, as a node showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Replica {
    slot: u64,
    task: String,
    node: String,
}

/// One node of the demo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    id: String,
    name: String,
    alive: bool,
}

/// The filter for the tasks that are meant to run.
fn wanted_tasks() -> String {
    let filter = json!({ "service": [SERVICE], "desired-state": ["running"] });
    format!("/tasks?{}", crate::client::filters(&filter))
}
