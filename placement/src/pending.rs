//! No host is left: all refusals, counted, in the words that Swarm's users look for, followed by what
//! Swarm leaves out: how much is missing, and which hosts are closed and why.

use std::collections::BTreeMap;
use std::fmt;

use crate::host::Closed;
use crate::refusal::{Refusal, RefusalKind};
use crate::request::HostPort;
use crate::units::{Bytes, cpus};

/// How many hosts, amounts, constraints or ports of one kind a message names.
pub const NAMED: usize = 5;

/// Why a slot has no candidate. Each host of the cluster is counted once, under the first check it
/// fails. Its size does not grow with the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    pub counts: BTreeMap<RefusalKind, u32>,
    pub cpu: Option<Shortage>,
    pub memory: Option<Shortage>,
    /// The first hosts that take nothing new, by id, with their names; at most [`NAMED`].
    pub closed: Vec<(String, Closed)>,
    /// Constraints, and for how many hosts each was the first that failed.
    pub constraints: BTreeMap<String, u32>,
    /// Platforms of the hosts that the image does not run on, as os/arch.
    pub platforms: BTreeMap<String, u32>,
    pub ports: BTreeMap<HostPort, u32>,
    pub limit: Option<u32>,
    /// The first hosts that were passed over for this slot; at most [`NAMED`].
    pub passed_over: Vec<String>,
}

/// Hosts with too little of something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shortage {
    pub wanted: u64,
    pub hosts: u32,
    /// What they have free, the largest first; at most [`NAMED`].
    pub free: Vec<u64>,
}

impl Shortage {
    fn add(this: &mut Option<Self>, wanted: u64, free: u64) {
        let this = this.get_or_insert_default();
        this.wanted = wanted;
        this.hosts += 1;
        let place = this.free.partition_point(|other| *other >= free);
        this.free.insert(place, free);
        this.free.truncate(NAMED);
    }
}

