//! Where a setting comes from: flags over environment over file over default.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::{DEFAULT_CONFIG, SettingsError};

/// The largest configuration file that is read.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// One layer of settings, as text: what the command line fills in, and what the TOML file holds. A
/// key that is not listed here is refused, for it would be a typing error with silent effect.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PartialSettings {
    pub name: Option<String>,
    pub listen: Option<String>,
    pub advertise: Option<String>,
    pub join: Option<Vec<String>>,
    pub token: Option<String>,
    pub token_file: Option<String>,
    pub data_dir: Option<String>,
    pub api: Option<String>,
    pub runtime: Option<String>,
    pub docker: Option<String>,
    pub zone: Option<String>,
    /// `key=value` on the command line and in the environment, a table in the file.
    #[serde(deserialize_with = "label_table")]
    pub labels: Option<Vec<String>>,
    pub profile: Option<String>,
    #[serde(deserialize_with = "scalar_text")]
    pub reserve_cpu: Option<String>,
    #[serde(deserialize_with = "scalar_text")]
    pub reserve_memory: Option<String>,
    #[serde(deserialize_with = "scalar_text")]
    pub rebalance: Option<String>,
    #[serde(deserialize_with = "scalar_text")]
    pub allow_privileged: Option<String>,
    pub http: Option<String>,
    pub https: Option<String>,
    pub certificates: Option<String>,
    pub log: Option<String>,
}

impl fmt::Debug for PartialSettings {
    // By hand, because the token must not be printed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("PartialSettings");
        for name in SCALARS.iter().filter(|name| **name != "token") {
            out.field(name, &self.scalar(name));
        }
        out.field("token", &self.token.as_ref().map(|_| "hidden"));
        out.field("join", &self.join).field("labels", &self.labels).finish()
    }
}

const SCALARS: [&str; 19] = [
    "name",
    "listen",
    "advertise",
    "token",
    "token_file",
    "data_dir",
    "api",
    "runtime",
    "docker",
    "zone",
    "profile",
    "reserve_cpu",
    "reserve_memory",
    "rebalance",
    "allow_privileged",
    "http",
    "https",
    "certificates",
    "log",
];

impl PartialSettings {
    fn scalar(&self, name: &str) -> Option<&String> {
        match name {
            "name" => self.name.as_ref(),
            "listen" => self.listen.as_ref(),
            "advertise" => self.advertise.as_ref(),
            "token" => self.token.as_ref(),
            "token_file" => self.token_file.as_ref(),
            "data_dir" => self.data_dir.as_ref(),
            "api" => self.api.as_ref(),
            "runtime" => self.runtime.as_ref(),
            "docker" => self.docker.as_ref(),
            "zone" => self.zone.as_ref(),
            "profile" => self.profile.as_ref(),
            "reserve_cpu" => self.reserve_cpu.as_ref(),
            "reserve_memory" => self.reserve_memory.as_ref(),
            "rebalance" => self.rebalance.as_ref(),
            "allow_privileged" => self.allow_privileged.as_ref(),
            "http" => self.http.as_ref(),
            "https" => self.https.as_ref(),
            "certificates" => self.certificates.as_ref(),
            "log" => self.log.as_ref(),
            _ => None,
        }
    }

    fn from_env(env: impl Fn(&str) -> Option<String>) -> Self {
        let get = |name: &str| env(&env_name(name)).filter(|value| !value.is_empty());
        let list = |name: &str| {
            get(name).map(|v| {
                v.split(',').map(|part| part.trim().to_owned()).filter(|p| !p.is_empty()).collect()
            })
        };
        Self {
            name: get("name"),
            listen: get("listen"),
            advertise: get("advertise"),
            join: list("join"),
            token: get("token"),
            token_file: get("token_file"),
            data_dir: get("data_dir"),
            api: get("api"),
            runtime: get("runtime"),
            docker: get("docker"),
            zone: get("zone"),
            labels: list("labels"),
            profile: get("profile"),
            reserve_cpu: get("reserve_cpu"),
            reserve_memory: get("reserve_memory"),
            rebalance: get("rebalance"),
            allow_privileged: get("allow_privileged"),
            http: get("http"),
            https: get("https"),
            certificates: get("certificates"),
            log: get("log"),
        }
    }
}

