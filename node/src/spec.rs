//! The part of a service's spec that decides something, read from the JSON that the client sent.
//!
//! The JSON itself is stored and echoed as it came: fields that this version does not know survive.
//! This module reads the fields that placement, restarts and rollouts need, and refuses a spec that
//! it cannot honour, naming the field.

use std::net::IpAddr;

use membership::member::Resources;
use membership::time::Millis;
use placement::Constraint;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::completions::MAX_JOB_SLOTS;
use crate::network::attach::{self, Attachment};
use crate::network::balance;
use crate::network::proxy_protocol::{self, ProxyProtocol};
use crate::network::routes::{self, Route};
use crate::slot::{PortStatus, TemplateId};

/// The label that chooses what a partition may do to a service.
pub const PARTITION_LABEL: &str = "shoal.partition";

/// The most replicas that one service may ask for.
pub const MAX_REPLICAS: u64 = 1_000_000;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub String);

pub(crate) fn wrong(text: impl Into<String>) -> SpecError {
    SpecError(text.into())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Replicated,
    Global,
    /// So many numbered slots, from 0, run to their end once.
    ReplicatedJob,
    /// Runs to its end once on every node.
    GlobalJob,
}

impl Mode {
    /// Its tasks end, and are then done.
    pub fn is_job(self) -> bool {
        matches!(self, Self::ReplicatedJob | Self::GlobalJob)
    }

    /// Its slots are the nodes.
    pub fn is_global(self) -> bool {
        matches!(self, Self::Global | Self::GlobalJob)
    }
}

/// What may happen to a service while the cluster is cut in parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Partition {
    /// Every part serves it whole.
    #[default]
    Available,
    /// Only a part with more than half of the members starts anything anew.
    Majority,
    /// As `Majority`, and the smaller part stops its own after a fixed time.
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartCondition {
    Any,
    OnFailure,
    Never,
}

/// When and how often an ended task is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restart {
    pub condition: RestartCondition,
    /// `None`: the node's own setting, with back-off.
    pub delay: Option<Millis>,
    /// 0: without limit.
    pub max_attempts: u64,
    /// The time over which attempts are counted; `None`: for ever.
    pub window: Option<Millis>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureAction {
    Pause,
    Continue,
    Rollback,
}

/// How tasks are replaced in an update or a rollback.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpdateConfig {
    /// Slots replaced at once; 0 is all.
    pub parallelism: u64,
    pub delay: Millis,
    pub action: FailureAction,
    pub monitor: Millis,
    /// The share of tasks that may fail, in thousandths.
    pub max_failures_per_mille: u64,
    pub start_first: bool,
}

/// Everything of a spec that decides.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceSpec {
    pub name: String,
    pub mode: Mode,
    /// Of a replicated job: how many slots are to be run to their end.
    pub replicas: u32,
    /// Of a replicated job: how many slots may run at once.
    pub max_concurrent: u32,
    pub partition: Partition,
    pub reservation: Resources,
    pub constraints: Vec<Constraint>,
    /// Node or engine labels to spread over, most important first (`node.labels.rack`).
    pub spread: Vec<String>,
    /// 0: without limit.
    pub max_per_node: u64,
    /// (os, architecture), empty fields match everything.
    pub platforms: Vec<(String, String)>,
    pub host_ports: Vec<PortStatus>,
    /// Open on every node; `published` is 0 in a spec that leaves it open and has not been created.
    pub ingress_ports: Vec<PortStatus>,
    /// HTTP requests that any node takes for it.
    pub routes: Vec<Route>,
    /// Networks of the whole cluster.
    pub networks: Vec<Attachment>,
    /// Its name stands for the addresses of its replicas instead of a virtual one.
    pub dnsrr: bool,
    /// New connections go to replicas on the client's host, as long as one is ready.
    pub prefer_local: bool,
    /// Connections to its published TCP ports begin with a header that says who asked.
    pub proxy: Option<ProxyProtocol>,
    /// Whom its containers ask for names of others.
    pub resolvers: Vec<IpAddr>,
    pub restart: Restart,
    pub update: UpdateConfig,
    pub rollback: UpdateConfig,
    pub stop_grace: Millis,
    pub template: TemplateId,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawRestart {
    condition: Option<String>,
    delay: Option<i64>,
    max_attempts: Option<u64>,
    window: Option<i64>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct RawUpdate {
    parallelism: Option<u64>,
    delay: Option<i64>,
    failure_action: Option<String>,
    monitor: Option<i64>,
    max_failure_ratio: Option<f64>,
    order: Option<String>,
}

/// Reads one part of a spec; `null` and absence give the default.
pub(crate) fn part<T: for<'a> Deserialize<'a> + Default>(
    value: Option<&Value>,
    field: &str,
) -> Result<T, SpecError> {
    match value {
        None | Some(Value::Null) => Ok(T::default()),
        Some(value) => T::deserialize(value).map_err(|e| wrong(format!("{field}: {e}"))),
    }
}

pub(crate) fn at<'a>(value: &'a Value, path: &[&str]) -> Option<&'a Value> {
    path.iter().try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

