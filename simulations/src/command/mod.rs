//! The commands of the simulator, for the two programs that have them: `simulations` and
//! `shoal simulate`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line prints")]

mod compare;
mod fidelity;
mod fleet;
mod keep;
mod membership_alone;
mod outage;
mod random;
mod scenario;
mod soak;
mod vigil;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::Subcommand;

use crate::from_cluster::Answers;
use crate::gossip::Pace;
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
    /// Runs a schedule from a file: what `soak` found, or `random --schedules` wrote.
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
            Self::Scenario(flags) => flags.seed(),
            Self::Fleet(flags) => flags.seed,
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

/// What carries facts, by the word that a flag takes.
fn fidelity_of(word: &str) -> Fidelity {
    if word == "real" { Fidelity::Real } else { Fidelity::Modelled(Pace::default()) }
}

/// Real gossip draws from the operating system; only the simulator's own program puts a seed in its place.
fn warn_of_real_gossip(gossip: Fidelity, program: Program) {
    if gossip == Fidelity::Real && program == Program::Shoal {
        eprintln!(
            "with real gossip this run cannot be replayed to the byte by `shoal simulate`: for that, use the program `simulations` (cargo run --release -p simulations --)"
        );
    }
}

/// Runs the same command in two processes, one after the other, and compares their last lines: tokio counts
/// its runtimes over the life of a process, so a second run in this one would draw other numbers.
fn twice(program: Program) -> Ended {
    if program == Program::Shoal {
        println!(
            "shoal draws its randomness from the operating system, so chitchat's choices cannot be replayed in it; \
             the program that can: cargo run --release -p simulations -- ... --twice"
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

/// What was simulated: host-hours, and the faults that struck, by kind.
#[derive(Clone, Debug, Default)]
struct Sum {
    host_us: u64,
    run_us: u64,
    faults: BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, outcome: &Outcome) {
        self.host_us += outcome.hosts as u64 * outcome.lasted.0;
        self.run_us += outcome.lasted.0;
        for (kind, count) in &outcome.figures.faults_by_kind {
            *self.faults.entry(kind.clone()).or_default() += count;
        }
    }
}

impl Sum {
    /// How fast that was, in words.
    fn speed(&self, real: Duration) -> String {
        speed(Span(self.run_us), real)
    }
}

/// Virtual time against the time that it took.
fn speed(simulated: Span, real: Duration) -> String {
    let hours = simulated.as_ms() as f64 / 3_600_000.0;
    let seconds = real.as_secs_f64().max(0.001);
    format!("{hours:.3} simulated hours in {seconds:.1} s: {:.6} hours per second", hours / seconds)
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
