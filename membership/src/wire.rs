//! The only place that knows how values become bytes.
//!
//! Whatever is stored or sent starts with two bytes: a tag that says which type it is and the version
//! of that type's layout. A node that meets a newer version says so instead of guessing; a type whose
//! layout changes raises its version and reads the old one in [`Versioned::upgrade`]. Inside the
//! codec is bincode 2 (unmaintained, RUSTSEC-2025-0141; accepted because it is pinned, finished and
//! named in this file only). It neither bounds allocations nor notices trailing bytes by itself, so both
//! are done here: bytes from a peer are measured before they are read and must be consumed to the last.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of what nodes say to each other. Exchanged in every handshake; the cluster speaks the
/// lowest that all members know.
pub const PROTOCOL_VERSION: u16 = 3;

/// The largest encoding of anything, in bytes. A type's own [`Versioned::LIMIT`] may only be lower.
pub const MAX_ENCODED_BYTES: usize = 4 * 1024 * 1024;

const HEADER_BYTES: usize = 2;

/// A type that is stored or sent.
///
/// Tags 1 to 31 belong to this crate, 32 to 127 to the crates above it, the rest is free. A golden-bytes
/// test holds the layout of each type still.
pub trait Versioned: Serialize + DeserializeOwned {
    /// Which type it is; different for every implementer.
    const TAG: u8;
    /// The layout that [`encode`] writes. Starts at 1.
    const VERSION: u8;
    /// The largest encoding in bytes, header included, that is written or accepted.
    const LIMIT: usize;

    /// Reads an older layout: `payload` is what followed the header. Implementers decode the old type
    /// with [`decode_payload`] and convert it.
    ///
    /// # Errors
    /// By default every older version is refused with [`WireError::OlderVersion`].
    fn upgrade(version: u8, payload: &[u8]) -> Result<Self, WireError> {
        let _ = payload;
        Err(WireError::OlderVersion { tag: Self::TAG, found: version, known: Self::VERSION })
    }
}

/// Why bytes could not be written or read. Nothing was changed in any case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("the message ends after {have} bytes, in the middle of a value: it was cut short")]
    Truncated { have: usize },
    #[error("expected a value with tag {expected}, found tag {found}")]
    WrongTag { expected: u8, found: u8 },
    #[error(
        "a value with tag {tag} has layout {found}, this shoal knows up to {known}: upgrade shoal on this host"
    )]
    NewerVersion { tag: u8, found: u8, known: u8 },
    #[error(
        "a value with tag {tag} has layout {found}, this shoal knows only {known}: upgrade shoal on the host that sent or stored it"
    )]
    OlderVersion { tag: u8, found: u8, known: u8 },
    #[error("{left} bytes are left over behind the value: it is not what its header says")]
    Trailing { left: usize },
    #[error("{bytes} bytes are more than the {limit} that a value with tag {tag} may have")]
    TooLarge { tag: u8, bytes: usize, limit: usize },
    #[error("the bytes are not a value with tag {tag}: {reason}")]
    Malformed { tag: u8, reason: String },
    #[error("a value with tag {tag} cannot be encoded: {reason}")]
    Unencodable { tag: u8, reason: String },
}

/// Header and value as bytes.
///
/// # Errors
/// [`WireError::TooLarge`] when the result would exceed the type's limit.
pub fn encode<T: Versioned>(value: &T) -> Result<Vec<u8>, WireError> {
    let mut bytes = vec![T::TAG, T::VERSION];
    bincode::serde::encode_into_std_write(value, &mut bytes, bincode::config::standard())
        .map_err(|e| WireError::Unencodable { tag: T::TAG, reason: e.to_string() })?;
    check_size::<T>(bytes.len())?;
    Ok(bytes)
}

