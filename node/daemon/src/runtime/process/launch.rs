//! From a spec to a process that can be started: what to run, as whom, where, with which environment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use membership::id::TaskId;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Group, Uid, User};
use tokio::process::Command;

use super::procfs::MARK;
use crate::runtime::spec::{BadSpec, Template};

/// The variable that tells a task where its secrets and configs are.
const FILES: &str = "SHOAL_FILES";

const ISOLATES: &str =
    "the process runtime does not isolate; leave it out, or run the service on nodes with Docker";

/// Docker's defaults for health checks.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_START_INTERVAL: Duration = Duration::from_secs(5);
const DEFAULT_RETRIES: u32 = 3;

/// A spec, ready to be run.
#[derive(Clone, Debug)]
pub(super) struct Launch {
    argv: Vec<String>,
    env: Vec<(String, String)>,
    dir: Option<PathBuf>,
    user: Option<(u32, u32)>,
    /// Where the task's secrets and configs are.
    pub(super) files: Option<PathBuf>,
    pub(super) stop_signal: Signal,
    pub(super) health: Option<HealthPlan>,
}

/// A health check with its times.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HealthPlan {
    pub(super) argv: Vec<String>,
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
    pub(super) retries: u32,
    pub(super) start_period: Duration,
    pub(super) start_interval: Duration,
}

impl Launch {
    /// # Errors
    /// [`BadSpec`] names the field that cannot be honoured.
    pub(super) fn new(template: &Template) -> Result<Self, BadSpec> {
        refuse_isolation(template)?;
        let argv = [template.command.as_slice(), template.args.as_slice()].concat();
        if argv.first().is_none_or(String::is_empty) {
            let why =
                "it is missing: the process runtime runs no images, so it must be told what to run";
            return Err(BadSpec::new("ContainerSpec.Command", why));
        }
        Ok(Self {
            argv,
            env: environment(template)?,
            dir: template.dir.as_ref().map(PathBuf::from),
            user: template.user.as_deref().map(user).transpose()?,
            files: None,
            stop_signal: template.stop_signal.as_deref().map_or(Ok(Signal::SIGTERM), signal)?,
            health: template.health.as_ref().and_then(health_plan),
        })
    }

    /// The task's own command, in `work` unless the spec says where.
    pub(super) fn command(&self, task: TaskId, work: &Path) -> Command {
        self.build(&self.argv, task, work)
    }

    /// The health check, run just as the task is.
    pub(super) fn health_command(&self, plan: &HealthPlan, task: TaskId, work: &Path) -> Command {
        self.build(&plan.argv, task, work)
    }

    fn build(&self, argv: &[String], task: TaskId, work: &Path) -> Command {
        let mut command = Command::new(argv.first().map_or("", String::as_str));
        command.args(argv.iter().skip(1));
        // Nothing of shoal's own environment (SHOAL_TOKEN!) is handed down, except where programs are.
        command.env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.env(MARK, task.to_string());
        command.envs(self.files.iter().map(|files| (FILES, files)));
        // The work directory is inside one that only shoal's own user may enter.
        let elsewhere = self.user.map(|_| PathBuf::from("/"));
        command.current_dir(self.dir.clone().or(elsewhere).unwrap_or_else(|| work.to_owned()));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        // A group of its own: signals for shoal's terminal do not reach it, and ours reach all of it.
        command.process_group(0);
        command.stdin(std::process::Stdio::null());
        command
    }
}

fn refuse_isolation(template: &Template) -> Result<(), BadSpec> {
    let asked = [
        ("Labels", template.hardware.is_asked_for()),
        ("ReadOnly", template.read_only),
        ("Mounts", !template.mounts.is_empty()),
        ("CapabilityAdd", !template.capability_add.is_empty()),
        ("CapabilityDrop", !template.capability_drop.is_empty()),
        ("Privileges", !template.security_options.is_empty()),
        ("Sysctls", !template.sysctls.is_empty()),
        ("Ulimits", !template.ulimits.is_empty()),
        ("Groups", !template.groups.is_empty()),
        ("OomScoreAdj", template.oom_score_adj.is_some()),
        ("Hosts", !template.hosts.is_empty()),
        ("DNSConfig", template.dns != Default::default()),
    ];
    if let Some((field, _)) = asked.into_iter().find(|(_, asked)| *asked) {
        return Err(BadSpec::new(format!("ContainerSpec.{field}"), ISOLATES));
    }
    match template.network.as_deref() {
        None | Some("host") => Ok(()),
        Some(_) => Err(BadSpec::new("Networks", ISOLATES)),
    }
}

fn environment(template: &Template) -> Result<Vec<(String, String)>, BadSpec> {
    let split = |(n, variable): (usize, &String)| match variable.split_once('=') {
        Some((name, value)) if !name.is_empty() && !variable.contains('\0') => {
            Ok((name.to_owned(), value.to_owned()))
        }
        _ => {
            let field = format!("ContainerSpec.Env[{n}]");
            Err(BadSpec::new(field, format!("'{variable}' is not NAME=VALUE")))
        }
    };
    template.env.iter().enumerate().map(split).collect()
}

