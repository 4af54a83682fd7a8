//! What a task goes through.

use daemon::api::backend::{LogOptions, LogSource};
use daemon::runtime::Runtime;
use futures_util::StreamExt;
use node::runtime::{ActionResult, ContainerHealth, ContainerState, RuntimeEvent, StartFailure};
use node::slot::{PortStatus, Protocol};
use serde_json::json;

use crate::bench::{Bench, alive, sh, task, until};

const RUNNING: ContainerState = ContainerState::Running { health: ContainerHealth::None };

#[tokio::test]
async fn a_task_starts_is_listed_stops_and_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    bench.event("begin", |e| matches!(e, RuntimeEvent::EngineBack { .. })).await;
    let mut task = sh("exec sleep 1000");
    task.ports = vec![PortStatus { protocol: Protocol::Tcp, target: 80, published: 8080 }];
    let found = bench.start(&task).await;
    assert_eq!((found.task, found.slot, found.state), (task.task, task.slot, RUNNING));
    assert_eq!(
        (found.epoch, found.template, found.created),
        (task.epoch, task.template, task.created)
    );
    assert_eq!(found.ports[0].published, 80, "nothing maps ports here");
    let pid = found.pid.unwrap();
    assert!(alive(pid));
    assert_eq!(bench.list().await, std::slice::from_ref(&found));
    assert_eq!(bench.start(&task).await, found, "a second start finds the first");
    assert_eq!(bench.stop(&found, 10_000).await, ActionResult::Stopped);
    assert!(!alive(pid) && !bench.dir_of(task.task).exists());
    bench
        .event("removal", |e| matches!(e, RuntimeEvent::Removed { task: t, .. } if *t == task.task))
        .await;
    assert_eq!(bench.list().await, []);
    assert_eq!(bench.stop(&found, 0).await, ActionResult::Stopped);
}

#[tokio::test]
async fn the_end_of_a_task_is_reported_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    for (script, code) in [("exit 3", 3), ("exit 0", 0), ("kill -9 $$", 137)] {
        let task = sh(script);
        bench.start(&task).await;
        assert_eq!(bench.exit(task.task).await, code, "{script}");
    }
    bench.clear().await;
    assert_eq!(std::fs::read_dir(bench.runtime.dir()).unwrap().count(), 0);
}

/// A container ends with its first process, and so does a task, whatever it has started.
#[tokio::test]
async fn nothing_of_a_task_outlives_its_first_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let task = sh("sleep 1000 & echo $!; exit 5");
    bench.start(&task).await;
    assert_eq!(bench.exit(task.task).await, 5);
    let left: u32 = bench.output(task.task).await.trim().parse().unwrap();
    until("the rest of the group is gone", || !alive(left)).await;
    bench.clear().await;
}

#[tokio::test]
async fn the_stop_signal_is_sent_first_and_what_ignores_it_is_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let mark = dir.path().join("mark");
    let polite = task(json!({
        "Command": ["sh", "-c", format!("trap 'echo bye > {}; exit 0' USR1; echo ready; while :; do sleep 0.1; done", mark.display())],
        "StopSignal": "SIGUSR1"
    }));
    let deaf = sh("trap '' TERM; echo ready; while :; do sleep 0.1; done");
    for (task, grace) in [(&polite, 20_000), (&deaf, 200)] {
        let found = bench.start(task).await;
        let log = bench.dir_of(task.task).join("stdout.log");
        until("the trap is set", || std::fs::read(&log).is_ok_and(|text| text == b"ready\n")).await;
        assert_eq!(bench.stop(&found, grace).await, ActionResult::Stopped);
        assert!(!alive(found.pid.unwrap()));
    }
    assert_eq!(std::fs::read_to_string(mark).unwrap(), "bye\n");
}

#[tokio::test]
async fn health_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let well = dir.path().join("well");
    std::fs::write(&well, "").unwrap();
    let task = task(json!({
        "Command": ["sleep", "1000"],
        "Healthcheck": {"Test": ["CMD", "test", "-e", well.to_str().unwrap()],
                        "Interval": 50_000_000, "Retries": 2}
    }));
    let found = bench.start(&task).await;
    let health = |wanted| move |s| s == ContainerState::Running { health: wanted };
    assert!(health(ContainerHealth::Starting)(found.state));
    bench.state(task.task, health(ContainerHealth::Healthy)).await;
    std::fs::remove_file(&well).unwrap();
    bench.state(task.task, health(ContainerHealth::Unhealthy)).await;
    bench.clear().await;
}

