//! `shoal service …`: the docker CLI's service commands, for hosts without the docker CLI.

use clap::Subcommand;
use serde_json::Value;

use crate::client::{Client, encoded};
use crate::exit::{Failure, Outcome};
use crate::output::Format;

mod change;
mod converge;
mod display;
mod flags;
mod given;
mod inspect;
mod logs;
mod ls;
mod ps;
mod spec;
mod values;

pub(crate) use change::scale_of;
pub(crate) use flags::word;
pub(crate) use ps::rows_of_tasks;
pub(crate) use values::{bytes, cpus, duration, label};

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ServiceCommand {
    /// Create a service and wait until it runs
    #[command(after_help = "Example:\n  shoal service create --name web --replicas 3 nginx")]
    Create(Box<flags::CreateFlags>),
    /// List services
    #[command(visible_alias = "list")]
    Ls(ls::LsFlags),
    /// List the tasks of services, with the reason of whatever is not running
    Ps(ps::PsFlags),
    /// Show services in detail
    Inspect(inspect::InspectFlags),
    /// Change the number of replicas
    #[command(after_help = "Example:\n  shoal service scale web=100 db=2")]
    Scale(change::ScaleFlags),
    /// Change a service, replacing its replicas a few at a time
    Update(Box<flags::ChangeFlags>),
    /// Go back to a service's previous spec
    Rollback(change::RollbackFlags),
    /// Show what the replicas of a service print, from all hosts
    Logs(logs::LogFlags),
    /// Remove services and stop their replicas
    #[command(visible_alias = "remove")]
    Rm {
        /// Names, ids, or the beginnings of ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
}

pub(crate) async fn run(client: &Client, command: ServiceCommand) -> Outcome {
    match command {
        ServiceCommand::Create(flags) => change::create(client, &flags).await,
        ServiceCommand::Ls(flags) => ls::run(client, &flags).await,
        ServiceCommand::Ps(flags) => ps::run(client, &flags).await,
        ServiceCommand::Inspect(flags) => inspect::run(client, &flags).await,
        ServiceCommand::Scale(flags) => change::scale(client, &flags).await,
        ServiceCommand::Update(flags) => change::update(client, &flags).await,
        ServiceCommand::Rollback(flags) => change::rollback(client, &flags).await,
        ServiceCommand::Logs(flags) => logs::run(client, &flags).await,
        ServiceCommand::Rm { services } => remove(client, &services).await,
    }
}

/// One service, by name, id or the beginning of an id.
async fn find(client: &Client, wanted: &str) -> Result<Value, Failure> {
    Ok(client.get(&format!("/services/{}", encoded(wanted))).await?)
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

async fn remove(client: &Client, services: &[String]) -> Outcome {
    each(services, async |service: &String| {
        client.delete(&format!("/services/{}", encoded(service))).await?;
        crate::output::say(service)
    })
    .await
}

/// Does something for each, goes on after a refusal, and fails in the end if any was refused.
pub(crate) async fn each<T>(items: &[T], act: impl AsyncFn(&T) -> Outcome) -> Outcome {
    let mut failed: Option<Failure> = None;
    for item in items {
        if let Err(failure) = act(item).await {
            failed = Some(match failed {
                None => failure,
                Some(before) => {
                    Failure::new(before.code, format!("{}\n{}", before.message, failure.message))
                }
            });
        }
    }
    failed.map_or(Ok(()), Err)
}

/// The mode as people call it, with how many replicas or slots where it is so many.
fn mode(spec: &Value) -> (&'static str, Option<u64>) {
    let mode = &spec["Mode"];
    match spec::mode_key(spec) {
        "Global" => ("global", None),
        "GlobalJob" => ("global-job", None),
        "ReplicatedJob" => ("replicated-job", mode["ReplicatedJob"]["TotalCompletions"].as_u64()),
        _ => ("replicated", mode["Replicated"]["Replicas"].as_u64()),
    }
}

#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub(crate) struct FormatFlag {
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}
