//! Each mutant is caught, and by the check that is made for it; the healthy node, put through the same, is
//! not.

use serde_json::json;
use simulations::cores;
use simulations::links::Cut;
use simulations::mutants::{Mutation, mutant};
use simulations::operators::service;
use simulations::run::{Run, RunSpec};
use simulations::script::h;
use simulations::seen::Seen;
use simulations::time::{At, Span};
use simulations::world::Maker;

/// A little of everything: services, a drain, a crash and a return, a cut, a removal, and then rest.
fn put_through(maker: Maker) -> Vec<&'static str> {
    let mut spec = RunSpec::plain(77, 3);
    for (n, host) in spec.hosts.iter_mut().enumerate() {
        host.capacity.cpu_milli = 2_000;
        let disk = if n < 2 { "ssd" } else { "hdd" };
        host.labels.insert("disk".to_owned(), disk.to_owned());
    }
    let mut run = Run::new(&spec, maker);
    run.until(At(10_000_000));
    let mut web = service("web", "sim/web", 6);
    web["TaskTemplate"]["Resources"] = json!({ "Reservations": { "NanoCPUs": 400_000_000_i64 } });
    run.operators.create(&mut run.world, h(0), web);
    run.operators.create(&mut run.world, h(1), service("other", "sim/web", 3));
    let mut picky = service("picky", "sim/web", 2);
    picky["TaskTemplate"]["Placement"] = json!({ "Constraints": ["engine.labels.disk==ssd"] });
    // The node that may not run it takes the command.
    run.operators.create(&mut run.world, h(2), picky);
    let mut once = service("once", "sim/web", 3);
    once["Labels"] = json!({ "shoal.partition": "fenced" });
    run.operators.create(&mut run.world, h(1), once);
    run.pass(Span::secs(30));
    let drained = run.world.hosts[2].id;
    run.operators.availability(&mut run.world, h(0), drained, "drain");
    run.pass(Span::secs(30));
    run.operators.tidy_up(&mut run.world, h(0));
    run.pass(Span::secs(30));
    run.world.power_off(h(1));
    run.note(Seen::Disturbed);
    run.pass(Span::secs(20));
    run.world.power_on(h(1));
    run.note(Seen::Disturbed);
    run.pass(Span::secs(90));
    cut_and_edit(&mut run);
    let id = run.operators.services().first().copied();
    if let Some(id) = id {
        let mut more = service("more", "sim/web", 9);
        more["TaskTemplate"]["Resources"] =
            json!({ "Reservations": { "NanoCPUs": 900_000_000_i64 } });
        run.operators.remove(&mut run.world, h(1), id);
        run.operators.create(&mut run.world, h(0), more);
    }
    run.pass(Span::secs(60));
    let pending = run.operators.services().last().copied();
    if let Some(pending) = pending {
        run.operators.remove(&mut run.world, h(2), pending);
    }
    run.pass(Span::secs(30));
    run.heal();
    run.demand_liveness();
    let mut checks: Vec<&'static str> =
        run.finish().violations.into_iter().map(|violation| violation.check).collect();
    checks.sort();
    checks.dedup();
    checks
}

/// One host is alone for a while, and both sides edit the same service.
fn cut_and_edit(run: &mut Run) {
    // One that never answers has not told of any.
    let Some(id) = run.operators.services().get(1).copied() else { return };
    let alone = run.world.cut(Cut::Groups(vec![0, 0, 1]));
    run.note(Seen::Disturbed);
    run.pass(Span::secs(40));
    for (host, tag) in [(h(0), "a"), (h(2), "b")] {
        run.operators.update(&mut run.world, host, id, |spec| {
            spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([format!("V={tag}")]);
        });
    }
    run.pass(Span::secs(110));
    run.world.mend(alone);
    run.note(Seen::Disturbed);
    run.pass(Span::secs(60));
}

