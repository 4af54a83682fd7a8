//! HTTP requests from outside, to services by host and path.
//!
//! Any node takes them, on the addresses that its settings name, and hands them to a replica that is ready, wherever it
//! runs. Which requests are for whom follows from the services' labels (`node::network::routes`) and is in the picture
//! of the moment. HTTP itself is hyper's, TLS rustls': here are the choice of the replica, what is passed on
//! of a request, and what is done when a replica does not answer.
//!
//! ```text
//! accept (this file) -> certificates.rs, for HTTPS -> choice.rs: which service, which replica -> forward.rs
//! ```

mod certificates;
mod choice;
mod forward;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use node::network::picture::Picture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

pub use certificates::CertificateError;
use certificates::Certificates;
use forward::Forwarder;

/// Connections of clients that are open at once; further ones wait to be accepted.
const CONNECTIONS: usize = 10_000;
/// How long a client may take for a TLS handshake, and for the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// The largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 * 1024;
/// When accepting fails, mostly for want of file descriptors, it is tried again after so long.
const PAUSE: Duration = Duration::from_millis(200);

/// Where requests are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// HTTP; none: not at all.
    pub plain: Option<SocketAddr>,
    /// HTTPS; none: not at all.
    pub secure: Option<SocketAddr>,
    /// A folder of certificates: see [`certificates`](self) on what belongs there.
    pub certificates: Option<PathBuf>,
}

/// Why no requests are taken.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "cannot take HTTP requests at {addr} ({source}): free the address, or choose another with --http or --https"
    )]
    Listen { addr: SocketAddr, source: io::Error },
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    #[error("HTTPS needs certificates: name their folder with --certificates")]
    NoCertificates,
}

/// Takes requests until it is dropped.
#[derive(Debug)]
pub struct Http {
    tasks: JoinSet<()>,
    plain: Option<SocketAddr>,
    secure: Option<SocketAddr>,
}

impl Http {
    /// Listens, and serves by the latest picture.
    ///
    /// # Errors
    /// [`StartError`]; nothing is listened on then.
    pub async fn start(
        settings: &Settings,
        pictures: watch::Receiver<Arc<Picture>>,
    ) -> Result<Self, StartError> {
        let certificates = match (&settings.secure, &settings.certificates) {
            (None, _) => None,
            (Some(_), Some(folder)) => Some(Arc::new(Certificates::load(folder)?)),
            (Some(_), None) => return Err(StartError::NoCertificates),
        };
        let (plain, secure) = (listen(settings.plain).await?, listen(settings.secure).await?);
        let forwarder = Arc::new(Forwarder::new(pictures));
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let bound = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        let mut http = Self { tasks: JoinSet::new(), plain: bound(&plain), secure: bound(&secure) };
        if let Some(listener) = plain {
            http.tasks.spawn(accept(listener, None, forwarder.clone(), places.clone()));
        }
        if let (Some(listener), Some(certificates)) = (secure, certificates) {
            let acceptor = TlsAcceptor::from(certificates.config());
            http.tasks.spawn(accept(listener, Some(acceptor), forwarder, places));
            http.tasks.spawn(certificates::keep_fresh(certificates));
        }
        Ok(http)
    }

    /// Where HTTP is taken, with the port that the system chose.
    #[must_use]
    pub fn plain(&self) -> Option<SocketAddr> {
        self.plain
    }

    /// Where HTTPS is taken, with the port that the system chose.
    #[must_use]
    pub fn secure(&self) -> Option<SocketAddr> {
        self.secure
    }
}

async fn listen(addr: Option<SocketAddr>) -> Result<Option<TcpListener>, StartError> {
    match addr {
        None => Ok(None),
        Some(addr) => TcpListener::bind(addr)
            .await
            .map(Some)
            .map_err(|source| StartError::Listen { addr, source }),
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    forwarder: Arc<Forwarder>,
    places: Arc<Semaphore>,
) {
    // Its connections end with it.
    let mut connections = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return };
        let (stream, client) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections for HTTP at the moment");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let (tls, forwarder) = (tls.clone(), forwarder.clone());
        connections.spawn(async move {
            let _place = place;
            connection(stream, client, tls, forwarder).await;
        });
    }
}

async fn connection(
    stream: TcpStream,
    client: SocketAddr,
    tls: Option<TlsAcceptor>,
    forwarder: Arc<Forwarder>,
) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(stream, client, false, forwarder).await,
        Some(tls) => match timeout(HEAD_DEADLINE, tls.accept(stream)).await {
            Ok(Ok(stream)) => serve(stream, client, true, forwarder).await,
            Ok(Err(error)) => tracing::debug!(%client, %error, "a TLS handshake failed"),
            Err(_) => tracing::debug!(%client, "a TLS handshake took too long"),
        },
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    client: SocketAddr,
    secure: bool,
    forwarder: Arc<Forwarder>,
) {
    let service = service_fn(move |request| {
        let forwarder = forwarder.clone();
        async move { Ok::<_, Infallible>(forwarder.answer(request, client, secure).await) }
    });
    let mut server = auto::Builder::new(TokioExecutor::new());
    server
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .max_buf_size(HEAD_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES as u32)
        .keep_alive_interval(Some(Duration::from_secs(30)));
    // A client that breaks off is no news.
    if let Err(error) = server.serve_connection_with_upgrades(TokioIo::new(stream), service).await {
        tracing::debug!(%client, error, "a connection for HTTP ended early");
    }
}
