//! What would happen, and why things are where they are.

use membership::member::MemberState;
use serde_json::{Value, json};

use crate::server::Server;

/// `web` with two replicas on beta and gamma each, and alpha empty but for one.
async fn with_web(server: &Server, replicas: u64) {
    let spec = json!({
        "Name": "web",
        "TaskTemplate": {
            "ContainerSpec": { "Image": "busybox" },
            "Resources": { "Reservations": { "NanoCPUs": 1_000_000_000_u64 } },
        },
        "Mode": { "Replicated": { "Replicas": replicas } },
    });
    assert_eq!(server.post("/services/create", &spec).await.status, 201);
}

async fn plan(server: &Server, supposed: Value) -> Value {
    let answer = server.post("/shoal/v1/plan", &supposed).await;
    assert_eq!(answer.status, 200, "{}", answer.json());
    answer.json()
}

#[tokio::test]
async fn what_a_lost_host_runs_is_foreseen_elsewhere_and_nothing_else_moves() {
    let server = Server::start().await;
    with_web(&server, 6).await;
    let found = plan(&server, json!({ "kill": ["beta"] })).await;
    assert_eq!(found["supposed"], "lose beta");
    assert_eq!(found["whole"], true);
    assert_eq!(found["counts"]["replaced"], 2);
    assert_eq!(found["counts"]["pending"], 0);
    assert_eq!(found["quorum"], json!({ "alive": 2, "all": 3 }));
    let web = &found["services"][0];
    assert_eq!(web["running"], json!({ "before": 6, "after": 6 }));
    let moves = web["moves"].as_array().unwrap();
    assert_eq!(moves.len(), 2);
    for one in moves {
        assert_eq!((&one["kind"], &one["from"]["name"]), (&json!("replaces"), &json!("beta")));
        assert_ne!(one["to"]["name"], "beta");
        assert_eq!(one["replica"], format!("web.{}", one["slot"]));
    }
    let to: std::collections::BTreeSet<&str> =
        moves.iter().map(|one| one["to"]["name"].as_str().unwrap()).collect();
    assert_eq!(to.len(), 2, "one to each survivor");
    let beta = found["hosts"].as_array().unwrap().iter().find(|h| h["name"] == "beta").unwrap();
    assert_eq!(beta["state"], json!({ "before": "alive", "after": "down" }));
    assert_eq!(beta["replicas"], json!({ "before": 2, "after": 0, "end": 0 }));
    assert!(server.fake.world().commands.len() == 1, "nothing was changed but by the create");
}

#[tokio::test]
async fn what_would_find_no_host_is_pending_with_the_reason() {
    let server = Server::start().await;
    with_web(&server, 12).await;
    // Four cores on each of three hosts: all are taken.
    let found = plan(&server, json!({ "kill": ["self"], "scale": { "web": 13 } })).await;
    assert_eq!(found["whole"], false);
    assert_eq!(found["counts"]["pending"], 5);
    let why = found["services"][0]["pending"][0]["why"].as_str().unwrap();
    assert!(why.contains("no suitable node") && why.contains("alpha is down"), "{why}");
    let found = plan(&server, json!({ "kill": ["alpha"], "add": [{ "count": 2 }] })).await;
    assert_eq!((&found["whole"], &found["counts"]["replaced"]), (&json!(true), &json!(4)));
    assert_eq!(
        found["services"][0]["moves"][0]["to"]["name"].as_str().map(|n| &n[..4]),
        Some("new-")
    );
}

#[tokio::test]
async fn unknown_names_and_senseless_suppositions_are_refused_in_words() {
    let server = Server::start().await;
    with_web(&server, 3).await;
    let agent = json!({
        "Name": "agent",
        "TaskTemplate": { "ContainerSpec": { "Image": "busybox" } },
        "Mode": { "Global": {} },
    });
    assert_eq!(server.post("/services/create", &agent).await.status, 201);
    server.fake.world().members[2].state = MemberState::Down;
    for (supposed, status, words) in [
        (json!({ "kill": ["delta"] }), 404, "node delta not found"),
        (json!({ "kill_zones": ["r9"] }), 404, "zone r9 not found: no member has a zone"),
        (json!({ "scale": { "nope": 3 } }), 404, "service nope not found"),
        (json!({ "scale": { "agent": 3 } }), 400, "service agent is global"),
        (json!({ "scale": { "web": 2_000_000 } }), 400, "1000000 replicas is the most"),
        (json!({ "drain": ["gamma"] }), 400, "node gamma is down"),
        (json!({ "remove_labels": [{ "node": "beta", "key": "rack" }] }), 400, "has no such label"),
        (json!({ "add": [{ "count": 1001 }] }), 400, "at most 1000 hosts"),
        (json!({ "kil": ["beta"] }), 400, "unknown field `kil`"),
        (json!({ "kill": "beta" }), 400, "cannot read what is supposed"),
        (json!({}), 400, "nothing is supposed"),
        (json!([]), 400, ""),
    ] {
        let answer = server.post("/shoal/v1/plan", &supposed).await;
        let message = answer.json()["message"].as_str().unwrap().to_owned();
        assert_eq!(answer.status, status, "{supposed}: {message}");
        assert!(message.contains(words), "{supposed}: {message}");
    }
}

#[tokio::test]
async fn a_replica_a_service_and_a_task_are_explained() {
    let server = Server::start().await;
    with_web(&server, 3).await;
    let one = server.get("/shoal/v1/explain/web.2").await.json();
    assert_eq!((&one["replica"], &one["service"]["name"]), (&json!("web.2"), &json!("web")));
    assert_eq!(one["holder"]["phase"], "ready");
    let hosts = one["hosts"].as_array().unwrap();
    assert_eq!(hosts.len(), 3);
    assert_eq!(hosts[0]["rank"], 0);
    assert_eq!(hosts[0]["holds_it"], true, "the others hold one each");
    assert_eq!(one["fate"], "stays, first choice");
    assert!(hosts[1]["reason"].as_str().unwrap().contains("holds 1 of it"), "{one}");

    let all = server.get("/shoal/v1/explain/web").await.json();
    assert_eq!((&all["of"], all["slots"].as_array().unwrap().len()), (&json!(3), 3));
    let task = one["holder"]["task"].as_str().unwrap();
    let by_task = server.get(&format!("/shoal/v1/explain/{task}")).await.json();
    assert_eq!(
        (&by_task["replica"], &by_task["task"]["state"]),
        (&json!("web.2"), &json!("running"))
    );
    let gone = server.get("/shoal/v1/explain/web.9").await.json();
    assert_eq!(gone["fate"], "not wanted");
    let unknown = server.get("/shoal/v1/explain/nope.1").await;
    assert_eq!(unknown.status, 404);
    assert_eq!(
        unknown.json()["message"],
        "nope.1 is neither a service, nor SERVICE.SLOT, nor a task"
    );
}
