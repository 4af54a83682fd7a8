//! Facts through chitchat over real QUIC, and what a hostile member can do to them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod support;

use std::time::Duration;

use gossip::{FromGossip, PublishError, Token};
use membership::fact::{FactKey, MAX_FACT_BYTES, SignedFact};
use membership::id::{Incarnation, NodeId, ServiceId};
use support::{Node, setup};

async fn fact_of(node: &mut Node, owner: NodeId, key: FactKey) -> SignedFact {
    node.wait("a fact", |report| match report {
        FromGossip::Fact(fact) if fact.owner == owner && fact.key == key => Some(fact),
        _ => None,
    })
    .await
}

#[tokio::test]
async fn three_nodes_share_facts_and_learn_of_each_other() {
    let token = Token::generate().unwrap();
    let a = setup(&token).start().await;
    // b and c know only a.
    let mut b = setup(&token).seed(&a).start().await;
    let mut c = setup(&token).seed(&a).start().await;
    let (b_id, c_id) = (b.id(), c.id());
    b.handle.publish(b.fact(1, 1, FactKey::Health, b"b is fine")).unwrap();
    let key = FactKey::Claims { service: ServiceId(7), part: 2 };
    c.handle.publish(c.fact(1, 1, key, &[0xa5; MAX_FACT_BYTES])).unwrap();

    let health = fact_of(&mut c, b_id, FactKey::Health).await;
    assert_eq!(health.value.as_deref(), Some(&b"b is fine"[..]));
    let claims = fact_of(&mut b, c_id, key).await;
    assert_eq!(claims.value.map(|value| value.len()), Some(MAX_FACT_BYTES));

    // Later news replace, a withdrawal too.
    b.handle.publish(b.fact(1, 2, FactKey::Health, b"b is not fine")).unwrap();
    let health = fact_of(&mut c, b_id, FactKey::Health).await;
    assert_eq!((health.seq, health.value.as_deref()), (2, Some(&b"b is not fine"[..])));
    let withdrawn = SignedFact { value: None, ..b.fact(1, 3, FactKey::Health, b"") };
    b.handle.publish(withdrawn).unwrap();
    assert_eq!(fact_of(&mut c, b_id, FactKey::Health).await.value, None);

    // They have met without being told: the mesh is whole.
    b.until("b knows both", |handle| handle.stats().connections.len() == 2).await;
    c.until("c knows both", |handle| handle.stats().connections.len() == 2).await;
    assert_eq!(b.handle.stats().gossip_members, 3);
    assert_eq!(b.handle.stats().drops.forged_facts, 0);
}

#[tokio::test]
async fn a_publication_is_checked_before_it_can_do_harm() {
    let node = setup(&Token::generate().unwrap()).start().await;
    let large = node.fact(1, 1, FactKey::Health, &[0; MAX_FACT_BYTES + 1]);
    assert!(matches!(node.handle.publish(large), Err(PublishError::TooLarge { .. })));
    let mut foreign = node.fact(1, 1, FactKey::Health, b"");
    foreign.owner = NodeId(1);
    assert!(matches!(node.handle.publish(foreign), Err(PublishError::NotOurs { .. })));
    let good = node.handle.publish(node.fact(1, 1, FactKey::Health, b"x")).unwrap();
    assert_eq!(good.signature.len(), gossip::signature::SIGNATURE_BYTES);
}

#[tokio::test]
async fn facts_of_a_later_run_replace_those_of_the_earlier_one() {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let b = setup(&token).seed(&a).start().await;
    let b_id = b.id();
    b.handle.publish(b.fact(1, 900, FactKey::Health, b"first run")).unwrap();
    assert_eq!(fact_of(&mut a, b_id, FactKey::Health).await.seq, 900);
    let dir = b.stop().await;
    let mut again = setup(&token).seed(&a);
    again.dir = dir;
    again.incarnation = 2;
    let b = again.start().await;
    b.handle.publish(b.fact(2, 1, FactKey::Health, b"second run")).unwrap();
    let fact = fact_of(&mut a, b_id, FactKey::Health).await;
    assert_eq!((fact.incarnation, fact.seq), (Incarnation(2), 1));
}

#[tokio::test]
async fn a_node_started_with_an_old_number_asks_for_a_later_one_and_recovers() {
    let token = Token::generate().unwrap();
    let mut a = setup(&token).start().await;
    let mut b = setup(&token).seed(&a);
    b.incarnation = 9;
    let b = b.start().await;
    let b_id = b.id();
    b.handle.publish(b.fact(9, 1, FactKey::Health, b"nine")).unwrap();
    fact_of(&mut a, b_id, FactKey::Health).await;
    let dir = b.stop().await;
    // Its data directory is replaced by an old copy: it believes itself to be in its third run.
    let mut old = setup(&token).seed(&a);
    old.dir = dir;
    old.incarnation = 3;
    let mut b = old.start().await;
    let above = b
        .wait("the question for a number", |report| match report {
            FromGossip::IncarnationNeeded { above, .. } => Some(above),
            _ => None,
        })
        .await;
    assert_eq!(above, Incarnation(9));
    b.handle.publish(b.fact(10, 1, FactKey::Health, b"ten")).unwrap();
    // Not enough, and so it asks again.
    b.handle.set_incarnation(Incarnation(4));
    b.wait("the question again", |report| match report {
        FromGossip::IncarnationNeeded { above, .. } => Some(above),
        _ => None,
    })
    .await;
    b.handle.set_incarnation(Incarnation(10));
    let incarnation = b
        .wait("the new start", |report| match report {
            FromGossip::Restarted { incarnation } => Some(incarnation),
            _ => None,
        })
        .await;
    assert_eq!(incarnation, Incarnation(10));
    let fact = fact_of(&mut a, b_id, FactKey::Health).await;
    assert_eq!(fact.value.as_deref(), Some(&b"ten"[..]));
    assert_eq!(b.handle.stats().chitchat_restarts, 1);
    b.handle.shutdown(Duration::from_secs(2)).await;
}
