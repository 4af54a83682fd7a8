//! The bounded pipe between whoever reads a log and whoever wants it.

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::mpsc;

use crate::api::backend::{LogFrame, LogSource, LogStream, LogsUnavailable, MAX_LOG_FRAME_BYTES};

/// How many frames are read ahead. When it is full the reading pauses.
pub const LOG_QUEUE: usize = 64;

/// Where a reader puts its frames.
#[derive(Debug)]
pub(super) struct Frames(mpsc::Sender<Result<LogFrame, LogsUnavailable>>);

/// A stream fed by a task, which ends with the stream.
pub(super) fn stream<F>(read: impl FnOnce(Frames) -> F) -> LogStream
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(LOG_QUEUE);
    tokio::spawn(read(Frames(sender)));
    Box::pin(stream::unfold(receiver, |mut receiver| async move {
        Some((receiver.recv().await?, receiver))
    }))
}

impl Frames {
    /// False when nobody reads any more.
    pub(super) async fn send(&self, frame: Result<LogFrame, LogsUnavailable>) -> bool {
        self.0.send(frame).await.is_ok()
    }

    /// Sends one line, in pieces if it is too long for one frame. False when nobody reads any more.
    pub(super) async fn line(&self, source: LogSource, timestamp: &str, line: &Bytes) -> bool {
        for piece in line.chunks(MAX_LOG_FRAME_BYTES) {
            let frame = LogFrame { source, timestamp: timestamp.to_owned(), line: piece.to_vec() };
            if !self.send(Ok(frame)).await {
                return false;
            }
        }
        true
    }

    /// Ends when nobody reads any more.
    pub(super) async fn closed(&self) {
        self.0.closed().await;
    }
}
