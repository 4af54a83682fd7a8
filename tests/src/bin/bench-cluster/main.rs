//! `bench-cluster`: shoal, Docker Swarm and the bare engine on the same three hosts, in one run.
//!
//! Absolute times are those of the machine; what counts is the ratio within one run, so the systems take
//! turns (bare, swarm, shoal, bare, …) on freshly made, identical hosts, and medians are compared. All times
//! are read from the engines' own events, never from what an orchestrator says of itself.
#![allow(clippy::print_stdout, reason = "this is a command line: it speaks to a person")]

mod bare;
mod measure;
mod report;
mod shoal;
mod swarm;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use tests::{Options, Testbed};

use crate::measure::{Plan, System};

/// Compare shoal with Swarm and the bare engine on real hosts of this machine.
#[derive(Parser)]
#[command(name = "bench-cluster", version)]
struct Arguments {
    /// How often each system is measured; medians need an odd number.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Replicas of the service.
    #[arg(long, default_value_t = 100)]
    replicas: usize,
    /// Hosts.
    #[arg(long, default_value_t = 3)]
    hosts: usize,
    /// Which systems, in turn [default: all; shoal only if its binary is found].
    #[arg(long, value_enum, value_delimiter = ',')]
    systems: Vec<Name>,
    /// Calls at once to each engine, for `bare`. Four to eight reach the machine's limit.
    #[arg(long, default_value_t = 6)]
    concurrency: usize,
    /// Create only, crash nothing.
    #[arg(long)]
    no_crash: bool,
    /// The shoal binary; build it with --release.
    #[arg(long)]
    shoal: Option<PathBuf>,
    /// `--profile` of shoal.
    #[arg(long, default_value = "lan")]
    profile: String,
    /// Write every figure here as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Name {
    Bare,
    Swarm,
    Shoal,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let binary = arguments.shoal.clone().or_else(tests::shoal::find_binary);
    let mut names = arguments.systems.clone();
    if names.is_empty() {
        names = vec![Name::Bare, Name::Swarm];
        match &binary {
            Some(path) => {
                println!("shoal is {}", path.display());
                names.push(Name::Shoal);
            }
            None => println!("no shoal binary found: only bare and swarm are measured"),
        }
    }
    let systems: Vec<Box<dyn System>> = names
        .iter()
        .map(|name| -> Box<dyn System> {
            match name {
                Name::Bare => Box::new(bare::Bare { concurrency: arguments.concurrency.max(1) }),
                Name::Swarm => Box::new(swarm::Swarm),
                Name::Shoal => Box::new(shoal::Shoal),
            }
        })
        .collect();
    let plan = Plan { replicas: arguments.replicas, crash: !arguments.no_crash };
    let mut report = report::Report::new(arguments.replicas, arguments.hosts);
    for round in 1..=arguments.rounds {
        for system in &systems {
            let options = Options {
                shoal: binary.clone(),
                profile: Some(arguments.profile.clone()),
                ..Options::hosts(arguments.hosts)
            };
            let mut bed = Testbed::with(options)?;
            let figures = measure::measure(&mut bed, system.as_ref(), &plan)
                .with_context(|| format!("round {round}, {}", system.name()))?;
            println!("round {round}, {}: {figures}", system.name());
            report.add(system.name(), figures);
            bed.done()?;
        }
    }
    println!("\n{report}");
    if let Some(path) = arguments.json {
        std::fs::write(&path, report.json()?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
