//! HTTP from outside to services by host and path: routes, retries, WebSockets, TLS, and no error while replicas change.
#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use bytes::Bytes;
use daemon::network::http::{Http, Settings, StartError};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use membership::id::{NodeId, ServiceId, TaskId};
use node::network::picture::{Backend, Picture, Routed};
use node::network::routes::routes;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

const BOUND: Duration = Duration::from_secs(30);

/// A replica that says who it is, what it was asked and how; `/echo` becomes a connection that echoes.
struct Replica {
    address: Ipv4Addr,
    asked: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

async fn answer(
    who: Ipv4Addr,
    asked: Arc<AtomicUsize>,
    mut request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    asked.fetch_add(1, Ordering::Relaxed);
    if request.headers().contains_key("upgrade") {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgrade.await.unwrap());
            let mut word = [0; 5];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        });
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert("connection", "upgrade".parse().unwrap());
        response.headers_mut().insert("upgrade", "echo".parse().unwrap());
        return Ok(response);
    }
    let head = format!("{who} {} {} {:?}\n", request.method(), request.uri(), request.headers());
    let body = request.into_body().collect().await?.to_bytes();
    Ok(Response::new(Full::from([head.as_bytes(), &body].concat())))
}

impl Replica {
    async fn start(address: Ipv4Addr, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).await.unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, mut tasks) = (asked.clone(), JoinSet::new());
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let count = count.clone();
                let service = service_fn(move |request| answer(address, count.clone(), request));
                let server = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                connections.spawn(async move {
                    let _ = server.await;
                });
            }
        });
        Self { address, asked, _tasks: tasks }
    }
}

/// Addresses of loopback that no other test has.
fn at(test: u8, last: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 78 + test, std::process::id().to_le_bytes()[0], last)
}

/// A port that is free on all of a test's addresses, as containers' ports are.
async fn free_port(test: u8) -> u16 {
    for _ in 0..100 {
        let probe = TcpListener::bind((at(test, 1), 0)).await.unwrap();
        let port = probe.local_addr().unwrap().port();
        let mut free = true;
        for last in 2..=8 {
            free &= TcpListener::bind((at(test, last), port)).await.is_ok();
        }
        if free {
            return port;
        }
    }
    panic!("no port is free on {}", at(test, 1));
}

fn backend(address: Ipv4Addr) -> Backend {
    Backend {
        address,
        node: NodeId(1),
        local: false,
        task: TaskId(1),
        slot_name: "web.1".to_owned(),
        hostname: None,
        ready: true,
        draining: false,
    }
}

fn routed(name: &str, rule: &str, port: u16, replicas: &[Ipv4Addr]) -> Routed {
    let label = format!("traefik.http.routers.{name}.rule");
    let (mut found, wrong) =
        routes([("traefik.enable", "true"), (label.as_str(), rule)], Some(port));
    assert!(wrong.is_empty(), "{wrong:?}");
    Routed {
        service: ServiceId(1),
        name: name.to_owned(),
        route: found.pop().unwrap(),
        backends: replicas.iter().map(|address| backend(*address)).collect(),
    }
}

fn picture(routes: Vec<Routed>) -> Arc<Picture> {
    Arc::new(Picture { routes, ..Picture::default() })
}

const ANY: Option<SocketAddr> =
    Some(SocketAddr::V4(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)));

async fn start(picture: Arc<Picture>) -> (Http, watch::Sender<Arc<Picture>>, SocketAddr) {
    let (tell, pictures) = watch::channel(picture);
    let settings = Settings { plain: ANY, ..Settings::default() };
    let http = Http::start(&settings, pictures).await.unwrap();
    let addr = http.plain().unwrap();
    (http, tell, addr)
}

async fn send(addr: SocketAddr, request: Request<Full<Bytes>>) -> (StatusCode, String) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let response = timeout(BOUND, sender.send_request(request)).await.unwrap().unwrap();
    let status = response.status();
    let body = timeout(BOUND, response.into_body().collect()).await.unwrap().unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn request(method: &str, host: &str, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", host);
    request.body(Full::from(body)).unwrap()
}

