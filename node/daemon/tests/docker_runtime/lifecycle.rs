//! What a container goes through.

use std::io::{Read, Write};
use std::net::TcpStream;

use daemon::api::backend::{LogOptions, LogSource};
use daemon::runtime::Runtime;
use futures_util::StreamExt;
use membership::id::TaskId;
use node::runtime::{ActionResult, ContainerHealth, ContainerState, Found, RuntimeEvent, label};
use node::slot::{PortStatus, Protocol};
use serde_json::json;

use crate::bench::{BOUND, Bench, IMAGE, docker, inspect, task, task_of};

const RUNNING: ContainerState = ContainerState::Running { health: ContainerHealth::None };

#[tokio::test]
async fn a_task_starts_is_listed_stops_and_is_gone() {
    let mut bench = Bench::new();
    bench.event("engine", |e| matches!(e, RuntimeEvent::EngineBack { .. })).await;
    let task = task(&["sleep", "1000"]);
    let found = bench.start(&task).await;
    assert_eq!((found.state, found.task, found.slot), (RUNNING, task.task, task.slot));
    assert_eq!(
        (found.epoch, found.template, found.created),
        (task.epoch, task.template, task.created)
    );
    let pid = inspect(&found.container, "{{.State.Pid}}").parse().unwrap();
    assert_eq!(inspect(&task.name, "{{.Id}}"), found.container);
    let labels = inspect(&found.container, "{{json .Config.Labels}}");
    for expected in [
        format!("\"{}\":\"{}\"", label::SWARM_TASK_ID, task.task),
        format!("\"{}\":\"{}\"", label::SWARM_NODE_ID, bench.owner.node),
        "\"team\":\"a\"".to_owned(),
    ] {
        assert!(labels.contains(&expected), "{expected} in {labels}");
    }
    // Its pid and when it began are not worth a question at the start; a listing has them.
    let listed = bench.list().await;
    assert!(listed[0].started.is_some());
    let expected = Found { pid: Some(pid), started: listed[0].started, ..found.clone() };
    assert_eq!(listed, [expected]);
    assert_eq!(bench.stop(task.task, &found.container, 0).await, ActionResult::Stopped);
    assert_eq!(bench.containers(), Vec::<String>::new());
    let gone =
        |e: &RuntimeEvent| matches!(e, RuntimeEvent::Removed { task: t, .. } if *t == task.task);
    bench.event("removal", gone).await;
    assert_eq!(bench.list().await, []);
    // A second stop finds nothing and is content.
    assert_eq!(bench.stop(task.task, &found.container, 0).await, ActionResult::Stopped);
}

#[tokio::test]
async fn the_end_of_a_container_is_reported_with_its_code() {
    let mut bench = Bench::new();
    let task = task(&["sh", "-c", "sleep 0.3; exit 3"]);
    let found = bench.start(&task).await;
    let state = bench.state(task.task, |s| matches!(s, ContainerState::Exited { .. })).await;
    assert_eq!(state, ContainerState::Exited { code: 3, out_of_memory: false });
    let listed = bench.list().await;
    assert_eq!((listed[0].state, listed[0].pid), (state, None));
    let remove =
        node::runtime::RuntimeAction::Remove { task: task.task, container: found.container };
    let id = bench.act(remove);
    assert_eq!(bench.done(id).await, ActionResult::Stopped);
    assert!(bench.containers().is_empty());
}

#[tokio::test]
async fn running_out_of_memory_is_reported_as_such() {
    let mut bench = Bench::new();
    let task = task_of(json!({
        "ContainerSpec": {"Image": IMAGE, "Command": ["sh", "-c", "x=a; while true; do x=$x$x; done"]},
        "Resources": {"Limits": {"MemoryBytes": 8 * 1024 * 1024}, "SwapBytes": 0}
    }));
    bench.start(&task).await;
    let state = bench.state(task.task, |s| matches!(s, ContainerState::Exited { .. })).await;
    assert_eq!(state, ContainerState::Exited { code: 137, out_of_memory: true });
}

#[tokio::test]
async fn health_is_followed_from_starting_over_healthy_to_unhealthy() {
    let mut bench = Bench::new();
    let second = 1_000_000_000u64;
    let task = task_of(json!({"ContainerSpec": {
        "Image": IMAGE,
        "Command": ["sh", "-c", "touch /tmp/well; sleep 1000"],
        "Healthcheck": {"Test": ["CMD-SHELL", "test -f /tmp/well"], "Interval": second / 2, "Retries": 2}
    }}));
    let found = bench.start(&task).await;
    let health = |wanted| move |s| s == ContainerState::Running { health: wanted };
    assert!(health(ContainerHealth::Starting)(found.state), "{:?}", found.state);
    bench.state(task.task, health(ContainerHealth::Healthy)).await;
    docker(&["exec", &found.container, "rm", "/tmp/well"]);
    bench.state(task.task, health(ContainerHealth::Unhealthy)).await;
}

