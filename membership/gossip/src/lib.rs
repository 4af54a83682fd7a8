//! Everything between two shoal processes.
//!
//! This crate carries bytes and decides nothing about the cluster: the pure core in `node` decides
//! whom to probe, what to pass on and what follows from silence. Here live
//! - **who may talk**: a node's key ([`identity`]), the cluster's token ([`token`]), and what is made of
//!   them: certificates (`tls`) and a greeting that says in words why a peer is refused (`hello`,
//!   `greeting`);
//! - **connections**: one QUIC endpoint for each node (`endpoint`), one connection to each peer (`peers`,
//!   `contest`, `connection`, `receive`), made and made again for ever ([`dial`]). Small messages are
//!   datagrams and pass all queues; larger ones are streams;
//! - **packets of containers** on encrypted networks, over connections of their own ([`tunnel`]);
//! - **facts**: chitchat's anti-entropy over those connections ([`facts`], `run`, `carrier`), with each
//!   value signed by its owner ([`signature`], `keyspace`), since chitchat lets any member write any key,
//!   and with chitchat kept from hurting itself (`guard`, `digest`);
//! - **the question behind a silence**: is the host gone, or only its shoal ([`host`])?
//!
//! The daemon holds a [`GossipHandle`], whose methods never block, and reads [`FromGossip`].

pub mod calls;
mod carrier;
pub mod config;
mod connection;
mod contest;
mod counters;
pub mod dial;
mod digest;
mod endpoint;
pub mod facts;
mod greeting;
mod guard;
pub mod handle;
mod hello;
pub mod host;
pub mod identity;
mod keyspace;
mod net;
mod peers;
mod receive;
pub mod report;
#[cfg(test)]
mod rogue;
mod run;
pub mod signature;
pub mod stats;
mod tls;
pub mod token;
pub mod tunnel;

pub use calls::{CallError, CallReader, CallWriter};
pub use config::{Config, Pace, StartError};
pub use dial::DialError;
pub use endpoint::Gossip;
pub use handle::{GossipHandle, PublishError, SendError};
pub use hello::PROTOCOL_VERSIONS;
pub use identity::{KeyError, NodeKey, node_id_of};
pub use report::{DisconnectReason, FromGossip, HostAnswer};
pub use signature::{KeySigner, Signer, Unsigned};
pub use stats::{ConnectionStats, Stats};
pub use token::{Token, TokenError, TokenFileError};
pub use tunnel::Tunnel;
