//! From flags to a ServiceSpec: the same JSON that the docker CLI sends for the same flags.
//!
//! `update` changes the spec that it read and leaves what it does not know as it is.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::flags::{ChangeFlags, CreateFlags, HealthFlags, ProcessFlags, SharedFlags, word};
use super::values;
use crate::exit::Failure;

const SECOND: i64 = 1_000_000_000;
const PARTITION_LABEL: &str = "shoal.partition";

/// The spec of a new service.
pub(crate) fn create(flags: &CreateFlags) -> Result<Value, Failure> {
    only_replicated(flags.mode.key(), &flags.shared)?;
    let mut spec = json!({
        "Labels": labels(&flags.label),
        "TaskTemplate": {
            "ContainerSpec": { "Image": with_tag(&flags.image), "Init": false, "DNSConfig": {} },
            "Resources": { "Limits": {}, "Reservations": {} },
            "Placement": {},
            "ForceUpdate": 0,
        },
        "Mode": { flags.mode.key(): {} },
        "EndpointSpec": { "Mode": "vip" },
    });
    if let Some(name) = &flags.name {
        spec["Name"] = json!(name);
    }
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    if !flags.args.is_empty() {
        container["Args"] = json!(flags.args);
    }
    if !flags.env.is_empty() {
        container["Env"] = json!(last_of_each(&[], &flags.env));
    }
    if !flags.container_label.is_empty() {
        container["Labels"] = labels(&flags.container_label);
    }
    if !flags.mount.is_empty() {
        container["Mounts"] = json!(flags.mount);
    }
    if !flags.constraint.is_empty() {
        spec["TaskTemplate"]["Placement"]["Constraints"] = json!(flags.constraint);
    }
    if !flags.publish.is_empty() {
        spec["EndpointSpec"]["Ports"] = json!(flags.publish);
    }
    shared(&mut spec, &flags.shared)?;
    Ok(spec)
}

/// As the docker CLI does: where nothing limits how many slots run at once, all do.
fn job(mode: &mut Value, flags: &SharedFlags) {
    if let Some(replicas) = flags.replicas {
        mode["TotalCompletions"] = json!(replicas);
        if mode["MaxConcurrent"].is_null() {
            mode["MaxConcurrent"] = json!(replicas);
        }
    }
    if let Some(most) = flags.max_concurrent {
        mode["MaxConcurrent"] = json!(most);
    }
}

fn labels(pairs: &[(String, String)]) -> Value {
    Value::Object(pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect())
}

/// As the docker CLI does before it sends: `nginx` means `nginx:latest`.
fn with_tag(image: &str) -> String {
    let last = image.rsplit('/').next().unwrap_or(image);
    if last.contains(':') || image.contains('@') {
        image.to_owned()
    } else {
        format!("{image}:latest")
    }
}

/// How the API calls the mode of a spec.
pub(super) fn mode_key(spec: &Value) -> &'static str {
    let modes = ["Global", "ReplicatedJob", "GlobalJob"];
    modes.into_iter().find(|mode| !spec["Mode"][mode].is_null()).unwrap_or("Replicated")
}

fn only_replicated(mode: &str, flags: &SharedFlags) -> Result<(), Failure> {
    let refuse = |flag: &str, with: &str| {
        Err(Failure::usage(format!("{flag} can only be used with {with}")))
    };
    let replicated = matches!(mode, "Replicated" | "ReplicatedJob");
    if flags.replicas.is_some() && !replicated {
        return refuse("--replicas", "a replicated service or a replicated job");
    }
    if flags.replicas_max_per_node.is_some() && !replicated {
        return refuse("--replicas-max-per-node", "a replicated service or a replicated job");
    }
    if flags.max_concurrent.is_some() && mode != "ReplicatedJob" {
        return refuse("--max-concurrent", "a replicated job");
    }
    Ok(())
}

