//! shoal on a host: how it is started there, and what its command line says.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::host::Host;
use crate::process::Process;
use crate::run::{self, Output};
use crate::wait::{secs, wait_for};

/// The port that members speak QUIC on.
pub const PORT: u16 = 7946;
/// Bound of one command line; those that wait for progress get longer ones of their own.
const COMMAND_BOUND: Duration = secs(120);
/// Bound from starting the process to its first answer.
const START_BOUND: Duration = secs(30);

/// How shoal is started on one host, and the process it then is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Shoal {
    /// The binary; none when the bed runs engines only.
    pub binary: Option<PathBuf>,
    /// `--join`, each a HOST:PORT; empty for the node that starts the cluster.
    pub joins: Vec<String>,
    /// `--token`, needed to join.
    pub token: Option<String>,
    /// `--zone`.
    pub zone: Option<String>,
    /// `--profile`: local, lan or wan.
    pub profile: Option<String>,
    /// `--label`, each `key=value`.
    pub labels: Vec<String>,
    /// Further flags, as they are.
    pub flags: Vec<String>,
    /// Environment of the process.
    pub env: Vec<(String, String)>,
    pub(crate) process: Option<Process>,
    /// Whether it was started and not stopped on purpose: a host that boots then starts it again.
    pub(crate) enabled: bool,
}

impl Shoal {
    pub(crate) fn forget_process(&mut self) {
        self.process = None;
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled
    }
}

impl Host {
    /// shoal's API on this host; speaks Docker's.
    pub fn shoal_api(&self) -> Engine {
        Engine::at(&self.shoal_socket())
    }

    /// shoal's process, when it runs.
    pub fn shoal_process(&self) -> Option<Process> {
        self.shoal.process.filter(Process::is_alive)
    }

    /// The settings shoal is started with here; a change holds from its next start on.
    pub fn shoal_settings(&mut self) -> &mut Shoal {
        &mut self.shoal
    }

