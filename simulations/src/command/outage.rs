//! `run`: so many hosts, so many replicas, a share of the hosts lost at once.

use clap::Args;

use super::{Ended, Program, percent, print_violations, show, warn_of_real_gossip};
use crate::cores;
use crate::gossip::Pace;
use crate::outage::{OutageReport, OutageSpec};
use crate::time::Span;
use crate::world::Fidelity;

#[derive(Args, Clone, Debug)]
pub struct RunFlags {
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
    pub(super) seed: u64,
    /// What carries facts beside the pushes: `real` is chitchat itself, up to a few hundred hosts;
    /// `modelled` is the same exchange in a few lines, and cheaper.
    #[arg(long, default_value = "modelled", value_parser = ["real", "modelled"])]
    gossip: String,
    /// Run it twice and compare the traces; with real gossip in a process of its own each time.
    #[arg(long)]
    twice: bool,
    /// Tell what happens, line by line, on the standard error stream.
    #[arg(long)]
    tell: bool,
}

pub(super) fn run(flags: &RunFlags, program: Program) -> Ended {
    if flags.twice {
        return twice(program);
    }
    let gossip =
        if flags.gossip == "real" { Fidelity::Real } else { Fidelity::Modelled(Pace::default()) };
    warn_of_real_gossip(gossip, program);
    let spec = OutageSpec {
        seed: flags.seed,
        hosts: flags.hosts,
        replicas: flags.replicas,
        kill_per_mille: flags.kill,
        back_after: flags.back.map(Span::secs),
        gossip,
        tell: flags.tell,
    };
    let report = crate::outage::run(&spec, cores::real(cores::settings()));
    print(&spec, &report, program);
    Ended::with(report.outcome.count)
}

/// Runs the same command in two processes, one after the other, and compares their last lines: tokio counts
/// its runtimes over the life of a process, so a second run in this one would draw other numbers.
fn twice(program: Program) -> Ended {
    if program == Program::Shoal {
        println!(
            "shoal draws its randomness from the operating system, so chitchat's choices cannot be replayed in it; \
             the program that can: cargo run --release -p simulations -- run --twice ..."
        );
        return Ended::Refused;
    }
    let (first, second) = match (again(), again()) {
        (Ok(first), Ok(second)) => (first, second),
        (Err(error), _) | (_, Err(error)) => {
            println!("the simulator could not run itself once more: {error}; nothing was compared");
            return Ended::Refused;
        }
    };
    print!("{}", first.0);
    let last = |text: &str| text.lines().last().unwrap_or_default().to_owned();
    let (one, other) = (last(&first.0), last(&second.0));
    if one != other {
        println!("not deterministic: the second run ended with\n{other}");
        return Ended::Found;
    }
    if first.1 && second.1 { Ended::Clean } else { Ended::Found }
}

/// What this very command prints without `--twice`, and whether it ended well.
fn again() -> std::io::Result<(String, bool)> {
    let args = std::env::args_os().skip(1).filter(|arg| arg != "--twice");
    let output = std::process::Command::new(std::env::current_exe()?)
        .args(args)
        .stderr(std::process::Stdio::inherit())
        .output()?;
    Ok((String::from_utf8_lossy(&output.stdout).into_owned(), output.status.success()))
}

fn print(spec: &OutageSpec, report: &OutageReport, program: Program) {
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
    print_violations(&report.outcome, program, &how);
    println!("{}", report.outcome.line());
}
