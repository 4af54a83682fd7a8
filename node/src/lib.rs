//! WHAT this host does next: `Node::handle(now, Input) -> Effects`.
//!
//! The whole behaviour of a node is one function from inputs to effects. It reads no clock, opens no
//! socket and draws no randomness of its own, so the daemon and the simulator drive the very same
//! code. Inputs mark services dirty; one pass plans each dirty service from scratch against the view,
//! the desired and the observed state (level-triggered: a lost event costs time, never correctness).

pub mod command;
pub mod io;
pub mod runtime;
pub mod slot;
pub mod views;
