//! A running cluster as the beginning of a scenario: its nodes and services, as a node's Docker-shaped API
//! tells of them.
//!
//! The scenario's own hosts and services make room for the real ones. What its timeline calls by name and
//! the cluster does not have is given to something of the cluster's, and that is told: `rack-2` to the second rack, or the
//! second third of the hosts where there are no racks; a service to the largest one.

use std::collections::{BTreeMap, BTreeSet};

use membership::member::Resources;
use node::spec::ServiceSpec;
use serde_json::{Value, json};

use crate::host::HostSpec;
use crate::links::HostIx;
use crate::scenario::layout::{Layout, MOST_HOSTS, RACK};

/// What a node answered.
#[derive(Clone, Debug, Default)]
pub struct Answers {
    /// `GET /nodes`, `/services` and `/tasks`.
    pub nodes: Value,
    pub services: Value,
    pub tasks: Value,
    /// `GET /shoal/v1/status`, for the zones, which Docker has no word for.
    pub status: Value,
}

/// The paths to ask for, in the order of [`Answers`]' fields.
pub const PATHS: [&str; 4] = ["/nodes", "/services", "/tasks", "/shoal/v1/status"];

/// A cluster to begin with.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub layout: Layout,
    /// Docker's specs.
    pub services: Vec<Value>,
    /// What a reader has to know: what was left out, what is taken for what.
    pub notes: Vec<String>,
}

fn list<'a>(value: &'a Value, path: &str) -> Result<&'a [Value], String> {
    value.as_array().map(Vec::as_slice).ok_or_else(|| {
        format!("the node's answer to GET {path} is no list: is this the socket of a shoal node?")
    })
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let pairs = value.as_object().into_iter().flatten();
    pairs.filter_map(|(key, text)| Some((key.clone(), text.as_str()?.to_owned()))).collect()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

impl Cluster {
    /// Reads a cluster.
    ///
    /// # Errors
    /// A sentence that says why nothing can be simulated with it.
    pub fn read(answers: &Answers) -> Result<Self, String> {
        let mut cluster = Self::default();
        let zones = zones(&answers.status);
        for node in list(&answers.nodes, "/nodes")? {
            cluster.take_node(node, &zones);
        }
        let hosts = cluster.layout.hosts.len();
        if hosts < 2 {
            return Err(format!(
                "the cluster has {hosts} node that can be simulated, and failures are about several: at least two have to be up"
            ));
        }
        if hosts > MOST_HOSTS {
            return Err(format!(
                "the cluster has {hosts} nodes: at most {MOST_HOSTS} are simulated"
            ));
        }
        for service in list(&answers.services, "/services")? {
            cluster.take_service(&service["Spec"]);
        }
        // A node that is down is left out with what was last known of its tasks.
        let down = |node: &&Value| text(node, "/Status/State") == "down";
        let down: BTreeSet<&str> = list(&answers.nodes, "/nodes")?
            .iter()
            .filter(down)
            .map(|node| text(node, "/ID"))
            .collect();
        let running = |task: &&Value| {
            text(task, "/Status/State") == "running" && !down.contains(text(task, "/NodeID"))
        };
        let there = list(&answers.tasks, "/tasks")?.iter().filter(running).count();
        let services = cluster.services.len();
        cluster.notes.insert(
            0,
            format!(
                "taken over from the cluster: {hosts} nodes, {services} service{}; {there} replica{} now",
                if services == 1 { "" } else { "s" },
                if there == 1 { " runs there" } else { "s run there" },
            ),
        );
        Ok(cluster)
    }

    fn take_node(&mut self, node: &Value, zones: &BTreeMap<String, String>) {
        let name = text(node, "/Description/Hostname").to_owned();
        if text(node, "/Status/State") == "down" {
            self.notes.push(format!("{name} is down there, and left out"));
            return;
        }
        let number = |path: &str| node.pointer(path).and_then(Value::as_u64).unwrap_or(0);
        let capacity = Resources {
            cpu_milli: number("/Description/Resources/NanoCPUs") / 1_000_000,
            memory_bytes: number("/Description/Resources/MemoryBytes"),
        };
        let mut own = texts(&node["Description"]["Engine"]["Labels"]);
        let set = texts(&node["Spec"]["Labels"]);
        let rack = own.get(RACK).or(set.get(RACK)).cloned();
        let zone = zones.get(text(node, "/ID")).cloned().or_else(|| own.get("zone").cloned());
        own.retain(|key, _| !key.is_empty());
        let ix = HostIx(self.layout.hosts.len() as u32);
        let host = HostSpec { name, zone: zone.unwrap_or_default(), labels: own, capacity };
        self.layout.push(host, None, None);
        if let Some(rack) = rack {
            self.layout.rack(&rack, ix);
        }
        let (role, availability) = (text(node, "/Spec/Role"), text(node, "/Spec/Availability"));
        let plain = matches!(role, "" | "manager") && matches!(availability, "" | "active");
        if !set.is_empty() || !plain {
            let spec = json!({ "Labels": set, "Role": role, "Availability": availability });
            self.layout.node_specs.insert(ix, spec);
        }
    }