/// A host crashes, is removed from the cluster, and comes back.
fn expel_one(maker: Maker) -> Vec<&'static str> {
    let mut run = Run::new(&RunSpec::plain(78, 3), maker);
    run.until(At(10_000_000));
    run.operators.create(&mut run.world, h(0), service("web", "sim/web", 3));
    run.pass(Span::secs(20));
    run.world.power_off(h(2));
    run.note(Seen::Disturbed);
    run.pass(Span::secs(20));
    let gone = run.world.hosts[2].id;
    run.operators.expel(&mut run.world, h(0), gone);
    run.pass(Span::secs(20));
    run.world.power_on(h(2));
    run.note(Seen::Disturbed);
    run.pass(Span::secs(60));
    let id = run.operators.services()[0];
    run.operators.scale(&mut run.world, h(1), id, 6);
    run.pass(Span::secs(30));
    let mut checks: Vec<&'static str> =
        run.finish().violations.into_iter().map(|violation| violation.check).collect();
    checks.dedup();
    checks.retain(|check| *check == "expelled");
    checks
}

fn caught(how: Mutation, by: &str) {
    let checks = put_through(mutant(how, cores::settings()));
    assert!(checks.contains(&by), "{how:?} was caught by {checks:?}, not by {by}");
}

#[test]
fn the_healthy_node_passes() {
    assert_eq!(put_through(cores::real(cores::settings())), Vec::<&str>::new());
}

#[test]
fn one_that_trusts_the_disk_tells_of_what_is_not_on_it() {
    caught(Mutation::TrustsTheDisk, "durable");
}

#[test]
fn one_that_confirms_unread_makes_an_acknowledgement_a_lie() {
    caught(Mutation::ConfirmsUnread, "durable");
}

#[test]
fn one_that_believes_claims_ready_stops_the_only_replica() {
    caught(Mutation::BelievesClaimsReady, "make before break");
}

#[test]
fn one_that_ignores_claims_runs_everything_twice() {
    caught(Mutation::IgnoresClaims, "twins");
}

#[test]
fn one_that_hears_no_answers_calls_the_living_down() {
    caught(Mutation::HearsNoAnswers, "verdicts");
}

#[test]
fn one_that_never_stops_keeps_twins() {
    caught(Mutation::NeverStops, "twins");
}

#[test]
fn one_whose_epochs_fall_is_seen() {
    caught(Mutation::EpochsFall, "rising");
}

#[test]
fn one_that_forgets_its_incarnation_is_seen() {
    caught(Mutation::ForgetsItsIncarnation, "rising");
}

#[test]
fn one_that_boasts_runs_more_than_it_holds() {
    caught(Mutation::Boasts, "capacity");
}

#[test]
fn one_that_is_deaf_to_removals_keeps_the_removed() {
    caught(Mutation::DeafToRemovals, "removed");
}

#[test]
fn one_that_fidgets_breaks_the_silence() {
    caught(Mutation::Fidgets, "silence");
}

#[test]
fn one_that_ignores_claims_sees_another_plan_than_the_rest() {
    caught(Mutation::IgnoresClaims, "plans");
}

#[test]
fn one_that_never_answers_is_seen() {
    caught(Mutation::NeverAnswers, "answers");
}

#[test]
fn one_that_forgets_its_containers_does_not_adopt_them() {
    caught(Mutation::ForgetsContainers, "adopted");
}

#[test]
fn one_that_overlooks_constraints_starts_what_it_may_not() {
    caught(Mutation::OverlooksPlacement, "limits");
}

#[test]
fn one_that_overlooks_the_partition_mode_runs_what_is_fenced() {
    caught(Mutation::OverlooksPartition, "minority");
}

#[test]
fn one_that_chatters_breaks_the_silence() {
    caught(Mutation::Chatters, "silence");
}

#[test]
fn one_that_moves_for_nothing_is_seen() {
    caught(Mutation::MovesForNothing, "moves");
}

#[test]
fn one_that_keeps_the_removed_tells_it_of_news() {
    assert_eq!(expel_one(cores::real(cores::settings())), Vec::<&str>::new());
    let keeps = mutant(Mutation::KeepsTheRemoved, cores::settings());
    assert_eq!(expel_one(keeps), ["expelled"]);
}
