//! `shoal token`: what another machine needs to join.

use crate::client::Client;
use crate::exit::Outcome;
use crate::output::{self, Format, note, say};

pub(crate) async fn run(client: &Client, format: Format) -> Outcome {
    let answer = client.get("/shoal/v1/token").await?;
    if format == Format::Json {
        return output::json(&answer);
    }
    let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
    // The token alone on standard output, for $(shoal token).
    say(text("token"))?;
    note(format!(
        "\nOn another machine:\n  shoal up --join {} --token <the line above>\nWhoever has the token can join and command the cluster.",
        text("join")
    ));
    Ok(())
}