impl ServiceSpec {
    /// Reads what decides from Docker's `ServiceSpec` JSON.
    ///
    /// # Errors
    /// A sentence that names the field which is missing, malformed or cannot be honoured.
    pub fn parse(spec: &Value) -> Result<Self, SpecError> {
        let name = spec.get("Name").and_then(Value::as_str).unwrap_or_default().to_owned();
        check_name(&name)?;
        let task = spec.get("TaskTemplate").cloned().unwrap_or_default();
        if at(&task, &["ContainerSpec"]).is_none() {
            return Err(wrong("TaskTemplate: missing container spec"));
        }
        let (mode, replicas, max_concurrent) = parse_mode(spec.get("Mode"))?;
        if mode.is_job() && at(spec, &["UpdateConfig"]).is_some() {
            return Err(wrong("Jobs may not have an update config"));
        }
        let (constraints, spread, max_per_node, platforms) = parse_placement(&task)?;
        let ports = attach::ports(spec)?;
        Ok(Self {
            name,
            mode,
            replicas,
            max_concurrent,
            partition: parse_partition(spec)?,
            reservation: parse_reservation(&task)?,
            constraints,
            spread,
            max_per_node,
            platforms,
            host_ports: ports.host,
            ingress_ports: ports.ingress,
            routes: routes::of_spec(spec, first_port(spec)).0,
            networks: attach::attachments(spec)?,
            dnsrr: attach::is_dnsrr(spec),
            prefer_local: balance::prefers_local(spec)?,
            proxy: proxy_protocol::asked(spec)?,
            resolvers: attach::resolvers(&task)?,
            restart: parse_restart(&task, mode)?,
            update: parse_update(spec.get("UpdateConfig"), "UpdateConfig")?,
            rollback: parse_update(spec.get("RollbackConfig"), "RollbackConfig")?,
            stop_grace: at(&task, &["ContainerSpec", "StopGracePeriod"])
                .and_then(Value::as_i64)
                .map_or(Millis(10_000), Millis::from_nanos),
            template: template_id(spec),
        })
    }

    /// Every node passes something on to its replicas: they need an address that all can reach.
    pub(crate) fn is_reached_by_all(&self) -> bool {
        !self.ingress_ports.is_empty() || !self.routes.is_empty()
    }
}

/// The first port in the containers that the spec publishes.
fn first_port(spec: &Value) -> Option<u16> {
    let port = at(spec, &["EndpointSpec", "Ports"])?.get(0)?.get("TargetPort")?.as_u64()?;
    u16::try_from(port).ok()
}

/// Docker's rule: letters, digits, `-`, `_` and `.`, starting and ending with a letter or a digit, at
/// most 63 characters.
fn check_name(name: &str) -> Result<(), SpecError> {
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    if name.is_empty() {
        return Err(wrong("name must be provided"));
    }
    if name.len() > 63 {
        return Err(wrong("name must be 63 characters or fewer"));
    }
    if !name.chars().all(inner) || !edge(name.chars().next()) || !edge(name.chars().last()) {
        return Err(wrong(format!(
            "name must be valid as a DNS name component: '{name}' may hold letters, digits, '-', '_' and '.', and must start and end with a letter or a digit"
        )));
    }
    Ok(())
}

