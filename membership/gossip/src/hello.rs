//! The greeting: the first stream of every connection, once in each direction.
//!
//! TLS has proved that both sides hold the token; the greeting tells the rest: which cluster, cell and
//! protocol versions, which run of the process, and where it is reached. The acceptor's greeting
//! carries its verdict, so that a refusal arrives as a reason and not as a silence. (In TLS 1.3 a client
//! believes itself connected before the server has seen its certificate: only the greeting shows that it
//! was admitted.)
//!
//! The layout is written by hand and fixed for all versions, because it is what versions are agreed
//! with. Later versions may append fields; what follows the known ones is ignored.

use std::net::{IpAddr, SocketAddr};

use membership::id::{CellId, ClusterId, Incarnation};

/// Lowest and highest protocol version that this build speaks.
pub const PROTOCOL_VERSIONS: (u16, u16) = (1, membership::wire::PROTOCOL_VERSION);

/// The longest greeting that is read, leaving later versions room.
pub(crate) const MAX_HELLO_BYTES: usize = 512;

const MAGIC: [u8; 6] = *b"SHOAL\x01";

/// What one side says about itself and, from the acceptor, about the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) verdict: Verdict,
    pub(crate) versions: (u16, u16),
    pub(crate) cluster: ClusterId,
    pub(crate) cell: CellId,
    pub(crate) incarnation: Incarnation,
    /// Random, drawn once by each process: two of one name are told apart by it.
    pub(crate) instance: u64,
    /// Random, drawn by the dialler: the name of this connection on both sides.
    pub(crate) nonce: u64,
    /// The connection that the dialler last had with the acceptor; 0 if none. An acceptor that still
    /// holds that one for live learns here that the dialler has given it up.
    pub(crate) last_seen: u64,
    /// Where others are to reach the sender.
    pub(crate) addr: SocketAddr,
}

/// What becomes of a connection. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Welcome,
    /// There is a better connection between the two already.
    Duplicate,
    OtherCluster,
    OtherCell,
    Version,
    Removed,
    Full {
        members: u32,
    },
    Superseded,
    Myself,
    /// Of a later version; the connection will be closed.
    Unknown(u8),
}

impl Verdict {
    fn code(self) -> (u8, u32) {
        match self {
            Self::Welcome => (0, 0),
            Self::Duplicate => (1, 0),
            Self::OtherCluster => (2, 0),
            Self::OtherCell => (3, 0),
            Self::Version => (4, 0),
            Self::Removed => (5, 0),
            Self::Full { members } => (6, members),
            Self::Superseded => (7, 0),
            Self::Myself => (8, 0),
            Self::Unknown(code) => (code, 0),
        }
    }

    fn of(code: u8, detail: u32) -> Self {
        match code {
            0 => Self::Welcome,
            1 => Self::Duplicate,
            2 => Self::OtherCluster,
            3 => Self::OtherCell,
            4 => Self::Version,
            5 => Self::Removed,
            6 => Self::Full { members: detail },
            7 => Self::Superseded,
            8 => Self::Myself,
            other => Self::Unknown(other),
        }
    }
}

/// Bytes that are no greeting.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the peer's greeting is not shoal's")]
pub(crate) struct NotAHello;

