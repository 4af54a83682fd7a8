//! A record of what the engines did: containers created, started, ended, each with the engine's own time.
//!
//! Counting says what runs now; only the events say that nothing was started twice meanwhile, that no
//! container was restarted, and at which moment the hundredth one ran. All hosts share the machine's
//! clock, so their times can be compared.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptionsBuilder;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use crate::engine::{Engine, SERVICE_LABEL, TASK_LABEL, runtime, slot_of};

/// What happened to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    Created,
    Started,
    Died,
    Removed,
}

/// One thing an engine did.
#[derive(Clone, Debug)]
pub struct Happening {
    pub host: usize,
    /// Time since 1970, as the engine gave it.
    pub at: Duration,
    pub act: Act,
    pub container: String,
    pub service: Option<String>,
    pub slot: Option<u64>,
}

/// Watches engines until dropped. An engine that ends or restarts is asked again, from where it was left.
#[derive(Debug)]
pub struct Watch {
    seen: Arc<Mutex<Vec<Happening>>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Watch {
    /// Starts watching. What happened before `begun` on the machine's clock is not recorded.
    pub fn start(engines: Vec<(usize, Engine)>) -> Watch {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let begun = now();
        let follow = |(host, engine)| {
            let seen = Arc::clone(&seen);
            let known = BTreeSet::new();
            let follower = Follower { host, engine, begun, latest: begun, known, seen };
            runtime().spawn(follower.follow())
        };
        Watch { tasks: engines.into_iter().map(follow).collect(), seen }
    }

    /// Everything so far, in the order of the engines' times.
    pub fn happenings(&self) -> Vec<Happening> {
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        all.sort_by_key(|one| one.at);
        all
    }

    /// The moments at which containers of a service were started.
    pub fn starts(&self, service: &str) -> Vec<Happening> {
        self.of(service, Act::Started)
    }

    /// What happened to a service's containers.
    pub fn of(&self, service: &str, act: Act) -> Vec<Happening> {
        let all = self.happenings().into_iter();
        all.filter(|one| one.act == act && one.service.as_deref() == Some(service)).collect()
    }

    /// How often each slot of a service was started.
    pub fn starts_per_slot(&self, service: &str) -> BTreeMap<u64, usize> {
        let mut slots = BTreeMap::new();
        for slot in self.starts(service).into_iter().filter_map(|one| one.slot) {
            *slots.entry(slot).or_insert(0) += 1;
        }
        slots
    }

    /// The fewest and the most containers of a service that ran at one moment since the watch began, given
    /// those that ran then. A crashed host tells of no deaths: what ran there does not belong into `before`.
    pub fn fewest_and_most(&self, service: &str, before: &BTreeSet<String>) -> (usize, usize) {
        let mut running = before.clone();
        let (mut fewest, mut most) = (running.len(), running.len());
        for one in self.happenings() {
            if one.service.as_deref() != Some(service) {
                continue;
            }
            match one.act {
                Act::Started => {
                    running.insert(one.container);
                }
                Act::Died | Act::Removed => {
                    running.remove(&one.container);
                }
                Act::Created => {}
            }
            (fewest, most) = (fewest.min(running.len()), most.max(running.len()));
        }
        (fewest, most)
    }

    /// The moment from which on `wanted` containers of the service ran on `hosts`, given those that ran
    /// when the watch began.
    pub fn when_running(
        &self,
        service: &str,
        hosts: &[usize],
        before: &BTreeSet<String>,
        wanted: usize,
    ) -> Option<Duration> {
        let mut running = before.clone();
        for one in self.happenings() {
            if one.service.as_deref() != Some(service) || !hosts.contains(&one.host) {
                continue;
            }
            match one.act {
                Act::Started => {
                    running.insert(one.container);
                }
                Act::Died | Act::Removed => {
                    running.remove(&one.container);
                }
                Act::Created => {}
            }
            if running.len() >= wanted {
                return Some(one.at);
            }
        }
        None
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The machine's clock, in the same terms as the engines' times.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// One engine's stream of events, over its restarts.
struct Follower {
    host: usize,
    engine: Engine,
    begun: Duration,
    /// The latest moment seen.
    latest: Duration,
    /// What was recorded already: a stream taken up again repeats the last moments.
    known: BTreeSet<(Duration, String)>,
    seen: Arc<Mutex<Vec<Happening>>>,
}

impl Follower {
    async fn follow(mut self) {
        loop {
            // Whatever ends the stream (engine restarted, host crashed) is what is being watched for, not
            // an error: ask again, from where it was left.
            let _ = self.follow_once().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn follow_once(&mut self) -> Result<()> {
        const FOREVER: Duration = Duration::from_secs(24 * 3600);
        // Engines stamp events before they queue them, so their times are not quite in order.
        const DISORDER: Duration = Duration::from_secs(2);
        let since = self.begun.max(self.latest.saturating_sub(DISORDER));
        let since = format!("{}.{:09}", since.as_secs(), since.subsec_nanos());
        let filters = HashMap::from([("type", vec!["container"])]);
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        let mut stream = self.engine.client(FOREVER)?.events(Some(options));
        while let Some(message) = stream.next().await {
            let Some(happening) = read(self.host, message?) else { continue };
            self.latest = self.latest.max(happening.at);
            if self.known.insert((happening.at, happening.container.clone())) {
                self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(happening);
            }
        }
        Ok(())
    }
}

fn read(host: usize, message: EventMessage) -> Option<Happening> {
    let act = match message.action?.as_str() {
        "create" => Act::Created,
        "start" => Act::Started,
        "die" => Act::Died,
        "destroy" => Act::Removed,
        _ => return None,
    };
    let actor = message.actor?;
    let attributes = actor.attributes.unwrap_or_default();
    Some(Happening {
        host,
        at: Duration::from_nanos(u64::try_from(message.time_nano?).ok()?),
        act,
        container: actor.id?,
        service: attributes.get(SERVICE_LABEL).cloned(),
        slot: attributes.get(TASK_LABEL).and_then(|task| slot_of(task)),
    })
}
