//! Observed state of everybody: the latest fact under each key of each member, signatures included, so
//! that it can be passed on; and this node's own facts with their rising sequence number.
//!
//! A restarted member publishes under a new incarnation. What it said in its former life stays until
//! it has adopted its containers and says so (`settling` ends): otherwise the pause between the two
//! would look like the loss of everything it runs.

use std::collections::BTreeMap;

use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation, NodeId};

/// Signs with the node's key. The daemon's is Ed25519, the simulator's signs nothing.
pub trait Sign: Send {
    /// Fills in the signature of one of this node's own facts.
    fn sign(&self, fact: &mut SignedFact);
}

/// What a fact that came in is to this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Later than what was known: act on it, pass it on.
    New,
    /// Known already, or older.
    Old,
    /// Under this node's own id and not from this process: an older life of it, or a clone.
    Mine,
}

pub(crate) struct Facts {
    me: NodeId,
    cell: CellId,
    incarnation: Incarnation,
    seq: u64,
    signer: Box<dyn Sign>,
    by_owner: BTreeMap<NodeId, BTreeMap<FactKey, SignedFact>>,
    /// Facts of earlier incarnations than this are refused: the member has settled since.
    floor: BTreeMap<NodeId, Incarnation>,
}

impl std::fmt::Debug for Facts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Facts").field("owners", &self.by_owner.len()).finish_non_exhaustive()
    }
}

impl Facts {
    pub(crate) fn new(
        me: NodeId,
        cell: CellId,
        incarnation: Incarnation,
        signer: Box<dyn Sign>,
    ) -> Self {
        Self {
            me,
            cell,
            incarnation,
            seq: 0,
            signer,
            by_owner: BTreeMap::new(),
            floor: BTreeMap::new(),
        }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(crate) fn raise(&mut self, incarnation: Incarnation) {
        self.incarnation = self.incarnation.max(incarnation);
    }

    /// A fact of this node's own, signed; `None` when the same is published already.
    pub(crate) fn publish(&mut self, key: FactKey, value: Option<Vec<u8>>) -> Option<SignedFact> {
        let known = self.by_owner.get(&self.me).and_then(|facts| facts.get(&key));
        if known.map_or(value.is_none(), |k| k.value == value && k.incarnation == self.incarnation)
        {
            return None;
        }
        self.seq += 1;
        let mut fact = SignedFact {
            cell: self.cell,
            owner: self.me,
            incarnation: self.incarnation,
            seq: self.seq,
            key,
            value,
            signature: Vec::new(),
        };
        self.signer.sign(&mut fact);
        self.by_owner.entry(self.me).or_default().insert(key, fact.clone());
        Some(fact)
    }

    /// Everything of this node's own again, under its present incarnation.
    pub(crate) fn republish(&mut self) -> Vec<SignedFact> {
        let own: Vec<(FactKey, Option<Vec<u8>>)> = self
            .by_owner
            .remove(&self.me)
            .into_iter()
            .flatten()
            .map(|(key, fact)| (key, fact.value))
            .collect();
        own.into_iter().filter_map(|(key, value)| self.publish(key, value)).collect()
    }

    pub(crate) fn hear(&mut self, fact: &SignedFact) -> Heard {
        if fact.owner == self.me {
            return Heard::Mine;
        }
        if fact.cell != self.cell
            || self.floor.get(&fact.owner).is_some_and(|floor| fact.incarnation < *floor)
        {
            return Heard::Old;
        }
        let owned = self.by_owner.entry(fact.owner).or_default();
        if owned.get(&fact.key).is_some_and(|known| !fact.supersedes(known)) {
            return Heard::Old;
        }
        owned.insert(fact.key, fact.clone());
        Heard::New
    }

    /// Something that the member said in an earlier incarnation than this still stands.
    pub(crate) fn has_earlier(&self, owner: NodeId, incarnation: Incarnation) -> bool {
        let owned = self.by_owner.get(&owner);
        owned.into_iter().flat_map(BTreeMap::values).any(|f| f.incarnation < incarnation)
    }

    /// The member has settled in this incarnation: what it said in earlier ones and has not said again
    /// is no longer true. Answers the keys that fall away.
    pub(crate) fn settled(&mut self, owner: NodeId, incarnation: Incarnation) -> Vec<FactKey> {
        let floor = self.floor.entry(owner).or_default();
        if *floor >= incarnation {
            return Vec::new();
        }
        *floor = incarnation;
        let Some(owned) = self.by_owner.get_mut(&owner) else { return Vec::new() };
        let stale: Vec<FactKey> = owned
            .iter()
            .filter(|(_, f)| f.incarnation < incarnation)
            .map(|(key, _)| *key)
            .collect();
        for key in &stale {
            owned.remove(key);
        }
        stale
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &SignedFact> {
        self.by_owner.values().flat_map(BTreeMap::values)
    }
}
