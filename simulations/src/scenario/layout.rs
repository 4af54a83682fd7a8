//! The hosts of a scenario and the groups that steps can name: the whole cluster, zones, racks, the
//! tables of the file, single hosts.

use std::collections::{BTreeMap, BTreeSet};

use membership::member::Resources;
use serde_json::{Value, json};

use super::amount;
use super::file::Hosts;
use super::problem::Problems;
use crate::host::HostSpec;
use crate::links::HostIx;
use crate::time::Span;

/// The most hosts that a scenario may have: beyond that a gossip group is full (docs/ARCHITECTURE.md).
pub const MOST_HOSTS: usize = 969;
/// The label that says in which rack a host stands.
pub const RACK: &str = "rack";

/// Hosts, and what they are called together.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    pub hosts: Vec<HostSpec>,
    /// Hosts that start for the first time so long after the beginning of the timeline.
    pub joins: BTreeMap<HostIx, Span>,
    /// Hosts that have no token and want to join all the same.
    pub outsiders: BTreeSet<HostIx>,
    /// What operators have set on nodes before the timeline begins: labels, role, availability, as
    /// Docker's NodeSpec.
    pub node_specs: BTreeMap<HostIx, Value>,
    groups: BTreeMap<String, Vec<HostIx>>,
    zones: Vec<String>,
    racks: Vec<String>,
}

impl Layout {
    pub(super) fn of(tables: &[Hosts], problems: &mut Problems) -> Self {
        let mut layout = Self::default();
        let (mut zones, mut racks) = (0, 0);
        for (n, table) in tables.iter().enumerate() {
            let place = format!("hosts[{}]", n + 1);
            let count = table.count.unwrap_or(1);
            if count == 0 || layout.hosts.len() + count > MOST_HOSTS {
                let text = format!(
                    "{count} is out of range: all tables together may have 1 to {MOST_HOSTS} hosts"
                );
                problems.add(&place, "count", text);
                continue;
            }
            let capacity = Resources {
                cpu_milli: problems.take(&place, "cpus", amount::cores(table.cpus.unwrap_or(8.0))),
                memory_bytes: problems.take(
                    &place,
                    "memory",
                    amount::bytes(table.memory.as_deref().unwrap_or("32GiB")),
                ),
            };
            let joins = table
                .joins
                .as_deref()
                .map(|text| problems.take(&place, "joins", amount::span(text)));
            if table.zone.is_some() && table.zones.is_some() {
                problems.add(&place, "zones", "give either `zone`, a name, or `zones`, a number");
            }
            if table.rack.is_some() && table.racks.is_some() {
                problems.add(&place, "racks", "give either `rack`, a name, or `racks`, a number");
            }
            let name = table.name.clone().unwrap_or_else(|| "host".to_owned());
            let before = layout.named(&name);
            for i in 0..count {
                // Contiguous blocks: with a multiple of the zones' number, racks lie within zones.
                let block = |blocks: usize| i * blocks / count + 1;
                let zone = table.zones.filter(|zones| *zones > 0);
                let zone =
                    zone.map(|all| format!("zone-{}", zones + block(all))).or(table.zone.clone());
                let rack = table.racks.filter(|racks| *racks > 0);
                let rack =
                    rack.map(|all| format!("rack-{}", racks + block(all))).or(table.rack.clone());
                let own = if count == 1 && before == 0 && table.name.is_some() {
                    name.clone()
                } else {
                    format!("{name}-{}", before + i + 1)
                };
                let mut labels = table.labels.clone();
                labels.extend(rack.map(|rack| (RACK.to_owned(), rack)));
                if !table.node_labels.is_empty() {
                    let ix = HostIx(layout.hosts.len() as u32);
                    let spec = json!({ "Labels": table.node_labels, "Availability": "active" });
                    layout.node_specs.insert(ix, spec);
                }
                if table.outsider == Some(true) {
                    layout.outsiders.insert(HostIx(layout.hosts.len() as u32));
                }
                let host = HostSpec { name: own, zone: zone.unwrap_or_default(), labels, capacity };
                layout.push(host, table.name.as_deref(), joins);
            }
            zones += table.zones.unwrap_or(0);
            racks += table.racks.unwrap_or(0);
        }
        if layout.hosts.len() < 2 {
            problems.add("hosts", "count", "a cluster takes at least two hosts");
        }
        if layout.joins.len() == layout.hosts.len() {
            problems.add("hosts", "joins", "some hosts have to be there from the beginning");
        }
        // Everybody is told to join the first three: somebody of them has to be there.
        let late_or_out = layout.joins.keys().chain(&layout.outsiders);
        if late_or_out.into_iter().any(|host| host.i() < 3) {
            problems.add("hosts", "joins", "the first three hosts are those that others join: let hosts that join later, and outsiders, stand below them");
        }
        layout
    }

