//! Follows the engine: its events for our containers, and its heartbeat.
//!
//! ```text
//!         ping answers            stream ends, or two heartbeats in a row are missed
//! asking ─────────────> following ───────────────────────────────────────────────┐
//!   ^  └─ no: EngineLost, wait, ask again                                        │
//!   └────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The subscription asks for events since a moment before it, so nothing falls between the end of one
//! stream and the begin of the next while the engine remembers; and each begin is an `EngineBack`,
//! upon which the core lists everything. Of images it is only heard that one changed.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bollard::errors::Error as BollardError;
use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::stream::FuturesUnordered;
use futures_util::{Stream, StreamExt};
use membership::id::TaskId;
use membership::time::Wall;
use node::runtime::{RuntimeEvent, label};
use tokio::time::MissedTickBehavior;

use super::engine::{CallError, Pulse};
use super::{Shared, observe};
use crate::runtime::wallclock::wall_now;

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Missed heartbeats after which the engine counts as lost. With the ping's own deadline of 3 s a hung
/// engine is noticed within 10 s, mostly within 8.
const MISSES: u32 = 2;
/// How far back a new subscription asks.
const OVERLAP_MS: u64 = 2_000;
/// Between two attempts to reach a lost engine: doubling between these.
const RETRY_FROM: Duration = Duration::from_millis(250);
const RETRY_TO: Duration = Duration::from_secs(5);
/// Containers looked at together because of events.
const LOOKS_AT_ONCE: usize = 8;
/// The events of containers that are asked for; each other one would be written and read for nothing.
const RELEVANT: [&str; 7] = ["start", "die", "oom", "pause", "unpause", "destroy", "health_status"];

pub(super) async fn run(shared: Arc<Shared>) {
    let mut since = wall_now();
    let mut retry = RETRY_FROM;
    while !shared.reports.is_closed() {
        match ask(&shared).await {
            Ok(version) => {
                retry = RETRY_FROM;
                let subscribed = wall_now();
                match subscribe(&shared, since) {
                    Ok(events) => {
                        shared.engine.set_pulse(Pulse::Beating);
                        shared.reports.event(RuntimeEvent::EngineBack { version }).await;
                        if let Some(missed) = follow(&shared, events).await {
                            lost(&shared, missed).await;
                        }
                        since = subscribed.max(Wall(wall_now().0.saturating_sub(OVERLAP_MS)));
                    }
                    Err(error) => lost(&shared, error).await,
                }
                // A stream that ends at once, again and again, must not become a busy loop.
                tokio::time::sleep(RETRY_FROM).await;
            }
            Err(error) => {
                lost(&shared, error).await;
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_TO);
            }
        }
    }
}

async fn ask(shared: &Shared) -> Result<String, CallError> {
    shared.engine.ping().await?;
    shared.engine.version().await
}

async fn lost(shared: &Shared, error: CallError) {
    let reason = match error {
        CallError::Unavailable(reason) => reason,
        other => other.to_string(),
    };
    if shared.engine.set_pulse(Pulse::Lost(reason.clone())) {
        shared.reports.event(RuntimeEvent::EngineLost { reason }).await;
    }
}

type Events = std::pin::Pin<Box<dyn Stream<Item = Result<EventMessage, BollardError>> + Send>>;

fn subscribe(shared: &Shared, since: Wall) -> Result<Events, CallError> {
    let from = since.0.saturating_sub(OVERLAP_MS);
    let ask = |filters: HashMap<&str, Vec<String>>| {
        let since = format!("{}.{:03}000000", from / 1000, from % 1000);
        let options = EventsOptionsBuilder::default().since(&since).filters(&filters).build();
        shared.engine.client().map(|client| client.events(Some(options)))
    };
    let containers = ask(HashMap::from([
        ("type", vec!["container".to_owned()]),
        ("event", RELEVANT.map(str::to_owned).to_vec()),
        ("label", observe::ours(shared.owner)),
    ]))?;
    // What was asked of images while nobody listened may not be so any more.
    shared.checks.forget();
    let images = ask(HashMap::from([("type", vec!["image".to_owned()])]))?;
    Ok(Box::pin(futures_util::stream::select(containers, images)))
}

