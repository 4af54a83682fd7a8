//! What a name means to a container: which addresses stand behind `web`, `tasks.web` or `web.1` on its networks.
//!
//! As in Swarm a service's name is its virtual address, `tasks.NAME` all of its replicas, and a service that asked for
//! no virtual address has its replicas under its own name. Only replicas on nodes that are alive are in the picture,
//! and only those that are ready and stay are given out. A name that no network here knows is somebody else's: the
//! server asks the host's own resolvers. A name that is known and has nothing behind it is answered as empty, so that
//! nobody goes looking for it on the internet.

use std::net::{IpAddr, Ipv4Addr};

use membership::id::{NetworkId, TaskId};

use super::picture::{Attached, Backend, Network, Picture};

/// Asks for all replicas of the service named after it.
const TASKS: &str = "tasks.";

/// The addresses behind a name, for the container at `from` that asked on `network`; in the order to try them.
///
/// A container on several networks asks on one of them, and knows the names of all. A name may be followed by the name
/// of its network (`web.backend`). `turn` says with which address the list begins, so that clients that take the
/// first spread over all; any number will do. None: no network of this container knows the name.
#[must_use]
pub fn addresses(
    picture: &Picture,
    network: NetworkId,
    from: Ipv4Addr,
    name: &str,
    turn: u64,
) -> Option<Vec<Ipv4Addr>> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let mut known = false;
    let mut found = Vec::new();
    for one in networks_of(picture, network, from) {
        let here = one.name.to_ascii_lowercase();
        let short = name.strip_suffix(&here).and_then(|rest| rest.strip_suffix('.'));
        for name in [Some(name.as_str()), short].into_iter().flatten() {
            if let Some(addresses) = on_network(one, name) {
                known = true;
                found.extend(addresses);
            }
        }
    }
    if !found.is_empty() {
        let first = usize::try_from(turn % found.len() as u64).unwrap_or_default();
        found.rotate_left(first);
    }
    known.then_some(found)
}

/// The name of what has an address on one of the asking container's networks, as `web.1.<task>.<network>` or, of a
/// virtual address, `web.<network>`.
#[must_use]
pub fn name_of(
    picture: &Picture,
    network: NetworkId,
    from: Ipv4Addr,
    address: Ipv4Addr,
) -> Option<String> {
    for one in networks_of(picture, network, from) {
        for service in one.services.values() {
            if service.address == Some(address) {
                return Some(format!("{}.{}", service.name, one.name));
            }
            if let Some(backend) = service.backends.iter().find(|one| one.address == address) {
                return Some(format!("{}.{}", container_name(backend), one.name));
            }
        }
    }
    None
}

/// Whom to ask, for the container at `from` on `network`, about a name that no network here knows; empty: whom the host
/// asks.
#[must_use]
pub fn resolvers(picture: &Picture, network: NetworkId, from: Ipv4Addr) -> &[IpAddr] {
    let services = picture.networks.get(&network).into_iter().flat_map(|one| one.services.values());
    let mut asking =
        services.filter(|service| service.backends.iter().any(|backend| backend.address == from));
    asking.next().map(|service| service.resolvers.as_slice()).unwrap_or_default()
}

/// The network that was asked on, first, and the others that the same task is on.
fn networks_of(
    picture: &Picture,
    network: NetworkId,
    from: Ipv4Addr,
) -> impl Iterator<Item = &Network> {
    let asked = picture.networks.get(&network);
    let task = asked.and_then(|asked| local_task(asked, |one| one.address == from));
    let others = picture.networks.iter().filter(move |(id, other)| {
        **id != network
            && task.is_some_and(|task| local_task(other, |one| one.task == task).is_some())
    });
    asked.into_iter().chain(others.map(|(_, other)| other))
}

fn local_task(network: &Network, wanted: impl Fn(&Backend) -> bool) -> Option<TaskId> {
    let mut backends = network.services.values().flat_map(|service| &service.backends);
    backends.find(|one| one.local && wanted(one)).map(|one| one.task)
}

