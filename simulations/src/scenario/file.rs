//! A scenario file as it is written, before anything in it is checked: see docs/SIMULATING.md for every
//! key. Unknown keys are errors, so that a slip of the pen does not become a scenario that tests nothing.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One text or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    One(String),
    Many(Vec<String>),
}

impl Texts {
    pub fn all(&self) -> Vec<&str> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts.iter().map(String::as_str).collect(),
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    pub title: String,
    pub about: String,
    pub look_at: String,
    pub duration: String,
    pub seed: Option<u64>,
    pub gossip: Option<String>,
    /// How far clocks are off from the beginning.
    pub clocks_off: Option<String>,
    /// After the duration everything is healed and liveness is demanded; `false` ends the run instead.
    pub heal: Option<bool>,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub engine: Engine,
    pub hosts: Vec<Hosts>,
    #[serde(default)]
    pub services: Vec<Service>,
    #[serde(default)]
    pub timeline: Vec<Step>,
    pub churn: Option<Churn>,
    #[serde(default)]
    pub expect: Expect,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    pub delay: Option<Texts>,
    pub loss: Option<String>,
    pub duplicated: Option<String>,
    pub reordered: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Engine {
    pub start: Option<Texts>,
    pub stop: Option<Texts>,
    pub start_fails: Option<String>,
    pub events_lost: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hosts {
    pub name: Option<String>,
    pub count: Option<usize>,
    pub zone: Option<String>,
    /// Spread over so many zones.
    pub zones: Option<usize>,
    pub rack: Option<String>,
    pub racks: Option<usize>,
    pub cpus: Option<f64>,
    pub memory: Option<String>,
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    #[serde(default)]
    pub node_labels: BTreeMap<String, String>,
    /// Has no token: it knocks, and is not let in.
    pub outsider: Option<bool>,
    /// Starts for the first time then, instead of before the timeline begins.
    pub joins: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    pub name: String,
    pub replicas: Option<u64>,
    pub global: Option<bool>,
    pub behaves: Option<String>,
    pub cpus: Option<f64>,
    pub memory: Option<String>,
    #[serde(default)]
    pub constraints: Vec<String>,
    #[serde(default)]
    pub spread: Vec<String>,
    pub max_per_node: Option<u64>,
    pub partition: Option<String>,
    pub health_check: Option<bool>,
    pub update: Option<Update>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Update {
    pub parallelism: Option<u64>,
    pub order: Option<String>,
    pub delay: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    pub at: String,
    #[serde(rename = "do")]
    pub what: String,
    pub on: Option<Texts>,
    pub from: Option<Texts>,
    pub to: Option<Texts>,
    /// Gives the hosts that were chosen a name for later steps.
    #[serde(rename = "as")]
    pub named: Option<String>,
    #[serde(rename = "for")]
    pub lasts: Option<Texts>,
    pub every: Option<String>,
    pub times: Option<u32>,
    pub apart: Option<String>,
    pub service: Option<String>,
    pub replicas: Option<u64>,
    pub spec: Option<Service>,
    pub by: Option<String>,
    pub loss: Option<String>,
    pub delay: Option<Texts>,
    pub duplicated: Option<String>,
    pub reordered: Option<String>,
    pub start: Option<Texts>,
    pub share: Option<String>,
    pub containers: Option<bool>,
    pub disk: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Churn {
    pub faults: Option<Vec<String>>,
    pub pause: Option<Texts>,
    pub from: Option<String>,
    pub until: Option<String>,
    pub operators: Option<bool>,
    pub most_services: Option<usize>,
    pub most_replicas: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    pub detected_within: Option<String>,
    pub recovered_within: Option<String>,
    pub gap_at_most: Option<String>,
    pub settled_within: Option<String>,
    pub no_false_verdict: Option<bool>,
    pub moves_at_most: Option<u64>,
    pub needless_moves_at_most: Option<u64>,
    pub duplicate_seconds_at_most: Option<u64>,
    pub gap_seconds_at_most: Option<u64>,
    pub running_at_least: Option<String>,
    pub running_at_end: Option<String>,
    pub refused_at_most: Option<u64>,
}
