//! Logs of a service from all its hosts, or of one task: Docker's multiplexed frames, one line each.
//!
//! Every task has a pump of its own that fills one bounded queue; lines come as they come, and there
//! is no order between hosts. A node that cannot be reached ends its part with one line that says so,
//! not the whole call. With `follow`, tasks that appear later are taken in.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use membership::id::{NodeId, TaskId};
use membership::time::Wall;
use node::slot::TaskState;
use node::views::TaskView;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::backend::{LogFrame, LogOptions, LogSource, TaskQuery};
use super::error::ApiError;
use super::filters::Params;
use super::state::Api;
use super::{event_log, rfc3339, tasks};

/// How many lines wait for a slow client before the pumps wait too.
const QUEUE: usize = 256;
/// How many tasks' logs are read at once when nobody follows.
const AT_ONCE: usize = 16;
/// The most tasks that one call follows; those beyond are left out, newest first.
const MAX_FOLLOWED: usize = 2000;
/// How often a follower looks for tasks that were started meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a log that is not followed may pause before it is given up.
const IDLE_TIME: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
struct Wanted {
    options: LogOptions,
    timestamps: bool,
    details: bool,
}

#[derive(Clone, Copy, Debug)]
enum Scope {
    Service(membership::id::ServiceId),
    Task(TaskId),
}

pub(super) async fn of_service(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let view = api.service(&wanted).await?;
    let tty = view.spec["TaskTemplate"]["ContainerSpec"]["TTY"] == true;
    answer(api, Scope::Service(view.id), tty, read(&params)?)
}

pub(super) async fn of_task(
    State(api): State<Api>,
    Path(wanted): Path<String>,
    params: Params,
) -> Result<Response, ApiError> {
    let view = tasks::find(&api, &wanted).await?;
    let tty = view.template["ContainerSpec"]["TTY"] == true;
    answer(api, Scope::Task(view.id()), tty, read(&params)?)
}

fn read(params: &Params) -> Result<Wanted, ApiError> {
    let (stdout, stderr) = (params.flag("stdout"), params.flag("stderr"));
    if !stdout && !stderr {
        return Err(ApiError::bad("Bad parameters: you must choose at least one stream"));
    }
    let time = |key: &str| match params.get(key).unwrap_or_default() {
        "" | "0" => Ok(None),
        text => match rfc3339::parse(text) {
            Some(nanos) => Ok(Some(Wall(u64::try_from(nanos / 1_000_000).unwrap_or_default()))),
            None => Err(ApiError::bad(format!("invalid value for \"{key}\": {text}"))),
        },
    };
    Ok(Wanted {
        options: LogOptions {
            stdout,
            stderr,
            follow: params.flag("follow"),
            since: time("since")?,
            until: time("until")?,
            // "all", nothing, and what is not a number all mean everything, as in dockerd.
            tail: params.get("tail").and_then(|tail| tail.parse().ok()),
        },
        timestamps: params.flag("timestamps"),
        details: params.flag("details"),
    })
}

fn answer(api: Api, scope: Scope, tty: bool, wanted: Wanted) -> Result<Response, ApiError> {
    let (sender, mut receiver) = mpsc::channel::<Bytes>(QUEUE);
    tokio::spawn(collect(api, scope, Arc::new(wanted), sender));
    let lines = futures_util::stream::poll_fn(move |cx| {
        receiver.poll_recv(cx).map(|line| line.map(Ok::<_, Infallible>))
    });
    let kind = if tty {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    };
    Ok(([(header::CONTENT_TYPE, kind)], Body::from_stream(lines)).into_response())
}

