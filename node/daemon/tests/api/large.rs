//! A large cluster: 300 services of ten replicas. A waiting client asks fifteen times a second, so what it asks about
//! one service may not cost what the whole cluster would.
//!
//! `SHOAL_MEASURE=1 cargo test --release -p daemon --test api large -- --nocapture` prints how long answers take.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::server::{Server, encoded};

const SERVICES: usize = 300;
const REPLICAS: usize = 10;

async fn large() -> Server {
    let server = Server::start().await;
    for number in 0..SERVICES {
        let spec = json!({
            "Name": format!("service-{number}"),
            "Labels": {"com.docker.stack.namespace": format!("stack-{}", number % 10)},
            "TaskTemplate": {
                "ContainerSpec": {
                    "Image": "registry.example:5000/team/service:1.2.3",
                    "Args": ["--listen", "0.0.0.0:8080"],
                    "Env": ["A=1", "B=2", "C=3", "D=4", "E=5"],
                    "Labels": {"com.docker.stack.namespace": "stack"},
                },
                "Resources": {"Limits": {"MemoryBytes": 268_435_456}},
                "RestartPolicy": {"Condition": "any"},
            },
            "Mode": {"Replicated": {"Replicas": REPLICAS}},
        });
        assert_eq!(server.post("/services/create", &spec).await.status, 201);
    }
    server
}

fn of_service(name: &str) -> String {
    format!("/tasks?filters={}", encoded(&json!({"service": [name]}).to_string()))
}

#[tokio::test]
async fn a_question_about_one_service_copies_its_tasks_only() {
    let server = large().await;
    let copied = || server.fake.tasks_copied.swap(0, Ordering::Relaxed);
    copied();
    let tasks = server.get(&of_service("service-7")).await.json();
    assert_eq!(tasks.as_array().unwrap().len(), REPLICAS);
    assert_eq!(copied(), REPLICAS, "service ps");
    let id = tasks[0]["ID"].as_str().unwrap();
    assert_eq!(server.get(&format!("/tasks/{id}")).await.status, 200);
    assert_eq!(copied(), 1, "inspect of a task");
    server.get("/services?status=true").await;
    server.get("/services/service-7").await;
    server.get("/nodes").await;
    assert_eq!(copied(), 0, "service ls, inspect and node ls need no task");
    let services = server.get("/services?status=true").await.json();
    assert_eq!(services.as_array().unwrap().len(), SERVICES);
}

/// What `docker service ls`, `service ps` and `node ls` ask for, each many times.
#[tokio::test]
async fn measured() {
    // Without the variable it only sees that each question is answered.
    let rounds = if std::env::var_os("SHOAL_MEASURE").is_some() { 200 } else { 1 };
    let server = large().await;
    let by_stack = json!({"label": ["com.docker.stack.namespace=stack-3"]}).to_string();
    for (command, path) in [
        ("service ls", "/services?status=true".to_owned()),
        ("service ps", of_service("service-7")),
        ("node ls", "/nodes".to_owned()),
        ("stack ps", format!("/tasks?filters={}", encoded(&by_stack))),
        ("all tasks", "/tasks".to_owned()),
    ] {
        let mut took = Vec::new();
        for _ in 0..rounds {
            let begun = Instant::now();
            assert_eq!(server.get(&path).await.status, 200);
            took.push(begun.elapsed());
        }
        took.sort();
        if rounds > 1 {
            show(command, &took);
        }
    }
}

#[expect(clippy::print_stderr, reason = "asked for by SHOAL_MEASURE")]
fn show(command: &str, took: &[Duration]) {
    let millis = |at: usize| took[at].as_secs_f64() * 1000.0;
    eprintln!(
        "{command}: median {:.1} ms, p99 {:.1} ms",
        millis(took.len() / 2),
        millis(took.len() * 99 / 100)
    );
}
