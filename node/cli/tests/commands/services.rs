//! `shoal service …`

use membership::id::NodeId;
use node::slot::TaskState;
use serde_json::json;

use crate::run::Server;

#[tokio::test(flavor = "multi_thread")]
async fn the_life_of_a_service() {
    let server = Server::start().await;
    let created = server
        .run(&["service", "create", "--name", "web", "--replicas", "3", "busybox", "sleep", "9"])
        .await;
    assert_eq!(created.code, 0, "{created:?}");
    assert_eq!(created.out.trim().len(), 25, "the id alone is on standard output: {created:?}");
    assert!(created.err.contains("web: 3 of 3 running"), "{created:?}");

    let ls = server.ok(&["service", "ls"]).await;
    assert!(ls.contains("3/3") && ls.contains("busybox:latest"), "{ls}");
    let ps = server.ok(&["service", "ps", "web"]).await;
    assert!(ps.contains("web.3") && ps.contains("gamma") == ps.contains("web.2"), "{ps}");

    assert_eq!(server.ok(&["service", "scale", "web=5"]).await.trim(), "web scaled to 5");
    assert!(server.ok(&["service", "ls"]).await.contains("5/5"));

    server.ok(&["service", "update", "--env-add", "A=1", "--args", "sleep 5", "web"]).await;
    let inspected = server.run(&["service", "inspect", "web"]).await.json();
    let container = &inspected[0]["Spec"]["TaskTemplate"]["ContainerSpec"];
    assert_eq!((&container["Env"], &container["Args"]), (&json!(["A=1"]), &json!(["sleep", "5"])));
    let ps = server.ok(&["service", "ps", "web"]).await;
    assert!(ps.contains(" \\_ web.1") && ps.contains("Shutdown"), "{ps}");

    server.ok(&["service", "rollback", "web"]).await;
    let pretty = server.ok(&["service", "inspect", "--pretty", "web"]).await;
    assert!(pretty.contains("Arguments: sleep 9") && !pretty.contains("Environment"), "{pretty}");
    assert_eq!(server.ok(&["service", "rm", "web"]).await.trim(), "web");
    assert_eq!(server.run(&["service", "ls", "--format", "json"]).await.json(), json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_read_json() {
    let server = Server::start().await;
    server.ok(&["service", "create", "-d", "--name", "web", "--replicas", "2", "busybox"]).await;
    let ls = server.run(&["service", "ls", "--format", "json"]).await.json();
    assert_eq!(ls[0]["name"], "web");
    assert_eq!((&ls[0]["running"], &ls[0]["desired"]), (&json!(2), &json!(2)));
    let ps = server.run(&["service", "ps", "--format", "json", "web"]).await.json();
    assert_eq!(ps.as_array().unwrap().len(), 2);
    assert_eq!(ps[0]["name"], "web.1");
    assert_eq!(ps[0]["node"], "beta");
    assert_eq!(ps[0]["state"], "running");
    let filtered =
        server.run(&["service", "ps", "-f", "node=beta", "--format", "json", "web"]).await.json();
    assert_eq!(filtered.as_array().unwrap().len(), 1);
    assert_eq!(server.ok(&["service", "ls", "-q"]).await.trim().len(), 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_run_says_why() {
    let server = Server::start().await;
    server.fake.world().full = true;
    let created = server
        .run(&[
            "service",
            "create",
            "--name",
            "web",
            "--replicas",
            "2",
            "--timeout",
            "500ms",
            "busybox",
        ])
        .await;
    assert_eq!(created.code, 3, "{created:?}");
    assert!(
        created.err.contains(
            "0 of 2 running (2 pending: no suitable node (insufficient resources on 3 nodes))"
        ),
        "{created:?}"
    );
    assert!(created.err.contains("shoal service ps web"), "{created:?}");
    let ps = server.ok(&["service", "ps", "web"]).await;
    assert!(ps.contains("Pending") && ps.contains("insufficient resources"), "{ps}");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_in_the_words_that_were_typed() {
    let server = Server::start().await;
    let port = server.run(&["service", "create", "-p", "8080:80", "busybox"]).await;
    assert_eq!(port.code, 1);
    assert!(port.err.contains("--publish mode=host,target=80,published=8080"), "{port:?}");
    assert!(server.fake.world().commands.is_empty());
    let unknown = server.run(&["service", "scale", "nope=3"]).await;
    assert_eq!((unknown.code, unknown.err.as_str()), (1, "shoal: service nope not found\n"));
    let global =
        server.run(&["service", "create", "--mode", "global", "--replicas", "2", "x"]).await;
    assert_eq!(global.code, 2, "{global:?}");
    server.ok(&["service", "create", "-d", "--name", "agent", "--mode", "global", "x"]).await;
    let scaled = server.run(&["service", "scale", "agent=2"]).await;
    assert!(scaled.err.contains("agent is a global service"), "{scaled:?}");
    let both = server.run(&["service", "rm", "nope", "agent"]).await;
    assert_eq!((both.code, both.out.as_str()), (1, "agent\n"), "it goes on after a refusal");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_somebody_else_is_kept() {
    let server = Server::start().await;
    server.ok(&["service", "create", "-d", "--name", "web", "busybox"]).await;
    // Ten edits at once: each is made on top of the others.
    let edits = (0..5).map(|n| {
        let label = format!("l{n}=x");
        let server = &server;
        async move { server.run(&["service", "update", "-d", "--label-add", &label, "web"]).await }
    });
    for done in futures_util::future::join_all(edits).await {
        assert_eq!(done.code, 0, "{done:?}");
    }
    let spec = server.run(&["service", "inspect", "web"]).await.json();
    assert_eq!(spec[0]["Spec"]["Labels"].as_object().unwrap().len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_are_removed_by_target_whatever_their_mode() {
    let server = Server::start().await;
    let ports = ["-p", "mode=host,target=80,published=8080", "-p", "mode=host,target=81"];
    server
        .ok(&[&["service", "create", "-d", "--name", "web"], &ports[..], &["busybox"]].concat())
        .await;
    server.ok(&["service", "update", "-d", "--publish-rm", "80", "web"]).await;
    let spec = server.run(&["service", "inspect", "web"]).await.json();
    let left = &spec[0]["Spec"]["EndpointSpec"]["Ports"];
    assert_eq!((left.as_array().unwrap().len(), &left[0]["TargetPort"]), (1, &json!(81)));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_tagged_with_replica_and_host() {
    let server = Server::start().await;
    server.ok(&["service", "create", "-d", "--name", "web", "--replicas", "2", "busybox"]).await;
    let logs = server.run(&["service", "logs", "web"]).await;
    assert_eq!(logs.code, 0, "{logs:?}");
    let mut lines: Vec<&str> = logs.out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines.len(), 2);
    assert!(lines[0].starts_with("web.1@beta | hello from "), "{lines:?}");
    assert!(lines[1].starts_with("web.2@gamma | hello from "), "{lines:?}");
    assert!(logs.err.contains("web.1@beta | a complaint"), "{logs:?}");
    let raw = server.ok(&["service", "logs", "--raw", "--tail", "2", "web"]).await;
    assert!(raw.lines().all(|line| line.starts_with("hello from ")), "{raw}");
    let timed = server.ok(&["service", "logs", "-t", "web"]).await;
    assert!(timed.starts_with("2026-01-31T12:00:01.000000007Z web."), "{timed}");
    assert_eq!(
        server.run(&["service", "logs", "nope"]).await.err,
        "shoal: service nope not found\n"
    );

    server.fake.world().unreachable.push(NodeId(3 << 64));
    let partly = server.run(&["service", "logs", "web"]).await;
    assert_eq!(partly.code, 0);
    assert!(
        partly.err.contains("web.2@gamma | error: the logs of this node's tasks are incomplete"),
        "{partly:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn history_and_failures_are_shown() {
    let server = Server::start().await;
    server.ok(&["service", "create", "-d", "--name", "web", "busybox"]).await;
    {
        let mut world = server.fake.world();
        let task = &mut world.tasks[0];
        task.status.state = TaskState::Failed;
        task.status.error = Some(format!("task: non-zero exit (137): {}", "x".repeat(80)));
    }
    let cut = server.ok(&["service", "ps", "web"]).await;
    assert!(cut.contains("Failed") && cut.contains('…'), "{cut}");
    let whole = server.ok(&["service", "ps", "--no-trunc", "web"]).await;
    assert!(whole.contains(&"x".repeat(80)), "{whole}");
}
