//! Claims settle: whatever nodes claim a slot, and in whatever order, how late and how often they hear of
//! each other, in the end one holds it, the same for everybody, and from the first ready container on there
//! is one at every moment. On the real core.

mod bench;

use bench::{Bench, Links, container};
use membership::id::TaskId;
use membership::time::Millis;
use node::Settings;
use node::slot::Epoch;
use proptest::prelude::*;

/// What the world is like before the cores hear of each other.
#[derive(Clone, Debug)]
struct Scene {
    /// For each host and slot: the epoch of the container that runs there, if one does.
    held: Vec<Vec<Option<u64>>>,
    parts: Vec<u8>,
    starts: Vec<u64>,
    /// How late messages are, at most, when the parts meet.
    late: u64,
    doubled: u32,
    apart: u64,
    seed: u64,
}

fn scenes() -> impl Strategy<Value = Scene> {
    (2usize..=5, 1usize..=2).prop_flat_map(|(hosts, slots)| {
        // Few epochs, so that equal ones meet and the rank has to decide.
        let held = prop::collection::vec(prop::option::weighted(0.6, 1u64..=4), slots);
        (
            prop::collection::vec(held, hosts),
            prop::collection::vec(0u8..=2, hosts),
            prop::collection::vec(0u64..8_000, hosts),
            20u64..2_500,
            0u32..500,
            2_000u64..25_000,
            any::<u64>(),
        )
            .prop_map(|(held, parts, starts, late, doubled, apart, seed)| Scene {
                held,
                parts,
                starts,
                late,
                doubled,
                apart,
                seed,
            })
    })
}

fn play(scene: &Scene) -> Result<(), TestCaseError> {
    let slots = scene.held.first().map_or(0, Vec::len) as u32;
    let hosts = scene.held.len();
    let mut task = 0;
    let mut engine = |held: &Vec<Option<u64>>| {
        let runs = held.iter().zip(1..).filter_map(|(epoch, slot)| Some((slot, (*epoch)?)));
        runs.map(|(slot, epoch)| {
            task += 1;
            container(slot, Epoch(epoch), TaskId(task))
        })
        .collect::<Vec<_>>()
    };
    let engines = scene.held.iter().map(&mut engine).collect();
    let apart = Links { parts: scene.parts.clone(), delay: (1, 40), doubled: scene.doubled };
    let late = Links { parts: vec![0; hosts], delay: (1, scene.late), doubled: scene.doubled };
    let calm = Links { parts: vec![0; hosts], delay: (1, 20), doubled: 0 };
    let settings = Settings { rebalance_every: Millis(0), ..Settings::lan() };
    let mut bench = Bench::new(engines, &scene.starts, apart, settings, slots, scene.seed);
    bench.pass(scene.apart);
    bench.set_links(late);
    bench.pass(20_000);
    bench.set_links(calm);
    bench.pass(50_000);
    prop_assert!(bench.broken.is_empty(), "{:?}", bench.broken);
    for slot in 1..=slots {
        let holders = bench.ready(slot);
        prop_assert_eq!(holders.len(), 1, "slot {} is ready on {:?}", slot, holders);
        let holder = [holders.first().map(|host| bench::id(*host))].into();
        for host in 0..hosts {
            let seen = bench.seen_by(host, slot);
            prop_assert_eq!(&seen, &holder, "slot {} as host {} sees it", slot, host);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn one_holder_is_left_and_there_is_one_at_every_moment(scene in scenes()) {
        play(&scene)?;
    }
}
