//! Calls of the host's own tools for packet rules, `nft` and `iptables`: with a deadline, and with their own words
//! when they refuse.

use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::DriveError;

/// A large table takes a loaded host some seconds; a tool that waits for a lock for longer is taken to hang.
const TIME: Duration = Duration::from_secs(30);
/// What is kept of a tool's complaint: the first lines say it, the rest points into the text.
const COMPLAINT: usize = 400;

/// What the tool printed.
///
/// # Errors
/// [`DriveError::Tool`] when it is not there, fails, or takes too long.
pub(super) async fn run(
    tool: &'static str,
    arguments: &[&str],
    input: Option<&str>,
) -> Result<String, DriveError> {
    let failed = |why: String| DriveError::Tool { tool, arguments: arguments.join(" "), why };
    let calling = async {
        let mut child = Command::new(tool)
            .args(arguments)
            .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        if let (Some(mut pipe), Some(text)) = (child.stdin.take(), input) {
            // It may end without reading on; its own words are better than "broken pipe".
            let _ = pipe.write_all(text.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIME, calling)
        .await
        .map_err(|_| failed(format!("no answer within {} s", TIME.as_secs())))?
        .map_err(|error| failed(error.to_string()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(said.trim().chars().take(COMPLAINT).collect()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
