//! `shoal leave`: this node hands its replicas over and goes.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::exit::{Code, Failure, Outcome};
use crate::output::{note, say};
use crate::service::duration;

const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Args, Clone, Debug)]
pub(crate) struct LeaveFlags {
    /// Return as soon as the node has begun to leave
    #[arg(long, short = 'd')]
    detach: bool,
    /// Give up waiting after this long, with exit code 3; the node goes on leaving
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = duration)]
    timeout: i64,
}

pub(crate) async fn run(client: &Client, flags: &LeaveFlags) -> Outcome {
    client.post("/shoal/v1/leave", &json!({})).await?;
    if flags.detach {
        return say("leaving");
    }
    let limit = Duration::from_nanos(u64::try_from(flags.timeout).unwrap_or(0));
    tokio::select! {
        done = gone(client) => done,
        () = tokio::time::sleep(limit) => Err(Failure::new(
            Code::NotConverged,
            "this node is still handing its replicas over and goes on doing so; see `shoal status`",
        )),
        _ = tokio::signal::ctrl_c() => Err(Failure::new(
            Code::NotConverged,
            "stopped waiting; this node goes on leaving. See `shoal status`",
        )),
    }
}

/// The node ends its process when it has left, and its socket with it.
async fn gone(client: &Client) -> Outcome {
    let mut said = None;
    loop {
        let left = match client.get("/shoal/v1/status").await {
            Ok(status) => mine(&status),
            Err(ClientError::Unreachable { .. } | ClientError::Broken(_)) => {
                return say("this node has left the cluster");
            }
            Err(error) => return Err(error.into()),
        };
        if left != said {
            if let Some(count) = left {
                note(format!("handing over: {count} replicas left on this node"));
            }
            said = left;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn mine(status: &Value) -> Option<u64> {
    let members = status["members"].as_array()?;
    members.iter().find(|member| member["is_me"] == true)?["replicas"].as_u64()
}
