//! The API as clients see it: exact status codes, bodies and headers, over a real socket, with a node
//! in memory behind it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod fake;
mod server;

mod assets;
mod engine;
mod foresight;
mod garbage;
mod large;
mod networks;
mod nodes;
mod own;
mod services;
mod streams;
mod tasks;

#[cfg(feature = "docker-cli")]
mod docker_cli;
