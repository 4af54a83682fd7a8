//! Is the host gone, or only its shoal?
//!
//! A kernel answers for a port on which nobody listens: UDP with an ICMP "port unreachable", TCP with a
//! reset; a connected socket sees either as `ECONNREFUSED`. So a question outside QUIC tells a host
//! whose shoal process is gone (its containers still serve: wait for the restart) from a host that is
//! gone. Both are asked, because each alone fails: kernels send about one "unreachable" a second to one
//! asker, and QUIC's own packets to the dead port use that up; TCP may be closed by a firewall.
//!
//! So that a reset means what it should, every node also listens on TCP under its QUIC port
//! ([`sign_of_life`]) and takes connections only to close them. A process that is frozen still has the
//! port: its kernel neither resets nor says "unreachable", which is silence, as of a host that is gone.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::{Instant, timeout, timeout_at};

use tracing::warn;

use crate::report::HostAnswer;

/// Pauses before the byte is sent again: a byte or its answer may be lost, and kernels limit how
/// often they say "unreachable". Together 1 s, the deadline of the question.
const PAUSES_MS: [u64; 4] = [100, 200, 300, 400];

/// Asks the host at `addr`; takes a second unless it answers before.
///
/// # Errors
/// When no socket can be had or this host has no route: nothing is known about the other host then.
pub async fn ask_host(addr: SocketAddr) -> io::Result<HostAnswer> {
    let by_tcp = async {
        match timeout(Duration::from_secs(1), TcpStream::connect(addr)).await {
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                HostAnswer::Refused
            }
            _ => HostAnswer::Silent,
        }
    };
    let by_udp = ask_by_udp(addr);
    tokio::pin!(by_tcp, by_udp);
    tokio::select! {
        answer = &mut by_tcp => match answer {
            HostAnswer::Refused => Ok(HostAnswer::Refused),
            HostAnswer::Silent => by_udp.await,
        },
        answer = &mut by_udp => match answer {
            Ok(HostAnswer::Refused) => Ok(HostAnswer::Refused),
            Ok(HostAnswer::Silent) => Ok(by_tcp.await),
            Err(error) => Err(error),
        },
    }
}

/// Listens on TCP under the QUIC port and closes whatever connects: the sign that this process is there.
/// Where the port is taken, this node does without: a peer then believes the other protocol.
pub(crate) async fn sign_of_life(addr: SocketAddr) {
    let listener = match TcpListener::bind(addr).await {
        Ok(listener) => listener,
        Err(error) => {
            warn!(%addr, %error, "cannot listen on TCP beside QUIC; should this process die, peers may take its whole host for gone");
            return;
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(stream),
            // Out of file descriptors, most likely: not worth spinning for.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn ask_by_udp(addr: SocketAddr) -> io::Result<HostAnswer> {
    let from: SocketAddr = match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(addr).await?;
    let mut answer = [0u8; 1];
    for pause in PAUSES_MS {
        let until = Instant::now() + Duration::from_millis(pause);
        if let Some(said) = judge(socket.send(&[0]).await.map(|_| ())) {
            return Ok(said);
        }
        while let Ok(read) = timeout_at(until, socket.recv(&mut answer)).await {
            if let Some(said) = judge(read.map(|_| ())) {
                return Ok(said);
            }
        }
    }
    Ok(HostAnswer::Silent)
}

/// What one system call says about the host, if anything. The refusal arrives at whichever call
/// comes next, also a send.
fn judge(result: io::Result<()>) -> Option<HostAnswer> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(HostAnswer::Refused),
        // "No route to host" comes from a router or from ARP: the host did not answer.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable
            ) =>
        {
            Some(HostAnswer::Silent)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_without_a_process_refuses_and_one_that_nobody_reads_is_silent() {
        for ip in ["127.0.0.1:0", "[::1]:0"] {
            let held = std::net::UdpSocket::bind(ip).unwrap();
            let addr = held.local_addr().unwrap();
            let tcp = std::net::TcpListener::bind(addr).unwrap();
            assert_eq!(ask_host(addr).await.unwrap(), HostAnswer::Silent);
            drop((held, tcp));
            let asked = Instant::now();
            assert_eq!(ask_host(addr).await.unwrap(), HostAnswer::Refused);
            assert!(asked.elapsed() < Duration::from_millis(900), "a refusal needs no deadline");
        }
    }
}