/// None: the network does not know the name.
fn on_network(network: &Network, name: &str) -> Option<Vec<Ipv4Addr>> {
    let all = name.strip_prefix(TASKS);
    let mut known = None;
    for service in network.services.values() {
        if all.is_some_and(|name| is_called(service, name)) {
            known.get_or_insert_with(Vec::new).extend(serving(service));
        } else if is_called(service, name) {
            let found = known.get_or_insert_with(Vec::new);
            match service.address {
                Some(address) => found.push(address),
                None => found.extend(serving(service)),
            }
        }
    }
    if known.is_some() {
        return known;
    }
    // One replica, by the name of its slot, of its container or of its own choosing. Who asks for just this one gets
    // it as long as it runs: there is no other to take its place.
    for backend in network.services.values().flat_map(|service| &service.backends) {
        let own = backend.hostname.as_deref().is_some_and(|host| host.eq_ignore_ascii_case(name));
        if own
            || backend.slot_name.eq_ignore_ascii_case(name)
            || container_name(backend).eq_ignore_ascii_case(name)
        {
            known.get_or_insert_with(Vec::new).push(backend.address);
        }
    }
    known
}

fn is_called(service: &Attached, name: &str) -> bool {
    service.name.eq_ignore_ascii_case(name)
        || service.aliases.iter().any(|alias| alias.eq_ignore_ascii_case(name))
}

fn serving(service: &Attached) -> impl Iterator<Item = Ipv4Addr> {
    service.backends.iter().filter(|one| one.ready && !one.draining).map(|one| one.address)
}

