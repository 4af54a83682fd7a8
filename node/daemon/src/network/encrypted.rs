//! Keeps the device that encrypts there as long as an encrypted network is.
//!
//! The device goes with this process, and the kernel takes the tunnels over it down with it: while shoal is away,
//! packets of encrypted networks stay on their host rather than leave it as they are.

use std::io;
use std::sync::Arc;

use gossip::GossipHandle;
use membership::id::NodeId;
use node::network::devices::ENCRYPTED;
use node::network::picture::Picture;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::tun::{Tun, carry};

#[derive(Debug)]
pub(super) struct Encrypted {
    me: NodeId,
    gossip: GossipHandle,
    pictures: watch::Receiver<Arc<Picture>>,
    carrying: Option<JoinHandle<io::Result<()>>>,
}

impl Encrypted {
    pub(super) fn new(
        me: NodeId,
        gossip: GossipHandle,
        pictures: watch::Receiver<Arc<Picture>>,
    ) -> Self {
        Self { me, gossip, pictures, carrying: None }
    }

    /// Makes the device if it is wanted and not there, and takes it away if it is not wanted any more.
    ///
    /// # Errors
    /// Why it cannot be made, or why what carried its packets ended; the next call tries again.
    pub(super) async fn ensure(&mut self, wanted: bool) -> io::Result<()> {
        if !wanted {
            self.end();
            return Ok(());
        }
        if let Some(carrying) = self.carrying.take_if(|carrying| carrying.is_finished()) {
            carrying.await.unwrap_or_else(|error| Err(io::Error::other(error)))?;
        }
        if self.carrying.is_none() {
            let tun = Tun::open(ENCRYPTED)?;
            let (tunnel, inbox) = self.gossip.tunnel();
            let carrying = carry(self.me, tun, tunnel, inbox, self.pictures.clone());
            self.carrying = Some(tokio::spawn(carrying));
        }
        Ok(())
    }

    fn end(&mut self) {
        if let Some(carrying) = self.carrying.take() {
            carrying.abort();
        }
    }
}

impl Drop for Encrypted {
    fn drop(&mut self) {
        self.end();
    }
}
