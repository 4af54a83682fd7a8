//! Reading chitchat's digests.
//!
//! chitchat keeps the inside of its messages to itself, believes every digest, adds every node that
//! one names to its own, and panics when its own grows over one message (quickwit-oss/quickwit#5787).
//! Its layout is simple and fixed for protocol version 0, so we read it: to keep out what must not be
//! added, and to refuse a message that would unpack to much more than it weighs.
//!
//! Layout: u16 count, then for each node its id (u16 length and text, u64 generation, address as u8 4
//! or 6, octets, u16 port) and three u64 (heartbeat, last collected version, highest version); integers
//! are little-endian. A delta is blocks: u8 kind (0 end, 1 zstd, 2 plain) and u16 length.

use std::net::{IpAddr, SocketAddr};

use membership::id::{Incarnation, NodeId};

/// The largest message that chitchat makes or takes, in bytes (the largest UDP payload, hard-coded
/// there for all transports).
pub(crate) const MAX_CHITCHAT_BYTES: usize = 65_507;

/// The most blocks that a delta may have. chitchat fills blocks of 16 KiB, so an honest message that
/// compresses sixtyfold fits; a hostile one unpacks to at most 16 MiB.
const MAX_DELTA_BLOCKS: usize = 256;

/// Magic number 45139 and protocol version 0.
const HEADER: [u8; 3] = [0x53, 0xb0, 0];

/// One node in a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// `None` when its text is no node's id.
    pub(crate) node: Option<NodeId>,
    pub(crate) generation: Incarnation,
    pub(crate) addr: SocketAddr,
    /// Where it lies in the digest's bytes.
    pub(crate) range: std::ops::Range<usize>,
}

/// Bytes that are not chitchat's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotChitchat {
    #[error("a gossip message is cut short or malformed")]
    Malformed,
    #[error("a gossip message has more blocks than any honest one")]
    TooManyBlocks,
}

/// The bytes of a digest as entries, and how many bytes it took.
pub(crate) fn read_digest(bytes: &[u8]) -> Result<(Vec<Entry>, usize), NotChitchat> {
    let mut rest = bytes;
    let count = usize::from(u16::from_le_bytes(take(&mut rest)?));
    // No honest digest has more entries than fit a message; the capacity follows the bytes at hand.
    let mut entries = Vec::with_capacity(count.min(rest.len() / 41));
    for _ in 0..count {
        let start = bytes.len() - rest.len();
        let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
        let text = rest.get(..length).ok_or(NotChitchat::Malformed)?;
        rest = &rest[length..];
        let node = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
        let generation = Incarnation(u64::from_le_bytes(take(&mut rest)?));
        let ip: IpAddr = match take(&mut rest)? {
            [4] => IpAddr::from(take::<4>(&mut rest)?),
            [6] => IpAddr::from(take::<16>(&mut rest)?),
            _ => return Err(NotChitchat::Malformed),
        };
        let addr = SocketAddr::new(ip, u16::from_le_bytes(take(&mut rest)?));
        let _versions = take::<24>(&mut rest)?;
        let end = bytes.len() - rest.len();
        entries.push(Entry { node, generation, addr, range: start..end });
    }
    Ok((entries, bytes.len() - rest.len()))
}

/// A digest's bytes with only the entries that `keep` keeps.
pub(crate) fn rebuild(bytes: &[u8], keep: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    // There were at most u16::MAX entries before, so there are not more now.
    out.extend_from_slice(&u16::try_from(keep.len()).unwrap_or(u16::MAX).to_le_bytes());
    for entry in keep {
        out.extend_from_slice(bytes.get(entry.range.clone()).unwrap_or_default());
    }
    out
}

/// Checks a whole message before it is unpacked, and returns the nodes that its digest names.
pub(crate) fn inspect(message: &[u8]) -> Result<Vec<Entry>, NotChitchat> {
    let mut rest = message;
    if take::<3>(&mut rest)? != HEADER {
        return Err(NotChitchat::Malformed);
    }
    match take(&mut rest)? {
        // SYN: digest, cluster id.
        [0] => Ok(read_digest(rest)?.0),
        // SYN-ACK: digest, delta.
        [1] => {
            let (entries, used) = read_digest(rest)?;
            check_delta(&rest[used..])?;
            Ok(entries)
        }
        // ACK: delta.
        [2] => check_delta(rest).map(|()| Vec::new()),
        // BAD-CLUSTER.
        [3] => Ok(Vec::new()),
        _ => Err(NotChitchat::Malformed),
    }
}

