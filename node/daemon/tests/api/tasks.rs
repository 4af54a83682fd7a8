//! Tasks: their shape, Swarm's filters, and lookups.

use node::slot::TaskState;
use serde_json::{Value, json};

use crate::server::{Answer, Server, encoded};

async fn with_two_services() -> Server {
    let server = Server::start().await;
    for (name, mode) in
        [("web", json!({"Replicated": {"Replicas": 2}})), ("agent", json!({"Global": {}}))]
    {
        let spec = json!({
            "Name": name,
            "Labels": {"tier": name},
            "TaskTemplate": {"ContainerSpec": {"Image": "busybox:1"}},
            "Mode": mode,
        });
        assert_eq!(server.post("/services/create", &spec).await.status, 201);
    }
    server
}

async fn filtered(server: &Server, filters: &Value) -> Answer {
    server.get(&format!("/tasks?filters={}", encoded(&filters.to_string()))).await
}

async fn count(server: &Server, filters: Value) -> usize {
    filtered(server, &filters).await.json().as_array().unwrap().len()
}

#[tokio::test]
async fn a_task_reads_as_docker_shows_it() {
    let server = with_two_services().await;
    let tasks = filtered(&server, &json!({"service": ["web"]})).await.json();
    let first = &tasks[0];
    let id = first["ID"].as_str().unwrap();
    assert_eq!(id.len(), 25);
    let golden = json!({
        "ID": id,
        "Version": {"Index": 11},
        "CreatedAt": "2026-01-31T12:00:00.002Z",
        "UpdatedAt": "2026-01-31T12:00:00.002Z",
        "Labels": {},
        "Spec": {
            "ContainerSpec": {"Image": "busybox:1", "Isolation": "default"},
            "Runtime": "container",
            "ForceUpdate": 0,
        },
        "ServiceID": server.get("/services/web").await.json()["ID"],
        "Slot": 1,
        "NodeID": server.get("/nodes/beta").await.json()["ID"],
        "Status": {
            "Timestamp": "2026-01-31T12:00:00.002Z",
            "State": "running",
            "Message": "started",
            "ContainerStatus": {"ContainerID": format!("{:064x}", 1), "PID": 4242, "ExitCode": 0},
            "PortStatus": {},
        },
        "DesiredState": "running",
    });
    assert_eq!(*first, golden);
    assert_eq!(server.get(&format!("/tasks/{id}")).await.json(), golden);
    assert_eq!(server.get("/tasks/zzz").await.message(), "task zzz not found");
    // Without a slot, the CLI names the task of a global service after its node.
    let global = filtered(&server, &json!({"service": ["agent"]})).await.json();
    assert!(global[0].get("Slot").is_none());
    assert!(global[0]["NodeID"].is_string());
}

#[tokio::test]
async fn a_pending_task_has_no_node_and_says_why() {
    let server = with_two_services().await;
    {
        let mut world = server.fake.world();
        let task = &mut world.tasks[0];
        task.node = None;
        task.status.state = TaskState::Pending;
        task.status.error = Some("no suitable node (insufficient resources on 3 nodes)".to_owned());
        task.status.container = None;
        task.template = std::sync::Arc::new(json!(null));
    }
    let tasks = filtered(&server, &json!({"service": ["web"]})).await.json();
    let pending = tasks.as_array().unwrap().iter().find(|t| t["Slot"] == 1).unwrap();
    assert!(pending.get("NodeID").is_none());
    assert!(pending["Status"].get("ContainerStatus").is_none());
    assert_eq!(pending["Status"]["Err"], "no suitable node (insufficient resources on 3 nodes)");
    assert!(pending["Spec"]["ContainerSpec"].is_object(), "the CLI reads it without looking");
}

#[tokio::test]
async fn filters_choose_tasks() {
    let server = with_two_services().await;
    for (filters, expected) in [
        (json!({}), 5),
        (json!({"service": ["web"]}), 2),
        (json!({"service": {"web": true, "agent": true}}), 5),
        (json!({"service": ["agent"], "node": ["beta"]}), 1),
        (json!({"node": ["self"]}), 1),
        (json!({"label": ["tier=web"]}), 2),
        (json!({"label": ["tier"]}), 5),
        (json!({"desired-state": ["running"]}), 5),
        (json!({"desired-state": ["shutdown"]}), 0),
        (json!({"name": ["web.1"]}), 1),
        (json!({"runtime": ["container"]}), 5),
        (json!({"_up-to-date": ["true"], "service": ["web"]}), 2),
    ] {
        assert_eq!(count(&server, filters.clone()).await, expected, "{filters}");
    }
    for (filters, status, message) in [
        (json!({"service": ["nope"]}), 404, "service nope not found"),
        (json!({"node": ["nope"]}), 404, "node nope not found"),
        (json!({"bogus": ["x"]}), 400, "invalid filter 'bogus'"),
        (json!({"desired-state": ["x"]}), 400, "invalid desired-state filter: 'x'"),
    ] {
        let answer = filtered(&server, &filters).await;
        assert_eq!((answer.status, answer.message().as_str()), (status, message));
    }
}

#[tokio::test]
async fn after_an_update_only_new_tasks_are_up_to_date() {
    let server = with_two_services().await;
    let mut spec = server.get("/services/web").await.json()["Spec"].clone();
    spec["TaskTemplate"]["ForceUpdate"] = json!(1);
    assert_eq!(server.post("/services/web/update?version=10", &spec).await.status, 200);
    assert_eq!(count(&server, json!({"service": ["web"]})).await, 4, "history included");
    assert_eq!(count(&server, json!({"service": ["web"], "_up-to-date": ["true"]})).await, 2);
    assert_eq!(count(&server, json!({"service": ["web"], "desired-state": ["shutdown"]})).await, 2);
}
