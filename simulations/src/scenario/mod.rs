//! Scenarios: runs that are written down in a file, for people who want to see what a failure would do
//! before it happens. docs/SIMULATING.md explains the file; [`library`] has the named ones.
//!
//! A file is read by [`file`], checked as a whole ([`Scenario::parse`]: each error names the key and what
//! would be right), played by [`play`] and judged by [`expect`]. The checks of every run watch as well.

pub mod action;
pub mod amount;
mod ends;
pub mod expect;
pub mod file;
pub mod layout;
pub mod library;
pub mod play;
mod problem;
pub mod service;
pub mod step;
mod strike;
pub mod target;

use serde_json::Value;

use self::action::Action;
use self::expect::Expect;
use self::layout::Layout;
use self::problem::Problems;
use self::step::{Step, quality, range};
use crate::engine::EngineManner;
use crate::faults::{KINDS, Kind};
use crate::from_cluster::Cluster;
use crate::gossip::Pace;
use crate::links::Quality;
use crate::time::Span;
use crate::world::Fidelity;

pub use problem::ScenarioError;

/// The largest file that is read, in bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// Random faults and operators in the background.
#[derive(Clone, Debug, PartialEq)]
pub struct Churn {
    pub kinds: Vec<Kind>,
    pub pause: (Span, Span),
    pub from: Span,
    pub until: Span,
    pub operators: bool,
    pub most_services: usize,
    pub most_replicas: u64,
}

/// A scenario, checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub title: String,
    /// What it shows, and what to look at.
    pub about: String,
    pub look_at: String,
    /// How long the timeline is.
    pub duration: Span,
    pub seed: u64,
    pub gossip: Fidelity,
    pub clocks_off_ms: u64,
    pub heal: bool,
    pub network: Quality,
    pub engine: EngineManner,
    pub layout: Layout,
    /// Docker's specs of what runs before the timeline begins.
    pub services: Vec<Value>,
    pub steps: Vec<Step>,
    pub churn: Option<Churn>,
    pub expect: Expect,
    /// What a reader has to know beside the file: what is taken for what.
    pub notes: Vec<String>,
}

/// The name of a kind of fault as a file has it: `one-way` for `OneWay`.
pub fn kind_name(kind: Kind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

impl Scenario {
    /// Reads and checks a scenario. `name` is what messages call the file.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its key and what would be right.
    pub fn parse(name: &str, text: &str) -> Result<Self, ScenarioError> {
        let file = Self::read(name, text)?;
        Self::on(name, &file, None)
    }

    /// The file itself, with nothing but its form checked.
    ///
    /// # Errors
    /// Where it is no TOML, or has keys that no scenario has.
    pub fn read(name: &str, text: &str) -> Result<file::File, ScenarioError> {
        if text.len() > MOST_BYTES {
            return Err(ScenarioError::one(name, format!("it is larger than {MOST_BYTES} bytes")));
        }
        toml::from_str(text).map_err(|error| ScenarioError::one(name, error.to_string().trim_end()))
    }

    /// Checks a file; the hosts and services of `cluster` take the place of its own.
    ///
    /// # Errors
    /// As [`Scenario::parse`].
    pub fn on(
        name: &str,
        file: &file::File,
        cluster: Option<Cluster>,
    ) -> Result<Self, ScenarioError> {
        let mut problems = Problems::default();
        let mut span = |key: &str, text: &str| problems.take("", key, amount::span(text));
        let duration = span("duration", &file.duration);
        let clocks_off_ms = span("clocks_off", file.clocks_off.as_deref().unwrap_or("0")).as_ms();
        if duration == Span::ZERO {
            problems.add("", "duration", "a scenario lasts longer than nothing, as 2m");
        }
        let gossip = match file.gossip.as_deref() {
            None | Some("modelled") => Fidelity::Modelled(Pace::default()),
            Some("real") => Fidelity::Real,
            Some(other) => {
                problems.add("", "gossip", format!("'{other}' is not one of modelled, real"));
                Fidelity::Modelled(Pace::default())
            }
        };
        let net = &file.network;
        let network = quality(
            Quality::default(),
            [&net.loss, &net.duplicated, &net.reordered],
            &net.delay,
            "network",
            &mut problems,
        );
        let engine = engine(&file.engine, &mut problems);
        let written = Layout::of(&file.hosts, &mut problems);
        let specs = file.services.iter().enumerate().map(|(n, service)| {
            service::spec(service, &format!("services[{}]", n + 1), &mut problems)
        });
        let specs: Vec<Value> = specs.collect();
        check_services(file, &specs, &mut problems);
        let mut expect = Expect::check(&file.expect, &mut problems);
        let mut notes = Vec::new();
        let mut largest = None;
        let (layout, services) = match cluster {
            None => (written, specs.clone()),
            Some(mut cluster) => {
                cluster.give_names(&written);
                largest = cluster.largest();
                expect = expect.of_any_size();
                notes = cluster.notes;
                (cluster.layout, cluster.services)
            }
        };
        let mut steps = steps(file, &layout, network, duration, &mut problems);
        if let Some(largest) = largest {
            steps.iter_mut().for_each(|step| {
                notes.extend(meant(step, &specs, &services, &largest));
            });
            notes.dedup();
        }
        let churn = file.churn.as_ref().map(|churn| churn_of(churn, duration, &mut problems));
        for (key, text) in
            [("title", &file.title), ("about", &file.about), ("look_at", &file.look_at)]
        {
            if text.trim().is_empty() {
                problems.add("", key, "is empty: a scenario explains itself");
            }
        }
        problems.end(name)?;
        Ok(Self {
            name: name.to_owned(),
            title: file.title.trim().to_owned(),
            about: unwrapped(&file.about),
            look_at: unwrapped(&file.look_at),
            duration,
            seed: file.seed.unwrap_or(1),
            gossip,
            clocks_off_ms,
            heal: file.heal.unwrap_or(true),
            network,
            engine,
            layout,
            services,
            steps,
            churn,
            expect,
            notes,
        })
    }
}

/// A step about a service that only the file has is about the cluster's largest one, scaled as the file
/// scales its own. Gives what a reader has to know of it.
fn meant(
    step: &mut Step,
    written: &[Value],
    services: &[Value],
    (name, replicas): &(String, u64),
) -> Option<String> {
    let known = |service: &str| services.iter().any(|spec| spec["Name"] == service);
    let base = |service: &str| {
        let spec = written.iter().find(|spec| spec["Name"] == service)?;
        spec["Mode"]["Replicated"]["Replicas"].as_u64().filter(|replicas| *replicas > 0)
    };
    let theirs = match &mut step.action {
        Action::Scale { service, replicas: to } if !known(service) => {
            *to = base(service).map_or(*to, |base| (*to * (*replicas)).div_ceil(base));
            service
        }
        Action::Update { service } | Action::Remove { service } if !known(service) => service,
        Action::ContainerDies { service: Some(service) }
        | Action::ContainerRemoved { service: Some(service) }
            if !known(service) =>
        {
            service
        }
        _ => return None,
    };
    // What a step creates, a later one may name.
    base(theirs)?;
    let note = format!("'{theirs}' of the scenario is here the service '{name}'");
    theirs.clone_from(name);
    Some(note)
}

/// A paragraph on one line.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn engine(raw: &file::Engine, problems: &mut Problems) -> EngineManner {
    let mut engine = EngineManner::default();
    if let Some(texts) = &raw.start {
        engine.start = problems.take("engine", "start", range(texts));
    }
    if let Some(texts) = &raw.stop {
        engine.stop = problems.take("engine", "stop", range(texts));
    }
    if let Some(text) = &raw.start_fails {
        engine.start_fails = problems.take("engine", "start_fails", amount::share(text));
    }
    if let Some(text) = &raw.events_lost {
        engine.events_lost = problems.take("engine", "events_lost", amount::share(text));
    }
    engine
}