    /// The command line of `shoal up` on this host.
    pub fn shoal_up_argv(&self) -> Result<Vec<String>> {
        let endpoint = format!("{}:{PORT}", self.address());
        let data = self.directory().join("shoal").to_string_lossy().into_owned();
        let api = format!("unix://{}", self.shoal_socket().display());
        let mut argv: Vec<String> =
            vec![self.binary()?.to_string_lossy().into_owned(), "up".into()];
        let mut flag = |name: &str, value: &str| argv.extend([name.to_string(), value.to_string()]);
        flag("--name", &self.name());
        flag("--listen", &endpoint);
        flag("--advertise", &endpoint);
        flag("--data-dir", &data);
        flag("--api", &api);
        flag("--docker", &self.engine().url());
        self.shoal.joins.iter().for_each(|join| flag("--join", join));
        self.shoal.labels.iter().for_each(|label| flag("--label", label));
        let optional = [
            ("--token", &self.shoal.token),
            ("--zone", &self.shoal.zone),
            ("--profile", &self.shoal.profile),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                flag(name, value);
            }
        }
        argv.extend(self.shoal.flags.iter().cloned());
        Ok(argv)
    }

    /// Starts shoal and waits until its API answers.
    pub fn start_shoal(&mut self) -> Result<()> {
        let process = self.launch_shoal()?;
        let (api, log) = (self.shoal_api(), self.log("shoal"));
        let what = format!("shoal on {}", self.name());
        let answers = || api.answers(secs(2));
        run::wait_until_it_answers(&what, START_BOUND, process, &log, answers)
    }

    /// Starts shoal and returns at once, for starts that are meant to fail or to race.
    pub fn launch_shoal(&mut self) -> Result<Process> {
        if let Some(process) = self.shoal_process() {
            bail!("shoal already runs on {} (pid {})", self.name(), process.pid);
        }
        // A socket left by a killed process must not look like an answer.
        let _ = std::fs::remove_file(self.shoal_socket());
        let process = self.spawn("shoal", &self.shoal_up_argv()?, &self.shoal.env)?;
        self.shoal.process = Some(process);
        self.shoal.enabled = true;
        Ok(process)
    }

    /// Stops shoal politely (SIGTERM) and waits for its end.
    pub fn stop_shoal(&mut self) -> Result<()> {
        self.shoal.enabled = false;
        self.end_shoal(Signal::SIGTERM)
    }

    /// `kill -9` of shoal alone.
    pub fn kill_shoal(&mut self) -> Result<()> {
        self.end_shoal(Signal::SIGKILL)
    }

    /// Stops shoal's process alone (SIGSTOP); containers and engine go on.
    pub fn freeze_shoal(&self) -> Result<()> {
        self.running_shoal()?.stop()
    }

    /// Lets a frozen shoal go on.
    pub fn thaw_shoal(&self) -> Result<()> {
        self.running_shoal()?.signal(Signal::SIGCONT)
    }

    /// Runs the command line on this host; it must succeed. Returns its standard output.
    pub fn shoal<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        self.shoal_with(&arguments)
    }

    /// As [`Host::shoal`], for a list made at run time.
    pub fn shoal_with(&self, arguments: &[&str]) -> Result<String> {
        let output = self.shoal_try(arguments, COMMAND_BOUND)?;
        if !output.status.success() {
            let (status, said) = (output.status, output.complaint());
            bail!("`shoal {}` on {} failed ({status}): {said}", arguments.join(" "), self.name());
        }
        Ok(output.stdout)
    }

    /// Runs the command line with `--format json` and reads what it prints: one value, or one a line.
    pub fn shoal_json<const N: usize>(&self, arguments: [&str; N]) -> Result<serde_json::Value> {
        let mut words = arguments.to_vec();
        words.extend(["--format", "json"]);
        let text = self.shoal_with(&words)?;
        let values = serde_json::Deserializer::from_str(&text).into_iter();
        let mut values: Vec<serde_json::Value> =
            values.collect::<Result<_, _>>().with_context(|| {
                format!("`shoal {}` did not print JSON: {text}", arguments.join(" "))
            })?;
        Ok(if values.len() == 1 { values.remove(0) } else { values.into() })
    }

    /// Runs the command line; it must fail, and what it says about it is returned.
    pub fn shoal_refuses<const N: usize>(&self, arguments: [&str; N]) -> Result<String> {
        let output = self.shoal_try(&arguments, COMMAND_BOUND)?;
        if output.status.success() {
            bail!("`shoal {}` on {} should have failed", arguments.join(" "), self.name());
        }
        Ok(output.complaint().to_string())
    }

    /// Runs the command line; any exit status is an answer.
    pub fn shoal_try(&self, arguments: &[&str], bound: Duration) -> Result<Output> {
        let mut command = Command::new(self.binary()?);
        command.env_clear().envs(run::inherited_environment());
        command.args(["--host", &self.shoal_api().url()]).args(arguments);
        run::run(&mut command, b"", bound)
    }

    /// Host names of the nodes that this node calls ready.
    pub fn ready_nodes(&self) -> Result<Vec<String>> {
        let nodes = self.shoal_api().nodes()?;
        let ready = nodes.into_iter().filter(|node| node.ready);
        let mut names: Vec<String> = ready.map(|node| node.host_name).collect();
        names.sort();
        Ok(names)
    }

    fn end_shoal(&mut self, signal: Signal) -> Result<()> {
        let Some(process) = self.shoal.process.take() else { return Ok(()) };
        process.signal(signal)?;
        // Stopped processes act on SIGTERM only when they go on.
        process.signal(Signal::SIGCONT)?;
        wait_for(&format!("shoal on {} to end", self.name()), secs(30), || {
            if process.is_alive() { Err(format!("pid {} lives", process.pid)) } else { Ok(()) }
        })?;
        Ok(())
    }

    fn running_shoal(&self) -> Result<Process> {
        self.shoal_process().with_context(|| format!("shoal does not run on {}", self.name()))
    }

    fn shoal_socket(&self) -> PathBuf {
        self.directory().join("shoal.sock")
    }

    fn binary(&self) -> Result<&Path> {
        self.shoal.binary.as_deref().context(
            "no shoal binary: build one (cargo build --profile quick -p cli), or name it with \
             --shoal PATH or SHOAL_BIN",
        )
    }
}

/// The binary to test: `SHOAL_BIN`, or the newest of `TARGET/{release,quick,debug}/shoal` beside the
/// running program.
pub fn find_binary() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("SHOAL_BIN") {
        return Some(PathBuf::from(named));
    }
    let mut newest: Option<(std::time::SystemTime, PathBuf)> = None;
    for profile in ["release", "quick", "debug"] {
        let path = target_directory()?.join(profile).join("shoal");
        let Ok(modified) = path.metadata().and_then(|meta| meta.modified()) else { continue };
        if newest.as_ref().is_none_or(|(when, _)| modified > *when) {
            newest = Some((modified, path));
        }
    }
    newest.map(|(_, path)| path)
}

/// Cargo's target directory: programs are in `TARGET/PROFILE`, tests in `TARGET/PROFILE/deps`.
pub(crate) fn target_directory() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?;
    let folder = program.parent()?;
    let profile = if folder.ends_with("deps") { folder.parent()? } else { folder };
    Some(profile.parent()?.to_path_buf())
}