fn env_name(setting: &str) -> String {
    format!("SHOAL_{}", setting.to_ascii_uppercase())
}

/// Where a value came from, in the operator's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Flag(String),
    Env(String),
    File(PathBuf),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => write!(f, "the flag {flag}"),
            Self::Env(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A configuration file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsFile {
    path: PathBuf,
    settings: PartialSettings,
}

impl SettingsFile {
    /// Reads the file named by `--config` (or `SHOAL_CONFIG`), which must exist, or the default one
    /// where there is one.
    ///
    /// # Errors
    /// [`SettingsError::FileUnreadable`] and [`SettingsError::FileInvalid`], with line and column.
    pub fn find(
        flag: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, SettingsError> {
        let named = flag.map(Path::to_owned).or_else(|| env("SHOAL_CONFIG").map(PathBuf::from));
        match named {
            Some(path) => Self::read(&path).map(Some),
            None if Path::new(DEFAULT_CONFIG).exists() => {
                Self::read(Path::new(DEFAULT_CONFIG)).map(Some)
            }
            None => Ok(None),
        }
    }

    fn read(path: &Path) -> Result<Self, SettingsError> {
        let unreadable =
            |reason: String| SettingsError::FileUnreadable { path: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(unreadable(format!("it has {size} bytes, more than {MAX_FILE_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))?;
        Self::parse(path, &text)
    }

    /// # Errors
    /// [`SettingsError::FileInvalid`], with line and column.
    pub fn parse(path: &Path, text: &str) -> Result<Self, SettingsError> {
        let settings = toml::from_str(text).map_err(|error| SettingsError::FileInvalid {
            path: path.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        Ok(Self { path: path.to_owned(), settings })
    }
}

/// A value and where it came from; `None` where no layer names the setting.
pub(super) type Sourced<T> = Option<(T, Source)>;

/// The three layers, flags first.
pub(super) struct Layers {
    flags: PartialSettings,
    env: PartialSettings,
    file: Option<SettingsFile>,
}

impl Layers {
    pub(super) fn new(
        flags: PartialSettings,
        env: impl Fn(&str) -> Option<String>,
        file: Option<SettingsFile>,
    ) -> Self {
        Self { flags, env: PartialSettings::from_env(env), file }
    }

    fn first<T: Clone>(
        &self,
        name: &str,
        get: impl Fn(&PartialSettings) -> Option<T>,
    ) -> Sourced<T> {
        let flag = || Some((get(&self.flags)?, Source::Flag(flag_name(name))));
        let env = || Some((get(&self.env)?, Source::Env(env_name(name))));
        let file = || {
            let file = self.file.as_ref()?;
            Some((get(&file.settings)?, Source::File(file.path.clone())))
        };
        flag().or_else(env).or_else(file)
    }

    pub(super) fn scalar(&self, name: &'static str) -> Sourced<String> {
        self.first(name, |layer| layer.scalar(name).cloned())
    }

    pub(super) fn join(&self) -> Sourced<Vec<String>> {
        self.first("join", |layer| layer.join.clone())
    }

    pub(super) fn labels(&self) -> Sourced<Vec<String>> {
        self.first("labels", |layer| layer.labels.clone())
    }
}

fn flag_name(setting: &str) -> String {
    let dashed = setting.replace('_', "-");
    format!("--{}", if dashed == "labels" { "label" } else { &dashed })
}

/// A number, a switch or a text, as text: `reserve_cpu = 0.5` and `reserve_cpu = "0.5"` are the same.
fn scalar_text<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Bool(bool),
        Int(i64),
        Float(f64),
        Text(String),
    }
    Ok(Some(match Scalar::deserialize(from)? {
        Scalar::Bool(value) => value.to_string(),
        Scalar::Int(value) => value.to_string(),
        Scalar::Float(value) => value.to_string(),
        Scalar::Text(value) => value,
    }))
}

fn label_table<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let table = BTreeMap::<String, String>::deserialize(from)?;
    Ok(Some(table.into_iter().map(|(key, value)| format!("{key}={value}")).collect()))
}
