//! What an operator does, as data: drawn from a seed, written down, cut and replayed.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::service;
use crate::chance::Chance;

impl fmt::Display for Act {
    /// As a line of a report.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { service, draft } => {
                let share =
                    if draft.global { "global".to_owned() } else { draft.replicas.to_string() };
                write!(f, "create s{service}: {share} of {}", draft.image)
            }
            Self::Scale { service, replicas } => write!(f, "scale s{service} to {replicas}"),
            Self::Update { service, .. } => write!(f, "update s{service}"),
            Self::Remove { service } => write!(f, "remove s{service}"),
            Self::Drain { host } => write!(f, "drain h{host}"),
            Self::Activate { host } => write!(f, "activate h{host}"),
            Self::CreateAsset { asset, secret, .. } => {
                write!(f, "create {} a{asset}", if *secret { "secret" } else { "config" })
            }
            Self::ReplaceConfig { asset, .. } => write!(f, "replace config a{asset}"),
            Self::RemoveAsset { asset } => write!(f, "remove a{asset}"),
            Self::CreateNetwork { network, .. } => write!(f, "create network n{network}"),
            Self::RemoveNetwork { network } => write!(f, "remove network n{network}"),
            Self::Attach { service, .. } => write!(f, "attach s{service} to other networks"),
        }
    }
}

/// A service to create, by what differs between services here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// How it behaves: `sim/web`, `sim/crash`, ...
    pub image: String,
    /// One on each node, whatever `replicas` says.
    #[serde(default, skip_serializing_if = "is_default")]
    pub global: bool,
    pub replicas: u64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub health_check: bool,
    /// The label `shoal.partition`, where it has one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub partition: Option<String>,
    /// `start-first` or `stop-first`, and how many at once.
    #[serde(default, skip_serializing_if = "is_default")]
    pub update: Option<(String, u64)>,
    /// Thousandths of a core that each replica reserves.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cpu_milli: u64,
    /// A job of `replicas` slots, of which so many run at once; on each node once where it is global.
    #[serde(default, skip_serializing_if = "is_default")]
    pub job: Option<u64>,
    /// At most so many replicas on one node; 0 for any number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub per_node: u64,
    /// Only on hosts with the label `disk=ssd`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub on_ssd: bool,
    /// Secrets and configs that its tasks get as files, by number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub files: Vec<u32>,
    /// Networks that its tasks are on, by number.
    #[serde(default, skip_serializing_if = "is_default")]
    pub networks: Vec<u32>,
    /// The port at which it is reached on every node.
    #[serde(default, skip_serializing_if = "is_default")]
    pub port: Option<u16>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Draft {
    /// A plain web server.
    pub fn web(replicas: u64) -> Self {
        Self {
            image: "sim/web".to_owned(),
            global: false,
            replicas,
            health_check: false,
            partition: None,
            update: None,
            cpu_milli: 0,
            job: None,
            per_node: 0,
            on_ssd: false,
            files: Vec::new(),
            networks: Vec::new(),
            port: None,
        }
    }

    /// A job that can be done on any node.
    pub fn draw_job(most_slots: u64, chance: &mut Chance) -> Self {
        let slots = chance.between(1, most_slots);
        let image = ["sim/job", "sim/job", "sim/flaky-job"][chance.index(3)];
        Self {
            image: image.to_owned(),
            global: chance.per_mille(250),
            partition: chance.per_mille(150).then(|| "majority".to_owned()),
            cpu_milli: if chance.per_mille(300) { chance.between(10, 100) } else { 0 },
            job: Some(chance.between(1, slots)),
            ..Self::web(slots)
        }
    }

    fn draw(most_replicas: u64, hosts: u64, chance: &mut Chance) -> Self {
        let images = [
            "sim/web",
            "sim/web",
            "sim/web",
            "sim/web",
            "sim/flaky",
            "sim/crash",
            "sim/slow",
            "sim/sick",
            "sim/missing",
        ];
        let mut draft = Self::web(chance.between(1, most_replicas));
        draft.image = chance.pick(&images).copied().unwrap_or("sim/web").to_owned();
        draft.health_check = chance.per_mille(300);
        draft.global = chance.per_mille(150);
        if chance.per_mille(200) {
            let policies = ["majority", "fenced"];
            draft.partition = chance.pick(&policies).map(|policy| (*policy).to_owned());
        }
        if chance.per_mille(300) {
            let orders = ["start-first", "stop-first"];
            let parallelism = chance.between(0, 3);
            draft.update = chance.pick(&orders).map(|order| ((*order).to_owned(), parallelism));
        }
        // Little enough that everything fits on any one host: what is pending is no failure, but shows
        // nothing either.
        if chance.per_mille(200) {
            draft.cpu_milli = chance.between(10, 100);
        }
        match chance.below(8) {
            0 => draft.per_node = chance.between(1, 3),
            1 => draft.on_ssd = true,
            _ => {}
        }
        draft.fit(hosts);
        draft
    }

    /// No more replicas than so many hosts may run.
    pub fn fit(&mut self, hosts: u64) {
        if self.per_node > 0 {
            self.replicas = self.replicas.min(self.per_node * hosts);
        }
    }

    /// Docker's spec.
    pub fn spec(&self, name: &str) -> Value {
        let mut spec = service(name, &self.image, self.replicas);
        let task = &mut spec["TaskTemplate"];
        if self.health_check {
            task["ContainerSpec"]["Healthcheck"] = json!({ "Test": ["CMD", "true"] });
        }
        if self.cpu_milli > 0 {
            let nano = self.cpu_milli * 1_000_000;
            task["Resources"] = json!({ "Reservations": { "NanoCPUs": nano } });
        }
        if self.per_node > 0 {
            task["Placement"] = json!({ "MaxReplicas": self.per_node });
        }
        if self.on_ssd {
            task["Placement"] = json!({ "Constraints": ["engine.labels.disk==ssd"] });
        }
        if let Some(most) = self.job {
            spec["Mode"] = if self.global {
                json!({ "GlobalJob": {} })
            } else {
                json!({ "ReplicatedJob": { "TotalCompletions": self.replicas, "MaxConcurrent": most } })
            };
        } else if self.global {
            spec["Mode"] = json!({ "Global": {} });
            spec["TaskTemplate"]["Placement"] = json!({});
        }
        if let Some(policy) = &self.partition {
            spec["Labels"] = json!({ "shoal.partition": policy });
        }
        if let Some((order, parallelism)) = &self.update {
            spec["UpdateConfig"] =
                json!({ "Parallelism": parallelism, "Order": order, "FailureAction": "continue" });
        }
        spec
    }
}

