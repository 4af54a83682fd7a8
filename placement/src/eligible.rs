//! The checks of one host: what it is (fixed while the view stands) and what room it has (changes with
//! every replica). Each can say why not.

use membership::id::NodeId;
use membership::member::Resources;

use crate::cluster::{Cluster, Index, plus};
use crate::host::Accepts;
use crate::refusal::Refusal;
use crate::request::{MaxPerNode, Request};

/// Whether `node` can take one more replica now: for global services, and for a host's own last word
/// on its exact load. Replicas per host are not counted here; [`admits`] does.
pub fn eligible(cluster: &Cluster, request: &Request, node: NodeId) -> Result<(), Refusal> {
    let at = cluster.index(node).ok_or(Refusal::Unknown)?;
    verdict(cluster, request, at, Own::default())
}

/// As [`eligible`], for one slot and with `holds` replicas of the service already on `node` (counted
/// in its load): also checks the limit per node and whether the node is passed over for this slot.
pub fn admits(
    cluster: &Cluster,
    request: &Request,
    node: NodeId,
    slot: u32,
    holds: u32,
) -> Result<(), Refusal> {
    eligible(cluster, request, node)?;
    below_limit(request, holds)?;
    if request.passed_over.contains(&(slot, node)) {
        return Err(Refusal::PassedOver);
    }
    Ok(())
}

/// What a plan in progress knows beyond the published load.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Own {
    /// Replicas of the service counted on the host so far.
    pub(crate) count: u32,
    /// How many of them the published load lacks; negative while it contains some that are not yet
    /// counted.
    pub(crate) shift: i64,
}

/// All checks in Swarm's order (readiness, resources, constraints, platform, ports, limit), so that a
/// host is counted under the reason that Swarm would give.
pub(crate) fn verdict(
    cluster: &Cluster,
    request: &Request,
    at: Index,
    own: Own,
) -> Result<(), Refusal> {
    open(cluster, at)?;
    has_resources(cluster, request, at, own)?;
    suits(cluster, request, at)?;
    has_ports(cluster, request, at, own)?;
    below_limit(request, own.count)
}

/// Takes new replicas at all, and is a host of the wanted kind: nothing that load could change.
pub(crate) fn fixed(cluster: &Cluster, request: &Request, at: Index) -> bool {
    cluster.is_open(at) && suits(cluster, request, at).is_ok()
}

/// Has room for one more: nothing but load.
pub(crate) fn has_room(cluster: &Cluster, request: &Request, at: Index, own: Own) -> bool {
    has_resources(cluster, request, at, own).is_ok()
        && has_ports(cluster, request, at, own).is_ok()
        && below_limit(request, own.count).is_ok()
}

fn open(cluster: &Cluster, at: Index) -> Result<(), Refusal> {
    match &cluster.host_at(at).accepts {
        Accepts::Yes => Ok(()),
        Accepts::No(closed) => Err(Refusal::Closed(closed.clone())),
    }
}

/// Constraints and platform.
pub(crate) fn suits(cluster: &Cluster, request: &Request, at: Index) -> Result<(), Refusal> {
    let host = cluster.host_at(at);
    if let Some(constraint) = request.constraints.iter().find(|c| !c.holds(host)) {
        return Err(Refusal::Constraint { constraint: constraint.to_string() });
    }
    if !request.platforms.is_empty() && !request.platforms.iter().any(|p| p.fits(host)) {
        return Err(Refusal::Platform { os: host.os.clone(), arch: host.arch.clone() });
    }
    Ok(())
}

/// What is reserved on the host when `own` is taken into account.
pub(crate) fn reserved(cluster: &Cluster, request: &Request, at: Index, own: Own) -> Resources {
    plus(cluster.load_at(at).reserved, request.resources, own.shift)
}

/// The hard bound: declared capacity, where it is known.
fn has_resources(cluster: &Cluster, request: &Request, at: Index, own: Own) -> Result<(), Refusal> {
    let capacity = cluster.capacity(at);
    let reserved = reserved(cluster, request, at, own);
    let free_milli = capacity.cpu_milli.saturating_sub(reserved.cpu_milli);
    let wanted_milli = request.resources.cpu_milli;
    if capacity.cpu_milli > 0 && wanted_milli > free_milli {
        return Err(Refusal::Cpu { free_milli, wanted_milli });
    }
    let free_bytes = capacity.memory_bytes.saturating_sub(reserved.memory_bytes);
    let wanted_bytes = request.resources.memory_bytes;
    if capacity.memory_bytes > 0 && wanted_bytes > free_bytes {
        return Err(Refusal::Memory { free_bytes, wanted_bytes });
    }
    Ok(())
}

