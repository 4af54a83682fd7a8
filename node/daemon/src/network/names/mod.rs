//! The name server of this host's containers.
//!
//! It answers on this host's own address of each network, where containers are told to ask. What a name means is
//! decided by the core (`node::network::names`), from the picture of the moment, so an answer is never older than what
//! this node believes; answers may not be kept, for the same reason. Names of nobody here go to the host's own
//! resolvers. A container's second name server is another host's, so that names resolve while this process is away.

mod answer;
mod upstream;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use hickory_server::Server;
use membership::id::NetworkId;
use node::network::picture::Picture;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;

use answer::Answers;
pub use upstream::Upstream;

/// Where containers expect a name server.
pub const PORT: u16 = 53;
/// A connection on which nobody asked anything for so long is closed.
const IDLE: Duration = Duration::from_secs(10);
/// Answers that wait for a client of one connection to read them.
const ANSWERS_WAITING: usize = 32;
/// A port that was taken is tried again after so long, as long as the picture wants it.
const AGAIN: Duration = Duration::from_secs(5);

/// Answers on the addresses that the picture says are this host's, until the sender of pictures is gone.
///
/// An address that cannot be listened on is said once and tried again; the others are served.
pub async fn serve(mut pictures: watch::Receiver<Arc<Picture>>, port: u16, upstream: Upstream) {
    let upstream = Arc::new(upstream);
    let mut serving: BTreeMap<(NetworkId, Ipv4Addr), Server<Answers>> = BTreeMap::new();
    let mut failing: BTreeMap<(NetworkId, Ipv4Addr), String> = BTreeMap::new();
    loop {
        let picture = pictures.borrow_and_update().clone();
        let wanted = |network: NetworkId, address: Ipv4Addr| {
            picture.networks.get(&network).is_some_and(|one| one.gateway == address)
        };
        // A server that is dropped lets go of its sockets.
        serving.retain(|(network, address), _| wanted(*network, *address));
        failing.retain(|(network, address), _| wanted(*network, *address));
        for (&network, one) in &picture.networks {
            let place = (network, one.gateway);
            if serving.contains_key(&place) {
                continue;
            }
            let mut server = Server::new(Answers::new(network, pictures.clone(), upstream.clone()));
            match listen(SocketAddrV4::new(one.gateway, port)) {
                Ok((datagrams, connections)) => {
                    server.register_socket(datagrams);
                    server.register_listener(connections, IDLE, ANSWERS_WAITING);
                    serving.insert(place, server);
                    failing.remove(&place);
                }
                Err(error) => {
                    let error = error.to_string();
                    if failing.get(&place) != Some(&error) {
                        tracing::warn!(
                            network = one.name,
                            address = %one.gateway,
                            port,
                            error,
                            "cannot answer name queries of this host's containers on this network: names of services \
                             resolve there only by way of other hosts. Free the port; it is tried again every {} s",
                            AGAIN.as_secs()
                        );
                        failing.insert(place, error);
                    }
                }
            }
        }
        let changed = pictures.changed();
        let changed = if failing.is_empty() {
            changed.await.is_ok()
        } else {
            tokio::time::timeout(AGAIN, changed).await.is_ok_and(|changed| changed.is_ok())
                || pictures.has_changed().is_ok()
        };
        if !changed {
            return;
        }
    }
}

/// The address may come later than the picture that names it, and go for a moment when a bridge is mended, so it need
/// not be there yet.
fn listen(address: SocketAddrV4) -> io::Result<(UdpSocket, TcpListener)> {
    let open = |kind, protocol| -> io::Result<Socket> {
        let socket = Socket::new(Domain::IPV4, kind, Some(protocol))?;
        socket.set_freebind_v4(true)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    let address = SocketAddr::V4(address).into();
    let datagrams = open(Type::DGRAM, Protocol::UDP)?;
    datagrams.bind(&address)?;
    let connections = open(Type::STREAM, Protocol::TCP)?;
    // A process that was replaced leaves connections behind which are still being closed.
    connections.set_reuse_address(true)?;
    connections.bind(&address)?;
    connections.listen(128)?;
    Ok((UdpSocket::from_std(datagrams.into())?, TcpListener::from_std(connections.into())?))
}
