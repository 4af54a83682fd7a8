//! Reading what a process has written.
//!
//! The files hold bare bytes, no times: a line that was there before the reading began bears the time
//! at which its file was last written to, a later one the time at which it was read. `since` and
//! `until` therefore take or leave a file as a whole, `tail` counts each stream by itself, and the old
//! lines of stdout come before those of stderr.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Buf, Bytes, BytesMut};
use membership::id::TaskId;
use membership::time::Wall;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use super::Shared;
use super::rotate::older;
use super::task::Task;
use crate::api::backend::{LogOptions, LogSource, LogStream, LogsUnavailable, MAX_LOG_FRAME_BYTES};
use crate::runtime::frames::{self, Frames};
use crate::runtime::wallclock::{rfc3339, wall_now};

pub(super) const STDOUT: &str = "stdout.log";
pub(super) const STDERR: &str = "stderr.log";

/// How often a followed file is looked at.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// How much is read at a time.
const CHUNK_BYTES: usize = 16 * 1024;

pub(super) fn logs(shared: &Shared, id: TaskId, options: LogOptions) -> LogStream {
    let task = shared.task(id);
    frames::stream(move |frames| async move {
        let Some(task) = task else {
            let why =
                format!("the process of task {id} is not here any more: its logs went with it");
            frames.send(Err(LogsUnavailable(why))).await;
            return;
        };
        if let Err(error) = read(&task, &options, &frames).await {
            let why = format!("the logs of task {id} cannot be read: {error}");
            frames.send(Err(LogsUnavailable(why))).await;
        }
    })
}

async fn read(task: &Arc<Task>, options: &LogOptions, frames: &Frames) -> io::Result<()> {
    let mut streams = Vec::new();
    for (wanted, name, source) in
        [(options.stdout, STDOUT, LogSource::Stdout), (options.stderr, STDERR, LogSource::Stderr)]
    {
        if !wanted {
            continue;
        }
        let path = task.dir.join(name);
        let (begin, asked) = (path.clone(), options.clone());
        let parts = tokio::task::spawn_blocking(move || parts(&begin, &asked)).await;
        for part in parts.unwrap_or_else(|e| Err(io::Error::other(e)))? {
            let mut lines = Lines::open(&part.path, source, part.from).await?;
            if !lines.pass_on(Some(part.written), frames).await? {
                return Ok(());
            }
            if part.path == path {
                streams.push(lines);
            }
        }
    }
    if !options.follow {
        return finish(streams, frames).await;
    }
    loop {
        // Asked before reading: what it wrote at last is there when it has ended.
        let over = task.process().is_none();
        for lines in &mut streams {
            if !lines.pass_on(None, frames).await? {
                return Ok(());
            }
        }
        if over {
            return finish(streams, frames).await;
        }
        tokio::select! {
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
            () = task.ended() => {}
            () = frames.closed() => return Ok(()),
        }
    }
}

/// Last lines without an end.
async fn finish(streams: Vec<Lines>, frames: &Frames) -> io::Result<()> {
    for mut lines in streams {
        lines.flush(frames).await;
    }
    Ok(())
}

/// A file, or the end of one, that is wanted.
#[derive(Debug, PartialEq)]
struct Part {
    path: PathBuf,
    from: u64,
    written: Wall,
}

/// What is wanted of one stream, oldest first. The present file is always among them.
fn parts(path: &Path, options: &LogOptions) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut left = options.tail;
    for path in [path.to_owned(), older(path)] {
        let present = parts.is_empty();
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound && !present => continue,
            Err(e) => return Err(e),
        };
        let meta = file.metadata()?;
        let since_epoch = meta.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let written = Wall(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX));
        let outside = options.since.is_some_and(|since| written < since)
            || options.until.is_some_and(|until| written > until);
        let (from, lines) = match left {
            _ if outside => (meta.len(), 0),
            None => (0, 0),
            Some(left) => last_lines(&mut file, meta.len(), left)?,
        };
        left = left.map(|left| left.saturating_sub(lines));
        if present || from < meta.len() {
            parts.push(Part { path, from, written });
        }
    }
    parts.reverse();
    Ok(parts)
}

