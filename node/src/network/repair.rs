//! From what the kernel has to what it should have: the steps in between.
//!
//! The same comparison builds a network for the first time, takes over what an earlier process left, and mends what
//! somebody deleted. It is made from what was found alone, so a step that failed or came too early is simply planned
//! again the next time.
//!
//! Bridges belong to the engine and are left to it, but for one case: the engine has the network, and its bridge is
//! gone. The engine would notice only at its next start, so the bridge is made again and the containers' ends are
//! plugged back in; they are known by a mark, the alias that each got while all was well.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::devices::{BRIDGE, TUNNEL};
use super::picture::Subnet;
use super::wanted::{Overlay, Tunnel, Wanted, within};

/// What the aliases begin with that shoal gives to devices.
pub const MARK: &str = "shoal";

/// What the kernel and the engine have that could be ours or concern us.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    pub links: BTreeMap<String, Link>,
    /// Of the switches that are wanted, those that this kernel has.
    pub switches: BTreeMap<String, String>,
    /// Bridges that are missing although the engine has their network.
    pub lost: BTreeSet<String>,
}

/// A device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub kind: LinkKind,
    pub up: bool,
    /// In bytes.
    pub mtu: u32,
    /// The bridge that it is plugged into.
    pub bridge: Option<String>,
    pub alias: Option<String>,
    /// A bridge sends back by the same port what came in by it.
    pub hairpin: bool,
    pub addresses: BTreeSet<(IpAddr, u8)>,
    /// Ranges that shoal took for this host's own, by this device, and the address that is sent from.
    pub own: BTreeSet<(Subnet, Option<Ipv4Addr>)>,
    /// Of a tunnel: where it sends what no entry knows a way for.
    pub floods: BTreeSet<IpAddr>,
    /// Of a tunnel: the hosts that it has learned to be the way to some container.
    pub learned: BTreeSet<IpAddr>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkKind {
    Bridge,
    Tunnel {
        vni: u32,
        port: u16,
        local: Option<IpAddr>,
    },
    #[default]
    Other,
}

/// One change of the kernel's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Delete {
        link: String,
    },
    MakeBridge {
        bridge: String,
        mtu: u32,
    },
    Address {
        link: String,
        address: IpAddr,
        prefix: u8,
    },
    MakeTunnel {
        tunnel: Tunnel,
        bridge: String,
        mtu: u32,
    },
    Attach {
        port: String,
        bridge: String,
    },
    Mtu {
        link: String,
        mtu: u32,
    },
    Up {
        link: String,
    },
    /// Give the port the bridge's mark, and let the bridge send back by it.
    MarkPort {
        port: String,
        bridge: String,
    },
    Own {
        bridge: String,
        range: Subnet,
        from: Ipv4Addr,
    },
    Disown {
        bridge: String,
        range: Subnet,
    },
    Flood {
        tunnel: String,
        peer: IpAddr,
    },
    NoFlood {
        tunnel: String,
        peer: IpAddr,
    },
    /// Forget all ways by this host.
    Unlearn {
        tunnel: String,
        peer: IpAddr,
    },
    Switch {
        path: String,
        value: String,
    },
}

impl Step {
    /// Whether it is part of every day's work, and no repair: containers and hosts come and go.
    pub fn is_usual(&self) -> bool {
        matches!(
            self,
            Self::MarkPort { .. }
                | Self::Flood { .. }
                | Self::NoFlood { .. }
                | Self::Unlearn { .. }
                | Self::Disown { .. }
                | Self::Delete { .. }
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Delete { link } => write!(f, "delete the device {link}"),
            Self::MakeBridge { bridge, .. } => write!(f, "make the bridge {bridge} again"),
            Self::Address { link, address, .. } => {
                write!(f, "give {link} its address {address}")
            }
            Self::MakeTunnel { tunnel, .. } => write!(f, "make the tunnel {}", tunnel.name),
            Self::Attach { port, bridge } => write!(f, "plug {port} into {bridge}"),
            Self::Mtu { link, mtu } => write!(f, "set the MTU of {link} to {mtu}"),
            Self::Up { link } => write!(f, "switch {link} on"),
            Self::MarkPort { port, bridge } => write!(f, "mark {port} as a port of {bridge}"),
            Self::Own { bridge, range, .. } => {
                write!(f, "take {}/{} for this host at {bridge}", range.first, range.prefix)
            }
            Self::Disown { bridge, range } => {
                write!(f, "give up {}/{} at {bridge}", range.first, range.prefix)
            }
            Self::Flood { tunnel, peer } => write!(f, "add {peer} to {tunnel}"),
            Self::NoFlood { tunnel, peer } => write!(f, "take {peer} out of {tunnel}"),
            Self::Unlearn { tunnel, peer } => write!(f, "forget ways by {peer} in {tunnel}"),
            Self::Switch { path, value } => write!(f, "set {path} to {value}"),
        }
    }
}

/// What is to be done, in this order. Nothing, when all is as it should be.
pub fn repair(wanted: &Wanted, found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    surplus(wanted, found, &mut steps);
    if let Some(device) = &wanted.device
        && let Some(link) = found.links.get(&device.name)
    {
        if link.mtu != device.mtu {
            steps.push(Step::Mtu { link: device.name.clone(), mtu: device.mtu });
        }
        addressed(&device.name, link, device.address, device.prefix, &mut steps);
    }
    for overlay in wanted.overlays.values() {
        match found.links.get(&overlay.bridge) {
            Some(bridge) => {
                bridged(overlay, bridge, &mut steps);
                ports(overlay, found, &mut steps);
                tunnelled(overlay, found, &mut steps);
            }
            None if found.lost.contains(&overlay.bridge) => {
                steps.push(Step::MakeBridge { bridge: overlay.bridge.clone(), mtu: overlay.mtu })
            }
            // The engine makes it, when the first container comes.
            None => {}
        }
    }
    for (path, value) in &wanted.switches {
        if found.switches.get(path).is_some_and(|is| is != value) {
            steps.push(Step::Switch { path: path.clone(), value: value.clone() });
        }
    }
    steps
}

