//! chitchat's transport over the connections that there are.
//!
//! chitchat awaits `send` inside its one loop and dies of an error from `recv`, so `send` only
//! enqueues and `recv` fails only at the end. chitchat names nodes by address: a message for an address at
//! which nobody is connected is dropped, and the dial to it hastened; when that connection comes up
//! an exchange starts over it at once.

use std::net::SocketAddr;
use std::sync::{Arc, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use chitchat::transport::{Socket, Transport};
use chitchat::{ChitchatMessage, Serializable};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::connection::{Class, TAG_CHITCHAT};
use crate::facts::locked;
use crate::net::Net;

/// chitchat's messages that wait for its loop. Further ones are dropped and counted: a later
/// exchange says more.
const INBOX: usize = 128;

/// Carries chitchat over a node's connections. Does not keep the node alive.
pub(crate) struct Carrier(pub(crate) Weak<Net>);

struct CarrierSocket {
    net: Weak<Net>,
    inbox: mpsc::Receiver<(SocketAddr, ChitchatMessage)>,
}

fn gone() -> anyhow::Error {
    anyhow::Error::msg("the node is shutting down")
}

#[async_trait]
impl Transport for Carrier {
    async fn open(&self, _listen_addr: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let net: Arc<Net> = self.0.upgrade().ok_or_else(gone)?;
        let (sender, inbox) = mpsc::channel(INBOX);
        // An earlier run's socket loses its sender here and ends.
        *locked(&net.to_chitchat) = Some(sender);
        Ok(Box::new(CarrierSocket { net: self.0.clone(), inbox }))
    }
}

#[async_trait]
impl Socket for CarrierSocket {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let net = self.net.upgrade().ok_or_else(gone)?;
        let connection = {
            let mut peers = locked(&net.peers);
            let node = peers.at(to);
            if let Some(node) = node {
                peers.hasten(node, Instant::now());
            }
            node.and_then(|node| peers.live(node).cloned())
        };
        let Some(connection) = connection else {
            net.counters.unconnected.add(1);
            net.dial.notify_one();
            return Ok(());
        };
        let mut frame = Vec::with_capacity(1 + message.serialized_len());
        frame.push(TAG_CHITCHAT);
        message.serialize(&mut frame);
        connection.send(Class::Chitchat, Bytes::from(frame));
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        self.inbox.recv().await.ok_or_else(gone)
    }
}
