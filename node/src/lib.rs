//! WHAT this host does next: `Node::handle(now, Input) -> Effects`.
//!
//! The whole behaviour of a node is one function from inputs to effects. It reads no clock, opens no
//! socket and draws no randomness of its own, so the daemon and the simulator drive the very same
//! code. Inputs mark services dirty; one pass plans each dirty service from scratch against the view,
//! the desired and the observed state (level-triggered: a lost event costs time, never correctness).
//!
//! Where to look: [`io`] for what goes in and out; `node` for the loop; `reconcile` for what one pass
//! over a service does; `local` and `containers` for the slots this host holds; `view` for what it
//! believes, `members` and `standing` for what follows from that; `writes` and `persist` for the way of a
//! change to two disks; `rollout` for updates; [`foresight`]
//! for what would happen, asked without touching anything.

mod adopt;
mod agenda;
mod asset_commands;
pub mod assets;
#[cfg(test)]
mod claim_laws;
mod claims;
mod clocks;
pub mod cohort;
pub mod command;
mod completions;
mod containers;
mod double;
mod execute;
mod expand;
mod facts;
pub mod files;
pub mod foresight;
mod hear;
mod held;
mod hosts;
pub mod io;
mod jobs;
mod leave;
mod local;
mod members;
pub mod network;
mod node;
mod noted;
mod peers;
mod persist;
mod plans;
mod prepare;
mod publish;
mod read;
mod rebalance;
mod reconcile;
mod refresh;
pub mod registry_auth;
mod replace;
mod restart;
mod retention;
mod rollout;
pub mod runtime;
mod services;
mod settings;
mod settle;
pub mod slot;
pub mod spec;
mod standing;
mod start;
mod takeover;
pub mod template;
mod turns;
mod view;
pub mod views;
mod writes;

pub use completions::{MAX_JOB_SLOTS, recorded_ends};
pub use expand::check_templates;
pub use facts::Sign;
pub use io::{Effect, Input, Notice};
pub use members::{Admission, AdmissionBody};
pub use node::{Node, Start};
pub use settings::Settings;
