//! Taking over what an earlier shoal started on this host.

use std::sync::Arc;
use std::time::Duration;

use super::launch::Launch;
use super::procfs::{boot_id, find_marked};
use super::record::Exit;
use super::task::Task;
use super::{Shared, health, record};
use crate::runtime::ownership;
use crate::runtime::spec::Template;

/// How often an adopted process is looked at: it is no child of ours, so nobody tells us of its end.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// The code of a process whose end nobody saw.
const UNKNOWN_CODE: i32 = -1;

/// Reads all records; blocking, and quick: a few small files per task.
pub(super) fn adopt_all(shared: &Arc<Shared>) {
    let loaded = match shared.dir.load() {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!(%error, dir = %shared.dir.path().display(), "no task can be adopted");
            return;
        }
    };
    let boot = boot_id();
    for (id, record) in loaded {
        let mut record = match record {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(task = %id, %error, "the record of a task cannot be read: it is left alone");
                continue;
            }
        };
        let owned = ownership::read(shared.owner, "", |name| record.labels.get(name).cloned());
        if let Err(why) = owned {
            tracing::warn!(task = %id, %why, "a task is left alone");
            continue;
        }
        if record.boot != boot {
            // Nothing survives a boot.
            record.exit = record.exit.or(Some(Exit { code: UNKNOWN_CODE }));
        } else if record.process.is_none() && record.exit.is_none() {
            record.process = find_marked(&id.to_string());
        }
        let dir = shared.dir.of(id);
        if let Err(error) = record::save(&dir, &record) {
            tracing::warn!(task = %id, %error, "an adopted task could not be written down");
        }
        let mut launch = Template::parse(&record.template).and_then(|t| Launch::new(&t)).ok();
        if let Some(launch) = &mut launch {
            launch.files = shared.files.dir(id).ok().filter(|dir| dir.is_dir());
        }
        let task = Arc::new(Task::new(id, dir, launch, record));
        shared.tasks().insert(id, task.clone());
        if task.process().is_some() {
            tokio::spawn(watch_stranger(shared.clone(), task.clone()));
            tokio::spawn(health::run(shared.clone(), task));
        }
    }
}

async fn watch_stranger(shared: Arc<Shared>, task: Arc<Task>) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    while let Some(process) = task.process() {
        tokio::select! {
            _ = looks.tick() => {}
            () = shared.ended.cancelled() => return,
        }
        if !process.is_alive() {
            task.note_exit(UNKNOWN_CODE).await;
            shared.report(&task).await;
        }
    }
}
