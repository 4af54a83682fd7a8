//! A container's output as frames for the API.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::container::LogOutput;
use bollard::query_parameters::{ListContainersOptionsBuilder, LogsOptionsBuilder};
use futures_util::StreamExt;
use membership::id::TaskId;
use node::runtime::label;

use super::engine::{CallError, READ_DEADLINE};
use super::{Shared, observe};
use crate::api::backend::{LogOptions, LogSource, LogStream, LogsUnavailable};
use crate::runtime::frames::{self, Frames};
use crate::runtime::wallclock::rfc3339;

pub(super) fn logs(shared: Arc<Shared>, task: TaskId, options: LogOptions) -> LogStream {
    frames::stream(move |frames| async move {
        if let Err(why) = read(&shared, task, &options, &frames).await {
            frames.send(Err(why)).await;
        }
    })
}

async fn read(
    shared: &Shared,
    task: TaskId,
    options: &LogOptions,
    frames: &Frames,
) -> Result<(), LogsUnavailable> {
    let unavailable =
        |e: CallError| LogsUnavailable(format!("the logs of task {task} cannot be read: {e}"));
    let Some(container) = container_of(shared, task).await.map_err(unavailable)? else {
        return Err(LogsUnavailable(format!(
            "the container of task {task} is not here any more: its logs went with it"
        )));
    };
    // The engine counts whole seconds here; what is outside is cut off below.
    let seconds = |ms: u64| i32::try_from(ms / 1000).unwrap_or(i32::MAX);
    let mut query = LogsOptionsBuilder::default()
        .follow(options.follow)
        .stdout(options.stdout)
        .stderr(options.stderr)
        .timestamps(true)
        .tail(&options.tail.map_or_else(|| "all".to_owned(), |n| n.to_string()));
    if let Some(since) = options.since {
        query = query.since(seconds(since.0));
    }
    if let Some(until) = options.until {
        query = query.until(seconds(until.0.saturating_add(999)));
    }
    let docker = shared.engine.client().map_err(unavailable)?;
    let mut lines = std::pin::pin!(docker.logs(&container, Some(query.build())));
    let mut lost = std::pin::pin!(shared.engine.lost());
    let window = Window { since: options.since.map(rfc3339), until: options.until.map(rfc3339) };
    loop {
        let output = tokio::select! {
            error = &mut lost => return Err(unavailable(error)),
            () = frames.closed() => return Ok(()),
            line = lines.next() => match line {
                None => return Ok(()),
                Some(line) => line.map_err(|e| unavailable(CallError::from_bollard(e)))?,
            },
        };
        let Some((source, timestamp, line)) = split(output) else { continue };
        if !window.holds(&timestamp) {
            continue;
        }
        if !frames.line(source, &timestamp, &line).await {
            return Ok(());
        }
    }
}

async fn container_of(shared: &Shared, task: TaskId) -> Result<Option<String>, CallError> {
    let mut labels = observe::ours(shared.owner);
    labels.push(format!("{}={task}", label::SWARM_TASK_ID));
    let filters = HashMap::from([("label", labels)]);
    let options = ListContainersOptionsBuilder::default().all(true).filters(&filters).build();
    let found = shared
        .engine
        .call("list containers", READ_DEADLINE, |docker| async move {
            docker.list_containers(Some(options)).await
        })
        .await?;
    Ok(found.into_iter().find_map(|summary| summary.id))
}

/// Texts of equal length, whose order is that of the times.
struct Window {
    since: Option<String>,
    until: Option<String>,
}

impl Window {
    fn holds(&self, timestamp: &str) -> bool {
        self.since.as_deref().is_none_or(|since| timestamp >= since)
            && self.until.as_deref().is_none_or(|until| timestamp <= until)
    }
}

fn split(output: LogOutput) -> Option<(LogSource, String, bytes::Bytes)> {
    let (source, message) = match output {
        LogOutput::StdOut { message } => (LogSource::Stdout, message),
        LogOutput::StdErr { message } => (LogSource::Stderr, message),
        LogOutput::Console { message } => (LogSource::Console, message),
        LogOutput::StdIn { .. } => return None,
    };
    // Before each line the engine writes its time and a space.
    let end = message.iter().take(64).position(|byte| *byte == b' ')?;
    let timestamp = std::str::from_utf8(&message[..end]).ok()?.to_owned();
    Some((source, timestamp, message.slice(end + 1..)))
}
