//! The failure detector in virtual time: what it must notice, how soon, and what it must not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod cluster;

use cluster::Cluster;
use membership::detector::{Timing, Verdict};
use membership::time::Millis;

/// Runs until every node in `viewers` holds exactly `gone` for down; how long that took.
fn until_down(
    cluster: &mut Cluster,
    viewers: impl Iterator<Item = usize>,
    gone: &[usize],
    limit: u64,
) -> u64 {
    let (start, viewers) = (cluster.now, viewers.collect::<Vec<_>>());
    let agreed = cluster.run_until(limit, |c| viewers.iter().all(|v| c.down(*v) == gone));
    let views: Vec<_> = viewers.iter().map(|v| cluster.down(*v)).collect();
    assert!(agreed, "of {} nodes {gone:?} should be down: {views:?}", cluster.size());
    cluster.now - start
}

fn assert_all_up(cluster: &mut Cluster, within: u64) -> u64 {
    let start = cluster.now;
    let all = 0..cluster.size();
    let up = cluster.run_until(within, |c| {
        all.clone().all(|viewer| all.clone().all(|target| c.verdict(viewer, target) == Verdict::Up))
    });
    let views: Vec<_> = all.map(|viewer| cluster.down(viewer)).collect();
    assert!(up, "still down, by viewer: {views:?}");
    let took = cluster.now - start;
    // And it stays so.
    let before = cluster.log.len();
    cluster.run_for(10_000);
    assert_eq!(cluster.log.get(before), None, "not settled");
    took
}

/// Nobody is called anything but up for so long.
fn assert_nothing_happens(cluster: &mut Cluster, millis: u64) {
    cluster.run_for(millis);
    assert_eq!(cluster.log.first(), None, "{} nodes", cluster.size());
}

#[test]
fn a_crash_is_agreed_on_in_about_two_seconds() {
    for (size, runs) in [(3, 20), (5, 20), (12, 10), (30, 5), (100, 1)] {
        let mut times: Vec<u64> = (0..runs)
            .map(|seed| {
                let mut cluster = Cluster::new(size, Timing::lan(), seed);
                cluster.run_for(seed * 37);
                cluster.crash(size - 1);
                until_down(&mut cluster, 0..size - 1, &[size - 1], 10_000)
            })
            .collect();
        times.sort_unstable();
        let (median, worst) = (times[times.len() / 2], times[times.len() - 1]);
        assert!(median <= 2_000, "{size} nodes: median {median}");
        assert!(worst <= 2_600, "{size} nodes: worst {worst}");
    }
}

#[test]
fn the_profiles_keep_their_word() {
    for (timing, limit) in
        [(Timing::local(), 1_200), (Timing::lan(), 2_300), (Timing::wan(), 8_800)]
    {
        let mut cluster = Cluster::new(5, timing, 1);
        cluster.crash(2);
        let took = until_down(&mut cluster, [0, 1, 3, 4].into_iter(), &[2], 20_000);
        assert!(took <= limit, "{took}");
    }
}

#[test]
fn one_of_two_goes_on_alone_after_a_few_seconds() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(2, Timing::lan(), seed);
        cluster.crash(1);
        let took = until_down(&mut cluster, 0..1, &[1], 10_000);
        assert!((2_500..4_500).contains(&took), "{took}");
        assert!(!cluster.detector(0).holds_back(cluster.now()), "it may take over at once");
    }
}

#[test]
fn the_last_survivor_of_three_goes_on_alone() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(3, Timing::lan(), seed);
        cluster.crash(1);
        cluster.crash(2);
        let took = until_down(&mut cluster, 0..1, &[1, 2], 10_000);
        assert!(took < 4_500, "{took}");
        cluster.run_for(1_000);
        assert!(!cluster.detector(0).holds_back(cluster.now()));
    }
}

#[test]
fn a_rack_that_fails_at_once_is_seen_as_what_it_is() {
    for (size, survivors) in [(9, 6), (30, 20), (30, 12), (60, 20)] {
        let mut cluster = Cluster::new(size, Timing::lan(), 7);
        (survivors..size).for_each(|n| cluster.crash(n));
        let gone: Vec<usize> = (survivors..size).collect();
        let took = until_down(&mut cluster, 0..survivors, &gone, 20_000);
        assert!(took < 9_000, "{survivors} of {size}: {took}");
        cluster.run_for(20_000);
        assert!((0..survivors).all(|viewer| cluster.down(viewer) == gone));
    }
}

