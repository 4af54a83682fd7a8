//! Everything between two shoal processes.
//!
//! This crate carries bytes and decides nothing about the cluster: the pure core in `node` decides
//! whom to probe, what to pass on and what follows from silence. Here live
//! - **who may talk**: a node's key ([`identity`]), the cluster's token ([`token`]) and what is made of
//!   them: certificates and a mutually authenticated handshake ;
//! - **connections**: one QUIC endpoint for each node, one connection to each peer
//!  , made and made again for ever ([`dial`]). Small messages are datagrams
//!   and pass all queues; larger ones are streams;
//! - **facts**: chitchat's anti-entropy over those connections ([`facts`]), with each
//!   value signed by its owner, since chitchat lets any member write any key;
//! - **the question behind a silence**: is the host gone, or only its shoal?
//!
//! The daemon holds a [`GossipHandle`], whose methods never block, and reads [`FromGossip`].

pub mod config;
pub mod dial;
mod digest;
pub mod facts;
mod guard;
pub mod handle;
mod hello;
pub mod host;
pub mod identity;
mod keyspace;
pub mod report;
mod run;
pub mod signature;
pub mod stats;
mod tls;
pub mod token;

pub use config::{Config, Pace, StartError};
pub use dial::DialError;
pub use handle::{Gossip, GossipHandle, PublishError, SendError};
pub use identity::{KeyError, NodeKey, node_id_of};
pub use report::{DisconnectReason, FromGossip, HostAnswer};
pub use signature::{KeySigner, Signer, Unsigned};
pub use stats::{ConnectionStats, Stats};
pub use token::{Token, TokenError, TokenFileError};
