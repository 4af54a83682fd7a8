//! The same crates in virtual time: the real `membership`, `placement` and `node` against simulated
//! links, disks, engines and operators, replayed from a seed.
//!
//! A run has three acts, as TigerBeetle's simulator has: hosts come up and operators work; faults
//! strike while safety is checked after every step; then everything is healed and liveness is
//! demanded: every slot exactly once, and then silence. [`world`] is the machinery, [`faults`] what can
//! go wrong, [`checks`] what must hold, [`run`] the three acts.
//!
//! Deliberately absent: any decision of the product. What a node does is done by `node::Node`; a
//! simulated process only carries its effects out.

pub mod chance;
pub mod checks;
pub mod command;
pub mod compare;
pub mod core;
pub mod cores;
pub mod disk;
pub mod engine;
pub mod faults;
pub mod fidelity;
pub mod figures;
pub mod fleet;
pub mod from_cluster;
pub mod gossip;
pub mod history;
pub mod host;
pub mod links;
pub mod membership;
pub mod mutants;
pub mod operators;
pub mod outage;
pub mod peers;
pub mod queue;
pub mod real_gossip;
pub mod report;
pub mod run;
pub mod scenario;
pub mod schedule;
pub mod script;
pub mod seen;
pub mod soak;
pub mod time;
pub mod trace;
pub mod watch;
pub mod world;
