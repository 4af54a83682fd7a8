//! Identities. Each is a newtype over 128 bits and is written the way Docker writes its Swarm ids:
//! 25 characters of `[0-9a-z]`, so that what people paste from one tool works in the other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How many characters an id has in text: the fewest base-36 digits that hold 128 bits.
pub const ID_CHARS: usize = 25;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// Text that is not an id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not an id: expected 25 characters of 0-9 and a-z")]
pub struct ParseIdError(String);

fn write_base36(value: u128, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut text = [b'0'; ID_CHARS];
    let mut rest = value;
    for place in text.iter_mut().rev() {
        // The remainder is below 36, so the cast loses nothing.
        *place = DIGITS[(rest % 36) as usize];
        rest /= 36;
    }
    f.write_str(std::str::from_utf8(&text).unwrap_or_default())
}

fn parse_base36(text: &str) -> Result<u128, ParseIdError> {
    let wrong = || ParseIdError(text.chars().take(64).collect());
    if text.len() != ID_CHARS {
        return Err(wrong());
    }
    let mut value: u128 = 0;
    for byte in text.bytes() {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'z' => byte - b'a' + 10,
            _ => return Err(wrong()),
        };
        value = value
            .checked_mul(36)
            .and_then(|v| v.checked_add(u128::from(digit)))
            .ok_or_else(wrong)?;
    }
    Ok(value)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub u128);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_base36(self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}(", stringify!($name))?;
                write_base36(self.0, f)?;
                f.write_str(")")
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_base36(text).map(Self)
            }
        }
    };
}

id!(
    /// One host running shoal: the first 128 bits of the SHA-256 of its public key, so that an
    /// address may change and a name may be taken twice without anybody being mistaken for another.
    NodeId
);
id!(
    /// One cluster. Derived from the token's secret; in each handshake and each peer message.
    ClusterId
);
id!(
    /// One service. Random, drawn by the node that took the `create`.
    ServiceId
);
id!(
    /// One secret or config. Random, drawn by the node that took the `create`.
    AssetId
);
id!(
    /// One network of the whole cluster. Random, drawn by the node that took the `create`.
    NetworkId
);
id!(
    /// One attempt to fill a slot. Never reused, never restarted.
    TaskId
);

/// The gossip group that something belongs to. Today every cluster is one cell, number 0; the field
/// is in members, records and messages from the start so that larger clusters can be made of cells
/// without changing a format.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CellId(pub u16);

/// A number that only the member itself raises: once for each start of its process (persisted, so
/// that it is never used twice) and once to refute a false verdict.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Incarnation(pub u64);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn text_round_trips(value: u128) {
            let id = NodeId(value);
            prop_assert_eq!(id.to_string().len(), ID_CHARS);
            prop_assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        }

        #[test]
        fn any_text_is_an_id_or_an_error(text in ".*") {
            let _ = text.parse::<NodeId>();
        }
    }

    #[test]
    fn the_largest_text_does_not_overflow() {
        assert!("zzzzzzzzzzzzzzzzzzzzzzzzz".parse::<NodeId>().is_err());
        assert_eq!(NodeId(u128::MAX).to_string(), "f5lxx1zz5pnorynqglhzmsp33");
    }
}