fn container_name(backend: &Backend) -> String {
    format!("{}.{}", backend.slot_name, backend.task)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use membership::id::{NodeId, ServiceId};

    use super::super::picture::Subnet;
    use super::*;

    fn at(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    fn backend(address: &str, slot: u32, task: u128, local: bool) -> Backend {
        Backend {
            address: at(address),
            node: NodeId(if local { 1 } else { 2 }),
            local,
            task: TaskId(task),
            slot_name: format!("web.{slot}"),
            hostname: (slot == 2).then(|| "Second".to_owned()),
            ready: true,
            draining: false,
        }
    }

    fn service(name: &str, address: Option<&str>, backends: Vec<Backend>) -> Attached {
        Attached {
            name: name.to_owned(),
            aliases: vec![format!("{name}-alias")],
            address: address.map(at),
            backends,
            ..Attached::default()
        }
    }

    fn network(name: &str, services: Vec<Attached>) -> Network {
        Network {
            name: name.to_owned(),
            subnet: Subnet { first: at("10.1.0.0"), prefix: 16 },
            vni: 1,
            internal: false,
            encrypted: false,
            open: false,
            mtu: None,
            virtual_range: Subnet { first: at("10.1.0.0"), prefix: 22 },
            gateway: at("10.1.4.1"),
            plain: Subnet { first: at("10.1.4.0"), prefix: 24 },
            peers: BTreeMap::new(),
            services: (1..).map(ServiceId).zip(services).collect(),
        }
    }

    const FRONT: NetworkId = NetworkId(1);
    const BACK: NetworkId = NetworkId(2);

    /// A service with a virtual address on the front network, one without on the back, and a task that is on both.
    fn picture() -> Picture {
        let web = vec![backend("10.1.5.1", 1, 11, true), backend("10.1.6.1", 2, 12, false)];
        let both = vec![backend("10.2.5.1", 1, 11, true)];
        let mut rows = vec![backend("10.2.5.2", 3, 21, true), backend("10.2.6.2", 4, 22, false)];
        rows.push(Backend { ready: false, ..backend("10.2.6.3", 5, 23, false) });
        rows.push(Backend { draining: true, ..backend("10.2.6.4", 6, 24, false) });
        let front = network("front", vec![service("web", Some("10.1.0.9"), web)]);
        let back = network("back", vec![service("web", None, both), service("rows", None, rows)]);
        Picture { networks: BTreeMap::from([(FRONT, front), (BACK, back)]), ..Picture::default() }
    }

    fn ask(from: &str, on: NetworkId, name: &str) -> Option<Vec<String>> {
        let found = addresses(&picture(), on, at(from), name, 0)?;
        Some(found.iter().map(Ipv4Addr::to_string).collect())
    }

    #[test]
    fn a_service_is_its_virtual_address_or_what_serves() {
        let stranger = "10.1.4.9";
        for name in ["web", "WEB", "web.", "web-alias", "web.front", "Web.Front."] {
            assert_eq!(ask(stranger, FRONT, name).unwrap(), ["10.1.0.9"], "{name}");
        }
        assert_eq!(ask(stranger, FRONT, "tasks.web").unwrap(), ["10.1.5.1", "10.1.6.1"]);
        assert_eq!(ask(stranger, FRONT, "tasks.web.front").unwrap(), ["10.1.5.1", "10.1.6.1"]);
        // Not the one that is not ready, nor the one that is about to stop.
        for name in ["rows", "tasks.rows", "rows.back"] {
            assert_eq!(ask("10.2.4.9", BACK, name).unwrap(), ["10.2.5.2", "10.2.6.2"], "{name}");
        }
    }

    #[test]
    fn one_replica_has_names_of_its_own() {
        let from = "10.1.4.9";
        let container = format!("web.2.{}", TaskId(12));
        for name in ["web.2", "second", container.as_str(), "web.2.front"] {
            assert_eq!(ask(from, FRONT, name).unwrap(), ["10.1.6.1"], "{name}");
        }
        // Also one that is not ready: it is the only one that can be meant.
        assert_eq!(ask("10.2.4.9", BACK, "web.5").unwrap(), ["10.2.6.3"]);
    }

    #[test]
    fn names_of_other_networks_are_unknown_but_to_who_is_on_both() {
        assert_eq!(ask("10.1.4.9", FRONT, "rows"), None);
        assert_eq!(ask("10.1.6.1", FRONT, "rows"), None);
        assert_eq!(ask("10.1.5.1", FRONT, "rows").unwrap().len(), 2);
        assert_eq!(ask("10.1.5.1", FRONT, "rows.front"), None);
        for name in ["example.org", "tasks.", "", ".", "front", "web.front.front"] {
            assert_eq!(ask("10.1.4.9", FRONT, name), None, "{name}");
        }
        assert_eq!(ask("10.1.4.9", NetworkId(9), "web"), None);
    }

    #[test]
    fn a_known_name_with_nothing_behind_it_is_empty() {
        let mut picture = picture();
        let back = picture.networks.get_mut(&BACK).unwrap();
        for service in back.services.values_mut() {
            service.backends.clear();
        }
        assert_eq!(addresses(&picture, BACK, at("10.2.4.9"), "rows", 7), Some(Vec::new()));
    }

    #[test]
    fn lists_begin_elsewhere_each_time() {
        let first =
            |turn| addresses(&picture(), FRONT, at("10.1.4.9"), "tasks.web", turn).unwrap()[0];
        assert_eq!(
            [first(0), first(1), first(2)],
            [at("10.1.5.1"), at("10.1.6.1"), at("10.1.5.1")]
        );
        assert_eq!(first(u64::MAX), first(1));
    }

    #[test]
    fn who_asks_has_the_resolvers_of_its_own_service() {
        let mut picture = picture();
        let own: IpAddr = "9.9.9.9".parse().unwrap();
        for service in picture.networks.get_mut(&BACK).unwrap().services.values_mut() {
            service.resolvers = vec![own];
        }
        assert_eq!(resolvers(&picture, BACK, at("10.2.5.2")), [own]);
        assert!(resolvers(&picture, FRONT, at("10.1.6.1")).is_empty());
        // Nobody that is known.
        assert!(resolvers(&picture, BACK, at("10.2.4.9")).is_empty());
    }

    #[test]
    fn addresses_have_names() {
        let name = |address| name_of(&picture(), FRONT, at("10.1.4.9"), at(address));
        assert_eq!(name("10.1.0.9").unwrap(), "web.front");
        assert_eq!(name("10.1.6.1").unwrap(), format!("web.2.{}.front", TaskId(12)));
        assert_eq!(name("10.2.5.2"), None);
    }
}
