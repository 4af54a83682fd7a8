//! The files that tasks get from secrets and configs: on a memory file system of this host, never on
//! a disk.
//!
//! ```text
//! /run/shoal/files/<node id>/<task id>/secret.<id>.<digest of its path>     docker: mounted one by one
//!                                     /run/secrets/<name>                   process: a tree of its own
//! ```
//!
//! They are written before the container is created and mounted into it read-only, so they are there
//! whatever becomes of shoal or the engine while it runs, and gone with the host's memory. Copying
//! them into the created container instead would put them into its layer, which is on a disk. They are
//! removed when the task has ended; what a crash left behind, the next listing removes.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use membership::id::TaskId;
use membership::record::Digest;
use nix::sys::statfs::{FsType, TMPFS_MAGIC, statfs};
use nix::unistd::{Gid, Uid, chown, geteuid};
use node::assets::AssetKind;
use node::files::{TaskFile, TaskFiles};
use node::template::{Lookup, expand_content};
use zeroize::Zeroizing;

use super::Owner;
use crate::vault::{Vault, VaultError};

/// Not in every kernel's headers: memory that is never swapped out.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);

/// How the files of one task lie in its directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// One beside the other, to be mounted.
    Flat,
    /// As they would lie in a container.
    Tree,
}

/// Why a task cannot have its files.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error("the {kind} {name} cannot be expanded: {why}")]
    Template { kind: &'static str, name: String, why: String },
    #[error(
        "this host has no memory file system for secrets and configs ({0}): mount a tmpfs at /run"
    )]
    NoMemory(String),
    #[error("the {kind} {name} cannot be written to {path}: {source}")]
    Write { kind: &'static str, name: String, path: PathBuf, source: io::Error },
}

/// One file, where it is on the host and where it is to be in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub host: PathBuf,
    pub path: String,
}

/// The memory files of one node.
#[derive(Debug)]
pub struct MemoryFiles {
    /// This node's directory, or what was tried.
    root: Result<PathBuf, String>,
    layout: Layout,
    vault: Arc<Vault>,
}

impl MemoryFiles {
    /// Chooses the first memory file system that this process may use: /run, the user's own, /dev/shm.
    /// The choice is the same after each start.
    pub fn open(owner: Owner, layout: Layout, vault: Arc<Vault>) -> Self {
        let user = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let candidates = [
            Some(PathBuf::from("/run/shoal/files")),
            user.map(|dir| dir.join("shoal/files")),
            Some(PathBuf::from(format!("/dev/shm/shoal-{}", geteuid()))),
        ];
        Self::open_in(candidates.into_iter().flatten(), owner, layout, vault)
    }

    fn open_in(
        candidates: impl Iterator<Item = PathBuf>,
        owner: Owner,
        layout: Layout,
        vault: Arc<Vault>,
    ) -> Self {
        let mut tried = Vec::new();
        for candidate in candidates {
            let dir = candidate.join(owner.node.to_string());
            match usable(&dir, layout) {
                Ok(()) => {
                    // Made again when a task needs it: most hosts never do. What is not empty stays.
                    let _ = fs::remove_dir(&dir).and_then(|()| fs::remove_dir(&candidate));
                    return Self { root: Ok(dir), layout, vault };
                }
                Err(why) => tried.push(format!("{}: {why}", candidate.display())),
            }
        }
        let tried = tried.join("; ");
        tracing::warn!(%tried, "tasks with secrets or configs cannot run here: no memory file system");
        Self { root: Err(tried), layout, vault }
    }

    /// Writes what a task gets, before it starts. What is there already and the same is not touched.
    ///
    /// # Errors
    /// [`FilesError`]; what was written so far is removed with the task.
    pub(super) async fn write(
        self: &Arc<Self>,
        task: TaskId,
        files: &Arc<TaskFiles>,
    ) -> Result<Vec<Placed>, FilesError> {
        if files.files.is_empty() {
            return Ok(Vec::new());
        }
        let (this, files) = (Arc::clone(self), Arc::clone(files));
        in_background(move || {
            let dir = this.dir(task)?;
            let root = dir.parent().unwrap_or(&dir);
            usable(root, this.layout)
                .map_err(|why| FilesError::NoMemory(format!("{}: {why}", root.display())))?;
            let mut placed = Vec::new();
            for file in &files.files {
                let content = this.content(file, &files)?;
                let host = this.place(&dir, file);
                put(this.layout, &dir, &host, file, &content).map_err(|e| at(file, &host, e))?;
                placed.push(Placed { host, path: file.path.clone() });
            }
            Ok(placed)
        })
        .await
    }

