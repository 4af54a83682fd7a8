//! The packet rules that spread connections over replicas, as one text for `nft`.
//!
//! The text replaces shoal's own tables as a whole and at once: packets meet the old rules or the new ones, and
//! connections that are established keep the replica that they have. What the rules say:
//!
//! - A new connection to a virtual address, or to a published port of this host, goes to one of the service's ready
//!   replicas in turn ([`eligible`] says to which); and is refused if there is none.
//! - Addresses stay as they are, so that a replica sees who asks, unless the answer would then miss this host: a
//!   replica on another host reached by a published port, a container that is given itself, a client on the loopback; and
//!   datagrams from outside for a replica that is on other networks too, which may answer them from its address there.
//! - Each host answers for virtual addresses itself; questions for them do not cross to other hosts.
//! - Only hosts of the cluster may put packets into a network from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use super::balance::eligible;
use super::devices::ENCRYPTED;
use super::picture::{Backend, Ingress, Picture, Subnet};
use super::wanted::{Host, Overlay, within};
use crate::slot::Protocol;

/// All tables of shoal's have this name, one for each of [`FAMILIES`].
pub const TABLE: &str = "shoal";

/// What the tables are for, as nft calls it.
pub const FAMILIES: [&str; 3] = ["ip", "ip6", "bridge"];

/// Takes all tables away, whether they are there or not.
pub fn no_rules() -> String {
    let mut text = String::new();
    forget(&mut text);
    text
}

// A table is declared before it is deleted, for deleting what is not there is an error.
fn forget(text: &mut String) {
    for family in FAMILIES {
        text.push_str(&format!("table {family} {TABLE}\ndelete table {family} {TABLE}\n"));
    }
}

pub(super) fn script(
    picture: &Picture,
    overlays: &BTreeMap<String, Overlay>,
    host: &Host,
) -> String {
    let mut script = Script::default();
    for overlay in overlays.values() {
        script.network(picture, overlay, host);
    }
    for ingress in &picture.ingress {
        script.published(ingress);
    }
    script.finish(overlays, host)
}

#[derive(Default)]
struct Script {
    /// Elements of the maps from a destination to a chain.
    by_bridge: Vec<String>,
    by_address: Vec<String>,
    by_port: BTreeMap<String, String>,
    /// Containers that may be given themselves.
    itself: BTreeSet<Ipv4Addr>,
    /// Sets of this host's own replicas, by network.
    sets: String,
    chains: String,
    answers: String,
}

impl Script {
    fn network(&mut self, picture: &Picture, overlay: &Overlay, host: &Host) {
        let Some(network) = picture.networks.get(&overlay.network) else { return };
        let bridge = &overlay.bridge;
        let mut here = BTreeSet::new();
        for (service, attached) in &network.services {
            here.extend(attached.backends.iter().filter(|b| b.local).map(|b| b.address));
            let Some(address) = attached.address else { continue };
            let Some(target) = target(&attached.backends, attached.prefer_local) else { continue };
            let chain = format!("v_{service}_{bridge}");
            let _ = writeln!(self.chains, "\tchain {chain} {{\n\t\tdnat to {target}\n\t}}");
            self.by_bridge.push(format!("\"{bridge}\" . {address} : goto {chain}"));
            self.by_address.push(format!("{address} : goto {chain}"));
        }
        for ingress in &picture.ingress {
            let on_it = |b: &&Backend| b.local && within(overlay.subnet, b.address);
            here.extend(ingress.backends.iter().filter(on_it).map(|b| b.address));
        }
        let apart = picture.ingress.iter().filter(|ingress| ingress.on_others);
        let apart = apart.filter(|ingress| ingress.protocol == Protocol::Udp);
        let apart: BTreeSet<Ipv4Addr> = apart
            .flat_map(|ingress| &ingress.backends)
            .filter(|backend| here.contains(&backend.address))
            .map(|backend| backend.address)
            .collect();
        for (name, addresses) in [("here", &here), ("apart", &apart)] {
            let addresses = addresses.iter().map(ToString::to_string);
            self.sets.push_str(&set(&format!("{name}_{bridge}"), "ipv4_addr", addresses));
        }
        self.answers.push_str(&answers(overlay, host));
        self.itself.extend(here);
    }

