//! `shoal demo` from beginning to end, on plain processes: it recovers, and leaves nothing behind.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::run::output;

const PATIENCE: Duration = Duration::from_secs(150);

/// Processes whose command line names something under `dir`, or that work in it.
fn left_in(dir: &Path) -> Vec<String> {
    let dir = dir.to_str().unwrap();
    let names = |process: &Path| {
        let line = std::fs::read(process.join("cmdline")).unwrap_or_default();
        let works_in = std::fs::read_link(process.join("cwd")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(dir) || works_in.starts_with(dir)
    };
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| names(path))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .filter(|name| name.parse::<u32>().is_ok())
        .collect()
}

fn demo(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shoal"));
    command
        .args(["demo", "--runtime", "process", "--replicas", "6"])
        // All that it makes lies in here, and is found by it.
        .env("TMPDIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_recovers_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let done = tokio::time::timeout(PATIENCE, demo(dir.path()).output()).await.unwrap().unwrap();
    let out = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{out} {}", String::from_utf8_lossy(&done.stderr));
    for words in [
        "all 6 running",
        "beta is agreed to be down",
        "all 6 replicas run again",
        "Cleaned up: 3 nodes",
    ] {
        assert!(out.contains(words), "{words}: {out}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_at_any_time_it_cleans_up() {
    for (line, signal) in [
        ("Starting", Signal::SIGINT),
        ("  beta", Signal::SIGTERM),
        ("Creating", Signal::SIGINT),
        ("The host beta dies", Signal::SIGTERM),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut child = demo(dir.path()).spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
        let run = async {
            while let Some(text) = said.next_line().await.unwrap() {
                if text.starts_with(line) {
                    kill(pid, signal).unwrap();
                    break;
                }
            }
            // Read on, or its last words find nobody.
            while said.next_line().await.unwrap().is_some() {}
            child.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, run).await.expect("it ends");
        assert_eq!(status.code(), Some(3), "after '{line}'");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "after '{line}'");
        assert_eq!(left_in(dir.path()), Vec::<String>::new(), "after '{line}'");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_cleans_up_when_nobody_reads_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = demo(dir.path()).spawn().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(said.next_line().await.unwrap().unwrap().starts_with("Starting"));
    // As `shoal demo | head -1` does.
    drop(said);
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    assert_eq!(left_in(dir.path()), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_docker_it_says_why_it_uses_processes() {
    let shoal = env!("CARGO_BIN_EXE_shoal");
    let refused =
        output(shoal, &["demo", "--runtime", "docker", "--docker", "unix:///nonexistent.sock"])
            .await;
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("no Docker at unix:///nonexistent.sock"), "{refused:?}");
}
