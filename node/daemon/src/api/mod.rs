//! Docker's own HTTP API on a Unix socket: the Swarm endpoints are answered here, everything else is
//! passed through to the local engine, byte for byte.
//!
//! A request travels: [`listen`] (socket, limits) -> `route` (version prefix; ours or the engine's)
//! -> one endpoint module (`services`, `tasks`, `nodes`, `logs`, `events`, `swarm`, `system`, `own`,
//! `foresight`)
//! -> [`backend`], the only thing in here that knows a node. What an endpoint shows is made by the
//! `*_json` modules; what it accepts is tidied by `normalise` and checked by `validate` and
//! `unsupported`, all pure functions over JSON.

pub mod backend;
pub mod listen;

mod assets;
mod attach;
mod defaults;
mod engine;
mod error;
mod event_log;
mod events;
mod field_names;
mod filters;
mod foresight;
mod foresight_json;
mod logs;
mod lookup;
mod network_json;
mod networks;
mod node_json;
mod nodes;
mod normalise;
mod own;
mod passthrough;
mod registry_auth;
pub(crate) mod rfc3339;
mod route;
mod service_json;
mod services;
mod state;
mod swarm;
mod swarm_json;
mod system;
mod task_json;
mod tasks;
mod unsupported;
mod validate;
mod validate_container;
mod version;