#[tokio::test]
async fn requests_go_by_host_and_path_and_say_who_asked() {
    let port = free_port(0).await;
    let shop = Replica::start(at(0, 1), port).await;
    let api = Replica::start(at(0, 2), port).await;
    let (_http, tell, addr) = start(picture(vec![
        routed("shop", "Host(`shop.example`)", port, &[shop.address]),
        routed("api", "Host(`shop.example`) && PathPrefix(`/api`)", port, &[api.address]),
    ]))
    .await;
    let (status, body) = send(addr, request("GET", "shop.example:8080", "/x?y=1", "")).await;
    assert_eq!(status, StatusCode::OK);
    assert!(body.starts_with(&format!("{} GET /x?y=1 ", shop.address)), "{body}");
    for said in
        ["\"x-forwarded-for\": \"127.0.0.1\"", "\"host\": \"shop.example:8080\"", "\"http\""]
    {
        assert!(body.contains(said), "{said} in {body}");
    }
    // What a client says of itself does not count, and what is about its connection goes no further.
    let mut posing = request("POST", "shop.example", "/api/1", "hello");
    for (name, value) in
        [("x-forwarded-for", "6.6.6.6"), ("connection", "x-secret"), ("x-secret", "1")]
    {
        posing.headers_mut().insert(name, value.parse().unwrap());
    }
    let (_, body) = send(addr, posing).await;
    assert!(body.starts_with(&format!("{} POST /api/1", api.address)), "{body}");
    assert!(body.ends_with("\nhello"), "{body}");
    assert!(!body.contains("6.6.6.6") && !body.contains("x-secret"), "{body}");
    let (status, body) = send(addr, request("GET", "other.example", "/", "")).await;
    assert_eq!((status, body.contains("'other.example'")), (StatusCode::NOT_FOUND, true));
    tell.send(picture(vec![routed("shop", "Host(`shop.example`)", port, &[])])).unwrap();
    let (status, body) = send(addr, request("GET", "shop.example", "/", "")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(body.contains("service 'shop' has no replica that is ready"), "{body}");
}

#[tokio::test]
async fn only_what_may_be_repeated_is_tried_again_elsewhere() {
    let port = free_port(1).await;
    let alive = Replica::start(at(1, 1), port).await;
    // Takes each request and breaks off.
    let broken = TcpListener::bind((at(1, 2), port)).await.unwrap();
    let (seen, count) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counter = seen.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = broken.accept().await.unwrap();
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                counter.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    // Nobody listens at the third.
    let all = [alive.address, at(1, 2), at(1, 3)];
    let (_http, _tell, addr) =
        start(picture(vec![routed("web", "PathPrefix(`/`)", port, &all)])).await;
    for _ in 0..20 {
        let (status, body) = send(addr, request("GET", "a", "/", "")).await;
        assert_eq!(status, StatusCode::OK, "{body}");
    }
    assert!(seen.load(Ordering::Relaxed) > 0, "the broken one was never tried");
    for _ in 0..20 {
        let before = seen.load(Ordering::Relaxed) + alive.asked.load(Ordering::Relaxed);
        let (status, _) = send(addr, request("POST", "a", "/", "once")).await;
        if status == StatusCode::BAD_GATEWAY {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let after = seen.load(Ordering::Relaxed) + alive.asked.load(Ordering::Relaxed);
        assert!(after - before <= 1, "a request that may not be repeated was");
    }
    assert!(count.load(Ordering::Relaxed) > 0);
}

#[tokio::test]
async fn connections_can_become_something_else() {
    let port = free_port(2).await;
    let replica = Replica::start(at(2, 1), port).await;
    let (_http, _tell, addr) =
        start(picture(vec![routed("web", "Host(`a`)", port, &[replica.address])])).await;
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let ask =
        "GET /echo HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: echo\r\n\r\n";
    stream.write_all(ask.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(BOUND, stream.read_u8()).await.unwrap().unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: echo"), "{head}");
    stream.write_all(b"hello").await.unwrap();
    let mut word = [0; 5];
    timeout(BOUND, stream.read_exact(&mut word)).await.unwrap().unwrap();
    assert_eq!(&word, b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_replicas_come_and_go() {
    let port = free_port(3).await;
    let mut replicas = BTreeMap::new();
    for last in 1..=2 {
        replicas.insert(last, Replica::start(at(3, last), port).await);
    }
    let routes = |replicas: &BTreeMap<u8, Replica>, leaving: Option<u8>| {
        let all: Vec<Ipv4Addr> = replicas.values().map(|one| one.address).collect();
        let mut routed = routed("web", "PathPrefix(`/`)", port, &all);
        for backend in &mut routed.backends {
            backend.draining = leaving.is_some_and(|last| backend.address == at(3, last));
        }
        picture(vec![routed])
    };
    let (_http, tell, addr) = start(routes(&replicas, None)).await;
    let (over, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let (over, done) = (over.clone(), done.clone());
        clients.spawn(async move {
            while over.load(Ordering::Relaxed) == 0 {
                // With a body, so that a second try would hide nothing.
                let (status, body) = send(addr, request("POST", "a", "/", "x")).await;
                assert_eq!(status, StatusCode::OK, "{body}");
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let answered = |more: usize| {
        let done = done.clone();
        async move {
            let target = done.load(Ordering::Relaxed) + more;
            while done.load(Ordering::Relaxed) < target {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    // A rolling update: the new one first, the old one drained before it ends.
    for (old, new) in (1..=6).zip(3..) {
        replicas.insert(new, Replica::start(at(3, new), port).await);
        tell.send(routes(&replicas, None)).unwrap();
        timeout(BOUND, answered(20)).await.unwrap();
        tell.send(routes(&replicas, Some(old))).unwrap();
        // What was under way with it is through.
        timeout(BOUND, answered(40)).await.unwrap();
        replicas.remove(&old);
        tell.send(routes(&replicas, None)).unwrap();
        timeout(BOUND, answered(20)).await.unwrap();
    }
    over.store(1, Ordering::Relaxed);
    while let Some(ended) = timeout(BOUND, clients.join_next()).await.unwrap() {
        ended.unwrap();
    }
}

/// A self-signed certificate for a name, in a folder.
fn certificate(folder: &std::path::Path, file: &str, name: &str) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    // The key first: a folder that is read in between is not taken over.
    let write = |kind: &str, what: &str, bytes: &[u8]| {
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        let pem = format!("-----BEGIN {what}-----\n{text}\n-----END {what}-----\n");
        std::fs::write(folder.join(format!("{file}.{kind}")), pem).unwrap();
    };
    write("key", "PRIVATE KEY", &made.signing_key.serialize_der());
    write("crt", "CERTIFICATE", made.cert.der());
    made.cert.der().to_vec()
}

/// Connects with TLS and answers with the server's certificate.
async fn shake(
    addr: SocketAddr,
    name: &'static str,
    trusted: &[u8],
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trusted.to_vec().into()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(addr).await?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(name).unwrap(), stream).await
}

#[tokio::test]
async fn https_speaks_http2_and_follows_its_certificates() {
    let port = free_port(4).await;
    let replica = Replica::start(at(4, 1), port).await;
    let folder = tempfile::tempdir().unwrap();
    let (_tell, pictures) =
        watch::channel(picture(vec![routed("web", "Host(`b.example`)", port, &[replica.address])]));
    let mut settings = Settings { secure: ANY, ..Settings::default() };
    let missing = Http::start(&settings, pictures.clone()).await.unwrap_err();
    assert!(matches!(missing, StartError::NoCertificates));
    settings.certificates = Some(folder.path().to_owned());
    let empty = Http::start(&settings, pictures.clone()).await.unwrap_err().to_string();
    assert!(empty.contains("there is no certificate in"), "{empty}");
    let a = certificate(folder.path(), "a", "a.example");
    let b = certificate(folder.path(), "b", "b.example");
    let http = Http::start(&settings, pictures).await.unwrap();
    let addr = http.secure().unwrap();
    let stream = timeout(BOUND, shake(addr, "b.example", &b)).await.unwrap().unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let ask = Request::get("https://b.example/x").body(Full::<Bytes>::default()).unwrap();
    let response = timeout(BOUND, sender.send_request(ask)).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains("\"x-forwarded-proto\": \"https\""), "{body}");
    assert!(body.contains("\"host\": \"b.example\""), "{body}");
    // A renewed certificate is used without a restart, and the old one no more.
    let renewed = certificate(folder.path(), "b", "b.example");
    let follows = async {
        while shake(addr, "b.example", &renewed).await.is_err() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(BOUND, follows).await.unwrap();
    // One that is broken changes nothing, and a good one after it is used.
    std::fs::write(folder.path().join("b.crt"), "nothing").unwrap();
    timeout(BOUND, shake(addr, "b.example", &renewed)).await.unwrap().unwrap();
    let mended = certificate(folder.path(), "b", "b.example");
    let follows = async {
        while shake(addr, "b.example", &mended).await.is_err() {
            timeout(BOUND, shake(addr, "a.example", &a)).await.unwrap().unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(BOUND, follows).await.unwrap();
}
