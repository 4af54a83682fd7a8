//! Who says so: signatures of facts.
//!
//! Facts are relayed, so the connection that brings one proves nothing about its owner. The signature
//! of a fact is its owner's raw Ed25519 public key (32 bytes) followed by the signature (64 bytes)
//! over [`SignedFact::signed_bytes`]; the key must hash to the owner's [`NodeId`]. So a fact proves
//! itself, without any directory of keys.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use membership::fact::SignedFact;
use membership::id::NodeId;
use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest, Sha256};

use crate::identity::{NodeKey, PUBLIC_KEY_BYTES, node_id_of};

/// Length of a fact's signature: public key, then Ed25519 signature.
pub const SIGNATURE_BYTES: usize = PUBLIC_KEY_BYTES + 64;

/// Verified facts that are remembered, so that the copies which an epidemic brings from several sides
/// are checked once. Two generations of this many; 32 bytes each.
const REMEMBERED: usize = 4096;

/// Signs this node's facts and checks everybody's. The daemon's is [`KeySigner`]; the simulator's
/// signs nothing, [`Unsigned`].
pub trait Signer: Send + Sync + fmt::Debug {
    /// The node whose facts it signs.
    fn node(&self) -> NodeId;
    /// Fills in the signature of one of this node's facts.
    fn sign(&self, fact: &mut SignedFact);
    /// True if the fact's owner wrote it.
    fn verify(&self, fact: &SignedFact) -> bool;
}

/// Signs with a node's key.
pub struct KeySigner {
    key: NodeKey,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    young: HashSet<[u8; 32]>,
    old: HashSet<[u8; 32]>,
}

impl Seen {
    fn remember(&mut self, name: [u8; 32]) {
        if self.young.len() >= REMEMBERED {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name);
    }
}

impl KeySigner {
    pub fn new(key: NodeKey) -> Self {
        Self { key, seen: Mutex::default() }
    }
}

impl fmt::Debug for KeySigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeySigner({})", self.key.id())
    }
}

impl Signer for KeySigner {
    fn node(&self) -> NodeId {
        self.key.id()
    }

    fn sign(&self, fact: &mut SignedFact) {
        let signature = self.key.sign(&fact.signed_bytes());
        let mut bytes = Vec::with_capacity(SIGNATURE_BYTES);
        bytes.extend_from_slice(self.key.public_key());
        bytes.extend_from_slice(signature.as_ref());
        fact.signature = bytes;
    }

    fn verify(&self, fact: &SignedFact) -> bool {
        if fact.signature.len() != SIGNATURE_BYTES {
            return false;
        }
        let Some((key, signature)) = fact.signature.split_first_chunk::<PUBLIC_KEY_BYTES>() else {
            return false;
        };
        if node_id_of(key) != fact.owner {
            return false;
        }
        let signed = fact.signed_bytes();
        let mut hash = Sha256::new();
        hash.update(&fact.signature);
        hash.update(&signed);
        let name: [u8; 32] = hash.finalize().into();
        let known = {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.young.contains(&name) || seen.old.contains(&name)
        };
        if known {
            return true;
        }
        if UnparsedPublicKey::new(&ED25519, key).verify(&signed, signature).is_err() {
            return false;
        }
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remember(name);
        true
    }
}

/// Signs nothing and believes everything: for the simulator, where nobody lies.
#[derive(Clone, Copy, Debug)]
pub struct Unsigned(pub NodeId);

impl Signer for Unsigned {
    fn node(&self) -> NodeId {
        self.0
    }

    fn sign(&self, _fact: &mut SignedFact) {}

    fn verify(&self, _fact: &SignedFact) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use membership::fact::FactKey;
    use membership::id::{CellId, Incarnation};

    use super::*;

    fn fact(owner: NodeId) -> SignedFact {
        SignedFact {
            cell: CellId(0),
            owner,
            incarnation: Incarnation(1),
            seq: 1,
            key: FactKey::Health,
            value: Some(b"fine".to_vec()),
            signature: Vec::new(),
        }
    }

    #[test]
    fn any_change_or_another_signer_breaks_the_signature() {
        let ours = KeySigner::new(NodeKey::generate().unwrap());
        let theirs = KeySigner::new(NodeKey::generate().unwrap());
        let mut good = fact(ours.node());
        ours.sign(&mut good);
        // Twice each: the second answer comes from what is remembered.
        assert!(theirs.verify(&good) && theirs.verify(&good));
        let check = |change: &dyn Fn(&mut SignedFact)| {
            let mut bad = good.clone();
            change(&mut bad);
            assert!(!theirs.verify(&bad) && !theirs.verify(&bad), "{bad:?}");
        };
        check(&|fact| fact.seq = 2);
        check(&|fact| fact.incarnation = Incarnation(2));
        check(&|fact| fact.cell = CellId(1));
        check(&|fact| fact.key = FactKey::Profile);
        check(&|fact| fact.value = None);
        check(&|fact| fact.value = Some(b"fine!".to_vec()));
        check(&|fact| fact.owner = theirs.node());
        check(&|fact| fact.signature.clear());
        check(&|fact| fact.signature.push(0));
        check(&|fact| fact.signature[40] ^= 1);
        check(&|fact| theirs.sign(fact));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut seen = Seen::default();
        for n in 0..3 * REMEMBERED {
            let mut name = [0u8; 32];
            name[..8].copy_from_slice(&n.to_be_bytes());
            seen.remember(name);
            assert!(seen.young.contains(&name));
        }
        assert_eq!(seen.young.len() + seen.old.len(), 2 * REMEMBERED);
    }
}
