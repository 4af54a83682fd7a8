//! What was acknowledged outlives processes, hosts and disks.

use std::collections::BTreeSet;

use membership::id::TaskId;
use node::command::Refused;
use simulations::disk::DiskManner;
use simulations::operators::service;
use simulations::script::{Script, h};

#[test]
fn all_shoals_killed_at_once_come_back_with_every_service_and_adopt_every_container() {
    let mut script = Script::of(41, 3);
    script.create_web(9);
    script.create(h(1), service("other", "sim/web", 4));
    script.wait_whole(30);
    let before: Vec<BTreeSet<TaskId>> = (0..3).map(|n| script.running(h(n))).collect();
    let calm = script.actions();
    (0..3).for_each(|n| script.kill_shoal(h(n)));
    script.pass(30);
    (0..3).for_each(|n| script.start_shoal(h(n)));
    script.pass(30);
    script.wait_whole(1);
    assert_eq!((0..3).map(|n| script.running(h(n))).collect::<Vec<_>>(), before);
    assert_eq!(script.actions(), calm);
    script.done();
}

#[test]
fn a_power_failure_of_everything_loses_no_service() {
    let mut script = Script::of(42, 5);
    let web = script.create_web(10);
    (0..5).for_each(|n| script.crash(h(n)));
    script.pass(60);
    (0..5).for_each(|n| script.boot(h(n)));
    script.wait_whole(60);
    // What came up late was taken over by those that were there already, and is evened out.
    script.wait("even", 200, |script| script.whole().is_ok() && script.counts(web) == [2; 5]);
    script.done();
}

#[test]
fn an_acknowledged_change_survives_the_host_that_took_it() {
    for seed in 430..440 {
        let mut script = Script::of(seed, 3);
        let web = script.create(h(2), service("web", "sim/web", 3));
        // The acknowledgement is the last thing that host ever says.
        script.crash(h(2));
        script.wait("the others have it", 30, |script| script.slots(web, &[h(0), h(1)]).len() == 3);
        script.boot(h(2));
        script.wait_whole(60);
        script.done();
    }
}

#[test]
fn a_full_disk_refuses_in_words_and_changes_nothing() {
    let mut script = Script::of(44, 3);
    let web = script.create_web(3);
    let full = DiskManner { full: true, ..DiskManner::default() };
    script.run.world.hosts[0].disk.set_manner(full);
    let refused = script.try_create(h(0), service("other", "sim/web", 2)).expect_err("no room");
    assert_eq!(refused.kind, Refused::NotStored);
    assert!(refused.message.contains("No space left"), "{refused}");
    script.scale(h(1), web, 5).expect("the others take it");
    script.wait("the others run it", 20, |script| script.counts(web).iter().sum::<usize>() >= 5);
    script.run.world.hosts[0].disk.set_manner(DiskManner::default());
    script.wait_whole(30);
    script.pass(30);
    script.done();
}

#[test]
fn an_edit_that_no_second_disk_confirmed_is_not_acknowledged_when_it_is_repeated() {
    let mut script = Script::of(45, 2);
    let web = script.create_web(2);
    // The peer is alive as far as anybody knows, but its disk takes nothing.
    script.run.world.hosts[1].disk.set_manner(DiskManner { full: true, ..DiskManner::default() });
    let refused = script.scale(h(0), web, 4).expect_err("on one disk only");
    assert_eq!(refused.kind, Refused::NotStored);
    let refused = script.scale(h(0), web, 4).expect_err("still on one disk only");
    assert_eq!(refused.kind, Refused::NotStored);
    script.run.world.hosts[1].disk.set_manner(DiskManner::default());
    script.scale(h(0), web, 4).expect("now on two");
    script.wait_whole(30);
    script.done();
}

#[test]
fn a_replaced_disk_makes_another_node_which_learns_everything() {
    let mut script = Script::of(46, 3);
    let web = script.create_web(6);
    script.crash(h(1));
    script.wait("replaced", 20, |script| script.slots(web, &[h(0), h(2)]).len() == 6);
    script.run.world.replace_disk(h(1));
    script.boot(h(1));
    script.wait("even over three again", 200, |script| {
        script.whole().is_ok() && script.counts(web) == [2, 2, 2]
    });
    script.done();
}
