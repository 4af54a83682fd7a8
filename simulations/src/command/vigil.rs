//! `vigil`: hours of probes over bad links, in which nobody may be called down.

use clap::Args;

use super::{Ended, percent, speed};
use crate::membership::{VigilSpec, vigil};
use crate::time::Span;

#[derive(Args, Clone, Debug)]
pub struct VigilFlags {
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..=10_000))]
    hosts: u32,
    #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    hours: u32,
    /// Messages lost on every link.
    #[arg(long, default_value = "5%", value_parser = percent)]
    loss: u32,
    /// The share of hosts with worse links.
    #[arg(long, default_value = "1%", value_parser = percent)]
    bad: u32,
    /// Messages lost on the way to and from them.
    #[arg(long, default_value = "20%", value_parser = percent)]
    bad_loss: u32,
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(super) fn run(flags: &VigilFlags) -> Ended {
    let spec = VigilSpec {
        seed: flags.seed,
        hosts: flags.hosts,
        lasts: Span::secs(u64::from(flags.hours) * 3600),
        loss: flags.loss,
        bad_hosts: flags.bad,
        bad_loss: flags.bad_loss,
        crash: None,
    };
    let began = std::time::Instant::now();
    let report = vigil(&spec);
    let per_million = report.failed_probes * 1_000_000 / report.probes.max(1);
    println!(
        "{} hosts, {} of them with bad links, {} hours",
        report.hosts, report.bad_hosts, flags.hours
    );
    println!("  probes                    {}", report.probes);
    println!("  messages drawn            {}", report.messages);
    println!("  probes that failed        {} ({per_million} in a million)", report.failed_probes);
    println!("  edges reported down       {}", report.edges_down);
    println!("  calls of unstable         {}", report.unstable);
    println!("  false verdicts            {}", report.false_verdicts);
    println!("  {}", speed(report.lasted, began.elapsed()));
    println!("seed {} violations {}", flags.seed, report.false_verdicts);
    Ended::with(report.false_verdicts)
}