/// Changes a spec that was read from the node.
pub(crate) fn change(spec: &mut Value, flags: &ChangeFlags) -> Result<(), Failure> {
    only_replicated(mode_key(spec), &flags.shared)?;
    let container = &mut spec["TaskTemplate"]["ContainerSpec"];
    if let Some(image) = &flags.image {
        container["Image"] = json!(with_tag(image));
    }
    if let Some(args) = &flags.args {
        container["Args"] = json!(values::words(args).map_err(Failure::usage)?);
    }
    if !flags.env_add.is_empty() || !flags.env_rm.is_empty() {
        let mut env = last_of_each(&texts(&container["Env"]), &flags.env_add);
        env.retain(|entry| !flags.env_rm.iter().any(|name| name == variable(entry)));
        set_list(container, "Env", env.into_iter().map(Value::from).collect());
    }
    change_labels(container, &flags.container_label_add, &flags.container_label_rm);
    change_list(container, "Mounts", &flags.mount_add, "Target", |mount| {
        flags.mount_rm.iter().any(|target| mount["Target"] == json!(target))
    });
    change_labels(spec, &flags.label_add, &flags.label_rm);
    let placement = &mut spec["TaskTemplate"]["Placement"];
    if !flags.constraint_add.is_empty() || !flags.constraint_rm.is_empty() {
        let mut all = texts(&placement["Constraints"]);
        all.retain(|text| !flags.constraint_rm.contains(text));
        let new = flags.constraint_add.iter().filter(|text| !all.contains(text));
        all = all.iter().chain(new).cloned().collect();
        set_list(placement, "Constraints", all.into_iter().map(Value::from).collect());
    }
    change_list(&mut spec["EndpointSpec"], "Ports", &flags.publish_add, "", |port| {
        flags.publish_rm.iter().any(|target| port["TargetPort"] == json!(target))
    });
    if flags.force {
        let force = spec["TaskTemplate"]["ForceUpdate"].as_u64().unwrap_or(0);
        spec["TaskTemplate"]["ForceUpdate"] = json!(force.wrapping_add(1));
    }
    shared(spec, &flags.shared)
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|t| t.as_str().map(str::to_owned)).collect()
}

