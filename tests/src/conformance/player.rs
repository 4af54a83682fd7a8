//! Plays scripts against one system and writes down what its clients say.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::clients::Cli;
use super::compare::Played;
use super::script::{Section, Step};
use super::{http, normalise};
use crate::bed::Testbed;
use crate::engine::Engine;
use crate::run;
use crate::wait::{secs, wait_for};

/// Longer than any command here takes; those that hang are a difference.
const COMMAND_BOUND: std::time::Duration = secs(90);
/// Everything that is waited for takes seconds on a quiet machine; Swarm's managers change hands more slowly on a busy
/// one.
const WAIT_BOUND: std::time::Duration = secs(60);

/// Which orchestrator answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    Swarm,
    Shoal,
}

/// A bed on which one of the two runs.
#[derive(Debug)]
pub struct Player<'a> {
    system: System,
    bed: &'a Testbed,
    /// Where commands run, and where their files are.
    directory: PathBuf,
    names: BTreeMap<String, String>,
}

impl<'a> Player<'a> {
    pub fn new(system: System, bed: &'a Testbed) -> Result<Self> {
        let directory = bed.directory().join("conformance");
        fs::create_dir_all(directory.join("config"))?;
        Ok(Self { system, bed, directory, names: BTreeMap::new() })
    }

    /// Where a host takes commands.
    pub fn api(&self, host: usize) -> Engine {
        match self.system {
            System::Swarm => self.bed.host(host).engine(),
            System::Shoal => self.bed.host(host).shoal_api(),
        }
    }

    /// Plays a section to its end; what its commands said is in the order of the script.
    pub fn play(&mut self, section: &Section, cli: &Cli) -> Result<Vec<Played>> {
        let mut played = Vec::new();
        for step in &section.steps {
            let said = self.step(step, cli).with_context(|| {
                format!("{:?}, section '{}', {step:?}", self.system, section.title)
            })?;
            if let Some((command, lines)) = said {
                played.push(Played { section: section.title.clone(), command, lines });
            }
        }
        // What one section leaves behind on one side would be a difference in the next.
        let left = self.docker(0, "service ls -q", cli)?.stdout;
        if !left.trim().is_empty() {
            self.docker(0, &format!("service rm {}", left.replace('\n', " ")), cli)?;
        }
        let list = "network ls --filter driver=overlay --format {{.Name}}";
        let left = self.docker(0, list, cli)?.stdout;
        let left: Vec<&str> = left.lines().filter(|name| *name != "ingress").collect();
        if !left.is_empty() {
            self.docker(0, &format!("network rm {}", left.join(" ")), cli)?;
        }
        Ok(played)
    }

    fn step(&mut self, step: &Step, cli: &Cli) -> Result<Option<(String, Vec<String>)>> {
        match step {
            Step::Docker { host, line, compared } => {
                let output = self.docker(*host, line, cli);
                let lines =
                    output.map_or_else(|error| in_vain(Err(error)), |output| lines_of(&output));
                return Ok(compared.then(|| (format!("docker {line}"), lines)));
            }
            Step::Http { method, path, body } => {
                let (path, body) = (self.filled(path), self.filled(body));
                let socket = self.api(0).url();
                let socket = Path::new(socket.trim_start_matches("unix://")).to_owned();
                let (status, answer) = http::ask(&socket, method, &path, &body)?;
                let mut lines = vec![format!("status {status}")];
                lines.extend(normalise::output(&answer));
                return Ok(Some((format!("{method} {}", normalise::line(&path)), lines)));
            }
            // A wait in vain is something to compare, not the end of the script.
            Step::Wait { service, containers } => {
                let met = self.bed.wait_running(service, *containers, WAIT_BOUND).map(|_| ());
                return Ok(Some((format!("wait {service} {containers}"), in_vain(met))));
            }
            Step::Until { word, line } => {
                let met = wait_for(&format!("`docker {line}` to say {word}"), WAIT_BOUND, || {
                    let output = self.docker(0, line, cli).map_err(|error| format!("{error:#}"))?;
                    let said = output.stdout + &output.stderr;
                    if said.contains(word) { Ok(()) } else { Err(said) }
                });
                return Ok(Some((format!("until {word} {line}"), in_vain(met.map(|_| ())))));
            }
            Step::Set { name, line } => {
                let output = self.docker(0, line, cli)?;
                // Nothing printed is nothing kept, and shows where it is used.
                self.names.insert(name.clone(), output.stdout.trim().to_owned());
            }
            Step::Container { service } => {
                let said = self.container(service).unwrap_or_else(|error| in_vain(Err(error)));
                return Ok(Some((format!("container of {service}"), said)));
            }
            Step::File { name, text } => fs::write(self.directory.join(name), text)?,
        }
        Ok(None)
    }