    /// So many hosts bear this name with a number already.
    fn named(&self, name: &str) -> usize {
        let numbered = |host: &&HostSpec| {
            host.name.rsplit_once('-').is_some_and(|(base, number)| {
                base == name && number.bytes().all(|byte| byte.is_ascii_digit())
            })
        };
        self.hosts.iter().filter(numbered).count()
    }

    /// Takes one more host in, under its name, its zone, its rack and a group's name.
    pub fn push(&mut self, host: HostSpec, group: Option<&str>, joins: Option<Span>) {
        let ix = HostIx(u32::try_from(self.hosts.len()).unwrap_or(u32::MAX));
        if !host.zone.is_empty() {
            self.zone(&host.zone.clone(), ix);
        }
        if let Some(rack) = host.labels.get(RACK).cloned() {
            self.rack(&rack, ix);
        }
        self.name(&host.name.clone(), ix);
        if let Some(group) = group {
            self.name(group, ix);
        }
        if let Some(after) = joins {
            self.joins.insert(ix, after);
        }
        self.hosts.push(host);
    }

    /// A host goes by this name too, alone or with others.
    pub fn name(&mut self, name: &str, host: HostIx) {
        let group = self.groups.entry(name.to_owned()).or_default();
        if !group.contains(&host) {
            group.push(host);
        }
    }

    pub fn zone(&mut self, zone: &str, host: HostIx) {
        self.zones.push(zone.to_owned());
        self.zones.sort();
        self.zones.dedup();
        self.name(zone, host);
    }

    pub fn rack(&mut self, rack: &str, host: HostIx) {
        self.racks.push(rack.to_owned());
        self.racks.sort();
        self.racks.dedup();
        self.name(rack, host);
    }

    /// Every name, with its hosts.
    pub fn groups(&self) -> impl Iterator<Item = (&str, &[HostIx])> {
        self.groups.iter().map(|(name, hosts)| (name.as_str(), hosts.as_slice()))
    }

    pub fn group(&self, name: &str) -> Option<&[HostIx]> {
        self.groups.get(name).map(Vec::as_slice)
    }

    pub fn all(&self) -> Vec<HostIx> {
        (0..self.hosts.len()).map(|n| HostIx(n as u32)).collect()
    }

    /// Names that several hosts share, for messages.
    pub fn group_names(&self) -> Vec<&str> {
        let shared = self.groups.iter().filter(|(_, hosts)| hosts.len() > 1);
        shared.map(|(name, _)| name.as_str()).collect()
    }

    pub fn zones(&self) -> Vec<&str> {
        self.zones.iter().map(String::as_str).collect()
    }

    pub fn racks(&self) -> Vec<&str> {
        self.racks.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Result<Layout, String> {
        #[derive(serde::Deserialize)]
        struct Only {
            hosts: Vec<Hosts>,
        }
        let only: Only = toml::from_str(text).map_err(|e| e.to_string())?;
        let mut problems = Problems::default();
        let layout = Layout::of(&only.hosts, &mut problems);
        problems.end("test").map(|()| layout).map_err(|e| e.to_string())
    }

    #[test]
    fn racks_lie_within_zones_and_names_are_counted_through() {
        let layout = hosts(
            "[[hosts]]\ncount = 12\nzones = 2\nracks = 4\n[[hosts]]\nname = 'db'\ncount = 2\n[[hosts]]\nname = 'lone'",
        )
        .unwrap();
        assert_eq!(layout.hosts.len(), 15);
        assert_eq!(layout.zones(), ["zone-1", "zone-2"]);
        assert_eq!(layout.group("rack-2").unwrap(), [HostIx(3), HostIx(4), HostIx(5)]);
        assert_eq!(layout.group("zone-1").unwrap().len(), 6);
        assert_eq!(layout.hosts[12].name, "db-1");
        assert_eq!(layout.group("db").unwrap().len(), 2);
        assert_eq!(layout.hosts[14].name, "lone");
    }

    #[test]
    fn what_makes_no_cluster_is_said() {
        for (text, says) in [
            ("[[hosts]]\ncount = 0", "hosts[1].count"),
            ("[[hosts]]\ncount = 1", "at least two"),
            ("[[hosts]]\ncount = 3\nmemory = '7'", "hosts[1].memory"),
            ("[[hosts]]\ncount = 3\ncpus = -1.0", "hosts[1].cpus"),
            ("[[hosts]]\ncount = 3\nzone = 'a'\nzones = 2", "hosts[1].zones"),
            ("[[hosts]]\ncount = 3\njoins = '5s'", "from the beginning"),
            ("[[hosts]]\njoins = '5s'\n[[hosts]]\ncount = 3", "stand below"),
            ("[[hosts]]\ncount = 3\ncolour = 'red'", "unknown field"),
        ] {
            let error = hosts(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
