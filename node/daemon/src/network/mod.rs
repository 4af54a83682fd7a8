//! What makes the networks of the whole cluster real on this host.
//!
//! Everything here works from the core's picture of the networks and decides nothing: what the kernel should have
//! follows from the picture, and what is to be done from comparing that with what it has
//! ([`node::network::repair`]). The comparison is made when the picture changes, when some device does, and every few
//! seconds, so that it makes no difference whether a network is new, was there before this process, or was damaged.
//!
//! Nothing of it depends on this process: killed, it leaves all traffic flowing, and the next one takes over what it
//! finds. Of several nodes on one host, the first has the host's networks; the others say so and wait.

mod driver;
mod encrypted;
mod engines;
mod firewall;
mod flows;
pub mod http;
mod links;
pub mod names;
mod powers;
mod proxied;
mod round;
mod tables;
mod tool;
pub mod tun;

use std::path::PathBuf;

pub use driver::{Place, clear, drive};
pub use links::way_mtu;

/// Why something of the kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    #[error("the kernel cannot be asked over netlink: {0}")]
    Netlink(std::io::Error),
    #[error("{0}")]
    Kernel(#[from] rtnetlink::Error),
    #[error("the device {0} is not there any more")]
    Gone(String),
    #[error("{path} cannot be written: {source}")]
    Switch { path: String, source: std::io::Error },
    #[error("'{tool} {arguments}' failed: {why}")]
    Tool { tool: &'static str, arguments: String, why: String },
    #[error("the engine at {} does not say which networks it has: {why}", socket.display())]
    Engine { socket: PathBuf, why: String },
}
