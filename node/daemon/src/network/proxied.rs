//! Published ports whose connections begin with a header that says who asked ([`node::network::proxy_protocol`]).
//!
//! Packet rules cannot write into a connection, so these ports are taken by this process: it listens on them, gives each
//! connection to a ready replica in turn, writes the header, and passes bytes on both ways from then on. So such a
//! port, unlike the others, is closed while shoal is away. A connection ends with either side, and when its replica is
//! gone: a host that crashed says nothing itself.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use node::network::balance::eligible;
use node::network::picture::{Ingress, Picture};
use node::network::proxy_protocol::ProxyProtocol;
use node::slot::Protocol;
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncWriteExt, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Connections that are open at once, over all ports; further ones wait to be accepted.
const CONNECTIONS: usize = 10_000;
/// Connections of one port that wait to be accepted.
const BACKLOG: i32 = 1024;
/// How long a replica may take to accept a connection, and how many are tried.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
const TRIES: usize = 3;
/// What is held of each connection and way, in bytes.
const HELD: usize = 16 * 1024;
/// A port that was taken, or an accept that failed, is tried again after so long.
const AGAIN: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(200);
/// A side that says nothing for so long is asked whether it is still there.
const SILENCE: Duration = Duration::from_secs(60);

/// What all ports share.
struct Shared {
    pictures: watch::Receiver<Arc<Picture>>,
    places: Arc<Semaphore>,
    turn: AtomicUsize,
}

/// Takes the ports that the picture says, until the sender of pictures is gone. `failing` gets the ports that cannot be
/// taken, one sentence each.
pub(super) async fn serve(
    mut pictures: watch::Receiver<Arc<Picture>>,
    failing: watch::Sender<Vec<String>>,
) {
    let shared = Arc::new(Shared {
        pictures: pictures.clone(),
        places: Arc::new(Semaphore::new(CONNECTIONS)),
        turn: AtomicUsize::new(0),
    });
    // Dropped, it ends what listens.
    let mut tasks = JoinSet::new();
    let mut taken: BTreeMap<u16, AbortHandle> = BTreeMap::new();
    loop {
        let picture = pictures.borrow_and_update().clone();
        let wanted = |port: u16| proxied(&picture, port).is_some();
        taken.retain(|port, task| {
            let keep = wanted(*port);
            if !keep {
                task.abort();
            }
            keep
        });
        let mut failed = Vec::new();
        for ingress in picture.ingress.iter().filter(|one| is_proxied(one)) {
            let port = ingress.published;
            if taken.contains_key(&port) {
                continue;
            }
            match listen(port) {
                Ok(listener) => {
                    let task = tasks.spawn(accept(listener, port, Arc::clone(&shared)));
                    taken.insert(port, task);
                }
                Err(error) => failed.push(format!(
                    "the published port {port}, whose connections get a PROXY header, cannot be taken on this host \
                     ({error}): it is closed here. Free it; it is tried again every {} s",
                    AGAIN.as_secs()
                )),
            }
        }
        while tasks.try_join_next().is_some() {}
        let trying = !failed.is_empty();
        failing.send_if_modified(|said| {
            let changed = *said != failed;
            if changed {
                failed.iter().for_each(|text| tracing::warn!("{text}"));
                *said = failed;
            }
            changed
        });
        let changed = pictures.changed();
        let there = if trying {
            timeout(AGAIN, changed).await.unwrap_or(Ok(())).is_ok()
        } else {
            changed.await.is_ok()
        };
        if !there {
            return;
        }
    }
}

fn is_proxied(ingress: &Ingress) -> bool {
    ingress.proxy.is_some() && ingress.protocol == Protocol::Tcp
}

fn proxied(picture: &Picture, port: u16) -> Option<(&Ingress, ProxyProtocol)> {
    let ingress = picture.ingress.iter().find(|one| one.published == port && is_proxied(one))?;
    Some((ingress, ingress.proxy?))
}

/// On all addresses of the host, of both versions where it has both.
fn listen(port: u16) -> io::Result<TcpListener> {
    let open = |domain, address: SocketAddr| -> io::Result<Socket> {
        let socket = Socket::new(domain, Type::STREAM, None)?;
        if domain == Domain::IPV6 {
            socket.set_only_v6(false)?;
        }
        // A process that was replaced leaves connections behind which are still being closed.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket)
    };
    let both = open(Domain::IPV6, (Ipv6Addr::UNSPECIFIED, port).into());
    let socket = match both {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
        Err(_) => open(Domain::IPV4, (Ipv4Addr::UNSPECIFIED, port).into())?,
        Ok(socket) => socket,
    };
    TcpListener::from_std(socket.into())
}

async fn accept(listener: TcpListener, port: u16, shared: Arc<Shared>) {
    // They end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = shared.places.clone().acquire_owned().await else { return };
        let (client, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, port, "cannot accept connections at the moment");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _place = place;
            pass_on(client, from, port, &shared).await;
        });
    }
}

async fn pass_on(mut client: TcpStream, from: SocketAddr, port: u16, shared: &Shared) {
    prepare(&client);
    let Some((mut replica, at)) = reach(&client, from, port, shared).await else {
        // As a port is refused: the client need not wait for an answer.
        let _ = client.set_zero_linger();
        return;
    };
    let copied = tokio::select! {
        copied = copy_bidirectional_with_sizes(&mut client, &mut replica, HELD, HELD) => copied.is_ok(),
        () = gone(shared.pictures.clone(), port, *at.ip()) => false,
    };
    if !copied {
        // Nobody should take a part for the whole.
        let _ = client.set_zero_linger();
        let _ = replica.set_zero_linger();
    }
}

