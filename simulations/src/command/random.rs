//! `random`: clusters, operators and faults drawn from seeds.

use std::path::PathBuf;

use clap::Args;

use super::{Ended, Program, Sum, print_violations};
use crate::cores;
use crate::run;
use crate::schedule::Schedule;

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
    #[arg(long)]
    save: Option<PathBuf>,
    /// Tell what happens, line by line, on the standard error stream.
    #[arg(long)]
    tell: bool,
}

pub(super) fn run(flags: &RandomFlags, program: Program) -> Ended {
    let mut violations = 0;
    let mut sum = Sum::default();
    for seed in flags.seed..flags.seed.saturating_add(flags.count) {
        if let Some(folder) = &flags.save {
            let schedule = Schedule::draw(seed);
            if let Err(error) = schedule.save(&folder.join(format!("seed-{seed}.toml"))) {
                println!("{error}");
                return Ended::Refused;
            }
        }
        let outcome = run::random(seed, flags.tell, cores::real(cores::settings()));
        violations += outcome.count;
        sum.add(&outcome);
        if flags.twice {
            let again = run::random(seed, false, cores::real(cores::settings()));
            if again.trace != outcome.trace {
                println!("seed {seed} is not deterministic: {} and {}", outcome.trace, again.trace);
                violations += 1;
            }
        }
        print_violations(&outcome, program, "random");
        println!("{}", outcome.line());
    }
    println!("{sum}");
    Ended::with(violations)
}
