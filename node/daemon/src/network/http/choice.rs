//! Which route a request goes by, and which replica gets it.
//!
//! Of the routes that match, that of the greatest priority; of the service's ready replicas, the one with the
//! fewest requests of this node under way. One that could not be reached is passed over for a moment, as long as there
//! are others: that is seldom, since a replica that is about to stop or turned unhealthy has left the picture before.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use node::network::picture::{Picture, Routed};
use node::network::routes::rule;
use tokio::time::Instant;

/// How long a replica that could not be reached is passed over.
const PASSED_OVER: Duration = Duration::from_secs(2);

/// A request's head, as rules ask about it.
pub(super) struct Asked<'a> {
    pub(super) host: &'a str,
    pub(super) parts: &'a hyper::http::request::Parts,
}

impl rule::Request for Asked<'_> {
    fn host(&self) -> &str {
        self.host
    }
    fn path(&self) -> &str {
        self.parts.uri.path()
    }
    fn method(&self) -> &str {
        self.parts.method.as_str()
    }
    fn has_header(&self, name: &str, value: &str) -> bool {
        let mut values = self.parts.headers.get_all(name).iter();
        values.any(|found| found.as_bytes() == value.as_bytes())
    }
}

/// The route for a request; where two are alike in priority the service's and the route's names decide, so that all
/// nodes agree.
pub(super) fn route<'a>(
    picture: &'a Picture,
    asked: &Asked<'_>,
    secure: bool,
) -> Option<&'a Routed> {
    picture
        .routes
        .iter()
        .filter(|routed| if secure { routed.route.secure } else { routed.route.plain })
        .filter(|routed| routed.route.rule.matches(asked))
        .min_by_key(|routed| {
            (std::cmp::Reverse(routed.route.priority), &routed.name, &routed.route.name)
        })
}

/// What this node has under way with each replica.
#[derive(Default)]
pub(super) struct Load {
    under_way: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    requests: BTreeMap<SocketAddrV4, usize>,
    unreachable: BTreeMap<SocketAddrV4, Instant>,
    turn: usize,
}

/// Counts a request as under way until it is dropped.
pub(super) struct Place {
    load: Arc<Load>,
    pub(super) replica: SocketAddrV4,
}

impl Load {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole between any two statements.
        self.under_way.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A replica for a request, none of those that were tried already. None: there is no other.
    pub(super) fn take(self: &Arc<Self>, routed: &Routed, tried: &[Ipv4Addr]) -> Option<Place> {
        let now = Instant::now();
        let mut counts = self.counts();
        counts.unreachable.retain(|_, until| *until > now);
        let ready: Vec<SocketAddrV4> = routed
            .backends
            .iter()
            .filter(|backend| backend.ready && !backend.draining)
            .filter(|backend| !tried.contains(&backend.address))
            .map(|backend| SocketAddrV4::new(backend.address, routed.route.port))
            .collect();
        counts.turn = counts.turn.wrapping_add(1);
        let first = counts.turn % ready.len().max(1);
        let in_turn = ready.iter().skip(first).chain(ready.iter().take(first));
        let replica = *in_turn.min_by_key(|replica| {
            let under_way = counts.requests.get(replica).copied().unwrap_or_default();
            (counts.unreachable.contains_key(replica), under_way)
        })?;
        *counts.requests.entry(replica).or_default() += 1;
        drop(counts);
        Some(Place { load: self.clone(), replica })
    }

    /// A replica could not be reached.
    pub(super) fn pass_over(&self, replica: SocketAddrV4) {
        self.counts().unreachable.insert(replica, Instant::now() + PASSED_OVER);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.load.counts();
        if let Some(count) = counts.requests.get_mut(&self.replica) {
            *count -= 1;
            if *count == 0 {
                counts.requests.remove(&self.replica);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use membership::id::{NodeId, ServiceId, TaskId};
    use node::network::picture::Backend;
    use node::network::routes::routes;

    use super::*;

    fn routed(name: &str, rule: &str, priority: u64, replicas: u8) -> Routed {
        let label = format!("traefik.http.routers.{name}.rule");
        let (mut found, _) = routes([("traefik.enable", "true"), (label.as_str(), rule)], Some(80));
        let backends = (1..=replicas).map(|last| Backend {
            address: Ipv4Addr::new(10, 0, 0, last),
            node: NodeId(1),
            local: true,
            task: TaskId(u128::from(last)),
            slot_name: format!("{name}.{last}"),
            hostname: None,
            ready: true,
            draining: false,
        });
        let mut route = found.pop().unwrap();
        route.priority = priority;
        Routed { service: ServiceId(1), name: name.to_owned(), route, backends: backends.collect() }
    }

    fn chosen(picture: &Picture, path: &str) -> Option<String> {
        let request = hyper::Request::get(path).body(()).unwrap();
        let (parts, ()) = request.into_parts();
        route(picture, &Asked { host: "a", parts: &parts }, false).map(|one| one.name.clone())
    }

    #[test]
    fn the_greatest_priority_goes_first_and_names_decide_between_equals() {
        let all =
            [("c", "Host(`a`)", 5), ("b", "PathPrefix(`/x`)", 7), ("d", "PathPrefix(`/x`)", 7)];
        let routes = all.map(|(name, rule, priority)| routed(name, rule, priority, 1)).to_vec();
        let mut picture = Picture { routes, ..Picture::default() };
        assert_eq!(chosen(&picture, "/x").unwrap(), "b");
        assert_eq!(chosen(&picture, "/y").unwrap(), "c");
        picture.routes.reverse();
        assert_eq!(chosen(&picture, "/x").unwrap(), "b");
        picture.routes.retain(|one| one.name != "c");
        assert_eq!(chosen(&picture, "/y"), None);
    }

    #[test]
    fn the_replica_with_the_least_to_do_is_taken() {
        let load = Arc::new(Load::default());
        let mut routed = routed("web", "Host(`a`)", 1, 3);
        let three: Vec<Place> = (0..3).map(|_| load.take(&routed, &[]).unwrap()).collect();
        let mut taken: Vec<_> = three.iter().map(|place| place.replica).collect();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 3);
        // One becomes free, and is the next.
        let free = three[1].replica;
        let held: Vec<Place> = three.into_iter().filter(|place| place.replica != free).collect();
        assert_eq!(load.take(&routed, &[]).unwrap().replica, free);
        // But not if it could not be reached, is about to stop, or was tried.
        load.pass_over(free);
        assert_ne!(load.take(&routed, &[]).unwrap().replica, free);
        drop(held);
        for backend in &mut routed.backends {
            backend.draining = backend.address != *free.ip();
        }
        // The only one there is, even so.
        assert_eq!(load.take(&routed, &[]).unwrap().replica, free);
        assert!(load.take(&routed, &[*free.ip()]).is_none());
        assert!(load.counts().requests.is_empty());
    }
}