impl Pending {
    /// Counts the refusal of one host.
    pub fn add(&mut self, host: &str, refusal: Refusal) {
        *self.counts.entry(refusal.kind()).or_insert(0) += 1;
        match refusal {
            Refusal::Closed(closed) => {
                if self.closed.len() < NAMED {
                    self.closed.push((host.to_owned(), closed));
                }
            }
            Refusal::Cpu { free_milli, wanted_milli } => {
                Shortage::add(&mut self.cpu, wanted_milli, free_milli);
            }
            Refusal::Memory { free_bytes, wanted_bytes } => {
                Shortage::add(&mut self.memory, wanted_bytes, free_bytes);
            }
            Refusal::Constraint { constraint } => {
                *self.constraints.entry(constraint).or_insert(0) += 1;
            }
            Refusal::Platform { os, arch } => {
                *self.platforms.entry(format!("{os}/{arch}")).or_insert(0) += 1;
            }
            Refusal::HostPort(port) => *self.ports.entry(port).or_insert(0) += 1,
            Refusal::MaxPerNode { limit } => self.limit = Some(limit),
            Refusal::PassedOver => {
                if self.passed_over.len() < NAMED {
                    self.passed_over.push(host.to_owned());
                }
            }
            Refusal::Unknown => {}
        }
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> u32 {
        self.counts.values().sum()
    }

    /// What Swarm leaves out, one text for each kind of reason.
    fn details(&self) -> Vec<String> {
        let all = self.hosts();
        let mut details = Vec::new();
        if let Some(cpu) = &self.cpu {
            details.push(shortage(cpu, all, "CPUs", "", &cpus));
        }
        if let Some(memory) = &self.memory {
            let (name, unit) = Bytes(memory.wanted).unit();
            details.push(shortage(memory, all, name, name, &|free| Bytes(free).in_unit(unit)));
        }
        if !self.constraints.is_empty() {
            details.push(list(&self.constraints, |constraint, hosts| {
                format!("{constraint} fails on {hosts}")
            }));
        }
        if !self.platforms.is_empty() {
            details.push(list(&self.platforms, |platform, hosts| {
                format!("the image does not run on {platform} ({hosts})")
            }));
        }
        if !self.ports.is_empty() {
            details.push(list(&self.ports, |port, hosts| format!("{port} is taken on {hosts}")));
        }
        if let Some(limit) = self.limit {
            let hosts = self.counts.get(&RefusalKind::MaxPerNode).copied().unwrap_or(0);
            let hold = if hosts == 1 { "holds" } else { "hold" };
            details.push(format!("{} {hold} {limit} already", nodes(hosts)));
        }
        if !self.closed.is_empty() {
            let named = self.closed.iter().map(|(host, closed)| format!("{host} {closed}"));
            let total = self.counts.get(&RefusalKind::Closed).copied().unwrap_or(0);
            details.push(named.collect::<Vec<_>>().join(", ") + &more(total, self.closed.len()));
        }
        if !self.passed_over.is_empty() {
            let total = self.counts.get(&RefusalKind::PassedOver).copied().unwrap_or(0);
            let named = self.passed_over.join(", ") + &more(total, self.passed_over.len());
            details.push(format!("declined or failed to start it a short while ago: {named}"));
        }
        details
    }
}

fn nodes(count: u32) -> String {
    format!("{count} {}", if count == 1 { "node" } else { "nodes" })
}

fn more(total: u32, named: usize) -> String {
    let rest = (total as usize).saturating_sub(named);
    if rest == 0 { String::new() } else { format!(" and {rest} more") }
}

fn list<K>(counts: &BTreeMap<K, u32>, line: impl Fn(&K, String) -> String) -> String {
    let named = counts.iter().take(NAMED).map(|(key, count)| line(key, nodes(*count)));
    named.collect::<Vec<_>>().join(", ") + &more(counts.len() as u32, counts.len().min(NAMED))
}

/// "no node has 2 GiB free: 3 have 1.2, 0.8, 0.1 GiB"
fn shortage(
    shortage: &Shortage,
    all: u32,
    wanted_unit: &str,
    free_unit: &str,
    text: &dyn Fn(u64) -> String,
) -> String {
    let wanted = text(shortage.wanted);
    let free: Vec<String> = shortage
        .free
        .iter()
        .map(|free| {
            let free = text(*free);
            // Rounding must not make a refusal look like a mistake.
            if free == wanted { format!("just under {free}") } else { free }
        })
        .collect();
    let named = free.join(", ");
    let unit = if free_unit.is_empty() { String::new() } else { format!(" {free_unit}") };
    let (count, have) = (shortage.hosts, if shortage.hosts == 1 { "has" } else { "have" });
    let at_most = if free.len() < count as usize { "at most " } else { "" };
    if count == all {
        format!("no node has {wanted} {wanted_unit} free: {count} {have} {at_most}{named}{unit}")
    } else {
        let nodes = nodes(count);
        format!("{nodes} {have} less than {wanted} {wanted_unit} free: {at_most}{named}{unit}")
    }
}

impl fmt::Display for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.counts.is_empty() {
            return f.write_str("no suitable node: the view has no members");
        }
        f.write_str("no suitable node (")?;
        let mut counts: Vec<_> = self.counts.iter().collect();
        // Swarm names the most frequent reason first.
        counts.sort_by_key(|(kind, count)| (u32::MAX - **count, **kind));
        for (place, (kind, count)) in counts.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "; " })?;
            write_count(f, **kind, **count)?;
        }
        f.write_str(")")?;
        for (place, detail) in self.details().iter().enumerate() {
            f.write_str(if place == 0 { ": " } else { "; " })?;
            f.write_str(detail)?;
        }
        Ok(())
    }
}