    /// Puts in what `set` kept, each `$NAME`.
    fn filled(&self, text: &str) -> String {
        let put = |text: String, (name, value): (&String, &String)| {
            text.replace(&format!("${name}"), value)
        };
        // Longer names first: $T is not the beginning of $TASK.
        self.names.iter().rev().fold(text.to_owned(), put)
    }

    fn docker(&self, host: usize, line: &str, cli: &Cli) -> Result<run::Output> {
        let line = self.filled(line);
        let words = shlex::split(&line).with_context(|| format!("unclosed quotes: {line}"))?;
        let mut command = Command::new(&cli.path);
        command.env_clear().envs(run::inherited_environment());
        command.env("DOCKER_CONFIG", self.directory.join("config"));
        command.current_dir(&self.directory);
        command.args(["-H", &self.api(host).url()]).args(words);
        run::run(&mut command, b"", COMMAND_BOUND)
    }

    /// Runs the SDK's program; each of its lines is a command and what came of it.
    pub fn sdk(&self, python: &Path) -> Result<Vec<Played>> {
        let mut command = Command::new(python);
        command.env_clear().envs(run::inherited_environment());
        command.arg(super::folder().join("sdk.py")).arg(self.api(0).url());
        let output = run::run(&mut command, b"", secs(120))?;
        ensure!(output.status.success(), "the SDK's program failed: {}", output.complaint());
        let read = |line: &str| {
            let (command, said) = line.split_once(" => ").unwrap_or((line, ""));
            Played {
                section: "python sdk".into(),
                command: format!("sdk {command}"),
                lines: normalise::output(said),
            }
        };
        Ok(output.stdout.lines().map(read).collect())
    }

    /// What the engine that runs it says of a service's container: the parts that a spec decides.
    fn container(&self, service: &str) -> Result<Vec<String>> {
        let count = self.bed.running(service);
        let (host, one) = count.containers().next().context("no container runs")?;
        let shown = self.bed.host(host).docker(["inspect", &one.id])?;
        let shown: Value = serde_json::from_str(&shown)?;
        let mut parts = serde_json::Map::new();
        for part in ["Config", "HostConfig", "Mounts", "Path", "Args"] {
            parts.insert(part.to_owned(), shown[0][part].clone());
        }
        let mut lines = normalise::output(&Value::Object(parts).to_string());
        // Empty and absent are the same to an engine.
        lines.retain(|line| {
            !["=null", "={}", "=[]", "=\"\"", "=0", "=false"].iter().any(|end| line.ends_with(end))
        });
        Ok(lines)
    }
}

fn in_vain(met: Result<()>) -> Vec<String> {
    met.err().map(|error| normalise::line(&format!("in vain: {error:#}"))).into_iter().collect()
}

/// How it ended, what it printed and what it complained of.
fn lines_of(output: &run::Output) -> Vec<String> {
    let mut lines = Vec::new();
    if !output.status.success() {
        lines.push(format!("exit {}", output.status.code().unwrap_or(-1)));
    }
    lines.extend(normalise::output(&output.stdout));
    lines.extend(
        normalise::output(&output.stderr).into_iter().map(|line| format!("stderr: {line}")),
    );
    lines
}
