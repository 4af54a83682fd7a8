//! `shoal conflicts`: edits that lost against a concurrent one and are kept until dismissed.

use clap::Subcommand;
use serde_json::Value;

use crate::age;
use crate::client::{Client, encoded};
use crate::exit::Outcome;
use crate::output::{self, Format, say};
use crate::service::{FormatFlag, each};

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum ConflictsCommand {
    /// List them
    #[command(visible_alias = "list")]
    Ls(FormatFlag),
    /// Show one, with the spec that lost, as JSON
    Show {
        /// Id, or the beginning of it
        conflict: String,
    },
    /// Drop conflicts from the list, once they were looked at
    Dismiss {
        /// Ids, or the beginnings of them
        #[arg(required = true)]
        conflicts: Vec<String>,
    },
}

pub(crate) async fn run(client: &Client, command: ConflictsCommand) -> Outcome {
    match command {
        ConflictsCommand::Ls(flags) => list(client, flags.format).await,
        ConflictsCommand::Show { conflict } => {
            output::json(&client.get(&format!("/shoal/v1/conflicts/{}", encoded(&conflict))).await?)
        }
        ConflictsCommand::Dismiss { conflicts } => {
            each(&conflicts, async |id: &String| {
                client.delete(&format!("/shoal/v1/conflicts/{}", encoded(id))).await?;
                say(id)
            })
            .await
        }
    }
}

async fn list(client: &Client, format: Format) -> Outcome {
    let answer = client.get("/shoal/v1/conflicts").await?;
    if format == Format::Json {
        return output::json(&answer);
    }
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = answer
        .as_array()
        .into_iter()
        .flatten()
        .map(|conflict| {
            vec![
                output::short(&text(conflict, "id")),
                age::ago(&text(conflict, "when")),
                text(conflict, "text"),
            ]
        })
        .collect();
    output::table(&["ID", "LOST", "WHAT"], &rows)
}
