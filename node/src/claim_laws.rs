//! The laws of claims, tried on arbitrary ones: the order is total, and whoever has heard the same facts, in
//! whatever order and however often, calls the same claim the better one.

use std::collections::{BTreeMap, BTreeSet};

use membership::fact::{FactKey, SignedFact};
use membership::id::{CellId, Incarnation, NodeId, ServiceId, TaskId};
use membership::time::Wall;
use membership::wire;
use placement::Cluster;
use proptest::prelude::*;

use crate::claims::{ClaimTable, strength};
use crate::facts::Facts;
use crate::slot::{Claim, ClaimPart, Epoch, Phase, Place, Slot, TaskState, TaskStatus, TemplateId};
use crate::standing::strongest;

const SERVICE: ServiceId = ServiceId(5);
const PLACE: Place = Place { service: SERVICE, slot: Slot::Index(1) };

fn claim(epoch: u64, phase: Phase) -> Claim {
    let task = TaskStatus {
        id: TaskId(1),
        slot: PLACE.slot,
        template: TemplateId(1),
        created: Wall(0),
        state: TaskState::Running,
        since: Wall(0),
        message: String::new(),
        error: None,
        container: None,
        pid: None,
        exit_code: None,
        ports: Vec::new(),
    };
    Claim { slot: PLACE.slot, epoch: Epoch(epoch), phase, failures: 0, task }
}

fn claims() -> impl Strategy<Value = Claim> {
    let phases = prop::sample::select(vec![Phase::Starting, Phase::Ready, Phase::Complete]);
    (1u64..4, phases).prop_map(|(epoch, phase)| claim(epoch, phase))
}

/// The placement's own race between the nodes for this slot.
fn race_of(node: NodeId) -> placement::Race {
    placement::race(SERVICE, 1, node, 1)
}

fn best(table: &ClaimTable) -> Option<(NodeId, Claim)> {
    let claims = table.on(PLACE).iter().map(|(node, claim)| (*node, claim.as_ref()));
    let (node, claim) = strongest(SERVICE, 1, claims, &Cluster::default())?;
    Some((node, claim.clone()))
}

/// What one node said over time: each time a claim, or that it has none.
fn sayings() -> impl Strategy<Value = Vec<(u64, Option<Claim>)>> {
    let one = (1u64..3, prop::option::weighted(0.8, claims()));
    prop::collection::vec(one, 0..5).prop_map(|mut said| {
        // Incarnations rise.
        said.sort_by_key(|(incarnation, _)| *incarnation);
        said
    })
}

fn facts_of(owner: NodeId, said: &[(u64, Option<Claim>)]) -> Vec<SignedFact> {
    said.iter()
        .zip(1..)
        .map(|((incarnation, claim), seq)| SignedFact {
            cell: CellId(0),
            owner,
            incarnation: Incarnation(*incarnation),
            seq,
            key: FactKey::Claims { service: SERVICE, part: 0 },
            value: claim
                .as_ref()
                .map(|claim| wire::encode(&ClaimPart { claims: vec![claim.clone()] }).unwrap()),
            signature: Vec::new(),
        })
        .collect()
}

proptest! {
    #[test]
    fn the_order_of_claims_is_total(
        claims in prop::collection::vec((claims(), 0u128..6), 3),
    ) {
        let of = |at: usize| {
            let (claim, node) = &claims[at];
            strength(claim, NodeId(*node), race_of(NodeId(*node)))
        };
        let (a, b, c) = (of(0), of(1), of(2));
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
        // Two nodes never draw.
        prop_assert!(claims[0].1 == claims[1].1 || a != b);
        let serves = |at: usize| claims[at].0.phase != Phase::Starting;
        if serves(0) && !serves(1) {
            prop_assert!(a > b, "what serves is better than what does not");
        }
    }

    #[test]
    fn all_who_have_heard_the_same_agree(
        said in prop::collection::vec(sayings(), 1..5),
        orders in prop::collection::vec(prop::collection::vec(any::<prop::sample::Index>(), 40), 2..5),
    ) {
        let facts: Vec<SignedFact> = said
            .iter()
            .zip(1u128..)
            .flat_map(|(said, node)| facts_of(NodeId(node), said))
            .collect();
        prop_assume!(!facts.is_empty());
        let mut opinions = BTreeMap::new();
        for (listener, order) in orders.iter().enumerate() {
            let mut heard = Facts::new(CellId(0));
            let mut table = ClaimTable::default();
            // Any order, any repetition; then everything once more, for each was heard at least once.
            let any = order.iter().map(|at| at.get(&facts));
            let rest: BTreeSet<usize> = (0..facts.len()).collect();
            for fact in any.chain(rest.iter().rev().map(|at| &facts[*at])) {
                if heard.hear(fact) {
                    table.apply(fact.owner, fact.key, fact.value.as_deref()).unwrap();
                }
            }
            opinions.insert(listener, best(&table));
        }
        let first = opinions.values().next().cloned();
        prop_assert!(opinions.values().all(|best| Some(best) == first.as_ref()), "{opinions:?}");
    }
}
