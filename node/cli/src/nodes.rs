//! `shoal node …`: the members, and what operators set on them.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};

use crate::age;
use crate::client::{Client, encoded, filters};
use crate::exit::{Failure, Outcome};
use crate::output::{self, Colour, Format, Palette, bytes, cores, say, short};
use crate::service::{FormatFlag, each, label, rows_of_tasks, word};

/// How often a change is made anew on top of somebody else's that came between.
const TRIES: usize = 5;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum NodeCommand {
    /// List the members, their state and why
    #[command(visible_alias = "list")]
    Ls(FormatFlag),
    /// Show members in detail, as JSON
    Inspect {
        /// Names, ids, the beginnings of ids, or `self`
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Set labels, role or availability
    Update(UpdateFlags),
    /// Forget members that are down or have left
    #[command(visible_alias = "remove")]
    Rm {
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// List the tasks on nodes
    Ps(PsFlags),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct PsFlags {
    #[command(flatten)]
    format: FormatFlag,
    /// Show whole ids and errors
    #[arg(long)]
    no_trunc: bool,
    /// Names, ids, the beginnings of ids, or `self`
    #[arg(value_name = "NODE", default_value = "self")]
    nodes: Vec<String>,
}

#[derive(Args, Clone, Debug)]
pub(crate) struct UpdateFlags {
    /// `drain` moves replicas away, `pause` takes no new ones
    #[arg(long, value_enum)]
    availability: Option<Availability>,
    /// For constraints on node.role; every node takes commands whatever its role
    #[arg(long, value_enum)]
    role: Option<Role>,
    #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
    label_add: Vec<(String, String)>,
    #[arg(long, value_name = "KEY")]
    label_rm: Vec<String>,
    /// Name, id, the beginning of an id, or `self`
    #[arg(value_name = "NODE")]
    node: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Availability {
    Active,
    Pause,
    Drain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    Manager,
    Worker,
}

pub(crate) async fn run(client: &Client, command: NodeCommand) -> Outcome {
    match command {
        NodeCommand::Ls(flags) => {
            let members = client.get("/shoal/v1/members").await?;
            if flags.format == Format::Json { output::json(&members) } else { table(&members) }
        }
        NodeCommand::Inspect { nodes } => inspect(client, &nodes).await,
        NodeCommand::Update(flags) => update(client, &flags).await,
        NodeCommand::Rm { nodes } => {
            each(&nodes, async |node: &String| {
                client.delete(&format!("/nodes/{}", encoded(node))).await?;
                say(node)
            })
            .await
        }
        NodeCommand::Ps(flags) => {
            let wanted = json!({ "node": flags.nodes });
            let tasks = client.get(&format!("/tasks?{}", filters(&wanted))).await?;
            rows_of_tasks(client, tasks, flags.format.format, flags.no_trunc, false).await
        }
    }
}

/// The members as rows; `*` marks the node that answers.
pub(crate) fn table(members: &Value) -> Outcome {
    let palette = Palette::stdout();
    let mut members: Vec<&Value> = members.as_array().into_iter().flatten().collect();
    members.sort_by_key(|member| (text(member, "name"), text(member, "id")));
    let rows: Vec<Vec<String>> = members.iter().map(|member| row(member, palette)).collect();
    let headers = [
        "ID",
        "NAME",
        "STATE",
        "AVAILABILITY",
        "REPLICAS",
        "FREE",
        "ADDRESS",
        "ZONE",
        "ENGINE",
        "WHY",
    ];
    output::table(&headers, &rows)
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn row(member: &Value, palette: Palette) -> Vec<String> {
    let state = text(member, "state");
    let colour = match state.as_str() {
        "alive" => Colour::Green,
        "down" => Colour::Red,
        "left" => Colour::Blue,
        _ => Colour::Yellow,
    };
    let me = if member["is_me"] == true { " *" } else { "" };
    vec![
        format!("{}{me}", short(&text(member, "id"))),
        text(member, "name"),
        palette.paint(colour, &format!("{state} {}", since(member))),
        text(member, "availability"),
        // What a node that is gone said last is true of nobody now.
        if matches!(state.as_str(), "down" | "left") {
            "-".to_owned()
        } else {
            member["replicas"].to_string()
        },
        free(member),
        text(member, "addr"),
        text(member, "zone"),
        engine(member),
        why(member),
    ]
}

fn since(member: &Value) -> String {
    age::ago(&text(member, "since")).trim_end_matches(" ago").to_owned()
}

fn free(member: &Value) -> String {
    let left = |key: &str| {
        let amount = |part: &str| member[part][key].as_u64().unwrap_or_default();
        amount("capacity").saturating_sub(amount("reserved"))
    };
    if member["capacity"].is_null() {
        return String::new();
    }
    format!("{} cores, {}", cores(left("cpu_milli")), bytes(left("memory_bytes")))
}

fn engine(member: &Value) -> String {
    match member["engine"]["state"].as_str() {
        Some("unavailable") => "unavailable".to_owned(),
        Some(_) => format!("{} {}", text(member, "runtime"), text(member, "engine_version"))
            .trim_end()
            .to_owned(),
        None => String::new(),
    }
}

fn why(member: &Value) -> String {
    let mut reasons = vec![text(member, "reason")];
    if member["engine"]["state"] == "unavailable" {
        reasons.push(format!("engine: {}", text(&member["engine"], "reason")));
    }
    if member["settling"] == true {
        reasons.push("settling in".to_owned());
    }
    if member["leaving"] == true {
        reasons.push("leaving".to_owned());
    }
    reasons.retain(|reason| !reason.is_empty());
    reasons.join("; ")
}

async fn inspect(client: &Client, nodes: &[String]) -> Outcome {
    let mut all = Vec::new();
    for node in nodes {
        let docker = client.get(&format!("/nodes/{}", encoded(node))).await?;
        let id = text(&docker, "ID");
        let mut member = client.get(&format!("/shoal/v1/members/{id}")).await?;
        // What the docker CLI shows of it, beside what only shoal knows.
        member["docker"] = docker;
        all.push(member);
    }
    output::json(&Value::Array(all))
}

async fn update(client: &Client, flags: &UpdateFlags) -> Outcome {
    if flags.availability.is_none()
        && flags.role.is_none()
        && flags.label_add.is_empty()
        && flags.label_rm.is_empty()
    {
        return Err(Failure::usage(
            "nothing to change: give --availability, --role, --label-add or --label-rm",
        ));
    }
    let mut tries = TRIES;
    loop {
        let node = client.get(&format!("/nodes/{}", encoded(&flags.node))).await?;
        let mut spec = node["Spec"].clone();
        change(&mut spec, flags);
        let (id, version) = (text(&node, "ID"), &node["Version"]["Index"]);
        match client.post(&format!("/nodes/{id}/update?version={version}"), &spec).await {
            Ok(_) => return say(&flags.node),
            Err(error) if error.is_out_of_sequence() && tries > 1 => tries -= 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn change(spec: &mut Value, flags: &UpdateFlags) {
    if let Some(availability) = &flags.availability {
        spec["Availability"] = json!(word(availability));
    }
    if let Some(role) = &flags.role {
        spec["Role"] = json!(word(role));
    }
    let mut labels = spec["Labels"].as_object().cloned().unwrap_or_default();
    labels.retain(|key, _| !flags.label_rm.contains(key));
    labels.extend(flags.label_add.iter().map(|(key, value)| (key.clone(), json!(value))));
    spec["Labels"] = Value::Object(labels);
}
