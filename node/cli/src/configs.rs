//! `shoal config`: what Docker has no word for. Configs are created, listed and removed with
//! `docker config`; here a config is given another content, in place.

use std::io::Read;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Subcommand;
use serde_json::{Value, json};

use crate::client::{Client, encoded};
use crate::exit::{Failure, Outcome};
use crate::output::say;

/// More than any config may have: what is larger is refused by the node, in words.
const MOST_BYTES: u64 = 2 * 1024 * 1024;

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ConfigCommand {
    /// Give a config another content; running tasks get the file replaced
    ///
    /// The file is written in place, without a new container. Give --signal to have the tasks read it
    /// again.
    Update {
        /// Name, id, or the beginning of the id
        config: String,
        /// The new content; - reads it from standard input
        file: PathBuf,
        /// Sent to each task whose file was replaced, such as HUP
        #[arg(long)]
        signal: Option<String>,
    },
}

pub(crate) async fn run(client: &Client, command: ConfigCommand) -> Outcome {
    let ConfigCommand::Update { config, file, signal } = command;
    let content = read(&file).map_err(|error| {
        let text = format!("cannot read {}: {error}; nothing was changed", file.display());
        Failure::failed(text)
    })?;
    let mut path = format!("/shoal/v1/configs/{}/data", encoded(&config));
    if let Some(signal) = &signal {
        path = format!("{path}?signal={}", encoded(signal));
    }
    let answer = client.post(&path, &json!({ "Data": STANDARD.encode(content) })).await?;
    let services = answer["services"].as_array().map(Vec::as_slice).unwrap_or_default();
    let names: Vec<&str> = services.iter().filter_map(Value::as_str).collect();
    match names.as_slice() {
        [] => say(format!("{config}: no service uses it")),
        names => say(format!("{config}: goes to the tasks of {}", names.join(", "))),
    }
}

fn read(file: &PathBuf) -> std::io::Result<Vec<u8>> {
    let mut content = Vec::new();
    if file.as_os_str() == "-" {
        std::io::stdin().take(MOST_BYTES).read_to_end(&mut content)?;
    } else {
        std::fs::File::open(file)?.take(MOST_BYTES).read_to_end(&mut content)?;
    }
    Ok(content)
}