impl Hello {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(96);
        let (code, detail) = self.verdict.code();
        out.extend_from_slice(&MAGIC);
        out.push(code);
        out.extend_from_slice(&detail.to_be_bytes());
        out.extend_from_slice(&self.versions.0.to_be_bytes());
        out.extend_from_slice(&self.versions.1.to_be_bytes());
        out.extend_from_slice(&self.cluster.0.to_be_bytes());
        out.extend_from_slice(&self.cell.0.to_be_bytes());
        out.extend_from_slice(&self.incarnation.0.to_be_bytes());
        out.extend_from_slice(&self.instance.to_be_bytes());
        out.extend_from_slice(&self.nonce.to_be_bytes());
        out.extend_from_slice(&self.last_seen.to_be_bytes());
        match self.addr.ip() {
            IpAddr::V4(ip) => {
                out.push(4);
                out.extend_from_slice(&ip.octets());
            }
            IpAddr::V6(ip) => {
                out.push(6);
                out.extend_from_slice(&ip.octets());
            }
        }
        out.extend_from_slice(&self.addr.port().to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, NotAHello> {
        let mut rest = bytes;
        if take::<6>(&mut rest)? != MAGIC {
            return Err(NotAHello);
        }
        let [code] = take(&mut rest)?;
        let detail = u32::from_be_bytes(take(&mut rest)?);
        let versions = (u16::from_be_bytes(take(&mut rest)?), u16::from_be_bytes(take(&mut rest)?));
        let cluster = ClusterId(u128::from_be_bytes(take(&mut rest)?));
        let cell = CellId(u16::from_be_bytes(take(&mut rest)?));
        let incarnation = Incarnation(u64::from_be_bytes(take(&mut rest)?));
        let instance = u64::from_be_bytes(take(&mut rest)?);
        let nonce = u64::from_be_bytes(take(&mut rest)?);
        let last_seen = u64::from_be_bytes(take(&mut rest)?);
        let ip: IpAddr = match take(&mut rest)? {
            [4] => IpAddr::from(take::<4>(&mut rest)?),
            [6] => IpAddr::from(take::<16>(&mut rest)?),
            _ => return Err(NotAHello),
        };
        let addr = SocketAddr::new(ip, u16::from_be_bytes(take(&mut rest)?));
        let verdict = Verdict::of(code, detail);
        Ok(Self { verdict, versions, cluster, cell, incarnation, instance, nonce, last_seen, addr })
    }

    /// What stands against talking to the sender at all, apart from who it is.
    pub(crate) fn objection(&self, ours: &Self) -> Option<Verdict> {
        if self.cluster != ours.cluster {
            return Some(Verdict::OtherCluster);
        }
        let (low, high) = self.versions;
        if low.max(ours.versions.0) > high.min(ours.versions.1) {
            return Some(Verdict::Version);
        }
        (self.cell != ours.cell).then_some(Verdict::OtherCell)
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], NotAHello> {
    let (first, after) = rest.split_first_chunk::<N>().ok_or(NotAHello)?;
    *rest = after;
    Ok(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Hello {
        Hello {
            verdict: Verdict::Full { members: 969 },
            versions: (1, 2),
            cluster: ClusterId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            cell: CellId(3),
            incarnation: Incarnation(4),
            instance: 5,
            nonce: 6,
            last_seen: 7,
            addr: "10.1.2.3:7946".parse().unwrap(),
        }
    }

    #[test]
    fn the_layout_never_changes() {
        let hex: String = sample().encode().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "53484f414c0106000003c9000100020102030405060708090a0b0c0d0e0f100003\
             0000000000000004000000000000000500000000000000060000000000000007\
             040a0102031f0a"
        );
    }

    #[test]
    fn greetings_round_trip_and_later_fields_are_ignored() {
        let mut six = sample();
        six.addr = "[fd00::7]:1".parse().unwrap();
        for hello in [sample(), six] {
            let mut bytes = hello.encode();
            assert_eq!(Hello::decode(&bytes), Ok(hello.clone()));
            bytes.extend_from_slice(b"fields of version 9");
            assert_eq!(Hello::decode(&bytes), Ok(hello));
        }
    }

    #[test]
    fn no_cut_or_garbage_is_a_greeting_and_none_panics() {
        let bytes = sample().encode();
        for end in 0..bytes.len() {
            assert_eq!(Hello::decode(&bytes[..end]), Err(NotAHello));
        }
        assert_eq!(Hello::decode(&[0xff; 200]), Err(NotAHello));
    }

    #[test]
    fn objections_are_found_from_both_sides() {
        let ours = sample();
        let check = |change: fn(&mut Hello), expected| {
            let mut theirs = sample();
            change(&mut theirs);
            assert_eq!(theirs.objection(&ours), expected);
            assert_eq!(ours.objection(&theirs), expected);
        };
        check(|_| {}, None);
        check(|hello| hello.versions = (2, 9), None);
        check(|hello| hello.versions = (3, 9), Some(Verdict::Version));
        check(|hello| hello.cluster = ClusterId(1), Some(Verdict::OtherCluster));
        check(|hello| hello.cell = CellId(9), Some(Verdict::OtherCell));
    }
}
