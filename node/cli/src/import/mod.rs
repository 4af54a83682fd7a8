//! `shoal import swarm`: reads what a Swarm's manager knows and creates it here.
//!
//! Nothing in the Swarm is changed, and what is here already is left as it is: the command can be run again, after
//! a secret was added or a flag thought of, and then does what is left. docs/MIGRATING.md says when to run it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use hyper::StatusCode;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::client::{Client, ClientError};
use crate::exit::{Failure, Outcome};
use crate::host;
use crate::output::{self, Format, note};

mod translate;

use translate::{Fate, Here, Item, Kind, Swarm, Wishes};

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ImportCommand {
    /// Create here what a Docker Swarm runs: networks, services, configs, and secrets whose bytes you have
    ///
    /// Nothing in the Swarm is changed. What is here already under the same name is left as it is, so the
    /// command can be run again.
    #[command(
        after_help = "Example:\n  shoal import swarm --dry-run\n  shoal import swarm --stopped --secrets ./secrets\n  shoal service scale web=5"
    )]
    Swarm(SwarmFlags),
}

#[derive(Args, Clone, Debug)]
pub(crate) struct SwarmFlags {
    /// The socket of an engine that is a manager of the Swarm
    #[arg(long, value_name = "ADDRESS", default_value = "unix:///var/run/docker.sock")]
    from: String,
    /// Create replicated services with no replicas: `shoal service scale` starts them when you are ready
    #[arg(long)]
    stopped: bool,
    /// A folder with a file for each secret, named like it: a Swarm does not show the bytes
    #[arg(long, value_name = "FOLDER")]
    secrets: Option<PathBuf>,
    /// Create services without the overlay networks that they are on in the Swarm
    #[arg(long)]
    without_networks: bool,
    /// Open ports that the Swarm opens on every node only on the hosts that run a replica
    #[arg(long)]
    publish_on_hosts: bool,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// How to print it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only these services, and what they use [default: everything]
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(crate) async fn run(client: &Client, command: ImportCommand) -> Outcome {
    let ImportCommand::Swarm(flags) = command;
    let manager = Client::new(host::socket(Some(&flags.from), None)?);
    let swarm = read(&manager, &flags.from).await?;
    let mut here = Here {
        networks: network_ids(&client.get("/networks").await?),
        services: ids(&client.get("/services").await?),
        configs: ids(&client.get("/configs").await?),
        secrets: ids(&client.get("/secrets").await?),
    };
    let items = translate::plan(&swarm, &here, &wishes(&flags, &swarm)?);
    let mut rows = Vec::with_capacity(items.len());
    for item in items {
        let done = if flags.dry_run {
            foreseen(&item)
        } else {
            carry_out(client, &item, flags.secrets.as_deref(), &mut here).await
        };
        rows.push((item, done));
    }
    show(&rows, &flags)
}

/// All that is needed of a manager.
async fn read(manager: &Client, from: &str) -> Result<Swarm, Failure> {
    let list = async |path: &str| match manager.get(path).await {
        Ok(Value::Array(list)) => Ok(list),
        Ok(_) => Ok(Vec::new()),
        Err(ClientError::Refused { status: StatusCode::SERVICE_UNAVAILABLE, .. }) => {
            Err(Failure::failed(format!(
                "the engine at {from} is not a manager of a Swarm: run this on a manager, or name the socket of one with --from. Nothing was changed"
            )))
        }
        Err(error @ ClientError::Unreachable { .. }) => {
            let why = error.to_string();
            let why = why.split(". Start one").next().unwrap_or_default();
            let why = why.replace("a shoal node", "the Swarm's manager");
            Err(Failure::failed(format!("{why}. Name its socket with --from. Nothing was changed")))
        }
        Err(error) => Err(error.into()),
    };
    Ok(Swarm {
        services: list("/services").await?,
        networks: list("/networks").await?,
        configs: list("/configs").await?,
        secrets: list("/secrets").await?,
    })
}

fn ids(list: &Value) -> BTreeMap<String, String> {
    let things = list.as_array().into_iter().flatten();
    things
        .filter_map(|one| {
            Some((translate::name_of(one).to_owned(), one["ID"].as_str()?.to_owned()))
        })
        .collect()
}

fn network_ids(list: &Value) -> BTreeMap<String, String> {
    let all = list.as_array().into_iter().flatten();
    all.filter(|network| network["Scope"] == "swarm")
        .filter_map(|one| Some((one["Name"].as_str()?.to_owned(), one["Id"].as_str()?.to_owned())))
        .collect()
}

fn wishes(flags: &SwarmFlags, swarm: &Swarm) -> Result<Wishes, Failure> {
    let mut wishes = Wishes {
        only: flags.services.clone(),
        stopped: flags.stopped,
        without_networks: flags.without_networks,
        publish_on_hosts: flags.publish_on_hosts,
        ..Wishes::default()
    };
    if let Some(folder) = &flags.secrets {
        if !folder.is_dir() {
            let text =
                format!("--secrets {}: no such folder; nothing was changed", folder.display());
            return Err(Failure::usage(text));
        }
        let names = swarm.secrets.iter().map(translate::name_of);
        let known = names
            .filter(|name| translate::secret_file(folder, name).is_some_and(|file| file.is_file()));
        wishes.known_secrets = known.map(str::to_owned).collect();
    }
    Ok(wishes)
}

/// What became of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Done {
    Created,
    WouldBeCreated,
    ThereAlready,
    LeftOut(String),
}

