//! The unmodified docker CLI against the API: what people type, and what it prints.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use membership::member::MemberState;
use tokio::process::Command;

use crate::server::Server;

/// The CLI waits five seconds for a service to stay up before it calls it converged.
const CLI_TIME: Duration = Duration::from_secs(60);

struct Output {
    code: i32,
    out: String,
    err: String,
}

async fn docker(socket: &Path, args: &[&str]) -> Output {
    let mut command = Command::new("docker");
    command
        .arg("-H")
        .arg(format!("unix://{}", socket.display()))
        .args(args)
        .env_remove("DOCKER_HOST")
        .env_remove("DOCKER_CONTEXT")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(CLI_TIME, command.output())
        .await
        .unwrap_or_else(|_| panic!("docker {args:?} hangs"))
        .expect("the docker CLI is on the PATH");
    Output {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs it, expects success, and gives what it printed.
async fn ok(socket: &Path, args: &[&str]) -> String {
    let output = docker(socket, args).await;
    assert_eq!(output.code, 0, "docker {args:?}: {} {}", output.out, output.err);
    output.out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_service() {
    let server = Server::start().await;
    let s = server.socket.as_path();
    let created =
        ok(s, &["service", "create", "--name", "web", "--replicas", "3", "busybox", "sleep", "9"])
            .await;
    assert!(created.contains("converged"), "{created}");

    let ls = ok(s, &["service", "ls"]).await;
    assert!(ls.contains("web") && ls.contains("replicated") && ls.contains("3/3"), "{ls}");
    let ps = ok(s, &["service", "ps", "web"]).await;
    assert!(ps.contains("web.3") && ps.contains("alpha") && ps.contains("Running"), "{ps}");
    let pretty = ok(s, &["service", "inspect", "--pretty", "web"]).await;
    assert!(pretty.contains("busybox:latest") && pretty.contains("Replicas:\t3"), "{pretty}");
    assert_eq!(ok(s, &["inspect", "--format", "{{.Spec.Name}}", "web"]).await.trim(), "web");

    let scaled = ok(s, &["service", "scale", "web=5"]).await;
    assert!(scaled.contains("converged"), "{scaled}");
    assert!(ok(s, &["service", "ls"]).await.contains("5/5"));

    let updated = ok(s, &["service", "update", "--env-add", "A=1", "web"]).await;
    assert!(updated.contains("converged"), "{updated}");
    let ps = ok(s, &["service", "ps", "web"]).await;
    assert!(ps.contains(" \\_ web.1") && ps.contains("Shutdown"), "{ps}");

    let rolled = ok(s, &["service", "rollback", "web"]).await;
    assert!(rolled.contains("rollback completed") || rolled.contains("converged"), "{rolled}");
    let env = ok(
        s,
        &["service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Env}}", "web"],
    )
    .await;
    assert_eq!(env.trim(), "[]");

    assert_eq!(ok(s, &["service", "rm", "web"]).await.trim(), "web");
    let gone = docker(s, &["service", "ps", "web"]).await;
    assert!(gone.err.contains("no such service: web"), "{}", gone.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_job() {
    let server = Server::start().await;
    let s = server.socket.as_path();
    let job = ["service", "create", "--name", "job", "--mode", "replicated-job"];
    let flags = ["--replicas", "5", "--max-concurrent", "2", "busybox", "true"];
    let created = ok(s, &[&job[..], &flags].concat()).await;
    assert!(created.contains("job complete"), "{created}");
    let ls = ok(s, &["service", "ls"]).await;
    assert!(ls.contains("replicated job") && ls.contains("0/2 (5/5 completed)"), "{ls}");
    let ps = ok(s, &["service", "ps", "job"]).await;
    assert_eq!(ps.lines().filter(|line| line.contains("Complete ")).count(), 5, "{ps}");
    // It has no word for the mode of a job here, and must not stumble over it.
    assert!(ok(s, &["service", "inspect", "--pretty", "job"]).await.contains("Service Mode:"));

    let iteration = ["service", "inspect", "--format", "{{.JobStatus.JobIteration.Index}}", "job"];
    assert_eq!(ok(s, &iteration).await.trim(), "0");
    let again = ok(s, &["service", "update", "--force", "job"]).await;
    assert!(again.contains("job complete"), "{again}");
    assert_eq!(ok(s, &iteration).await.trim(), "1");
    let scaled = ok(s, &["service", "scale", "job=7"]).await;
    assert!(scaled.contains("job complete"), "{scaled}");
    assert!(ok(s, &["service", "ls"]).await.contains("(7/7 completed)"));

    let everywhere = ["service", "create", "--name", "all", "--mode", "global-job", "busybox"];
    assert!(ok(s, &everywhere).await.contains("job complete"));
    let ls = ok(s, &["service", "ls", "--filter", "mode=global-job"]).await;
    assert!(ls.contains("global job") && ls.contains("(3/3 completed)"), "{ls}");
    assert!(!ls.contains("replicated job"), "{ls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_a_service_are_tagged_by_the_cli() {
    let server = Server::start().await;
    let s = server.socket.as_path();
    ok(s, &["service", "create", "-d", "--name", "web", "--replicas", "2", "busybox"]).await;
    let logs = docker(s, &["service", "logs", "web"]).await;
    assert_eq!(logs.code, 0, "{}", logs.err);
    assert!(
        logs.out.contains("web.1.")
            && logs.out.contains("@beta")
            && logs.out.contains("| hello from"),
        "{}",
        logs.out
    );
    assert!(logs.err.contains("| a complaint"), "{}", logs.err);
    let raw = ok(s, &["service", "logs", "--raw", "--tail", "2", "web"]).await;
    assert!(raw.starts_with("hello from"), "{raw}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_the_swarm_and_the_host() {
    let server = Server::start().await;
    let s = server.socket.as_path();
    let ls = ok(s, &["node", "ls"]).await;
    assert!(ls.contains(" * ") && ls.contains("gamma") && ls.contains("Reachable"), "{ls}");
    ok(s, &["node", "update", "--availability", "drain", "--label-add", "rack=r1", "beta"]).await;
    assert!(ok(s, &["node", "ls"]).await.contains("Drain"));
    let pretty = ok(s, &["node", "inspect", "--pretty", "beta"]).await;
    assert!(pretty.contains("rack=r1") && pretty.contains("Drain"), "{pretty}");
    ok(s, &["node", "ps", "self"]).await;
    let refused = docker(s, &["node", "rm", "--force", "gamma"]).await;
    assert!(refused.err.contains("is not down and can't be removed"), "{}", refused.err);
    server.fake.world().members[2].state = MemberState::Down;
    assert_eq!(ok(s, &["node", "rm", "gamma"]).await.trim(), "gamma");

    let info = ok(s, &["info"]).await;
    assert!(info.contains("Swarm: active") && info.contains("Nodes: 2"), "{info}");
    assert!(ok(s, &["version"]).await.contains("shoal"));
    assert!(ok(s, &["swarm", "join-token", "worker"]).await.contains("SHOAL-1-secret"));
    assert_eq!(ok(s, &["secret", "ls", "-q"]).await, "");
    assert_eq!(ok(s, &["config", "ls", "-q"]).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_reach_the_person_in_words() {
    let server = Server::start().await;
    let s = server.socket.as_path();
    let port =
        docker(s, &["service", "create", "-d", "--name", "web", "-p", "80:80", "busybox"]).await;
    assert_eq!(port.code, 1);
    assert!(port.err.contains("--publish mode=host,target=80,published=80"), "{}", port.err);
    let bad = docker(s, &["service", "create", "-d", "--constraint", "node.role", "busybox"]).await;
    assert!(bad.err.contains("constraint expected one operator"), "{}", bad.err);
    let unknown = docker(s, &["inspect", "nothing-of-this-name"]).await;
    assert!(unknown.err.contains("No such object"), "{}", unknown.err);
    let init = docker(s, &["swarm", "init"]).await;
    assert!(init.err.contains("This node is already part of a swarm"), "{}", init.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_with_until() {
    let server = Server::start().await;
    let s = server.socket.as_path();
    ok(s, &["service", "create", "-d", "--name", "web", "busybox"]).await;
    let events = ok(s, &["events", "--since", "1h", "--until=-2s"]).await;
    assert!(events.contains("service create") && events.contains("name=web"), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_and_configs() {
    let server = Server::start().await;
    let s = server.socket.as_path();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "hunter2").unwrap();
    let file = file.to_str().unwrap();
    ok(s, &["secret", "create", "--label", "a=b", "key", file]).await;
    ok(s, &["config", "create", "site", file]).await;
    assert!(ok(s, &["secret", "ls"]).await.contains("key"));
    let secret = ok(s, &["secret", "inspect", "--pretty", "key"]).await;
    assert!(secret.contains("a=b") && !secret.contains("hunter2"), "{secret}");
    assert!(ok(s, &["config", "inspect", "--pretty", "site"]).await.contains("hunter2"));
    let twice = docker(s, &["config", "create", "site", file]).await;
    assert!(twice.err.contains("config site already exists"), "{}", twice.err);

    // The CLI looks the names up and sends ids.
    let create = [
        "service",
        "create",
        "-d",
        "--name",
        "web",
        "--secret",
        "key",
        "--config",
        "source=site,target=/etc/site,uid=5,mode=0400",
        "busybox",
    ];
    ok(s, &create).await;
    let format = "{{json .Spec.TaskTemplate.ContainerSpec}}";
    let spec = ok(s, &["service", "inspect", "--format", format, "web"]).await;
    assert!(spec.contains("\"SecretName\":\"key\"") && spec.contains("\"UID\":\"5\""), "{spec}");
    let missing = docker(s, &["service", "create", "-d", "--secret", "none", "busybox"]).await;
    assert!(missing.err.contains("secret not found: none"), "{}", missing.err);
    assert_eq!(ok(s, &["config", "rm", "site"]).await.trim(), "site");
    let gone = docker(s, &["secret", "inspect", "nothing"]).await;
    assert!(gone.err.contains("no such secret") || gone.err.contains("not found"), "{}", gone.err);
}
