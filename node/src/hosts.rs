//! Members and services in placement's words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use membership::id::NodeId;
use membership::member::{EngineState, MemberState};
use placement::host::Closed;
use placement::request::{HostPort, Platform, Protocol as HostProtocol};
use placement::{Accepts, Cluster, Host, MaxPerNode, PLACEMENT_VERSION, Preference, Request};

use crate::members::Known;
use crate::slot::Protocol;
use crate::spec::ServiceSpec;
use crate::views::Availability;

/// `None` until its profile has come.
pub(crate) fn host(id: NodeId, known: &Known) -> Option<Host> {
    let profile = known.profile.as_ref()?;
    Some(Host {
        id,
        name: profile.name.clone(),
        zone: profile.zone.clone(),
        node_labels: known.settings.labels.clone(),
        engine_labels: profile.labels.clone(),
        role: known.settings.role.clone(),
        os: profile.os.clone(),
        arch: profile.arch.clone(),
        ip: known.addr().map_or(IpAddr::from([0, 0, 0, 0]), |a| a.ip()),
        capacity: profile.capacity,
        accepts: accepts(known),
    })
}

fn accepts(known: &Known) -> Accepts {
    let closed = match known.state {
        MemberState::Down => Closed::Down,
        MemberState::Left => Closed::Left,
        MemberState::Draining => Closed::Draining,
        MemberState::Unstable => match known.health.as_ref().map(|h| &h.engine) {
            Some(EngineState::Unavailable { reason, .. }) => {
                Closed::EngineUnavailable { reason: reason.clone() }
            }
            _ => Closed::Unstable,
        },
        MemberState::Alive => {
            let knows = known.profile.as_ref().map_or(0, |p| p.placement_version);
            if known.settings.availability == Availability::Pause {
                Closed::Paused
            } else if known.is_settling() {
                Closed::Settling
            } else if knows < PLACEMENT_VERSION {
                Closed::PlacementVersion { knows }
            } else {
                return Accepts::Yes;
            }
        }
    };
    Accepts::No(closed)
}

/// What placement needs to know of a service.
pub(crate) fn request(service: membership::id::ServiceId, spec: &ServiceSpec) -> Request {
    let host_ports: BTreeSet<HostPort> = spec
        .host_ports
        .iter()
        .filter(|p| p.published != 0)
        .map(|p| HostPort { protocol: protocol(p.protocol), port: p.published })
        .collect();
    Request {
        service,
        resources: spec.reservation,
        constraints: spec.constraints.clone(),
        preferences: spec.spread.iter().filter_map(|s| Preference::parse(s).ok()).collect(),
        max_per_node: match u32::try_from(spec.max_per_node) {
            Ok(0) | Err(_) => None,
            Ok(max) => Some(MaxPerNode::Hard(max)),
        },
        host_ports,
        platforms: spec
            .platforms
            .iter()
            .map(|(os, arch)| Platform { os: os.clone(), arch: arch.clone() })
            .collect(),
        passed_over: BTreeSet::new(),
    }
}

fn protocol(protocol: Protocol) -> HostProtocol {
    match protocol {
        Protocol::Tcp => HostProtocol::Tcp,
        Protocol::Udp => HostProtocol::Udp,
        Protocol::Sctp => HostProtocol::Sctp,
    }
}

/// The weight that races are run with: of a host that is not known, the least.
pub(crate) fn weight_of(cluster: &Cluster, node: NodeId) -> u32 {
    cluster.host(node).map_or(1, Host::weight)
}