/// A device that is there gets its address and is switched on.
fn addressed(name: &str, link: &Link, address: IpAddr, prefix: u8, steps: &mut Vec<Step>) {
    if !link.addresses.iter().any(|(has, _)| *has == address) {
        steps.push(Step::Address { link: name.to_owned(), address, prefix });
    }
    if !link.up {
        steps.push(Step::Up { link: name.to_owned() });
    }
}

/// What is ours and not wanted any more.
fn surplus(wanted: &Wanted, found: &Found, steps: &mut Vec<Step>) {
    let tunnels: BTreeSet<&str> = wanted
        .overlays
        .values()
        .filter_map(|overlay| overlay.tunnel.as_ref().map(|tunnel| tunnel.name.as_str()))
        .collect();
    for (name, link) in &found.links {
        let marked = link.alias.as_deref().is_some_and(|alias| alias.starts_with(MARK));
        let ours = match link.kind {
            LinkKind::Tunnel { .. } => marked && name.starts_with(TUNNEL),
            LinkKind::Bridge => marked && name.starts_with(BRIDGE),
            LinkKind::Other => false,
        };
        let is_wanted = tunnels.contains(name.as_str()) || wanted.overlays.contains_key(name);
        if ours && !is_wanted {
            steps.push(Step::Delete { link: name.clone() });
            continue;
        }
        for (range, _) in &link.own {
            let kept = wanted.overlays.get(name).is_some_and(|o| o.virtual_range == *range);
            if !kept {
                steps.push(Step::Disown { bridge: name.clone(), range: *range });
            }
        }
    }
}

fn bridged(overlay: &Overlay, link: &Link, steps: &mut Vec<Step>) {
    let bridge = || overlay.bridge.clone();
    addressed(&overlay.bridge, link, overlay.gateway.into(), overlay.subnet.prefix, steps);
    let own = (overlay.virtual_range, Some(overlay.gateway));
    // No range that holds the bridge's own address or all of the subnet: that would swallow the containers'.
    let sensible = !within(overlay.virtual_range, overlay.gateway)
        && overlay.virtual_range.prefix > overlay.subnet.prefix;
    if sensible && !link.own.contains(&own) {
        steps.push(Step::Own {
            bridge: bridge(),
            range: overlay.virtual_range,
            from: overlay.gateway,
        });
    }
}

/// The mark of a bridge and its ports.
pub fn mark(bridge: &str) -> String {
    format!("{MARK} {bridge}")
}

fn ports(overlay: &Overlay, found: &Found, steps: &mut Vec<Step>) {
    let mark = mark(&overlay.bridge);
    let tunnel = overlay.tunnel.as_ref().map(|tunnel| tunnel.name.as_str());
    for (name, link) in &found.links {
        if Some(name.as_str()) == tunnel || link.kind != LinkKind::Other {
            continue;
        }
        let marked = link.alias.as_deref() == Some(&mark);
        if link.bridge.as_deref() == Some(&overlay.bridge) {
            if !marked || !link.hairpin {
                steps.push(Step::MarkPort { port: name.clone(), bridge: overlay.bridge.clone() });
            }
        } else if marked && link.bridge.is_none() {
            steps.push(Step::Attach { port: name.clone(), bridge: overlay.bridge.clone() });
        }
    }
}

fn tunnelled(overlay: &Overlay, found: &Found, steps: &mut Vec<Step>) {
    let Some(tunnel) = &overlay.tunnel else { return };
    let name = || tunnel.name.clone();
    let make = || Step::MakeTunnel {
        tunnel: tunnel.clone(),
        bridge: overlay.bridge.clone(),
        mtu: overlay.mtu,
    };
    if tunnel.over.as_ref().is_some_and(|device| !found.links.contains_key(device)) {
        // It comes with the process that carries its packets; the kernel takes the tunnel down with it.
        return;
    }
    let Some(link) = found.links.get(&tunnel.name) else {
        steps.push(make());
        return;
    };
    let same = LinkKind::Tunnel { vni: tunnel.vni, port: tunnel.port, local: Some(tunnel.local) };
    if link.kind != same {
        steps.push(Step::Delete { link: name() });
        steps.push(make());
        return;
    }
    if link.bridge.as_deref() != Some(&overlay.bridge) {
        steps.push(Step::Attach { port: name(), bridge: overlay.bridge.clone() });
    }
    if link.mtu != overlay.mtu {
        steps.push(Step::Mtu { link: name(), mtu: overlay.mtu });
    }
    if !link.up {
        steps.push(Step::Up { link: name() });
    }
    for peer in tunnel.peers.difference(&link.floods) {
        steps.push(Step::Flood { tunnel: name(), peer: *peer });
    }
    for peer in link.floods.difference(&tunnel.peers) {
        steps.push(Step::NoFlood { tunnel: name(), peer: *peer });
    }
    for peer in link.learned.difference(&tunnel.peers) {
        steps.push(Step::Unlearn { tunnel: name(), peer: *peer });
    }
}

#[cfg(test)]
#[path = "repair_tests.rs"]
mod tests;