/// The mode, how many slots it has, and how many of those may run at once.
fn parse_mode(mode: Option<&Value>) -> Result<(Mode, u32, u32), SpecError> {
    let Some(mode) = mode.filter(|m| !m.is_null()) else { return Ok((Mode::Replicated, 1, 1)) };
    let present = |key| mode.get(key).filter(|v: &&Value| !v.is_null());
    if present("Global").is_some() {
        return Ok((Mode::Global, 0, 0));
    }
    if present("GlobalJob").is_some() {
        return Ok((Mode::GlobalJob, 0, 0));
    }
    if let Some(job) = present("ReplicatedJob") {
        let count = |name, default| amount(job, "ReplicatedJob", name, default, MAX_JOB_SLOTS);
        let most = count("MaxConcurrent", 1)?;
        return Ok((Mode::ReplicatedJob, count("TotalCompletions", most)?, most));
    }
    let replicated = present("Replicated").unwrap_or(&Value::Null);
    let replicas = amount(replicated, "Replicated", "Replicas", 1, MAX_REPLICAS)?;
    Ok((Mode::Replicated, replicas, replicas))
}

fn amount(
    mode: &Value,
    name: &str,
    field: &str,
    default: u32,
    most: u64,
) -> Result<u32, SpecError> {
    let Some(value) = mode.get(field).filter(|value| !value.is_null()) else { return Ok(default) };
    let amount = value.as_u64().filter(|n| *n <= most).and_then(|n| u32::try_from(n).ok());
    amount.ok_or_else(|| {
        wrong(format!("Mode.{name}.{field}: expected a number from 0 to {most}, got {value}"))
    })
}

fn parse_partition(spec: &Value) -> Result<Partition, SpecError> {
    match at(spec, &["Labels", PARTITION_LABEL]).and_then(Value::as_str) {
        None | Some("" | "available") => Ok(Partition::Available),
        Some("majority") => Ok(Partition::Majority),
        Some("fenced") => Ok(Partition::Fenced),
        Some(other) => Err(wrong(format!(
            "label {PARTITION_LABEL}: '{other}' is not one of available, majority, fenced"
        ))),
    }
}

fn parse_reservation(task: &Value) -> Result<Resources, SpecError> {
    let field = |name| match at(task, &["Resources", "Reservations", name]) {
        None => Ok(0),
        Some(value) => value.as_i64().and_then(|n| u64::try_from(n).ok()).ok_or_else(|| {
            wrong(format!("Resources.Reservations.{name}: expected a number of 0 or more"))
        }),
    };
    Ok(Resources {
        cpu_milli: field("NanoCPUs")?.div_ceil(1_000_000),
        memory_bytes: field("MemoryBytes")?,
    })
}

type Placement = (Vec<Constraint>, Vec<String>, u64, Vec<(String, String)>);

fn parse_placement(task: &Value) -> Result<Placement, SpecError> {
    let list = |name| at(task, &["Placement", name]).and_then(Value::as_array);
    let mut constraints = Vec::new();
    for text in list("Constraints").into_iter().flatten() {
        let text = text.as_str().ok_or_else(|| wrong("Placement.Constraints: expected strings"))?;
        constraints.push(Constraint::parse(text).map_err(|e| wrong(e.to_string()))?);
    }
    let spread = list("Preferences")
        .into_iter()
        .flatten()
        .filter_map(|p| at(p, &["Spread", "SpreadDescriptor"]).and_then(Value::as_str))
        .map(str::to_owned)
        .collect();
    let platforms = list("Platforms")
        .into_iter()
        .flatten()
        .map(|p| {
            let text = |key| p.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
            (text("OS"), text("Architecture"))
        })
        .collect();
    let max = at(task, &["Placement", "MaxReplicas"]).and_then(Value::as_u64).unwrap_or(0);
    Ok((constraints, spread, max, platforms))
}

