//! The thread on which the core lives, with its peers' connections and its timers.
//!
//! A probe and its answer pass four tasks between the socket and the core. On threads that steal work from
//! each other most of those steps wake another thread, and an idle node spent half of its processor time on
//! that. Here they are turns of one loop. The other way round, nothing that the API or an engine takes long
//! over (a large answer, a flood of logs) can keep a probe waiting: that runs on the threads of the caller's
//! runtime.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// A thread with a runtime of its own. Dropping it ends the tasks there.
#[derive(Debug)]
pub(super) struct CoreThread {
    handle: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl CoreThread {
    /// # Errors
    /// When the system gives no thread or no file descriptor for it.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::Builder::new().name("shoal-core".into()).spawn(move || {
            runtime.block_on(stopped.cancelled());
            // A name that is being looked up may take long: it is not waited for.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, stop, thread: Some(thread) })
    }

    /// Spawns on this thread.
    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for CoreThread {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the task that it ended.
            let _ = thread.join();
        }
    }
}
