//! What of a Swarm becomes what here: decided from what was read of both, without asking anybody.
//!
//! A spec goes over as it is: shoal speaks the same language. What cannot go over are ids. A Swarm's ids of
//! networks, secrets and configs mean nothing here, so references to them get the ids that theirs have here. What shoal
//! cannot run is left out with the reason, rather than
//! created without the part that it cannot do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

/// What a Swarm's manager told.
#[derive(Clone, Debug, Default)]
pub(super) struct Swarm {
    pub(super) services: Vec<Value>,
    pub(super) networks: Vec<Value>,
    pub(super) configs: Vec<Value>,
    pub(super) secrets: Vec<Value>,
}

/// What there is here already: ids by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Here {
    pub(super) networks: BTreeMap<String, String>,
    pub(super) services: BTreeMap<String, String>,
    pub(super) configs: BTreeMap<String, String>,
    pub(super) secrets: BTreeMap<String, String>,
}

/// What the operator asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Wishes {
    /// Only these services and what they use; all where it is empty.
    pub(super) only: Vec<String>,
    /// Replicated services are created with no replicas.
    pub(super) stopped: bool,
    pub(super) without_networks: bool,
    /// Ports that the Swarm's mesh opened everywhere are opened where a replica runs.
    pub(super) publish_on_hosts: bool,
    /// Names of the secrets whose bytes the operator has in a folder.
    pub(super) known_secrets: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Network,
    Secret,
    Config,
    Service,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Secret => "secret",
            Self::Config => "config",
            Self::Service => "service",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    /// Sent to the node like this; for a secret, with its bytes put in.
    Create(Value),
    Exists,
    /// Why, and what to do.
    LeftOut(String),
}

/// One thing of the Swarm.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) fate: Fate,
    /// What differs from how it was in the Swarm.
    pub(super) notes: Vec<String>,
}

/// What is to be done, in the order in which it works: services last, which refer to the others.
pub(super) fn plan(swarm: &Swarm, here: &Here, wishes: &Wishes) -> Vec<Item> {
    let wanted = |service: &&Value| {
        wishes.only.is_empty() || wishes.only.iter().any(|name| name == name_of(service))
    };
    let services: Vec<&Value> = swarm.services.iter().filter(wanted).collect();
    let used = |list: &str, key: &str| -> BTreeSet<&str> {
        let all = services.iter().flat_map(|service| references(&service["Spec"], list));
        all.filter_map(|reference| reference[key].as_str()).collect()
    };
    let (secrets, configs) = (used("Secrets", "SecretName"), used("Configs", "ConfigName"));
    let all = wishes.only.is_empty();

    let mut items: Vec<Item> = Vec::new();
    let used_networks: BTreeSet<&str> =
        services.iter().flat_map(|service| attachments(&service["Spec"])).collect();
    items.extend(swarm.networks.iter().filter_map(|network| {
        let id = network["Id"].as_str().unwrap_or_default();
        let known = all || used_networks.contains(id) || used_networks.contains(plain(network));
        known.then(|| overlay(network, here, wishes)).flatten()
    }));
    let chosen = |asset: &&Value, used: &BTreeSet<&str>| all || used.contains(name_of(asset));
    items.extend(
        swarm.secrets.iter().filter(|s| chosen(s, &secrets)).map(|s| secret(s, here, wishes)),
    );
    items.extend(swarm.configs.iter().filter(|c| chosen(c, &configs)).map(|c| config(c, here)));
    let missing: BTreeSet<String> = items
        .iter()
        .filter(|item| item.kind == Kind::Secret && matches!(item.fate, Fate::LeftOut(_)))
        .map(|item| item.name.clone())
        .collect();
    items.extend(services.iter().map(|one| service(one, swarm, here, wishes, &missing)));
    for name in &wishes.only {
        if !services.iter().any(|service| name_of(service) == name) {
            let why = "the Swarm has no service of this name".to_owned();
            let fate = Fate::LeftOut(why);
            items.push(Item { kind: Kind::Service, name: name.clone(), fate, notes: Vec::new() });
        }
    }
    items.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    items
}

/// A file of this name in the operator's folder holds the secret's bytes. Names of secrets cannot leave it.
pub(super) fn secret_file(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let safe = !name.is_empty() && !name.contains('/') && name != "." && name != "..";
    safe.then(|| folder.join(name))
}

