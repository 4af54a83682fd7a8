//! `shoal plan …`: what would happen if hosts were lost, drained or added, or services scaled. Nothing
//! is changed.

use clap::Args;
use serde_json::{Value, json};

use crate::client::Client;
use crate::exit::{Code, Failure, Outcome};
use crate::output::{self, Format};
use crate::plan_table;
use crate::service::{FormatFlag, bytes, cpus, label, scale_of};

const EXAMPLES: &str = "\
Examples:
  shoal plan --kill host-3                      may this host fail?
  shoal plan --kill-zone rack-1                 or this rack?
  shoal plan --drain host-3 --scale web=200     what moves where?
  shoal plan --add 2 --like host-1              what would two more hosts take?

Ends with 0 if everything would run, with 3 if something would be left waiting for a host.

It is this node's view at this moment, planned as every node would plan it: a candidate that is late or
busy is stepped in for by the next in rank, and what changes meanwhile is not foreseen.";

#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct PlanFlags {
    /// Suppose this node is lost (name, id, or the beginning of an id; repeatable)
    #[arg(long, value_name = "NODE")]
    kill: Vec<String>,
    /// Suppose all nodes of this zone are lost
    #[arg(long, value_name = "ZONE")]
    kill_zone: Vec<String>,
    /// Suppose this node is drained
    #[arg(long, value_name = "NODE")]
    drain: Vec<String>,
    /// Suppose this node is paused
    #[arg(long, value_name = "NODE")]
    pause: Vec<String>,
    /// Suppose this node, drained or paused, is active again
    #[arg(long, value_name = "NODE")]
    activate: Vec<String>,
    /// Suppose so many hosts are added
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=1000))]
    add: Option<u16>,
    /// The added hosts are like this one
    #[arg(long, value_name = "NODE", requires = "add")]
    like: Option<String>,
    /// The zone of the added hosts (to lose a zone: --kill-zone)
    #[arg(long, value_name = "ZONE", requires = "add")]
    zone: Option<String>,
    /// Cores of each added host
    #[arg(long, value_name = "CORES", requires = "add", value_parser = cpus)]
    cpu: Option<i64>,
    /// Memory of each added host, as 64g
    #[arg(long, value_name = "BYTES", requires = "add", value_parser = bytes)]
    memory: Option<i64>,
    /// A label of the added hosts
    #[arg(long, value_name = "KEY=VALUE", requires = "add", value_parser = label)]
    label: Vec<(String, String)>,
    /// Suppose a node has this label
    #[arg(long, value_name = "NODE:KEY=VALUE", value_parser = label_of, alias = "label-add")]
    add_label: Vec<(String, String)>,
    /// Suppose a node does not have this label any more
    #[arg(long, value_name = "NODE:KEY", value_parser = label_of, alias = "label-rm")]
    remove_label: Vec<(String, String)>,
    /// Suppose a service has so many replicas
    #[arg(long, value_name = "SERVICE=COUNT", value_parser = scale_of)]
    scale: Vec<(String, u64)>,
    #[command(flatten)]
    format: FormatFlag,
}

/// `NODE:REST`
fn label_of(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((node, rest)) if !node.is_empty() && !rest.is_empty() => {
            Ok((node.to_owned(), rest.to_owned()))
        }
        _ => {
            Err(format!("'{text}' does not name a node and a label: write it like host-1:disk=ssd"))
        }
    }
}

/// What the API is asked.
fn supposed(flags: &PlanFlags) -> Result<Value, Failure> {
    let mut added = Vec::new();
    if let Some(count) = flags.add {
        let whole = |value: i64, what: &str| {
            let wrong = || Failure::usage(format!("{what} must not be negative"));
            u64::try_from(value).map_err(|_| wrong())
        };
        added.push(json!({
            "count": count,
            "like": flags.like,
            "zone": flags.zone,
            "cpu_milli": flags.cpu.map(|nano| whole(nano / 1_000_000, "--cpu")).transpose()?,
            "memory_bytes": flags.memory.map(|bytes| whole(bytes, "--memory")).transpose()?,
            "labels": flags.label.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        }));
    }
    let labels = |labels: &[(String, String)]| -> Vec<Value> {
        labels
            .iter()
            .map(|(node, label)| {
                let (key, value) = label.split_once('=').unwrap_or((label, ""));
                json!({ "node": node, "key": key, "value": value })
            })
            .collect()
    };
    let supposed = json!({
        "kill": flags.kill,
        "kill_zones": flags.kill_zone,
        "drain": flags.drain,
        "pause": flags.pause,
        "activate": flags.activate,
        "add": added,
        "add_labels": labels(&flags.add_label),
        "remove_labels": labels(&flags.remove_label),
        "scale": flags.scale.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    let empty = |value: &Value| {
        value.as_array().is_some_and(Vec::is_empty)
            || value.as_object().is_some_and(serde_json::Map::is_empty)
    };
    if supposed.as_object().is_some_and(|parts| parts.values().all(empty)) {
        return Err(Failure::usage(
            "nothing to suppose: give --kill, --kill-zone, --drain, --add, --scale or another; see `shoal plan --help`",
        ));
    }
    Ok(supposed)
}

pub(crate) async fn run(client: &Client, flags: &PlanFlags) -> Outcome {
    let answer = client.post("/shoal/v1/plan", &supposed(flags)?).await?;
    if flags.format.format == Format::Json {
        output::json(&answer)?;
    } else {
        plan_table::print(&answer)?;
    }
    let pending = answer["counts"]["pending"].as_u64().unwrap_or_default();
    if pending > 0 {
        let replicas = if pending == 1 { "replica" } else { "replicas" };
        let text = format!("{pending} {replicas} would be left waiting for a host");
        return Err(Failure::new(Code::NotConverged, text));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read() {
        assert_eq!(label_of("h1:disk=ssd"), Ok(("h1".to_owned(), "disk=ssd".to_owned())));
        assert!(label_of("h1").is_err() && label_of(":disk").is_err() && label_of("h1:").is_err());
    }
}