#[test]
fn hours_of_five_percent_loss_change_no_verdict() {
    for (size, minutes) in [(2, 60), (3, 120), (5, 60), (30, 5)] {
        let mut cluster = Cluster::new(size, Timing::lan(), 11);
        cluster.loss = 50;
        assert_nothing_happens(&mut cluster, minutes * 60_000);
    }
}

#[test]
fn a_crash_is_seen_through_heavy_loss() {
    for (size, loss) in [(5, 50), (5, 200), (30, 50), (30, 200)] {
        for seed in 0..5 {
            let mut cluster = Cluster::new(size, Timing::lan(), seed);
            cluster.loss = loss;
            cluster.run_for(30_000);
            assert_eq!(cluster.log.iter().find(|c| c.verdict == Verdict::Down), None);
            cluster.crash(0);
            let took = until_down(&mut cluster, 1..size, &[0], 10_000);
            assert!(took < 5_000, "{size} nodes, {loss}: {took}");
        }
    }
}

#[test]
fn a_freeze_of_one_second_is_not_noticed() {
    for size in [2, 3, 5, 30] {
        for seed in 0..10 {
            let mut cluster = Cluster::new(size, Timing::lan(), seed);
            cluster.run_for(seed * 23);
            cluster.freeze(0, 1_000);
            assert_nothing_happens(&mut cluster, 20_000);
        }
    }
}

#[test]
fn a_freeze_of_five_seconds_is_noticed_and_mended() {
    for size in [3, 5, 30] {
        for seed in 0..5 {
            let mut cluster = Cluster::new(size, Timing::lan(), seed);
            cluster.freeze(0, 5_000);
            let took = until_down(&mut cluster, 1..size, &[0], 4_900);
            cluster.run_for(5_000 - took);
            assert!(cluster.detector(0).holds_back(cluster.now()), "thawed and bold");
            let took = assert_all_up(&mut cluster, 5_000);
            assert!(took < 2_500, "{size} nodes: {took}");
            // It was called down once and refuted it; it never called anybody down.
            assert!(cluster.incarnation(0).0 > 1);
            assert_eq!(cluster.log.iter().find(|c| c.target != 0), None);
            assert_eq!(cluster.flaps(1, 0), 1);
        }
    }
}

#[test]
fn all_frozen_at_once_accuse_nobody() {
    for seed in 0..10 {
        let mut cluster = Cluster::new(5, Timing::lan(), seed);
        (0..5).for_each(|n| cluster.freeze(n, 60_000));
        assert_nothing_happens(&mut cluster, 80_000);
    }
}

#[test]
fn each_side_of_a_partition_sees_the_other_as_down_and_both_find_back() {
    for (size, first) in [(2, 1), (3, 1), (10, 5), (30, 15), (30, 4), (60, 8)] {
        let mut cluster = Cluster::new(size, Timing::lan(), 3);
        cluster.partition(first);
        let (left, right): (Vec<_>, Vec<_>) = (0..size).partition(|n| *n < first);
        let start = cluster.now;
        let apart = cluster.run_until(60_000, |c| {
            left.iter().all(|v| c.down(*v) == right) && right.iter().all(|v| c.down(*v) == left)
        });
        let of_left: Vec<usize> = left.iter().map(|v| cluster.down(*v).len()).collect();
        let of_right: Vec<usize> = right.iter().map(|v| cluster.down(*v).len()).collect();
        assert!(apart, "{first} of {size}: {of_left:?} {of_right:?}");
        let took = cluster.now - start;
        cluster.run_for(if size > 20 { 10_000 } else { 60_000 });
        assert!(left.iter().all(|v| cluster.down(*v) == right));
        cluster.heal();
        let back = assert_all_up(&mut cluster, 20_000);
        assert!(took < 12_000 && back < 4_000, "{first} of {size}: {took}, {back}");
    }
}

#[test]
fn a_cut_in_one_direction_between_two_of_three_is_gone_round() {
    let mut cluster = Cluster::new(3, Timing::lan(), 1);
    cluster.cut_one_way(0, 1);
    assert_nothing_happens(&mut cluster, 600_000);
}

#[test]
fn who_does_not_reach_half_of_the_others_is_unstable_and_not_down() {
    // Without helpers: with them the others find a way round, see the next test.
    let timing = Timing { indirect_helpers: 0, ..Timing::lan() };
    let mut cluster = Cluster::new(20, timing, 1);
    (10..20).for_each(|n| cluster.cut_one_way(0, n));
    cluster.run_for(300_000);
    assert!((1..20).all(|v| matches!(cluster.verdict(v, 0), Verdict::Unstable { of: 10, .. })));
    assert_eq!(cluster.log.iter().find(|c| c.verdict == Verdict::Down || c.target != 0), None);
    cluster.heal();
    assert_all_up(&mut cluster, 10_000);
}

