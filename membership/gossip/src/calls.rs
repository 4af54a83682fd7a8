//! A question to one peer, and an answer that may go on for long: how the log of a task on another
//! host is read. The core knows nothing of it; the two daemons speak over a stream of their own on the
//! connection that they have, so that a slow reader holds up nothing but itself (QUIC's flow control
//! reaches back to the writer).
//!
//! ```text
//! asker:    request (at most MAX_REQUEST_BYTES), end
//! answerer: frames (a length of four bytes, then so many bytes), end
//! ```
//!
//! Either side ends a call by dropping its part.

use bytes::Bytes;
use quinn::{RecvStream, SendStream, VarInt};
use std::time::Duration;
use tokio::time::timeout;

/// Calls that one peer may have open to this node at once; further ones wait at the asker.
pub const CALLS_PER_PEER: u32 = 64;
/// The largest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// The largest frame of an answer, in bytes.
pub const MAX_FRAME_BYTES: usize = 256 * 1024;
/// How long a request may take to arrive, or to be sent.
const REQUEST_DEADLINE: Duration = Duration::from_secs(5);

const ABANDONED: VarInt = VarInt::from_u32(1);

/// Why a call did not come about, or ended early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    #[error("this node has no connection to it at the moment")]
    NotConnected,
    #[error("the request has {0} bytes, more than the {MAX_REQUEST_BYTES} that may be sent")]
    TooLarge(usize),
    #[error("it did not take the request within {REQUEST_DEADLINE:?}")]
    Slow,
    #[error("the connection to it was lost")]
    Lost,
    #[error("it sent a frame of {0} bytes, more than the {MAX_FRAME_BYTES} that are taken")]
    FrameTooLarge(usize),
}

/// The asker's end.
#[derive(Debug)]
pub struct CallReader {
    stream: RecvStream,
}

/// The answerer's end. Dropping it ends the answer; so does the asker's going away.
#[derive(Debug)]
pub struct CallWriter {
    stream: SendStream,
}

pub(crate) async fn ask(quic: &quinn::Connection, request: &[u8]) -> Result<CallReader, CallError> {
    if request.len() > MAX_REQUEST_BYTES {
        return Err(CallError::TooLarge(request.len()));
    }
    let open = async {
        let (mut send, stream) = quic.open_bi().await.map_err(|_| CallError::Lost)?;
        send.write_all(request).await.map_err(|_| CallError::Lost)?;
        send.finish().map_err(|_| CallError::Lost)?;
        Ok(CallReader { stream })
    };
    timeout(REQUEST_DEADLINE, open).await.map_err(|_| CallError::Slow)?
}

/// The request of a call that a peer opened; `None` when it is broken off, too slow or too large.
pub(crate) async fn take(send: SendStream, mut receive: RecvStream) -> Option<(Bytes, CallWriter)> {
    let read = timeout(REQUEST_DEADLINE, receive.read_to_end(MAX_REQUEST_BYTES)).await;
    let request = read.ok()?.ok()?;
    Some((request.into(), CallWriter { stream: send }))
}

impl CallReader {
    /// The next frame; `None` when the answer has ended.
    ///
    /// # Errors
    /// [`CallError::Lost`] or [`CallError::FrameTooLarge`]; nothing more comes then.
    pub async fn next(&mut self) -> Option<Result<Bytes, CallError>> {
        let mut length = [0; 4];
        match self.stream.read_exact(&mut length).await {
            Ok(()) => {}
            Err(quinn::ReadExactError::FinishedEarly(0)) => return None,
            Err(_) => return Some(Err(CallError::Lost)),
        }
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME_BYTES {
            return Some(Err(CallError::FrameTooLarge(length)));
        }
        let mut frame = vec![0; length];
        match self.stream.read_exact(&mut frame).await {
            Ok(()) => Some(Ok(frame.into())),
            Err(_) => Some(Err(CallError::Lost)),
        }
    }
}

impl Drop for CallReader {
    fn drop(&mut self) {
        // Tells the answerer that nobody reads any more; fails only when the stream has ended.
        let _ = self.stream.stop(ABANDONED);
    }
}

impl CallWriter {
    /// Sends one frame; waits while the asker does not read.
    ///
    /// # Errors
    /// [`CallError`]; the asker is gone, or the frame is too large.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), CallError> {
        if frame.len() > MAX_FRAME_BYTES {
            return Err(CallError::FrameTooLarge(frame.len()));
        }
        let length = u32::try_from(frame.len()).unwrap_or(u32::MAX).to_be_bytes();
        self.stream.write_all(&length).await.map_err(|_| CallError::Lost)?;
        self.stream.write_all(frame).await.map_err(|_| CallError::Lost)
    }

    /// Waits until the asker has gone away: for an answerer that has nothing to say at the moment.
    pub async fn abandoned(&mut self) {
        let _ = self.stream.stopped().await;
    }
}
