//! One runtime under test, with what a test needs around it.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use daemon::runtime::docker::DockerRuntime;
use daemon::runtime::{Layout, MemoryFiles, Owner, Report, Runtime};
use daemon::vault::Vault;
use membership::id::{ClusterId, NodeId, ServiceId, TaskId};
use membership::time::{Millis, Wall};
use node::runtime::{
    ActionId, ActionResult, ContainerState, Found, RuntimeAction, RuntimeEvent, StartFailure,
    StartTask, label,
};
use node::slot::{Epoch, PortStatus, Slot, TemplateId};
use serde_json::{Value, json};
use tokio::sync::mpsc;

pub(crate) const SOCKET: &str = "/var/run/docker.sock";
/// Far above what anything takes; reached only when something is wrong.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) owner: Owner,
    pub(crate) runtime: DockerRuntime,
    reports: mpsc::Receiver<Report>,
    next_action: u64,
    /// Reports that nobody has asked for yet.
    seen: Vec<Report>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::at(Path::new(SOCKET), Owner { cluster: ClusterId(random()), node: NodeId(random()) })
    }

    pub(crate) fn at(socket: &Path, owner: Owner) -> Self {
        image();
        let (runtime, reports) = DockerRuntime::start(socket, owner, false, memory(owner));
        Self { owner, runtime, reports, next_action: 0, seen: Vec::new() }
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

    pub(crate) async fn event(
        &mut self,
        what: &str,
        pick: impl Fn(&RuntimeEvent) -> bool,
    ) -> RuntimeEvent {
        self.expect(what, |report| match report {
            Report::Event(event) if pick(event) => Some(event.clone()),
            _ => None,
        })
        .await
    }

    /// Waits until a container of this task is in a state that `is` takes.
    pub(crate) async fn state(
        &mut self,
        task: TaskId,
        is: impl Fn(ContainerState) -> bool,
    ) -> ContainerState {
        let event = self
            .event("such state", |event| match event {
                RuntimeEvent::Container(found) => found.task == task && is(found.state),
                _ => false,
            })
            .await;
        let RuntimeEvent::Container(found) = event else { unreachable!() };
        found.state
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

    pub(crate) async fn stop(
        &mut self,
        task: TaskId,
        container: &str,
        grace_ms: u64,
    ) -> ActionResult {
        let container = container.to_owned();
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

    /// All containers of this test's cluster, as the docker command sees them.
    pub(crate) fn containers(&self) -> Vec<String> {
        let filter = format!("label={}={}", label::CLUSTER, self.owner.cluster);
        let out = docker(&["ps", "-aq", "--no-trunc", "--filter", &filter]);
        out.lines().map(str::to_owned).collect()
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let ours = self.containers();
        if !ours.is_empty() {
            let mut args = vec!["rm", "-f", "-v"];
            args.extend(ours.iter().map(String::as_str));
            let _ = Command::new("docker").args(args).output();
        }
    }
}

pub(crate) fn random() -> u128 {
    rand::random()
}

/// Runs the docker command, which must succeed.
pub(crate) fn docker(args: &[&str]) -> String {
    let out = Command::new("docker").args(args).output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "docker {args:?}: {error}");
    String::from_utf8(out.stdout).unwrap().trim().to_owned()
}

pub(crate) fn inspect(container: &str, format: &str) -> String {
    docker(&["inspect", "--type", "container", "--format", format, container])
}

pub(crate) const IMAGE: &str = "shoal-runtime-test:1";

/// Busybox as an image, made once and left to `docker image prune`: tests of several processes share it.
pub(crate) fn image() -> &'static str {
    static MADE: OnceLock<()> = OnceLock::new();
    MADE.get_or_init(|| {
        let script = format!(
            "set -e; d=$(mktemp -d); mkdir -p $d/bin $d/tmp $d/etc $d/proc $d/sys $d/dev; \
             cp $(command -v busybox) $d/bin/busybox; \
             for a in $($d/bin/busybox --list); do ln -s busybox $d/bin/$a 2>/dev/null || true; done; \
             tar -C $d -c . | docker import - {IMAGE} >/dev/null; rm -rf $d"
        );
        let out = Command::new("sh").args(["-c", &script]).output().unwrap();
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "the test image cannot be made (is busybox-static installed?): {error}");
    });
    IMAGE
}

/// A task whose container runs `argv` of busybox.
pub(crate) fn task(argv: &[&str]) -> StartTask {
    task_of(json!({ "ContainerSpec": { "Image": IMAGE, "Command": argv } }))
}

pub(crate) fn task_of(template: Value) -> StartTask {
    let task = TaskId(random());
    StartTask {
        task,
        service: ServiceId(random()),
        service_name: "web".into(),
        slot: Slot::Index(1),
        epoch: Epoch(7),
        template: TemplateId(8),
        created: Wall(1_700_000_000_000),
        name: format!("web.1.{task}"),
        labels: [("team".to_owned(), "a".to_owned())].into(),
        template_json: Arc::new(template),
        registry_auth: None,
        ports: Vec::<PortStatus>::new(),
        files: Arc::default(),
        networks: Vec::new(),
        name_servers: Vec::new(),
    }
}

pub(crate) fn memory(owner: Owner) -> MemoryFiles {
    MemoryFiles::open(owner, Layout::Flat, Arc::new(Vault::new(&[1; 32])))
}