#[test]
fn who_does_not_reach_half_of_the_others_is_reached_through_the_rest() {
    let mut cluster = Cluster::new(20, Timing::lan(), 1);
    (10..20).for_each(|n| cluster.cut_one_way(0, n));
    assert_nothing_happens(&mut cluster, 300_000);
}

#[test]
fn who_reaches_few_does_not_come_and_go_all_the_time() {
    let mut cluster = Cluster::new(20, Timing::lan(), 1);
    (4..20).for_each(|n| cluster.cut_one_way(0, n));
    cluster.run_for(600_000);
    let comings = (1..20).map(|viewer| cluster.flaps(viewer, 0));
    let most = comings.max().unwrap();
    assert!(most <= 20, "{most} times in ten minutes");
}

#[test]
fn who_can_hear_but_not_speak_is_down() {
    for size in [3, 5, 30] {
        let mut cluster = Cluster::new(size, Timing::lan(), 5);
        (1..size).for_each(|n| cluster.cut_one_way(0, n));
        let took = until_down(&mut cluster, 1..size, &[0], 10_000);
        assert!(took < 3_000, "{took}");
        cluster.run_for(60_000);
        assert!((1..size).all(|viewer| cluster.down(viewer) == [0]));
        cluster.heal();
        assert_all_up(&mut cluster, 10_000);
    }
}

#[test]
fn a_process_that_is_gone_is_waited_for() {
    let timing = Timing { gone_grace: Millis(8_000), ..Timing::lan() };
    for size in [2, 3, 30] {
        let mut cluster = Cluster::new(size, timing, 2);
        let start = cluster.now;
        cluster.kill_process(0);
        let gone = |c: &Cluster, v: usize| matches!(c.verdict(v, 0), Verdict::ProcessGone { .. });
        assert!(cluster.run_until(5_000, |c| (1..size).all(|v| gone(c, v))));
        until_down(&mut cluster, 1..size, &[0], 12_000);
        let took = cluster.now - start;
        assert!((9_500..14_000).contains(&took), "{took}");
    }
}

#[test]
fn a_process_that_comes_back_in_time_was_never_down() {
    for size in [2, 3, 30] {
        let mut cluster = Cluster::new(size, Timing::lan(), 2);
        cluster.kill_process(0);
        cluster.run_for(10_000);
        assert!(matches!(cluster.verdict(1, 0), Verdict::ProcessGone { .. }));
        cluster.start_process(0);
        let took = assert_all_up(&mut cluster, 5_000);
        assert!(took < 3_000, "{took}");
        assert_eq!(cluster.log.iter().find(|c| c.verdict == Verdict::Down), None);
    }
}

#[test]
fn a_host_that_dies_after_its_process_is_down_at_once() {
    let mut cluster = Cluster::new(5, Timing::lan(), 4);
    cluster.kill_process(0);
    cluster.run_for(5_000);
    assert!(matches!(cluster.verdict(1, 0), Verdict::ProcessGone { .. }));
    cluster.crash(0);
    let took = until_down(&mut cluster, 1..5, &[0], 10_000);
    assert!(took < 6_000, "{took}");
    // The host comes up again before shoal does: that is no reason to believe its old claims.
    cluster.kill_process(0);
    cluster.run_for(10_000);
    assert!((1..5).all(|viewer| cluster.down(viewer) == [0]));
}

#[test]
fn a_node_that_is_always_late_still_notices() {
    let mut cluster = Cluster::new(3, Timing::lan(), 6);
    cluster.slow_down(0, 170);
    cluster.run_for(60_000);
    assert_eq!(cluster.log.iter().find(|c| c.verdict == Verdict::Down), None);
    cluster.log.clear();
    cluster.crash(2);
    let took = until_down(&mut cluster, 0..2, &[2], 30_000);
    assert!(took < 12_000, "{took}");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut cluster = Cluster::new(15, Timing::lan(), seed);
        cluster.loss = 100;
        cluster.freeze(3, 4_000);
        cluster.crash(4);
        cluster.run_for(20_000);
        cluster.log
    };
    assert!(!run(1).is_empty());
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn what_a_node_sends_does_not_depend_on_the_size_of_the_cluster() {
    for size in [12, 30, 100] {
        let cluster = Cluster::new(size, Timing::lan(), 1);
        let most = (0..size).map(|n| cluster.detector(n).observed().count()).max();
        assert!(most.is_some_and(|most| most <= 25), "{most:?}");
    }
}
