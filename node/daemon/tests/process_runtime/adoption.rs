//! The end of shoal touches no task, and the next shoal knows them all.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use daemon::runtime::process::ProcessRuntime;
use daemon::runtime::{Owner, Report, Runtime};
use membership::id::NodeId;
use node::runtime::{ActionResult, ContainerHealth, ContainerState, Found};
use serde_json::{Value, json};

use crate::bench::{Bench, OWNER, alive, memory, sh, task, until};

const RUNNING: ContainerState = ContainerState::Running { health: ContainerHealth::None };

/// Plays shoal in a process of its own, for [`shoal_killed_after_starting`].
#[tokio::test]
async fn start_one_and_wait_to_be_killed() {
    let Ok(dir) = std::env::var("SHOAL_TEST_DATA_DIR") else { return };
    let mut bench = Bench::at(Path::new(&dir));
    let task = sh(&std::env::var("SHOAL_TEST_SCRIPT").unwrap());
    let found = bench.start(&task).await;
    use std::io::Write;
    writeln!(std::io::stdout(), "started {}", found.pid.unwrap()).unwrap();
    std::future::pending::<()>().await;
}

/// Gives the pid of a task whose shoal was ended by `kill -9`.
fn shoal_killed_after_starting(dir: &Path, script: &str) -> u32 {
    let mut shoal = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "adoption::start_one_and_wait_to_be_killed", "--nocapture"])
        .env("SHOAL_TEST_DATA_DIR", dir)
        .env("SHOAL_TEST_SCRIPT", script)
        .env("SHOAL_TOKEN", "a secret")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(shoal.stdout.take().unwrap()).lines().map_while(Result::ok);
    let pid = lines.filter_map(|line| line.strip_prefix("started ")?.parse().ok()).next();
    shoal.kill().unwrap();
    shoal.wait().unwrap();
    pid.expect("the other shoal started nothing")
}

async fn adopted(bench: &mut Bench) -> Found {
    let mut all = bench.list().await;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[tokio::test]
async fn tasks_survive_kill_9_and_are_adopted_and_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let script = "echo token=$SHOAL_TOKEN; echo before; while :; do sleep 0.1; done";
    let pid = shoal_killed_after_starting(dir.path(), script);
    assert!(alive(pid));
    let mut bench = Bench::at(dir.path());
    let found = adopted(&mut bench).await;
    assert_eq!((found.pid, found.state), (Some(pid), RUNNING));
    let log = std::fs::read_to_string(bench.dir_of(found.task).join("stdout.log")).unwrap();
    assert_eq!(log, "token=\nbefore\n", "nothing of shoal's own environment is handed down");
    assert_eq!(bench.stop(&found, 5_000).await, ActionResult::Stopped);
    assert!(!alive(pid));
}

/// What the next shoal must know of a task that it did not start: since when it has run, and that it is
/// being stopped. And a stop that knows no name for the task, for its start was never answered, finds it.
#[tokio::test]
async fn a_task_bears_its_start_and_a_stop_that_has_begun() {
    let dir = tempfile::tempdir().unwrap();
    let pid = shoal_killed_after_starting(dir.path(), "trap '' TERM; while :; do sleep 0.1; done");
    let mut bench = Bench::at(dir.path());
    let found = adopted(&mut bench).await;
    assert!(!found.stopping);
    let started = found.started.expect("it was written down");
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    assert!(u128::from(started.0) <= since && since - u128::from(started.0) < 60_000);
    // It does not hear the signal, so the stop lasts.
    let order = |grace| node::runtime::RuntimeAction::Stop {
        task: found.task,
        container: String::new(),
        grace: membership::time::Millis(grace),
    };
    bench.act(order(600_000));
    until("it is marked", || {
        let text = std::fs::read_to_string(bench.dir_of(found.task).join("task.json"));
        text.is_ok_and(|text| text.contains(r#""stopping":true"#))
    })
    .await;
    let mut next = Bench::at(dir.path());
    let again = adopted(&mut next).await;
    assert_eq!((again.stopping, again.started, again.state), (true, found.started, RUNNING));
    let id = next.act(order(0));
    assert_eq!(next.done(id).await, ActionResult::Stopped);
    assert!(!alive(pid));
}

#[tokio::test]
async fn the_end_of_an_adopted_task_is_seen_though_its_code_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let pid = shoal_killed_after_starting(dir.path(), "exec sleep 1000");
    let mut bench = Bench::at(dir.path());
    let found = adopted(&mut bench).await;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap()),
        nix::sys::signal::Signal::SIGKILL,
    )
    .unwrap();
    assert_eq!(bench.exit(found.task).await, -1);
    bench.clear().await;
}