fn variable(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

/// Of several settings of one variable the last counts.
fn last_of_each(old: &[String], new: &[String]) -> Vec<String> {
    let all: Vec<&String> = old.iter().chain(new).collect();
    let last: BTreeMap<&str, usize> =
        all.iter().enumerate().map(|(at, entry)| (variable(entry), at)).collect();
    all.iter()
        .enumerate()
        .filter(|(at, entry)| last.get(variable(entry)) == Some(at))
        .map(|(_, entry)| (*entry).clone())
        .collect()
}

/// An empty list is left out, as the docker CLI leaves it out.
fn set_list(parent: &mut Value, key: &str, list: Vec<Value>) {
    if list.is_empty() {
        if let Some(map) = parent.as_object_mut() {
            map.shift_remove(key);
        }
    } else {
        parent[key] = Value::Array(list);
    }
}

/// Removes, then adds; what is added replaces what has the same `identity`.
fn change_list(
    parent: &mut Value,
    key: &str,
    add: &[Value],
    identity: &str,
    remove: impl Fn(&Value) -> bool,
) {
    let mut list = parent[key].as_array().cloned().unwrap_or_default();
    let before = list.clone();
    list.retain(|item| !remove(item));
    for new in add {
        list.retain(|item| {
            if identity.is_empty() { item != new } else { item[identity] != new[identity] }
        });
        list.push(new.clone());
    }
    if list != before {
        set_list(parent, key, list);
    }
}

fn change_labels(parent: &mut Value, add: &[(String, String)], remove: &[String]) {
    if add.is_empty() && remove.is_empty() {
        return;
    }
    let mut labels = parent["Labels"].as_object().cloned().unwrap_or_default();
    labels.retain(|key, _| !remove.contains(key));
    labels.extend(add.iter().map(|(key, value)| (key.clone(), json!(value))));
    parent["Labels"] = Value::Object(labels);
}

fn shared(spec: &mut Value, flags: &SharedFlags) -> Result<(), Failure> {
    if mode_key(spec) == "ReplicatedJob" {
        job(&mut spec["Mode"]["ReplicatedJob"], flags);
    } else if let Some(replicas) = flags.replicas {
        spec["Mode"]["Replicated"]["Replicas"] = json!(replicas);
    }
    if let Some(partition) = &flags.partition {
        spec["Labels"][PARTITION_LABEL] = json!(word(partition));
    }
    let template = &mut spec["TaskTemplate"];
    for (part, field, amount) in [
        ("Limits", "NanoCPUs", flags.limit_cpu),
        ("Limits", "MemoryBytes", flags.limit_memory),
        ("Limits", "Pids", flags.limit_pids),
        ("Reservations", "NanoCPUs", flags.reserve_cpu),
        ("Reservations", "MemoryBytes", flags.reserve_memory),
    ] {
        match amount {
            // Zero takes a limit away.
            Some(0) => {
                if let Some(map) = template["Resources"][part].as_object_mut() {
                    map.shift_remove(field);
                }
            }
            Some(amount) => template["Resources"][part][field] = json!(amount),
            None => {}
        }
    }
    if let Some(max) = flags.replicas_max_per_node {
        template["Placement"]["MaxReplicas"] = json!(max);
    }
    restart(template, flags);
    process(&mut template["ContainerSpec"], &flags.process)?;
    health(&mut template["ContainerSpec"], &flags.health);
    rollouts(spec, flags);
    Ok(())
}

/// Writes what was given into one part of the spec; a part that was silent gets Docker's defaults
/// for the rest, so that what is stored is complete.
fn part(parent: &mut Value, key: &str, defaults: &Value, given: &[(&str, Option<Value>)]) {
    if given.iter().all(|(_, value)| value.is_none()) {
        return;
    }
    if !parent[key].is_object() {
        parent[key] = defaults.clone();
    }
    for (field, value) in given {
        if let Some(value) = value {
            parent[key][*field] = value.clone();
        }
    }
}

fn number<T: Into<Value>>(value: Option<T>) -> Option<Value> {
    value.map(Into::into)
}

fn restart(template: &mut Value, flags: &SharedFlags) {
    let defaults = json!({ "Condition": "any", "Delay": 5 * SECOND, "MaxAttempts": 0 });
    part(
        template,
        "RestartPolicy",
        &defaults,
        &[
            ("Condition", number(flags.restart_condition.as_ref().map(word))),
            ("Delay", number(flags.restart_delay)),
            ("MaxAttempts", number(flags.restart_max_attempts)),
            ("Window", number(flags.restart_window)),
        ],
    );
}

fn rollouts(spec: &mut Value, flags: &SharedFlags) {
    let defaults = json!({
        "Parallelism": 1,
        "FailureAction": "pause",
        "Monitor": 5 * SECOND,
        "MaxFailureRatio": 0,
        "Order": "stop-first",
    });
    let (update, rollback) = (&flags.update, &flags.rollback_config);
    part(
        spec,
        "UpdateConfig",
        &defaults,
        &[
            ("Parallelism", number(update.update_parallelism)),
            ("Delay", number(update.update_delay)),
            ("FailureAction", number(update.update_failure_action.as_ref().map(word))),
            ("Monitor", number(update.update_monitor)),
            ("MaxFailureRatio", update.update_max_failure_ratio.map(ratio)),
            ("Order", number(update.update_order.as_ref().map(word))),
        ],
    );
    part(
        spec,
        "RollbackConfig",
        &defaults,
        &[
            ("Parallelism", number(rollback.rollback_parallelism)),
            ("Delay", number(rollback.rollback_delay)),
            ("FailureAction", number(rollback.rollback_failure_action.as_ref().map(word))),
            ("Monitor", number(rollback.rollback_monitor)),
            ("MaxFailureRatio", rollback.rollback_max_failure_ratio.map(ratio)),
            ("Order", number(rollback.rollback_order.as_ref().map(word))),
        ],
    );
}

/// 0 and 1 are written as whole numbers, as Go writes them.
fn ratio(value: f64) -> Value {
    if value == 0.0 {
        json!(0)
    } else if value == 1.0 {
        json!(1)
    } else {
        json!(value)
    }
}

fn process(container: &mut Value, flags: &ProcessFlags) -> Result<(), Failure> {
    let entrypoint = match &flags.entrypoint {
        Some(line) => Some(values::words(line).map_err(Failure::usage)?),
        None => None,
    };
    let Some(map) = container.as_object_mut() else {
        return Err(Failure::failed("the service has no container spec to change"));
    };
    let mut set = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    set("StopGracePeriod", number(flags.stop_grace_period));
    set("StopSignal", number(flags.stop_signal.clone()));
    set("User", number(flags.user.clone()));
    set("Dir", number(flags.workdir.clone()));
    set("Hostname", number(flags.hostname.clone()));
    set("Init", number(flags.init));
    set("ReadOnly", number(flags.read_only));
    set("TTY", number(flags.tty));
    set("Command", entrypoint.filter(|words| !words.is_empty()).map(|words| json!(words)));
    Ok(())
}

fn health(container: &mut Value, flags: &HealthFlags) {
    if flags.no_healthcheck {
        container["Healthcheck"] = json!({ "Test": ["NONE"] });
        return;
    }
    let given = [
        ("Test", flags.health_cmd.as_ref().map(|command| json!(["CMD-SHELL", command]))),
        ("Interval", number(flags.health_interval)),
        ("Timeout", number(flags.health_timeout)),
        ("StartPeriod", number(flags.health_start_period)),
        ("Retries", number(flags.health_retries)),
    ];
    if given.iter().any(|(_, value)| value.is_some())
        && container["Healthcheck"]["Test"] == json!(["NONE"])
        && let Some(map) = container["Healthcheck"].as_object_mut()
    {
        // It was switched off; asking for one switches it on again.
        *map = Map::new();
    }
    part(container, "Healthcheck", &json!({}), &given);
}
