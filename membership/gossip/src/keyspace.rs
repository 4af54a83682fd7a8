//! How a fact lies in chitchat: a short key, and the signed fact in base64 as its value.
//!
//! chitchat's values are text, and one that does not fit a message blocks all later keys of its node
//! for ever, so the size is checked before a value gets there.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, NodeId};
use membership::wire::{self, WireError};

/// No key is longer: the longest is that of a part of a service's claims.
pub(crate) const MAX_KEY_CHARS: usize = 40;

/// Why a value under somebody's key was not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFact {
    #[error("it is not base64")]
    Text,
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("it belongs to {0}")]
    Owner(NodeId),
    #[error("it belongs under another key")]
    Key,
    #[error("it is of cell {}", .0.0)]
    Cell(CellId),
    #[error("its signature is not its owner's")]
    Signature,
}

/// The key's text. Part of the format: members of all versions must write it alike.
pub(crate) fn key_text(key: FactKey) -> String {
    match key {
        FactKey::Profile => "profile".to_owned(),
        FactKey::Health => "health".to_owned(),
        FactKey::Edges => "edges".to_owned(),
        FactKey::Claims { service, part } => format!("claims/{service}/{part}"),
        FactKey::History { service } => format!("history/{service}"),
        FactKey::Blocks { network } => format!("blocks/{network}"),
        FactKey::Endpoints { service, part } => format!("at/{service}/{part}"),
    }
}

/// The value's text.
pub(crate) fn value_text(fact: &SignedFact) -> Result<String, WireError> {
    wire::encode(fact).map(|bytes| STANDARD_NO_PAD.encode(bytes))
}

/// Reads what lies in `owner`'s key space under `key`. The signature is not checked here.
pub(crate) fn read(
    owner: NodeId,
    cell: CellId,
    key: &str,
    value: &str,
) -> Result<SignedFact, BadFact> {
    let bytes = STANDARD_NO_PAD.decode(value).map_err(|_| BadFact::Text)?;
    let fact: SignedFact = wire::decode(&bytes)?;
    if fact.owner != owner {
        return Err(BadFact::Owner(fact.owner));
    }
    if fact.cell != cell {
        return Err(BadFact::Cell(fact.cell));
    }
    if key_text(fact.key) != key {
        return Err(BadFact::Key);
    }
    Ok(fact)
}

#[cfg(test)]
mod tests {
    use membership::fact::MAX_FACT_BYTES;
    use membership::id::{Incarnation, NetworkId, ServiceId};

    use super::*;
    use crate::digest::MAX_CHITCHAT_BYTES;
    use crate::signature::SIGNATURE_BYTES;

    fn fact(key: FactKey, bytes: usize) -> SignedFact {
        SignedFact {
            cell: CellId(u16::MAX),
            owner: NodeId(u128::MAX),
            incarnation: Incarnation(u64::MAX),
            seq: u64::MAX,
            key,
            value: Some(vec![0xff; bytes]),
            signature: vec![0xff; SIGNATURE_BYTES],
        }
    }

    #[test]
    fn the_largest_fact_fits_a_message_three_times() {
        let key = FactKey::Claims { service: ServiceId(u128::MAX), part: u16::MAX };
        let value = value_text(&fact(key, MAX_FACT_BYTES)).unwrap();
        assert!(key_text(key).len() <= MAX_KEY_CHARS);
        assert!(value.len() * 3 < MAX_CHITCHAT_BYTES, "{}", value.len());
    }

    #[test]
    fn keys_and_values_round_trip_and_everything_else_is_refused() {
        let owner = NodeId(u128::MAX);
        let cell = CellId(u16::MAX);
        for key in [
            FactKey::Profile,
            FactKey::Health,
            FactKey::Edges,
            FactKey::Claims { service: ServiceId(9), part: 3 },
            FactKey::History { service: ServiceId(9) },
            FactKey::Blocks { network: NetworkId(9) },
            FactKey::Endpoints { service: ServiceId(9), part: 3 },
        ] {
            let good = fact(key, 10);
            let (name, value) = (key_text(key), value_text(&good).unwrap());
            assert_eq!(read(owner, cell, &name, &value), Ok(good));
            assert_eq!(read(NodeId(1), cell, &name, &value), Err(BadFact::Owner(owner)));
            assert_eq!(read(owner, CellId(0), &name, &value), Err(BadFact::Cell(cell)));
            assert_eq!(read(owner, cell, "other", &value), Err(BadFact::Key));
            assert_eq!(read(owner, cell, &name, "§"), Err(BadFact::Text));
            assert!(matches!(read(owner, cell, &name, "AAAA"), Err(BadFact::Wire(_))));
        }
    }
}