/// Puts in the ids that networks, secrets and configs have here.
///
/// # Errors
/// The name of what is not here.
pub(super) fn with_ids(mut spec: Value, here: &Here) -> Result<Value, String> {
    for (list, id, name, ids) in [
        ("Secrets", "SecretID", "SecretName", &here.secrets),
        ("Configs", "ConfigID", "ConfigName", &here.configs),
    ] {
        // Indexing for change would write an empty field into specs that have none.
        let references = spec.pointer_mut(&format!("/TaskTemplate/ContainerSpec/{list}"));
        for reference in references.and_then(Value::as_array_mut).into_iter().flatten() {
            let wanted = reference[name].as_str().unwrap_or_default().to_owned();
            reference[id] = json!(ids.get(&wanted).ok_or(wanted)?);
        }
    }
    let networks = spec.pointer_mut("/TaskTemplate/Networks").and_then(Value::as_array_mut);
    for network in networks.into_iter().flatten() {
        let wanted = network["Target"].as_str().unwrap_or_default().to_owned();
        if !is_engines_own(&wanted) {
            let id = here.networks.get(&wanted);
            network["Target"] = json!(id.ok_or_else(|| format!("the network {wanted}"))?);
        }
    }
    Ok(spec)
}

/// Networks that every engine has.
fn is_engines_own(name: &str) -> bool {
    matches!(name, "host" | "bridge" | "none")
}

/// The name of a service, a secret or a config.
pub(super) fn name_of(thing: &Value) -> &str {
    thing["Spec"]["Name"].as_str().unwrap_or_default()
}

/// The name of a network, which has no spec.
fn plain(network: &Value) -> &str {
    network["Name"].as_str().unwrap_or_default()
}

fn references<'a>(spec: &'a Value, list: &str) -> impl Iterator<Item = &'a Value> {
    spec["TaskTemplate"]["ContainerSpec"][list].as_array().into_iter().flatten()
}

/// The networks of a service, as the spec names them: mostly by id. Old clients wrote them outside of the template.
fn attachments(spec: &Value) -> impl Iterator<Item = &str> {
    [&spec["TaskTemplate"]["Networks"], &spec["Networks"]]
        .into_iter()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|network| network["Target"].as_str())
}

/// What a Swarm's own allocator wrote into a network's options.
const NUMBERS: &str = "com.docker.network.driver.overlay.vxlanid_list";
/// What the subnets begin with that a Swarm chose itself, unless it was told otherwise.
const CHOSEN: &str = "10.0.";

/// Networks of the whole Swarm that people made; those of the engine itself are everywhere.
fn overlay(network: &Value, here: &Here, wishes: &Wishes) -> Option<Item> {
    let name = plain(network).to_owned();
    let made = network["Scope"] == "swarm"
        && network["Ingress"] != json!(true)
        && !is_engines_own(&name)
        && !wishes.without_networks;
    if !made {
        return None;
    }
    let mut notes = Vec::new();
    let fate = if here.networks.contains_key(&name) {
        Fate::Exists
    } else if network["Driver"] != "overlay" {
        Fate::LeftOut(format!(
            "networks of the driver {} are not supported; import the services on it with --without-networks",
            network["Driver"]
        ))
    } else {
        Fate::Create(created(network, &mut notes))
    };
    Some(Item { kind: Kind::Network, name, fate, notes })
}

/// The request that makes a network like this one.
fn created(network: &Value, notes: &mut Vec<String>) -> Value {
    let mut options = network["Options"].clone();
    if let Some(options) = options.as_object_mut() {
        options.shift_remove(NUMBERS);
    }
    let subnets = network.pointer("/IPAM/Config").and_then(Value::as_array);
    let subnets = subnets.into_iter().flatten().filter_map(|one| one["Subnet"].as_str());
    // A subnet that the Swarm took from its own pool is as good as any, and smaller than one of shoal's choosing.
    let asked: Vec<Value> = subnets
        .filter(|subnet| {
            let kept = !subnet.starts_with(CHOSEN);
            if !kept {
                notes.push(format!("gets another subnet than {subnet}, which the Swarm chose"));
            }
            kept
        })
        .map(|subnet| json!({ "Subnet": subnet }))
        .collect();
    json!({
        "Name": plain(network), "Driver": "overlay", "CheckDuplicate": true,
        "Internal": network["Internal"], "Attachable": network["Attachable"],
        "Labels": network["Labels"], "Options": options,
        "IPAM": { "Driver": "default", "Config": asked },
    })
}

fn secret(secret: &Value, here: &Here, wishes: &Wishes) -> Item {
    let name = name_of(secret).to_owned();
    let driver = &secret["Spec"]["Driver"];
    let fate = if here.secrets.contains_key(&name) {
        Fate::Exists
    } else if !driver.is_null() && driver["Name"] != "" {
        Fate::LeftOut(
            "a secret of a plugin's driver is not supported; create it with its bytes".to_owned(),
        )
    } else if wishes.known_secrets.contains(&name) {
        Fate::Create(
            json!({ "Name": name, "Labels": labels(secret), "Templating": templating(secret) }),
        )
    } else {
        Fate::LeftOut(format!(
            "a Swarm does not show the bytes of secrets. Create it with `docker secret create {name} FILE` and import again, or put its bytes in a file of this name in the folder of --secrets"
        ))
    };
    Item { kind: Kind::Secret, name, fate, notes: Vec::new() }
}