/// `user`, `uid`, `user:group` or `uid:gid`, as Docker takes them.
fn user(text: &str) -> Result<(u32, u32), BadSpec> {
    let bad = |why: String| BadSpec::new("ContainerSpec.User", why);
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let (uid, own_group) = match user.parse::<u32>() {
        Ok(uid) => {
            let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
            (uid, known.map_or(0, |known| known.gid.as_raw()))
        }
        Err(_) => {
            let known = User::from_name(user).ok().flatten();
            let known = known.ok_or_else(|| bad(format!("this host knows no user '{user}'")))?;
            (known.uid.as_raw(), known.gid.as_raw())
        }
    };
    let gid = match group.map(|group| (group, group.parse::<u32>())) {
        None => own_group,
        Some((_, Ok(gid))) => gid,
        Some((name, Err(_))) => {
            let known = Group::from_name(name).ok().flatten();
            known.ok_or_else(|| bad(format!("this host knows no group '{name}'")))?.gid.as_raw()
        }
    };
    let me = (nix::unistd::geteuid(), nix::unistd::getegid());
    if me.0.is_root() || me == (Uid::from_raw(uid), Gid::from_raw(gid)) {
        Ok((uid, gid))
    } else {
        Err(bad(format!("shoal is not root on this host and cannot run anything as '{text}'")))
    }
}

/// `SIGINT`, `INT` or `2`.
pub(super) fn signal(text: &str) -> Result<Signal, BadSpec> {
    let by_number = text.parse::<i32>().ok().and_then(|number| Signal::try_from(number).ok());
    let name = text.to_ascii_uppercase();
    let by_name = || format!("SIG{}", name.trim_start_matches("SIG")).parse::<Signal>().ok();
    by_number.or_else(by_name).ok_or_else(|| {
        BadSpec::new("ContainerSpec.StopSignal", format!("this host knows no signal '{text}'"))
    })
}

fn health_plan(check: &crate::runtime::spec::HealthCheck) -> Option<HealthPlan> {
    // The parser has made sure that nothing else is possible and nothing is negative.
    let argv = match check.test.split_first()? {
        (kind, rest) if kind == "CMD" => rest.to_vec(),
        (kind, [line]) if kind == "CMD-SHELL" => {
            vec!["/bin/sh".to_owned(), "-c".to_owned(), line.clone()]
        }
        _ => return None,
    };
    let time = |ns: Option<i64>, default: Duration| {
        ns.and_then(|ns| u64::try_from(ns).ok()).map_or(default, Duration::from_nanos)
    };
    Some(HealthPlan {
        argv,
        interval: time(check.interval, DEFAULT_INTERVAL),
        timeout: time(check.timeout, DEFAULT_TIMEOUT),
        retries: check.retries.and_then(|n| u32::try_from(n).ok()).unwrap_or(DEFAULT_RETRIES),
        start_period: time(check.start_period, Duration::ZERO),
        start_interval: time(check.start_interval, DEFAULT_START_INTERVAL),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn launch(spec: Value) -> Result<Launch, BadSpec> {
        Launch::new(&Template::parse(&json!({ "ContainerSpec": spec })).unwrap())
    }

    #[test]
    fn the_command_is_command_and_args_or_args_alone() {
        let argv = |spec| launch(spec).map(|launch| launch.argv);
        assert_eq!(argv(json!({"Command": ["a"], "Args": ["b"]})).unwrap(), ["a", "b"]);
        assert_eq!(argv(json!({"Image": "ignored", "Args": ["b", "c"]})).unwrap(), ["b", "c"]);
        assert_eq!(argv(json!({"Image": "nginx"})).unwrap_err().field, "ContainerSpec.Command");
    }

    #[test]
    fn what_it_cannot_isolate_it_refuses() {
        for (spec, field) in [
            (json!({"ReadOnly": true}), "ReadOnly"),
            (json!({"Mounts": [{"Target": "/x"}]}), "Mounts"),
            (json!({"CapabilityDrop": ["ALL"]}), "CapabilityDrop"),
            (json!({"Privileges": {"NoNewPrivileges": true}}), "Privileges"),
            (json!({"Ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}]}), "Ulimits"),
            (json!({"Env": ["A"]}), "Env[0]"),
            (json!({"User": "no-such-user"}), "User"),
            (json!({"User": "0:no-such-group"}), "User"),
            (json!({"StopSignal": "SIGNOTHING"}), "StopSignal"),
        ] {
            let mut spec = spec;
            spec["Command"] = json!(["true"]);
            let error = launch(spec).unwrap_err();
            assert_eq!(error.field, format!("ContainerSpec.{field}"));
        }
    }

    #[test]
    fn signals_have_names_and_numbers() {
        for text in ["SIGINT", "INT", "int", "2"] {
            assert_eq!(signal(text).unwrap(), Signal::SIGINT);
        }
        assert!(signal("0").is_err() && signal("").is_err());
    }

    #[test]
    fn health_checks_have_dockers_defaults() {
        let plan = |check| launch(json!({"Command": ["x"], "Healthcheck": check})).unwrap().health;
        assert_eq!(plan(json!({"Test": ["NONE"]})), None);
        assert_eq!(plan(json!({})), None);
        let shell = plan(json!({"Test": ["CMD-SHELL", "a b"], "Interval": 1_000_000_000})).unwrap();
        assert_eq!(shell.argv, ["/bin/sh", "-c", "a b"]);
        assert_eq!((shell.interval, shell.timeout), (Duration::from_secs(1), DEFAULT_TIMEOUT));
        assert_eq!((shell.retries, shell.start_period), (3, Duration::ZERO));
        assert_eq!(plan(json!({"Test": ["CMD", "a", "b"]})).unwrap().argv, ["a", "b"]);
    }
}