fn parse_restart(task: &Value, mode: Mode) -> Result<Restart, SpecError> {
    let raw: RawRestart = part(at(task, &["RestartPolicy"]), "RestartPolicy")?;
    let condition = match raw.condition.as_deref() {
        // What has done its work is not started again.
        None | Some("" | "any") if mode.is_job() => RestartCondition::OnFailure,
        None | Some("" | "any") => RestartCondition::Any,
        Some("on-failure") => RestartCondition::OnFailure,
        Some("none") => RestartCondition::Never,
        Some(other) => {
            return Err(wrong(format!(
                "RestartPolicy.Condition: '{other}' is not one of none, on-failure, any"
            )));
        }
    };
    Ok(Restart {
        condition,
        delay: raw.delay.map(Millis::from_nanos),
        max_attempts: raw.max_attempts.unwrap_or(0),
        window: raw.window.filter(|w| *w > 0).map(Millis::from_nanos),
    })
}

fn parse_update(value: Option<&Value>, field: &str) -> Result<UpdateConfig, SpecError> {
    let raw: RawUpdate = part(value, field)?;
    let action = match raw.failure_action.as_deref() {
        None | Some("" | "pause") => FailureAction::Pause,
        Some("continue") => FailureAction::Continue,
        Some("rollback") if field == "UpdateConfig" => FailureAction::Rollback,
        Some(other) => {
            return Err(wrong(format!("{field}.FailureAction: '{other}' cannot be used here")));
        }
    };
    let start_first = match raw.order.as_deref() {
        None | Some("" | "stop-first") => false,
        Some("start-first") => true,
        Some(other) => {
            return Err(wrong(format!(
                "{field}.Order: '{other}' is not one of stop-first, start-first"
            )));
        }
    };
    let ratio = raw.max_failure_ratio.unwrap_or(0.0);
    if !(0.0..=1.0).contains(&ratio) {
        return Err(wrong(format!("{field}.MaxFailureRatio: expected 0 to 1, got {ratio}")));
    }
    Ok(UpdateConfig {
        parallelism: raw.parallelism.unwrap_or(1),
        delay: raw.delay.map_or(Millis::ZERO, Millis::from_nanos),
        action,
        monitor: raw.monitor.filter(|m| *m > 0).map_or(Millis(5_000), Millis::from_nanos),
        // Between 0 and 1000 by the check above. Rounded once, here, so that all nodes compare integers.
        max_failures_per_mille: (ratio * 1000.0).round() as u64,
        start_first,
    })
}

/// A digest of what makes a task: the task template without its placement (a replica that still
/// fits need not be restarted) and the ports that are opened on hosts. Empty and absent are equal and
/// the order of keys is not part of it, so that a redeploy which changes nothing restarts nothing.
pub fn template_id(spec: &Value) -> TemplateId {
    let mut template = spec.get("TaskTemplate").cloned().unwrap_or_default();
    if let Some(map) = template.as_object_mut() {
        map.remove("Placement");
        map.remove("RestartPolicy");
    }
    let ports = at(spec, &["EndpointSpec", "Ports"]).cloned().unwrap_or_default();
    let mut text = String::new();
    canonical(&template, &mut text);
    canonical(&ports, &mut text);
    if routes::are_wanted(spec) {
        // Its tasks get an address that they have not had without.
        text.push_str("routes");
    }
    TemplateId(membership::record::Digest::of_bytes(text.as_bytes()).0 as u64)
}

/// JSON with sorted keys and without what means nothing: nulls, empty lists, empty objects, empty
/// strings, zeros and `false`, which Docker's clients send or leave out as they please.
fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let sorted: std::collections::BTreeMap<&String, &Value> =
                map.iter().filter(|(_, v)| !means_nothing(v)).collect();
            out.push('{');
            for (key, value) in sorted {
                out.push_str(key);
                out.push(':');
                canonical(value, out);
                out.push(',');
            }
            out.push('}');
        }
        Value::Array(list) => {
            out.push('[');
            for value in list {
                canonical(value, out);
                out.push(',');
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

fn means_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_i64() == Some(0),
        Value::String(s) => s.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.values().all(means_nothing),
        Value::Bool(true) => false,
    }
}