/// As swarmkit's filters explain themselves (manager/scheduler/filter.go).
fn write_count(f: &mut fmt::Formatter<'_>, kind: RefusalKind, count: u32) -> fmt::Result {
    let nodes = nodes(count);
    match kind {
        RefusalKind::Closed => write!(f, "{nodes} not available for new tasks"),
        RefusalKind::Resources => write!(f, "insufficient resources on {nodes}"),
        RefusalKind::Constraint => write!(f, "scheduling constraints not satisfied on {nodes}"),
        RefusalKind::Platform => write!(f, "unsupported platform on {nodes}"),
        RefusalKind::HostPort => write!(f, "host-mode port already in use on {nodes}"),
        RefusalKind::MaxPerNode => f.write_str("max replicas per node limit exceed"),
        RefusalKind::PassedOver => write!(f, "passed over on {nodes}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn sum<const N: usize>(refusals: [(&str, Refusal); N]) -> String {
        let mut pending = Pending::default();
        for (host, refusal) in refusals {
            pending.add(host, refusal);
        }
        pending.to_string()
    }

    fn memory(tenths: u64) -> Refusal {
        Refusal::Memory { free_bytes: GIB * tenths / 10, wanted_bytes: 2 * GIB }
    }

    fn constraint(text: &str) -> Refusal {
        Refusal::Constraint { constraint: text.to_owned() }
    }

    #[test]
    fn shortage_names_what_is_free() {
        assert_eq!(
            sum([("a", memory(8)), ("b", memory(12)), ("c", memory(1))]),
            "no suitable node (insufficient resources on 3 nodes): \
             no node has 2 GiB free: 3 have 1.2, 0.8, 0.1 GiB"
        );
        assert_eq!(
            sum([("a", Refusal::Cpu { free_milli: 250, wanted_milli: 1500 })]),
            "no suitable node (insufficient resources on 1 node): \
             no node has 1.5 CPUs free: 1 has 0.25"
        );
        assert_eq!(
            sum([("a", Refusal::Memory { free_bytes: 2 * GIB - 1, wanted_bytes: 2 * GIB })]),
            "no suitable node (insufficient resources on 1 node): \
             no node has 2 GiB free: 1 has just under 2 GiB"
        );
    }

    #[test]
    fn reasons_are_counted_and_the_most_frequent_comes_first() {
        assert_eq!(
            sum([
                ("a", memory(8)),
                ("b", constraint("node.role==manager")),
                ("c", constraint("node.role==manager")),
                ("d", Refusal::Closed(Closed::Draining)),
            ]),
            "no suitable node (scheduling constraints not satisfied on 2 nodes; \
             1 node not available for new tasks; insufficient resources on 1 node): \
             1 node has less than 2 GiB free: 0.8 GiB; node.role==manager fails on 2 nodes; \
             d is draining"
        );
        assert_eq!(
            sum([("a", Refusal::MaxPerNode { limit: 1 }), ("b", Refusal::MaxPerNode { limit: 1 })]),
            "no suitable node (max replicas per node limit exceed): 2 nodes hold 1 already"
        );
        let port = HostPort { protocol: crate::request::Protocol::Tcp, port: 80 };
        assert_eq!(
            sum([("a", Refusal::HostPort(port))]),
            "no suitable node (host-mode port already in use on 1 node): 80/tcp is taken on 1 node"
        );
    }

    #[test]
    fn a_message_does_not_grow_with_the_cluster() {
        let mut pending = Pending::default();
        for host in 0..5000 {
            pending.add(&host.to_string(), Refusal::Closed(Closed::Down));
            pending.add(&host.to_string(), memory(host % 20));
            pending.add(&host.to_string(), Refusal::PassedOver);
        }
        assert!(pending.to_string().len() < 600, "{pending}");
        assert!(pending.to_string().contains("at most 1.9, 1.9, 1.9, 1.9, 1.9 GiB"), "{pending}");
        assert!(pending.to_string().contains("and 4995 more"), "{pending}");
    }
}