/// The value that `bytes` hold, whoever sent them.
///
/// # Errors
/// Says which check failed; allocates at most a small multiple of `bytes.len()` before it knows.
pub fn decode<T: Versioned>(bytes: &[u8]) -> Result<T, WireError> {
    check_size::<T>(bytes.len())?;
    let [tag, version, payload @ ..] = bytes else {
        return Err(WireError::Truncated { have: bytes.len() });
    };
    if *tag != T::TAG {
        return Err(WireError::WrongTag { expected: T::TAG, found: *tag });
    }
    if *version > T::VERSION {
        return Err(WireError::NewerVersion { tag: *tag, found: *version, known: T::VERSION });
    }
    if *version < T::VERSION {
        return T::upgrade(*version, payload);
    }
    decode_payload(T::TAG, payload)
}

/// A value without its header: what [`Versioned::upgrade`] reads old layouts with.
///
/// # Errors
/// As [`decode`], except for what concerns the header.
pub fn decode_payload<T: DeserializeOwned>(tag: u8, payload: &[u8]) -> Result<T, WireError> {
    // The codec's limit counts decoded sizes (16 bytes for a one-byte u128) and bounds what a hostile
    // length makes it allocate, so it must be at least 16 times the input and not much more. It is a
    // const generic; three steps are close enough.
    let result = match payload.len() {
        0..=0xFFF => read::<T, { 1 << 16 }>(payload),
        0x1000..=0xF_FFFF => read::<T, { 1 << 24 }>(payload),
        _ => read::<T, { 1 << 26 }>(payload),
    };
    let (value, used) = result.map_err(|e| match e {
        bincode::error::DecodeError::UnexpectedEnd { .. } => {
            WireError::Truncated { have: payload.len() + HEADER_BYTES }
        }
        other => WireError::Malformed { tag, reason: other.to_string() },
    })?;
    match payload.len() - used {
        0 => Ok(value),
        left => Err(WireError::Trailing { left }),
    }
}

fn read<T: DeserializeOwned, const LIMIT: usize>(
    payload: &[u8],
) -> Result<(T, usize), bincode::error::DecodeError> {
    bincode::serde::decode_from_slice(payload, bincode::config::standard().with_limit::<LIMIT>())
}

/// The bytes of a value that is hashed or signed and never read back: no header, no limit.
pub(crate) fn canonical_bytes<T: Serialize>(value: &T) -> Vec<u8> {
    // Fails only for types that serde cannot write without a length or whose Serialize fails by itself;
    // the callers' types are plain structs of integers and byte vectors.
    bincode::serde::encode_to_vec(value, bincode::config::standard()).unwrap_or_default()
}

fn check_size<T: Versioned>(bytes: usize) -> Result<(), WireError> {
    let limit = T::LIMIT.min(MAX_ENCODED_BYTES);
    if bytes > limit {
        return Err(WireError::TooLarge { tag: T::TAG, bytes, limit });
    }
    Ok(())
}

/// Gives a type its tag, version and limit.
macro_rules! versioned {
    ($($ty:ty: tag $tag:literal, version $version:literal, limit $limit:expr;)*) => {
        $(impl Versioned for $ty {
            const TAG: u8 = $tag;
            const VERSION: u8 = $version;
            const LIMIT: usize = $limit;
        })*
    };
}

versioned! {
    // One batch of records, or one record of the largest size, with room for the rest.
    crate::message::Envelope: tag 1, version 1, limit 2 * 1024 * 1024;
    // A conflict carries a whole losing record in its body, hence the room above the largest body.
    crate::record::Record: tag 2, version 1, limit crate::record::MAX_BODY_BYTES + 8 * 1024;
    crate::fact::SignedFact: tag 3, version 1, limit crate::fact::MAX_FACT_BYTES + 512;
    crate::member::Profile: tag 4, version 1, limit crate::fact::MAX_FACT_BYTES;
    crate::member::Health: tag 5, version 1, limit crate::fact::MAX_FACT_BYTES;
    crate::detector::EdgeReport: tag 6, version 1, limit crate::fact::MAX_FACT_BYTES;
}
