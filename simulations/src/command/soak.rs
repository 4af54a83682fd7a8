//! `soak`: seeds on all cores until told to stop; `replay`: what it wrote.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use clap::Args;

use super::{Ended, Program, Sum};
use crate::cores;
use crate::schedule::Schedule;
use crate::soak::{News, SoakSpec, soak, summary};

#[derive(Args, Clone, Debug)]
pub struct SoakFlags {
    /// The first seed; without one it is taken from the clock, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// End after so many seeds.
    #[arg(long)]
    count: Option<u64>,
    /// End after so many seconds (Ctrl-C ends it at any time).
    #[arg(long = "for", value_name = "SECONDS")]
    lasts: Option<u64>,
    /// Runs at a time; by default one for each core.
    #[arg(long)]
    threads: Option<usize>,
    /// Minutes of faults in each run, where not as its seed says: hours of churn, for instance.
    #[arg(long)]
    minutes: Option<u64>,
    /// Run each seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// How many runs cutting one finding down may take; 0 leaves it as it is.
    #[arg(long, default_value_t = 300)]
    shrink: u32,
    /// Where findings are written: one schedule each, and a line in findings.txt.
    #[arg(long, default_value = "findings")]
    folder: PathBuf,
    /// Print only findings and the sum.
    #[arg(long)]
    quiet: bool,
}

#[derive(Args, Clone, Debug)]
pub struct ReplayFlags {
    /// A schedule: what `soak` wrote, or `random --schedules`.
    file: PathBuf,
    /// Tell what happens, line by line, on the standard error stream.
    #[arg(long)]
    tell: bool,
    /// Cut it down first, and write the result beside it.
    #[arg(long)]
    shrink: bool,
}

/// A first seed that nobody has had: milliseconds since 1970.
fn fresh() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or_default()
}

pub(super) fn run(flags: &SoakFlags, program: Program) -> Ended {
    let first = flags.seed.unwrap_or_else(fresh);
    let threads = flags
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get));
    let spec = SoakSpec {
        first,
        count: flags.count,
        lasts: flags.lasts.map(Duration::from_secs),
        threads,
        fault_secs: flags.minutes.map(|minutes| minutes.saturating_mul(60)),
        shrink_runs: flags.shrink,
        twice: flags.twice,
        folder: Some(flags.folder.clone()),
    };
    println!(
        "seeds from {first} on, {threads} at a time; again: {} soak --seed {first}",
        program.replay()
    );
    let began = Instant::now();
    static STOP: AtomicBool = AtomicBool::new(false);
    stop_on_interrupt(&STOP);
    let (mut sum, mut seeds, mut found) = (Sum::default(), 0u64, 0u64);
    let maker = || cores::real(cores::settings());
    soak(&spec, &maker, &STOP, |news| match news {
        News::Ran(outcome) => {
            sum.add(&outcome);
            seeds += 1;
            if !flags.quiet {
                println!("{}", outcome.line());
            }
        }
        News::Differs { seed, first, second } => {
            found += 1;
            println!("seed {seed} is not deterministic: {first} and {second}");
            println!("  replay: {} random --seed {seed} --twice", program.replay());
        }
        News::Found { seed, check, shrunk, path } => {
            found += 1;
            println!("{}", summary(seed, check, &shrunk));
            if flags.minutes.is_none() {
                println!("  replay: {} random --seed {seed} --tell", program.replay());
            }
            if let Some(path) = path {
                println!("  cut down: {} replay {} --tell", program.replay(), path.display());
            }
        }
        News::Unwritten { seed, error } => println!("seed {seed}: {error}"),
    });
    let twice = if flags.twice { ", each run twice" } else { "" };
    println!("{seeds} seeds from {first} on{twice}, {found} findings, {sum}");
    println!("{}", sum.speed(began.elapsed()));
    Ended::with(found)
}

/// From the first interrupt on no new seed is begun; the second ends the program at once, as ever.
fn stop_on_interrupt(stop: &'static AtomicBool) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build();
        let Ok(runtime) = runtime else { return };
        let interrupted = runtime.block_on(tokio::signal::ctrl_c());
        if interrupted.is_ok() {
            stop.store(true, Ordering::Relaxed);
            println!(
                "no further seed is begun; what is under way is finished (once more: at once)"
            );
            let _ = runtime.block_on(tokio::signal::ctrl_c());
            std::process::exit(130);
        }
    });
}

pub(super) fn replay(flags: &ReplayFlags) -> Ended {
    let mut schedule = match Schedule::load(&flags.file) {
        Ok(schedule) => schedule,
        Err(error) => {
            println!("{error}");
            return Ended::Refused;
        }
    };
    let maker = || cores::real(cores::settings());
    if flags.shrink {
        let outcome = schedule.run(false, maker());
        match crate::schedule::shrink::shrink(&schedule, outcome, 1_000, &maker) {
            Some(shrunk) => {
                let path = flags.file.with_extension("small.toml");
                println!(
                    "{} steps of {} are left: {}",
                    shrunk.schedule.steps.len(),
                    schedule.steps.len(),
                    path.display()
                );
                if let Err(error) = shrunk.schedule.save(&path) {
                    println!("{error}");
                    return Ended::Refused;
                }
                schedule = shrunk.schedule;
            }
            None => println!("it does not fail: there is nothing to cut down"),
        }
    }
    let outcome = schedule.run(flags.tell, maker());
    for violation in &outcome.violations {
        println!("  {violation}");
    }
    println!("{}", outcome.line());
    Ended::with(outcome.count)
}