    fn published(&mut self, ingress: &Ingress) {
        let Some(protocol) = protocol_name(ingress.protocol) else { return };
        if ingress.proxy.is_some() {
            // Taken by shoal itself, which says who asked.
            return;
        }
        let Some(target) = target(&ingress.backends, ingress.prefer_local) else { return };
        let (published, port) = (ingress.published, ingress.target);
        let chain = format!("p_{protocol}_{published}");
        // Two services never have one port; should the picture say so all the same, the first one keeps it.
        let key = format!("{protocol} . {published}");
        if self.by_port.contains_key(&key) {
            return;
        }
        self.by_port.insert(key, chain.clone());
        let _ = writeln!(
            self.chains,
            "\tchain {chain} {{\n\t\tmeta l4proto {protocol} dnat to {target}:{port}\n\t}}"
        );
    }

    fn finish(self, overlays: &BTreeMap<String, Overlay>, host: &Host) -> String {
        let mut text = String::new();
        forget(&mut text);
        let ports = self.by_port.iter().map(|(port, chain)| format!("{port} : goto {chain}"));
        let itself = self.itself.iter().map(|address| format!("{address} . {address}"));
        let ranges = overlays.values().map(|overlay| cidr(overlay.virtual_range));
        let _ = writeln!(text, "table ip {TABLE} {{");
        text.push_str(&map("virtual", "ifname . ipv4_addr : verdict", self.by_bridge.into_iter()));
        text.push_str(&map("virtual_here", "ipv4_addr : verdict", self.by_address.into_iter()));
        text.push_str(&map("published", "inet_proto . inet_service : verdict", ports));
        text.push_str(&set("itself", "ipv4_addr . ipv4_addr", itself));
        text.push_str(&set("ranges", "ipv4_addr; flags interval", ranges));
        text.push_str(&self.sets);
        text.push_str(&senders(overlays, "ipv4_addr", IpAddr::is_ipv4));
        text.push_str(&self.chains);
        text.push_str(TRANSLATE);
        let _ = writeln!(
            text,
            "\tchain answers {{\n\t\ttype nat hook postrouting priority 95\n{}\t}}",
            self.answers
        );
        text.push_str(&guards(overlays, host));
        text.push_str("}\n");
        text.push_str(&guard_v6(overlays, host));
        text.push_str(&questions(overlays));
        text
    }
}

/// Before the engine's own translation (-100), so that a port that shoal publishes is shoal's.
const TRANSLATE: &str = "\
\tchain arriving {
\t\ttype nat hook prerouting priority -105
\t\tiifname . ip daddr vmap @virtual
\t\tip daddr @ranges return
\t\tfib daddr type local meta l4proto . th dport vmap @published
\t}
\tchain leaving {
\t\ttype nat hook output priority -105
\t\tip daddr vmap @virtual_here
\t\tip daddr @ranges return
\t\tfib daddr type local meta l4proto . th dport vmap @published
\t}
";

/// Which connections get this host's address instead of the client's, so that answers come back through it.
fn answers(overlay: &Overlay, host: &Host) -> String {
    let Overlay { bridge, gateway, subnet, .. } = overlay;
    let subnet = cidr(*subnet);
    let mut text = format!(
        "\t\toifname \"{bridge}\" ct status dnat ip saddr . ip daddr @itself snat to {gateway}\n\
         \t\toifname \"{bridge}\" ct status dnat ip saddr 127.0.0.0/8 snat to {gateway}\n\
         \t\toifname \"{bridge}\" ct status dnat ip saddr != {subnet} ip daddr != @here_{bridge} snat to {gateway}\n\
         \t\toifname \"{bridge}\" ct status dnat meta l4proto udp ip saddr != {subnet} ip daddr @apart_{bridge} snat to {gateway}\n"
    );
    if !host.sees_bridged {
        // Replicas answer a neighbour directly, and nobody would translate that answer back.
        let _ = writeln!(
            text,
            "\t\toifname \"{bridge}\" ct status dnat ip saddr {subnet} snat to {gateway}"
        );
    }
    text
}

/// What is refused or dropped.
fn guards(overlays: &BTreeMap<String, Overlay>, host: &Host) -> String {
    let mut arriving = String::new();
    let mut leaving = String::new();
    for bridge in overlays.keys() {
        let _ = writeln!(arriving, "\t\tiifname \"{bridge}\" ip daddr 127.0.0.0/8 drop");
        // A host that sends back where it came from tells the sender of a shorter way; there is none.
        let _ = writeln!(leaving, "\t\toifname \"{bridge}\" icmp type redirect drop");
    }
    let tunnels = overlays.values().any(|overlay| overlay.tunnel.is_some());
    let outsiders = if tunnels && host.address.is_ipv4() {
        format!("\t\tudp dport {} fib daddr type local ip saddr != @senders drop\n", host.port)
    } else {
        String::new()
    };
    // What is left for a virtual address after translation has no replica to go to. Without this the host itself
    // would answer, with whatever listens on it.
    format!(
        "\tchain foreign {{\n\t\ttype filter hook prerouting priority -300\n{arriving}{outsiders}\t}}\n\
         \tchain unserved {{\n\t\ttype filter hook input priority -5\n\
         \t\tip daddr @ranges meta l4proto tcp reject with tcp reset\n\
         \t\tip daddr @ranges reject with icmp port-unreachable\n\t}}\n\
         \tchain redirects {{\n\t\ttype filter hook output priority -5\n{leaving}\t}}\n"
    )
}

