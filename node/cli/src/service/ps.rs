//! `shoal service ps`: where each replica is, since when, and why whatever is not running is not.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::{Map, Value, json};

use super::{FormatFlag, find, text};
use crate::age;
use crate::client::{Client, filters};
use crate::exit::{Failure, Outcome};
use crate::output::{self, Colour, Format, Palette, short};

/// Longer errors are cut in the table; `--no-trunc` shows them whole.
const ERROR_CHARS: usize = 60;

#[derive(Args, Clone, Debug)]
pub(crate) struct PsFlags {
    #[command(flatten)]
    format: FormatFlag,
    /// Show whole ids and errors
    #[arg(long)]
    no_trunc: bool,
    /// KEY=VALUE: desired-state=running|shutdown, node=NAME, name=PREFIX, id=PREFIX
    #[arg(long, short = 'f', value_name = "FILTER")]
    filter: Vec<String>,
    /// Print task ids only
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) async fn run(client: &Client, flags: &PsFlags) -> Outcome {
    let mut wanted = Map::new();
    let mut ids = Vec::new();
    for service in &flags.services {
        ids.push(find(client, service).await?["ID"].clone());
    }
    wanted.insert("service".to_owned(), Value::Array(ids));
    for filter in &flags.filter {
        let (key, value) = filter.split_once('=').ok_or_else(|| {
            Failure::usage(format!("'{filter}' is not KEY=VALUE, such as desired-state=running"))
        })?;
        let list = wanted.entry(key).or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(json!(value));
        }
    }
    let tasks = client.get(&format!("/tasks?{}", filters(&Value::Object(wanted)))).await?;
    rows_of_tasks(client, tasks, flags.format.format, flags.no_trunc, flags.quiet).await
}

/// Prints tasks of any services; the same for `service ps` and `node ps`.
pub(crate) async fn rows_of_tasks(
    client: &Client,
    tasks: Value,
    format: Format,
    no_trunc: bool,
    quiet: bool,
) -> Outcome {
    let (services, nodes) = tokio::try_join!(client.get("/services"), client.get("/nodes"))?;
    let services = names(&services, |s| &s["Spec"]["Name"]);
    let nodes = names(&nodes, |n| &n["Description"]["Hostname"]);
    let mut rows: Vec<Row> = tasks
        .as_array()
        .into_iter()
        .flatten()
        .map(|task| Row::new(task, &services, &nodes))
        .collect();
    rows.sort_by(|a, b| a.order().cmp(&b.order()));
    if quiet {
        let id = |row: &Row| if no_trunc { row.id.clone() } else { short(&row.id) };
        return rows.iter().try_for_each(|row| output::say(id(row)));
    }
    if format == Format::Json {
        return output::json(&rows.iter().map(Row::as_json).collect());
    }
    let palette = Palette::stdout();
    let mut lines = Vec::new();
    for (at, row) in rows.iter().enumerate() {
        let repeated = at > 0 && rows[at - 1].name == row.name;
        lines.push(row.as_line(repeated, no_trunc, palette));
    }
    let headers =
        ["ID", "NAME", "IMAGE", "NODE", "DESIRED STATE", "CURRENT STATE", "ERROR", "PORTS"];
    output::table(&headers, &lines)
}

fn names(list: &Value, name: impl Fn(&Value) -> &Value) -> BTreeMap<String, String> {
    list.as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            (text(item, "ID").to_owned(), name(item).as_str().unwrap_or_default().to_owned())
        })
        .collect()
}

struct Row {
    id: String,
    service: String,
    slot: u64,
    name: String,
    node: Option<String>,
    created: String,
    task: Value,
}

impl Row {
    fn new(
        task: &Value,
        services: &BTreeMap<String, String>,
        nodes: &BTreeMap<String, String>,
    ) -> Self {
        let service_id = text(task, "ServiceID");
        let service = services.get(service_id).cloned().unwrap_or_else(|| short(service_id));
        let node_id = text(task, "NodeID");
        let node = (!node_id.is_empty())
            .then(|| nodes.get(node_id).cloned().unwrap_or_else(|| short(node_id)));
        let slot = task["Slot"].as_u64();
        let place = slot.map_or_else(
            || node.clone().unwrap_or_else(|| "?".to_owned()),
            |slot| slot.to_string(),
        );
        Self {
            id: text(task, "ID").to_owned(),
            name: format!("{service}.{place}"),
            service,
            slot: slot.unwrap_or_default(),
            node,
            created: text(task, "CreatedAt").to_owned(),
            task: task.clone(),
        }
    }

    /// By place, and the newest task of a place first.
    fn order(&self) -> impl Ord + '_ {
        (
            self.service.as_str(),
            self.slot,
            self.name.as_str(),
            std::cmp::Reverse(self.created.as_str()),
            self.id.as_str(),
        )
    }

    fn state(&self) -> &str {
        text(&self.task["Status"], "State")
    }

    fn as_line(&self, repeated: bool, no_trunc: bool, palette: Palette) -> Vec<String> {
        let status = &self.task["Status"];
        let error = text(status, "Err");
        let error = if no_trunc || error.chars().count() <= ERROR_CHARS {
            error.to_owned()
        } else {
            format!("{}…", error.chars().take(ERROR_CHARS).collect::<String>())
        };
        let colour = match self.state() {
            "running" | "complete" => Colour::Green,
            "failed" | "rejected" | "orphaned" => Colour::Red,
            "shutdown" | "remove" => Colour::Blue,
            _ => Colour::Yellow,
        };
        let current = format!("{} {}", capital(self.state()), age::ago(text(status, "Timestamp")));
        vec![
            if no_trunc { self.id.clone() } else { short(&self.id) },
            if repeated { format!(" \\_ {}", self.name) } else { self.name.clone() },
            text(&self.task["Spec"]["ContainerSpec"], "Image").to_owned(),
            self.node.clone().unwrap_or_default(),
            capital(text(&self.task, "DesiredState")),
            palette.paint(colour, &current),
            error,
            super::ls::ports(&status["PortStatus"]["Ports"]),
        ]
    }

    fn as_json(&self) -> Value {
        let status = &self.task["Status"];
        json!({
            "id": self.id,
            "service": self.service,
            "name": self.name,
            "slot": self.task["Slot"],
            "image": self.task["Spec"]["ContainerSpec"]["Image"],
            "node": self.node,
            "node_id": self.task["NodeID"],
            "desired_state": self.task["DesiredState"],
            "state": status["State"],
            "since": status["Timestamp"],
            "created": self.created,
            "message": status["Message"],
            "error": status["Err"],
            "container": status["ContainerStatus"]["ContainerID"],
            "ports": status["PortStatus"]["Ports"].as_array().cloned().unwrap_or_default(),
        })
    }
}

fn capital(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
