//! A member as Docker's API shows a node.
//!
//! Every node is a manager: it takes any command. None is the leader. A role that an operator set is
//! shown as set and counts for constraints, and takes nothing away from the node.

use membership::member::MemberState;
use node::views::{Availability, MemberView};
use serde_json::{Value, json};

use super::rfc3339;

pub(super) fn node(view: &MemberView) -> Value {
    let mut node = json!({
        "ID": view.id.to_string(),
        "Version": { "Index": view.version },
        "CreatedAt": rfc3339::from_wall(view.created),
        "UpdatedAt": rfc3339::from_wall(view.updated),
        "Spec": {
            "Labels": view.labels,
            "Role": role(view),
            "Availability": availability(view.availability),
        },
        "Description": description(view),
        "Status": status(view),
        "ManagerStatus": {
            "Reachability": if view.state.holds_claims() { "reachable" } else { "unreachable" },
            "Addr": view.addr,
        },
    });
    // As set, and only where it is: a client that reads a spec and writes it back changes nothing.
    if let Some(name) = &view.given_name {
        node["Spec"]["Name"] = json!(name);
    }
    node
}

fn status(view: &MemberView) -> Value {
    let mut out = json!({ "State": state(view.state), "Addr": host_part(&view.addr) });
    if !view.reason.is_empty() {
        out["Message"] = json!(view.reason);
    }
    out
}

/// Docker knows ready, unknown, down and disconnected. Only `down` makes the CLI ignore tasks.
pub(super) fn state(state: MemberState) -> &'static str {
    match state {
        MemberState::Alive | MemberState::Draining => "ready",
        MemberState::Unstable => "unknown",
        MemberState::Down | MemberState::Left => "down",
    }
}

pub(super) fn role(view: &MemberView) -> &str {
    if view.role.is_empty() { "manager" } else { &view.role }
}

pub(super) fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

/// `10.0.0.1` of `10.0.0.1:7946`
pub(super) fn host_part(addr: &str) -> &str {
    let host = addr.rsplit_once(':').map_or(addr, |(host, _)| host);
    host.trim_start_matches('[').trim_end_matches(']')
}

fn description(view: &MemberView) -> Value {
    let Some(profile) = &view.profile else {
        return json!({
            "Hostname": view.name,
            "Platform": { "Architecture": "", "OS": "" },
            // Portainer adds these up and needs numbers on every node.
            "Resources": { "NanoCPUs": 0, "MemoryBytes": 0 },
            "Engine": { "EngineVersion": "" },
        });
    };
    let mut engine = json!({ "EngineVersion": profile.engine_version });
    if !profile.labels.is_empty() {
        engine["Labels"] = json!(profile.labels);
    }
    json!({
        "Hostname": view.name,
        "Platform": { "Architecture": profile.arch, "OS": profile.os },
        "Resources": {
            "NanoCPUs": profile.capacity.cpu_milli.saturating_mul(1_000_000),
            "MemoryBytes": profile.capacity.memory_bytes,
        },
        "Engine": engine,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_of_an_address() {
        for (addr, host) in
            [("10.0.0.1:7946", "10.0.0.1"), ("[fd00::1]:7946", "fd00::1"), ("", ""), ("x", "x")]
        {
            assert_eq!(host_part(addr), host);
        }
    }
}
