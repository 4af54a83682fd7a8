//! A request's way to a replica and the answer's way back.
//!
//! What belongs to one connection only (RFC 9110, section 7.6.1) is not passed on; who asked, and how, is, in the headers
//! that are usual for it. What the client itself wrote into those is thrown away, or anybody could pretend to be anybody.
//! A request that may be repeated (idempotent, without a body) is tried at another replica when one does not answer;
//! others are not, since nobody knows what was done of them.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Empty, Full, combinators::BoxBody};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::http::uri::{Authority, Scheme};
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use node::network::picture::{Picture, Routed};
use tokio::sync::watch;

use super::choice::{self, Asked, Load, Place};

/// How long a replica may take to accept a connection.
const CONNECT_DEADLINE: Duration = Duration::from_secs(2);
/// How many replicas one request is tried at.
const TRIES: usize = 3;
/// Connections to a replica that nobody uses are kept for so long.
const KEPT: Duration = Duration::from_secs(30);

/// What goes out: what came in, or nothing, which can be sent again.
type Outgoing = Either<Incoming, Empty<Bytes>>;
pub(super) type Answer = BoxBody<Bytes, hyper::Error>;

/// Headers that say something about one connection.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];
const HOP_BY_HOP_UNNAMED: [&str; 2] = ["keep-alive", "proxy-connection"];

pub(super) struct Forwarder {
    pictures: watch::Receiver<Arc<Picture>>,
    load: Arc<Load>,
    http1: Client<HttpConnector, Outgoing>,
    http2: Client<HttpConnector, Outgoing>,
}

impl Forwarder {
    pub(super) fn new(pictures: watch::Receiver<Arc<Picture>>) -> Self {
        let connector = || {
            let mut connector = HttpConnector::new();
            connector.set_connect_timeout(Some(CONNECT_DEADLINE));
            connector.set_nodelay(true);
            connector
        };
        let client = |http2| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(KEPT)
                .http2_only(http2)
                .build(connector())
        };
        let (http1, http2) = (client(false), client(true));
        Self { pictures, load: Arc::default(), http1, http2 }
    }

    /// Answers a request, whatever becomes of it.
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        client: SocketAddr,
        secure: bool,
    ) -> Response<Answer> {
        let (parts, body) = request.into_parts();
        let picture = self.pictures.borrow().clone();
        let authority = authority(&parts);
        let host = authority.as_ref().map(|authority| authority.host().to_owned());
        let host = host.unwrap_or_default();
        let routed = choice::route(&picture, &Asked { host: &host, parts: &parts }, secure);
        let Some(routed) = routed else {
            let text = format!("no service of this cluster has a route for '{host}' and this path");
            return refusal(StatusCode::NOT_FOUND, text);
        };
        let mut head = parts;
        prepare(&mut head, authority.as_ref(), client, secure);
        self.forward(routed, head, body).await
    }

    async fn forward(&self, routed: &Routed, mut head: Parts, body: Incoming) -> Response<Answer> {
        let again = head.method.is_idempotent() && body.is_end_stream();
        let upgrade = head.headers.contains_key(header::UPGRADE);
        let client_side = upgrade.then(|| head.extensions.remove::<hyper::upgrade::OnUpgrade>());
        let client_side = client_side.flatten();
        let mut body = Some(body);
        let mut tried: Vec<Ipv4Addr> = Vec::new();
        let tries = if again && !upgrade { TRIES } else { 1 };
        while let Some(place) = self.load.take(routed, &tried) {
            let outgoing = match body.take() {
                Some(body) if !again => Either::Left(body),
                _ => Either::Right(Empty::new()),
            };
            let Some(request) = addressed(&head, place.replica, outgoing, routed.route.h2c) else {
                let text = "the request's address cannot be passed on".to_owned();
                return refusal(StatusCode::BAD_REQUEST, text);
            };
            let sender = if routed.route.h2c { &self.http2 } else { &self.http1 };
            match sender.request(request).await {
                Ok(response) => return passed_back(response, place, client_side),
                Err(error) => {
                    tracing::debug!(
                        service = routed.name,
                        replica = %place.replica,
                        error = %chain(&error),
                        "a replica did not answer a request"
                    );
                    if error.is_connect() {
                        self.load.pass_over(place.replica);
                    }
                    tried.push(*place.replica.ip());
                    if tried.len() >= tries {
                        break;
                    }
                }
            }
        }
        if tried.is_empty() {
            let text = format!("service '{}' has no replica that is ready", routed.name);
            return refusal(StatusCode::SERVICE_UNAVAILABLE, text);
        }
        let text = format!("{} of service '{}' did not answer", replicas(tried.len()), routed.name);
        refusal(StatusCode::BAD_GATEWAY, text)
    }
}