/// Starts a pump for each task that has something to say, until the client is gone or, without
/// `follow`, until all have ended.
async fn collect(api: Api, scope: Scope, wanted: Arc<Wanted>, out: mpsc::Sender<Bytes>) {
    let limit =
        Arc::new(Semaphore::new(if wanted.options.follow { MAX_FOLLOWED } else { AT_ONCE }));
    let excused = Arc::new(Excused::default());
    let mut pumps = JoinSet::new();
    let mut seen = BTreeSet::new();
    loop {
        let query = match scope {
            Scope::Service(id) => TaskQuery::Service(id),
            Scope::Task(id) => TaskQuery::Task(id),
        };
        for view in api.backend.tasks(query).await {
            if may_have_logs(&view) && seen.len() < MAX_FOLLOWED && seen.insert(view.id()) {
                let (api, wanted, out) = (Arc::clone(&api), Arc::clone(&wanted), out.clone());
                let (limit, excused) = (Arc::clone(&limit), Arc::clone(&excused));
                pumps.spawn(async move {
                    // The semaphore is never closed.
                    let Ok(_permit) = limit.acquire_owned().await else { return };
                    pump(&api, &view, &wanted, &excused, &out).await;
                });
            }
        }
        if !wanted.options.follow {
            break;
        }
        while pumps.try_join_next().is_some() {}
        tokio::select! {
            () = out.closed() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
    while pumps.join_next().await.is_some() {}
}

fn may_have_logs(view: &TaskView) -> bool {
    view.node.is_some() && (view.status.container.is_some() || view.state() == TaskState::Running)
}

/// Nodes whose silence was excused already: one line for each is enough.
#[derive(Debug, Default)]
struct Excused(Mutex<BTreeSet<NodeId>>);

impl Excused {
    fn is_first(&self, node: NodeId) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node)
    }
}

async fn pump(
    api: &Api,
    view: &TaskView,
    wanted: &Wanted,
    excused: &Excused,
    out: &mpsc::Sender<Bytes>,
) {
    let Some(node) = view.node else { return };
    let reading = async {
        let mut stream = api.backend.logs(node, view.id(), wanted.options.clone()).await?;
        loop {
            let next = if wanted.options.follow {
                stream.next().await
            } else {
                tokio::time::timeout(IDLE_TIME, stream.next()).await.unwrap_or(None)
            };
            match next {
                Some(Ok(frame)) => {
                    if out.send(encode(&frame, view, wanted)).await.is_err() {
                        return Ok(());
                    }
                }
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
        }
    };
    let ended = tokio::select! {
        () = out.closed() => return,
        ended = reading => ended,
    };
    // The log of a task that ended goes with its container: that is no news to anybody.
    if let Err(error) = ended
        && !view.state().is_over()
        && excused.is_first(node)
    {
        let text = format!("error: the logs of this node's tasks are incomplete: {error}\n");
        let frame = LogFrame {
            source: LogSource::Stderr,
            timestamp: rfc3339::from_wall(event_log::now_wall()),
            line: text.into_bytes(),
        };
        // A closed queue means that the client is gone.
        let _ = out.send(encode(&frame, view, wanted)).await;
    }
}

/// `[stream, 0, 0, 0, length]` and then `[timestamp ][details ]line`; a terminal's bytes as they are.
fn encode(frame: &LogFrame, view: &TaskView, wanted: &Wanted) -> Bytes {
    let stream = match frame.source {
        LogSource::Console => return Bytes::from(frame.line.clone()),
        LogSource::Stdout => 1,
        LogSource::Stderr => 2,
    };
    let mut payload = BytesMut::with_capacity(frame.line.len() + 160);
    if wanted.timestamps {
        payload.put_slice(frame.timestamp.as_bytes());
        payload.put_u8(b' ');
    }
    if wanted.details {
        let node = view.node.map(|node| node.to_string()).unwrap_or_default();
        let details = format!(
            "com.docker.swarm.node.id={node},com.docker.swarm.service.id={},com.docker.swarm.task.id={} ",
            view.service,
            view.id()
        );
        payload.put_slice(details.as_bytes());
    }
    payload.put_slice(&frame.line);
    let mut out = BytesMut::with_capacity(payload.len() + 8);
    out.put_slice(&[stream, 0, 0, 0]);
    // A frame's line is at most 64 KiB.
    out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    out.put(payload);
    out.freeze()
}
