//! A service's `TaskTemplate`, read into types that the runtimes carry out.
//!
//! The core keeps the template as the JSON that a client sent. Only here, on the node that starts the
//! task, is it taken apart; a field that this version cannot honour is refused by its name
//! ([`BadSpec`]) rather than dropped, because what is dropped may be the field that keeps a container
//! from doing harm.

use std::collections::BTreeMap;

mod hardware;
mod parse;
mod reader;
#[cfg(test)]
mod tests;

pub use hardware::{Device, Hardware};
pub use reader::BadSpec;

/// What to run and how, from `TaskTemplate`. Empty lists and `None` mean "as the image or the engine
/// has it".
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    pub image: String,
    /// Replaces the image's entrypoint.
    pub command: Vec<String>,
    /// Replaces the image's command.
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub dir: Option<String>,
    pub user: Option<String>,
    pub groups: Vec<String>,
    pub hostname: Option<String>,
    pub tty: bool,
    pub open_stdin: bool,
    pub read_only: bool,
    pub init: Option<bool>,
    pub stop_signal: Option<String>,
    pub stop_grace_ns: Option<i64>,
    pub health: Option<HealthCheck>,
    pub mounts: Vec<Mount>,
    /// `host`, `none`, `bridge`; `None` is the engine's default.
    pub network: Option<String>,
    /// In `hosts(5)` order: address, names.
    pub hosts: Vec<Vec<String>>,
    pub dns: Dns,
    pub sysctls: BTreeMap<String, String>,
    pub capability_add: Vec<String>,
    pub capability_drop: Vec<String>,
    pub ulimits: Vec<Ulimit>,
    pub oom_score_adj: Option<i64>,
    /// In the engine's own syntax, such as `no-new-privileges=true`.
    pub security_options: Vec<String>,
    /// By labels, and only where the node allows it.
    pub hardware: Hardware,
    pub limits: Limits,
    pub log_driver: Option<Driver>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct HealthCheck {
    /// As Docker has it: empty (as the image), `["NONE"]`, `["CMD", ...]`, `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Nanoseconds, as are the other times; `None` is Docker's default.
    pub interval: Option<i64>,
    pub timeout: Option<i64>,
    pub retries: Option<i64>,
    pub start_period: Option<i64>,
    pub start_interval: Option<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub target: String,
    pub read_only: bool,
    pub kind: MountKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum MountKind {
    Bind {
        source: String,
        propagation: Option<String>,
        non_recursive: Option<bool>,
        create_mountpoint: Option<bool>,
        read_only_non_recursive: Option<bool>,
        read_only_force_recursive: Option<bool>,
    },
    Volume {
        /// `None` is an anonymous volume, removed with its container.
        source: Option<String>,
        no_copy: Option<bool>,
        labels: BTreeMap<String, String>,
        driver: Option<Driver>,
        subpath: Option<String>,
    },
    Tmpfs {
        size_bytes: Option<i64>,
        mode: Option<i64>,
    },
}

/// A driver of the engine (for logs or volumes) with its options.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Driver {
    pub name: String,
    pub options: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Dns {
    pub nameservers: Vec<String>,
    pub search: Vec<String>,
    pub options: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Ulimit {
    pub name: String,
    pub soft: i64,
    pub hard: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    pub nano_cpus: Option<i64>,
    pub memory_bytes: Option<i64>,
    pub memory_reservation_bytes: Option<i64>,
    pub pids: Option<i64>,
    /// On top of the memory; -1 is without limit.
    pub swap_bytes: Option<i64>,
    pub swappiness: Option<i64>,
}
