//! How much a runtime does at once.
//!
//! An engine starts containers no faster when it is asked for more at a time, only later: measured on
//! two cores, 4 to 8 calls at once reach its limit of some nine starts a second, and 50 at once make
//! each take eight seconds. Stops and removals have places of their own, so that removing a large
//! service does not keep a small one from starting; listing has one, so that a resync always gets
//! through.

use std::sync::Arc;

use node::runtime::RuntimeAction;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many actions may wait for a place before further ones are refused with a failed result. The
/// core throttles itself far below this; the bound is there for the day it does not.
pub const MAX_WAITING_ACTIONS: usize = 4096;

/// Starts at once: three times the cores, and at least six. A start is mostly waiting for the kernel and
/// for other processes; fewer at once leave a core idle now and then.
pub fn starts_at_once() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).saturating_mul(3).max(6)
}

/// Stops at once. Nearly all of a stop is waiting for the container to end, which costs nothing.
const STOPS_AT_ONCE: usize = 256;
const LISTS_AT_ONCE: usize = 1;

/// The places for actions under way and the places to wait for one.
#[derive(Debug)]
pub(super) struct Admission {
    waiting: Arc<Semaphore>,
    starts: Arc<Semaphore>,
    stops: Arc<Semaphore>,
    removals: Semaphore,
    lists: Arc<Semaphore>,
}

impl Admission {
    pub(super) fn new() -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(MAX_WAITING_ACTIONS)),
            starts: Arc::new(Semaphore::new(starts_at_once())),
            stops: Arc::new(Semaphore::new(STOPS_AT_ONCE)),
            // Removing is the engine's work as starting is; half, for starts matter more.
            removals: Semaphore::new(starts_at_once().div_ceil(2)),
            lists: Arc::new(Semaphore::new(LISTS_AT_ONCE)),
        }
    }

    /// Takes a place in the queue, or says that there is none. Never waits.
    pub(super) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.waiting.clone().try_acquire_owned().ok()
    }

    /// Waits for a place among the actions of this kind that run at once.
    pub(super) async fn turn(&self, action: &RuntimeAction) -> Option<OwnedSemaphorePermit> {
        let places = match action {
            RuntimeAction::Start(_) => &self.starts,
            // Pulls are counted where they happen.
            RuntimeAction::Prepare { .. } => return None,
            RuntimeAction::Stop { .. }
            | RuntimeAction::Remove { .. }
            | RuntimeAction::Refresh { .. } => &self.stops,
            RuntimeAction::List | RuntimeAction::Networks { .. } => &self.lists,
        };
        // The semaphores are never closed; a `None` would only mean that the runtime is gone.
        places.clone().acquire_owned().await.ok()
    }

    /// Waits again for a place among the starts, after it was given back for a while.
    pub(super) async fn start_turn(&self) -> Option<OwnedSemaphorePermit> {
        self.starts.clone().acquire_owned().await.ok()
    }

    /// Waits for a place among the removals, at the end of a stop.
    pub(super) async fn removal(&self) -> Option<tokio::sync::SemaphorePermit<'_>> {
        self.removals.acquire().await.ok()
    }
}

/// The result of an action that found no place to wait.
pub(super) fn refused(action: &RuntimeAction) -> node::runtime::ActionResult {
    use node::runtime::{ActionResult, StartFailure};
    let message = format!(
        "{MAX_WAITING_ACTIONS} actions wait for this node's engine already: nothing was done"
    );
    match action {
        RuntimeAction::Start(_) | RuntimeAction::Prepare { .. } => {
            ActionResult::StartFailed { why: StartFailure::EngineUnavailable, message }
        }
        RuntimeAction::Stop { .. } | RuntimeAction::Remove { .. } => {
            ActionResult::StopFailed { message }
        }
        RuntimeAction::Refresh { .. } => ActionResult::RefreshFailed { message },
        RuntimeAction::List => ActionResult::ListFailed { message },
        RuntimeAction::Networks { .. } => ActionResult::NetworksFailed { message },
    }
}
