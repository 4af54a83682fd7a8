//! The docker runtime against a real engine: the one at /var/run/docker.sock. What it did is looked
//! at with the `docker` command, never with the code under test. Each test has a cluster id of its own
//! and removes whatever carries it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod bench;
mod faults;
mod few_calls;
mod lifecycle;
mod refusals;
mod relay;
mod storm;
