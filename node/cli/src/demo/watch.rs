//! Measuring, by asking a survivor forty times a second.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cluster::Cluster;
use super::{Member, Replica, wanted_tasks};
use crate::client::Client;
use crate::exit::{Code, Failure};

const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What was seen after a node died; times count from its death.
#[derive(Debug)]
pub(super) struct Recovery {
    pub(super) down: Option<Duration>,
    pub(super) first: Option<Duration>,
    pub(super) whole: Duration,
    pub(super) after: Vec<Replica>,
    /// Replicas on the survivors that are not the tasks they were.
    pub(super) moved: usize,
}

/// Waits until every slot has a running task.
pub(super) async fn until_whole(
    cluster: &Cluster,
    replicas: usize,
    limit: Duration,
) -> Result<Vec<Replica>, Failure> {
    let client = cluster.client()?;
    let began = Instant::now();
    loop {
        let (running, trouble) = running(&client).await?;
        if slots(&running).len() == replicas && running.len() == replicas {
            return Ok(running);
        }
        if began.elapsed() > limit {
            return Err(too_slow(running.len(), replicas, limit, trouble));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn too_slow(running: usize, replicas: usize, limit: Duration, trouble: Option<String>) -> Failure {
    let why = trouble.map(|text| format!(": {text}")).unwrap_or_default();
    Failure::new(
        Code::NotConverged,
        format!("only {running} of {replicas} replicas run after {} s{why}", limit.as_secs()),
    )
}

/// Watches until everything that ran on the victim runs elsewhere.
pub(super) async fn recovery(
    cluster: &Cluster,
    victim: &Member,
    before: &[Replica],
    died: Instant,
    limit: Duration,
) -> Result<Recovery, Failure> {
    let client = cluster.client()?;
    let lost: BTreeSet<u64> =
        before.iter().filter(|r| r.node == victim.id).map(|r| r.slot).collect();
    let (mut down, mut first) = (None, None);
    loop {
        if down.is_none() && is_down(&client, &victim.id).await? {
            down = Some(died.elapsed());
        }
        let (seen, trouble) = running(&client).await?;
        let seen_at = died.elapsed();
        let now: Vec<Replica> = seen.into_iter().filter(|r| r.node != victim.id).collect();
        if first.is_none() && now.iter().any(|r| lost.contains(&r.slot)) {
            first = Some(seen_at);
        }
        if slots(&now).len() == before.len() && (lost.is_empty() || first.is_some()) {
            // Whole and not detected can only be a look that came between two; look once more.
            if down.is_none() && is_down(&client, &victim.id).await? {
                down = Some(died.elapsed());
            }
            let moved = before
                .iter()
                .filter(|r| r.node != victim.id)
                .filter(|r| !now.iter().any(|n| n.task == r.task))
                .count();
            return Ok(Recovery { down, first, whole: seen_at, after: now, moved });
        }
        if died.elapsed() > limit {
            return Err(too_slow(now.len(), before.len(), limit, trouble));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn slots(replicas: &[Replica]) -> BTreeSet<u64> {
    replicas.iter().map(|replica| replica.slot).collect()
}

async fn is_down(client: &Client, id: &str) -> Result<bool, Failure> {
    let members = client.get("/shoal/v1/members").await?;
    let mut members = members.as_array().into_iter().flatten();
    Ok(members.any(|member| member["id"] == id && member["state"] == "down"))
}

/// The running replicas, and why one that does not run does not.
async fn running(client: &Client) -> Result<(Vec<Replica>, Option<String>), Failure> {
    let tasks = client.get(&wanted_tasks()).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut replicas, mut trouble) = (Vec::new(), None);
    for task in tasks.as_array().into_iter().flatten() {
        if task["Status"]["State"] == "running" {
            replicas.push(Replica {
                slot: task["Slot"].as_u64().unwrap_or_default(),
                task: text(&task["ID"]),
                node: text(&task["NodeID"]),
            });
        } else if let Some(error) = task["Status"]["Err"].as_str() {
            trouble = Some(error.to_owned());
        }
    }
    replicas.sort_by_key(|replica| replica.slot);
    Ok((replicas, trouble))
}
