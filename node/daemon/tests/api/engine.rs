//! Passing through to an engine: bytes both ways, taken-over connections, and an engine that is not
//! there or hangs.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::server::{Answer, PATIENCE, Server, raw};

/// An engine of a few canned answers. It echoes whole requests under `/echo`, and takes connections
/// over under `/exec`.
pub(crate) fn fake_engine(dir: &Path) -> PathBuf {
    let path = dir.join("engine.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream));
        }
    });
    path
}

async fn serve(stream: UnixStream) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let first = head.lines().next().unwrap().to_owned();
    let json_answer = |value: Value| {
        let body = value.to_string();
        format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nApi-Version: 1.41\r\nBuilder-Version: 2\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )
    };
    if first.contains("/version") {
        let answer = json!({"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Os": "linux", "Version": "20.10.24", "Components": []});
        stream.write_all(json_answer(answer).as_bytes()).await.unwrap();
    } else if first.contains("/_ping") || first.contains("/info") {
        let answer =
            json!({"Name": "host", "Swarm": {"LocalNodeState": "inactive"}, "Driver": "overlay2"});
        stream.write_all(json_answer(answer).as_bytes()).await.unwrap();
    } else if first.starts_with("GET") && first.contains("/networks") {
        // One of its own, and one that stands for a network of the cluster.
        let answer = json!([
            {"Name": "bridge", "Driver": "bridge", "Scope": "local", "Labels": {}},
            {"Name": "back", "Driver": "bridge", "Labels": {"shoal.network.id": "x"}},
        ]);
        stream.write_all(json_answer(answer).as_bytes()).await.unwrap();
    } else if first.contains("/exec") {
        stream
            .write_all(b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
            .await
            .unwrap();
        // Until the client has closed its half; then what is left to say.
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        said.reverse();
        stream.write_all(&said).await.unwrap();
    } else if first.contains("/events") {
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n{\"Type\":\"containe\r\n7\r\nr\"}\n{\"T\r\n")
            .await
            .unwrap();
        std::future::pending::<()>().await;
    } else {
        let length: usize = head
            .lines()
            .find_map(|l| {
                l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned)
            })
            .map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.unwrap();
        let echoed = [head.as_bytes(), &body].concat();
        let answer = format!(
            "HTTP/1.1 418 I am a teapot\r\nX-Engine: yes\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            echoed.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        stream.write_all(&echoed).await.unwrap();
    }
}

async fn with_engine() -> (Server, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_engine(Some(fake_engine(dir.path()))).await;
    (server, dir)
}

#[tokio::test]
async fn what_is_not_ours_is_the_engines() {
    let (server, _dir) = with_engine().await;
    let answer = server.send("POST", "/v1.41/containers/create?name=x%2Fy", "{\"a\":1}").await;
    assert_eq!(answer.status, 418);
    assert!(answer.head.starts_with("HTTP/1.1 418 I am a teapot"), "{}", answer.head);
    assert_eq!(answer.header("x-engine"), Some("yes"));
    let seen = String::from_utf8(answer.body).unwrap();
    assert!(seen.starts_with("POST /v1.41/containers/create?name=x%2Fy HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("{\"a\":1}"), "{seen}");
}

#[tokio::test]
async fn the_engines_versions_are_ours() {
    let (server, _dir) = with_engine().await;
    let ping = server.send("HEAD", "/_ping", "").await;
    assert_eq!(ping.header("api-version"), Some("1.41"));
    assert_eq!(ping.header("builder-version"), Some("2"));
    assert!(
        server
            .get("/v1.42/nodes")
            .await
            .message()
            .contains("too new. Maximum supported API version is 1.41")
    );
    let info = server.get("/info").await.json();
    assert_eq!(info["Driver"], "overlay2");
    assert_eq!(info["Swarm"]["LocalNodeState"], "active");
    let version = server.get("/version").await.json();
    assert_eq!(version["Version"], "20.10.24");
    assert_eq!(version["Components"][0]["Name"], "shoal");
}

#[tokio::test]
async fn a_taken_over_connection_is_a_tunnel_with_two_halves() {
    let (server, _dir) = with_engine().await;
    let talk = async {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream
            .write_all(b"POST /v1.41/exec/abc/start HTTP/1.1\r\nHost: d\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: 0\r\n\r\n")
            .await
            .unwrap();
        let mut reader = BufReader::new(&mut stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).await.unwrap();
        }
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        stream.write_all(b"\x00abc").await.unwrap();
        stream.shutdown().await.unwrap();
        let mut said = Vec::new();
        stream.read_to_end(&mut said).await.unwrap();
        said
    };
    let said = tokio::time::timeout(PATIENCE, talk).await.unwrap();
    assert_eq!(said, b"cba\x00", "the answer came after our half was closed");
}

#[tokio::test]
async fn a_local_network_is_made_by_the_engine() {
    let (server, _dir) = with_engine().await;
    let answer = server.post("/networks/create", &json!({"Name": "x", "Driver": "bridge"})).await;
    assert_eq!(answer.status, 418);
    let seen = String::from_utf8(answer.body).unwrap();
    assert!(seen.ends_with(r#"{"Name":"x","Driver":"bridge"}"#), "{seen}");
}

#[tokio::test]
async fn the_engines_events_are_mixed_in_line_by_line() {
    let (server, _dir) = with_engine().await;
    let reading = async {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream.write_all(b"GET /events HTTP/1.1\r\nHost: d\r\n\r\n").await.unwrap();
        let mut text = String::new();
        let mut buffer = [0; 1024];
        while !text.contains("container") {
            let count = stream.read(&mut buffer).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text
    };
    let text = tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert!(text.contains("{\"Type\":\"container\"}\n"), "{text}");
    assert!(!text.contains("{\"T\r"), "half a line is held back: {text}");
}

#[tokio::test]
async fn without_its_engine_a_node_still_takes_commands() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::with_engine(Some(dir.path().join("nobody.sock"))).await;
    let containers = server.get("/containers/json").await;
    assert_eq!(containers.status, 503);
    assert!(containers.message().contains("does not answer"), "{containers:?}");
    assert_eq!(server.get("/services").await.json(), json!([]));
    assert_eq!(server.get("/info").await.json()["Swarm"]["Nodes"], 3);
}

#[tokio::test]
async fn an_engine_that_hangs_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("engine.sock");
    // Accepts (the backlog does) and never answers.
    let _listener = UnixListener::bind(&path).unwrap();
    let server = Server::with_engine(Some(path)).await;
    assert_eq!(server.get("/_ping").await.status, 200);
    let asked = Instant::now();
    for _ in 0..20 {
        assert_eq!(server.get("/nodes").await.status, 200);
        assert_eq!(server.send("HEAD", "/_ping", "").await.status, 200);
    }
    assert!(asked.elapsed().as_secs() < 3, "{:?}", asked.elapsed());
    assert_eq!(server.get("/info").await.json()["Swarm"]["Nodes"], 3, "after its deadline");
    // Whoever asks the engine itself waits for it, alone.
    let hanging = tokio::spawn({
        let socket = server.socket.clone();
        async move { raw(&socket, b"GET /containers/json HTTP/1.1\r\nHost: d\r\n\r\n".to_vec()).await }
    });
    assert_eq!(server.get("/services").await.status, 200);
    hanging.abort();
    let answer = Answer::parse(&raw(&server.socket, b"GET /tasks HTTP/1.0\r\n\r\n".to_vec()).await);
    assert_eq!(answer.status, 200);
}