/// The task ends while no shoal is there to see it.
#[tokio::test]
async fn a_task_that_ended_meanwhile_is_found_ended() {
    let dir = tempfile::tempdir().unwrap();
    let pid = shoal_killed_after_starting(dir.path(), "sleep 0.2");
    until("it ended", || !alive(pid)).await;
    let mut bench = Bench::at(dir.path());
    let found = adopted(&mut bench).await;
    if found.state == RUNNING {
        // Listed before the first look.
        assert_eq!(bench.exit(found.task).await, -1);
    } else {
        assert_eq!(found.state, ContainerState::Exited { code: -1, out_of_memory: false });
    }
    bench.clear().await;
}

fn edit_record(bench_dir: &Path, change: impl FnOnce(&mut Value)) {
    let entry = std::fs::read_dir(bench_dir.join("process")).unwrap().next().unwrap().unwrap();
    let path = entry.path().join("task.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    std::fs::write(&path, serde_json::to_vec(&record).unwrap()).unwrap();
}

/// As after a crash between the start of a process and the writing down of its pid.
#[tokio::test]
async fn a_process_that_was_not_written_down_is_found_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let pid = shoal_killed_after_starting(dir.path(), "exec sleep 1000");
    edit_record(dir.path(), |record| record["process"] = Value::Null);
    let mut bench = Bench::at(dir.path());
    let found = adopted(&mut bench).await;
    assert_eq!((found.pid, found.state), (Some(pid), RUNNING));
    bench.clear().await;
}

#[tokio::test]
async fn a_task_that_was_written_down_and_never_started_is_created_and_can_be_started() {
    let dir = tempfile::tempdir().unwrap();
    let task = task(json!({"Command": ["true"]}));
    let mut bench = Bench::at(dir.path());
    bench.start(&task).await;
    bench.exit(task.task).await;
    drop(bench);
    edit_record(dir.path(), |record| {
        record["process"] = Value::Null;
        record["exit"] = Value::Null;
    });
    let mut bench = Bench::at(dir.path());
    assert_eq!(adopted(&mut bench).await.state, ContainerState::Created);
    bench.start(&task).await;
    assert_eq!(bench.exit(task.task).await, 0);
    bench.clear().await;
}

/// Another process has the pid now: it is neither taken for the task nor killed with it.
#[tokio::test]
async fn a_pid_that_was_used_again_is_not_taken_for_the_task() {
    let dir = tempfile::tempdir().unwrap();
    let pid = shoal_killed_after_starting(dir.path(), "exec sleep 1000");
    for change in [
        |record: &mut Value| record["process"]["start_ticks"] = json!(1),
        |record: &mut Value| {
            record["boot"] = json!("another boot");
            record["exit"] = Value::Null;
        },
    ] {
        edit_record(dir.path(), change);
        let mut bench = Bench::at(dir.path());
        let found = adopted(&mut bench).await;
        if found.state == RUNNING {
            assert_eq!(bench.exit(found.task).await, -1);
        }
        assert!(alive(pid), "a stranger was killed");
    }
    let mut bench = Bench::at(dir.path());
    bench.clear().await;
    assert!(alive(pid), "a stranger was killed");
    // It is this test's own, after all.
    let group = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Ending the runtime inside one process: the same promise.
#[tokio::test]
async fn dropping_the_runtime_touches_no_task() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let found = bench.start(&sh("exec sleep 1000")).await;
    drop(bench);
    let mut bench = Bench::at(dir.path());
    assert_eq!(adopted(&mut bench).await, found);
    bench.clear().await;
}

#[tokio::test]
async fn tasks_of_another_node_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let found = bench.start(&sh("exec sleep 1000")).await;
    let other = Owner { node: NodeId(99), ..OWNER };
    let (stranger, mut reports) = ProcessRuntime::start(dir.path(), other, memory(other)).unwrap();
    stranger.act(node::runtime::ActionId(1), node::runtime::RuntimeAction::List);
    let listed = async {
        loop {
            if let Some(Report::Done { result, .. }) = reports.recv().await {
                return result;
            }
        }
    };
    assert_eq!(listed.await, ActionResult::Listed(Vec::new()));
    drop(stranger);
    assert!(alive(found.pid.unwrap()));
    bench.clear().await;
}
