//! The cluster's token: one secret that admits.
//!
//! Text form: `SHOAL-1-<50 base-36 digits>-<8 base-36 digits>`, a random 32-byte secret and a checksum over
//! it, so that a token cut short or mistyped is told from one of another cluster. Everything the
//! cluster shares follows from the secret by HKDF-SHA-256 with a label for each use: the cluster's id,
//! the key with which every member signs its own certificate, and the protocol name that is spoken
//! only among those who hold the token. So any member admits, and none has to be asked.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use membership::id::ClusterId;
use ring::hkdf;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use crate::identity::{read_limited, write_secret};

const SECRET_BYTES: usize = 32;
const PREFIX: &str = "SHOAL-1-";
/// 36^50 > 2^256: fifty digits hold the secret.
const SECRET_CHARS: usize = 50;
/// 36^8 > 2^40: eight digits hold a checksum of 40 bits.
const CHECK_CHARS: usize = 8;

/// The file in the data directory.
pub const TOKEN_FILE: &str = "cluster.token";

/// What is wrong with a text that should be a token. None of these repeats the text: it is a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    #[error(
        "this is not a shoal token: a token starts with {PREFIX} and is printed by `shoal token` on any member"
    )]
    NotAToken,
    #[error(
        "this token is of a later kind than this shoal knows (it knows {PREFIX}...): upgrade shoal on this host"
    )]
    LaterKind,
    #[error(
        "the token is cut short or has something added: it has {found} characters, a whole one has {expected}. Copy it again from `shoal token`"
    )]
    Length { found: usize, expected: usize },
    #[error(
        "the token has a '{found}' in it: only 0-9, a-z and dashes occur. Copy it again from `shoal token`"
    )]
    Character { found: char },
    #[error(
        "the token has a typing error: its checksum is wrong. Copy it again from `shoal token`"
    )]
    Checksum,
}

/// Why the token file could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    #[error("cannot read the cluster's token {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write the cluster's token {path}: {source}. Nothing was changed")]
    Write { path: PathBuf, source: io::Error },
    #[error("{path}: {source}")]
    Bad { path: PathBuf, source: TokenError },
    #[error("the system's source of randomness failed: no token was made")]
    Randomness,
}

/// The secret that admits to one cluster. Prints as the cluster's id; [`Token::reveal`] shows it.
#[derive(Clone)]
pub struct Token {
    secret: [u8; SECRET_BYTES],
}

impl Token {
    /// A new cluster's token.
    ///
    /// # Errors
    /// [`TokenFileError::Randomness`].
    pub fn generate() -> Result<Self, TokenFileError> {
        let mut secret = [0u8; SECRET_BYTES];
        SystemRandom::new().fill(&mut secret).map_err(|_| TokenFileError::Randomness)?;
        Ok(Self { secret })
    }

    /// The text to hand to whom shall join.
    pub fn reveal(&self) -> String {
        let mut text = String::with_capacity(PREFIX.len() + SECRET_CHARS + 1 + CHECK_CHARS);
        text.push_str(PREFIX);
        text.push_str(&to_base36(&self.secret, SECRET_CHARS));
        text.push('-');
        text.push_str(&to_base36(&checksum(&self.secret), CHECK_CHARS));
        text
    }

    /// Reads the token in `data_dir`; `None` if there is none.
    ///
    /// # Errors
    /// When there is one that cannot be read or understood.
    pub fn load(data_dir: &Path) -> Result<Option<Self>, TokenFileError> {
        let path = data_dir.join(TOKEN_FILE);
        let bytes = match read_limited(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(TokenFileError::Read { path, source }),
        };
        let text = String::from_utf8_lossy(&bytes);
        text.parse().map(Some).map_err(|source| TokenFileError::Bad { path, source })
    }

    /// Puts the token into `data_dir`, readable by its owner only.
    ///
    /// # Errors
    /// [`TokenFileError::Write`]; an earlier file is then unchanged.
    pub fn store(&self, data_dir: &Path) -> Result<(), TokenFileError> {
        let path = data_dir.join(TOKEN_FILE);
        write_secret(&path, format!("{}\n", self.reveal()).as_bytes())
            .map_err(|source| TokenFileError::Write { path, source })
    }

    /// The name of the cluster that this token admits to.
    pub fn cluster(&self) -> ClusterId {
        let mut id = [0u8; 16];
        id.copy_from_slice(&self.derive("cluster id")[..16]);
        ClusterId(u128::from_be_bytes(id))
    }

    /// The seed of the Ed25519 key that signs the certificates of this cluster's members.
    pub(crate) fn authority_seed(&self) -> [u8; 32] {
        self.derive("certificate authority")
    }

    /// What tells this cluster's TLS protocol name from others': an endpoint answers a stranger who
    /// does not know it with a bare alert, before it shows its certificate.
    pub(crate) fn protocol_tag(&self) -> [u8; 8] {
        let mut tag = [0u8; 8];
        tag.copy_from_slice(&self.derive("protocol name")[..8]);
        tag
    }

    /// The key under which secrets lie on the members' disks.
    pub fn secrets_key(&self) -> [u8; 32] {
        self.derive("secrets at rest")
    }

    fn derive(&self, label: &str) -> [u8; 32] {
        let mut out = [0u8; 32];
        let secret =
            hkdf::Salt::new(hkdf::HKDF_SHA256, b"shoal cluster token 1").extract(&self.secret);
        let info = [label.as_bytes()];
        // Both calls fail only for outputs above 255 hash lengths; this one is one hash long.
        if let Ok(material) = secret.expand(&info, hkdf::HKDF_SHA256) {
            let _ = material.fill(&mut out);
        }
        out
    }
}

