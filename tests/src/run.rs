//! Running a program to its end, with a bound, and starting one that outlives us.
//!
//! Every call to a tool (`ip`, `nft`, `docker`, `shoal`) goes through here, so that none can hang a test
//! and each failure shows the command line and what the tool said.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

use crate::cgroup::Group;
use crate::process::Process;
use crate::wait::wait_for;

/// Deadline of ordinary tools, all of which answer within milliseconds on a quiet machine.
pub const TOOL_BOUND: Duration = Duration::from_secs(30);

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
    /// Wall-clock time from start to end.
    pub took: Duration,
}

/// Runs a program to its end; any exit status is an answer. Fails when it cannot be started or is not
/// done within the bound (it is killed then).
pub fn run(command: &mut Command, input: &[u8], bound: Duration) -> Result<Output> {
    let shown = show(command);
    let begun = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{shown}`"))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program may end without reading its input; that is its business, and its status tells.
        let _ = stdin.write_all(input);
    }
    let stdout = drain(child.stdout.take());
    let stderr = drain(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > bound {
            child.kill()?;
            child.wait()?;
            let said = stderr.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
            bail!("`{shown}` was not done after {:.1} s: {}", bound.as_secs_f64(), said.trim());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    // A child of the program may hold the pipes open: what was read until shortly after the end is enough.
    let patience = Duration::from_secs(5);
    Ok(Output {
        status,
        stdout: stdout.recv_timeout(patience).unwrap_or_default(),
        stderr: stderr.recv_timeout(patience).unwrap_or_default(),
        took: begun.elapsed(),
    })
}

/// Runs a tool that must succeed, and returns its standard output.
pub fn tool<const N: usize>(argv: [&str; N]) -> Result<String> {
    tool_with_input(&argv, b"")
}

/// As [`tool`], with something to read.
pub fn tool_with_input(argv: &[&str], input: &[u8]) -> Result<String> {
    let (program, arguments) = argv.split_first().context("an empty command line")?;
    let mut command = Command::new(program);
    command.args(arguments);
    succeed(&mut command, input, TOOL_BOUND)
}

/// Runs a program that must succeed, and returns its standard output.
pub fn succeed(command: &mut Command, input: &[u8], bound: Duration) -> Result<String> {
    let output = run(command, input, bound)?;
    if !output.status.success() {
        bail!("`{}` failed ({}): {}", show(command), output.status, output.complaint());
    }
    Ok(output.stdout)
}

impl Output {
    /// What it said about its failure: standard error, or standard output when that is empty.
    pub fn complaint(&self) -> &str {
        match self.stderr.trim() {
            "" => self.stdout.trim(),
            said => said,
        }
    }
}

/// Starts a program that goes on after us, in a session of its own (Ctrl-C at our terminal is not meant
/// for it) and in `group`, so that it and all it starts can be found again. Output is appended to `log`.
pub fn detach(
    group: &Group,
    name: &str,
    argv: &[String],
    env: &[(String, String)],
    log: &Path,
) -> Result<Process> {
    let pid_file = log.with_file_name(format!(".{name}.pid"));
    let _ = fs::remove_file(&pid_file);
    let out = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("cannot write {}", log.display()))?;
    // Joining the group before the program starts leaves no moment in which a child could escape it.
    const ENTER: &str = "echo $$ > \"$1\" && echo $$ > \"$2.new\" && mv \"$2.new\" \"$2\" && shift 2 && exec \"$@\"";
    let mut command = Command::new("setsid");
    command
        .args(["--fork", "sh", "-c", ENTER, "sh"])
        .arg(group.procs_file())
        .arg(&pid_file)
        .args(argv);
    command.current_dir("/").env_clear().envs(inherited_environment()).envs(env.iter().cloned());
    command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out);
    let status = command.status().context("cannot start `setsid` (Debian package util-linux)")?;
    if !status.success() {
        bail!("`setsid` could not start {name} ({status}); its log: {}", log.display());
    }
    let begun = Instant::now();
    loop {
        let pid =
            fs::read_to_string(&pid_file).ok().and_then(|text| text.trim().parse::<i32>().ok());
        if let Some(pid) = pid {
            // A program that ended at once is a process all the same: one that is not alive.
            return Ok(Process::with_pid(pid).unwrap_or(Process { pid, started: 0 }));
        }
        if begun.elapsed() > TOOL_BOUND {
            bail!("{name} did not start; its log {} ends with:\n{}", log.display(), tail(log, 10));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until a program that was just started answers; fails at once when it ends instead, with the end of
/// its log.
pub fn wait_until_it_answers(
    what: &str,
    bound: Duration,
    process: Process,
    log: &Path,
    mut answers: impl FnMut() -> Result<(), String>,
) -> Result<()> {
    let (outcome, _) = wait_for(what, bound, || {
        if !process.is_alive() {
            return Ok(Err(anyhow!("{what} ended at once; its log ends with:\n{}", tail(log, 10))));
        }
        answers().map(Ok)
    })?;
    outcome
}

/// What programs on a host get of our environment. Nothing that would point docker or shoal elsewhere.
pub fn inherited_environment() -> Vec<(String, String)> {
    const KEPT: [&str; 5] = ["PATH", "HOME", "LANG", "RUST_LOG", "RUST_BACKTRACE"];
    KEPT.iter().filter_map(|key| Some((key.to_string(), std::env::var(key).ok()?))).collect()
}

/// The last lines of a file; empty when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    let Ok(mut file) = File::open(path) else { return String::new() };
    let mut bytes = Vec::new();
    if file.read_to_end(&mut bytes).is_err() {
        return String::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn drain(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            let _ = pipe.read_to_end(&mut bytes);
        }
        let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
    });
    receiver
}

fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|argument| argument.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let failed = tool(["sh", "-c", "echo the reason >&2; exit 3"]).expect_err("exit 3");
        let message = failed.to_string();
        assert!(message.contains("exit 3") && message.contains("the reason"), "{message}");
    }

    #[test]
    fn a_program_that_hangs_is_killed_at_its_bound() {
        let failed = run(Command::new("sleep").arg("60"), b"", Duration::from_millis(100));
        let message = failed.expect_err("too slow").to_string();
        assert!(message.contains("`sleep 60` was not done after 0.1 s"), "{message}");
    }

    #[test]
    fn input_reaches_the_program() -> Result<()> {
        assert_eq!(tool_with_input(&["cat"], b"words")?, "words");
        Ok(())
    }
}
