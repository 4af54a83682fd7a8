//! Networks of the whole cluster: who is on them, and under which addresses and names.
//!
//! What operators want is a record for each network; which block of addresses a node has, and which addresses its
//! containers, are facts of that node. From both every node works out its own [`picture`], which is all that the
//! driver of links and rules and the name server are told.
//!
//! Where to look: `records` for networks as they were created, `attached` for what services have to do with them,
//! `subnet` for how a range is cut, `blocks` for who takes which part of it, `networking` for what this node does
//! about all that, `addresses` for what its tasks get, `draw` for the picture.

mod addresses;
pub(crate) mod attach;
mod attached;
pub mod balance;
mod blocks;
mod commands;
pub mod devices;
mod draw;
pub mod encryption;
mod endpoints;
pub mod engine;
mod facts;
pub mod names;
mod networking;
pub mod picture;
pub mod proxy_protocol;
mod records;
pub mod repair;
pub mod routes;
pub mod rules;
mod subnet;
mod view;
pub mod wanted;

pub(crate) use addresses::{Given, Handout, Trouble};
pub use attach::Attachment;
pub(crate) use attach::Chosen;
pub(crate) use attached::Attached;
pub use facts::{Block, Blocks, Endpoint, EndpointPhase, Endpoints};
pub(crate) use networking::Networking;
pub use records::INGRESS;
pub(crate) use records::Networks;
pub use subnet::ParseSubnetError;
pub use view::NetworkView;
