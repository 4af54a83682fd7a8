//! Is the host gone, or only its shoal?
//!
//! A kernel answers a UDP packet to a port on which nobody listens with an ICMP "port unreachable",
//! and hands that to a connected socket as `ECONNREFUSED`. So one byte outside QUIC tells a host whose
//! shoal process is gone (its containers still serve: wait for the restart) from a host that is gone.
//! A shoal that has the port ignores the byte, which looks like silence: the question is only worth
//! asking about a node that does not answer over QUIC.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{Instant, timeout_at};

use crate::report::HostAnswer;

/// Pauses before the byte is sent again: a byte or its answer may be lost, and kernels limit how
/// often they say "unreachable". Together 1 s, the deadline of the question.
const PAUSES_MS: [u64; 4] = [100, 200, 300, 400];

/// Asks the host at `addr`; takes a second unless it answers before.
///
/// # Errors
/// When no socket can be had or this host has no route: nothing is known about the other host then.
pub async fn ask_host(addr: SocketAddr) -> io::Result<HostAnswer> {
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
            assert_eq!(ask_host(addr).await.unwrap(), HostAnswer::Silent);
            drop(held);
            let asked = Instant::now();
            assert_eq!(ask_host(addr).await.unwrap(), HostAnswer::Refused);
            assert!(asked.elapsed() < Duration::from_millis(900), "a refusal needs no deadline");
        }
    }
}
