//! `scenario` and `scenarios`: play one that is written down, and list the named ones.

use std::path::{Path, PathBuf};

use clap::Args;

use super::{Ended, Program, compare, print_violations, warn_of_real_gossip};
use crate::cores;
use crate::figures::{Sheet, table};
use crate::from_cluster::{Answers, Cluster};
use crate::history::{History, Recorder};
use crate::report::{self, Material};
use crate::run::Watcher;
use crate::scenario::play::{Played, play};
use crate::scenario::{MOST_BYTES, Scenario, ScenarioError, amount, file, library};
use crate::watch::{Both, Watch};

#[derive(Args, Clone, Debug)]
pub struct ScenarioFlags {
    /// A named scenario (`scenarios` lists them), or a file.
    #[arg(value_name = "NAME|FILE")]
    scenario: String,
    /// Another seed than the scenario's own.
    #[arg(long)]
    seed: Option<u64>,
    /// Print the figures as JSON.
    #[arg(long)]
    json: bool,
    /// Begin with the nodes and services of a running cluster instead of the scenario's own.
    #[arg(long)]
    pub(super) from_cluster: bool,
    /// Write a report to this file: one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Keep the figures in this file, as a baseline for later runs.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare the figures with a baseline; the exit code says whether they are worse.
    #[arg(long, value_name = "FILE")]
    against: Option<PathBuf>,
    /// How much worse than the baseline is still taken.
    #[arg(long, default_value = "10%", value_parser = amount::share)]
    margin: u32,
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
    let kept = keep(flags, &scenario, &played, &history.borrow(), &replay);
    print(&scenario, &played, flags.json, program);
    if let Err(error) = kept {
        eprintln!("{error}");
        return Ended::Refused;
    }
    let ended = Ended::with(played.outcome.count);
    match &flags.against {
        Some(baseline) => ended.max(compare::against(baseline, &played.sheet, flags.margin)),
        None => ended,
    }
}

/// Writes what was asked for to files.
fn keep(
    flags: &ScenarioFlags,
    scenario: &Scenario,
    played: &Played,
    history: &History,
    replay: &str,
) -> Result<(), String> {
    if let Some(path) = &flags.save {
        compare::save(path, &played.sheet)?;
    }
    let Some(path) = &flags.html else { return Ok(()) };
    let about = format!("{} {}", scenario.about, sentences(&scenario.notes));
    let page = report::html(&Material {
        title: &scenario.title,
        about: &about,
        look_at: &scenario.look_at,
        sheet: &played.sheet,
        figures: &played.outcome.figures,
        violations: &played.outcome.violations,
        history,
        origin: played.origin,
        start_ms: (scenario.engine.start.0.as_ms(), scenario.engine.start.1.as_ms()),
        replay,
    });
    std::fs::write(path, page).map_err(|error| {
        format!("the run is over, but its report cannot be written to {}: {error}", path.display())
    })?;
    eprintln!("the report is in {}", path.display());
    Ok(())
}

/// Notes as sentences.
fn sentences(notes: &[String]) -> String {
    notes.iter().map(|note| format!("{note}.")).collect::<Vec<_>>().join(" ")
}

fn print(scenario: &Scenario, played: &Played, json: bool, program: Program) {
    if json {
        println!("{}", as_json(&played.sheet));
    } else {
        println!("{}: {}", scenario.name, scenario.title);
        println!("{}", table(&played.sheet));
    }
    print_violations(&played.outcome, program, &format!("scenario {}", scenario.name));
    println!("{}", played.outcome.line());
}

fn as_json(sheet: &Sheet) -> String {
    serde_json::to_string_pretty(sheet).unwrap_or_else(|error| error.to_string())
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
