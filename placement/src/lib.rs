//! WHERE a slot belongs.
//!
//! Every node computes the same answer from the same view, without asking anybody: sticky,
//! capacity-bounded, zone-tiered weighted rendezvous hashing. Sticky: a slot that somebody holds stays
//! there, so a failure moves what was on the failed host and nothing more. Zone-tiered: zones first,
//! then the emptiest hosts of the zone. Capacity-bounded: among those, hosts far above the cluster's
//! average are asked last. Rendezvous: the rest is decided by a race of hashes ([`hash::race`]) that
//! depends on nothing but ids, declared capacity and [`PLACEMENT_VERSION`].
//!
//! Where to enter:
//! - [`plan::plan`] gives the candidates of every orphaned slot of one service;
//! - [`mine::plan_mine`] gives the same for one node's own share;
//! - [`roster::Roster`] keeps who holds what counted: planning from it costs what was lost, neither what
//!   the service has nor what the cluster has;
//! - [`eligible::eligible`] answers for one host, as global services and admission need it;
//! - [`rebalance`] says what a host that stands empty may pull, and what must leave a host;
//! - [`foresee::foresee`] says what a whole cluster would do under another view;
//! - [`explain::explain`] says why a slot is where it is, or nowhere.
//!
//! No clock, no randomness, no floating point and no hash-ordered map: the golden vectors in
//! `tests/golden.rs` hold on every machine. What is in the hash may only change together with
//! [`PLACEMENT_VERSION`].

mod batch;
pub mod behind;
pub mod cluster;
pub mod constraint;
pub mod eligible;
pub mod explain;
mod fair;
mod floor;
pub mod foresee;
pub mod hash;
pub mod host;
pub mod mine;
pub mod pending;
pub mod plan;
pub mod rebalance;
pub mod refusal;
pub mod request;
pub mod roster;
mod spread;
mod units;

pub use behind::{Behind, behind};
pub use cluster::{Cluster, Load};
pub use constraint::Constraint;
pub use eligible::{admits, eligible};
pub use explain::{Explanation, HostVerdict, Verdict, explain};
pub use foresee::{Evening, Outlook, Seats, Work, even_out, foresee};
pub use hash::{PLACEMENT_VERSION, Race, race, steward};
pub use host::{Accepts, Closed, Host};
pub use mine::{plan_mine, plan_my_orphans};
pub use pending::Pending;
pub use plan::{CHOICES, Held, Plan, plan, plan_orphans};
pub use rebalance::{Pull, misplaced, next_pull, pull};
pub use refusal::{Refusal, RefusalKind};
pub use request::{HostPort, MaxPerNode, Platform, Preference, Protocol, Request};
pub use roster::Roster;

#[cfg(test)]
mod tests;