/// The spec with another replica count in it, for what clients read.
pub fn with_replicas(spec: &Value, replicas: u32) -> Value {
    let mut spec = spec.clone();
    let Some(map) = spec.as_object_mut() else { return spec };
    let others = ["Global", "GlobalJob", "ReplicatedJob"];
    let other = |mode: &Value| others.iter().any(|n| mode.get(n).is_some_and(|v| !v.is_null()));
    if map.get("Mode").is_some_and(other) {
        return spec;
    }
    let mode = map.entry("Mode").or_insert_with(|| Value::Object(Map::new()));
    if !mode.is_object() {
        *mode = Value::Object(Map::new());
    }
    let mut inner = mode.get("Replicated").and_then(Value::as_object).cloned().unwrap_or_default();
    inner.insert("Replicas".to_owned(), Value::from(replicas));
    if let Some(mode) = mode.as_object_mut() {
        mode.insert("Replicated".to_owned(), Value::Object(inner));
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn base() -> Value {
        json!({"Name":"web","TaskTemplate":{"ContainerSpec":{"Image":"x"}},"Mode":{"Replicated":{"Replicas":3}}})
    }

    #[test]
    fn defaults_are_swarms() {
        let spec = ServiceSpec::parse(&base()).unwrap();
        assert_eq!(spec.replicas, 3);
        assert_eq!(spec.update.parallelism, 1);
        assert_eq!(spec.update.monitor, Millis(5_000));
        assert_eq!(spec.restart.condition, RestartCondition::Any);
        assert_eq!(spec.stop_grace, Millis(10_000));
    }

    #[test]
    fn what_means_nothing_does_not_change_the_template() {
        let mut other = base();
        other["TaskTemplate"]["ContainerSpec"]["Privileges"] = json!({"CredentialSpec": null});
        other["TaskTemplate"]["ForceUpdate"] = json!(0);
        other["TaskTemplate"]["Placement"] = json!({"Constraints": ["node.role==manager"]});
        other["Mode"] = json!({"Replicated":{"Replicas":9}});
        assert_eq!(template_id(&base()), template_id(&other));
        other["TaskTemplate"]["ForceUpdate"] = json!(1);
        assert_ne!(template_id(&base()), template_id(&other));
    }

    #[test]
    fn each_refusal_names_its_field() {
        let cases = [
            (json!({"Name":"-x"}), "DNS name"),
            (json!({"Name":"x"}), "container spec"),
            (
                json!({"Name":"x","TaskTemplate":{"ContainerSpec":{}},"Mode":{"Replicated":{"Replicas":-1}}}),
                "Replicas",
            ),
            (
                json!({"Name":"x","TaskTemplate":{"ContainerSpec":{},"RestartPolicy":{"Condition":"often"}}}),
                "RestartPolicy",
            ),
            (
                json!({"Name":"x","TaskTemplate":{"ContainerSpec":{}},"UpdateConfig":{"MaxFailureRatio":2}}),
                "MaxFailureRatio",
            ),
            (
                json!({"Name":"x","TaskTemplate":{"ContainerSpec":{}},"Labels":{"shoal.partition":"x"}}),
                "shoal.partition",
            ),
        ];
        for (spec, word) in cases {
            let error = ServiceSpec::parse(&spec).unwrap_err().to_string();
            assert!(error.contains(word), "{error} should name {word}");
        }
    }

    #[test]
    fn replicas_are_written_into_what_clients_read() {
        assert_eq!(with_replicas(&base(), 7)["Mode"]["Replicated"]["Replicas"], 7);
        let global = json!({"Mode":{"Global":{}}});
        assert_eq!(with_replicas(&global, 7), global);
    }
}
