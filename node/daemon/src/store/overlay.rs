//! A file to look at: reads come from the disk, writes stay in memory.
//!
//! redb repairs a file that was not closed cleanly by writing to it. That is right for a sound file
//! and wrong for a damaged one, which must stay as it is for whoever tries to save it. So the file is
//! first opened through this, checked to the last page, and only then opened for real.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::StorageBackend;

const PAGE: u64 = 4096;

#[derive(Debug)]
pub(super) struct Overlay {
    file: File,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    len: u64,
    /// How much of the file still shows through: a file that was cut and grown again shows zeros.
    visible: u64,
    pages: BTreeMap<u64, Box<[u8]>>,
}

impl Overlay {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, state: Mutex::new(State { len, visible: len, pages: BTreeMap::new() }) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves whole pages; the check fails anyway after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn page(&self, state: &State, number: u64) -> io::Result<Box<[u8]>> {
        if let Some(page) = state.pages.get(&number) {
            return Ok(page.clone());
        }
        let mut page = vec![0; PAGE as usize].into_boxed_slice();
        let start = number * PAGE;
        let end = (start + PAGE).min(state.visible);
        if start < end {
            self.file.read_exact_at(&mut page[..(end - start) as usize], start)?;
        }
        Ok(page)
    }
}

fn beyond_end() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends before that")
}

/// The page that `at` is in, the place in it, and how much of `left` is in that page.
fn place(at: u64, left: usize) -> (u64, usize, usize) {
    let within = (at % PAGE) as usize;
    (at / PAGE, within, left.min(PAGE as usize - within))
}

impl StorageBackend for Overlay {
    fn len(&self) -> Result<u64, io::Error> {
        Ok(self.state().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let state = self.state();
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > state.len) {
            return Err(beyond_end());
        }
        let mut done = 0;
        while done < out.len() {
            let (number, within, count) = place(offset + done as u64, out.len() - done);
            let page = self.page(&state, number)?;
            out[done..done + count].copy_from_slice(&page[within..within + count]);
            done += count;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        let mut state = self.state();
        state.len = len;
        state.visible = state.visible.min(len);
        state.pages.retain(|number, _| number * PAGE < len);
        Ok(())
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut state = self.state();
        let end = offset.checked_add(data.len() as u64).ok_or_else(beyond_end)?;
        state.len = state.len.max(end);
        let mut done = 0;
        while done < data.len() {
            let (number, within, count) = place(offset + done as u64, data.len() - done);
            let mut page = self.page(&state, number)?;
            page[within..within + count].copy_from_slice(&data[done..done + count]);
            state.pages.insert(number, page);
            done += count;
        }
        Ok(())
    }
}