fn labels(asset: &Value) -> &Value {
    &asset["Spec"]["Labels"]
}

fn templating(asset: &Value) -> &Value {
    &asset["Spec"]["Templating"]
}

fn config(config: &Value, here: &Here) -> Item {
    let name = name_of(config).to_owned();
    let fate = if here.configs.contains_key(&name) {
        Fate::Exists
    } else {
        Fate::Create(json!({
            "Name": name,
            "Labels": labels(config),
            "Data": config["Spec"]["Data"],
            "Templating": templating(config),
        }))
    };
    Item { kind: Kind::Config, name, fate, notes: Vec::new() }
}

fn service(
    service: &Value,
    swarm: &Swarm,
    here: &Here,
    wishes: &Wishes,
    missing: &BTreeSet<String>,
) -> Item {
    let name = name_of(service).to_owned();
    let mut notes = Vec::new();
    let fate = if here.services.contains_key(&name) {
        Fate::Exists
    } else {
        let spec = service["Spec"].clone();
        translated(spec, swarm, wishes, missing, &mut notes)
            .map_or_else(Fate::LeftOut, Fate::Create)
    };
    Item { kind: Kind::Service, name, fate, notes }
}

fn translated(
    mut spec: Value,
    swarm: &Swarm,
    wishes: &Wishes,
    missing: &BTreeSet<String>,
    notes: &mut Vec<String>,
) -> Result<Value, String> {
    let lacking = references(&spec, "Secrets")
        .filter_map(|one| one["SecretName"].as_str())
        .find(|name| missing.contains(*name));
    if let Some(secret) = lacking {
        return Err(format!("it needs the secret {secret}, which is not here"));
    }
    networks(&mut spec, swarm, wishes, notes);
    ports(&mut spec, wishes, notes);
    if wishes.stopped && spec["Mode"]["Replicated"].is_object() {
        let replicas = spec["Mode"]["Replicated"]["Replicas"].as_u64().unwrap_or(1);
        spec["Mode"]["Replicated"]["Replicas"] = json!(0);
        notes.push(format!("has no replicas yet; it had {replicas} in the Swarm"));
    } else if wishes.stopped {
        notes.push(
            "runs at once: only replicated services can be created without replicas".to_owned(),
        );
    }
    let constraints = spec["TaskTemplate"]["Placement"]["Constraints"].as_array();
    for constraint in constraints.into_iter().flatten().filter_map(Value::as_str) {
        if constraint.trim_start().to_ascii_lowercase().starts_with("node.id") {
            notes.push(format!(
                "the constraint {constraint} names a node of the Swarm; nodes have other ids here"
            ));
        }
    }
    Ok(spec)
}

/// Names for ids; [`with_ids`] puts in those that they have here.
fn networks(spec: &mut Value, swarm: &Swarm, wishes: &Wishes, notes: &mut Vec<String>) {
    let names: BTreeMap<&str, &str> = swarm
        .networks
        .iter()
        .filter_map(|n| Some((n["Id"].as_str()?, n["Name"].as_str()?)))
        .collect();
    let mut all = taken(spec, "Networks");
    all.extend(taken(&mut spec["TaskTemplate"], "Networks"));
    let mut kept = Vec::new();
    for mut network in all {
        let target = network["Target"].as_str().unwrap_or_default().to_owned();
        let name = names.get(target.as_str()).copied().unwrap_or(&target).to_owned();
        if wishes.without_networks && !is_engines_own(&name) {
            notes.push(format!("is not on the network {name}"));
        } else {
            network["Target"] = json!(name);
            kept.push(network);
        }
    }
    if !kept.is_empty() {
        spec["TaskTemplate"]["Networks"] = Value::Array(kept);
    }
}

/// Takes a list out of an object.
fn taken(parent: &mut Value, key: &str) -> Vec<Value> {
    match parent.as_object_mut().and_then(|map| map.shift_remove(key)) {
        Some(Value::Array(list)) => list,
        _ => Vec::new(),
    }
}

/// A port that is open on every node stays so, unless the operator wants it on the hosts that run a replica only.
fn ports(spec: &mut Value, wishes: &Wishes, notes: &mut Vec<String>) {
    let ports = spec.pointer_mut("/EndpointSpec/Ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter(|_| wishes.publish_on_hosts) {
        if port["PublishMode"].as_str().unwrap_or("ingress") == "host" {
            continue;
        }
        let number = port["PublishedPort"].as_u64().or(port["TargetPort"].as_u64()).unwrap_or(0);
        port["PublishMode"] = json!("host");
        notes.push(format!(
            "port {number} is open only on hosts that run a replica, at most one on each"
        ));
    }
}

#[cfg(test)]
#[path = "translate_tests.rs"]
mod tests;
