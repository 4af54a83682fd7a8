//! Waiting until a change has come about: the docker CLI's rule, looked at five times a second.
//!
//! A service has converged when every slot that it wants has a running task made from its present
//! template, and this has stayed so for a while: for `--update-monitor` where that is set, else for a
//! second. Tasks on nodes that are down do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::display::Display;
use super::flags::WaitFlags;
use super::spec::mode_key;
use crate::client::{Client, filters};
use crate::exit::{Code, Failure, Outcome};

const LOOK_EVERY: Duration = Duration::from_millis(200);
const STABLE: Duration = Duration::from_secs(1);

/// How far a service has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) wanted: usize,
    /// Of a job: that have run to their end.
    pub(super) running: usize,
    /// Of a job: slots that failed and are not tried again.
    pub(super) lost: usize,
    job: bool,
    /// Why the rest is not running, and how many say so.
    pub(super) troubles: BTreeMap<String, usize>,
}

impl Progress {
    /// What is counted.
    pub(super) fn what(&self) -> &'static str {
        if self.job { "done" } else { "running" }
    }

    fn converged(&self, global: bool) -> bool {
        // A global service that has no task yet has not been looked at by anybody.
        self.running == self.wanted && !(global && self.wanted == 0)
    }
}

/// What was asked, which decides how a rollback is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked<'a> {
    /// With the update status of before: a rollback that it tells of is none of ours.
    Change(&'a Value),
    Rollback,
}

impl Asked<'_> {
    /// Whether this status tells that what was asked failed and is, or was, taken back. A quick rollback is
    /// over before anybody looks.
    fn failed(self, status: &Value) -> bool {
        let back = matches!(
            status["State"].as_str(),
            Some("rollback_started" | "rollback_paused" | "rollback_completed")
        );
        match self {
            Self::Change(before) => back && before["StartedAt"] != status["StartedAt"],
            Self::Rollback => false,
        }
    }
}

/// Waits as `flags` say. `before` is the service as it was before the change; nothing when it is new.
pub(crate) async fn wait(
    client: &Client,
    id: &str,
    name: &str,
    before: &Value,
    flags: &WaitFlags,
) -> Outcome {
    wait_for(client, id, name, flags, Asked::Change(&before["UpdateStatus"])).await
}

/// The same after a rollback that was asked for: that it comes about is what is wanted.
pub(crate) async fn wait_for_rollback(
    client: &Client,
    id: &str,
    name: &str,
    flags: &WaitFlags,
) -> Outcome {
    wait_for(client, id, name, flags, Asked::Rollback).await
}

async fn wait_for(
    client: &Client,
    id: &str,
    name: &str,
    flags: &WaitFlags,
    asked: Asked<'_>,
) -> Outcome {
    if flags.detach {
        return Ok(());
    }
    let limit = async {
        match flags.timeout.map(|nanos| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))) {
            Some(limit) => tokio::time::sleep(limit).await,
            None => std::future::pending().await,
        }
    };
    let display = Display::new(name, flags.quiet);
    let result = tokio::select! {
        done = watch(client, id, &display, asked) => done,
        () = limit => Err(Failure::new(
            Code::NotConverged,
            format!("the change of {name} is stored and has not come about within the time given; it goes on. See `shoal service ps {name}`"),
        )),
        _ = tokio::signal::ctrl_c() => Err(Failure::new(
            Code::NotConverged,
            format!("stopped waiting; the change of {name} is stored and goes on in the background. See `shoal service ps {name}`"),
        )),
    };
    display.finish();
    result
}

async fn watch(client: &Client, id: &str, display: &Display, asked: Asked<'_>) -> Outcome {
    let mut since: Option<Instant> = None;
    // Why the update failed, if the node takes it back while we watch.
    let mut failed: Option<String> = None;
    loop {
        let service = client.get(&format!("/services/{id}")).await?;
        let tasks = client
            .get(&format!(
                "/tasks?{}",
                filters(&json!({ "service": [id], "_up-to-date": ["true"] }))
            ))
            .await?;
        let nodes = client.get("/nodes").await?;
        let global = !service["Spec"]["Mode"]["Global"].is_null();
        if !service["JobStatus"].is_null() {
            let progress = job_progress(&service, &tasks);
            display.show(&progress, None);
            match progress {
                Progress { wanted, running, .. } if wanted == running => return Ok(()),
                Progress { wanted, running, lost, .. } if wanted == running + lost => {
                    return Err(Failure::new(
                        Code::NotConverged,
                        format!(
                            "{running} of {wanted} slots ran to their end; {lost} failed as often as the restart policy allows"
                        ),
                    ));
                }
                _ => tokio::time::sleep(LOOK_EVERY).await,
            }
            continue;
        }
        let progress = progress(&service, &tasks, &nodes);
        let converged = progress.converged(global);
        let update = service["UpdateStatus"]["State"].as_str().unwrap_or_default();
        let message = service["UpdateStatus"]["Message"].as_str().unwrap_or_default();
        match update {
            "paused" | "rollback_paused" => {
                return Err(Failure::new(
                    Code::NotConverged,
                    format!("service update paused: {message}"),
                ));
            }
            _ if failed.is_none() && asked.failed(&service["UpdateStatus"]) => {
                display.say(&format!("rolling back: {message}"));
                failed = Some(message.to_owned());
            }
            _ => {}
        }
        let stable = stable_time(&service["Spec"]);
        let left = match (converged, since) {
            (false, _) => {
                since = None;
                None
            }
            (true, None) => {
                since = Some(Instant::now());
                Some(stable)
            }
            (true, Some(then)) => Some(stable.saturating_sub(then.elapsed())),
        };
        display.show(&progress, left);
        if left == Some(Duration::ZERO) {
            return match failed {
                None => Ok(()),
                Some(reason) => Err(Failure::new(
                    Code::NotConverged,
                    format!("the update failed and was rolled back: {reason}"),
                )),
            };
        }
        tokio::time::sleep(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY))).await;
    }
}

