//! The command line of the simulator.

#![allow(clippy::print_stdout, reason = "a command line prints")]

use clap::{Parser, Subcommand};
use simulations::cores;
use simulations::gossip::Pace;
use simulations::membership;
use simulations::outage::{OutageReport, OutageSpec};
use simulations::run::{self, Outcome};
use simulations::time::Span;
use simulations::world::Fidelity;

/// Runs clusters in virtual time, with the product's own code and any failure, replayed from a seed.
#[derive(Parser)]
#[command(name = "simulations")]
struct Cli {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// So many hosts run so many replicas; a share of the hosts is lost at once.
    Run {
        #[arg(long, default_value_t = 10)]
        hosts: usize,
        #[arg(long, default_value_t = 100)]
        replicas: u64,
        /// Share of the hosts that is lost, as `30%`.
        #[arg(long, default_value = "30%", value_parser = percent)]
        kill: u32,
        /// Seconds after which the lost hosts come back; without it they stay away.
        #[arg(long)]
        back: Option<u64>,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// What carries facts beside the pushes: `real` is chitchat itself, and such a run is not
        /// replayable to the byte; `modelled` is.
        #[arg(long, default_value = "modelled", value_parser = ["real", "modelled"])]
        gossip: String,
        /// Tell what happens, line by line, on the standard error stream.
        #[arg(long)]
        tell: bool,
    },
    /// Random clusters, operators and faults, one for each seed; all checks on.
    Random {
        /// The first seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 1)]
        count: u64,
        /// Run each seed twice and compare the traces.
        #[arg(long)]
        twice: bool,
        #[arg(long)]
        tell: bool,
    },
    /// Membership alone, without services: how fast news and crashes are known, and what that costs.
    Membership(membership::Args),
}

fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let share: u32 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a share: expected something like 30%"))?;
    if share > 100 { Err(format!("{share}% is more than all hosts")) } else { Ok(share * 10) }
}

fn main() -> std::process::ExitCode {
    let violations = match Cli::parse().what {
        What::Run { hosts, replicas, kill, back, seed, gossip, tell } => {
            let back_after = back.map(Span::secs);
            let gossip =
                if gossip == "real" { Fidelity::Real } else { Fidelity::Modelled(Pace::default()) };
            let spec = OutageSpec {
                seed,
                hosts,
                replicas,
                kill_per_mille: kill,
                back_after,
                gossip,
                tell,
            };
            let report = simulations::outage::run(&spec, cores::real(cores::settings()));
            print_outage(&spec, &report);
            report.outcome.count
        }
        What::Random { seed, count, twice, tell } => random(seed, count, twice, tell),
        What::Membership(args) => membership_alone(&args),
    };
    if violations == 0 { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

fn membership_alone(args: &membership::Args) -> u64 {
    let shown = membership::run(args).and_then(|reports| {
        let text = if args.json {
            serde_json::to_string_pretty(&reports)?
        } else {
            membership::table(&reports)
        };
        println!("{text}");
        Ok(reports.iter().filter(|report| report.is_failure()).count() as u64)
    });
    shown.unwrap_or_else(|error| {
        println!("the run ended early: {error}");
        1
    })
}

fn random(first: u64, count: u64, twice: bool, tell: bool) -> u64 {
    let mut violations = 0;
    for seed in first..first.saturating_add(count) {
        let outcome = run::random(seed, tell, cores::real(cores::settings()));
        violations += outcome.count;
        if twice {
            let again = run::random(seed, false, cores::real(cores::settings()));
            if again.trace != outcome.trace {
                println!("seed {seed} is not deterministic: {} and {}", outcome.trace, again.trace);
                violations += 1;
            }
        }
        print_violations(&outcome, "random");
        println!("{}", outcome.line());
    }
    violations
}

fn print_violations(outcome: &Outcome, how: &str) {
    for violation in &outcome.violations {
        println!("  {violation}");
    }
    if outcome.count > 0 {
        println!(
            "  replay: cargo run --release -p simulations -- {how} --seed {} --tell",
            outcome.seed
        );
    }
}

fn show(span: Option<Span>) -> String {
    span.map_or_else(|| "never".to_owned(), |span| span.to_string())
}

fn print_outage(spec: &OutageSpec, report: &OutageReport) {
    println!(
        "{} hosts, {} replicas, {} hosts lost with {} replicas",
        spec.hosts, spec.replicas, report.killed, report.lost_replicas
    );
    println!("  create to all ready      {}", show(report.filled_after));
    println!("  replicas on a host       {} to {}", report.spread.0, report.spread.1);
    if let Some((first, last)) = report.detected {
        println!("  loss to verdict          {first} (first) {last} (last survivor, last host)");
    }
    println!("  loss to first replaced   {}", show(report.first_recovered));
    println!("  loss to all replaced     {}", show(report.recovered));
    println!("  replicas moved needlessly {}", report.moved_needlessly);
    if let Some((messages, bytes)) = report.idle {
        println!("  idle, per node           {messages} messages/s, {bytes} bytes/s");
    }
    println!(
        "  gap p50 {} p99 {}",
        show(report.outcome.figures.gap(50)),
        show(report.outcome.figures.gap(99))
    );
    println!(
        "  duplicate-seconds {} gap-seconds {}",
        report.outcome.figures.duplicate_seconds, report.outcome.figures.gap_seconds
    );
    let back =
        spec.back_after.map(|span| format!(" --back {}", span.as_ms() / 1000)).unwrap_or_default();
    let how = format!(
        "run --hosts {} --replicas {} --kill {}%{back}",
        spec.hosts,
        spec.replicas,
        spec.kill_per_mille / 10
    );
    print_violations(&report.outcome, &how);
    println!("{}", report.outcome.line());
}