#[tokio::test]
async fn what_people_do_to_a_container_is_noticed() {
    let mut bench = Bench::new();
    let task = task(&["sleep", "1000"]);
    let found = bench.start(&task).await;
    docker(&["pause", &found.container]);
    bench.state(task.task, |s| s == ContainerState::Paused).await;
    docker(&["unpause", &found.container]);
    bench.state(task.task, |s| s == RUNNING).await;
    docker(&["rm", "-f", &found.container]);
    let gone = |e: &RuntimeEvent| matches!(e, RuntimeEvent::Removed { container, .. } if *container == found.container);
    bench.event("removal", gone).await;
}

#[tokio::test]
async fn a_paused_container_can_be_stopped() {
    let mut bench = Bench::new();
    let task = task(&["sleep", "1000"]);
    let found = bench.start(&task).await;
    docker(&["pause", &found.container]);
    assert_eq!(bench.stop(task.task, &found.container, 100).await, ActionResult::Stopped);
    assert!(bench.containers().is_empty());
}

#[tokio::test]
async fn the_stop_signal_of_the_spec_is_used_and_the_grace_is_given() {
    let mut bench = Bench::new();
    let script = "trap 'echo got INT; sleep 1; echo finished; exit 0' INT; echo ready; while :; do sleep 0.1; done";
    let task = task_of(json!({"ContainerSpec": {
        "Image": IMAGE, "Command": ["sh", "-c", script], "StopSignal": "SIGINT"
    }}));
    let found = bench.start(&task).await;
    let options = LogOptions {
        stdout: true,
        stderr: true,
        follow: true,
        since: None,
        until: None,
        tail: None,
    };
    let mut lines = bench.runtime.logs(task.task, options);
    assert_eq!(lines.next().await.unwrap().unwrap().line, b"ready\n");
    assert_eq!(bench.stop(task.task, &found.container, 20_000).await, ActionResult::Stopped);
    let rest = lines.map(|line| String::from_utf8(line.unwrap().line).unwrap()).collect::<Vec<_>>();
    assert_eq!(tokio::time::timeout(BOUND, rest).await.unwrap(), ["got INT\n", "finished\n"]);
}

#[tokio::test]
async fn logs_are_cut_as_asked() {
    let mut bench = Bench::new();
    let script = "echo one; echo two >&2; echo three; sleep 0.2; echo four";
    let task = task(&["sh", "-c", script]);
    bench.start(&task).await;
    bench.state(task.task, |s| matches!(s, ContainerState::Exited { .. })).await;
    let all = LogOptions {
        stdout: true,
        stderr: true,
        follow: false,
        since: None,
        until: None,
        tail: None,
    };
    let read = async |options: LogOptions| {
        let frames = bench.runtime.logs(task.task, options).collect::<Vec<_>>();
        let frames = tokio::time::timeout(BOUND, frames).await.unwrap();
        frames.into_iter().map(Result::unwrap).collect::<Vec<_>>()
    };
    let text = |frames: &[daemon::api::backend::LogFrame]| {
        frames
            .iter()
            .map(|f| String::from_utf8_lossy(&f.line).trim().to_owned())
            .collect::<Vec<_>>()
    };
    let frames = read(all.clone()).await;
    let mut sorted = text(&frames);
    sorted.sort();
    assert_eq!(sorted, ["four", "one", "three", "two"]);
    assert!(
        frames.iter().all(|f| f.timestamp.len() == 30 && f.timestamp.ends_with('Z')),
        "{frames:?}"
    );
    let of = frames.iter().find(|f| f.line == b"two\n").unwrap();
    assert_eq!(of.source, LogSource::Stderr);
    assert_eq!(
        text(&read(LogOptions { stderr: false, ..all.clone() }).await),
        ["one", "three", "four"]
    );
    assert_eq!(text(&read(LogOptions { tail: Some(1), ..all.clone() }).await), ["four"]);
    // Between the third and the fourth line lie 200 ms: the cut is finer than a second.
    let stamp = &frames.iter().find(|f| f.line == b"four\n").unwrap().timestamp;
    let ms = date_ms(stamp) - 100;
    let later = LogOptions { since: Some(membership::time::Wall(ms)), ..all.clone() };
    assert_eq!(text(&read(later).await), ["four"]);
    let earlier = LogOptions { until: Some(membership::time::Wall(ms)), ..all };
    assert_eq!(read(earlier).await.len(), 3);
}

/// Milliseconds since the epoch, by the `date` command.
fn date_ms(stamp: &str) -> u64 {
    let out = std::process::Command::new("date").args(["-d", stamp, "+%s%3N"]).output().unwrap();
    String::from_utf8(out.stdout).unwrap().trim().parse().unwrap()
}

#[tokio::test]
async fn logs_of_a_task_that_is_not_here_say_so() {
    let bench = Bench::new();
    let all = LogOptions {
        stdout: true,
        stderr: true,
        follow: true,
        since: None,
        until: None,
        tail: None,
    };
    let frames = bench.runtime.logs(TaskId(5), all).collect::<Vec<_>>().await;
    assert!(matches!(&frames[..], [Err(why)] if why.0.contains("not here any more")), "{frames:?}");
}