/// Where the last `wanted` lines begin, and how many there are. Reads backwards, a piece at a time.
fn last_lines(file: &mut std::fs::File, len: u64, wanted: u64) -> io::Result<(u64, u64)> {
    let mut found = 0;
    let mut end = len;
    let mut piece = vec![0; CHUNK_BYTES];
    while end > 0 && wanted > 0 {
        let size = end.min(CHUNK_BYTES as u64);
        let start = end - size;
        // At most CHUNK_BYTES.
        let piece = &mut piece[..size as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(piece)?;
        for (at, byte) in piece.iter().enumerate().rev() {
            let position = start + at as u64;
            // The line feed at the very end ends the last line; it begins none.
            if *byte == b'\n' && position + 1 < len {
                found += 1;
                if found == wanted {
                    return Ok((position + 1, found));
                }
            }
        }
        end = start;
    }
    if wanted == 0 { Ok((len, 0)) } else { Ok((0, if len > 0 { found + 1 } else { 0 })) }
}

/// A file being read line by line.
#[derive(Debug)]
struct Lines {
    file: tokio::fs::File,
    source: LogSource,
    position: u64,
    /// The begin of a line that has no end yet.
    rest: BytesMut,
    stamp: String,
}

impl Lines {
    async fn open(path: &Path, source: LogSource, from: u64) -> io::Result<Self> {
        let mut file = tokio::fs::File::open(path).await?;
        file.seek(SeekFrom::Start(from)).await?;
        let stamp = String::new();
        Ok(Self { file, source, position: from, rest: BytesMut::new(), stamp })
    }

    /// Sends all whole lines up to the present end of the file, as written at `written` or else now.
    /// False when nobody reads any more.
    async fn pass_on(&mut self, written: Option<Wall>, frames: &Frames) -> io::Result<bool> {
        let len = self.file.metadata().await?.len();
        if len < self.position {
            // It was cut: the next byte is at the start.
            self.file.seek(SeekFrom::Start(0)).await?;
            self.position = 0;
        }
        loop {
            self.rest.reserve(CHUNK_BYTES);
            let room = CHUNK_BYTES as u64;
            let read = (&mut self.file).take(room).read_buf(&mut self.rest).await?;
            if read == 0 {
                return Ok(true);
            }
            self.position += read as u64;
            self.stamp = rfc3339(written.unwrap_or_else(wall_now));
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line = self.rest.split_to(end + 1).freeze();
                if !frames.line(self.source, &self.stamp, &line).await {
                    return Ok(false);
                }
            }
            // A line without end must not fill the memory.
            if self.rest.len() >= MAX_LOG_FRAME_BYTES && !self.flush(frames).await {
                return Ok(false);
            }
        }
    }

    async fn flush(&mut self, frames: &Frames) -> bool {
        let line: Bytes = self.rest.split().freeze();
        !line.has_remaining() || frames.line(self.source, &self.stamp, &line).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> LogOptions {
        LogOptions {
            stdout: true,
            stderr: true,
            follow: false,
            since: None,
            until: None,
            tail: None,
        }
    }

    #[test]
    fn the_last_lines_are_found_from_behind_also_over_two_files() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STDOUT);
        std::fs::write(older(&path), "a\nb\nc\n").unwrap();
        std::fs::write(&path, "d\ne\n").unwrap();
        let from = |tail: Option<u64>| {
            let parts = parts(&path, &LogOptions { tail, ..all() }).unwrap();
            parts.into_iter().map(|part| part.from).collect::<Vec<_>>()
        };
        assert_eq!(from(None), [0, 0]);
        assert_eq!(from(Some(0)), [4]);
        assert_eq!(from(Some(1)), [2]);
        assert_eq!(from(Some(2)), [0]);
        assert_eq!(from(Some(3)), [4, 0]);
        assert_eq!(from(Some(9)), [0, 0]);
    }

    #[test]
    fn lines_are_counted_across_pieces() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        let line = format!("{}\n", "y".repeat(CHUNK_BYTES / 3));
        std::fs::write(&path, line.repeat(10)).unwrap();
        let mut file = std::fs::File::open(&path).unwrap();
        let len = file.metadata().unwrap().len();
        for wanted in 0..10 {
            let (from, found) = last_lines(&mut file, len, wanted).unwrap();
            assert_eq!((len - from, found), (wanted * line.len() as u64, wanted));
        }
        assert_eq!(last_lines(&mut file, len, 99).unwrap(), (0, 10));
    }
}
