//! Commands that change a service: create, scale, update, rollback. Each is stored first, by the node,
//! on two disks; then we wait until it has come about.

use clap::Args;
use serde_json::{Value, json};

use super::flags::{ChangeFlags, CreateFlags, WaitFlags};
use super::{converge, find, given, spec, text};
use crate::client::Client;
use crate::exit::{Failure, Outcome};
use crate::output::{note, say};

/// How often a change is made anew on top of somebody else's that came between.
const TRIES: usize = 5;

pub(super) async fn create(client: &Client, flags: &CreateFlags) -> Outcome {
    let mut wanted = spec::create(flags)?;
    refuse_ingress(&flags.publish)?;
    let container = &mut wanted["TaskTemplate"]["ContainerSpec"];
    for (kind, files) in [(given::SECRETS, &flags.secret), (given::CONFIGS, &flags.config)] {
        given::change(container, kind, &given::references(client, kind, files).await?, &[]);
    }
    let made = client.post("/services/create", &wanted).await?;
    warn(&made);
    let id = text(&made, "ID").to_owned();
    say(&id)?;
    let name = match &flags.name {
        Some(name) => name.clone(),
        None => text(&find(client, &id).await?["Spec"], "Name").to_owned(),
    };
    converge::wait(client, &id, &name, &Value::Null, &flags.shared.wait).await
}

/// The node refuses it too; here it can be said in the words that were typed.
fn refuse_ingress(ports: &[Value]) -> Result<(), Failure> {
    let Some(port) = ports.iter().find(|port| port["PublishMode"] == "ingress") else {
        return Ok(());
    };
    let target = &port["TargetPort"];
    let published = port["PublishedPort"].as_u64().map(|p| format!(",published={p}"));
    Err(Failure::failed(format!(
        "publishing in ingress mode is not supported: shoal has no routing mesh yet that would answer on every node. Publish on the hosts that run a replica instead: --publish mode=host,target={target}{}. Nothing was changed",
        published.unwrap_or_default()
    )))
}

fn warn(answer: &Value) {
    for warning in answer["Warnings"].as_array().into_iter().flatten() {
        note(format!("warning: {}", warning.as_str().unwrap_or_default()));
    }
}

/// Reads, edits and writes; again when somebody else was quicker.
async fn edit(
    client: &Client,
    wanted: &str,
    change: impl Fn(&mut Value) -> Result<(), Failure>,
) -> Result<Value, Failure> {
    let mut tries = TRIES;
    loop {
        let service = find(client, wanted).await?;
        let mut spec = service["Spec"].clone();
        change(&mut spec)?;
        let (id, version) = (text(&service, "ID"), &service["Version"]["Index"]);
        match client.post(&format!("/services/{id}/update?version={version}"), &spec).await {
            Ok(answer) => {
                warn(&answer);
                return Ok(service);
            }
            Err(error) if error.is_out_of_sequence() && tries > 1 => tries -= 1,
            Err(error) => return Err(error.into()),
        }
    }
}

fn name_of(service: &Value) -> String {
    text(&service["Spec"], "Name").to_owned()
}

pub(super) async fn update(client: &Client, flags: &ChangeFlags) -> Outcome {
    if flags.rollback {
        let alone =
            RollbackFlags { wait: flags.shared.wait.clone(), service: flags.service.clone() };
        return rollback(client, &alone).await;
    }
    refuse_ingress(&flags.publish_add)?;
    let secrets = given::references(client, given::SECRETS, &flags.secret_add).await?;
    let configs = given::references(client, given::CONFIGS, &flags.config_add).await?;
    let before = edit(client, &flags.service, |spec| {
        spec::change(spec, flags)?;
        let container = &mut spec["TaskTemplate"]["ContainerSpec"];
        given::change(container, given::SECRETS, &secrets, &flags.secret_rm);
        given::change(container, given::CONFIGS, &configs, &flags.config_rm);
        Ok(())
    })
    .await?;
    say(&flags.service)?;
    let (id, name) = (text(&before, "ID"), name_of(&before));
    converge::wait(client, id, &name, &before, &flags.shared.wait).await
}

#[derive(Args, Clone, Debug)]
pub(crate) struct RollbackFlags {
    #[command(flatten)]
    wait: WaitFlags,
    /// Name, id, or the beginning of an id
    #[arg(value_name = "SERVICE")]
    service: String,
}

pub(super) async fn rollback(client: &Client, flags: &RollbackFlags) -> Outcome {
    let mut tries = TRIES;
    let service = loop {
        let service = find(client, &flags.service).await?;
        let (id, version) = (text(&service, "ID"), &service["Version"]["Index"]);
        let path = format!("/services/{id}/update?version={version}&rollback=previous");
        match client.post(&path, &service["Spec"]).await {
            Ok(_) => break service,
            Err(error) if error.is_out_of_sequence() && tries > 1 => tries -= 1,
            Err(error) => return Err(error.into()),
        }
    };
    say(&flags.service)?;
    converge::wait_for_rollback(client, text(&service, "ID"), &name_of(&service), &flags.wait).await
}

#[derive(Args, Clone, Debug)]
pub(crate) struct ScaleFlags {
    #[command(flatten)]
    wait: WaitFlags,
    /// How many replicas of what
    #[arg(required = true, value_name = "SERVICE=REPLICAS", value_parser = scale_of)]
    services: Vec<(String, u64)>,
}

pub(crate) fn scale_of(text: &str) -> Result<(String, u64), String> {
    text.split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)))
        .ok_or_else(|| format!("'{text}' is not SERVICE=REPLICAS, such as web=5"))
}

pub(super) async fn scale(client: &Client, flags: &ScaleFlags) -> Outcome {
    let mut changed = Vec::new();
    // All are stored first, so that they happen at the same time; then each is waited for.
    for (service, replicas) in &flags.services {
        let before = edit(client, service, |spec| {
            let (mode, count) = match spec::mode_key(spec) {
                mode @ "Replicated" => (mode, "Replicas"),
                mode @ "ReplicatedJob" => (mode, "TotalCompletions"),
                _ => {
                    return Err(Failure::failed(format!(
                        "{service} is a global service: it runs once on every node and cannot be scaled"
                    )));
                }
            };
            spec["Mode"][mode][count] = json!(replicas);
            Ok(())
        })
        .await?;
        say(format!("{service} scaled to {replicas}"))?;
        changed.push(before);
    }
    for service in &changed {
        let (id, name) = (text(service, "ID"), name_of(service));
        converge::wait(client, id, &name, service, &flags.wait).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_are_names_and_numbers() {
        assert_eq!(scale_of("web=5"), Ok(("web".to_owned(), 5)));
        for bad in ["web", "=5", "web=", "web=-1", "web=x"] {
            assert!(scale_of(bad).is_err(), "{bad}");
        }
    }
}
