//! A node's key, and its name, which follows from the key.
//!
//! The key is Ed25519 and lies in the data directory as PKCS#8, readable by its owner only. `NodeId`
//! is the first 128 bits, big-endian, of the SHA-256 of the raw 32-byte public key. The same key signs
//! the node's certificate requests and its facts, so whoever sees a certificate or a fact can compute
//! whose it is without asking anybody.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use membership::id::NodeId;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

/// Length of a raw Ed25519 public key in bytes.
pub const PUBLIC_KEY_BYTES: usize = 32;

/// The file in the data directory.
pub const KEY_FILE: &str = "node.key";

/// No key file is longer: PKCS#8 v2 of Ed25519 has 83 to 85 bytes.
const MAX_KEY_FILE_BYTES: u64 = 4096;

/// The name of the node with this public key.
pub fn node_id_of(public_key: &[u8; PUBLIC_KEY_BYTES]) -> NodeId {
    let digest = Sha256::digest(public_key);
    let mut first = [0u8; 16];
    first.copy_from_slice(&digest[..16]);
    NodeId(u128::from_be_bytes(first))
}

/// Why a node's key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read this node's key {path}: {source}. Without it this host is another node")]
    Read { path: PathBuf, source: io::Error },
    #[error(
        "cannot write this node's new key {path}: {source}. Give a data directory that is writable with --data-dir; nothing was changed"
    )]
    Write { path: PathBuf, source: io::Error },
    #[error(
        "{path} is not an Ed25519 key in PKCS#8: it is damaged. Restore it from a backup, or remove it to start as a new node (the cluster will then hold the old one for down)"
    )]
    Damaged { path: PathBuf },
    #[error("the system's source of randomness failed: no key was made")]
    Randomness,
}

/// The private key of one node. Clones share it.
#[derive(Clone)]
pub struct NodeKey {
    inner: Arc<Inner>,
}

struct Inner {
    pair: Ed25519KeyPair,
    pkcs8: Vec<u8>,
    public: [u8; PUBLIC_KEY_BYTES],
    id: NodeId,
}

impl NodeKey {
    /// A new key that is nowhere on disk.
    ///
    /// # Errors
    /// [`KeyError::Randomness`].
    pub fn generate() -> Result<Self, KeyError> {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new())
            .map_err(|_| KeyError::Randomness)?;
        Self::from_pkcs8(document.as_ref())
            .ok_or_else(|| KeyError::Damaged { path: PathBuf::from("the new key") })
    }

    /// Reads the key in `data_dir`, or makes one there if there is none.
    ///
    /// # Errors
    /// A key that is there but cannot be read or understood is never replaced.
    pub fn load_or_create(data_dir: &Path) -> Result<Self, KeyError> {
        let path = data_dir.join(KEY_FILE);
        match read_limited(&path) {
            Ok(bytes) => Self::from_pkcs8(&bytes).ok_or(KeyError::Damaged { path }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                write_secret(&path, key.pkcs8())
                    .map_err(|source| KeyError::Write { path, source })?;
                Ok(key)
            }
            Err(source) => Err(KeyError::Read { path, source }),
        }
    }

    fn from_pkcs8(bytes: &[u8]) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(bytes).ok()?;
        let public: [u8; PUBLIC_KEY_BYTES] = pair.public_key().as_ref().try_into().ok()?;
        let inner = Inner { pair, pkcs8: bytes.to_vec(), id: node_id_of(&public), public };
        Some(Self { inner: Arc::new(inner) })
    }

    pub fn id(&self) -> NodeId {
        self.inner.id
    }

    pub fn public_key(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.inner.public
    }

    pub(crate) fn pkcs8(&self) -> &[u8] {
        &self.inner.pkcs8
    }

    pub(crate) fn sign(&self, message: &[u8]) -> ring::signature::Signature {
        self.inner.pair.sign(message)
    }

    /// 32 bytes that only this node knows and that are the same at each start, for `purpose`.
    pub(crate) fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(b"shoal node key, ");
        hash.update(purpose.as_bytes());
        hash.update([0]);
        hash.update(self.pkcs8());
        hash.finalize().into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey of {}", self.id())
    }
}

pub(crate) fn read_limited(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_KEY_FILE_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes long")));
    }
    fs::read(path)
}

/// Writes a file that only its owner may read, whole or not at all: to a new file, synced, renamed.
pub(crate) fn write_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    // A draft left by a crash may have any permissions: never write a secret into it.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    drop(file);
    fs::rename(&draft, path)?;
    if let Some(parent) = path.parent() {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_key_survives_on_disk_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let first = NodeKey::load_or_create(dir.path()).unwrap();
        let again = NodeKey::load_or_create(dir.path()).unwrap();
        assert_eq!(first.id(), again.id());
        assert_eq!(first.derive("x"), again.derive("x"));
        assert_ne!(first.derive("x"), first.derive("y"));
        let mode = fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_ne!(NodeKey::generate().unwrap().id(), first.id());
    }

    #[test]
    fn a_damaged_key_is_reported_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        for garbage in [&b""[..], b"not a key", &[0u8; 5000]] {
            fs::write(&path, garbage).unwrap();
            assert!(NodeKey::load_or_create(dir.path()).is_err());
            assert_eq!(fs::read(&path).unwrap(), garbage);
        }
    }

    #[test]
    fn the_name_follows_from_the_public_key() {
        // Known answer, so that no later version renames every node.
        assert_eq!(node_id_of(&[7; 32]).to_string(), "4hbcscie2f2pmmn9uj64ejc53");
    }

    #[test]
    fn debug_shows_no_secret() {
        let key = NodeKey::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("NodeKey of {}", key.id()));
    }
}
