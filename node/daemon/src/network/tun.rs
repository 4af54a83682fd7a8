//! The device whose packets travel to other hosts encrypted.
//!
//! The kernel puts the packets of encrypted networks into it, addressed to the host they are for
//! (`node::network::encryption`). Here each is handed to QUIC for that host, and what comes from there is given to the
//! kernel. A member may send only under its own address and only to this host's: what says anything else is dropped,
//! so that nobody can speak for another host, or to anything but the networks' tunnels.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use gossip::Tunnel;
use membership::id::NodeId;
use nix::libc;
use node::network::encryption;
use node::network::picture::Picture;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

/// Room for one packet of the device, and more than its MTU.
const PACKET_BYTES: usize = 2048;
/// Packets that are read into one piece of memory.
const PACKETS_AT_ONCE: usize = 32;
/// Where IPv6 says from and to whom (RFC 8200, section 3), and how long its header is.
const SOURCE: std::ops::Range<usize> = 8..24;
const DESTINATION: std::ops::Range<usize> = 24..40;
const HEADER_BYTES: usize = 40;

/// The device, as long as it is open: the kernel removes it with the last process that has it.
#[derive(Debug)]
pub struct Tun {
    file: AsyncFd<File>,
}

/// What the kernel is told of a device that is to be made (`struct ifreq` of linux/if.h).
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// `TUNSETIFF` of linux/if_tun.h.
const MAKE: libc::c_ulong = 0x4004_54ca;

mod call {
    nix::ioctl_write_ptr_bad!(make, super::MAKE, super::Request);
}

impl Tun {
    /// Makes the device. It has no address yet, and is down.
    ///
    /// # Errors
    /// Without the right to (`CAP_NET_ADMIN`), without `/dev/net/tun`, and when another process has a device of that
    /// name.
    #[allow(
        unsafe_code,
        reason = "devices are made by an ioctl, and waited for by their descriptor"
    )]
    pub fn open(name: &str) -> io::Result<Self> {
        let mut request = Request {
            name: [0; libc::IFNAMSIZ],
            // Bare IP packets, one at a time.
            flags: (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short,
            rest: [0; 22],
        };
        // The last byte stays zero.
        let room = request.name.iter_mut().take(libc::IFNAMSIZ - 1);
        room.zip(name.bytes()).for_each(|(to, from)| *to = from);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")?;
        // SAFETY: the descriptor is open, and the kernel reads and writes a `struct ifreq`, which `Request` is as large
        // as and laid out like (asserted below).
        unsafe { call::make(file.as_raw_fd(), &raw const request) }?;
        // SAFETY: the file is owned here, stays open until it is dropped, and is never replaced.
        let file = unsafe { AsyncFd::register(file) }?;
        Ok(Self { file })
    }

    /// The next packet that the kernel has for another host, cut from `memory`.
    async fn read(&self, memory: &mut BytesMut) -> io::Result<Bytes> {
        if memory.len() < PACKET_BYTES {
            *memory = BytesMut::zeroed(PACKET_BYTES * PACKETS_AT_ONCE);
        }
        loop {
            let mut ready = self.file.readable().await?;
            if let Ok(read) = ready.try_io(|file| file.get_ref().read(memory)) {
                return Ok(memory.split_to(read?).freeze());
            }
        }
    }

    /// Hands a packet to the kernel. What it does not take is dropped, as by any network.
    async fn write(&self, packet: &[u8]) -> io::Result<()> {
        loop {
            let mut ready = self.file.writable().await?;
            match ready.try_io(|file| file.get_ref().write(packet)) {
                Ok(Ok(_)) => return Ok(()),
                // Not a packet to the kernel's liking, or the device is down at the moment.
                Ok(Err(error))
                    if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EIO)) =>
                {
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

/// Carries packets between the device and the other hosts, until the device or the node is gone.
pub async fn carry(
    me: NodeId,
    tun: Tun,
    tunnel: Tunnel,
    inbox: mpsc::Receiver<(NodeId, Bytes)>,
    pictures: watch::Receiver<Arc<Picture>>,
) -> io::Result<()> {
    tokio::select! {
        ended = outwards(&tun, &tunnel, pictures) => ended,
        ended = inwards(me, &tun, inbox) => ended,
    }
}

async fn outwards(
    tun: &Tun,
    tunnel: &Tunnel,
    mut pictures: watch::Receiver<Arc<Picture>>,
) -> io::Result<()> {
    let mut hosts = hosts(&pictures.borrow_and_update().clone());
    let mut memory = BytesMut::new();
    loop {
        let packet = tun.read(&mut memory).await?;
        if pictures.has_changed().unwrap_or(false) {
            hosts = self::hosts(&pictures.borrow_and_update().clone());
        }
        if let Some(host) = address_in(&packet, DESTINATION).and_then(|to| hosts.get(&to)) {
            tunnel.send(*host, packet);
        }
    }
}

async fn inwards(
    me: NodeId,
    tun: &Tun,
    mut inbox: mpsc::Receiver<(NodeId, Bytes)>,
) -> io::Result<()> {
    let here = encryption::address(me);
    while let Some((from, packet)) = inbox.recv().await {
        if address_in(&packet, SOURCE) == Some(encryption::address(from))
            && address_in(&packet, DESTINATION) == Some(here)
        {
            tun.write(&packet).await?;
        }
    }
    Ok(())
}

/// The other hosts of the encrypted networks, by their addresses on them.
fn hosts(picture: &Picture) -> BTreeMap<Ipv6Addr, NodeId> {
    let encrypted = picture.networks.values().filter(|network| network.encrypted);
    encrypted
        .flat_map(|network| network.peers.keys())
        .map(|peer| (encryption::address(*peer), *peer))
        .collect()
}

fn address_in(packet: &[u8], at: std::ops::Range<usize>) -> Option<Ipv6Addr> {
    if packet.len() < HEADER_BYTES || packet[0] >> 4 != 6 {
        return None;
    }
    let bytes: [u8; 16] = packet.get(at)?.try_into().ok()?;
    Some(Ipv6Addr::from(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_ipv6_headers_have_addresses() {
        let mut packet = vec![0; HEADER_BYTES];
        packet[0] = 0x60;
        packet[DESTINATION].copy_from_slice(&encryption::address(NodeId(5 << 48)).octets());
        assert_eq!(address_in(&packet, DESTINATION).unwrap().to_string(), "fd73:686f:616c::5");
        assert_eq!(address_in(&packet, SOURCE), Some(Ipv6Addr::UNSPECIFIED));
        assert_eq!(address_in(&packet[1..], SOURCE), None);
        packet[0] = 0x45;
        assert_eq!(address_in(&packet, SOURCE), None);
        assert_eq!(address_in(&[], SOURCE), None);
    }
}
