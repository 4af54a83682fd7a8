//! Logs of tasks on other nodes.
use gossip::GossipHandle;
use membership::id::{NodeId, TaskId};

use crate::api::backend::{LogOptions, LogStream, LogsUnavailable};

pub(super) async fn open(
    _: &GossipHandle,
    _: NodeId,
    _: TaskId,
    _: LogOptions,
) -> Result<LogStream, LogsUnavailable> {
    Err(LogsUnavailable("not yet".to_owned()))
}
