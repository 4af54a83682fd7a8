//! What keeps secrets unreadable on disks: sealed before they leave the API, opened where a task
//! starts.
//!
//! The key follows from the cluster's token, so every member can open them and nobody has to hand keys
//! around. Sealing is ChaCha20-Poly1305 (RFC 8439, from `ring`) with a random nonce; the secret's name
//! is authenticated with it, so that two sealed secrets cannot be swapped for each other. What this
//! protects and what it does not is in docs/ARCHITECTURE.md ("Secrets").

use std::fmt;

use node::files::Content;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The first byte of what is sealed: which layout follows.
const LAYOUT: u8 = 1;

/// Why a secret could not be sealed or opened. Never holds any of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    #[error("the system's source of randomness failed: nothing was stored")]
    Randomness,
    #[error("the secret {0} cannot be sealed: nothing was stored")]
    Seal(String),
    #[error(
        "the secret {0} was sealed by a later shoal: upgrade shoal on this host; it is unharmed"
    )]
    LaterLayout(String),
    #[error(
        "the secret {0} cannot be opened: it was not sealed with this cluster's token, or is damaged. Remove it and create it again under another name"
    )]
    Open(String),
}

/// The cluster's key for secrets. Prints nothing of itself.
pub struct Vault {
    key: Option<LessSafeKey>,
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Vault")
    }
}

impl Vault {
    pub fn new(key: &[u8; 32]) -> Self {
        // Fails only for a key of another length.
        Self { key: UnboundKey::new(&CHACHA20_POLY1305, key).ok().map(LessSafeKey::new) }
    }

    /// # Errors
    /// [`VaultError::Randomness`].
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Content, VaultError> {
        let mut nonce = [0u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| VaultError::Randomness)?;
        self.seal_with(name, plain, nonce)
    }

    fn seal_with(
        &self,
        name: &str,
        plain: &[u8],
        nonce: [u8; NONCE_LEN],
    ) -> Result<Content, VaultError> {
        let failed = || VaultError::Seal(name.to_owned());
        let key = self.key.as_ref().ok_or_else(failed)?;
        // Room for the tag from the start: growing would leave a copy of the bytes behind.
        let mut sealed = Vec::with_capacity(plain.len() + CHACHA20_POLY1305.tag_len());
        sealed.extend_from_slice(plain);
        key.seal_in_place_append_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(about(name)),
            &mut sealed,
        )
        .map_err(|_| failed())?;
        Ok(Content::new([&[LAYOUT], nonce.as_slice(), &sealed].concat()))
    }

    /// The secret itself; its memory is cleared when it is dropped.
    ///
    /// # Errors
    /// When it was sealed with another token or by a later version, or was changed since.
    pub fn open(&self, name: &str, sealed: &Content) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let failed = || VaultError::Open(name.to_owned());
        let (layout, rest) = sealed.bytes().split_first().ok_or_else(failed)?;
        match *layout {
            LAYOUT => {}
            later if later > LAYOUT => return Err(VaultError::LaterLayout(name.to_owned())),
            _ => return Err(failed()),
        }
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(failed)?;
        let key = self.key.as_ref().ok_or_else(failed)?;
        let mut bytes = Zeroizing::new(rest.to_vec());
        let len = key
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(about(name)),
                bytes.as_mut_slice(),
            )
            .map_err(|_| failed())?
            .len();
        bytes.truncate(len);
        Ok(bytes)
    }
}

fn about(name: &str) -> Vec<u8> {
    [b"shoal secret 1\0", name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::assets::SEAL_BYTES;

    #[test]
    fn what_is_sealed_comes_back_under_its_name_only() {
        let vault = Vault::new(&[7; 32]);
        let sealed = vault.seal("db", b"pass word").unwrap();
        assert_ne!(sealed, vault.seal("db", b"pass word").unwrap(), "the nonce differs");
        assert_eq!(vault.open("db", &sealed).unwrap().as_slice(), b"pass word");
        assert_eq!(vault.open("other", &sealed), Err(VaultError::Open("other".into())));
        assert!(Vault::new(&[8; 32]).open("db", &sealed).is_err());
        assert!(sealed.bytes().len() <= 9 + SEAL_BYTES);
    }

    #[test]
    fn each_changed_or_missing_byte_is_noticed() {
        let vault = Vault::new(&[7; 32]);
        let sealed = vault.seal("db", b"secret").unwrap();
        for at in 0..sealed.bytes().len() {
            let mut other = sealed.bytes().to_vec();
            other[at] ^= 1;
            assert!(vault.open("db", &Content::new(other)).is_err(), "byte {at}");
            assert!(vault.open("db", &Content::new(&sealed.bytes()[..at])).is_err(), "{at}");
        }
        let later = Content::new([2u8].as_slice());
        assert!(vault.open("db", &later).unwrap_err().to_string().contains("upgrade"));
    }

    /// Known answer (the cipher's from another implementation): layout and algorithm stand still.
    #[test]
    fn the_layout_stands_still() {
        let vault = Vault::new(&[7; 32]);
        let sealed = vault.seal_with("db", b"secret", [9; NONCE_LEN]).unwrap();
        let hex: String = sealed.bytes().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "010909090909090909090909098f1c98a5817a047ed132ab2b49c842318a8fdb1cc6ec");
    }
}