#[tokio::test]
async fn published_ports_are_open_and_reported() {
    let mut bench = Bench::new();
    let script = "echo hello > /tmp/index.html; httpd -f -p 80 -h /tmp";
    let mut task = task(&["sh", "-c", script]);
    task.ports = vec![PortStatus { protocol: Protocol::Tcp, target: 80, published: 0 }];
    let found = bench.start(&task).await;
    let [ref port] = found.ports[..] else { panic!("{:?}", found.ports) };
    assert_eq!(port.target, 80);
    let fetch = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", port.published))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    // The server needs a moment after its container runs.
    let begun = std::time::Instant::now();
    let text = loop {
        match fetch() {
            Ok(text) if !text.is_empty() => break text,
            _ if begun.elapsed() < BOUND => tokio::task::yield_now().await,
            other => panic!("{other:?}"),
        }
    };
    assert!(text.ends_with("hello\n"), "{text}");
}

/// The engine, not our own reading of the request, says what it made of it.
#[tokio::test]
async fn the_engine_honours_what_the_spec_takes_away_and_gives() {
    let mut bench = Bench::new();
    let task = task_of(json!({
        "ContainerSpec": {
            "Image": IMAGE, "Command": ["sleep"], "Args": ["1000"], "User": "1000:1000",
            "Env": ["A=1"], "Dir": "/tmp", "Hostname": "name-of-mine", "ReadOnly": true, "Init": true,
            "CapabilityDrop": ["ALL"], "CapabilityAdd": ["CAP_CHOWN"], "Groups": ["7"],
            "Privileges": {"NoNewPrivileges": true}, "Hosts": ["10.1.2.3 friend"],
            "Sysctls": {"net.ipv4.ip_default_ttl": "33"},
            "Ulimits": [{"Name": "nofile", "Soft": 99, "Hard": 101}],
            "DNSConfig": {"Nameservers": ["9.9.9.9"]},
            "Mounts": [
                {"Type": "tmpfs", "Target": "/scratch", "TmpfsOptions": {"SizeBytes": 65536}},
                {"Type": "bind", "Source": "/etc/hostname", "Target": "/host-name", "ReadOnly": true},
                {"Type": "volume", "Target": "/data"}
            ]
        },
        "Resources": {"Limits": {"MemoryBytes": 33554432, "NanoCPUs": 500000000, "Pids": 20},
                      "Reservations": {"MemoryBytes": 16777216}},
        "LogDriver": {"Name": "json-file", "Options": {"max-size": "1m"}}
    }));
    let found = bench.start(&task).await;
    let inside = |script: &str| docker(&["exec", &found.container, "sh", "-c", script]);
    assert_eq!(
        inside("id -u; id -g; id -G; echo $A; pwd; hostname"),
        "1000\n1000\n1000 7\n1\n/tmp\nname-of-mine"
    );
    assert_eq!(inside("touch /x 2>/dev/null && echo written || echo refused"), "refused");
    assert_eq!(
        inside("echo x > /host-name 2>/dev/null && echo written || echo refused"),
        "refused"
    );
    assert_eq!(
        inside(
            "awk '/open files/ {print $4, $5}' /proc/1/limits; cat /proc/sys/net/ipv4/ip_default_ttl"
        ),
        "99 101\n33"
    );
    assert_eq!(inside("grep -c friend /etc/hosts; grep -c 9.9.9.9 /etc/resolv.conf"), "1\n1");
    // Of all capabilities CAP_CHOWN (bit 0) is in the bounding set.
    assert_eq!(inside("grep CapBnd /proc/1/status | cut -f2"), "0000000000000001");
    assert_eq!(inside("grep NoNewPrivs /proc/1/status | cut -f2"), "1");
    assert_eq!(
        inspect(
            &found.container,
            "{{.HostConfig.Memory}} {{.HostConfig.MemoryReservation}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}} {{index .HostConfig.LogConfig.Config \"max-size\"}} [{{.HostConfig.RestartPolicy.Name}}]"
        ),
        "33554432 16777216 500000000 20 1m []"
    );
    let volume = inspect(
        &found.container,
        "{{range .Mounts}}{{if eq .Type \"volume\"}}{{.Name}}{{end}}{{end}}",
    );
    assert!(!volume.is_empty());
    assert_eq!(bench.stop(task.task, &found.container, 0).await, ActionResult::Stopped);
    // The anonymous volume went with its container.
    let left = docker(&["volume", "ls", "-q"]);
    assert!(!left.lines().any(|name| name == volume), "{left}");
}

#[tokio::test]
async fn the_host_describes_itself() {
    let bench = Bench::new();
    let host = bench.runtime.host().await.unwrap();
    let info = docker(&[
        "info",
        "--format",
        "{{.NCPU}} {{.MemTotal}} {{.ServerVersion}} {{.Architecture}} {{.Name}}",
    ]);
    let told = format!(
        "{} {} {} {} {}",
        host.capacity.cpu_milli / 1000,
        host.capacity.memory_bytes,
        host.engine_version,
        host.arch,
        host.hostname
    );
    assert_eq!(told, info);
    assert_eq!(host.os, "linux");
}
