//! Which hosts a service may run on, as somebody would work it out who sees everything: what liveness
//! demands must be possible.

use std::collections::BTreeSet;
use std::net::IpAddr;

use membership::id::NodeId;
use node::spec::{Mode, ServiceSpec};
use node::views::MemberView;
use placement::{Accepts, Host};

use super::Run;

/// The hosts for one service.
#[derive(Clone, Debug, Default)]
pub(super) struct Suited {
    pub(super) nodes: Vec<NodeId>,
    /// So many replicas have room on them, if nothing else ran there.
    pub(super) room: u64,
    /// All hosts are alike to the service: its replicas have to lie evenly.
    pub(super) alike: bool,
}

fn host(member: &MemberView) -> Option<Host> {
    let profile = member.profile.as_ref()?;
    Some(Host {
        id: member.id,
        name: member.name.clone(),
        zone: profile.zone.clone(),
        node_labels: member.labels.clone(),
        engine_labels: profile.labels.clone(),
        role: member.role.clone(),
        os: profile.os.clone(),
        arch: profile.arch.clone(),
        ip: IpAddr::from([0, 0, 0, 0]),
        capacity: profile.capacity,
        accepts: Accepts::Yes,
    })
}

/// How often an amount goes into what there is; without limit where nothing is asked for.
fn times(there: u64, asked: u64) -> u64 {
    there.checked_div(asked).unwrap_or(u64::MAX)
}

impl Run {
    /// Every replicated service has to lie evenly.
    pub(super) fn all_alike(&self) -> bool {
        let wanted = self.agreed().unwrap_or_default();
        let mut replicated = wanted.values().filter(|(_, mode, _)| *mode == Mode::Replicated);
        replicated.all(|(_, _, spec)| self.suited(spec).alike)
    }

    /// For the service of this spec, by the labels that the first host which acts knows of.
    pub(super) fn suited(&self, spec: &str) -> Suited {
        let parsed =
            serde_json::from_str(spec).ok().and_then(|spec| ServiceSpec::parse(&spec).ok());
        let acting = self.world.hosts.iter().filter(|host| host.acts());
        let ids: BTreeSet<NodeId> = acting.clone().map(|host| host.id).collect();
        let core = acting.clone().next().and_then(|host| host.process.as_ref());
        let (Some(spec), Some(process)) = (parsed, core) else { return Suited::default() };
        let members = process.core.members();
        let hosts = members.iter().filter(|member| ids.contains(&member.id)).filter_map(host);
        let suited: Vec<Host> = hosts
            .filter(|host| spec.constraints.iter().all(|constraint| constraint.holds(host)))
            .collect();
        let asked = spec.reservation;
        let on_one = |host: &Host| {
            let (cpu, memory) = (host.capacity.cpu_milli, host.capacity.memory_bytes);
            let most = if spec.max_per_node == 0 { u64::MAX } else { spec.max_per_node };
            let fits = times(cpu, asked.cpu_milli).min(times(memory, asked.memory_bytes));
            if spec.host_ports.is_empty() { fits.min(most) } else { fits.min(1) }
        };
        let capacities: BTreeSet<(u64, u64)> = suited
            .iter()
            .map(|host| (host.capacity.cpu_milli, host.capacity.memory_bytes))
            .collect();
        let plain = spec.constraints.is_empty()
            && spec.spread.is_empty()
            && spec.max_per_node == 0
            && asked == membership::member::Resources::default();
        Suited {
            nodes: suited.iter().map(|host| host.id).collect(),
            room: suited.iter().map(on_one).fold(0, u64::saturating_add),
            alike: plain && capacities.len() <= 1 && suited.len() == ids.len(),
        }
    }
}
