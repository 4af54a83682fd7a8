//! What is written down of a task, so that the next shoal knows it again.
//!
//! The record is written before the process starts (without a pid) and again right after. A crash in
//! between leaves a process that nobody wrote down; it is found by its environment ([`super::procfs`]).

use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use membership::id::TaskId;
use node::slot::PortStatus;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::procfs::Process;

/// The layout of `task.json`. Another one is left alone.
const VERSION: u32 = 1;
/// The largest `task.json` that is read: a template is at most a record's body.
const MAX_BYTES: u64 = 4 * 1024 * 1024;
const FILE: &str = "task.json";

/// One task, as it is in its `task.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    version: u32,
    /// As a container would have them: whose task it is, which slot it fills, and so on.
    pub(super) labels: BTreeMap<String, String>,
    pub(super) template: Value,
    pub(super) ports: Vec<PortStatus>,
    pub(super) boot: String,
    /// `None` before the process was started.
    pub(super) process: Option<Process>,
    pub(super) exit: Option<Exit>,
    /// Milliseconds since 1970 when it was started; `None` in records of earlier versions.
    #[serde(default)]
    pub(super) started_ms: Option<u64>,
    /// Its stop has been begun: a shoal that starts meanwhile must not count on it.
    #[serde(default)]
    pub(super) stopping: bool,
}

/// How a task ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Exit {
    /// As a shell has it: 128 and the number of the signal for a process that was killed; -1 where
    /// nobody knows, because the process was not a child of the shoal that saw it end.
    pub(super) code: i32,
}

impl Record {
    pub(super) fn new(
        labels: BTreeMap<String, String>,
        template: Value,
        ports: Vec<PortStatus>,
        boot: String,
    ) -> Self {
        Self {
            version: VERSION,
            labels,
            template,
            ports,
            boot,
            process: None,
            exit: None,
            started_ms: None,
            stopping: false,
        }
    }
}

/// The directory of all tasks.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self(path.to_owned()))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    pub(super) fn of(&self, task: TaskId) -> PathBuf {
        self.0.join(task.to_string())
    }

    /// Tasks with a directory, and what is written in it.
    pub(super) fn load(&self) -> io::Result<Vec<(TaskId, io::Result<Record>)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            let entry = entry?;
            let name = entry.file_name();
            if let Some(task) = name.to_str().and_then(|name| name.parse().ok()) {
                found.push((task, read(&entry.path().join(FILE))));
            }
        }
        Ok(found)
    }
}

fn read(path: &Path) -> io::Result<Record> {
    let size = std::fs::metadata(path)?.len();
    if size > MAX_BYTES {
        return Err(io::Error::other(format!("it has {size} bytes")));
    }
    let record: Record = serde_json::from_slice(&std::fs::read(path)?)?;
    if record.version != VERSION {
        let found = record.version;
        return Err(io::Error::other(format!("its layout is {found}, this shoal knows {VERSION}")));
    }
    Ok(record)
}

/// Writes a record into the task's directory, whole or not at all, and durably.
pub(super) fn save(dir: &Path, record: &Record) -> io::Result<()> {
    let new = dir.join("task.json.new");
    let mut file =
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec(record)?)?;
    file.sync_all()?;
    std::fs::rename(&new, dir.join(FILE))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_rubbish_is_an_error_for_its_task_alone() {
        let dir = tempfile::tempdir().unwrap();
        let directory = Directory::open(&dir.path().join("process")).unwrap();
        let mut record = Record::new(
            [("a".to_owned(), "b".to_owned())].into(),
            serde_json::json!({"ContainerSpec": {"Image": "x"}}),
            Vec::new(),
            "boot".into(),
        );
        record.process = Some(Process { pid: 5, start_ticks: u64::MAX });
        let write = |task: TaskId, text: Option<&str>| {
            std::fs::create_dir(directory.of(task)).unwrap();
            match text {
                None => save(&directory.of(task), &record).unwrap(),
                Some(text) => std::fs::write(directory.of(task).join(FILE), text).unwrap(),
            }
        };
        write(TaskId(1), None);
        write(TaskId(2), Some("{"));
        write(TaskId(3), Some(r#"{"version":9,"labels":{},"template":null,"ports":[],"boot":""}"#));
        std::fs::create_dir(directory.path().join("not-a-task")).unwrap();
        let mut loaded = directory.load().unwrap();
        loaded.sort_by_key(|(task, _)| *task);
        assert_eq!(loaded.len(), 3);
        assert_eq!(loaded[0].1.as_ref().unwrap(), &record);
        assert!(loaded[1].1.is_err());
        assert!(loaded[2].1.as_ref().unwrap_err().to_string().contains("layout is 9"));
    }
}
