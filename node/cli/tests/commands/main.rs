//! The binary as people and scripts use it, against the API of a node in memory.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

#[path = "../../../daemon/tests/api/fake.rs"]
mod fake;

mod cluster;
mod demo;
mod foresight;
mod import;
mod run;
mod services;
mod simulate;

#[cfg(feature = "docker-cli")]
mod jobs;
#[cfg(feature = "docker-cli")]
mod same_as_docker;
