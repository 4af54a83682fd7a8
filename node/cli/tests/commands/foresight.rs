//! `shoal plan` and `shoal explain`.

use serde_json::json;

use crate::run::Server;

async fn with_web(server: &Server, replicas: &str) {
    let args = ["service", "create", "-d", "--name", "web", "--replicas", replicas];
    server.ok(&[&args[..], &["--reserve-cpu", "1", "busybox"]].concat()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_says_what_moves_and_its_exit_code_whether_everything_runs() {
    let server = Server::start().await;
    with_web(&server, "6").await;
    let table = server.ok(&["plan", "--kill", "beta"]).await;
    for words in [
        "Suppose: lose beta",
        "2 replicas of lost hosts would start elsewhere; nothing would be left waiting",
        "starts elsewhere  beta",
        "alive -> down",
        "alpha's view at this moment",
    ] {
        assert!(table.contains(words), "{words}: {table}");
    }
    let found = server.run(&["plan", "--kill", "beta", "--format", "json"]).await.json();
    assert_eq!(found["counts"]["replaced"], json!(2));

    let tight = server.run(&["plan", "--kill", "beta", "--scale", "web=9"]).await;
    assert_eq!(tight.code, 3, "{tight:?}");
    assert!(tight.err.contains("1 replica would be left waiting for a host"), "{tight:?}");
    assert!(tight.out.contains("no suitable node (insufficient resources"), "{tight:?}");
    assert!(tight.out.contains("tight"), "{tight:?}");
    let added =
        server.ok(&["plan", "--kill", "beta", "--scale", "web=9", "--add", "1", "--like", "beta"]);
    assert!(added.await.contains("new-1"));
    let still = server.ok(&["plan", "--pause", "beta"]).await;
    assert!(still.contains("nothing would move"), "{still}");

    let unknown = server.run(&["plan", "--kill", "delta"]).await;
    assert_eq!((unknown.code, unknown.err.as_str()), (1, "shoal: node delta not found\n"));
    assert_eq!(server.run(&["plan"]).await.code, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_explained() {
    let server = Server::start().await;
    with_web(&server, "3").await;
    let one = server.ok(&["explain", "web.2"]).await;
    for words in [
        "web.2 is ready on gamma for ",
        "a fresh placement would put it there as well",
        "claimed by gamma in epoch 7",
        "first  gamma *",
        "holds 1 of it, the one before 0",
    ] {
        assert!(one.contains(words), "{words}: {one}");
    }
    let all = server.ok(&["explain", "web"]).await;
    assert!(all.contains("web.1") && all.contains("web.3") && all.contains("stays"), "{all}");
    server.ok(&["service", "create", "-d", "--name", "agent", "--mode", "global", "x"]).await;
    let global = server.ok(&["explain", "agent.beta"]).await;
    assert!(global.contains("once on every node that suits"), "{global}");
    let json = server.run(&["explain", "web.2", "--format", "json"]).await.json();
    assert_eq!(json["holder"]["node"]["name"], "gamma");
    assert_eq!(server.run(&["explain", "nope"]).await.code, 1);
}
