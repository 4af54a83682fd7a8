//! What an operator can set, from where, and the one check at the start.
//!
//! Four layers, the first that names a setting wins: flags, `SHOAL_*` environment variables, the TOML
//! file (`--config`, else `/etc/shoal/shoal.toml` where it exists), the default. All problems are
//! reported at once, each with the setting, its value, where the value came from and what is valid,
//! so that nobody fixes a file one error per start. After [`Settings::layered`] nothing is looked up
//! or checked again.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use membership::member::Resources;

mod advertise;
mod layers;
mod parse;

use layers::Layers;
pub use layers::{PartialSettings, SettingsFile, Source};

/// Where shoal listens for its peers when nothing is said.
pub const DEFAULT_LISTEN: &str = "0.0.0.0:7946";
pub const DEFAULT_DATA_DIR: &str = "/var/lib/shoal";
pub const DEFAULT_API: &str = "unix:///run/shoal/docker.sock";
pub const DEFAULT_DOCKER: &str = "unix:///var/run/docker.sock";
/// Read when `--config` names no other; it need not exist.
pub const DEFAULT_CONFIG: &str = "/etc/shoal/shoal.toml";
/// The longest name, zone, or label that a node may carry: they travel in every member's profile.
pub const MAX_LABEL_BYTES: usize = 256;
/// The most labels that a node may carry.
pub const MAX_LABELS: usize = 64;

/// Which runtime starts the containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RuntimeKind {
    #[default]
    Docker,
    Process,
}

/// Which set of intervals the failure detector and gossip use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Profile {
    /// All nodes on one machine: demos and tests.
    Local,
    /// One data centre, round trips of a few milliseconds.
    #[default]
    Lan,
    /// Nodes in different places, round trips of up to some hundred milliseconds.
    Wan,
}

impl Profile {
    pub fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Lan => "lan",
            Self::Wan => "wan",
        }
    }
}

/// The join token. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(hidden)")
    }
}

/// All settings, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--name`: what people call this node. Default: the host's name. 1 to 256 bytes.
    pub name: String,
    /// `--listen`: where the QUIC endpoint binds. Default [`DEFAULT_LISTEN`].
    pub listen: SocketAddr,
    /// `--advertise`: where the other nodes reach this one. Default: the address of `listen` if it is
    /// a concrete one, else the address that the default route uses, else the only address of this
    /// host that is neither loopback nor a container bridge. The port is `listen`'s unless given.
    pub advertise: SocketAddr,
    /// `--join`: `host:port` of any members, tried in turn and for ever. Default: none.
    pub join: Vec<String>,
    /// `--token` or `--token-file`: the secret of the cluster. Default: none.
    pub token: Option<Token>,
    /// `--data-dir`: what must survive a restart. Default [`DEFAULT_DATA_DIR`].
    pub data_dir: PathBuf,
    /// `--api`: the Unix socket of the Docker-shaped API. Default [`DEFAULT_API`].
    pub api: PathBuf,
    /// `--runtime`: `docker` or `process`. Default `docker`.
    pub runtime: RuntimeKind,
    /// `--docker`: the engine's Unix socket. Default [`DEFAULT_DOCKER`].
    pub docker: PathBuf,
    /// `--zone`: replicas of a service are spread over zones first. Default: empty.
    pub zone: String,
    /// `--label key=value`: this host's own labels. Default: none. At most [`MAX_LABELS`].
    pub labels: BTreeMap<String, String>,
    /// `--profile`: `local`, `lan` or `wan`. Default `lan`.
    pub profile: Profile,
    /// `--reserve-cpu` (cores, decimal) and `--reserve-memory` (bytes, or with k, M, G, KiB, MiB,
    /// GiB): kept for the host itself; declared capacity is what the host has minus this. Default 0.
    pub reserve: Resources,
    /// `--rebalance`: whether a node that returns pulls replicas back from fuller ones, a few at a
    /// time and never stopping one before its replacement is ready. Default true.
    pub rebalance: bool,
    /// `--allow-privileged`: whether services may be privileged or use devices of this host (labels
    /// `shoal.privileged` and `shoal.devices` of their containers). Whoever may create services is then
    /// root here. Default false.
    pub allow_privileged: bool,
    /// `--http`, `--https` and `--certificates`: where this node takes HTTP requests for services that have routes,
    /// and the folder of certificates. Default: nowhere.
    pub http: crate::network::http::Settings,
    /// `--log`: `error`, `warn`, `info`, `debug`, `trace`, or directives such as `info,gossip=debug`.
    /// Default `info`.
    pub log: String,
}

