//! `run`: so many hosts, so many replicas, a share of the hosts lost at once.

use clap::Args;

use super::{Ended, Program, print_violations, show, warn_of_real_gossip};
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
    seed: u64,
    /// What carries facts beside the pushes: `real` is chitchat itself, and such a run is not
    /// replayable to the byte; `modelled` is.
    #[arg(long, default_value = "modelled", value_parser = ["real", "modelled"])]
    gossip: String,
    /// Tell what happens, line by line, on the standard error stream.
    #[arg(long)]
    tell: bool,
}

/// A share as people write it, in thousandths.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let share: u32 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a share: expected something like 30%"))?;
    if share > 100 { Err(format!("{share}% is more than all hosts")) } else { Ok(share * 10) }
}

pub(super) fn run(flags: &RunFlags, program: Program) -> Ended {
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