fn replicas(count: usize) -> String {
    if count == 1 { "a replica".to_owned() } else { format!("{count} replicas") }
}

/// Whom the client asked for: in HTTP/2 a part of the address, before that a header.
fn authority(head: &Parts) -> Option<Authority> {
    let said = head.uri.authority().cloned();
    said.or_else(|| head.headers.get(header::HOST)?.to_str().ok()?.parse().ok())
}

/// Makes a client's head into one for a replica.
fn prepare(head: &mut Parts, authority: Option<&Authority>, client: SocketAddr, secure: bool) {
    let upgrade = upgrade_of(&head.headers);
    let trailers = head.headers.get(header::TE).is_some_and(|te| te.as_bytes() == b"trailers");
    without_hop_by_hop(&mut head.headers);
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            head.headers.insert(name, value);
        }
    };
    let ip = client.ip().to_canonical().to_string();
    set("x-forwarded-for", &ip);
    set("x-real-ip", &ip);
    set("x-forwarded-proto", if secure { "https" } else { "http" });
    set("x-forwarded-port", &port_of(authority, secure).to_string());
    if let Some(authority) = authority {
        set("x-forwarded-host", authority.as_str());
        set("host", authority.as_str());
    }
    if trailers {
        set("te", "trailers");
    }
    if let Some(upgrade) = upgrade {
        head.headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        head.headers.insert(header::UPGRADE, upgrade);
    }
}

fn port_of(authority: Option<&Authority>, secure: bool) -> u16 {
    let said = authority.and_then(Authority::port_u16);
    said.unwrap_or(if secure { 443 } else { 80 })
}

/// What the sender wants the connection to become (a WebSocket, mostly).
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let asks = headers.get_all(header::CONNECTION).iter().any(|value| {
        let value = value.to_str().unwrap_or_default();
        value.split(',').any(|one| one.trim().eq_ignore_ascii_case("upgrade"))
    });
    headers.get(header::UPGRADE).filter(|_| asks).cloned()
}

fn without_hop_by_hop(headers: &mut HeaderMap) {
    // What `Connection` names is about the connection too.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.into_iter().chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    for name in HOP_BY_HOP_UNNAMED {
        headers.remove(name);
    }
}

fn addressed(
    head: &Parts,
    replica: SocketAddrV4,
    body: Outgoing,
    h2c: bool,
) -> Option<Request<Outgoing>> {
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(replica.to_string())
        .path_and_query(path)
        .build()
        .ok()?;
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = if h2c { Version::HTTP_2 } else { Version::HTTP_11 };
    *request.headers_mut() = head.headers.clone();
    Some(request)
}

/// A replica's answer, for the client. The replica counts as busy until the last byte is through.
fn passed_back(
    mut response: Response<Incoming>,
    place: Place,
    client: Option<hyper::upgrade::OnUpgrade>,
) -> Response<Answer> {
    let upgrade = upgrade_of(response.headers());
    without_hop_by_hop(response.headers_mut());
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (Some(client), Some(upgrade)) = (client, upgrade) else {
            let text = "the replica switched protocols, which nobody asked it to".to_owned();
            return refusal(StatusCode::BAD_GATEWAY, text);
        };
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, upgrade);
        let replica = hyper::upgrade::on(&mut response);
        tokio::spawn(async move {
            if let (Ok(client), Ok(replica)) = (client.await, replica.await) {
                let (mut client, mut replica) = (TokioIo::new(client), TokioIo::new(replica));
                // It ends when either side does.
                let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
            }
            drop(place);
        });
        return response.map(|_| Empty::new().map_err(|never| match never {}).boxed());
    }
    *response.version_mut() = Version::default();
    response.map(|body| Counted { body, _place: place }.boxed())
}

fn refusal(status: StatusCode, text: String) -> Response<Answer> {
    let body = Full::new(Bytes::from(text + "\n")).map_err(|never| match never {}).boxed();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}

/// An error with its causes, of which the first says little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A body that is counted as under way until it ends or is dropped.
struct Counted {
    body: Incoming,
    _place: Place,
}

impl Body for Counted {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
