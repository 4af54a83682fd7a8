//! Established connections to replicas that are gone, forgotten at once.
//!
//! The kernel remembers for each connection which replica it was given, for days if need be. If the replica's host
//! crashed, its clients would send to nobody until their own patience ends. Once the connection is forgotten, their
//! next packet is given to a living replica, which refuses what it does not know; and datagrams simply go on there.
//!
//! The messages are those of `nfnetlink_conntrack` (linux/netfilter/nfnetlink_conntrack.h). What is deleted is named by
//! the kernel's own bytes, sent back as they came.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use node::network::picture::{Picture, Subnet};
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::DriveError;

/// NETLINK_NETFILTER.
const FAMILY: isize = 12;
/// The part of it that is about connections, with the two questions that are asked.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
/// The headers of a message: netlink's own, and that of netfilter (family, version, resource).
const HEADER: usize = 16;
const HEADERS: usize = HEADER + 4;
const INET: u8 = 2;

/// Attributes.
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const TUPLE_IP: u16 = 1;
const IP_SOURCE: u16 = 1;
/// The bit of the status: its destination was translated.
const TRANSLATED: u32 = 1 << 5;

/// The replicas that connections may have been given, and where others may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Living {
    replicas: BTreeSet<Ipv4Addr>,
    /// The networks; and in them what is the engine's, with its own published ports.
    subnets: Vec<(Subnet, Subnet)>,
}

impl Living {
    pub(super) fn of(picture: &Picture) -> Self {
        let attached = picture.networks.values().flat_map(|network| network.services.values());
        let on_networks = attached.flat_map(|service| &service.backends);
        let published = picture.ingress.iter().flat_map(|ingress| &ingress.backends);
        let replicas = on_networks.chain(published).map(|backend| backend.address).collect();
        let networks = picture.networks.values();
        Self { replicas, subnets: networks.map(|n| (n.subnet, n.plain)).collect() }
    }

    /// Whether some replica was there before that is not any more.
    pub(super) fn lost_since(&self, before: &Self) -> bool {
        before.replicas.difference(&self.replicas).next().is_some()
    }

    fn is_gone(&self, address: Ipv4Addr) -> bool {
        let ours = |(subnet, plain): &(Subnet, Subnet)| {
            within(*subnet, address) && !within(*plain, address)
        };
        !self.replicas.contains(&address) && self.subnets.iter().any(ours)
    }
}

fn within(range: Subnet, address: Ipv4Addr) -> bool {
    let shift = 32 - u32::from(range.prefix.min(32));
    let part = |address: Ipv4Addr| u32::from(address).checked_shr(shift).unwrap_or(0);
    part(range.first) == part(address)
}

/// Forgets the connections that were given to a replica which is not there any more; says how many.
pub(super) async fn forget_gone(living: &Living) -> Result<usize, DriveError> {
    let mut socket = TokioSocket::new(FAMILY).map_err(DriveError::Netlink)?;
    socket.socket_mut().bind_auto().map_err(DriveError::Netlink)?;
    let kernel = SocketAddr::new(0, 0);
    socket
        .send_to(&message(GET, REQUEST | DUMP, &[]), &kernel)
        .await
        .map_err(DriveError::Netlink)?;
    let mut gone = Vec::new();
    'dump: loop {
        let (bytes, _) = socket.recv_from_full().await.map_err(DriveError::Netlink)?;
        for (kind, body) in messages(&bytes) {
            match kind {
                DONE | ERROR => break 'dump,
                _ => gone.extend(name_if_gone(body, living)),
            }
        }
    }
    let mut forgotten = 0;
    for name in gone {
        let request = message(DELETE, REQUEST | ACK, &name);
        socket.send_to(&request, &kernel).await.map_err(DriveError::Netlink)?;
        let (bytes, _) = socket.recv_from_full().await.map_err(DriveError::Netlink)?;
        // One that has ended meanwhile is answered with an error, and is what was wanted.
        let code = messages(&bytes).next().and_then(|(_, body)| body.first_chunk::<4>());
        forgotten += usize::from(code == Some(&[0; 4]));
    }
    Ok(forgotten)
}

