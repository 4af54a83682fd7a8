//! Searching for trouble without an end: seeds on all cores, each finding cut down and written to a folder.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::run::Outcome;
use crate::schedule::shrink::{Shrunk, failure, shrink};
use crate::schedule::{FileError, Schedule};
use crate::world::Maker;

/// What is searched, and for how long.
#[derive(Clone, Debug)]
pub struct SoakSpec {
    /// The first seed; the others follow it.
    pub first: u64,
    /// After so many seeds it ends; without a number it does not.
    pub count: Option<u64>,
    pub lasts: Option<Duration>,
    pub threads: usize,
    /// Seconds of faults in each run, where not as the seed says.
    pub fault_secs: Option<u64>,
    /// Runs that cutting one finding down may take.
    pub shrink_runs: u32,
    /// Every seed is run twice, and the traces compared.
    pub twice: bool,
    /// Where findings are written, if anywhere.
    pub folder: Option<PathBuf>,
}

/// One thing that a soak has to say.
#[derive(Debug)]
pub enum News {
    /// A seed was run.
    Ran(Box<Outcome>),
    /// Two runs of one seed differ.
    Differs { seed: u64, first: String, second: String },
    /// A finding was cut down, and is in this file.
    Found { seed: u64, check: &'static str, shrunk: Box<Shrunk>, path: Option<PathBuf> },
    /// A finding could not be written.
    Unwritten { seed: u64, error: FileError },
}

/// What a finding came down to, in one line.
pub fn summary(seed: u64, check: &str, shrunk: &Shrunk) -> String {
    let schedule = &shrunk.schedule;
    let text = shrunk.outcome.violations.iter().find(|violation| violation.check == check);
    format!(
        "seed {seed}: {check}; {} hosts, {} steps, {} s of {} s of the whole, after {} runs: {}",
        schedule.hosts + schedule.spare,
        schedule.steps.len(),
        schedule.heal_ms / 1000,
        Schedule::draw(seed).heal_ms / 1000,
        shrunk.runs,
        text.map_or("", |violation| violation.text.as_str()),
    )
}

/// Runs seeds until it is told to stop, by the flag, the time or the count. `tell` hears of everything, on the
/// thread that called, as it happens. Seeds under way when the time is over are finished, findings are
/// still cut down.
pub fn soak(
    spec: &SoakSpec,
    maker: &(dyn Fn() -> Maker + Sync),
    stop: &AtomicBool,
    mut tell: impl FnMut(News),
) {
    let began = Instant::now();
    let next = AtomicU64::new(0);
    let (send, news) = mpsc::channel();
    let goes_on = |n: u64| {
        !stop.load(Ordering::Relaxed)
            && spec.count.is_none_or(|count| n < count)
            && spec.lasts.is_none_or(|lasts| began.elapsed() < lasts)
    };
    std::thread::scope(|scope| {
        for _ in 0..spec.threads.max(1) {
            let send = send.clone();
            let (next, goes_on) = (&next, &goes_on);
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if !goes_on(n) {
                        return;
                    }
                    // Nobody listens any more only when the caller's thread is gone.
                    one(spec, spec.first.wrapping_add(n), maker, &|news| drop(send.send(news)));
                }
            });
        }
        drop(send);
        news.into_iter().for_each(&mut tell);
    });
}

fn one(spec: &SoakSpec, seed: u64, maker: &(dyn Fn() -> Maker + Sync), tell: &dyn Fn(News)) {
    let schedule = Schedule::draw_for(seed, spec.fault_secs);
    let outcome = schedule.run(false, maker());
    if spec.twice {
        let again = schedule.run(false, maker());
        if again.trace != outcome.trace {
            tell(News::Differs { seed, first: outcome.trace.clone(), second: again.trace });
        }
    }
    tell(News::Ran(Box::new(outcome.clone())));
    let Some(check) = failure(&outcome) else { return };
    let Some(shrunk) = shrink(&schedule, outcome, spec.shrink_runs, &|| maker()) else { return };
    let path = spec.folder.as_deref().map(|folder| write(folder, seed, check, &shrunk));
    let path = match path.transpose() {
        Ok(path) => path,
        Err(error) => {
            tell(News::Unwritten { seed, error });
            None
        }
    };
    tell(News::Found { seed, check, shrunk: Box::new(shrunk), path });
}

/// The schedule, and a line in the folder's list of findings.
fn write(folder: &Path, seed: u64, check: &str, shrunk: &Shrunk) -> Result<PathBuf, FileError> {
    let path = folder.join(format!("seed-{seed}.toml"));
    let failed = |error| FileError::Write { path: folder.to_owned(), error };
    std::fs::create_dir_all(folder).map_err(failed)?;
    shrunk.schedule.save(&path)?;
    let line = format!("{}\n", summary(seed, check, shrunk));
    let list =
        std::fs::OpenOptions::new().create(true).append(true).open(folder.join("findings.txt"));
    list.and_then(|mut list| std::io::Write::write_all(&mut list, line.as_bytes()))
        .map_err(failed)?;
    Ok(path)
}
