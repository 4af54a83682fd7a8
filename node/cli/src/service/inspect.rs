//! `shoal service inspect`

use clap::Args;
use serde_json::Value;

use super::{mode, text};
use crate::age;
use crate::client::{Client, encoded};
use crate::exit::Outcome;
use crate::output::{self, Colour, Format, Palette, bytes, cores};

#[derive(Args, Clone, Debug)]
pub(crate) struct InspectFlags {
    /// How to print it [default: json]
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// For people; the same as --format table
    #[arg(long)]
    pretty: bool,
    /// Names, ids, or the beginnings of ids
    #[arg(required = true, value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) async fn run(client: &Client, flags: &InspectFlags) -> Outcome {
    let mut all = Vec::new();
    for service in &flags.services {
        let path = format!("/services/{}?insertDefaults=true", encoded(service));
        all.push(client.get(&path).await?);
    }
    if flags.pretty || flags.format == Some(Format::Table) {
        return all.iter().try_for_each(pretty);
    }
    output::json(&Value::Array(all))
}

fn pretty(service: &Value) -> Outcome {
    let palette = Palette::stdout();
    let spec = &service["Spec"];
    let template = &spec["TaskTemplate"];
    let container = &template["ContainerSpec"];
    let mut lines = Vec::new();
    let mut line = |name: &str, value: String| {
        if !value.is_empty() {
            lines.push(format!("{} {value}", palette.paint(Colour::Bold, &format!("{name}:"))));
        }
    };
    line("Name", text(spec, "Name").to_owned());
    line("ID", text(service, "ID").to_owned());
    line("Labels", pairs(&spec["Labels"]));
    line(
        "Mode",
        match mode(spec) {
            (name @ "replicated-job", Some(total)) => {
                let most = &spec["Mode"]["ReplicatedJob"]["MaxConcurrent"];
                format!("{name}, {total} slots, {most} at once")
            }
            (name, Some(replicas)) => format!("{name}, {replicas} replicas"),
            (name, None) => name.to_owned(),
        },
    );
    line("Created", age::ago(text(service, "CreatedAt")));
    line("Updated", age::ago(text(service, "UpdatedAt")));
    let status = &service["UpdateStatus"];
    if !status.is_null() {
        line("Update", format!("{}: {}", text(status, "State"), text(status, "Message")));
    }
    let job = &service["JobStatus"];
    if !job.is_null() {
        let (number, at) = (&job["JobIteration"]["Index"], age::ago(text(job, "LastExecution")));
        line("Execution", format!("{number}, asked for {at}"));
    }
    line("Image", text(container, "Image").to_owned());
    line("Entrypoint", list(&container["Command"], " "));
    line("Arguments", list(&container["Args"], " "));
    line("Environment", list(&container["Env"], " "));
    line("User", text(container, "User").to_owned());
    line("Directory", text(container, "Dir").to_owned());
    line("Container labels", pairs(&container["Labels"]));
    line("Mounts", mounts(&container["Mounts"]));
    line("Constraints", list(&template["Placement"]["Constraints"], ", "));
    line("Reserved", amounts(&template["Resources"]["Reservations"]));
    line("Limits", amounts(&template["Resources"]["Limits"]));
    line("Restart", text(&template["RestartPolicy"], "Condition").to_owned());
    if job.is_null() {
        line("Update one by one", rollout(&spec["UpdateConfig"]));
        line("Roll back", rollout(&spec["RollbackConfig"]));
    }
    line("Ports", super::ls::ports(&service["Endpoint"]["Ports"]));
    output::say(lines.join("\n"))
}

fn list(value: &Value, between: &str) -> String {
    let texts: Vec<&str> =
        value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    texts.join(between)
}

fn pairs(value: &Value) -> String {
    let texts: Vec<String> = value
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    texts.join(", ")
}

fn mounts(value: &Value) -> String {
    let one = |mount: &Value| {
        let read_only = if mount["ReadOnly"] == true { " (read only)" } else { "" };
        format!(
            "{} {} -> {}{read_only}",
            text(mount, "Type"),
            text(mount, "Source"),
            text(mount, "Target")
        )
    };
    let texts: Vec<String> = value.as_array().into_iter().flatten().map(one).collect();
    texts.join(", ")
}

fn amounts(value: &Value) -> String {
    let mut texts = Vec::new();
    if let Some(nanos) = value["NanoCPUs"].as_u64() {
        texts.push(format!("{} cores", cores(nanos / 1_000_000)));
    }
    if let Some(count) = value["MemoryBytes"].as_u64() {
        texts.push(bytes(count));
    }
    texts.join(", ")
}

fn rollout(config: &Value) -> String {
    let seconds = |key: &str| config[key].as_f64().unwrap_or_default() / 1e9;
    format!(
        "{} at once, {}, {} s between, watched for {} s, on failure {}",
        config["Parallelism"],
        text(config, "Order"),
        seconds("Delay"),
        seconds("Monitor"),
        text(config, "FailureAction"),
    )
}
