//! Clients that send nonsense, too much, too slowly, or nothing: they are refused, and the next
//! request of somebody else is answered.

use daemon::api::listen::{ApiSocket, BindError};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::server::{Answer, PATIENCE, Server, raw};

async fn still_serves(server: &Server) {
    assert_eq!(server.get("/nodes").await.status, 200);
}

#[tokio::test]
async fn garbage_is_refused_and_disturbs_nobody() {
    let server = Server::start().await;
    for bytes in [
        b"\0\x01\x02\xff\xfe garbage\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        vec![b'A'; 1 << 20],
        b"GET /services HTTP/1.1\r\nHost: d\r\nContent-Length: -5\r\n\r\n".to_vec(),
        [b"GET / HTTP/1.1\r\n".to_vec(), b"X: y\r\n".repeat(5000), b"\r\n".to_vec()].concat(),
    ] {
        raw(&server.socket, bytes).await;
        still_serves(&server).await;
    }
}

#[tokio::test]
async fn bodies_that_are_no_json_are_a_400() {
    let server = Server::start().await;
    for body in ["", "{", "[1]", "null", "5", "\u{0}", &"[".repeat(10_000)] {
        let answer = server.send("POST", "/services/create", body).await;
        assert_eq!(answer.status, 400, "{body:.20}");
        answer.message();
    }
    // Not UTF-8, and odd paths.
    let mut bytes = b"POST /services/create HTTP/1.1\r\nHost: d\r\nConnection: close\r\nContent-Length: 2\r\n\r\n".to_vec();
    bytes.extend_from_slice(&[0xff, 0xfe]);
    assert_eq!(Answer::parse(&raw(&server.socket, bytes).await).status, 400);
    for path in ["/services/%ff%fe", "/services/%2e%2e%2f", "/services?filters=%ff", "//", "/v1.41"]
    {
        assert!(server.get(path).await.status >= 400, "{path}");
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_body_without_end_is_cut_off_at_the_limit() {
    let server = Server::start().await;
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    stream
        .write_all(
            b"POST /services/create HTTP/1.1\r\nHost: d\r\nTransfer-Encoding: chunked\r\n\r\n",
        )
        .await
        .unwrap();
    let chunk = [b"10000\r\n".to_vec(), vec![b' '; 0x10000], b"\r\n".to_vec()].concat();
    let mut sent = 0_u64;
    // Sends until the server has had enough; it must have long before a gigabyte.
    while stream.write_all(&chunk).await.is_ok() {
        sent += 0x10000;
        assert!(sent < 64 << 20, "the server reads on and on");
        let mut peeked = [0; 12];
        if let Ok(12) = stream.try_read(&mut peeked) {
            assert_eq!(&peeked, b"HTTP/1.1 413");
            break;
        }
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn a_gigabyte_that_is_only_announced_is_refused() {
    let server = Server::start().await;
    let head = b"POST /services/create HTTP/1.1\r\nHost: d\r\nContent-Length: 1073741824\r\n\r\n";
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    stream.write_all(head).await.unwrap();
    let chunk = vec![b' '; 1 << 20];
    let mut sent = 0_usize;
    let mut start = [0; 12];
    // It is answered while most of it is still to come.
    let answered = async {
        loop {
            tokio::select! {
                read = stream.readable() => {
                    read.unwrap();
                    match stream.try_read(&mut start) {
                        Ok(_) => return,
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                written = stream.writable() => {
                    written.unwrap();
                    sent += stream.try_write(&chunk).unwrap_or_default();
                    assert!(sent < 64 << 20, "the server reads on and on");
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.expect("an answer");
    assert_eq!(&start, b"HTTP/1.1 413");
    still_serves(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_are_all_answered() {
    let server = Server::start().await;
    let one = || raw(&server.socket, b"GET /services?status=true HTTP/1.0\r\n\r\n".to_vec());
    let answers = futures_util::future::join_all((0..1000).map(|_| one())).await;
    for bytes in answers {
        assert_eq!(Answer::parse(&bytes).status, 200);
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn an_answer_waits_for_the_body_that_it_does_not_need() {
    let server = Server::start().await;
    let mut stream = UnixStream::connect(&server.socket).await.unwrap();
    stream
        .write_all(b"POST /services/nope/update?version=1 HTTP/1.1\r\nHost: d\r\nContent-Length: 400000\r\n\r\n")
        .await
        .unwrap();
    // A client that is still sending must not be cut off: it would never see the 404.
    for _ in 0..400 {
        stream.write_all(&[b' '; 1000]).await.unwrap();
        tokio::task::yield_now().await;
    }
    let mut start = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut start)).await.unwrap().unwrap();
    assert_eq!(&start, b"HTTP/1.1 404");
}

#[tokio::test]
async fn a_client_that_says_nothing_keeps_nobody_waiting() {
    let server = Server::start().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        let mut stream = UnixStream::connect(&server.socket).await.unwrap();
        stream.write_all(b"GET /nodes HT").await.unwrap();
        silent.push(stream);
    }
    still_serves(&server).await;
}

#[tokio::test]
async fn too_many_connections_get_a_503() {
    let server = Server::start().await;
    let mut open = Vec::new();
    for _ in 0..daemon::api::listen::MAX_CONNECTIONS {
        open.push(UnixStream::connect(&server.socket).await.unwrap());
    }
    let mut bytes = Vec::new();
    let mut one_more = UnixStream::connect(&server.socket).await.unwrap();
    tokio::time::timeout(PATIENCE, one_more.read_to_end(&mut bytes)).await.unwrap().unwrap();
    let answer = Answer::parse(&bytes);
    assert_eq!(answer.status, 503);
    assert!(answer.message().contains("too many connections"));
    drop(open);
    let freed = async {
        while raw(&server.socket, b"GET /nodes HTTP/1.0\r\n\r\n".to_vec()).await.get(9..12)
            != Some(b"200")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, freed).await.expect("closed connections are free again");
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let server = Server::start().await;
    let request = b"GET /v1.41/_ping HTTP/1.1\r\nHost: d\r\n\r\n".repeat(2);
    let last = b"GET /nodes HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n".to_vec();
    let bytes = raw(&server.socket, [request, last].concat()).await;
    let text = String::from_utf8_lossy(&bytes);
    assert_eq!(text.matches("HTTP/1.1 200 OK").count(), 3);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_living_one_is_not() {
    let server = Server::start().await;
    assert!(matches!(ApiSocket::bind(&server.socket).await, Err(BindError::InUse(_))));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind, as a killed process leaves it");
    ApiSocket::bind(&path).await.expect("nobody answers on it");

    let file = dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(ApiSocket::bind(&file).await, Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let long = dir.path().join("x".repeat(200));
    assert!(matches!(ApiSocket::bind(&long).await, Err(BindError::Io { .. })));
}

#[tokio::test]
async fn the_socket_goes_with_the_node() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start().await;
    let mode = std::fs::metadata(&server.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(server.post("/services/create", &json!({"Name": "x"})).await.status, 400);
    server.stop.cancel();
    let gone = async {
        while server.socket.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the socket is removed");
}