/// A replica that has taken the header.
async fn reach(
    client: &TcpStream,
    from: SocketAddr,
    port: u16,
    shared: &Shared,
) -> Option<(TcpStream, SocketAddrV4)> {
    let asked = client.local_addr().ok()?;
    let (header, replicas) = {
        let picture = shared.pictures.borrow().clone();
        let (ingress, version) = proxied(&picture, port)?;
        let mut replicas: Vec<SocketAddrV4> = eligible(&ingress.backends, ingress.prefer_local)
            .iter()
            .map(|backend| SocketAddrV4::new(backend.address, ingress.target))
            .collect();
        let turn = shared.turn.fetch_add(1, Ordering::Relaxed);
        let first = turn % replicas.len().max(1);
        replicas.rotate_left(first);
        (version.header(from, asked), replicas)
    };
    for at in replicas.into_iter().take(TRIES) {
        match timeout(CONNECT_DEADLINE, TcpStream::connect(at)).await {
            Ok(Ok(mut replica)) => {
                prepare(&replica);
                replica.write_all(&header).await.ok()?;
                return Some((replica, at));
            }
            Ok(Err(error)) => tracing::debug!(%error, replica = %at, "a replica refused"),
            Err(_) => tracing::debug!(replica = %at, "a replica did not answer"),
        }
    }
    None
}

/// Waits until the replica is not in the picture any more.
async fn gone(mut pictures: watch::Receiver<Arc<Picture>>, port: u16, replica: Ipv4Addr) {
    let there = |picture: &Arc<Picture>| {
        proxied(picture, port)
            .is_some_and(|(ingress, _)| ingress.backends.iter().any(|one| one.address == replica))
    };
    // Without pictures nobody knows better.
    if pictures.wait_for(|picture| !there(picture)).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn prepare(stream: &TcpStream) {
    // What cannot be set is as the host has it.
    let _ = stream.set_nodelay(true);
    let _ = SockRef::from(stream).set_tcp_keepalive(&TcpKeepalive::new().with_time(SILENCE));
}

#[cfg(test)]
mod tests {
    use membership::id::{NodeId, ServiceId, TaskId};
    use node::network::picture::Backend;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn picture(published: u16, replica: SocketAddrV4, ready: bool) -> Arc<Picture> {
        let backend = Backend {
            address: *replica.ip(),
            node: NodeId(1),
            local: true,
            task: TaskId(1),
            slot_name: "web.1".to_owned(),
            hostname: None,
            ready,
            draining: false,
        };
        let ingress = Ingress {
            service: ServiceId(1),
            protocol: Protocol::Tcp,
            published,
            target: replica.port(),
            prefer_local: false,
            on_others: false,
            proxy: Some(ProxyProtocol::V1),
            backends: vec![backend],
        };
        Arc::new(Picture { ingress: vec![ingress], ..Picture::default() })
    }

    async fn ask(port: u16) -> io::Result<TcpStream> {
        // The port is taken a moment after the picture was sent.
        for _ in 0..200 {
            if let Ok(stream) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
                return Ok(stream);
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    #[tokio::test]
    async fn a_connection_begins_with_who_asked_and_ends_with_its_replica() {
        let replica = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let SocketAddr::V4(at) = replica.local_addr().unwrap() else { panic!("IPv4") };
        let probe = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = probe.local_addr().unwrap().port();
        let (tell, pictures) = watch::channel(picture(port, at, true));
        let (failing, mut failed) = watch::channel(Vec::new());
        let serving = tokio::spawn(serve(pictures, failing));
        // Somebody else has the port, and then not any more.
        failed
            .wait_for(|said| said.len() == 1 && said[0].contains("cannot be taken"))
            .await
            .unwrap();
        drop(probe);
        tell.send_replace(picture(port, at, true));
        let mut client = ask(port).await.unwrap();
        let (mut served, _) = replica.accept().await.unwrap();
        client.write_all(b"question").await.unwrap();
        let header = format!(
            "PROXY TCP4 127.0.0.1 127.0.0.1 {} {port}\r\nquestion",
            client.local_addr().unwrap().port()
        );
        let mut read = vec![0; header.len()];
        served.read_exact(&mut read).await.unwrap();
        assert_eq!(String::from_utf8(read).unwrap(), header);
        served.write_all(b"answer").await.unwrap();
        let mut answer = [0; 6];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"answer");
        assert!(failed.borrow().is_empty());
        // Its host crashed: nobody closes the connection but the node that passes it on.
        let elsewhere = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), at.port());
        tell.send_replace(picture(port, elsewhere, false));
        let ended = timeout(Duration::from_secs(30), client.read(&mut answer)).await.unwrap();
        assert!(ended.is_err(), "{ended:?}");
        // Without a ready replica connections are refused.
        let mut refused = ask(port).await.unwrap();
        let said = timeout(Duration::from_secs(30), refused.read(&mut answer)).await.unwrap();
        assert!(matches!(said, Err(_) | Ok(0)), "{said:?}");
        drop(tell);
        timeout(Duration::from_secs(30), serving).await.unwrap().unwrap();
    }
}
