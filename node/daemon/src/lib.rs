//! The loop around the node core, and everything of a node that touches the world.

pub mod api;
pub mod daemon;
mod engine_http;
pub mod network;
mod predefined;
pub mod runtime;
pub mod settings;
pub mod store;
pub mod vault;