/// The same for tunnels over IPv6. What comes by the device that decrypts was vouched for there.
fn guard_v6(overlays: &BTreeMap<String, Overlay>, host: &Host) -> String {
    let port = host.port;
    let foreign = if overlays.values().any(|overlay| overlay.tunnel.is_some()) {
        format!(
            "\t\tudp dport {port} fib daddr type local iifname != \"{ENCRYPTED}\" ip6 saddr != @senders drop\n"
        )
    } else {
        String::new()
    };
    let senders = senders(overlays, "ipv6_addr", IpAddr::is_ipv6);
    format!(
        "table ip6 {TABLE} {{\n{senders}\
         \tchain foreign {{\n\t\ttype filter hook prerouting priority -300\n{foreign}\t}}\n}}\n"
    )
}

fn senders(
    overlays: &BTreeMap<String, Overlay>,
    kind: &str,
    version: fn(&IpAddr) -> bool,
) -> String {
    let peers: BTreeSet<String> = overlays
        .values()
        .filter_map(|overlay| overlay.tunnel.as_ref())
        .filter(|tunnel| tunnel.over.is_none())
        .flat_map(|tunnel| &tunnel.peers)
        .filter(|peer| version(peer))
        .map(ToString::to_string)
        .collect();
    set("senders", kind, peers.into_iter())
}

/// Which questions for addresses (ARP) do not cross between hosts.
fn questions(overlays: &BTreeMap<String, Overlay>) -> String {
    let (mut crossing, mut own) = (String::new(), String::new());
    for overlay in overlays.values() {
        let Some(tunnel) = &overlay.tunnel else { continue };
        let (name, range) = (&tunnel.name, cidr(overlay.virtual_range));
        for (side, about) in
            [("oifname", "daddr"), ("oifname", "saddr"), ("iifname", "daddr"), ("iifname", "saddr")]
        {
            let _ = writeln!(crossing, "\t\t{side} \"{name}\" arp {about} ip {range} drop");
        }
        for about in ["daddr", "saddr"] {
            let _ = writeln!(own, "\t\toifname \"{name}\" arp {about} ip {range} drop");
        }
    }
    format!(
        "table bridge {TABLE} {{\n\
         \tchain crossing {{\n\t\ttype filter hook forward priority 0\n{crossing}\t}}\n\
         \tchain own {{\n\t\ttype filter hook output priority 0\n{own}\t}}\n}}\n"
    )
}

/// Where new connections go, as nft writes it: to each of the replicas that share them, in turn.
fn target(backends: &[Backend], prefer_local: bool) -> Option<String> {
    let chosen = eligible(backends, prefer_local);
    match chosen.as_slice() {
        [] => None,
        [only] => Some(only.address.to_string()),
        all => {
            let turns: Vec<String> = all
                .iter()
                .enumerate()
                .map(|(turn, backend)| format!("{turn} : {}", backend.address))
                .collect();
            Some(format!("numgen inc mod {} map {{ {} }}", all.len(), turns.join(", ")))
        }
    }
}

fn protocol_name(protocol: Protocol) -> Option<&'static str> {
    match protocol {
        Protocol::Tcp => Some("tcp"),
        Protocol::Udp => Some("udp"),
        // Not every kernel translates it.
        Protocol::Sctp => None,
    }
}

fn cidr(range: Subnet) -> String {
    format!("{}/{}", range.first, range.prefix)
}

fn set(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    named("set", name, kind, elements)
}

fn map(name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    named("map", name, kind, elements)
}

fn named(what: &str, name: &str, kind: &str, elements: impl Iterator<Item = String>) -> String {
    let elements: Vec<String> = elements.collect();
    // nft takes no empty list.
    let listed = if elements.is_empty() {
        String::new()
    } else {
        format!("\t\telements = {{ {} }}\n", elements.join(", "))
    };
    format!("\t{what} {name} {{\n\t\ttype {kind}\n{listed}\t}}\n")
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