fn steps(
    file: &file::File,
    layout: &Layout,
    network: Quality,
    duration: Span,
    problems: &mut Problems,
) -> Vec<Step> {
    let mut names = Vec::new();
    let mut steps = Vec::new();
    for (n, raw) in file.timeline.iter().enumerate() {
        let place = format!("timeline[{}]", n + 1);
        let Some(step) = Step::check(raw, &place, layout, &mut names, network, problems) else {
            continue;
        };
        if step.moments().last().is_some_and(|last| last > duration) {
            let text = format!("lies after the end: the duration is {duration}");
            problems.add(&place, "at", text);
        }
        let copied = |before: &Step| before.action == Action::CopyDisk && before.at <= step.at;
        if step.action == Action::RestoreDisk && !steps.iter().any(copied) {
            let text =
                "there is no copy to restore: let a step with `do = \"copy-disk\"` stand above it";
            problems.add(&place, "do", text);
        }
        steps.push(step);
    }
    steps
}

/// Steps about services that nobody creates test nothing.
fn check_services(file: &file::File, services: &[Value], problems: &mut Problems) {
    let created =
        file.timeline.iter().filter_map(|step| step.spec.as_ref()).map(|s| s.name.as_str());
    let known: Vec<&str> =
        services.iter().filter_map(|spec| spec["Name"].as_str()).chain(created).collect();
    let mut seen = std::collections::BTreeSet::new();
    for name in &known {
        if !seen.insert(name) {
            problems.add("services", "name", format!("two services are called '{name}'"));
        }
    }
    for (n, step) in file.timeline.iter().enumerate() {
        if let Some(name) = step.service.as_deref()
            && !known.contains(&name)
        {
            let text = format!("no service is called '{name}': there are {}", known.join(", "));
            problems.add(&format!("timeline[{}]", n + 1), "service", text);
        }
    }
}

fn churn_of(raw: &file::Churn, duration: Span, problems: &mut Problems) -> Churn {
    let mut kinds = Vec::new();
    for name in raw.faults.iter().flatten() {
        match KINDS.into_iter().find(|kind| kind_name(*kind) == *name) {
            Some(kind) => kinds.push(kind),
            None => {
                let known = KINDS.map(kind_name);
                let hint = problem::nearest(name, known.iter().map(String::as_str))
                    .map(|near| format!("did you mean '{near}'? "));
                let text = format!(
                    "'{name}' is no kind of fault. {}There are {}",
                    hint.unwrap_or_default(),
                    known.join(", ")
                );
                problems.add("churn", "faults", text);
            }
        }
    }
    let operators = raw.operators.unwrap_or(false);
    if kinds.is_empty() && !operators {
        problems.add(
            "churn",
            "faults",
            "names no fault, and operators do nothing: leave [churn] out",
        );
    }
    let pause = raw.pause.as_ref().map(|texts| problems.take("churn", "pause", range(texts)));
    let mut span = |key: &str, text: &Option<String>, default: Span| match text {
        Some(text) => problems.take("churn", key, amount::span(text)),
        None => default,
    };
    let from = span("from", &raw.from, Span::ZERO);
    let until = span("until", &raw.until, duration);
    if from >= until || until > duration {
        problems.add(
            "churn",
            "until",
            format!("has to lie after `from` and within the {duration}"),
        );
    }
    Churn {
        kinds,
        pause: pause.unwrap_or((Span::secs(1), Span::secs(60))),
        from,
        until,
        operators,
        most_services: raw.most_services.unwrap_or(5),
        most_replicas: raw.most_replicas.unwrap_or(10),
    }
}

#[cfg(test)]
mod tests;
