//! `shoal up`: this machine becomes a node.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::Args;
use daemon::daemon::Ended;
use daemon::settings::{PartialSettings, Settings, SettingsFile};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::exit::{Code, Failure, Outcome};

/// Everything not given here is looked for in SHOAL_* variables, then in the file, then a default.
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Every setting can also be given as SHOAL_NAME, SHOAL_LISTEN, … or in a TOML file.

Examples:
  shoal up                                    the first node of a cluster
  shoal token                                 on it: prints what to type on the next machine
  shoal up --join 10.0.0.1:7946 --token …     a further node")]
pub(crate) struct UpFlags {
    /// What people call this node [default: the host's name]
    #[arg(long)]
    name: Option<String>,
    /// Where to listen for other nodes [default: 0.0.0.0:7946]
    #[arg(long, value_name = "IP:PORT")]
    listen: Option<String>,
    /// Where the other nodes reach this one [default: found out]
    #[arg(long, value_name = "IP[:PORT]")]
    advertise: Option<String>,
    /// A member to join; any will do, and several may be given
    #[arg(long, value_name = "HOST:PORT")]
    join: Vec<String>,
    /// The cluster's token, as `shoal token` prints it
    #[arg(long)]
    token: Option<String>,
    /// A file that holds the token, which keeps it out of the list of processes
    #[arg(long, value_name = "FILE")]
    token_file: Option<String>,
    /// What must survive a restart [default: /var/lib/shoal]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// The socket of the API [default: unix:///run/shoal/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    api: Option<String>,
    /// `docker`, or `process` for plain child processes [default: docker]
    #[arg(long, value_name = "RUNTIME")]
    runtime: Option<String>,
    /// The Docker engine's socket [default: unix:///var/run/docker.sock]
    #[arg(long, value_name = "ADDRESS")]
    docker: Option<String>,
    /// Replicas are spread over zones first
    #[arg(long)]
    zone: Option<String>,
    /// A label of this host, for constraints on engine.labels.KEY
    #[arg(long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Intervals for nodes on one machine, in one place, or far apart: `local`, `lan` or `wan`
    #[arg(long)]
    profile: Option<String>,
    /// Cores that replicas leave to the host
    #[arg(long, value_name = "CORES")]
    reserve_cpu: Option<String>,
    /// Memory that replicas leave to the host
    #[arg(long, value_name = "BYTES")]
    reserve_memory: Option<String>,
    /// Whether a returning node takes load back from fuller ones [default: true]
    #[arg(long, value_name = "BOOL")]
    rebalance: Option<String>,
    /// Whether services may be privileged or use devices of this host [default: false]
    #[arg(long, value_name = "BOOL")]
    allow_privileged: Option<String>,
    /// Take HTTP requests here, for services with routes (see docs/OPERATING.md) [default: nowhere]
    #[arg(long, value_name = "[IP]:PORT")]
    http: Option<String>,
    /// Take HTTPS requests here [default: nowhere]
    #[arg(long, value_name = "[IP]:PORT")]
    https: Option<String>,
    /// A folder with NAME.crt and NAME.key, for HTTPS
    #[arg(long, value_name = "DIR")]
    certificates: Option<String>,
    /// `error`, `warn`, `info`, `debug`, `trace`, or directives [default: info]
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
    /// The settings file [default: /etc/shoal/shoal.toml, if there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl UpFlags {
    fn settings(self) -> Result<Settings, Failure> {
        let env = |name: &str| std::env::var(name).ok();
        let usage = |error: &dyn std::fmt::Display| Failure::new(Code::Usage, error.to_string());
        let file = SettingsFile::find(self.config.as_deref(), env).map_err(|e| usage(&e))?;
        let some = |list: Vec<String>| (!list.is_empty()).then_some(list);
        let flags = PartialSettings {
            name: self.name,
            listen: self.listen,
            advertise: self.advertise,
            join: some(self.join),
            token: self.token,
            token_file: self.token_file,
            data_dir: self.data_dir,
            api: self.api,
            runtime: self.runtime,
            docker: self.docker,
            zone: self.zone,
            labels: some(self.label),
            profile: self.profile,
            reserve_cpu: self.reserve_cpu,
            reserve_memory: self.reserve_memory,
            rebalance: self.rebalance,
            allow_privileged: self.allow_privileged,
            http: self.http,
            https: self.https,
            certificates: self.certificates,
            log: self.log,
        };
        Settings::layered(flags, env, file).map_err(|e| usage(&e))
    }
}

pub(crate) async fn run(flags: UpFlags) -> Outcome {
    let settings = flags.settings()?;
    log_to_stderr(&settings.log)?;
    let stop = CancellationToken::new();
    let node = daemon::daemon::run(settings, stop.clone(), |_| {});
    tokio::pin!(node);
    let ended = tokio::select! {
        ended = &mut node => ended,
        signal = told_to_stop() => {
            tracing::info!(
                signal = signal?,
                "shoal stops; its containers keep running, and it adopts them when it is started again. To hand them over instead: shoal leave"
            );
            stop.cancel();
            node.await
        }
    };
    match ended {
        Ok(Ended::Stopped) => Ok(()),
        Ok(Ended::Left) => {
            tracing::info!("this node has left the cluster");
            Ok(())
        }
        Err(error) if error.is_setting() => Err(Failure::usage(error.to_string())),
        Err(error) => Err(Failure::failed(error.to_string())),
    }
}

fn log_to_stderr(directives: &str) -> Outcome {
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        Failure::usage(format!("log = '{directives}': {error}. Valid: error, warn, info, debug, trace, or directives such as info,gossip=debug"))
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

async fn told_to_stop() -> Result<&'static str, Failure> {
    let listen =
        |kind| signal(kind).map_err(|e| Failure::failed(format!("cannot listen for signals: {e}")));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    Ok(tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    })
}
