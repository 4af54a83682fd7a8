//! How a bed is made: everything that can be chosen about its hosts and the shoal on them.

use std::path::PathBuf;

/// How a bed is made. `Options::default()` is three hosts.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many hosts.
    pub hosts: usize,
    /// A name, for a bed that is kept until it is taken down by hand; without one it lives as long as the
    /// program, and is removed even if that is killed.
    pub name: Option<String>,
    /// A disk of this many MiB of its own for shoal's data on each host, which can be filled and broken.
    pub disk_mib: Option<u32>,
    /// Start engines with `--live-restore`: their containers outlive them.
    pub live_restore: bool,
    /// `--profile` of shoal on all hosts.
    pub profile: Option<String>,
    /// `--zone` of each host, as far as the list goes.
    pub zones: Vec<String>,
    /// Further flags of `shoal up`.
    pub flags: Vec<String>,
    /// Environment of `shoal up`.
    pub env: Vec<(String, String)>,
    /// Give the hosts addresses that are none of a private network.
    pub public: bool,
    /// The shoal binary; found beside the running program or by SHOAL_BIN when not given.
    pub shoal: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            hosts: 3,
            name: None,
            disk_mib: None,
            live_restore: false,
            profile: None,
            zones: Vec::new(),
            flags: Vec::new(),
            env: Vec::new(),
            public: false,
            shoal: None,
        }
    }
}

impl Options {
    /// The default for so many hosts.
    pub fn hosts(hosts: usize) -> Options {
        Options { hosts, ..Options::default() }
    }
}
