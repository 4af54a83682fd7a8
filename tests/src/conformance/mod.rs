//! Docker's own clients against a real Swarm and against shoal, and the difference.
//!
//! The command lines are data: the scripts in `tests/conformance` ([`script`] reads them). Each is played against the
//! engines' own Swarm and against shoal, on hosts that are alike ([`player`]); what the clients print is freed of ids,
//! times and names of hosts ([`normalise`]) and compared line by line ([`compare`]). A difference is fine when a row of
//! the table in docs/COMPATIBILITY.md gives its reason ([`listed`]); any other is a failure, and so is a row that nothing
//! matches any more.

pub mod clients;
pub mod compare;
mod http;
pub mod listed;
pub mod normalise;
pub mod player;
pub mod script;

use std::path::{Path, PathBuf};

/// Where the scripts and the SDK's program are.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("conformance")
}

/// The page whose table lists the intended differences.
pub fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/COMPATIBILITY.md")
}