impl PartialEq for Token {
    /// Without an early exit, so that the time says nothing about where two tokens differ.
    fn eq(&self, other: &Self) -> bool {
        self.secret.iter().zip(&other.secret).fold(0u8, |diff, (a, b)| diff | (a ^ b)) == 0
    }
}

impl Eq for Token {}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token of cluster {}", self.cluster())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(PREFIX) else {
            let later = text.strip_prefix("SHOAL-").and_then(|rest| rest.split_once('-'));
            return Err(match later {
                Some((kind, _)) if kind.parse::<u32>().is_ok_and(|kind| kind > 1) => {
                    TokenError::LaterKind
                }
                _ => TokenError::NotAToken,
            });
        };
        if let Some(found) =
            rest.chars().find(|c| !(c.is_ascii_digit() || c.is_ascii_lowercase() || *c == '-'))
        {
            return Err(TokenError::Character { found });
        }
        let expected = PREFIX.len() + SECRET_CHARS + 1 + CHECK_CHARS;
        if text.len() != expected {
            return Err(TokenError::Length { found: text.chars().count(), expected });
        }
        let (digits, check) = rest.split_at(SECRET_CHARS);
        let check = check.strip_prefix('-').ok_or(TokenError::Checksum)?;
        let secret: [u8; SECRET_BYTES] = from_base36(digits).ok_or(TokenError::Checksum)?;
        let found: [u8; 5] = from_base36(check).ok_or(TokenError::Checksum)?;
        if found != checksum(&secret) {
            return Err(TokenError::Checksum);
        }
        Ok(Self { secret })
    }
}

fn checksum(secret: &[u8; SECRET_BYTES]) -> [u8; 5] {
    let mut hash = Sha256::new();
    hash.update(b"shoal token checksum");
    hash.update(secret);
    let mut check = [0u8; 5];
    check.copy_from_slice(&hash.finalize()[..5]);
    check
}

/// Long division by 36, most significant byte first; `width` digits.
fn to_base36(bytes: &[u8], width: usize) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut number = bytes.to_vec();
    let mut digits = vec![b'0'; width];
    for place in digits.iter_mut().rev() {
        let mut remainder = 0u32;
        for byte in &mut number {
            let value = (remainder << 8) | u32::from(*byte);
            // The remainder is below 36, so the quotient fits a byte.
            *byte = (value / 36) as u8;
            remainder = value % 36;
        }
        *place = DIGITS[remainder as usize];
    }
    String::from_utf8(digits).unwrap_or_default()
}

/// `None` for a character that is no digit and for a number that does not fit.
fn from_base36<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut number = [0u8; N];
    for character in text.chars() {
        let mut carry = character.to_digit(36)?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = (value & 0xff) as u8;
            carry = value >> 8;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixed() -> Token {
        Token { secret: std::array::from_fn(|i| i as u8) }
    }

    #[test]
    fn text_round_trips_for_all_kinds_of_secrets() {
        for secret in [[0u8; 32], [0xff; 32], fixed().secret] {
            let token = Token { secret };
            assert_eq!(token.reveal().parse::<Token>(), Ok(token.clone()));
            assert_eq!(format!(" {}\n", token.reveal()).parse::<Token>(), Ok(token));
        }
        let (a, b) = (Token::generate().unwrap(), Token::generate().unwrap());
        assert!(a != b && a.cluster() != b.cluster());
    }

    #[test]
    fn the_same_secret_means_the_same_cluster_in_every_version() {
        // Known answers, computed with another implementation of HKDF.
        assert_eq!(
            fixed().reveal(),
            "SHOAL-1-0004kt6yh5gguqfu8e93hara9xtyf5l309wcar43f213wip34v-9ut92zcu"
        );
        assert_eq!(fixed().cluster().to_string(), "dxqp6rid76r64jekh05y0e3ik");
    }

    #[test]
    fn each_damage_is_named_and_none_is_accepted() {
        let whole = fixed().reveal();
        assert_eq!("hello".parse::<Token>(), Err(TokenError::NotAToken));
        assert_eq!(
            whole.replace("SHOAL-1", "SHOAL-2").parse::<Token>(),
            Err(TokenError::LaterKind)
        );
        assert!(matches!(whole[..40].parse::<Token>(), Err(TokenError::Length { found: 40, .. })));
        assert!(matches!(format!("{whole}0").parse::<Token>(), Err(TokenError::Length { .. })));
        assert_eq!(
            whole.replace('k', "K").parse::<Token>(),
            Err(TokenError::Character { found: 'K' })
        );
        for at in PREFIX.len()..whole.len() {
            let mut typo = whole.clone().into_bytes();
            typo[at] = if typo[at] == b'7' { b'8' } else { b'7' };
            let typo = String::from_utf8(typo).unwrap();
            assert_eq!(typo.parse::<Token>(), Err(TokenError::Checksum), "{typo}");
        }
    }

    #[test]
    fn neither_debug_nor_errors_show_the_secret() {
        let token = fixed();
        let digits = &token.reveal()[PREFIX.len()..PREFIX.len() + SECRET_CHARS];
        assert!(!format!("{token:?}").contains(digits));
        let mut typo = token.reveal();
        typo.replace_range(typo.len() - 1.., "!");
        let error = typo.parse::<Token>().unwrap_err();
        assert!(!error.to_string().contains(digits) && !format!("{error:?}").contains(digits));
    }

    #[test]
    fn the_file_is_for_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        assert!(Token::load(dir.path()).unwrap().is_none());
        fixed().store(dir.path()).unwrap();
        assert_eq!(Token::load(dir.path()).unwrap(), Some(fixed()));
        let path = dir.path().join(TOKEN_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "SHOAL-1-abc").unwrap();
        let error = Token::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("cut short") && error.contains(TOKEN_FILE), "{error}");
    }
}
