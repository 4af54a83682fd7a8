//! Each mutant is caught, and by the check that is made for it; the healthy node, put through the same, is
//! not.

use serde_json::json;
use simulations::cores;
use simulations::gossip::Pace;
use simulations::links::Cut;
use simulations::mutants::{Mutation, mutant};
use simulations::operators::{Act, Draft, service};
use simulations::outage::{self, OutageSpec};
use simulations::run::{Run, RunSpec};
use simulations::script::h;
use simulations::seen::Seen;
use simulations::time::{At, Span};
use simulations::world::{Fidelity, Maker};

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

#[test]
fn one_that_never_stops_does_not_end_with_every_slot_once() {
    caught(Mutation::NeverStops, "exactly once");
}

#[test]
fn one_that_never_evens_out_leaves_load_uneven() {
    caught(Mutation::NeverEvensOut, "even");
}

#[test]
fn one_that_never_rests_is_seen() {
    caught(Mutation::NeverRests, "rest");
}

/// Two parts of the cluster edit one service, are joined again, and come to rest.
fn edit_on_both_sides(maker: Maker) -> Vec<&'static str> {
    let mut run = Run::new(&RunSpec::plain(81, 4), maker);
    run.until(At(10_000_000));
    run.operators.create(&mut run.world, h(0), service("web", "sim/web", 4));
    run.pass(Span::secs(20));
    let id = run.operators.services()[0];
    let cut = run.world.cut(Cut::Groups(vec![0, 0, 1, 1]));
    run.note(Seen::Disturbed);
    run.pass(Span::secs(20));
    for (host, tag) in [(h(0), "left"), (h(3), "right")] {
        run.operators.update(&mut run.world, host, id, |spec| {
            spec["TaskTemplate"]["ContainerSpec"]["Env"] = json!([format!("SIDE={tag}")]);
        });
        run.pass(Span::secs(2));
    }
    run.pass(Span::secs(20));
    run.world.mend(cut);
    run.note(Seen::Disturbed);
    run.pass(Span::secs(120));
    let mut checks: Vec<&'static str> =
        run.finish().violations.into_iter().map(|violation| violation.check).collect();
    checks.dedup();
    checks
}

#[test]
fn one_that_hides_conflicts_loses_an_edit() {
    assert_eq!(edit_on_both_sides(cores::real(cores::settings())), Vec::<&str>::new());
    let hides = edit_on_both_sides(mutant(Mutation::HidesConflicts, cores::settings()));
    assert!(hides.contains(&"conflicts"), "{hides:?}");
}

/// A cluster cannot be filled, and what is lost is not replaced.
#[test]
fn one_that_never_starts_fills_nothing() {
    let spec = OutageSpec {
        seed: 79,
        hosts: 3,
        replicas: 6,
        kill_per_mille: 300,
        back_after: None,
        gossip: Fidelity::Modelled(Pace::default()),
        tell: false,
    };
    let found = |maker| -> Vec<&'static str> {
        let outcome = outage::run(&spec, maker).outcome;
        outcome.violations.into_iter().map(|violation| violation.check).collect()
    };
    assert_eq!(found(cores::real(cores::settings())), Vec::<&str>::new());
    let never = found(mutant(Mutation::NeverStarts, cores::settings()));
    assert!(never.contains(&"fill") && never.contains(&"recovery"), "{never:?}");
}

/// A host without a token knocks, and a member garbles what it says: the healthy cluster does not notice.
fn with_strangers(maker: Maker, open_door: bool) -> (Run, Vec<&'static str>) {
    let mut spec = RunSpec::plain(80, 5);
    spec.outsiders.insert(h(4));
    let mut run = Run::new(&spec, maker);
    run.world.open_door = open_door;
    run.until(At(10_000_000));
    run.operators.create(&mut run.world, h(0), service("web", "sim/web", 8));
    run.world.set_garbling(h(1), 300);
    run.pass(Span::secs(40));
    if let Some(id) = run.operators.services().first().copied() {
        // So much is said about records that some of it arrives broken and can still be read.
        for replicas in 9..33 {
            run.operators.scale(&mut run.world, h(1), id, replicas);
            run.pass(Span::secs(2));
        }
    }
    run.pass(Span::secs(30));
    run.checks.end(run.world.now);
    let mut checks: Vec<&'static str> =
        run.checks.found.violations.iter().map(|violation| violation.check).collect();
    checks.sort();
    checks.dedup();
    (run, checks)
}

#[test]
fn strangers_and_garbage_do_no_harm() {
    let (mut run, checks) = with_strangers(cores::real(cores::settings()), false);
    assert_eq!(checks, Vec::<&str>::new(), "{:#?}", run.checks.found.violations);
    assert!(
        run.world.unreadable > 10 && run.world.readable > 10,
        "garbage was sent: {} and {}",
        run.world.unreadable,
        run.world.readable
    );
    run.heal();
    run.demand_liveness();
    assert_eq!(run.finish().violations, []);
}

#[test]
fn a_door_that_stands_open_is_seen() {
    let (_, checks) = with_strangers(cores::real(cores::settings()), true);
    assert!(checks.contains(&"outsiders"), "{checks:?}");
}

#[test]
fn one_that_believes_the_future_keeps_garbage() {
    let (_, checks) = with_strangers(mutant(Mutation::BelievesTheFuture, cores::settings()), false);
    assert!(checks.contains(&"outsiders"), "{checks:?}");
}

/// A job is done, a service gets a config that is replaced in place, and its secret.
fn with_jobs_and_files(maker: Maker) -> Vec<&'static str> {
    let mut run = Run::new(&RunSpec::plain(82, 3), maker);
    run.until(At(10_000_000));
    let mut job = service("job", "sim/job", 1);
    job["Mode"] = json!({ "ReplicatedJob": { "TotalCompletions": 3, "MaxConcurrent": 3 } });
    run.operators.create(&mut run.world, h(0), job);
    let on = |run: &mut Run, host, act| assert!(run.operators.act(&mut run.world, host, &act));
    for (asset, secret) in [(1, true), (2, false)] {
        on(&mut run, asset, Act::CreateAsset { asset, secret, content: 1 });
    }
    run.pass(Span::secs(2));
    let draft = Draft { files: vec![1, 2], ..Draft::web(3) };
    on(&mut run, 0, Act::Create { service: 1, draft });
    run.pass(Span::secs(20));
    on(&mut run, 2, Act::ReplaceConfig { asset: 2, content: 2 });
    run.pass(Span::secs(100));
    run.heal();
    run.demand_liveness();
    let files = run.world.hosts.iter().flat_map(|host| host.engine.containers());
    assert_eq!(files.filter(|container| container.is_running()).count(), 3);
    let mut checks: Vec<&'static str> =
        run.finish().violations.into_iter().map(|violation| violation.check).collect();
    checks.sort();
    checks.dedup();
    checks
}

#[test]
fn one_that_overlooks_files_or_repeats_jobs_is_seen() {
    assert_eq!(with_jobs_and_files(cores::real(cores::settings())), Vec::<&str>::new());
    let overlooks = with_jobs_and_files(mutant(Mutation::OverlooksFiles, cores::settings()));
    assert!(overlooks.contains(&"files"), "{overlooks:?}");
    let repeats = with_jobs_and_files(mutant(Mutation::RepeatsJobs, cores::settings()));
    assert!(repeats.contains(&"jobs"), "{repeats:?}");
}
