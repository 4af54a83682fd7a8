//! `fleet`: very large clusters over shared views.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Ended, Program, fidelity_of, percent, speed, warn_of_real_gossip};
use crate::fleet::{self, FleetReport, FleetSpec, measure};
use crate::time::Span;

#[derive(Args, Clone, Debug)]
pub struct FleetFlags {
    #[arg(long, default_value_t = 300)]
    hosts: usize,
    #[arg(long, default_value_t = 30_000)]
    replicas: usize,
    /// How many services of equal size share the replicas; a hundredth of them where nothing is said.
    #[arg(long)]
    services: Option<usize>,
    #[arg(long, default_value_t = 3)]
    zones: usize,
    /// Into how many groups that hear the same the hosts are dealt out.
    #[arg(long, default_value_t = 3)]
    cohorts: usize,
    /// Share of the hosts that is lost, as `33%`.
    #[arg(long, default_value = "33%", value_parser = percent)]
    kill: u32,
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Tell how far it is, on the standard error stream.
    #[arg(long)]
    tell: bool,
    /// Print instead how long news travels in the ordinary simulation of so many hosts.
    #[arg(long)]
    measure: bool,
    /// With --measure: what carries facts beside the pushes.
    #[arg(long, default_value = "real", value_parser = ["real", "modelled"])]
    gossip: String,
}

pub(super) fn run(flags: &FleetFlags, program: Program) -> Ended {
    if flags.measure {
        return measure(flags, program);
    }
    let mut spec = FleetSpec::of(flags.seed, flags.hosts, flags.replicas, flags.kill);
    (spec.zones, spec.cohorts, spec.tell) = (flags.zones, flags.cohorts, flags.tell);
    spec.services = flags.services.unwrap_or(spec.services);
    if spec.hosts < 2 || spec.services == 0 {
        println!("at least two hosts and one service are wanted: nothing was run");
        return Ended::Refused;
    }
    let began = Instant::now();
    let report = fleet::run(&spec);
    print(&spec, &report, began.elapsed());
    for violation in &report.violations {
        println!("  {violation}");
    }
    if report.count > 0 {
        println!(
            "  replay: {} fleet --hosts {} --replicas {} --services {} --zones {} --cohorts {} --kill {}% --seed {}",
            program.replay(),
            spec.hosts,
            spec.replicas,
            spec.services,
            spec.zones,
            spec.cohorts,
            spec.kill_per_mille / 10,
            spec.seed,
        );
    }
    println!("{}", report.line(spec.seed));
    Ended::with(report.count)
}

fn print(spec: &FleetSpec, report: &FleetReport, took: Duration) {
    println!(
        "{} hosts in {} zones, {} replicas of {} services, {} hosts lost with {} replicas",
        spec.hosts, spec.zones, spec.replicas, spec.services, report.killed, report.lost
    );
    if let Some((first, middle, last)) = report.detected {
        println!("  loss to verdict          {first} (first) {middle} (half) {last} (last)");
    }
    if let Some((first, half, most, last)) = report.recovered {
        println!(
            "  loss to running again    {first} (first) {half} (p50) {most} (p99) {last} (last)"
        );
    }
    println!(
        "  started                  {} for {} lost; {} twice at once; {} stopped",
        report.starts, report.lost, report.twins, report.stops
    );
    println!("  services with zones less even than one decider leaves them  {}", report.uneven);
    println!("  nodes that doubted themselves  {}", report.doubted);
    for (when, direct, gossip) in
        [("idle", report.idle, report.idle_gossip), ("recovering", report.busy, report.busy_gossip)]
    {
        println!(
            "  {when}, per node  {} messages/s, {} bytes/s (probes and pushes); {} messages/s, {} bytes/s (gossip, by its model)",
            direct.messages, direct.bytes, gossip.messages, gossip.bytes
        );
    }
    println!("  {}; peak memory {}", speed(report.lasted, took), peak_memory());
}

/// The largest resident size of this process, as the kernel tells it.
fn peak_memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.map_or_else(|| "unknown".to_owned(), |text| text.trim().to_owned())
}

fn measure(flags: &FleetFlags, program: Program) -> Ended {
    let gossip = fidelity_of(&flags.gossip);
    warn_of_real_gossip(gossip, program);
    let delays = measure::delays(flags.seed, flags.hosts, flags.replicas as u64, gossip);
    let at = |per_mille: usize| {
        let place = (delays.len() * per_mille / 1000).min(delays.len().saturating_sub(1));
        delays.get(place).copied().unwrap_or(Span::ZERO)
    };
    println!("{} hosts: {} claims heard", flags.hosts, delays.len());
    for per_mille in [0, 250, 500, 900, 950, 960, 970, 980, 990, 999, 1000] {
        println!("  {per_mille:>4} in 1000 within {}", at(per_mille));
    }
    Ended::Clean
}
