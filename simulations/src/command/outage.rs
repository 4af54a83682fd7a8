//! `run`: so many hosts, so many replicas, a share of the hosts lost at once.

use std::time::Instant;

use clap::Args;

use super::keep::KeepFlags;
use super::{
    Ended, Program, fidelity_of, percent, print_violations, show, twice, warn_of_real_gossip,
};
use crate::cores;
use crate::engine::EngineManner;
use crate::figures::Sheet;
use crate::history::Recorder;
use crate::outage::{OutageReport, OutageSpec};
use crate::report::Material;
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
    #[command(flatten)]
    keep: KeepFlags,
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
    let gossip = fidelity_of(&flags.gossip);
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
    let back = flags.back.map(|secs| format!(" --back {secs}")).unwrap_or_default();
    let gossip = if spec.gossip == Fidelity::Real { " --gossip real" } else { "" };
    let how = format!(
        "run --hosts {} --replicas {} --kill {}%{back}{gossip}",
        spec.hosts,
        spec.replicas,
        spec.kill_per_mille / 10
    );
    let began = Instant::now();
    let (recorder, history) = Recorder::new();
    let maker = cores::real(cores::settings());
    let report = crate::outage::watched(&spec, maker, Some(Box::new(recorder)));
    let sheet = Sheet::of(&how, &report.outcome, Some(began.elapsed()));
    let engine = EngineManner::default();
    let kept = flags.keep.keep(&Material {
        title: &title(&spec),
        about: ABOUT,
        look_at: LOOK_AT,
        sheet: &sheet,
        figures: &report.outcome.figures,
        violations: &report.outcome.violations,
        history: &history.borrow(),
        origin: report.origin,
        start_ms: (engine.start.0.as_ms(), engine.start.1.as_ms()),
        modelled: spec.gossip != Fidelity::Real,
        replay: &format!("{} {how} --seed {}", program.replay(), spec.seed),
    });
    if !flags.keep.json {
        print(&spec, &report);
    }
    flags.keep.print(&sheet);
    print_violations(&report.outcome, program, &how);
    println!("{}", report.outcome.line());
    flags.keep.end(&sheet, kept)
}

const ABOUT: &str =
    "Hosts come up, one service fills them, and a share of the hosts loses power at one moment.";
const LOOK_AT: &str =
    "How long slots are without anybody, and that nothing moves but what was lost.";

/// What was asked for, in words.
fn title(spec: &OutageSpec) -> String {
    let share = spec.kill_per_mille / 10;
    format!("{share}% of {} hosts are lost at once", spec.hosts)
}

fn print(spec: &OutageSpec, report: &OutageReport) {
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
}