fn has_ports(cluster: &Cluster, request: &Request, at: Index, own: Own) -> Result<(), Refusal> {
    let used = &cluster.load_at(at).host_ports;
    for port in &request.host_ports {
        let users = i64::from(used.get(port).copied().unwrap_or(0));
        if users.saturating_add(own.shift) > 0 {
            return Err(Refusal::HostPort(*port));
        }
    }
    Ok(())
}

fn below_limit(request: &Request, count: u32) -> Result<(), Refusal> {
    match request.max_per_node {
        Some(MaxPerNode::Hard(limit)) if count >= limit => Err(Refusal::MaxPerNode { limit }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::worlds::{GIB, host, request};
    use crate::{Closed, Host, HostPort, Load, Platform, Protocol};

    /// One host of 4 cores and 8 GiB, with 3 cores and 6 GiB reserved and port 80 taken.
    fn check(change: impl Fn(&mut Host, &mut Request)) -> Result<(), Refusal> {
        let (mut host, mut request) = (host(0, "", 4, 8), request(1));
        change(&mut host, &mut request);
        let node = host.id;
        let mut cluster = Cluster::new([host]);
        let reserved = Resources { cpu_milli: 3000, memory_bytes: 6 * GIB };
        let port = HostPort { protocol: Protocol::Tcp, port: 80 };
        cluster.set_load(node, Load { reserved, tasks: 3, host_ports: [(port, 1)].into() });
        eligible(&cluster, &request, node)
    }

    #[test]
    fn declared_capacity_is_filled_to_the_last_byte_and_no_further() {
        assert_eq!(check(|_, r| r.resources.memory_bytes = 2 * GIB), Ok(()));
        let (free_bytes, wanted_bytes) = (2 * GIB, 2 * GIB + 1);
        let refusal = Refusal::Memory { free_bytes, wanted_bytes };
        assert_eq!(check(|_, r| r.resources.memory_bytes = wanted_bytes), Err(refusal));
        assert_eq!(check(|_, r| r.resources.cpu_milli = 1000), Ok(()));
        let refusal = Refusal::Cpu { free_milli: 1000, wanted_milli: 1001 };
        assert_eq!(check(|_, r| r.resources.cpu_milli = 1001), Err(refusal));
    }

    #[test]
    fn unknown_capacity_sets_no_limit_and_who_reserves_nothing_always_fits() {
        let unknown = |host: &mut Host| host.capacity = Resources::default();
        let wants = Resources { cpu_milli: u64::MAX, memory_bytes: u64::MAX };
        assert_eq!(check(|h, r| (unknown(h), r.resources = wants).1), Ok(()));
        assert_eq!(check(|h, _| h.capacity = Resources { cpu_milli: 1, memory_bytes: 1 }), Ok(()));
    }

    #[test]
    fn a_port_is_taken_for_its_protocol_only() {
        let port = |protocol| HostPort { protocol, port: 80 };
        let tcp = port(Protocol::Tcp);
        assert_eq!(check(|_, r| _ = r.host_ports.insert(tcp)), Err(Refusal::HostPort(tcp)));
        assert_eq!(check(|_, r| _ = r.host_ports.insert(port(Protocol::Udp))), Ok(()));
    }

    #[test]
    fn architectures_are_known_by_both_names() {
        let runs_on = |os: &'static str, arch: &'static str| {
            let platform = Platform { os: os.to_owned(), arch: arch.to_owned() };
            check(move |_, r| r.platforms = vec![platform.clone()])
        };
        assert_eq!(runs_on("linux", "amd64"), Ok(()));
        assert_eq!(runs_on("", "x86_64"), Ok(()));
        assert_eq!(runs_on("Linux", ""), Ok(()));
        let refusal = Refusal::Platform { os: "linux".to_owned(), arch: "x86_64".to_owned() };
        assert_eq!(runs_on("linux", "arm64"), Err(refusal.clone()));
        assert_eq!(runs_on("windows", "amd64"), Err(refusal));
    }

    #[test]
    fn a_closed_host_says_why() {
        let closed = Closed::EngineUnavailable { reason: "no answer for 10 s".to_owned() };
        let refusal = check(|h, _| h.accepts = Accepts::No(closed.clone())).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "has a container engine that does not answer (no answer for 10 s)"
        );
        let cluster = Cluster::new([]);
        assert_eq!(eligible(&cluster, &request(1), NodeId(1)), Err(Refusal::Unknown));
    }
}
