//! `random`: clusters, operators and faults drawn from seeds.

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::keep::KeepFlags;
use super::{Ended, Program, Sum, print_violations};
use crate::cores;
use crate::engine::EngineManner;
use crate::figures::Sheet;
use crate::history::Recorder;
use crate::report::Material;
use crate::run::{Outcome, Watcher};
use crate::schedule::Schedule;
use crate::time::At;

#[derive(Args, Clone, Debug)]
pub struct RandomFlags {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Run each seed twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Write each seed's schedule to this folder, for `replay`.
    #[arg(long, value_name = "FOLDER")]
    schedules: Option<PathBuf>,
    #[command(flatten)]
    keep: KeepFlags,
    /// Tell what happens, line by line, on the standard error stream.
    #[arg(long)]
    tell: bool,
}

pub(super) fn run(flags: &RandomFlags, program: Program) -> Ended {
    if let Some(flag) = flags.keep.of_one_run().filter(|_| flags.count > 1) {
        eprintln!(
            "{flag} is about one run, and --count asks for {}: nothing was run. \
             Leave --count out, or {flag}",
            flags.count
        );
        return Ended::Refused;
    }
    let began = Instant::now();
    let mut ended = Ended::Clean;
    let mut sum = Sum::default();
    for seed in flags.seed..flags.seed.saturating_add(flags.count) {
        ended = ended.max(one(seed, flags, program, &mut sum));
        if ended == Ended::Refused {
            return ended;
        }
    }
    if !flags.keep.json && flags.count > 1 {
        println!("{sum}");
        println!("{}", sum.speed(began.elapsed()));
    }
    ended
}

fn one(seed: u64, flags: &RandomFlags, program: Program, sum: &mut Sum) -> Ended {
    let schedule = Schedule::draw(seed);
    if let Some(folder) = &flags.schedules
        && let Err(error) = schedule.save(&folder.join(format!("seed-{seed}.toml")))
    {
        eprintln!("{error}");
        return Ended::Refused;
    }
    let began = Instant::now();
    let (recorder, history) = Recorder::new();
    let watcher: Option<Box<dyn Watcher>> =
        flags.keep.of_one_run().is_some().then(|| Box::new(recorder) as Box<dyn Watcher>);
    let maker = || cores::real(cores::settings());
    let mut outcome = schedule.watched(flags.tell, maker(), watcher);
    let took = began.elapsed();
    sum.add(&outcome);
    if flags.twice {
        let again = schedule.run(false, maker());
        if again.trace != outcome.trace {
            println!("seed {seed} is not deterministic: {} and {}", outcome.trace, again.trace);
            outcome.count += 1;
        }
    }
    let sheet = Sheet::of("random", &outcome, Some(took));
    let engine = EngineManner::default();
    let kept = flags.keep.keep(&Material {
        title: &format!("A random run of {} hosts", sheet.hosts),
        about: "The cluster, its faults and its operators were drawn from the seed.",
        look_at: "",
        sheet: &sheet,
        figures: &outcome.figures,
        violations: &outcome.violations,
        history: &history.borrow(),
        origin: At::ZERO,
        start_ms: (engine.start.0.as_ms(), engine.start.1.as_ms()),
        modelled: true,
        replay: &format!("{} random --seed {seed}", program.replay()),
    });
    // Of many runs the sum is told in the end; of a single one everything.
    if flags.count == 1 || flags.keep.json {
        flags.keep.print(&sheet);
    }
    // The last line of a run is its seed, its trace and what was found.
    if flags.count == 1 && !flags.keep.json {
        println!("{sum}");
    }
    told(&outcome, program);
    flags.keep.end(&sheet, kept)
}

fn told(outcome: &Outcome, program: Program) {
    print_violations(outcome, program, "random");
    println!("{}", outcome.line());
}
