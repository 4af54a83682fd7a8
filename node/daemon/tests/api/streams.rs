//! Logs and events: framing, following, and what happens when a part cannot be had.

use std::time::Duration;

use membership::id::NodeId;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::server::{PATIENCE, Server};

async fn with_web(replicas: u64) -> Server {
    let server = Server::start().await;
    create(&server, "web", replicas).await;
    server
}

async fn create(server: &Server, name: &str, replicas: u64) {
    let spec = json!({
        "Name": name,
        "TaskTemplate": {"ContainerSpec": {"Image": "busybox"}},
        "Mode": {"Replicated": {"Replicas": replicas}},
    });
    assert_eq!(server.post("/services/create", &spec).await.status, 201);
}

/// Takes a multiplexed stream apart.
fn frames(mut bytes: &[u8]) -> Vec<(u8, String)> {
    let mut out = Vec::new();
    while bytes.len() >= 8 {
        assert_eq!(&bytes[1..4], [0, 0, 0]);
        let length = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
        out.push((bytes[0], String::from_utf8(bytes[8..8 + length].to_vec()).unwrap()));
        bytes = &bytes[8 + length..];
    }
    assert!(bytes.is_empty());
    out
}

#[tokio::test]
async fn logs_of_all_replicas_come_in_frames() {
    let server = with_web(3).await;
    let answer = server.get("/services/web/logs?stdout=1&stderr=1").await;
    assert_eq!(answer.status, 200);
    let lines = frames(&answer.body);
    assert_eq!(lines.len(), 6);
    assert_eq!(lines.iter().filter(|(stream, _)| *stream == 2).count(), 3);
    assert_eq!(frames(&server.get("/services/web/logs?stdout=1").await.body).len(), 3);
    assert_eq!(
        frames(&server.get("/services/web/logs?stdout=1&stderr=1&tail=1").await.body).len(),
        3
    );
    let none = server.get("/services/web/logs").await;
    assert_eq!(none.status, 400);
    assert!(none.message().contains("you must choose at least one stream"));
    assert_eq!(server.get("/services/nope/logs?stdout=1").await.status, 404);
    assert_eq!(server.get("/services/web/logs?stdout=1&since=x").await.status, 400);
}

#[tokio::test]
async fn details_name_node_service_and_task() {
    let server = with_web(1).await;
    let tasks = server.get("/tasks").await.json();
    let (task, node) = (tasks[0]["ID"].as_str().unwrap(), tasks[0]["NodeID"].as_str().unwrap());
    let service = tasks[0]["ServiceID"].as_str().unwrap();
    let path = format!("/tasks/{task}/logs?stdout=1&details=1&timestamps=1");
    assert_eq!(
        frames(&server.get(&path).await.body),
        [(
            1,
            format!(
                "2026-01-31T12:00:01.000000007Z com.docker.swarm.node.id={node},com.docker.swarm.service.id={service},com.docker.swarm.task.id={task} hello from {task}\n"
            )
        )]
    );
}

#[tokio::test]
async fn a_node_that_is_gone_ends_its_part_only() {
    let server = with_web(6).await;
    server.fake.world().unreachable.push(NodeId(3 << 64));
    let lines = frames(&server.get("/services/web/logs?stdout=1").await.body);
    assert_eq!(lines.iter().filter(|(_, line)| line.starts_with("hello")).count(), 4);
    let excuses = lines.iter().filter(|(_, line)| line.starts_with("error"));
    assert_eq!(excuses.count(), 1, "one for the node, though two of its tasks are missing");
    let (stream, excuse) = lines.iter().find(|(_, line)| line.starts_with("error")).unwrap();
    assert_eq!(*stream, 2);
    assert!(excuse.contains("node gamma does not answer"), "{excuse}");
}

/// Reads a streamed answer until `enough` holds of what came so far.
async fn read_until(
    server: &Server,
    path: &str,
    act: impl AsyncFn(),
    enough: impl Fn(&str) -> bool,
) -> String {
    let reading = async {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: d\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let mut buffer = vec![0; 4096];
        let mut acted = false;
        while !enough(&text) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "ended early: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
            if !acted {
                // The head is there: the stream is open.
                acted = true;
                act().await;
            }
        }
        text
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("what is awaited comes")
}

#[tokio::test]
async fn following_picks_up_tasks_that_start_later() {
    let server = with_web(1).await;
    let scale = async || {
        let mut spec = server.get("/services/web").await.json()["Spec"].clone();
        spec["Mode"]["Replicated"]["Replicas"] = json!(2);
        assert_eq!(server.post("/services/web/update?version=10", &spec).await.status, 200);
    };
    read_until(&server, "/services/web/logs?stdout=1&follow=1", scale, |text| {
        text.matches("hello from").count() == 2
    })
    .await;
}

#[tokio::test]
async fn events_are_told_as_they_happen_and_remembered() {
    let server = Server::start().await;
    let text = read_until(
        &server,
        "/events",
        async || create(&server, "web", 1).await,
        |text| text.contains("\"create\""),
    )
    .await;
    let line = text.lines().find(|line| line.starts_with('{')).unwrap();
    let event: Value = serde_json::from_str(line).unwrap();
    assert_eq!(event["Type"], "service");
    assert_eq!(event["Actor"]["Attributes"]["name"], "web");
    assert_eq!(event["scope"], "swarm");
    assert_eq!(event["Actor"]["ID"], server.get("/services/web").await.json()["ID"]);

    let path = format!("/events?since=1&until={}", event["time"].as_i64().unwrap() + 1);
    let past = tokio::time::timeout(PATIENCE, server.get(&path)).await.unwrap();
    assert_eq!(past.status, 200);
    assert_eq!(serde_json::from_slice::<Value>(&past.body).unwrap(), event);
    let backwards = server.get("/events?since=5&until=4").await;
    assert_eq!(backwards.status, 400);
    assert_eq!(backwards.message(), "`since` time (5) cannot be after `until` time (4)");
}

#[tokio::test]
async fn a_client_that_goes_away_ends_its_stream() {
    let server = with_web(1).await;
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream
            .write_all(b"GET /services/web/logs?stdout=1&follow=1 HTTP/1.1\r\nHost: d\r\n\r\n")
            .await
            .unwrap();
        let mut first = [0; 1];
        stream.read_exact(&mut first).await.unwrap();
    }
    // Only the shared part and the server's own handle hold the node when all pumps have ended.
    let ended = async {
        while std::sync::Arc::strong_count(&server.fake) > 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.expect("pumps end with their client");
}
