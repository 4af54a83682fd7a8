//! The certificates for HTTPS: a folder of PEM files, read at start and again when one of them changes.
//!
//! `NAME.crt` holds a certificate and those that it was signed with, `NAME.key` its private key. Which names a
//! certificate is for stands in itself; a client that names none, or one that none is for, gets the first by file name.
//! Renewing one is replacing its files: what is wrong with the new ones is said, and the old go on serving.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime};

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// How often the folder is looked at.
const LOOK: Duration = Duration::from_secs(5);

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("the folder of certificates {path} cannot be read ({reason})")]
    Folder { path: PathBuf, reason: String },
    #[error("there is no certificate in {path}: put NAME.crt and NAME.key there, both PEM")]
    None { path: PathBuf },
    #[error("the certificate {path} cannot be used ({reason})")]
    Bad { path: PathBuf, reason: String },
    #[error("TLS cannot be set up ({0})")]
    Tls(#[from] rustls::Error),
}

type Stamps = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The certificates of a folder.
pub(super) struct Certificates {
    folder: PathBuf,
    loaded: Arc<RwLock<Loaded>>,
    config: Arc<rustls::ServerConfig>,
}

struct Loaded {
    keys: Vec<Arc<CertifiedKey>>,
    stamps: Stamps,
}

struct ByName(Arc<RwLock<Loaded>>);

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ByName")
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let loaded = self.0.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fits = |key: &&Arc<CertifiedKey>| {
            let leaf = key.cert.first().and_then(|leaf| ParsedCertificate::try_from(leaf).ok());
            leaf.zip(name.as_ref())
                .is_some_and(|(leaf, name)| rustls::client::verify_server_name(&leaf, name).is_ok())
        };
        loaded.keys.iter().find(fits).or(loaded.keys.first()).cloned()
    }
}

impl Certificates {
    pub(super) fn load(folder: &Path) -> Result<Self, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let stamps = stamps(folder)?;
        let keys = read(folder, &stamps, &provider)?;
        let loaded = Arc::new(RwLock::new(Loaded { keys, stamps }));
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(loaded.clone())));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { folder: folder.to_owned(), loaded, config: Arc::new(config) })
    }

    pub(super) fn config(&self) -> Arc<rustls::ServerConfig> {
        self.config.clone()
    }

    /// Reads the folder again if something in it changed.
    fn refresh(&self) {
        let known = {
            let loaded = self.loaded.read().unwrap_or_else(|poisoned| poisoned.into_inner());
            loaded.stamps.clone()
        };
        let found = match stamps(&self.folder) {
            Ok(found) if found == known => return,
            Ok(found) => found,
            Err(error) => return tracing::warn!(%error, "the certificates in use stay"),
        };
        let keys = read(&self.folder, &found, self.config.crypto_provider());
        let mut loaded = self.loaded.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        // Also where they cannot be used, so that it is said once.
        loaded.stamps = found;
        match keys {
            Ok(keys) => {
                tracing::info!(count = keys.len(), "certificates for HTTPS were read anew");
                loaded.keys = keys;
            }
            Err(error) => tracing::warn!(%error, "the certificates in use stay"),
        }
    }
}

/// Follows changes in the folder, for ever.
pub(super) async fn keep_fresh(certificates: Arc<Certificates>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let one = certificates.clone();
        let _ = tokio::task::spawn_blocking(move || one.refresh()).await;
    }
}

/// The certificates and keys in the folder, with what tells whether one has changed.
fn stamps(folder: &Path) -> Result<Stamps, CertificateError> {
    let failed = |error: std::io::Error| CertificateError::Folder {
        path: folder.to_owned(),
        reason: error.to_string(),
    };
    let mut found = Stamps::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|kind| kind == "crt" || kind == "key") {
            // Through links: a renewal often just points elsewhere. One that is gone again is seen the next time.
            let Ok(about) = std::fs::metadata(&path) else { continue };
            let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.insert(path, (modified, about.len()));
        }
    }
    Ok(found)
}

fn read(
    folder: &Path,
    stamps: &Stamps,
    provider: &CryptoProvider,
) -> Result<Vec<Arc<CertifiedKey>>, CertificateError> {
    let certificates =
        stamps.keys().filter(|path| path.extension().is_some_and(|kind| kind == "crt"));
    let keys = certificates.map(|path| read_one(path, provider)).collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() {
        return Err(CertificateError::None { path: folder.to_owned() });
    }
    Ok(keys)
}

fn read_one(path: &Path, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, CertificateError> {
    let bad = |reason: String| CertificateError::Bad { path: path.to_owned(), reason };
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(error.to_string()))?;
    if chain.is_empty() {
        return Err(bad("there is no certificate in it".to_owned()));
    }
    let key_path = path.with_extension("key");
    let key = PrivateKeyDer::from_pem_file(&key_path)
        .map_err(|error| bad(format!("its key {}: {error}", key_path.display())))?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| bad(format!("with its key {}: {error}", key_path.display())))?;
    Ok(Arc::new(key))
}
