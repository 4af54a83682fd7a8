//! The header that tells a replica who asked, where its address cannot be kept: HAProxy's PROXY protocol.
//!
//! A published port leads to replicas on any host, and an answer has to come back through the host that was asked, so a
//! replica on another one sees that host instead of the client. A service that understands the PROXY protocol can ask
//! for it by the label [`LABEL`]: each connection to its published TCP ports then begins with a header, whichever replica
//! gets it, written by the node that was asked.

use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use crate::spec::{SpecError, at, wrong};

/// The label of a service that asks for the header.
pub const LABEL: &str = "shoal.ingress.proxy-protocol";

/// Which form the header has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What version 2 begins with, so that nothing else is taken for it.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2, and "somebody is spoken for" (and not the proxy itself).
const VERSION_AND_COMMAND: u8 = 0x21;
/// A stream over IPv4 or IPv6.
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

/// Reads [`LABEL`].
///
/// # Errors
/// The label's value is none of its values.
pub(crate) fn asked(spec: &Value) -> Result<Option<ProxyProtocol>, SpecError> {
    match at(spec, &["Labels", LABEL]).and_then(Value::as_str) {
        None | Some("") => Ok(None),
        Some("v1") => Ok(Some(ProxyProtocol::V1)),
        Some("v2") => Ok(Some(ProxyProtocol::V2)),
        Some(other) => Err(wrong(format!("label {LABEL}: '{other}' is not one of v1, v2"))),
    }
}

impl ProxyProtocol {
    /// The header of a connection that `client` made to `asked`.
    #[must_use]
    pub fn header(self, client: SocketAddr, asked: SocketAddr) -> Vec<u8> {
        // Both of one version: a socket for both may call an IPv4 address an IPv6 one.
        let (from, to) = match (client.ip().to_canonical(), asked.ip().to_canonical()) {
            (IpAddr::V4(from), IpAddr::V6(to)) => (IpAddr::V6(from.to_ipv6_mapped()), to.into()),
            (IpAddr::V6(from), IpAddr::V4(to)) => (from.into(), IpAddr::V6(to.to_ipv6_mapped())),
            same => same,
        };
        match self {
            Self::V1 => {
                let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                let (source, destination) = (client.port(), asked.port());
                format!("PROXY {family} {from} {to} {source} {destination}\r\n").into_bytes()
            }
            Self::V2 => {
                let mut about = Vec::new();
                for address in [from, to] {
                    match address {
                        IpAddr::V4(v4) => about.extend(v4.octets()),
                        IpAddr::V6(v6) => about.extend(v6.octets()),
                    }
                }
                about.extend(client.port().to_be_bytes());
                about.extend(asked.port().to_be_bytes());
                let family = if from.is_ipv4() { TCP_V4 } else { TCP_V6 };
                let mut header = SIGNATURE.to_vec();
                header.extend([VERSION_AND_COMMAND, family]);
                // 12 or 36 bytes.
                header.extend((about.len() as u16).to_be_bytes());
                header.extend(about);
                header
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn header(version: ProxyProtocol, client: &str, asked: &str) -> Vec<u8> {
        version.header(client.parse().unwrap(), asked.parse().unwrap())
    }

    #[test]
    fn the_first_version_is_a_line() {
        let line = |client: &str, asked: &str| {
            String::from_utf8(header(ProxyProtocol::V1, client, asked)).unwrap()
        };
        assert_eq!(
            line("203.0.113.7:5000", "10.0.0.5:8080"),
            "PROXY TCP4 203.0.113.7 10.0.0.5 5000 8080\r\n"
        );
        assert_eq!(
            line("[::ffff:203.0.113.7]:5000", "[::ffff:10.0.0.5]:8080"),
            "PROXY TCP4 203.0.113.7 10.0.0.5 5000 8080\r\n"
        );
        assert_eq!(
            line("[2001:db8::7]:1", "[fd00::5]:2"),
            "PROXY TCP6 2001:db8::7 fd00::5 1 2\r\n"
        );
    }

    #[test]
    fn the_second_version_is_laid_out_as_its_specification_says() {
        let v4 = header(ProxyProtocol::V2, "1.2.3.4:258", "5.6.7.8:772");
        assert_eq!(v4[..12], *b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A");
        assert_eq!(v4[12..], [0x21, 0x11, 0, 12, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4]);
        let v6 = header(ProxyProtocol::V2, "[2001:db8::7]:1", "[fd00::5]:2");
        assert_eq!((v6.len(), &v6[12..16]), (52, &[0x21_u8, 0x21, 0, 36][..]));
        assert_eq!(v6[48..], [0, 1, 0, 2]);
    }

    #[test]
    fn the_label_has_two_values() {
        let of = |value: &str| asked(&json!({ "Labels": { LABEL: value } }));
        assert_eq!(of("v1"), Ok(Some(ProxyProtocol::V1)));
        assert_eq!(of("v2"), Ok(Some(ProxyProtocol::V2)));
        assert_eq!((of(""), asked(&json!({}))), (Ok(None), Ok(None)));
        assert!(of("v3").unwrap_err().to_string().contains("'v3' is not one of v1, v2"));
    }
}
