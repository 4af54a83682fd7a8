//! Who is asked for names that no network here knows: the resolvers that a container's service names (`--dns`), or else
//! the host's own.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::SystemTime;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::{Name, RecordType};
use tokio::sync::Semaphore;

use super::answer::Found;

/// Queries that wait for the host's resolvers at the same time; what comes beyond is told to try again.
const AT_ONCE: usize = 256;

/// Lists of resolvers that services name and that are kept ready; with more, all are made anew when they are asked.
const KEPT: usize = 64;

/// Asks who the host asks, by `/etc/resolv.conf`, which is read anew when it has changed.
pub struct Upstream {
    path: PathBuf,
    port: u16,
    free: Semaphore,
    known: Mutex<Option<Known>>,
    named: Mutex<BTreeMap<Vec<IpAddr>, TokioResolver>>,
}

/// The resolvers as the file named them when it was last changed.
struct Known {
    changed: Option<SystemTime>,
    resolver: Option<TokioResolver>,
}

impl std::fmt::Debug for Upstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upstream").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Default for Upstream {
    fn default() -> Self {
        Self::from_file("/etc/resolv.conf".into(), super::PORT)
    }
}

impl Upstream {
    /// `path` names a file in the form of `/etc/resolv.conf`, which cannot tell a port: `port` is that of all.
    #[must_use]
    pub fn from_file(path: PathBuf, port: u16) -> Self {
        let free = Semaphore::new(AT_ONCE);
        Self { path, port, free, known: Mutex::new(None), named: Mutex::default() }
    }

    /// Asks `named`, or the host's resolvers where nobody is named.
    pub(super) async fn ask(&self, mut name: Name, kind: RecordType, named: &[IpAddr]) -> Found {
        // Containers add their own search domains; the host's are none of their business.
        name.set_fqdn(true);
        let Ok(_place) = self.free.try_acquire() else {
            return Found::elsewhere(ResponseCode::ServFail, Vec::new());
        };
        // Without resolvers nobody can know: not "no such name", after which a client would not ask its other server.
        let resolver = if named.is_empty() { self.resolver() } else { self.named(named) };
        let Some(resolver) = resolver else {
            return Found::elsewhere(ResponseCode::ServFail, Vec::new());
        };
        match resolver.lookup(name, kind).await {
            Ok(found) => Found::elsewhere(ResponseCode::NoError, found.answers().to_vec()),
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                Found::elsewhere(none.response_code, Vec::new())
            }
            Err(error) => {
                tracing::debug!(%error, "no resolver answered a container's query");
                Found::elsewhere(ResponseCode::ServFail, Vec::new())
            }
        }
    }

    fn named(&self, servers: &[IpAddr]) -> Option<TokioResolver> {
        // Whoever held the lock left a whole map behind.
        let mut named = self.named.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(resolver) = named.get(servers) {
            return Some(resolver.clone());
        }
        if named.len() >= KEPT {
            named.clear();
        }
        let ways = servers.iter().map(|server| NameServerConfig::udp_and_tcp(*server)).collect();
        let config = ResolverConfig::from_parts(None, Vec::new(), ways);
        let made = self.build(config, ResolverOpts::default());
        let resolver = made
            .inspect_err(
                |error| tracing::warn!(%error, ?servers, "these resolvers cannot be asked"),
            )
            .ok()?;
        named.insert(servers.to_vec(), resolver.clone());
        Some(resolver)
    }

    fn resolver(&self) -> Option<TokioResolver> {
        let changed = std::fs::metadata(&self.path).and_then(|file| file.modified()).ok();
        // Whoever held the lock left a whole value behind, or none.
        let mut known = self.known.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match &*known {
            Some(known) if known.changed == changed => known.resolver.clone(),
            _ => {
                let resolver = self.read();
                *known = Some(Known { changed, resolver: resolver.clone() });
                resolver
            }
        }
    }

    fn read(&self) -> Option<TokioResolver> {
        let failed = |error: &dyn std::fmt::Display| {
            tracing::warn!(
                file = %self.path.display(),
                %error,
                "containers can resolve names of services only: the host's resolvers could not be read. It is tried \
                 again when the file has changed"
            );
        };
        let text = std::fs::read(&self.path).map_err(|error| failed(&error)).ok()?;
        let (config, options) = hickory_resolver::system_conf::parse_resolv_conf(text)
            .map_err(|error| failed(&error))
            .ok()?;
        if config.name_servers().is_empty() {
            return None;
        }
        self.build(config, options).map_err(|error| failed(&error)).ok()
    }

    fn build(
        &self,
        config: ResolverConfig,
        options: ResolverOpts,
    ) -> Result<TokioResolver, NetError> {
        let (_, _, mut servers) = config.into_parts();
        for connection in servers.iter_mut().flat_map(|server| &mut server.connections) {
            connection.port = self.port;
        }
        let config = ResolverConfig::from_parts(None, Vec::new(), servers);
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        // The host's own names for itself and its neighbours are not the containers'.
        builder.options_mut().use_hosts_file = ResolveHosts::Never;
        builder.build()
    }
}