/// A check that hangs is a check that fails, and is ended.
#[tokio::test]
async fn a_health_check_that_hangs_fails() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let task = task(json!({
        "Command": ["sleep", "1000"],
        "Healthcheck": {"Test": ["CMD-SHELL", "sleep 1000"],
                        "Interval": 20_000_000, "Timeout": 50_000_000, "Retries": 1}
    }));
    bench.start(&task).await;
    let unhealthy = ContainerState::Running { health: ContainerHealth::Unhealthy };
    bench.state(task.task, |s| s == unhealthy).await;
    bench.clear().await;
}

#[tokio::test]
async fn output_is_kept_and_followed() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let go_on = dir.path().join("go-on");
    let script = format!(
        "echo one; echo two; echo err >&2; while [ ! -e {} ]; do sleep 0.05; done; echo three; printf end",
        go_on.display()
    );
    let task = sh(&script);
    bench.start(&task).await;
    let all = LogOptions {
        stdout: true,
        stderr: true,
        follow: true,
        since: None,
        until: None,
        tail: None,
    };
    let mut lines = bench.runtime.logs(task.task, all.clone());
    let mut next = async || {
        let frame = lines.next().await.unwrap().unwrap();
        assert_eq!(frame.timestamp.len(), 30);
        (frame.source, String::from_utf8(frame.line).unwrap())
    };
    let mut first =
        [next().await, next().await, next().await].map(|(s, l)| (s == LogSource::Stderr, l));
    first.sort();
    assert_eq!(first.map(|(_, line)| line), ["one\n", "two\n", "err\n"]);
    std::fs::write(&go_on, "").unwrap();
    assert_eq!(next().await, (LogSource::Stdout, "three\n".into()));
    assert_eq!(next().await, (LogSource::Stdout, "end".into()));
    assert!(lines.next().await.is_none(), "the stream ends with the task");
    bench.exit(task.task).await;
    let last = LogOptions { stderr: false, follow: false, tail: Some(2), ..all };
    let lines =
        bench.runtime.logs(task.task, last).map(|f| f.unwrap().line).collect::<Vec<_>>().await;
    assert_eq!(lines, [b"three\n".to_vec(), b"end".to_vec()]);
    bench.clear().await;
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let cases = [
        (
            json!({"Command": ["/no/such/program"]}),
            StartFailure::DidNotStart,
            "'/no/such/program' cannot be run",
        ),
        (
            json!({"Command": ["true"], "Dir": "/no/such/dir"}),
            StartFailure::DidNotStart,
            "cannot be run",
        ),
        (json!({"Image": "nginx"}), StartFailure::BadSpec, "ContainerSpec.Command: it is missing"),
        (json!({"Command": ["true"], "ReadOnly": true}), StartFailure::BadSpec, "does not isolate"),
        (json!({"Command": "true"}), StartFailure::BadSpec, "'true' is not a list"),
    ];
    for (spec, why, text) in cases {
        let (found, message) = bench.start_fails(&task(spec)).await;
        assert_eq!(found, why, "{message}");
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(bench.list().await, []);
    assert_eq!(std::fs::read_dir(bench.runtime.dir()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_task_has_the_environment_the_directory_and_the_user_of_its_spec() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = Bench::at(dir.path());
    let spec = json!({"Command": ["sh", "-c"], "Args": ["echo $A $SHOAL_TASK_ID; pwd; id -u"],
                      "Env": ["A=b=c"], "Dir": "/tmp", "User": nix::unistd::geteuid().to_string() + ":" + &nix::unistd::getegid().to_string()});
    let plain = task(spec);
    bench.start(&plain).await;
    let me = nix::unistd::geteuid();
    assert_eq!(bench.output(plain.task).await, format!("b=c {}\n/tmp\n{me}\n", plain.task));
    if me.is_root() {
        let other = task(
            json!({"Command": ["sh", "-c", "id -u; id -g; id -G; pwd"], "User": "65534:65533"}),
        );
        bench.start(&other).await;
        assert_eq!(bench.output(other.task).await, "65534\n65533\n65533\n/\n");
    }
    // Its own directory, which goes with it.
    let at_home = sh("pwd");
    bench.start(&at_home).await;
    let work = bench.dir_of(at_home.task).join("cwd");
    assert_eq!(
        bench.output(at_home.task).await.trim(),
        work.canonicalize().unwrap().to_str().unwrap()
    );
    bench.clear().await;
}

#[tokio::test]
async fn the_host_describes_itself() {
    let dir = tempfile::tempdir().unwrap();
    let host = Bench::at(dir.path()).runtime.host().await.unwrap();
    assert!(host.capacity.cpu_milli >= 1000);
    assert_eq!(host.os, "linux");
}
