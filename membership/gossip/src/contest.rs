//! Two connections to one peer: which one stays.
//!
//! Both nodes may dial each other at the same moment, and a node may dial again because it has lost a
//! connection that the other still holds for live. Each side decides alone, on what the greetings
//! say, and both must come to the same result:
//! - a later run of the peer's process beats an earlier one. One that is not later is refused: no run
//!   has an incarnation that was used before, so these are two processes with one key;
//! - a dialler that names the incumbent as the last connection it had has given it up: the newcomer
//!   stays;
//! - otherwise the two dials crossed, and the one made by the smaller [`NodeId`] stays. Two by the same
//!   side did not cross: the newer one stays.

use membership::id::{Incarnation, NodeId};

/// One connection, as far as the choice is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contender {
    /// The peer's, as its greeting said.
    pub(crate) incarnation: Incarnation,
    pub(crate) instance: u64,
    pub(crate) nonce: u64,
    /// Made by this node.
    pub(crate) dialled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Newcomer,
    Incumbent,
    /// The newcomer is not a later run of the peer's process.
    Superseded,
}

/// Decides between `incumbent` and `newcomer`. `last_seen` is what the peer's greeting named as its
/// last connection, if the peer dialled the newcomer, else 0.
pub(crate) fn contest(
    me: NodeId,
    peer: NodeId,
    incumbent: &Contender,
    newcomer: &Contender,
    last_seen: u64,
) -> Outcome {
    if newcomer.instance != incumbent.instance {
        return if newcomer.incarnation <= incumbent.incarnation {
            Outcome::Superseded
        } else {
            Outcome::Newcomer
        };
    }
    if newcomer.dialled == incumbent.dialled || last_seen == incumbent.nonce {
        return Outcome::Newcomer;
    }
    let smaller_dialled_newcomer = newcomer.dialled == (me < peer);
    if smaller_dialled_newcomer { Outcome::Newcomer } else { Outcome::Incumbent }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One of two nodes that may dial each other. Instance and incarnation are the node's number.
    #[derive(Clone, Default)]
    struct Side {
        live: Option<Contender>,
        last: u64,
        greeted_with: Option<u64>,
    }

    #[derive(Clone)]
    struct World {
        sides: [Side; 2],
        /// A greeting under way from side 0 or 1, with the `last_seen` in it.
        hello: [Option<u64>; 2],
        /// An answer under way to side 0 or 1: welcome or not.
        answer: [Option<bool>; 2],
    }

    fn nonce_of(dialler: usize) -> u64 {
        100 + dialler as u64
    }

    fn contender(of: usize, nonce: u64, dialled: bool) -> Contender {
        Contender { incarnation: Incarnation(1), instance: of as u64, nonce, dialled }
    }

    fn take_in(world: &mut World, at: usize, dialler: usize, last_seen: u64) -> bool {
        let (me, peer) = (NodeId(at as u128), NodeId(1 - at as u128));
        let newcomer = contender(1 - at, nonce_of(dialler), dialler == at);
        let side = &mut world.sides[at];
        let stays = side.live.is_none_or(|incumbent| {
            contest(me, peer, &incumbent, &newcomer, last_seen) == Outcome::Newcomer
        });
        if stays {
            side.live = Some(newcomer);
            side.last = newcomer.nonce;
        }
        stays
    }

    /// Follows every order in which the steps can happen.
    fn explore(world: &World, ends: &mut Vec<World>) {
        let mut moved = false;
        for side in 0..2 {
            if world.sides[side].greeted_with.is_none() {
                moved = true;
                let mut next = world.clone();
                let last = next.sides[side].last;
                next.sides[side].greeted_with = Some(last);
                // Nobody dials who has a connection.
                if next.sides[side].live.is_none() {
                    next.hello[side] = Some(last);
                }
                explore(&next, ends);
            }
            if let Some(last_seen) = world.hello[side] {
                moved = true;
                let mut next = world.clone();
                next.hello[side] = None;
                let welcome = take_in(&mut next, 1 - side, side, last_seen);
                next.answer[side] = Some(welcome);
                explore(&next, ends);
            }
            if let Some(welcome) = world.answer[side] {
                moved = true;
                let mut next = world.clone();
                next.answer[side] = None;
                if welcome {
                    take_in(&mut next, side, side, 0);
                }
                explore(&next, ends);
            }
        }
        if !moved {
            ends.push(world.clone());
        }
    }

    fn same_choice(start: World) {
        let mut ends = Vec::new();
        explore(&start, &mut ends);
        assert!(ends.len() > 10, "there are several orders");
        for end in ends {
            let nonce = |side: usize| end.sides[side].live.map(|live| live.nonce);
            assert!(nonce(0).is_some());
            assert_eq!(nonce(0), nonce(1), "both sides chose the same connection");
        }
    }

    fn world() -> World {
        World { sides: [Side::default(), Side::default()], hello: [None; 2], answer: [None; 2] }
    }

    #[test]
    fn crossing_dials_end_in_one_connection_whatever_the_order() {
        same_choice(world());
    }

    #[test]
    fn a_connection_that_one_side_lost_is_replaced_on_both() {
        for lost_by in 0..2 {
            for made_by in 0..2 {
                let mut start = world();
                for side in 0..2 {
                    start.sides[side].last = 7;
                    start.sides[side].live = Some(contender(1 - side, 7, side == made_by));
                }
                start.sides[lost_by].live = None;
                // The other one holds it for live, and so does not dial.
                start.sides[1 - lost_by].greeted_with = Some(7);
                let mut ends = Vec::new();
                explore(&start, &mut ends);
                for end in ends {
                    let nonce = |side: usize| end.sides[side].live.map(|live| live.nonce);
                    assert_eq!(
                        (nonce(0), nonce(1)),
                        (Some(nonce_of(lost_by)), Some(nonce_of(lost_by)))
                    );
                }
            }
        }
    }

    #[test]
    fn a_later_run_replaces_and_an_earlier_one_is_refused() {
        let old = contender(1, 7, true);
        let later =
            Contender { incarnation: Incarnation(2), instance: 9, nonce: 8, dialled: false };
        let (me, peer) = (NodeId(1), NodeId(2));
        assert_eq!(contest(me, peer, &old, &later, 0), Outcome::Newcomer);
        assert_eq!(contest(me, peer, &later, &old, 0), Outcome::Superseded);
        let copy = Contender { instance: 10, nonce: 11, ..later };
        assert_eq!(contest(me, peer, &later, &copy, 0), Outcome::Superseded);
        // A node that raised its incarnation while it dialled is not two processes.
        let raised = Contender { incarnation: Incarnation(2), nonce: 8, ..old };
        assert_eq!(contest(me, peer, &raised, &old, 0), Outcome::Newcomer);
    }
}
