//! Each mutant is caught, and by the check that is made for it; the healthy node, put through the same, is
//! not.

use serde_json::json;
use simulations::cores;
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
    spec.hosts.iter_mut().for_each(|host| host.capacity.cpu_milli = 2_000);
    let mut run = Run::new(&spec, maker);
    run.until(At(10_000_000));
    let mut web = service("web", "sim/web", 6);
    web["TaskTemplate"]["Resources"] = json!({ "Reservations": { "NanoCPUs": 400_000_000_i64 } });
    run.operators.create(&mut run.world, h(0), web);
    run.operators.create(&mut run.world, h(1), service("other", "sim/web", 3));
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
