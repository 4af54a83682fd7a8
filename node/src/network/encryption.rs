//! Which networks are encrypted, and the addresses under which hosts send each other their packets.
//!
//! Operators say it when they create a network. Where they do not, it is decided then, by the addresses at which the
//! members are reached at that moment, and written down with the network: what is decided later, or anew each time,
//! would change under containers that run, whose packets would then be of the wrong size, and would change back as
//! members come and go. A network that is not encrypted, and that a host outside of private networks joins later, is
//! complained about instead.
//!
//! Each host has one address for it, made of its id: nobody has to hand them out or ask for them, and two hosts that hold each other's
//! ids know each other's. They exist on the hosts only, on a device whose packets the daemons carry to each other
//! encrypted; an encrypted network is a network whose tunnel runs between these addresses instead of the hosts' own.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use membership::id::NodeId;
use serde_json::Value;

/// The first 48 bits of all these addresses: a private range (RFC 4193) whose "random" part spells `shoal`.
const RANGE: u128 = 0xfd73_686f_616c << 80;
/// How many bits all of these addresses share.
pub const RANGE_BITS: u8 = 48;
/// How large a packet on the device may be, in bytes: what fits, encrypted, into one UDP packet on a way of 1,500.
pub const DEVICE_MTU: u32 = 1400;

/// Where a host is sent the packets of encrypted networks. 80 bits of the id: that two of a cluster's hosts share an
/// address takes some 10^12 of them.
#[must_use]
pub fn address(node: NodeId) -> Ipv6Addr {
    Ipv6Addr::from_bits(RANGE | (node.0 >> 48))
}

/// Docker's option of a network: with any value but a no, it is encrypted.
const OPTION: &str = "encrypted";

/// What the operator said when the network was created; none: nothing.
pub(crate) fn asked(spec: &Value) -> Option<bool> {
    let value = spec.get("Options")?.get(OPTION)?;
    Some(!matches!(value.as_str(), Some("false" | "0" | "no")))
}

/// Whether what is sent to this address is expected to stay within a private network: nobody else routes it. The
/// shared range of RFC 6598 counts too, which providers and private networks over others' use.
pub(crate) fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            v4.is_private()
                || v4.is_loopback()
                || v4.is_link_local()
                || v4 == Ipv4Addr::UNSPECIFIED
                || (first == 100 && (64..128).contains(&second))
        }
        IpAddr::V6(v6) => {
            v6.is_unique_local()
                || v6.is_loopback()
                || v6.is_unicast_link_local()
                || v6 == Ipv6Addr::UNSPECIFIED
        }
    }
}

/// What is decided of a network that is created while the members are reached at these addresses; none: nothing has to
/// be, for the operator said it or nothing speaks for it.
pub(crate) fn decided(asked: Option<bool>, mut members: impl Iterator<Item = IpAddr>) -> bool {
    asked.is_none() && members.any(|address| !is_private(address))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_address_outside_of_private_networks_is_enough() {
        let private = ["10.1.2.3", "172.31.0.1", "192.168.7.7", "100.64.0.9", "fd00::1", "fe80::1"];
        assert!(!decided(None, private.iter().map(|text| at(text))));
        for public in ["203.0.113.9", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:1.1.1.1"]
        {
            let members = || [at("10.1.2.3"), at(public)].into_iter();
            assert!(decided(None, members()), "{public}");
            // What the operator says counts, either way.
            assert!(!decided(Some(false), members()) && !decided(Some(true), members()));
        }
        assert!(!decided(None, std::iter::empty()));
    }

    #[test]
    fn the_option_without_a_value_is_a_yes() {
        let said = |options: Value| asked(&json!({ "Options": options }));
        assert_eq!(said(json!({ "encrypted": "" })), Some(true));
        assert_eq!(said(json!({ "encrypted": "true" })), Some(true));
        assert_eq!(said(json!({ "encrypted": "false" })), Some(false));
        assert_eq!(said(json!({})), None);
        assert_eq!(asked(&json!({})), None);
    }

    #[test]
    fn hosts_have_different_addresses_in_one_range() {
        let (one, other) = (address(NodeId(1 << 127)), address(NodeId(u128::MAX)));
        assert_eq!(one.to_string(), "fd73:686f:616c:8000::");
        assert_eq!(other.to_string(), "fd73:686f:616c:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(address(NodeId(7 << 48)).to_string(), "fd73:686f:616c::7");
        assert!(one.is_unique_local() && other.is_unique_local());
    }
}
