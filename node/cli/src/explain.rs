//! `shoal explain …`: why a replica is where it is, or nowhere.

use clap::Args;
use serde_json::Value;

use crate::age;
use crate::client::{Client, encoded};
use crate::exit::Outcome;
use crate::output::{self, Colour, Format, Palette, say, short};
use crate::service::FormatFlag;

#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  shoal explain web.3          one replica: who holds it, and how every node ranks for it
  shoal explain web            all replicas of a service, a line each
  shoal explain agent.host-1   a global service on one node")]
pub(crate) struct ExplainFlags {
    /// SERVICE.SLOT, a service, or the id of a task
    #[arg(value_name = "WHAT")]
    what: String,
    #[command(flatten)]
    format: FormatFlag,
}

pub(crate) async fn run(client: &Client, flags: &ExplainFlags) -> Outcome {
    let answer = client.get(&format!("/shoal/v1/explain/{}", encoded(&flags.what))).await?;
    if flags.format.format == Format::Json {
        return output::json(&answer);
    }
    if answer["slots"].is_array() { all(&answer) } else { one(&answer) }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// `host-1 for 3 minutes`
fn held(holder: &Value) -> String {
    let since = age::ago(text(holder, "since"));
    format!(
        "{} on {} for {}",
        text(holder, "phase"),
        text(&holder["node"], "name"),
        since.trim_end_matches(" ago")
    )
}

fn all(answer: &Value) -> Outcome {
    let dash = |value: &Value| match value["name"].as_str() {
        Some(name) => name.to_owned(),
        None => "-".to_owned(),
    };
    let rows: Vec<Vec<String>> = list(answer, "slots")
        .map(|slot| {
            let holder = &slot["holder"];
            vec![
                text(slot, "replica").to_owned(),
                dash(&holder["node"]),
                text(holder, "phase").to_owned(),
                if holder.is_null() {
                    String::new()
                } else {
                    age::ago(text(holder, "since")).trim_end_matches(" ago").to_owned()
                },
                dash(&slot["first"]),
                text(slot, "fate").to_owned(),
                text(slot, "text").to_owned(),
            ]
        })
        .collect();
    output::table(
        &["REPLICA", "NODE", "PHASE", "FOR", "FRESH CHOICE", "WHAT FOLLOWS", "WHY"],
        &rows,
    )?;
    let of = answer["of"].as_u64().unwrap_or_default();
    if of > rows.len() as u64 {
        let name = text(&answer["service"], "name");
        say(format!(
            "the first {} of {of}; `shoal explain {name}.N` explains any of them",
            rows.len()
        ))?;
    }
    Ok(())
}

fn one(answer: &Value) -> Outcome {
    let palette = Palette::stdout();
    let title = palette.paint(Colour::Bold, text(answer, "replica"));
    let holders: Vec<&Value> = list(answer, "holders").collect();
    match holders.first().filter(|holder| holder["live"] == true) {
        Some(holder) => say(format!("{title} is {}", held(holder)))?,
        None => say(format!("{title} is held by nobody"))?,
    }
    say(text(answer, "text"))?;
    for holder in &holders {
        say(claim(holder))?;
    }
    let task = &answer["task"];
    if !task.is_null() {
        let why = match task["error"].as_str() {
            Some(error) => format!(": {error}"),
            None => String::new(),
        };
        say(format!(
            "  task {} is {} since {}{why}",
            short(text(task, "id")),
            text(task, "state"),
            age::ago(text(task, "since")),
        ))?;
    }
    list(answer, "caveats")
        .filter_map(Value::as_str)
        .try_for_each(|caveat| say(palette.paint(Colour::Cyan, caveat)))?;
    let rows: Vec<Vec<String>> = list(answer, "hosts").map(host).collect();
    if rows.is_empty() {
        return Ok(());
    }
    say("")?;
    if list(answer, "hosts").all(|host| host["tasks"].is_null()) {
        let rows: Vec<Vec<String>> = rows
            .into_iter()
            .map(|row| vec![row[1].clone(), row[2].clone(), row[9].clone()])
            .collect();
        return output::table(&["NODE", "ZONE", "WHY"], &rows);
    }
    say("If it had to be placed now (figures with it there):")?;
    let headers = [
        "RANK",
        "NODE",
        "ZONE",
        "IN ZONE",
        "ON NODE",
        "TASKS",
        "CPU",
        "MEMORY",
        "RACE",
        "WHY THERE",
    ];
    output::table(&headers, &rows)
}

fn claim(holder: &Value) -> String {
    let mut line = format!(
        "  claimed by {} in epoch {}, task {} of {}",
        text(&holder["node"], "name"),
        holder["epoch"],
        short(text(holder, "task")),
        age::ago(text(holder, "created")),
    );
    if holder["live"] != true {
        line += ", which does not count: its node is gone";
    }
    let failures = holder["failures"].as_u64().unwrap_or_default();
    if failures > 0 {
        line += &format!(", {failures} failed in a row");
    }
    if let Some(error) = holder["error"].as_str() {
        line += &format!(": {error}");
    }
    line
}

fn host(host: &Value) -> Vec<String> {
    let number = |key: &str| host[key].as_u64().map(|n| n.to_string()).unwrap_or_default();
    let percent = |key: &str| host[key].as_u64().map(|n| format!("{n}%")).unwrap_or_default();
    let rank = match host["rank"].as_u64() {
        Some(0) => "first".to_owned(),
        Some(rank) => rank.to_string(),
        None if host["refused"] == true => "no".to_owned(),
        None => "later".to_owned(),
    };
    let here = if host["holds_it"] == true { " *" } else { "" };
    vec![
        rank,
        format!("{}{here}", text(&host["node"], "name")),
        text(host, "zone").to_owned(),
        number("zone_replicas"),
        number("replicas"),
        number("tasks"),
        percent("cpu_percent"),
        percent("memory_percent"),
        number("race_place"),
        text(host, "reason").to_owned(),
    ]
}
