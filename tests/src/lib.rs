//! Real Docker hosts on one machine, and what can happen to them.
//!
//! A [`Testbed`] is a switch and some hosts. Each host is a set of Linux namespaces with a Docker engine of
//! its own, so that it can crash, freeze, lose its network or its disk without the machine noticing. The
//! scenarios read as scripts:
//!
//! ```no_run
//! use tests::{Testbed, secs};
//!
//! fn main() -> anyhow::Result<()> {
//!     let mut bed = Testbed::up(3)?;
//!     bed.shoal_up_all()?;
//!     bed.host(0).shoal(["service", "create", "--detach", "--name", "web", "--replicas", "30",
//!         "shoal/busybox:1", "sleep", "1d"])?;
//!     bed.wait_running("web", 30, secs(60))?;
//!     bed.crash(2)?;
//!     bed.wait_running("web", 30, secs(30))?;
//!     bed.done()
//! }
//! ```
//!
//! Where to look: [`bed`] for what can be done to hosts, [`script`](crate::Testbed) and [`count`] for what
//! is asked of them, [`host`] for one host, [`switch`] and [`rules`] for the network, [`cgroup`] and
//! [`namespace`] for how a host is kept apart, [`removal`] and [`guard`] for how everything goes away again.
//! It needs root and Linux; [`needs`] says what else.

pub mod bed;
pub mod cgroup;
pub mod conformance;
pub mod count;
pub mod disk;
pub mod engine;
pub mod guard;
pub mod host;
pub mod image;
pub mod load;
mod logs;
pub mod namespace;
pub mod needs;
mod options;
pub mod process;
mod record;
pub mod registry;
pub mod removal;
pub mod rules;
pub mod run;
mod script;
pub mod shoal;
pub mod switch;
pub mod tap;
pub mod wait;
pub mod watch;

pub use bed::Testbed;
pub use count::Count;
pub use engine::{Container, Engine};
pub use host::{Host, Power};
pub use options::Options;
pub use wait::{holds_for, secs, wait_for};
pub use watch::{Act, Happening, Watch};
