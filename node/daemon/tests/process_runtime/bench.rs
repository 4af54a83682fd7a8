//! One runtime under test, with what a test needs around it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::api::backend::LogOptions;
use daemon::runtime::process::ProcessRuntime;
use daemon::runtime::{Layout, MemoryFiles, Owner, Report, Runtime};
use daemon::vault::Vault;
use futures_util::StreamExt;
use membership::id::{ClusterId, NodeId, ServiceId, TaskId};
use membership::time::{Millis, Wall};
use node::runtime::{
    ActionId, ActionResult, ContainerState, Found, RuntimeAction, RuntimeEvent, StartFailure,
    StartTask,
};
use node::slot::{Epoch, Slot, TemplateId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Far above what anything takes; reached only when something is wrong.
pub(crate) const BOUND: Duration = Duration::from_secs(30);
pub(crate) const OWNER: Owner = Owner { cluster: ClusterId(1), node: NodeId(2) };

pub(crate) struct Bench {
    pub(crate) runtime: ProcessRuntime,
    reports: mpsc::Receiver<Report>,
    next_action: u64,
    /// Reports that nobody has asked for yet.
    seen: Vec<Report>,
}

impl Bench {
    pub(crate) fn at(data_dir: &Path) -> Self {
        let (runtime, reports) = ProcessRuntime::start(data_dir, OWNER, memory(OWNER)).unwrap();
        Self { runtime, reports, next_action: 0, seen: Vec::new() }
    }

    pub(crate) fn act(&mut self, action: RuntimeAction) -> ActionId {
        self.next_action += 1;
        let id = ActionId(self.next_action);
        self.runtime.act(id, action);
        id
    }

    /// The first report that `pick` takes, already seen or to come.
    pub(crate) async fn expect<T>(&mut self, what: &str, pick: impl Fn(&Report) -> Option<T>) -> T {
        if let Some(at) = self.seen.iter().position(|report| pick(report).is_some()) {
            return pick(&self.seen.remove(at)).unwrap();
        }
        let wait = async {
            loop {
                let report = self.reports.recv().await.expect("the runtime ended");
                if let Some(picked) = pick(&report) {
                    return picked;
                }
                self.seen.push(report);
            }
        };
        let picked = tokio::time::timeout(BOUND, wait).await.ok();
        picked.unwrap_or_else(|| panic!("no {what}; reported was {:#?}", self.seen))
    }

    pub(crate) async fn done(&mut self, wanted: ActionId) -> ActionResult {
        self.expect("result", |report| match report {
            Report::Done { id, result } if *id == wanted => Some(result.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn event(&mut self, what: &str, pick: impl Fn(&RuntimeEvent) -> bool) {
        self.expect(what, |report| match report {
            Report::Event(event) if pick(event) => Some(()),
            _ => None,
        })
        .await;
    }

    /// Waits until a task is in a state that `is` takes.
    pub(crate) async fn state(
        &mut self,
        task: TaskId,
        is: impl Fn(ContainerState) -> bool,
    ) -> ContainerState {
        self.expect("such state", |report| match report {
            Report::Event(RuntimeEvent::Container(found)) => {
                (found.task == task && is(found.state)).then_some(found.state)
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn exit(&mut self, task: TaskId) -> i32 {
        let state = self.state(task, |s| matches!(s, ContainerState::Exited { .. })).await;
        let ContainerState::Exited { code, .. } = state else { unreachable!() };
        code
    }

    pub(crate) async fn start(&mut self, task: &StartTask) -> Found {
        let id = self.act(RuntimeAction::Start(Box::new(task.clone())));
        match self.done(id).await {
            ActionResult::Started(found) => *found,
            other => panic!("not started: {other:?}"),
        }
    }

    pub(crate) async fn start_fails(&mut self, task: &StartTask) -> (StartFailure, String) {
        let id = self.act(RuntimeAction::Start(Box::new(task.clone())));
        match self.done(id).await {
            ActionResult::StartFailed { why, message } => (why, message),
            other => panic!("should have failed: {other:?}"),
        }
    }

    pub(crate) async fn stop(&mut self, found: &Found, grace_ms: u64) -> ActionResult {
        let (task, container) = (found.task, found.container.clone());
        let id = self.act(RuntimeAction::Stop { task, container, grace: Millis(grace_ms) });
        self.done(id).await
    }

    pub(crate) async fn list(&mut self) -> Vec<Found> {
        let id = self.act(RuntimeAction::List);
        match self.done(id).await {
            ActionResult::Listed(found) => found,
            other => panic!("not listed: {other:?}"),
        }
    }

    /// Stops everything, at the end of a test.
    pub(crate) async fn clear(&mut self) {
        for found in self.list().await {
            assert_eq!(self.stop(&found, 0).await, ActionResult::Stopped);
        }
    }

    pub(crate) fn dir_of(&self, task: TaskId) -> PathBuf {
        self.runtime.dir().join(task.to_string())
    }

    /// Everything that a task has written, once it has ended.
    pub(crate) async fn output(&self, task: TaskId) -> String {
        let options = LogOptions {
            stdout: true,
            stderr: true,
            follow: true,
            since: None,
            until: None,
            tail: None,
        };
        let frames = self.runtime.logs(task, options).collect::<Vec<_>>();
        let frames = tokio::time::timeout(BOUND, frames).await.unwrap();
        let lines = frames.into_iter().map(|f| String::from_utf8(f.unwrap().line).unwrap());
        lines.collect()
    }
}

pub(crate) fn sh(script: &str) -> StartTask {
    task(json!({"Command": ["sh", "-c", script]}))
}

pub(crate) fn task(spec: Value) -> StartTask {
    let task = TaskId(rand::random());
    StartTask {
        task,
        service: ServiceId(3),
        service_name: "web".into(),
        slot: Slot::Index(1),
        epoch: Epoch(7),
        template: TemplateId(8),
        created: Wall(9),
        name: format!("web.1.{task}"),
        labels: Default::default(),
        template_json: Arc::new(json!({ "ContainerSpec": spec })),
        registry_auth: None,
        ports: Vec::new(),
        files: Arc::default(),
        networks: Vec::new(),
        name_servers: Vec::new(),
    }
}

/// Waits for something that no report tells of.
pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(BOUND, wait).await.is_ok(), "not within {BOUND:?}: {what}");
}

pub(crate) fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next());
    state.is_some_and(|state| state != 'Z')
}

pub(crate) fn memory(owner: Owner) -> MemoryFiles {
    MemoryFiles::open(owner, Layout::Tree, Arc::new(Vault::new(&[1; 32])))
}
