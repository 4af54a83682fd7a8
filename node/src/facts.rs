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

/// What this node itself says: its own facts with their rising sequence number.
pub(crate) struct Published {
    me: NodeId,
    cell: CellId,
    incarnation: Incarnation,
    seq: u64,
    signer: Box<dyn Sign>,
    facts: BTreeMap<FactKey, SignedFact>,
}

impl std::fmt::Debug for Published {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Published").field("facts", &self.facts.len()).finish_non_exhaustive()
    }
}

impl Published {
    pub(crate) fn new(
        me: NodeId,
        cell: CellId,
        incarnation: Incarnation,
        signer: Box<dyn Sign>,
    ) -> Self {
        Self { me, cell, incarnation, seq: 0, signer, facts: BTreeMap::new() }
    }

    pub(crate) fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    pub(crate) fn raise(&mut self, incarnation: Incarnation) {
        self.incarnation = self.incarnation.max(incarnation);
    }

    /// A fact of this node's own, signed; `None` when the same is published already.
    pub(crate) fn publish(&mut self, key: FactKey, value: Option<Vec<u8>>) -> Option<SignedFact> {
        let known = self.facts.get(&key);
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
        self.facts.insert(key, fact.clone());
        Some(fact)
    }

    /// Whether this process, or one before it, may have said this: another one with this node's key has not
    /// drawn the same incarnation, and if it has, it is betrayed by a fact that was never made here.
    pub(crate) fn said(&self, fact: &SignedFact) -> bool {
        let last = self.facts.get(&fact.key);
        let here = fact.seq <= self.seq
            // What was withdrawn is forgotten when all is published again.
            && last.map_or(fact.value.is_none(), |last| {
                last.seq > fact.seq || (last.seq == fact.seq && last.value == fact.value)
            });
        fact.incarnation < self.incarnation || (fact.incarnation == self.incarnation && here)
    }

    /// Everything again, under the present incarnation.
    pub(crate) fn republish(&mut self) -> Vec<SignedFact> {
        let own = std::mem::take(&mut self.facts);
        own.into_iter().filter_map(|(key, fact)| self.publish(key, fact.value)).collect()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &SignedFact> {
        self.facts.values()
    }
}

/// The latest fact under each key of each other member.
#[derive(Debug)]
pub(crate) struct Facts {
    cell: CellId,
    by_owner: BTreeMap<NodeId, BTreeMap<FactKey, SignedFact>>,
    /// Facts of earlier incarnations than this are refused: the member has settled since.
    floor: BTreeMap<NodeId, Incarnation>,
}

impl Facts {
    pub(crate) fn new(cell: CellId) -> Self {
        Self { cell, by_owner: BTreeMap::new(), floor: BTreeMap::new() }
    }

    /// True if this is later than what was known: act on it, pass it on.
    pub(crate) fn hear(&mut self, fact: &SignedFact) -> bool {
        if fact.cell != self.cell
            || self.floor.get(&fact.owner).is_some_and(|floor| fact.incarnation < *floor)
        {
            return false;
        }
        let owned = self.by_owner.entry(fact.owner).or_default();
        if owned.get(&fact.key).is_some_and(|known| !fact.supersedes(known)) {
            return false;
        }
        owned.insert(fact.key, fact.clone());
        true
    }

    /// What the member said in earlier incarnations than this is still taken. Also when nothing of it stands
    /// now: somebody who has not heard better may yet tell it.
    pub(crate) fn takes_earlier(&self, owner: NodeId, incarnation: Incarnation) -> bool {
        self.floor.get(&owner).is_none_or(|floor| *floor < incarnation)
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

#[cfg(test)]
mod tests {
    use membership::id::ServiceId;

    use super::*;

    fn fact(incarnation: u64, key: FactKey) -> SignedFact {
        SignedFact {
            cell: CellId(0),
            owner: NodeId(7),
            incarnation: Incarnation(incarnation),
            seq: 1,
            key,
            value: Some(Vec::new()),
            signature: Vec::new(),
        }
    }

    #[test]
    fn what_a_member_said_in_an_earlier_life_is_refused_even_if_it_comes_after_it_has_settled() {
        let claims = FactKey::Claims { service: ServiceId(1), part: 0 };
        let mut facts = Facts::new(CellId(0));
        assert!(facts.hear(&fact(2, FactKey::Health)));
        // Nothing earlier is known here; a peer that has not forgotten it may still tell it.
        assert!(facts.takes_earlier(NodeId(7), Incarnation(2)));
        assert!(facts.hear(&fact(1, claims)), "it has not settled for long enough yet");
        assert_eq!(facts.settled(NodeId(7), Incarnation(2)), [claims]);
        assert!(!facts.hear(&fact(1, claims)), "and is not believed again");
        assert!(!facts.takes_earlier(NodeId(7), Incarnation(2)));
        assert!(facts.hear(&fact(2, claims)));
    }

    #[derive(Debug)]
    struct Unsigned;

    impl Sign for Unsigned {
        fn sign(&self, _: &mut SignedFact) {}
    }

    /// Two copies of one disk may draw the same incarnation: what the other one said tells them apart.
    #[test]
    fn what_another_process_says_under_the_same_incarnation_is_told_from_the_own_words() {
        let process = || Published::new(NodeId(7), CellId(0), Incarnation(3), Box::new(Unsigned));
        let claims = FactKey::Claims { service: ServiceId(1), part: 0 };
        let (mut original, mut copy) = (process(), process());
        let mine = original.publish(FactKey::Health, Some(vec![1])).unwrap();
        let later = original.publish(FactKey::Health, Some(vec![2])).unwrap();
        assert!(original.said(&mine) && original.said(&later));
        let others = [
            copy.publish(claims, Some(vec![3])).unwrap(),
            copy.publish(FactKey::Health, Some(vec![1])).unwrap(),
            copy.publish(FactKey::Health, Some(vec![4])).unwrap(),
        ];
        assert_eq!(others.each_ref().map(|fact| original.said(fact)), [false, false, false]);
        original.raise(Incarnation(4));
        assert!(
            original.said(&others[0]),
            "of an earlier life: nobody takes it for the present one"
        );
    }
}
