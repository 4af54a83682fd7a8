//! Docker's own HTTP API on a Unix socket: the Swarm endpoints are answered here, everything else is
//! passed through to the local engine, byte for byte.
//!
//! A request travels: `listen` (socket, limits) -> `route` (version prefix, which of ours or the
//! engine's) -> one endpoint module (`services`, `tasks`, `nodes`, `logs`, `events`, `system`, `shoal`)
//! -> [`backend`], the only thing in here that knows a node. What an endpoint shows is made by the
//! `*_json` modules, what it accepts is checked by [`validate`] and tidied by [`normalise`], both pure.

pub mod backend;