    /// Replaces those configs of a running task that differ, in place (a mount shows the file that it
    /// was made of, not another one of that name). Gives the signals that were asked for.
    ///
    /// # Errors
    /// [`FilesError`]; those before it were replaced, and the next try finds the rest.
    pub(super) async fn refresh(
        self: &Arc<Self>,
        task: TaskId,
        files: &Arc<TaskFiles>,
    ) -> Result<Vec<String>, FilesError> {
        let (this, files) = (Arc::clone(self), Arc::clone(files));
        in_background(move || {
            let dir = this.dir(task)?;
            let mut signals = Vec::new();
            for file in files.files.iter().filter(|file| file.kind == AssetKind::Config) {
                let host = this.place(&dir, file);
                if !host.is_file() {
                    continue;
                }
                let content = this.content(file, &files)?;
                let changed = put(this.layout, &dir, &host, file, &content);
                let changed = changed.map_err(|e| at(file, &host, e))?;
                if changed
                    && let Some(signal) = &file.signal
                    && !signals.contains(signal)
                {
                    signals.push(signal.clone());
                }
            }
            Ok(signals)
        })
        .await
    }

    /// Removes what a task had. Nothing to remove is fine.
    pub(super) async fn remove(&self, task: TaskId) {
        let Ok(dir) = self.dir(task) else { return };
        let removed = tokio::task::spawn_blocking(move || fs::remove_dir_all(&dir)).await;
        if let Ok(Err(error)) = removed
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%task, %error, "the files of an ended task are still in this host's memory");
        }
    }

    /// The tasks that have files here.
    pub(super) fn tasks(&self) -> Vec<TaskId> {
        let Ok(root) = &self.root else { return Vec::new() };
        let entries = fs::read_dir(root).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
    }

    /// The directory of one task.
    ///
    /// # Errors
    /// [`FilesError::NoMemory`].
    pub(super) fn dir(&self, task: TaskId) -> Result<PathBuf, FilesError> {
        match &self.root {
            Ok(root) => Ok(root.join(task.to_string())),
            Err(tried) => Err(FilesError::NoMemory(tried.clone())),
        }
    }

    fn place(&self, dir: &Path, file: &TaskFile) -> PathBuf {
        match self.layout {
            Layout::Tree => dir.join(file.path.trim_start_matches('/')),
            Layout::Flat => {
                let path = Digest::of_bytes(file.path.as_bytes()).0 as u64;
                dir.join(format!("{}.{}.{path:016x}", file.kind.name(), file.id))
            }
        }
    }

    fn content(
        &self,
        file: &TaskFile,
        files: &TaskFiles,
    ) -> Result<Zeroizing<Vec<u8>>, FilesError> {
        let plain = self.plain(file)?;
        if !file.templated {
            return Ok(plain);
        }
        let lookup = Seen { memory: self, files };
        let expanded = expand_content(&plain, &files.words, &lookup);
        expanded.map(Zeroizing::new).map_err(|why| FilesError::Template {
            kind: file.kind.name(),
            name: file.name.clone(),
            why: why.to_string(),
        })
    }

    fn plain(&self, file: &TaskFile) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        match file.kind {
            AssetKind::Secret => self.vault.open(&file.name, &file.content),
            AssetKind::Config => Ok(Zeroizing::new(file.content.bytes().to_vec())),
        }
    }
}

/// What the templates in a task's files see.
struct Seen<'a> {
    memory: &'a MemoryFiles,
    files: &'a TaskFiles,
}

impl Seen<'_> {
    fn find(&self, kind: AssetKind, target: &str) -> Option<Vec<u8>> {
        let file = self.files.files.iter().find(|f| f.kind == kind && f.target == target)?;
        self.memory.plain(file).ok().map(|plain| plain.to_vec())
    }
}

