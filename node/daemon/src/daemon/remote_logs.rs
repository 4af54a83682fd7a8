//! Logs of tasks on other nodes: asked for over the peer connection, answered by the runtime there.

use futures_util::StreamExt;
use gossip::{CallReader, CallWriter, GossipHandle};
use membership::id::{NodeId, TaskId};
use membership::wire::{self, Versioned};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tracing::debug;

use crate::api::backend::{LogFrame, LogOptions, LogStream, LogsUnavailable, MAX_LOG_FRAME_BYTES};
use crate::runtime::Runtime;

/// What one daemon asks of another. Append only.
#[derive(Clone, Debug, Serialize, Deserialize)]
enum Question {
    Logs { task: TaskId, options: LogOptions },
}

impl Versioned for Question {
    const TAG: u8 = b'q';
    const VERSION: u8 = 1;
    const LIMIT: usize = gossip::calls::MAX_REQUEST_BYTES;
}

/// One frame of the answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Answer(Result<LogFrame, LogsUnavailable>);

impl Versioned for Answer {
    const TAG: u8 = b'l';
    const VERSION: u8 = 1;
    const LIMIT: usize = MAX_LOG_FRAME_BYTES + 4096;
}

/// Opens the log of a task on another node.
pub(super) async fn open(
    gossip: &GossipHandle,
    node: NodeId,
    task: TaskId,
    options: LogOptions,
) -> Result<LogStream, LogsUnavailable> {
    let question = wire::encode(&Question::Logs { task, options })
        .map_err(|e| LogsUnavailable(e.to_string()))?;
    let reader = gossip
        .call(node, &question)
        .await
        .map_err(|e| LogsUnavailable(format!("node {node} cannot be asked for the log: {e}")))?;
    Ok(Box::pin(futures_util::stream::unfold(Some(reader), move |reader| read(reader, node))))
}

async fn read(
    reader: Option<CallReader>,
    node: NodeId,
) -> Option<(Result<LogFrame, LogsUnavailable>, Option<CallReader>)> {
    let mut reader = reader?;
    let broken = |error: &dyn std::fmt::Display| {
        Err(LogsUnavailable(format!("the log from node {node} broke off: {error}")))
    };
    Some(match reader.next().await? {
        Ok(bytes) => match wire::decode::<Answer>(&bytes) {
            Ok(Answer(frame)) => (frame, Some(reader)),
            Err(error) => (broken(&error), None),
        },
        Err(error) => (broken(&error), None),
    })
}

/// Answers a peer's question in a task of its own, until the log or the asker ends.
pub(super) fn answer(
    runtime: &Arc<dyn Runtime>,
    from: NodeId,
    request: &[u8],
    mut writer: CallWriter,
) {
    let Question::Logs { task, options } = match wire::decode(request) {
        Ok(question) => question,
        Err(error) => {
            debug!(%from, %error, "a question that cannot be read");
            return;
        }
    };
    let mut log = runtime.logs(task, options);
    tokio::spawn(async move {
        loop {
            let frame = tokio::select! {
                frame = log.next() => frame,
                () = writer.abandoned() => return,
            };
            let Some(frame) = frame else { return };
            let Ok(bytes) = wire::encode(&Answer(frame)) else { return };
            if writer.send(&bytes).await.is_err() {
                return;
            }
        }
    });
}