/// One setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    #[error("{setting} = '{value}' (from {from}): {why}. Valid: {valid}")]
    Invalid { setting: &'static str, value: String, from: Source, why: String, valid: &'static str },
    #[error(
        "{setting} has no value: {why}. Set it with {flag}, {env} or in the configuration file"
    )]
    Missing { setting: &'static str, why: String, flag: &'static str, env: &'static str },
    #[error("both token and token_file are set (from {0}): give one of them")]
    TwoTokens(Source),
    #[error("cannot read the configuration file {}: {reason}", path.display())]
    FileUnreadable { path: PathBuf, reason: String },
    #[error("the configuration file {} is not valid: {reason}", path.display())]
    FileInvalid { path: PathBuf, reason: String },
}

/// Everything that is wrong with the settings. shoal has not started and has touched nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsErrors(pub Vec<SettingsError>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "shoal was not started: ")?;
        match self.0.as_slice() {
            [only] => write!(f, "{only}"),
            all => {
                write!(f, "{} settings cannot be used:", all.len())?;
                all.iter().try_for_each(|error| write!(f, "\n  {error}"))
            }
        }
    }
}

impl std::error::Error for SettingsErrors {}

impl Settings {
    /// Merges the layers and checks the result. Reads the token file, the host's name and, when
    /// nothing says where this node is reached, its interface addresses; uses no network.
    ///
    /// # Errors
    /// [`SettingsErrors`] with every problem there is.
    pub fn layered(
        flags: PartialSettings,
        env: impl Fn(&str) -> Option<String>,
        file: Option<SettingsFile>,
    ) -> Result<Self, SettingsErrors> {
        let layers = Layers::new(flags, env, file);
        let mut problems = Problems(Vec::new());
        match Self::check(&layers, &mut problems) {
            Some(settings) if problems.0.is_empty() => Ok(settings),
            _ => Err(SettingsErrors(problems.0)),
        }
    }

    // Every setting is looked at before the first `?`, so that all problems are found.
    fn check(layers: &Layers, problems: &mut Problems) -> Option<Self> {
        let name = problems.keep(parse::name(layers.scalar("name")));
        let listen = problems.keep(parse::listen(layers.scalar("listen")));
        let advertise =
            listen.and_then(|l| problems.keep(advertise::advertise(layers.scalar("advertise"), l)));
        let join = problems.keep(parse::join(layers.join()));
        let token =
            problems.keep(parse::token(layers.scalar("token"), layers.scalar("token_file")));
        let data_dir = problems.keep(parse::dir("data_dir", layers.scalar("data_dir")));
        let api = problems.keep(parse::unix_socket("api", layers.scalar("api"), DEFAULT_API));
        let runtime = problems.keep(parse::runtime(layers.scalar("runtime")));
        let docker =
            problems.keep(parse::unix_socket("docker", layers.scalar("docker"), DEFAULT_DOCKER));
        let zone = problems.keep(parse::zone(layers.scalar("zone")));
        let labels = problems.keep(parse::labels(layers.labels()));
        let profile = problems.keep(parse::profile(layers.scalar("profile")));
        let cpu_milli = problems.keep(parse::cores(layers.scalar("reserve_cpu")));
        let memory_bytes = problems.keep(parse::bytes(layers.scalar("reserve_memory")));
        let rebalance = problems.keep(parse::switch("rebalance", layers.scalar("rebalance"), true));
        let allow_privileged = problems.keep(parse::switch(
            "allow_privileged",
            layers.scalar("allow_privileged"),
            false,
        ));
        let plain = problems.keep(parse::entrance("http", layers.scalar("http")));
        let secure = problems.keep(parse::entrance("https", layers.scalar("https")));
        let certificates =
            problems.keep(parse::certificates(layers.scalar("certificates"), secure.flatten()));
        let log = problems.keep(parse::log(layers.scalar("log")));
        Some(Self {
            name: name?,
            listen: listen?,
            advertise: advertise?,
            join: join?,
            token: token?,
            data_dir: data_dir?,
            api: api?,
            runtime: runtime?,
            docker: docker?,
            zone: zone?,
            labels: labels?,
            profile: profile?,
            reserve: Resources { cpu_milli: cpu_milli?, memory_bytes: memory_bytes? },
            rebalance: rebalance?,
            allow_privileged: allow_privileged?,
            http: crate::network::http::Settings {
                plain: plain?,
                secure: secure?,
                certificates: certificates?,
            },
            log: log?,
        })
    }
}

struct Problems(Vec<SettingsError>);

impl Problems {
    fn keep<T>(&mut self, result: Result<T, SettingsError>) -> Option<T> {
        result.map_err(|problem| self.0.push(problem)).ok()
    }
}

#[cfg(test)]
mod tests;