impl Lookup for Seen<'_> {
    fn env(&self, name: &str) -> String {
        let mut found = self.files.env.iter().rev().filter_map(|line| line.split_once('='));
        let last = found.find(|(key, _)| *key == name);
        last.map(|(_, value)| value.to_owned()).unwrap_or_default()
    }

    fn config(&self, target: &str) -> Option<Vec<u8>> {
        self.find(AssetKind::Config, target)
    }

    fn secret(&self, target: &str) -> Option<Vec<u8>> {
        self.find(AssetKind::Secret, target)
    }
}

fn at(file: &TaskFile, host: &Path, source: io::Error) -> FilesError {
    FilesError::Write {
        kind: file.kind.name(),
        name: file.name.clone(),
        path: host.to_owned(),
        source,
    }
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, FilesError> + Send + 'static,
) -> Result<T, FilesError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(FilesError::NoMemory(format!("writing ended unexpectedly: {error}"))),
    }
}

/// Who may enter: the mounts need no path; a process that runs as another user has to get through.
fn dir_mode(layout: Layout) -> u32 {
    match layout {
        Layout::Flat => 0o700,
        Layout::Tree => 0o711,
    }
}

fn usable(dir: &Path, layout: Layout) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(dir_mode(layout)).create(dir)?;
    let meta = fs::symlink_metadata(dir)?;
    let parent = fs::symlink_metadata(dir.parent().unwrap_or(dir))?;
    // Somebody else's directory in a place where everybody may make one is a trap.
    let own = |meta: &fs::Metadata| meta.is_dir() && meta.uid() == geteuid().as_raw();
    if !own(&meta) || !own(&parent) {
        return Err(io::Error::other("it is not this user's own directory"));
    }
    let kind = statfs(dir)?.filesystem_type();
    if kind != TMPFS_MAGIC && kind != RAMFS_MAGIC {
        fs::remove_dir(dir)?;
        return Err(io::Error::other("it is not in memory"));
    }
    fs::set_permissions(dir, fs::Permissions::from_mode(dir_mode(layout)))
}

/// Sees that the file holds this; true if it did not before.
fn put(
    layout: Layout,
    dir: &Path,
    host: &Path,
    file: &TaskFile,
    content: &[u8],
) -> io::Result<bool> {
    DirBuilder::new().recursive(true).mode(dir_mode(layout)).create(dir)?;
    if let Some(parent) = host.parent() {
        DirBuilder::new().recursive(true).mode(dir_mode(layout)).create(parent)?;
    }
    if let Ok(meta) = fs::symlink_metadata(host) {
        if same(host, &meta, content)? {
            own(host, file)?;
            return Ok(false);
        }
        // Its mode may be read-only, also for its owner.
        fs::set_permissions(host, fs::Permissions::from_mode(0o600))?;
    }
    let mut out =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(host)?;
    out.write_all(content)?;
    out.set_len(content.len() as u64)?;
    own(host, file)?;
    Ok(true)
}

fn same(host: &Path, meta: &fs::Metadata, content: &[u8]) -> io::Result<bool> {
    if meta.len() != content.len() as u64 {
        return Ok(false);
    }
    let mut there = Zeroizing::new(Vec::with_capacity(content.len()));
    match File::open(host) {
        Ok(mut file) => file.read_to_end(&mut there)?,
        // Not readable by its owner: written by one who is not root with such a mode.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Ok(false),
        Err(error) => return Err(error),
    };
    Ok(there.as_slice() == content)
}

/// The owner is given while only this process can read it. Who is not root keeps it himself.
fn own(host: &Path, file: &TaskFile) -> io::Result<()> {
    if geteuid().is_root() {
        chown(host, Some(Uid::from_raw(file.uid)), Some(Gid::from_raw(file.gid)))?;
    }
    fs::set_permissions(host, fs::Permissions::from_mode(file.mode))
}

#[cfg(test)]
mod tests {
    use super::*;
    use membership::id::{AssetId, ClusterId, NodeId};
    use node::files::Content;
    use serde_json::json;

    fn memory(layout: Layout) -> (Arc<MemoryFiles>, tempfile::TempDir) {
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let owner = Owner { cluster: ClusterId(1), node: NodeId(2) };
        let candidates = [PathBuf::from("/proc/none"), dir.path().join("files")].into_iter();
        let vault = Arc::new(Vault::new(&[1; 32]));
        (Arc::new(MemoryFiles::open_in(candidates, owner, layout, vault)), dir)
    }

