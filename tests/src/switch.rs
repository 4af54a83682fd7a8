//! The switch that joins the hosts: a bridge in a namespace of its own.
//!
//! Nothing of it is on the machine's own network, so several beds may even use the same addresses, and no
//! firewall, route or interface of the machine can be touched by mistake. Hosts get no default route: with
//! one, the engine's image look-ups wait for DNS.

use std::path::Path;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::cgroup::Group;
use crate::namespace::Namespaces;
use crate::rules::{Faults, port};

/// The bridge, its ports and what it drops.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Switch {
    pub namespaces: Namespaces,
    /// First byte of the addresses.
    first: u8,
    /// Second byte of the addresses, `10.SUBNET.0.0/24`.
    subnet: u8,
    faults: Faults,
}

/// Of addresses in a private network, and of others (in no network that this machine could reach by the switch).
const PRIVATE: u8 = 10;
const PUBLIC: u8 = 51;

impl Switch {
    /// Makes the bridge. `subnet` is the second byte of its addresses; with `public` they are none of a private network.
    pub fn make(bed: &Group, directory: &Path, subnet: u8, public: bool) -> Result<Switch> {
        let group = bed.below("switch");
        group.make()?;
        // Without the sysctl, packets that are merely bridged would pass iptables' chains too.
        let setup = "ip link set lo up; ip link add br0 type bridge forward_delay 0 stp_state 0; \
            ip link set br0 up; \
            if [ -e /proc/sys/net/bridge/bridge-nf-call-iptables ]; then \
            echo 0 > /proc/sys/net/bridge/bridge-nf-call-iptables; fi";
        let namespaces = Namespaces::make(&group, "switch", directory, setup)?;
        let first = if public { PUBLIC } else { PRIVATE };
        Ok(Switch { namespaces, first, subnet, faults: Faults::default() })
    }

    /// The address that a host is given first.
    pub fn address(&self, host: usize) -> String {
        format!("{}.{}.0.{}", self.first, self.subnet, 10 + host)
    }

    /// Another address for a host, not used by any.
    pub fn other_address(&self, host: usize) -> String {
        format!("{}.{}.0.{}", self.first, self.subnet, 110 + host)
    }

    /// Plugs a host in: `eth0` there, a port here. The MAC address stays the host's own over restarts, as
    /// that of a real one would.
    pub fn plug(&self, host: usize, address: &str, inside: &Namespaces) -> Result<()> {
        let (port, pid) = (port(host), inside.pid());
        let mac = format!("02:5a:00:{:02x}:00:{:02x}", self.subnet, 10 + host);
        // The old port goes with the old namespace, but some time later: take it away now.
        self.shell(&format!(
            "ip link del {port} 2>/dev/null || true; \
             ip link add {port} type veth peer name eth0 address {mac} netns {pid}; \
             ip link set {port} master br0; ip link set {port} up"
        ))?;
        let commands = format!(
            "set -e; ip link set lo up; ip address add {address}/24 dev eth0; ip link set eth0 up"
        );
        inside.tool(&["sh", "-c", &commands])?;
        Ok(())
    }

    /// Takes the carrier away at the switch's end: what the host still sends reaches nobody.
    pub fn link_down(&self, host: usize) -> Result<()> {
        self.shell(&format!("ip link set {} down", port(host)))
    }

    /// Gives the carrier back.
    pub fn link_up(&self, host: usize) -> Result<()> {
        self.shell(&format!("ip link set {} up", port(host)))
    }

    /// What is dropped now.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Replaces what is dropped, at once and as a whole.
    pub fn set_faults(&mut self, faults: Faults) -> Result<()> {
        self.namespaces.tool_with_input(&["nft", "-f", "-"], faults.ruleset().as_bytes())?;
        self.faults = faults;
        Ok(())
    }

    fn shell(&self, commands: &str) -> Result<()> {
        self.namespaces.tool(&["sh", "-c", &format!("set -e; {commands}")])?;
        Ok(())
    }
}
