//! The API over a fake node on a socket of its own, and a client that speaks plain HTTP to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::api::listen::ApiSocket;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

use crate::fake::Fake;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Server {
    pub(crate) fake: Arc<Fake>,
    pub(crate) socket: PathBuf,
    pub(crate) stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with_engine(None).await
    }

    pub(crate) async fn with_engine(engine: Option<PathBuf>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/docker.sock");
        let fake = Fake::new(engine);
        let stop = CancellationToken::new();
        let api = ApiSocket::bind(&socket).await.unwrap();
        tokio::spawn(api.serve(fake.clone(), stop.clone()));
        Self { fake, socket, stop, _dir: dir }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &body.to_string()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, "").await
    }

    /// One request on a connection of its own, closed by the server after it.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        let bytes = raw(&self.socket, [head.as_bytes(), body.as_bytes()].concat()).await;
        Answer::parse(&bytes)
    }
}

/// Sends bytes and reads until the server closes.
pub(crate) async fn raw(socket: &Path, request: Vec<u8>) -> Vec<u8> {
    let exchange = async {
        let mut stream = UnixStream::connect(socket).await.unwrap();
        // The server may close before it has read everything: that is what some tests are about.
        let _ = stream.write_all(&request).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        bytes
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server answers and closes")
}

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn parse(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let rest = &bytes[end + 4..];
        let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
        let body = if chunked { unchunk(rest) } else { rest.to_vec() };
        Self { status, head, body }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn message(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"), "{}", self.head);
        self.json()["message"].as_str().unwrap().to_owned()
    }

    /// The names in a list of services or nodes.
    pub(crate) fn names(&self) -> Vec<String> {
        let list = self.json();
        let name = |item: &Value| {
            let name = &item["Spec"]["Name"];
            let name = if name.is_null() { &item["Description"]["Hostname"] } else { name };
            name.as_str().unwrap().to_owned()
        };
        list.as_array().unwrap().iter().map(name).collect()
    }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|w| w == b"\r\n") {
        let length =
            usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap().trim(), 16).unwrap();
        if length == 0 {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + length]);
        rest = &rest[end + 2 + length + 2..];
    }
    body
}

/// Url-encodes what filters need.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|b| match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                char::from(b).to_string()
            }
            _ => format!("%{b:02X}"),
        })
        .collect()
}