    fn file(kind: AssetKind, name: &str, path: &str, content: Content) -> TaskFile {
        TaskFile {
            kind,
            id: AssetId(3),
            name: name.to_owned(),
            target: name.to_owned(),
            path: path.to_owned(),
            uid: 0,
            gid: 0,
            mode: 0o440,
            content,
            templated: false,
            signal: None,
        }
    }

    fn files(memory: &MemoryFiles, config: &str, templated: bool) -> Arc<TaskFiles> {
        let sealed = memory.vault.seal("key", b"hunter2").unwrap();
        let content = Content::new(config.as_bytes());
        let config = file(AssetKind::Config, "site", "/etc/site.conf", content);
        Arc::new(TaskFiles {
            files: vec![
                file(AssetKind::Secret, "key", "/run/secrets/key", sealed),
                TaskFile { templated, signal: Some("HUP".into()), ..config },
            ],
            words: json!({"Task": {"Slot": "4"}}),
            env: vec!["A=1".to_owned(), "A=2".to_owned()],
        })
    }

    const TASK: TaskId = TaskId(77);

    #[tokio::test]
    async fn files_are_written_opened_and_expanded_and_removed() {
        let (memory, _dir) = memory(Layout::Flat);
        let text = "{{env \"A\"}} {{secret \"key\"}} {{.Task.Slot}}";
        let placed = memory.write(TASK, &files(&memory, text, true)).await.unwrap();
        assert_eq!(fs::read(&placed[0].host).unwrap(), b"hunter2");
        assert_eq!(fs::read(&placed[1].host).unwrap(), b"2 hunter2 4");
        assert_eq!(placed[1].path, "/etc/site.conf");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&placed[0].host), 0o440);
        assert_eq!(mode(placed[0].host.parent().unwrap()), 0o700);
        assert_eq!(memory.tasks(), [TASK]);
        memory.remove(TASK).await;
        memory.remove(TASK).await;
        assert_eq!(memory.tasks(), []);
    }

    #[tokio::test]
    async fn only_what_differs_is_replaced_and_in_place() {
        let (memory, _dir) = memory(Layout::Tree);
        let placed = memory.write(TASK, &files(&memory, "old and long", false)).await.unwrap();
        assert!(placed[1].host.ends_with("etc/site.conf"), "{placed:?}");
        let inode = fs::metadata(&placed[1].host).unwrap().ino();
        let refresh = |text: &str| {
            let files = files(&memory, text, false);
            let memory = Arc::clone(&memory);
            async move { memory.refresh(TASK, &files).await.unwrap() }
        };
        assert_eq!(refresh("old and long").await, [""; 0]);
        assert_eq!(refresh("new").await, ["HUP"]);
        assert_eq!(fs::read(&placed[1].host).unwrap(), b"new");
        assert_eq!(fs::metadata(&placed[1].host).unwrap().ino(), inode);
        fs::remove_file(&placed[1].host).unwrap();
        assert_eq!(refresh("newer").await, [""; 0], "what a task does not have it is not given");
    }

    #[tokio::test]
    async fn what_is_wrong_is_said_without_the_bytes() {
        let (memory, _dir) = memory(Layout::Flat);
        let error = memory.write(TASK, &files(&memory, "{{.None}}", true)).await.unwrap_err();
        assert!(error.to_string().contains("the config site cannot be expanded"), "{error}");
        let other = Arc::new(MemoryFiles {
            root: memory.root.clone(),
            layout: Layout::Flat,
            vault: Arc::new(Vault::new(&[2; 32])),
        });
        let error = other.write(TASK, &files(&memory, "x", false)).await.unwrap_err();
        assert!(error.to_string().contains("secret key cannot be opened"), "{error}");
        let disk = tempfile::tempdir_in("/var/tmp").unwrap();
        let owner = Owner { cluster: ClusterId(1), node: NodeId(2) };
        let on_disk = MemoryFiles::open_in(
            [disk.path().join("files")].into_iter(),
            owner,
            Layout::Flat,
            Arc::new(Vault::new(&[1; 32])),
        );
        let error = Arc::new(on_disk).write(TASK, &files(&memory, "x", false)).await.unwrap_err();
        assert!(error.to_string().contains("not in memory"), "{error}");
    }
}
