//! The loop that keeps the kernel as the picture of the networks says.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use gossip::GossipHandle;
use membership::id::NodeId;
use node::network::devices::USUAL_MTU;
use node::network::picture::Picture;
use node::network::repair::{Found, repair};
use node::network::wanted::{Host, Wanted};
use rtnetlink::{MulticastGroup, new_multicast_connection};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::encrypted::Encrypted;
use super::links::Kernel;
use super::round::Driver;
use super::tables::Tables;
use super::{DriveError, firewall, powers, proxied};

/// How often everything is compared, if nothing tells of a change.
const LOOK: Duration = Duration::from_secs(5);
/// Devices come and go several at a time; one look for all of them.
const SETTLE: Duration = Duration::from_millis(30);
/// Whoever has bound this name in a network namespace has its networks. It is gone with the process.
const TURN: &str = "shoal-networks";

/// Where a driver works.
#[derive(Clone, Debug)]
pub struct Place {
    /// Where the other hosts send packets of the networks to: an address of this host.
    pub address: IpAddr,
    /// The UDP port of all hosts' tunnels.
    pub port: u16,
    /// The engine's Unix socket.
    pub engine: PathBuf,
    pub me: NodeId,
    /// What carries the packets of encrypted networks to the other hosts; none: they do not leave this one.
    pub gossip: Option<GossipHandle>,
}

/// Keeps this host's kernel as the latest picture says, until `stop`. Does nothing before there is one, and leaves everything as it is at the end. `complaints` gets what cannot be had on this host, one sentence each.
pub async fn drive(
    place: Place,
    mut pictures: watch::Receiver<Arc<Picture>>,
    complaints: watch::Sender<Vec<String>>,
    stop: CancellationToken,
) {
    let Some(_turn) = stop.run_until_cancelled(turn(&complaints)).await else { return };
    let (kernel, mut changes) = match open() {
        Ok(opened) => opened,
        Err(error) => {
            let text = format!("{error}: containers on this host are on no overlay network");
            warn!("{text}");
            complaints.send_replace(vec![text]);
            return;
        }
    };
    let host = Host {
        address: place.address,
        way_mtu: USUAL_MTU,
        port: place.port,
        sees_bridged: powers::sees_bridged().await,
        me: place.me,
        encrypts: place.gossip.is_some(),
    };
    let missing = powers::missing(Some(&kernel), &host).await;
    missing.iter().for_each(|text| warn!("{text}"));
    complaints.send_replace(missing.clone());
    let (failing, closed) = watch::channel(Vec::new());
    let mut passing_on = JoinSet::new();
    passing_on.spawn(proxied::serve(pictures.clone(), failing));
    let encrypted = place.gossip.map(|gossip| Encrypted::new(place.me, gossip, pictures.clone()));
    let mut driver = Driver::new(place.engine, host, kernel, encrypted, missing);
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // An empty picture that nobody has sent says nothing of what should be taken away.
    let mut heard = !pictures.borrow().networks.is_empty();
    loop {
        let all = tokio::select! {
            () = stop.cancelled() => return,
            changed = pictures.changed() => {
                if changed.is_err() {
                    return;
                }
                heard = true;
                true
            }
            _ = look.tick() => true,
            Some(_) = changes.next() => {
                sleep(SETTLE).await;
                while changes.next().now_or_never().flatten().is_some() {}
                false
            }
        };
        heard |= pictures.has_changed().unwrap_or(false);
        let picture = pictures.borrow_and_update().clone();
        if heard {
            driver.round(&picture, all).await;
            complaints.send_if_modified(|said| {
                let mut new = driver.complaints();
                new.extend(closed.borrow().iter().cloned());
                let changed = *said != new;
                *said = new;
                changed
            });
        }
    }
}

/// Takes away everything that shoal made on this host.
///
/// # Errors
/// [`DriveError`]: the first failure; the rest was tried.
pub async fn clear() -> Result<(), DriveError> {
    let kernel = Kernel::open()?;
    let scan = kernel.scan().await?;
    let found = Found { links: scan.links.clone(), ..Found::default() };
    let mut first = Ok(());
    for step in repair(&Wanted::default(), &found) {
        first = first.and(kernel.carry_out(&step, &scan).await);
    }
    let tables = Tables::default().ensure(None).await.map(drop);
    first.and(tables).and(firewall::ensure(&BTreeSet::new()).await.map(drop))
}

/// News of devices; what they say does not matter, for everything is looked at again.
type Changes = BoxStream<'static, ()>;

fn open() -> Result<(Kernel, Changes), DriveError> {
    let kernel = Kernel::open()?;
    let (connection, _, changes) =
        new_multicast_connection(&[MulticastGroup::Link]).map_err(DriveError::Netlink)?;
    tokio::spawn(connection);
    Ok((kernel, changes.map(drop).boxed()))
}

/// Waits until no other process drives the networks of this host.
async fn turn(complaints: &watch::Sender<Vec<String>>) -> Option<UnixDatagram> {
    let mut said = false;
    loop {
        let bound =
            SocketAddr::from_abstract_name(TURN).and_then(|name| UnixDatagram::bind_addr(&name));
        match bound {
            Ok(socket) => return Some(socket),
            Err(error) => {
                if !said {
                    let text = format!(
                        "another shoal on this host has its networks ({error}): containers of this node are on no \
                         overlay network until that one ends"
                    );
                    info!("{text}");
                    complaints.send_replace(vec![text]);
                    said = true;
                }
                sleep(LOOK).await;
            }
        }
    }
}