fn message(kind: u16, flags: u16, attributes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADERS + attributes.len());
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and sender: one question at a time, and the kernel fills in the sender.
    bytes.extend([0; 8]);
    bytes.extend([INET, 0, 0, 0]);
    bytes.extend(attributes);
    bytes
}

/// The messages in what was received: kind, and what follows netlink's own header.
fn messages(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::try_from(u32::from_ne_bytes(*rest.first_chunk()?)).ok()?;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    })
}

/// The attributes in these bytes: kind, value, and the bytes of both, padded.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        // The two highest bits say how the value is written.
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?) & 0x3fff;
        let value = rest.get(4..length)?;
        let padded = length.next_multiple_of(4).min(rest.len());
        let (whole, after) = rest.split_at(padded);
        rest = after;
        Some((kind, value, whole))
    })
}

/// The attributes that name a connection, if it was given to a replica that is gone.
fn name_if_gone(body: &[u8], living: &Living) -> Option<Vec<u8>> {
    let (mut name, mut translated, mut replica) = (Vec::new(), false, None);
    for (kind, value, whole) in attributes(body.get(HEADERS - HEADER..)?) {
        match kind {
            TUPLE_ORIG | ID | ZONE => name.extend(whole),
            TUPLE_REPLY => replica = source(value),
            STATUS => {
                let status = value.first_chunk().map(|status| u32::from_be_bytes(*status));
                translated = status.is_some_and(|status| status & TRANSLATED != 0);
            }
            _ => {}
        }
    }
    (translated && living.is_gone(replica?)).then_some(name)
}

fn source(tuple: &[u8]) -> Option<Ipv4Addr> {
    let (_, ip, _) = attributes(tuple).find(|(kind, ..)| *kind == TUPLE_IP)?;
    let (_, source, _) = attributes(ip).find(|(kind, ..)| *kind == IP_SOURCE)?;
    source.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn connection(replica: [u8; 4], status: u32) -> Vec<u8> {
        let nested = 1 << 15;
        let ip = attribute(IP_SOURCE, &replica);
        let reply = attribute(TUPLE_IP | nested, &ip);
        let mut body = vec![INET, 0, 0, 0];
        body.extend(attribute(TUPLE_ORIG | nested, b"who asked"));
        body.extend(attribute(TUPLE_REPLY | nested, &reply));
        body.extend(attribute(STATUS, &status.to_be_bytes()));
        body.extend(attribute(ID, &[1, 2, 3, 4]));
        body
    }

    fn living() -> Living {
        let range = |third, prefix| Subnet { first: Ipv4Addr::new(10, 1, third, 0), prefix };
        let replicas = BTreeSet::from([Ipv4Addr::new(10, 1, 9, 2)]);
        Living { replicas, subnets: vec![(range(0, 16), range(8, 25))] }
    }

    #[test]
    fn only_what_was_given_to_a_replica_that_is_gone_is_named() {
        let named = |replica, status| name_if_gone(&connection(replica, status), &living());
        let mut name = attribute(TUPLE_ORIG | (1 << 15), b"who asked");
        name.extend(attribute(ID, &[1, 2, 3, 4]));
        assert_eq!(named([10, 1, 9, 3], TRANSLATED | 8), Some(name));
        assert_eq!(named([10, 1, 9, 2], TRANSLATED), None);
        // Nobody's translation, the engine's own, and another network's.
        assert_eq!(named([10, 1, 9, 3], 8), None);
        assert_eq!(named([10, 1, 8, 3], TRANSLATED), None);
        assert_eq!(named([10, 2, 9, 3], TRANSLATED), None);
    }

    #[test]
    fn messages_cut_anywhere_do_no_harm() {
        let body = connection([10, 1, 9, 3], TRANSLATED);
        let mut whole = message(GET, 0, &body[4..]);
        whole.extend(message(DONE, 0, &[]));
        assert_eq!(messages(&whole).map(|(kind, _)| kind).collect::<Vec<_>>(), [GET, DONE]);
        for end in 0..whole.len() {
            for (_, body) in messages(&whole[..end]) {
                let _ = name_if_gone(body, &living());
            }
            let _ = name_if_gone(&whole[..end], &living());
        }
        // A length of zero does not go round for ever.
        assert_eq!(messages(&[0; 64]).count(), 0);
        assert_eq!(attributes(&[0; 64]).count(), 0);
    }
}