/// One thing that an operator does. Services are named by number, in the order of their creation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Act {
    Create {
        service: u32,
        draft: Draft,
    },
    Scale {
        service: u32,
        replicas: u64,
    },
    /// Another environment, and so a new template.
    Update {
        service: u32,
        tag: u64,
    },
    Remove {
        service: u32,
    },
    Drain {
        host: u32,
    },
    /// The end of a drain.
    Activate {
        host: u32,
    },
    /// Secrets and configs are named by number, too.
    CreateAsset {
        asset: u32,
        secret: bool,
        content: u64,
    },
    ReplaceConfig {
        asset: u32,
        content: u64,
    },
    RemoveAsset {
        asset: u32,
    },
    /// So are networks. Without a subnet a range is chosen.
    CreateNetwork {
        network: u32,
        #[serde(default, skip_serializing_if = "is_default")]
        subnet: Option<String>,
    },
    RemoveNetwork {
        network: u32,
    },
    /// A service gets other networks, and another port or none.
    Attach {
        service: u32,
        networks: Vec<u32>,
        #[serde(default, skip_serializing_if = "is_default")]
        port: Option<u16>,
    },
}

/// What an operator remembers who draws acts one after the other.
#[derive(Clone, Debug, Default)]
pub struct Desk {
    pub most_services: usize,
    pub most_replicas: u64,
    pub hosts: u32,
    services: Vec<(u32, Draft)>,
    created: u32,
    drained: Option<u32>,
}

impl Desk {
    pub fn new(most_services: usize, most_replicas: u64, hosts: u32) -> Self {
        Self { most_services, most_replicas, hosts, ..Self::default() }
    }

    /// Something that an operator might do next; nothing, now and then.
    pub fn draw(&mut self, chance: &mut Chance) -> Option<Act> {
        let known: Vec<usize> = (0..self.services.len()).collect();
        let chosen = chance.pick(&known).copied();
        match (chance.below(10), chosen) {
            (0..=3, _) if self.services.len() < self.most_services => {
                let draft = Draft::draw(self.most_replicas, u64::from(self.hosts), chance);
                self.created += 1;
                self.services.push((self.created, draft.clone()));
                Some(Act::Create { service: self.created, draft })
            }
            (0..=5, Some(n)) => {
                let (service, mut draft) = self.services[n].clone();
                draft.replicas = chance.between(0, self.most_replicas);
                draft.fit(u64::from(self.hosts));
                Some(Act::Scale { service, replicas: draft.replicas })
            }
            (6..=7, Some(n)) => {
                Some(Act::Update { service: self.services[n].0, tag: chance.below(1000) })
            }
            (8, Some(n)) => Some(Act::Remove { service: self.services.remove(n).0 }),
            (9, _) => Some(match self.drained.take() {
                Some(host) => Act::Activate { host },
                None => {
                    let host = chance.below(u64::from(self.hosts)) as u32;
                    self.drained = Some(host);
                    Act::Drain { host }
                }
            }),
            _ => None,
        }
    }
}