    fn take_service(&mut self, spec: &Value) {
        match ServiceSpec::parse(spec) {
            Ok(_) => {
                let spec = self.without_what_is_not_asked_for(spec);
                self.services.push(spec);
            }
            Err(error) => {
                let name = spec["Name"].as_str().unwrap_or("a service");
                self.notes.push(format!("{name} is left out: {error}"));
            }
        }
    }

    /// Secrets, configs and networks are not taken over: nobody gives their contents away for this, and where a
    /// replica belongs does not depend on them. A task would wait for them for ever.
    fn without_what_is_not_asked_for(&mut self, spec: &Value) -> Value {
        let mut spec = spec.clone();
        let name = spec["Name"].as_str().unwrap_or_default().to_owned();
        let places = [
            ("/TaskTemplate/ContainerSpec", "Secrets"),
            ("/TaskTemplate/ContainerSpec", "Configs"),
        ];
        let places = places.into_iter().chain([("/TaskTemplate", "Networks"), ("", "Networks")]);
        let mut dropped = BTreeSet::new();
        for (path, key) in places {
            let found = spec.pointer_mut(path).and_then(Value::as_object_mut);
            let taken = found.and_then(|object| object.remove(key));
            if taken.as_ref().and_then(Value::as_array).is_some_and(|list| !list.is_empty()) {
                dropped.insert(key.to_lowercase());
            }
        }
        if !dropped.is_empty() {
            let dropped: Vec<String> = dropped.into_iter().collect();
            self.notes.push(format!("{name} is simulated without its {}", dropped.join(", ")));
        }
        spec
    }

    /// Gives the names that a scenario was written with to hosts of this cluster.
    pub fn give_names(&mut self, written: &Layout) {
        self.divide(written);
        let (theirs, ours) = (written.hosts.len().max(1), self.layout.hosts.len());
        let missing: Vec<(String, Vec<HostIx>)> = written
            .groups()
            .filter(|(name, _)| self.layout.group(name).is_none())
            .map(|(name, hosts)| (name.to_owned(), hosts.to_vec()))
            .collect();
        for (name, hosts) in missing {
            let nth = |names: Vec<&str>| names.iter().position(|known| *known == name);
            let same = |known: Vec<&str>, nth: usize| -> Option<Vec<HostIx>> {
                let name = known.get(nth % known.len().max(1))?;
                self.layout.group(name).map(<[HostIx]>::to_vec)
            };
            let meant = nth(written.zones())
                .and_then(|nth| same(self.layout.zones(), nth))
                .or_else(|| nth(written.racks()).and_then(|nth| same(self.layout.racks(), nth)))
                .unwrap_or_else(|| {
                    let first = hosts.first().map_or(0, |host| host.i() * ours / theirs);
                    let count = (hosts.len() * ours / theirs).max(1);
                    (first..(first + count).min(ours)).map(|n| HostIx(n as u32)).collect()
                });
            let names: Vec<&str> =
                meant.iter().map(|host| self.layout.hosts[host.i()].name.as_str()).collect();
            self.notes.push(format!("'{name}' of the scenario is here {}", names.join(", ")));
            meant.into_iter().for_each(|host| self.layout.name(&name, host));
        }
    }

    /// Where the scenario speaks of zones or racks and the cluster has none, thirds of it are taken for them.
    fn divide(&mut self, written: &Layout) {
        let hosts = self.layout.hosts.len();
        let parts = hosts.min(3);
        let part = |n: usize| n * parts / hosts + 1;
        if self.layout.racks().is_empty() && !written.racks().is_empty() {
            self.notes.push(
                "no node has a label 'rack': parts of the cluster are taken for racks".to_owned(),
            );
            for n in 0..hosts {
                self.layout.rack(&format!("rack-{}", part(n)), HostIx(n as u32));
            }
        }
        if self.layout.zones().is_empty() && !written.zones().is_empty() {
            self.notes
                .push("no node is in a zone: parts of the cluster are taken for zones".to_owned());
            for n in 0..hosts {
                self.layout.zone(&format!("zone-{}", part(n)), HostIx(n as u32));
            }
        }
    }

    /// The replicated service that has the most replicas, with their number.
    pub fn largest(&self) -> Option<(String, u64)> {
        let replicated = self.services.iter().filter_map(|spec| {
            let replicas = spec["Mode"]["Replicated"]["Replicas"].as_u64()?;
            Some((replicas, spec["Name"].as_str()?.to_owned()))
        });
        replicated.max_by_key(|(replicas, _)| *replicas).map(|(replicas, name)| (name, replicas))
    }
}

/// Zones by the id of the node.
fn zones(status: &Value) -> BTreeMap<String, String> {
    let members = status["members"].as_array().into_iter().flatten();
    members
        .filter_map(|member| Some((member["id"].as_str()?, member["zone"].as_str()?)))
        .filter(|(_, zone)| !zone.is_empty())
        .map(|(id, zone)| (id.to_owned(), zone.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests;
