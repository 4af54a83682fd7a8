//! What a network's devices are called on every host, and how large its packets may be.
//!
//! ```text
//! container --- bridge (sh...) --- tunnel (sv...) ~~~ the way between the hosts ~~~ the other hosts' tunnels
//! ```
//!
//! The bridge belongs to the host's engine, which plugs containers into it; the tunnel is shoal's. Both are named by
//! the network's id, so that they are found again by a process that knows nothing yet.

use membership::id::NetworkId;

/// What the kernel takes for a device's name, in bytes.
pub const MAX_NAME: usize = 15;
/// How many characters of a network's id stand in a device's name: some 60 bits.
const SHORT: usize = 12;

/// What the names of bridges begin with.
pub const BRIDGE: &str = "sh";
/// What the names of tunnels begin with.
pub const TUNNEL: &str = "sv";

/// The device whose packets travel to the other hosts encrypted.
pub const ENCRYPTED: &str = "shoal0";

/// The UDP port that the hosts' tunnels send to. Not 4789, VXLAN's own: Swarm and others may use that on the same host,
/// and a port belongs to one of them.
pub const TUNNEL_PORT: u16 = 4790;

/// What a tunnel puts around a packet, in bytes: Ethernet 14, VXLAN 8, UDP 8, and IPv4 20 or IPv6 40.
const AROUND_V4: u32 = 50;
const AROUND_V6: u32 = 70;
/// What Ethernet carries where nothing else is known, in bytes.
pub const USUAL_MTU: u32 = 1500;
/// The least that IPv4 hosts must take (RFC 791, with room for a header); no way between hosts is narrower.
const LEAST_MTU: u32 = 576;

/// The engine's bridge of a network.
pub fn bridge_name(network: NetworkId) -> String {
    named(BRIDGE, network)
}

/// shoal's tunnel to the other hosts of a network.
pub fn tunnel_name(network: NetworkId) -> String {
    named(TUNNEL, network)
}

// The first characters, as Docker shortens ids: so a device is found from what `docker network ls` shows.
fn named(prefix: &str, network: NetworkId) -> String {
    let id = network.to_string();
    format!("{prefix}{}", id.get(..SHORT).unwrap_or(&id))
}

/// How large a container's packets on a network may be, in bytes: what was asked for, but no more than fits into the
/// packets between hosts, which are `way` bytes at most. The hosts' addresses are IPv6 if `v6`.
pub fn mtu(way: u32, v6: bool, asked: Option<u32>) -> u32 {
    let around = if v6 { AROUND_V6 } else { AROUND_V4 };
    let fits = way.saturating_sub(around).max(LEAST_MTU);
    asked.map_or(fits, |asked| asked.clamp(LEAST_MTU, fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel_and_differ() {
        let (one, other) = (NetworkId(1 << 100), NetworkId(u128::MAX));
        assert_eq!(bridge_name(other), "shf5lxx1zz5pno");
        assert_eq!(tunnel_name(other), "svf5lxx1zz5pno");
        assert_ne!(bridge_name(one), bridge_name(other));
        assert!(bridge_name(other).len() <= MAX_NAME && tunnel_name(one).len() <= MAX_NAME);
    }

    #[test]
    fn packets_are_as_large_as_the_way_allows() {
        assert_eq!(mtu(1500, false, None), 1450);
        assert_eq!(mtu(1500, true, None), 1430);
        assert_eq!(mtu(9000, false, None), 8950);
        assert_eq!(mtu(9000, false, Some(1400)), 1400);
        // More than fits would be lost on the way, in silence.
        assert_eq!(mtu(1500, false, Some(9000)), 1450);
        assert_eq!(mtu(0, false, Some(0)), 576);
    }
}
