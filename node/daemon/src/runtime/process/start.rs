//! Starting a task, and watching over it until it ends.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use node::runtime::{ActionId, ActionResult, ContainerState, StartFailure, StartTask};
use tokio::process::Child;

use super::launch::Launch;
use super::procfs::{Process, boot_id};
use super::record::{self, Record};
use super::task::{Task, exit_code};
use super::{Shared, health, output};
use crate::runtime::ownership;
use crate::runtime::spec::Template;
use crate::runtime::wallclock::wall_now;

/// Answers [`node::runtime::RuntimeAction::Start`].
pub(super) async fn start(shared: &Arc<Shared>, id: ActionId, start: &StartTask) {
    let task = match run(shared, start).await {
        Ok(task) => task,
        Err((why, message)) => {
            shared.files.remove(start.task).await;
            shared.reports.done(id, ActionResult::StartFailed { why, message }).await;
            return;
        }
    };
    let _order = shared.order.lock().await;
    let result = match task.found(shared.owner) {
        Some(found) => ActionResult::Started(Box::new(found)),
        None => ActionResult::StartFailed {
            why: StartFailure::DidNotStart,
            message: format!("the record of task {} is not this node's", start.task),
        },
    };
    shared.reports.done(id, result).await;
}

async fn run(shared: &Arc<Shared>, start: &StartTask) -> Result<Arc<Task>, (StartFailure, String)> {
    // An earlier attempt of the same task: what it started stays, what it only wrote down is started.
    if let Some(earlier) = shared.task(start.task)
        && earlier.found(shared.owner).is_some_and(|f| f.state != ContainerState::Created)
    {
        return Ok(earlier);
    }
    let bad = |e: crate::runtime::spec::BadSpec| (StartFailure::BadSpec, e.to_string());
    let template = Template::parse(&start.template_json).map_err(bad)?;
    let mut launch = Launch::new(&template).map_err(bad)?;
    let placed = shared.files.write(start.task, &start.files).await;
    let placed = placed.map_err(|error| (StartFailure::BadSpec, error.to_string()))?;
    if !placed.is_empty() {
        launch.files = shared.files.dir(start.task).ok();
    }
    let failed = |doing: &str, e: io::Error| {
        (StartFailure::DidNotStart, format!("starting process failed: {doing}: {e}"))
    };
    let dir = shared.dir.of(start.task);
    let record = Record::new(
        ownership::labels(shared.owner, start),
        start.template_json.as_ref().clone(),
        own_ports(start),
        boot_id(),
    );
    let (place, first) = (dir.clone(), record.clone());
    let prepared = tokio::task::spawn_blocking(move || prepare(&place, &first)).await;
    prepared
        .unwrap_or_else(|e| Err(io::Error::other(e)))
        .map_err(|e| failed("its directory cannot be made", e))?;
    let task = Arc::new(Task::new(start.task, dir.clone(), Some(launch), record));
    let child = match spawn(&task) {
        Ok(child) => child,
        Err(e) => {
            // It holds nothing but the record of what never ran.
            let _ = std::fs::remove_dir_all(&dir);
            return Err(failed(&spawn_error(&template), e));
        }
    };
    // A child that was not waited for keeps its pid, so this is it, dead or alive.
    let process = child.id().and_then(Process::of);
    let started = wall_now();
    let noted = task.change(|record| {
        record.process = process;
        record.started_ms = Some(started.0);
    });
    if let Err(error) = noted.await {
        tracing::warn!(task = %task.id, %error, "a process could not be written down; the next shoal finds it by its environment");
    }
    shared.tasks().insert(task.id, task.clone());
    tokio::spawn(watch_child(shared.clone(), task.clone(), child));
    tokio::spawn(health::run(shared.clone(), task.clone()));
    Ok(task)
}

fn spawn_error(template: &Template) -> String {
    let program = template.command.first().or(template.args.first());
    format!("'{}' cannot be run", program.map_or("", String::as_str))
}

/// Without an engine a process opens its ports itself: what it was asked to publish is what it has.
fn own_ports(start: &StartTask) -> Vec<node::slot::PortStatus> {
    let mut ports = start.ports.clone();
    for port in &mut ports {
        port.published = port.target;
    }
    ports
}

fn prepare(dir: &Path, record: &Record) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir.join("cwd"))?;
    record::save(dir, record)
}

fn spawn(task: &Task) -> io::Result<Child> {
    // Always there for a task that is being started.
    let launch = task.launch.as_ref().ok_or_else(|| io::Error::other("nothing to run"))?;
    let log = |name: &str| -> io::Result<File> {
        // Appending: the file may be cut while the process writes to it.
        File::options().append(true).create(true).mode(0o600).open(task.dir.join(name))
    };
    let mut command = launch.command(task.id, &task.dir.join("cwd"));
    command.stdout(log(output::STDOUT)?).stderr(log(output::STDERR)?);
    command.spawn()
}

async fn watch_child(shared: Arc<Shared>, task: Arc<Task>, mut child: Child) {
    let status = tokio::select! {
        status = child.wait() => status,
        // The child goes on: dropping the handle does not kill it.
        () = shared.ended.cancelled() => return,
    };
    task.note_exit(status.map_or(-1, exit_code)).await;
    shared.report(&task).await;
}
