//! The commands of the simulator, for the two programs that have them: `simulations` and
//! `shoal simulate`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod compare;
mod fidelity;
mod fleet;
mod membership_alone;
mod outage;
mod random;
mod scenario;
mod soak;
mod vigil;

use std::collections::BTreeMap;

use clap::Subcommand;

use crate::from_cluster::Answers;
use crate::membership;
use crate::run::Outcome;
use crate::time::Span;
use crate::world::Fidelity;

/// Which program was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The simulator's own.
    Simulations,
    /// `shoal simulate`.
    Shoal,
}

impl Program {
    /// What stands before the command on a line that replays a run.
    fn replay(self) -> &'static str {
        match self {
            Self::Simulations => "cargo run --release -p simulations --",
            Self::Shoal => "shoal simulate",
        }
    }
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ended {
    /// What was asked was done, and nothing was found.
    Clean,
    /// Checks found violations, or a comparison found the run worse. What was found has been printed.
    Found,
    /// It could not be done. Why has been printed.
    Refused,
}

impl From<Ended> for std::process::ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(match ended {
            Ended::Clean => 0,
            Ended::Found => 1,
            Ended::Refused => 2,
        })
    }
}

impl Ended {
    fn with(violations: u64) -> Self {
        if violations == 0 { Self::Clean } else { Self::Found }
    }
}

#[derive(Subcommand, Clone, Debug)]
pub enum Simulate {
    /// So many hosts run so many replicas; a share of the hosts is lost at once.
    Run(outage::RunFlags),
    /// Random clusters, operators and faults, one for each seed; all checks on.
    Random(random::RandomFlags),
    /// Play a scenario: a cluster, a timeline of failures and commands, and what is expected of it.
    Scenario(scenario::ScenarioFlags),
    /// List the named scenarios.
    Scenarios {
        /// With what each shows and what to look at.
        #[arg(long)]
        full: bool,
    },
    /// Compare the figures of two runs: a table, and an exit code that says whether the later is worse.
    Compare(compare::CompareFlags),
    /// Random runs on all cores until told to stop; each finding is cut down and written to a folder.
    Soak(soak::SoakFlags),
    /// Runs a schedule from a file: what `soak` found, or `random --save` wrote.
    Replay(soak::ReplayFlags),
    /// Whether the modelled gossip agrees with chitchat itself.
    Fidelity(fidelity::FidelityFlags),
    /// Hours of probes between many hosts over bad links, in which nobody may be called down.
    Vigil(vigil::VigilFlags),
    /// A very large cluster of real cores over shared views; a share of its hosts is lost at once.
    Fleet(fleet::FleetFlags),
    /// Membership alone, without services: how fast news and crashes are known, and what that costs.
    Membership(membership::Args),
}

impl Simulate {
    /// What chitchat's own choices are drawn from where it runs itself.
    pub fn seed(&self) -> u64 {
        match self {
            Self::Run(flags) => flags.seed,
            Self::Membership(args) => args.seed,
            Self::Fidelity(flags) => flags.seed,
            _ => 0,
        }
    }

    /// Whether a running cluster has to be asked first ([`crate::from_cluster::PATHS`]).
    pub fn wants_cluster(&self) -> bool {
        matches!(self, Self::Scenario(flags) if flags.from_cluster)
    }
}

/// Does what the command line asks; it prints what it finds. `cluster`: what a running cluster answered, if
/// it was asked.
pub fn run(what: Simulate, program: Program, cluster: Option<&Answers>) -> Ended {
    match what {
        Simulate::Run(flags) => outage::run(&flags, program),
        Simulate::Random(flags) => random::run(&flags, program),
        Simulate::Scenario(flags) => scenario::run(&flags, program, cluster),
        Simulate::Scenarios { full } => scenario::list(full),
        Simulate::Compare(flags) => compare::run(&flags),
        Simulate::Soak(flags) => soak::run(&flags, program),
        Simulate::Replay(flags) => soak::replay(&flags),
        Simulate::Fidelity(flags) => fidelity::run(&flags),
        Simulate::Vigil(flags) => vigil::run(&flags),
        Simulate::Fleet(flags) => fleet::run(&flags, program),
        Simulate::Membership(args) => membership_alone::run(&args),
    }
}

/// Real gossip draws from the operating system; only the simulator's own program puts a seed in its place.
fn warn_of_real_gossip(gossip: Fidelity, program: Program) {
    if gossip == Fidelity::Real && program == Program::Shoal {
        eprintln!(
            "with real gossip this run cannot be replayed to the byte by `shoal simulate`: for that, use the program `simulations` (cargo run --release -p simulations --)"
        );
    }
}

/// What was simulated: host-hours, and the faults that struck, by kind.
#[derive(Clone, Debug, Default)]
struct Sum {
    host_us: u64,
    faults: BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.host_us += outcome.hosts as u64 * outcome.lasted.0;
        for (kind, count) in &outcome.figures.faults_by_kind {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

impl std::fmt::Display for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let tenths = self.host_us / 360_000_000;
        let all: u64 = self.faults.values().sum();
        writeln!(f, "{}.{} simulated node-hours, {all} faults:", tenths / 10, tenths % 10)?;
        let kinds: Vec<String> =
            self.faults.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        write!(f, "  {}", kinds.join(", "))
    }
}

/// A share as people write it, in thousandths.
fn percent(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    let share: u32 = number
        .parse()
        .map_err(|_| format!("'{text}' is not a share: expected something like 30%"))?;
    if share > 100 { Err(format!("{share}% is more than all there is")) } else { Ok(share * 10) }
}

fn print_violations(outcome: &Outcome, program: Program, how: &str) {
    for violation in &outcome.violations {
        println!("  {violation}");
    }
    if outcome.count > 0 {
        println!("  replay: {} {how} --seed {} --tell", program.replay(), outcome.seed);
    }
}

fn show(span: Option<Span>) -> String {
    span.map_or_else(|| "never".to_owned(), |span| span.to_string())
}
