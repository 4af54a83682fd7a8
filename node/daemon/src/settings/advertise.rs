//! Where the other nodes reach this one, worked out without sending anything.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use super::SettingsError;
use super::layers::Sourced;
use super::parse::invalid;

/// An address of the documentation range (RFC 5737). Connecting a UDP socket to it sends nothing; it
/// only makes the kernel look up the route and so say which address it would send from.
const PROBE_V4: &str = "192.0.2.1:9";
/// The same for IPv6 (RFC 3849).
const PROBE_V6: &str = "[2001:db8::1]:9";

pub(super) fn advertise(
    value: Sourced<String>,
    listen: SocketAddr,
) -> Result<SocketAddr, SettingsError> {
    const VALID: &str =
        "an address that the other nodes reach, with or without a port, such as '10.0.0.5'";
    let Some((text, from)) = value else {
        return derived(listen, routed(listen.is_ipv6()), &interface_addresses());
    };
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let parsed = text
        .parse::<SocketAddr>()
        .ok()
        .or_else(|| bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, listen.port())));
    match parsed {
        Some(addr) if addr.ip().is_unspecified() || addr.ip().is_multicast() => {
            Err(invalid("advertise", text, from, "no node can be reached there", VALID))
        }
        Some(addr) if addr.port() == 0 => {
            Err(invalid("advertise", text, from, "port 0 is not a port", VALID))
        }
        Some(addr) => Ok(addr),
        None => Err(invalid("advertise", text, from, "it is not an address", VALID)),
    }
}

/// The rule: a concrete `listen` address; else what the default route uses; else the only candidate.
fn derived(
    listen: SocketAddr,
    routed: Option<IpAddr>,
    candidates: &BTreeSet<IpAddr>,
) -> Result<SocketAddr, SettingsError> {
    let missing = |why: String| SettingsError::Missing {
        setting: "advertise",
        why,
        flag: "--advertise",
        env: "SHOAL_ADVERTISE",
    };
    if !listen.ip().is_unspecified() {
        return Ok(listen);
    }
    if let Some(ip) = routed.filter(|ip| !ip.is_loopback() && !ip.is_unspecified()) {
        return Ok(SocketAddr::new(ip, listen.port()));
    }
    let mut fitting = candidates
        .iter()
        .filter(|ip| listen.is_ipv6() || ip.is_ipv4())
        .copied()
        .collect::<Vec<_>>();
    match (fitting.pop(), fitting.is_empty()) {
        (Some(only), true) => Ok(SocketAddr::new(only, listen.port())),
        (None, _) => Err(missing(
            "this host has no default route and no address but loopback, so the other nodes could not reach it".into(),
        )),
        (Some(last), false) => {
            fitting.push(last);
            let list = fitting.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            Err(missing(format!(
                "this host has no default route and several addresses ({list}), and only you know which of them the other nodes reach"
            )))
        }
    }
}

fn routed(v6: bool) -> Option<IpAddr> {
    let ask = |bind: &str, probe: &str| -> Option<IpAddr> {
        let socket = UdpSocket::bind(bind).ok()?;
        socket.connect(probe).ok()?;
        Some(socket.local_addr().ok()?.ip())
    };
    let v4 = ask("0.0.0.0:0", PROBE_V4);
    if v6 { v4.or_else(|| ask("[::]:0", PROBE_V6)) } else { v4 }
}

/// Addresses of interfaces that are up and lead to other hosts: neither loopback, nor link-local, nor
/// a container engine's own bridges and cables.
fn interface_addresses() -> BTreeSet<IpAddr> {
    use nix::net::if_::InterfaceFlags;
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return BTreeSet::new() };
    interfaces
        .filter(|i| i.flags.contains(InterfaceFlags::IFF_UP))
        .filter(|i| !i.flags.contains(InterfaceFlags::IFF_LOOPBACK))
        .filter(|i| !is_container_interface(&i.interface_name))
        .filter_map(|i| {
            let address = i.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local() && !ip.is_unspecified(),
            // fe80::/10 means nothing to another host without a zone.
            IpAddr::V6(ip) => ip.segments()[0] & 0xffc0 != 0xfe80 && !ip.is_unspecified(),
        })
        .collect()
}

fn is_container_interface(name: &str) -> bool {
    name.starts_with("docker")
        || name.starts_with("veth")
        || (name.starts_with("br-") && name.len() == 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(list: &[&str]) -> BTreeSet<IpAddr> {
        list.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    #[test]
    fn the_rule_goes_from_certain_to_refusing() {
        let any = "0.0.0.0:7946".parse().unwrap();
        let concrete = "10.1.1.1:7000".parse().unwrap();
        let route = Some("10.9.9.9".parse().unwrap());
        assert_eq!(derived(concrete, route, &ips(&[])), Ok(concrete));
        assert_eq!(derived(any, route, &ips(&[])), Ok("10.9.9.9:7946".parse().unwrap()));
        assert_eq!(
            derived(any, None, &ips(&["10.2.2.2", "2001:db8::5"])),
            Ok("10.2.2.2:7946".parse().unwrap())
        );
        let error = derived(any, None, &ips(&["10.2.2.2", "10.3.3.3"])).unwrap_err().to_string();
        assert!(error.contains("10.2.2.2, 10.3.3.3") && error.contains("--advertise"), "{error}");
        assert!(derived(any, None, &ips(&[])).is_err());
    }

    #[test]
    fn asking_the_kernel_does_not_fail_whatever_the_host_has() {
        let _ = routed(true);
        assert!(interface_addresses().iter().all(|ip| !ip.is_loopback()));
    }

    #[test]
    fn bridges_of_engines_are_no_candidates() {
        assert!(is_container_interface("docker0"));
        assert!(is_container_interface("br-0123456789ab"));
        assert!(!is_container_interface("br-lan"));
        assert!(!is_container_interface("eth0"));
    }
}