fn foreseen(item: &Item) -> Done {
    match &item.fate {
        Fate::Create(_) => Done::WouldBeCreated,
        Fate::Exists => Done::ThereAlready,
        Fate::LeftOut(why) => Done::LeftOut(why.clone()),
    }
}

async fn carry_out(client: &Client, item: &Item, secrets: Option<&Path>, here: &mut Here) -> Done {
    let Fate::Create(body) = &item.fate else { return foreseen(item) };
    let body = match item.kind {
        Kind::Secret => with_bytes(body.clone(), secrets, &item.name),
        Kind::Service => translate::with_ids(body.clone(), here)
            .map_err(|missing| format!("it needs {missing}, which could not be created")),
        Kind::Config | Kind::Network => Ok(body.clone()),
    };
    let made = match body {
        Ok(body) => client
            .post(&format!("/{}s/create", item.kind.word()), &body)
            .await
            .map_err(|error| error.to_string()),
        Err(why) => Err(why),
    };
    match made {
        Ok(answer) => {
            let known = match item.kind {
                Kind::Secret => &mut here.secrets,
                Kind::Config => &mut here.configs,
                Kind::Network => &mut here.networks,
                Kind::Service => &mut here.services,
            };
            let id = answer["ID"].as_str().or(answer["Id"].as_str()).unwrap_or_default().to_owned();
            known.insert(item.name.clone(), id);
            Done::Created
        }
        Err(why) => Done::LeftOut(why),
    }
}

/// Reads the bytes of a secret only when they are sent.
fn with_bytes(mut body: Value, folder: Option<&Path>, name: &str) -> Result<Value, String> {
    let file = folder.and_then(|folder| translate::secret_file(folder, name));
    let file = file.ok_or("its bytes are not known")?;
    let bytes = std::fs::read(&file).map(Zeroizing::new);
    let bytes = bytes.map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    body["Data"] = json!(STANDARD.encode(&*bytes));
    Ok(body)
}

fn show(rows: &[(Item, Done)], flags: &SwarmFlags) -> Outcome {
    let words = |done: &Done| match done {
        Done::Created => "created".to_owned(),
        Done::WouldBeCreated => "would be created".to_owned(),
        Done::ThereAlready => "there already".to_owned(),
        Done::LeftOut(_) => "left out".to_owned(),
    };
    let why = |done: &Done| match done {
        Done::LeftOut(why) => Some(why.clone()),
        _ => None,
    };
    if flags.format == Format::Json {
        let list = rows.iter().map(|(item, done)| {
            json!({
                "kind": item.kind.word(), "name": item.name, "result": words(done),
                "why": why(done), "notes": item.notes,
            })
        });
        output::json(&list.collect())?;
    } else {
        let table: Vec<Vec<String>> = rows
            .iter()
            .map(|(item, done)| vec![item.kind.word().to_owned(), item.name.clone(), words(done)])
            .collect();
        output::table(&["KIND", "NAME", "RESULT"], &table)?;
        for (item, done) in rows {
            let (kind, name) = (item.kind.word(), &item.name);
            if let Some(why) = why(done) {
                note(format!("{kind} {name} is left out: {why}"));
            } else if *done != Done::ThereAlready {
                item.notes.iter().for_each(|text| note(format!("{kind} {name} {text}")));
            }
        }
    }
    let left = rows.iter().filter(|(_, done)| matches!(done, Done::LeftOut(_))).count();
    match (left, flags.dry_run) {
        (0, _) => Ok(()),
        (left, true) => Err(Failure::failed(format!(
            "{left} of {} would be left out; nothing was changed",
            rows.len()
        ))),
        (left, false) => Err(Failure::failed(format!(
            "{left} of {} left out. What was created stands; run the command again when the reasons are dealt with: it creates only what is missing",
            rows.len()
        ))),
    }
}
