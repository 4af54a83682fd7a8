//! What Docker has no word for: status, token, conflicts, leaving.

use membership::id::NodeId;
use membership::time::Wall;
use node::command::Command;
use node::views::ConflictView;
use serde_json::json;

use crate::fake::START;
use crate::server::Server;

#[tokio::test]
async fn status_shows_this_node_its_view_and_the_totals() {
    let server = Server::start().await;
    let status = server.get("/shoal/v1/status").await.json();
    assert_eq!(status["node"]["name"], "alpha");
    assert_eq!(status["node"]["engine"], json!({"state": "ok"}));
    assert_eq!(status["members"].as_array().unwrap().len(), 3);
    assert_eq!(status["members"][1]["state"], "alive");
    assert_eq!(status["members"][1]["capacity"]["cpu_milli"], 4000);
    assert_eq!(status["services"], json!({"count": 0, "running": 0, "desired": 0, "shadowed": []}));
    assert_eq!(status["conflicts"], json!([]));
    assert_eq!(server.get("/shoal/v1/members/beta").await.json()["name"], "beta");
}

#[tokio::test]
async fn the_token_comes_with_the_address_to_join() {
    let server = Server::start().await;
    let token = server.get("/shoal/v1/token").await.json();
    assert_eq!(token, json!({"token": "SHOAL-1-secret", "join": "10.0.0.1:7946"}));
}

#[tokio::test]
async fn conflicts_are_listed_shown_and_dismissed() {
    let server = Server::start().await;
    server.fake.world().conflicts.push(ConflictView {
        id: 0xab << 120,
        text: "CONFLICT web: the edit of host-a was superseded".to_owned(),
        service: None,
        writer: NodeId(1),
        when: Wall(START),
        body: Some(json!({"Name": "web"})),
    });
    let listed = server.get("/shoal/v1/conflicts").await.json();
    let id = listed[0]["id"].as_str().unwrap();
    assert_eq!(id, "ab000000000000000000000000000000");
    assert_eq!(server.get("/shoal/v1/conflicts/ab0").await.json()["body"], json!({"Name": "web"}));
    assert_eq!(server.get("/shoal/v1/conflicts/x").await.message(), "conflict x not found");
    assert_eq!(server.delete("/shoal/v1/conflicts/ab").await.status, 204);
    assert_eq!(server.get("/shoal/v1/conflicts").await.json(), json!([]));
}

#[tokio::test]
async fn leaving_is_a_command() {
    let server = Server::start().await;
    assert_eq!(server.post("/shoal/v1/leave", &json!({})).await.status, 202);
    assert_eq!(server.fake.world().commands, [Command::Leave]);
}