fn stable_time(spec: &Value) -> Duration {
    spec["UpdateConfig"]["Monitor"]
        .as_u64()
        .filter(|nanos| *nanos > 0)
        .map_or(STABLE, Duration::from_nanos)
}

/// Swarm's order of desired and observed states, as far as it decides here.
fn rank(state: &str) -> u8 {
    const ORDER: [&str; 15] = [
        "new",
        "allocated",
        "pending",
        "assigned",
        "accepted",
        "preparing",
        "ready",
        "starting",
        "running",
        "complete",
        "shutdown",
        "failed",
        "rejected",
        "remove",
        "orphaned",
    ];
    let at = ORDER.iter().position(|known| *known == state).unwrap_or(ORDER.len());
    u8::try_from(at).unwrap_or(u8::MAX)
}

fn progress(service: &Value, tasks: &Value, nodes: &Value) -> Progress {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let down: BTreeSet<String> = nodes
        .as_array()
        .into_iter()
        .flatten()
        .filter(|node| node["Status"]["State"] == "down")
        .map(|node| text(&node["ID"]))
        .collect();
    let global = !service["Spec"]["Mode"]["Global"].is_null();
    // For each slot the task that is meant to live: the lowest desired state, then the lowest state.
    let mut slots: BTreeMap<String, ((u8, u8), &Value)> = BTreeMap::new();
    for task in tasks.as_array().into_iter().flatten() {
        if down.contains(&text(&task["NodeID"])) {
            continue;
        }
        let slot = if global { text(&task["NodeID"]) } else { task["Slot"].to_string() };
        let order = (rank(&text(&task["DesiredState"])), rank(&text(&task["Status"]["State"])));
        match slots.get(&slot) {
            Some((kept, _)) if *kept <= order => {}
            _ => {
                slots.insert(slot, (order, task));
            }
        }
    }
    let running_rank = rank("running");
    slots.retain(|_, ((desired, _), _)| *desired <= running_rank);
    let mut out = Progress {
        wanted: if global {
            slots.len()
        } else {
            let replicas = service["Spec"]["Mode"]["Replicated"]["Replicas"].as_u64().unwrap_or(1);
            usize::try_from(replicas).unwrap_or(usize::MAX)
        },
        ..Progress::default()
    };
    for ((_, state), task) in slots.values() {
        if *state == running_rank {
            out.running += 1;
        } else {
            *out.troubles.entry(trouble(task)).or_default() += 1;
        }
    }
    out
}

/// How far the present execution of a job has come. A global one is wanted on the nodes that have a task.
fn job_progress(service: &Value, tasks: &Value) -> Progress {
    let iteration = &service["JobStatus"]["JobIteration"]["Index"];
    let global = mode_key(&service["Spec"]) == "GlobalJob";
    let complete = rank("complete");
    // For each slot: done beats what is under way, which beats what has failed.
    let mut slots: BTreeMap<String, (u8, &Value)> = BTreeMap::new();
    for task in tasks.as_array().into_iter().flatten() {
        if task["JobIteration"]["Index"] != *iteration {
            continue;
        }
        let slot = if global { &task["NodeID"] } else { &task["Slot"] };
        let state = rank(task["Status"]["State"].as_str().unwrap_or_default());
        let wanted = task["DesiredState"] == "complete" || task["DesiredState"] == "ready";
        let order = if state == complete {
            0
        } else if wanted {
            1
        } else {
            2
        };
        match slots.get(&slot.to_string()) {
            Some((kept, _)) if *kept <= order => {}
            _ => _ = slots.insert(slot.to_string(), (order, task)),
        }
    }
    let count = |wanted: u8| slots.values().filter(|(order, _)| *order == wanted).count();
    let total = service["Spec"]["Mode"]["ReplicatedJob"]["TotalCompletions"].as_u64();
    let mut out = Progress {
        // One that nobody has looked at yet is not done.
        wanted: match total {
            Some(total) => usize::try_from(total).unwrap_or(usize::MAX),
            None => slots.len().max(1),
        },
        running: count(0),
        lost: count(2),
        job: true,
        troubles: BTreeMap::new(),
    };
    for (_, task) in slots.values().filter(|(order, _)| *order > 0) {
        *out.troubles.entry(trouble(task)).or_default() += 1;
    }
    out
}

