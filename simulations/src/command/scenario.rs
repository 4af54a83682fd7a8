//! `scenario` and `scenarios`: play one that is written down, and list the named ones.

use std::path::Path;

use clap::Args;

use super::keep::KeepFlags;
use super::{Ended, Program, print_violations, twice, warn_of_real_gossip};
use crate::cores;
use crate::from_cluster::{Answers, Cluster};
use crate::history::Recorder;
use crate::report::Material;
use crate::run::Watcher;
use crate::scenario::play::play;
use crate::scenario::{MOST_BYTES, Scenario, ScenarioError, file, library};
use crate::watch::{Both, Watch};
use crate::world::Fidelity;

#[derive(Args, Clone, Debug)]
pub struct ScenarioFlags {
    /// A named scenario (`scenarios` lists them), or a file.
    #[arg(value_name = "NAME|FILE")]
    scenario: String,
    /// Another seed than the scenario's own.
    #[arg(long)]
    seed: Option<u64>,
    /// Begin with the nodes and services of a running cluster instead of the scenario's own.
    #[arg(long)]
    pub(super) from_cluster: bool,
    #[command(flatten)]
    keep: KeepFlags,
    /// Watch it live on the terminal.
    #[arg(long, conflicts_with_all = ["tell", "json"])]
    watch: bool,
    /// Virtual seconds for each real second, with --watch.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    speed: u32,
    /// Run it twice and compare the traces.
    #[arg(long)]
    twice: bool,
    /// Tell what happens, line by line, on the standard error stream.
    #[arg(long)]
    tell: bool,
}

/// The file of this name, or the named scenario.
fn written(name: &str) -> Result<file::File, ScenarioError> {
    if library::text(name).is_some() || !Path::new(name).exists() {
        return library::file(name);
    }
    let failed =
        |error: std::io::Error| ScenarioError::one(name, format!("cannot be read: {error}"));
    let size = std::fs::metadata(name).map_err(failed)?.len();
    if size > MOST_BYTES as u64 {
        return Err(ScenarioError::one(name, format!("it is larger than {MOST_BYTES} bytes")));
    }
    Scenario::read(name, &std::fs::read_to_string(name).map_err(failed)?)
}

impl ScenarioFlags {
    /// The seed that the run will have; one that cannot be read says so when it is run.
    pub(super) fn seed(&self) -> u64 {
        let own = || Scenario::on(&self.scenario, &written(&self.scenario).ok()?, None).ok();
        self.seed.or_else(|| own().map(|scenario| scenario.seed)).unwrap_or_default()
    }
}

/// The scenario, on the cluster if there is one.
fn read(flags: &ScenarioFlags, answers: Option<&Answers>) -> Result<Scenario, ScenarioError> {
    let file = written(&flags.scenario)?;
    let cluster = match answers {
        None if flags.from_cluster => {
            let text = "--from-cluster is known to `shoal simulate`, which can ask a node; this program has no client";
            return Err(ScenarioError::one(&flags.scenario, text));
        }
        None => None,
        Some(answers) => Some(
            Cluster::read(answers)
                .map_err(|error| ScenarioError::one("the running cluster", error))?,
        ),
    };
    Scenario::on(&flags.scenario, &file, cluster)
}

pub(super) fn run(flags: &ScenarioFlags, program: Program, answers: Option<&Answers>) -> Ended {
    let read = read(flags, answers);
    let scenario = match read {
        Ok(scenario) => scenario,
        Err(error) => {
            eprintln!("{error}");
            return Ended::Refused;
        }
    };
    scenario.notes.iter().for_each(|note| eprintln!("{note}"));
    if flags.twice && scenario.gossip == Fidelity::Real {
        return twice(program);
    }
    warn_of_real_gossip(scenario.gossip, program);
    let seed = flags.seed.unwrap_or(scenario.seed);
    let (recorder, history) = Recorder::new();
    let watcher: Box<dyn Watcher> = if flags.watch {
        match Watch::new(&scenario.title, flags.speed) {
            Ok(watch) => Box::new(Both(recorder, watch)),
            Err(error) => {
                eprintln!("{error}");
                return Ended::Refused;
            }
        }
    } else {
        Box::new(recorder)
    };
    let maker = || cores::real(cores::settings());
    let mut played = play(&scenario, seed, flags.tell, Some(watcher), maker());
    if flags.twice {
        let again = play(&scenario, seed, false, None, maker()).outcome.trace;
        if again != played.outcome.trace {
            println!("seed {seed} is not deterministic: {} and {again}", played.outcome.trace);
            played.outcome.count += 1;
            played.sheet.violations += 1;
        }
    }
    let from = if flags.from_cluster { " --from-cluster" } else { "" };
    let replay = format!("{} scenario {}{from} --seed {seed}", program.replay(), flags.scenario);
    let about = format!("{} {}", scenario.about, sentences(&scenario.notes));
    let kept = flags.keep.keep(&Material {
        title: &scenario.title,
        about: &about,
        look_at: &scenario.look_at,
        sheet: &played.sheet,
        figures: &played.outcome.figures,
        violations: &played.outcome.violations,
        history: &history.borrow(),
        origin: played.origin,
        start_ms: (scenario.engine.start.0.as_ms(), scenario.engine.start.1.as_ms()),
        modelled: scenario.gossip != Fidelity::Real,
        replay: &replay,
    });
    if !flags.keep.json {
        println!("{}: {}", scenario.name, scenario.title);
    }
    flags.keep.print(&played.sheet);
    print_violations(&played.outcome, program, &format!("scenario {}{from}", flags.scenario));
    println!("{}", played.outcome.line());
    flags.keep.end(&played.sheet, kept)
}

/// Notes as sentences.
fn sentences(notes: &[String]) -> String {
    notes.iter().map(|note| format!("{note}.")).collect::<Vec<_>>().join(" ")
}

/// The named scenarios, each with what it shows.
pub(super) fn list(full: bool) -> Ended {
    for (name, text) in library::LIBRARY {
        match Scenario::parse(name, text) {
            Ok(scenario) if full => {
                println!(
                    "{name}: {}\n  {}\n  Look at: {}\n",
                    scenario.title, scenario.about, scenario.look_at
                );
            }
            Ok(scenario) => println!("{name:<18}  {}", scenario.title),
            Err(error) => println!("{error}"),
        }
    }
    Ended::Clean
}