fn check_delta(bytes: &[u8]) -> Result<(), NotChitchat> {
    let mut rest = bytes;
    for _ in 0..MAX_DELTA_BLOCKS {
        match take(&mut rest)? {
            [0] => return Ok(()),
            [1 | 2] => {
                let length = usize::from(u16::from_le_bytes(take(&mut rest)?));
                rest = rest.get(length..).ok_or(NotChitchat::Malformed)?;
            }
            _ => return Err(NotChitchat::Malformed),
        }
    }
    Err(NotChitchat::TooManyBlocks)
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NotChitchat> {
    let (first, after) = rest.split_first_chunk::<N>().ok_or(NotChitchat::Malformed)?;
    *rest = after;
    Ok(*first)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A digest as chitchat writes it.
    pub(crate) fn digest_of(nodes: &[(&str, u64, SocketAddr)]) -> Vec<u8> {
        let mut out = (nodes.len() as u16).to_le_bytes().to_vec();
        for (name, generation, addr) in nodes {
            out.extend((name.len() as u16).to_le_bytes());
            out.extend(name.as_bytes());
            out.extend(generation.to_le_bytes());
            match addr.ip() {
                IpAddr::V4(ip) => {
                    out.push(4);
                    out.extend(ip.octets());
                }
                IpAddr::V6(ip) => {
                    out.push(6);
                    out.extend(ip.octets());
                }
            }
            out.extend(addr.port().to_le_bytes());
            out.extend([7u8; 24]);
        }
        out
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn digests_are_read_as_chitchat_writes_them_and_can_be_thinned() {
        use chitchat::{ChitchatMessage, Deserializable, Serializable};
        let name = NodeId(5).to_string();
        let six = NodeId(6).to_string();
        let bytes = digest_of(&[
            (&name, 3, addr("10.0.0.1:7")),
            (&six, 4, addr("[fd00::1]:8")),
            ("stranger", 1, addr("10.0.0.2:7")),
        ]);
        let (entries, used) = read_digest(&bytes).unwrap();
        assert_eq!(used, bytes.len());
        assert_eq!(entries[0].node, Some(NodeId(5)));
        assert_eq!((entries[0].generation, entries[0].addr), (Incarnation(3), addr("10.0.0.1:7")));
        assert_eq!((entries[1].node, entries[1].addr), (Some(NodeId(6)), addr("[fd00::1]:8")));
        assert_eq!(entries[2].node, None);

        // chitchat itself reads the message, and what we rebuild of its digest.
        let mut message = HEADER.to_vec();
        message.push(0);
        message.extend(&bytes);
        message.extend([1, 0, b'c']);
        assert_eq!(inspect(&message).unwrap(), entries);
        let read = ChitchatMessage::deserialize(&mut &message[..]).unwrap();
        let ChitchatMessage::Syn { digest, .. } = read else { panic!("not a SYN") };
        assert_eq!(digest.serialize_to_vec(), bytes);
        let thinned = rebuild(&bytes, &entries[..2]);
        let expected = digest_of(&[(&name, 3, addr("10.0.0.1:7")), (&six, 4, addr("[fd00::1]:8"))]);
        assert_eq!(thinned, expected);
    }

    #[test]
    fn a_message_of_endless_blocks_is_refused_before_it_is_unpacked() {
        let mut message = HEADER.to_vec();
        message.push(2);
        for _ in 0..MAX_DELTA_BLOCKS + 1 {
            message.extend([2, 1, 0, 0]);
        }
        message.push(0);
        assert_eq!(inspect(&message), Err(NotChitchat::TooManyBlocks));
    }

    #[test]
    fn no_bytes_panic() {
        let mut message = HEADER.to_vec();
        message.push(1);
        message.extend(digest_of(&[(&NodeId(5).to_string(), 3, addr("10.0.0.1:7"))]));
        message.extend([2, 2, 0, 9, 9, 0]);
        assert!(inspect(&message).is_ok());
        for end in 0..message.len() {
            assert_eq!(inspect(&message[..end]), Err(NotChitchat::Malformed));
        }
        for byte in 0..=255u8 {
            for at in 0..message.len() {
                let mut bent = message.clone();
                bent[at] = byte;
                let _ = inspect(&bent);
            }
        }
    }
}
