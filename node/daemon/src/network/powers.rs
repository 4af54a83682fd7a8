//! What this process or this kernel may lack, and what does not work without it: found out at the start, each by
//! trying, so that a later failure needs no guessing.

use std::path::Path;

use node::network::wanted::Host;

use super::links::Kernel;
use super::tool::run;

/// Whether packets that cross a bridge pass the rules of IP.
const BRIDGED: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// The bit of the right to change the network, in a process's capabilities.
const NET_ADMIN: u32 = 12;

/// Whether the kernel shows bridged packets to the rules; asks for the module if it is not there yet.
pub(super) async fn sees_bridged() -> bool {
    if !Path::new(BRIDGED).exists() {
        // A kernel that has it built in, or not at all, has no module.
        let _ = run("modprobe", &["br_netfilter"], None).await;
    }
    Path::new(BRIDGED).exists()
}

/// One sentence for each thing that is missing.
pub(super) async fn missing(kernel: Option<&Kernel>, host: &Host) -> Vec<String> {
    let mut missing = Vec::new();
    if !may_change_the_network() {
        missing.push(
            "shoal may not change this host's network (it is not root, and lacks CAP_NET_ADMIN): containers here are \
             on no overlay network, and published ports of services are not open here. Everything else works"
                .to_owned(),
        );
        return missing;
    }
    if let Some(kernel) = kernel
        && let Err(error) = kernel.try_tunnel(host.port).await
    {
        missing.push(format!(
            "this kernel makes no VXLAN device ({error}): containers of an overlay network reach those on this host \
             only. Load the module 'vxlan'"
        ));
    }
    if let Err(error) = run("nft", &["--version"], None).await {
        missing.push(format!(
            "no packet rules can be made ({error}): virtual addresses of services and published ports do not work \
             here; containers reach each other by their own addresses and by tasks.NAME. Install the package \
             'nftables'"
        ));
    }
    if let Err(error) = run("iptables", &["--version"], None).await {
        missing.push(format!(
            "the engine's firewall cannot be told of published ports ({error}): they are reached from this host \
             only. Install the package 'iptables'"
        ));
    }
    if !host.sees_bridged {
        missing.push(
            "this kernel does not show bridged packets to its rules (br_netfilter): replicas see this host's address \
             instead of the client's when they are asked by their virtual address. Load the module 'br_netfilter'"
                .to_owned(),
        );
    }
    missing
}

fn may_change_the_network() -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/thread-self/status") else { return true };
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    // What cannot be read is left to be tried.
    bits.is_none_or(|bits| bits & (1 << NET_ADMIN) != 0)
}