fn trouble(task: &Value) -> String {
    let state = task["Status"]["State"].as_str().unwrap_or("unknown");
    match task["Status"]["Err"].as_str() {
        Some(error) if !error.is_empty() => format!("{state}: {error}"),
        _ => state.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(slot: u32, node: &str, desired: &str, state: &str) -> Value {
        json!({"Slot": slot, "NodeID": node, "DesiredState": desired, "Status": {"State": state}})
    }

    fn replicated(replicas: u64) -> Value {
        json!({"Spec": {"Mode": {"Replicated": {"Replicas": replicas}}}})
    }

    fn nodes() -> Value {
        json!([{"ID": "a", "Status": {"State": "ready"}}, {"ID": "b", "Status": {"State": "down"}}])
    }

    #[test]
    fn a_rollback_is_a_failure_also_when_it_is_over_but_not_when_it_is_an_old_one() {
        let status = |state: &str, at: &str| json!({"State": state, "StartedAt": at});
        let (old, new) = (status("rollback_completed", "1"), status("rollback_completed", "2"));
        assert!(Asked::Change(&old).failed(&new));
        assert!(Asked::Change(&Value::Null).failed(&status("rollback_started", "2")));
        assert!(!Asked::Change(&old).failed(&old));
        assert!(!Asked::Change(&old).failed(&status("completed", "2")));
        assert!(!Asked::Rollback.failed(&new));
    }

    #[test]
    fn each_slot_counts_once_and_down_nodes_do_not() {
        let tasks = json!([
            task(1, "a", "running", "running"),
            task(1, "a", "shutdown", "failed"),
            task(2, "b", "running", "running"),
            task(3, "a", "running", "starting"),
            task(3, "a", "running", "running"),
        ]);
        let seen = progress(&replicated(3), &tasks, &nodes());
        assert_eq!((seen.wanted, seen.running), (3, 1));
        assert_eq!(seen.troubles, BTreeMap::from([("starting".to_owned(), 1)]));
        assert!(!seen.converged(false));
    }

    #[test]
    fn scaling_down_has_converged_when_no_more_than_wanted_are_meant_to_run() {
        let mut tasks =
            json!([task(1, "a", "running", "running"), task(2, "a", "running", "running")]);
        assert!(!progress(&replicated(1), &tasks, &nodes()).converged(false));
        tasks[1]["DesiredState"] = json!("remove");
        assert!(progress(&replicated(1), &tasks, &nodes()).converged(false));
        assert!(progress(&replicated(0), &json!([]), &nodes()).converged(false));
    }

    #[test]
    fn a_global_service_needs_at_least_one_task() {
        let global = json!({"Spec": {"Mode": {"Global": {}}}});
        assert!(!progress(&global, &json!([]), &nodes()).converged(true));
        let tasks =
            json!([{"NodeID": "a", "DesiredState": "running", "Status": {"State": "running"}}]);
        assert!(progress(&global, &tasks, &nodes()).converged(true));
    }

    #[test]
    fn of_a_job_slots_count_that_ended_well_in_this_execution() {
        let job = json!({
            "Spec": {"Mode": {"ReplicatedJob": {"TotalCompletions": 3, "MaxConcurrent": 2}}},
            "JobStatus": {"JobIteration": {"Index": 4}},
        });
        let of = |iteration: u64, slot, desired, state| {
            let mut task = task(slot, "b", desired, state);
            task["JobIteration"] = json!({"Index": iteration});
            task
        };
        let tasks = json!([
            of(4, 0, "shutdown", "failed"),
            of(4, 0, "complete", "complete"),
            of(4, 1, "shutdown", "failed"),
            of(4, 1, "complete", "running"),
            of(3, 2, "complete", "complete"),
            of(4, 2, "shutdown", "failed"),
        ]);
        let seen = job_progress(&job, &tasks);
        assert_eq!((seen.wanted, seen.running, seen.lost), (3, 1, 1));
        let global = json!({"Spec": {"Mode": {"GlobalJob": {}}}, "JobStatus": {"JobIteration": {"Index": 0}}});
        let seen = job_progress(&global, &json!([]));
        assert_eq!((seen.wanted, seen.running), (1, 0));
    }

    #[test]
    fn the_monitor_decides_how_long_it_must_hold() {
        assert_eq!(stable_time(&json!({})), Duration::from_secs(1));
        assert_eq!(stable_time(&json!({"UpdateConfig": {"Monitor": 0}})), Duration::from_secs(1));
        let spec = json!({"UpdateConfig": {"Monitor": 3_000_000_000_u64}});
        assert_eq!(stable_time(&spec), Duration::from_secs(3));
    }
}
