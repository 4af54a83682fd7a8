//! Networks: made, listed beside the engine's, inspected, removed; and what services show of theirs.

use serde_json::{Value, json};

use crate::engine::fake_engine;
use crate::server::{Server, encoded};

async fn server() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let engine = fake_engine(dir.path());
    (Server::with_engine(Some(engine)).await, dir)
}

async fn create(server: &Server, spec: &Value) -> String {
    let answer = server.post("/v1.41/networks/create", spec).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.json()["Warning"], "");
    answer.json()["Id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_network_reads_back_as_docker_shows_it() {
    let (server, _dir) = server().await;
    let spec = json!({
        "Name": "back", "Driver": "overlay", "Attachable": true, "IPAM": null,
        "Labels": {"com.docker.stack.namespace": "shop"},
    });
    let id = create(&server, &spec).await;
    for wanted in ["back", &id, &id[..12]] {
        let shown = server.get(&format!("/networks/{wanted}?scope=swarm")).await.json();
        assert_eq!((&shown["Id"], &shown["Name"]), (&json!(id), &json!("back")), "{wanted}");
        assert_eq!((&shown["Scope"], &shown["Driver"]), (&json!("swarm"), &json!("overlay")));
        assert_eq!((&shown["Attachable"], &shown["Internal"]), (&json!(true), &json!(false)));
        assert_eq!(shown["IPAM"]["Config"][0]["Subnet"], "10.9.0.0/16");
        assert_eq!(shown["Labels"]["com.docker.stack.namespace"], "shop");
    }
    let missing = server.get("/networks/nope?scope=swarm").await;
    assert_eq!((missing.status, missing.message().as_str()), (404, "network nope not found"));
    let listed = server.get("/networks").await;
    let names: Vec<Value> =
        listed.json().as_array().unwrap().iter().map(|network| network["Name"].clone()).collect();
    assert_eq!(
        names,
        ["bridge", "back"],
        "the engine's own first, what stands for ours not at all"
    );
    for (label, found) in [("shop", 2), ("none", 1)] {
        let filters = json!({"label": [format!("com.docker.stack.namespace={label}")]});
        let path = format!("/networks?filters={}", encoded(&filters.to_string()));
        assert_eq!(server.get(&path).await.json().as_array().unwrap().len(), found, "{label}");
    }
    assert_eq!(server.delete("/networks/back").await.status, 204);
}

#[tokio::test]
async fn services_are_attached_by_name_and_stored_by_id() {
    let (server, _dir) = server().await;
    let id = create(&server, &json!({"Name": "back", "Driver": "overlay"})).await;
    let service = |network: &str| {
        json!({"Name": "web", "TaskTemplate": {
            "ContainerSpec": {"Image": "x"}, "Networks": [{"Target": network, "Aliases": ["w"]}],
        }})
    };
    let unknown = server.post("/services/create", &service("nope")).await;
    assert_eq!((unknown.status, unknown.message().as_str()), (404, "network nope not found"));
    assert_eq!(server.post("/services/create", &service("back")).await.status, 201);
    let shown = server.get("/services/web").await.json();
    let stored = &shown["Spec"]["TaskTemplate"]["Networks"][0];
    assert_eq!(stored, &json!({"Target": id, "Aliases": ["w"]}));
}

#[tokio::test]
async fn what_has_no_meaning_is_refused() {
    let (server, _dir) = server().await;
    create(&server, &json!({"Name": "back", "Driver": "overlay"})).await;
    for (spec, status, says) in [
        (json!({"Name": "bridge", "Driver": "overlay"}), 409, "bridge already exists"),
        (json!({"Name": "back", "Driver": "bridge"}), 409, "back already exists"),
        (
            json!({"Name": "x", "Driver": "weave", "Scope": "swarm"}),
            404,
            "plugin \"weave\" not found",
        ),
        (json!({"Name": "x", "Driver": "overlay", "ConfigOnly": true}), 501, "not supported"),
    ] {
        let answer = server.post("/networks/create", &spec).await;
        assert_eq!(answer.status, status, "{spec} {answer:?}");
        assert!(answer.message().contains(says), "{}", answer.message());
    }
    let without_engine = Server::start().await;
    let spec = json!({"Name": "x", "Driver": "overlay"});
    let answer = without_engine.post("/networks/create", &spec).await;
    assert_eq!(answer.status, 501);
    assert!(answer.message().contains("plain processes"), "{}", answer.message());
}