/// Follows until the stream ends (`None`) or the heartbeat stops (why).
async fn follow(shared: &Shared, mut events: Events) -> Option<CallError> {
    let mut looks = Looks::default();
    let mut under_way = FuturesUnordered::new();
    // Beside the events, not between them: a slow answer must not keep anything else waiting.
    let mut pings = FuturesUnordered::new();
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut misses = 0;
    loop {
        while under_way.len() < LOOKS_AT_ONCE {
            let Some((container, task)) = looks.next() else { break };
            under_way.push(async move {
                observe::observe(shared, &container, task).await;
                container
            });
        }
        tokio::select! {
            event = events.next() => match event? {
                Ok(event) => note(shared, &mut looks, event),
                Err(BollardError::JsonDataError { message, .. }) => {
                    tracing::warn!(message, "an event of the engine is not understood");
                    return None;
                }
                // The next ping tells whether the engine is gone or only this stream.
                Err(error) => {
                    tracing::debug!(%error, "the engine's events ended");
                    return None;
                }
            },
            Some(container) = under_way.next() => looks.done(&container),
            _ = heartbeat.tick(), if pings.is_empty() => pings.push(shared.engine.ping()),
            Some(answer) = pings.next() => match answer {
                Ok(()) => misses = 0,
                Err(error) => {
                    misses += 1;
                    if misses >= MISSES {
                        return Some(error);
                    }
                }
            },
        }
    }
}

fn note(shared: &Shared, looks: &mut Looks, event: EventMessage) {
    if event.typ == Some(EventMessageTypeEnum::IMAGE) {
        return shared.checks.forget();
    }
    let (Some(action), Some(actor)) = (event.action, event.actor) else { return };
    // Health events are "health_status: healthy"; exec events carry the command.
    let name = action.split(':').next().unwrap_or_default();
    if !RELEVANT.contains(&name) {
        return;
    }
    let task = actor.attributes.as_ref().and_then(|labels| labels.get(label::SWARM_TASK_ID));
    let (Some(container), Some(task)) = (actor.id, task.and_then(|text| text.parse().ok())) else {
        return;
    };
    if let Some(again) = shared.starting().get_mut(&task) {
        *again |= name != "start";
        return;
    }
    looks.want(container, task);
}

/// Containers to look at: each at most once in the queue, and never twice at the same time.
#[derive(Debug, Default)]
struct Looks {
    queue: VecDeque<(String, TaskId)>,
    queued: BTreeSet<String>,
    under_way: BTreeSet<String>,
}

impl Looks {
    fn want(&mut self, container: String, task: TaskId) {
        if self.queued.insert(container.clone()) {
            self.queue.push_back((container, task));
        }
    }

    /// The next one that nobody is looking at; one under way waits until that look is over, for it
    /// may have been too early.
    fn next(&mut self) -> Option<(String, TaskId)> {
        let at =
            self.queue.iter().position(|(container, _)| !self.under_way.contains(container))?;
        let next = self.queue.remove(at)?;
        self.queued.remove(&next.0);
        self.under_way.insert(next.0.clone());
        Some(next)
    }

    fn done(&mut self, container: &str) {
        self.under_way.remove(container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_events_is_one_look_and_what_comes_during_a_look_is_one_more() {
        let mut looks = Looks::default();
        let (a, b) = (("a".to_owned(), TaskId(1)), ("b".to_owned(), TaskId(2)));
        for _ in 0..5 {
            looks.want(a.0.clone(), a.1);
        }
        looks.want(b.0.clone(), b.1);
        assert_eq!(looks.next(), Some(a.clone()));
        looks.want(a.0.clone(), a.1);
        looks.want(a.0.clone(), a.1);
        assert_eq!(looks.next(), Some(b));
        assert_eq!(looks.next(), None, "'a' is being looked at");
        looks.done("a");
        assert_eq!(looks.next(), Some(a));
        looks.done("a");
        assert_eq!(looks.next(), None);
    }
}
