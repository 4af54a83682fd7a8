//! For each check: a fabricated run that keeps the promise and one with a planted violation.

mod files;
mod networks;
mod records;

use std::collections::BTreeSet;

use membership::clock::Stamp;
use membership::id::{Incarnation, NodeId, ServiceId, TaskId};
use membership::member::{MemberState, Resources};
use membership::record::{Key, Kind};
use node::slot::{Epoch, Phase, Place, Slot, TemplateId};
use node::spec::Partition;

use super::Checks;
use crate::engine::Became;
use crate::links::HostIx;
use crate::operators::CommandNo;
use crate::seen::{OwnView, RecordName, Seen, Stored};
use crate::time::{At, Span};
use records::written;

const A: HostIx = HostIx(0);
const B: HostIx = HostIx(1);
const C: HostIx = HostIx(2);

fn place() -> Place {
    Place { service: ServiceId(1), slot: Slot::Index(1) }
}

fn task(n: u128) -> TaskId {
    TaskId(n)
}

fn view() -> OwnView {
    OwnView {
        draining: false,
        desired: 2,
        global: false,
        partition: Partition::Available,
        stop_first: true,
        reservation: Resources { cpu_milli: 600, memory_bytes: 0 },
        forbidden: None,
        per_node: 0,
        template: TemplateId(1),
    }
}

fn start(host: HostIx, n: u128, view: OwnView) -> Seen {
    Seen::Start {
        host,
        place: place(),
        task: task(n),
        epoch: Epoch(1),
        template: TemplateId(1),
        view: Some(view),
    }
}

fn became(host: HostIx, n: u128, what: Became) -> Seen {
    Seen::Container { host, place: place(), task: task(n), what }
}

fn stop(host: HostIx, n: u128, view: OwnView) -> Seen {
    Seen::Stop { host, place: place(), task: task(n), view: Some(view) }
}

fn runs(host: HostIx, n: u128) -> Vec<Seen> {
    let (id, epoch) = (NodeId(u128::from(host.0) + 1), Epoch(1));
    let ready = Seen::Claim { host, id, place: place(), epoch, phase: Phase::Ready };
    vec![
        start(host, n, view()),
        became(host, n, Became::Started),
        became(host, n, Became::Ready),
        ready,
    ]
}

/// Three hosts that can all talk.
fn cluster() -> Vec<Seen> {
    let mut seen = Vec::new();
    for (n, host) in [A, B, C].into_iter().enumerate() {
        seen.push(Seen::Host { host, capacity: Resources { cpu_milli: 1000, memory_bytes: 0 } });
        seen.push(Seen::Process { host, id: NodeId(n as u128 + 1), incarnation: Incarnation(1) });
    }
    seen.push(Seen::Parts(vec![vec![A, B, C]]));
    seen
}

struct Script {
    checks: Checks,
    now: At,
}

impl Script {
    fn new() -> Self {
        let mut script = Self { checks: Checks::default(), now: At::ZERO };
        script.sees(cluster());
        script
    }

    fn sees(&mut self, seen: impl IntoIterator<Item = Seen>) -> &mut Self {
        for seen in seen {
            self.now += Span::ms(1);
            self.checks.see(self.now, &seen);
        }
        self
    }

    fn passes(&mut self, secs: u64) -> &mut Self {
        for _ in 0..secs {
            self.now += Span::secs(1);
            self.checks.second(self.now);
        }
        self
    }

    fn ends(&mut self) -> &mut Self {
        self.checks.end(self.now);
        self
    }

    fn found(&self) -> Vec<&'static str> {
        self.checks.found.violations.iter().map(|violation| violation.check).collect()
    }
}

#[test]
fn twins_are_borne_for_a_while_and_in_different_parts() {
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees(runs(B, 2)).passes(55);
    assert!(script.found().is_empty());
    script.passes(10);
    assert_eq!(script.found(), ["twins"]);
    let mut script = Script::new();
    script
        .sees([Seen::Parts(vec![vec![A], vec![B, C]])])
        .sees(runs(A, 1))
        .sees(runs(B, 2))
        .passes(300);
    assert!(script.found().is_empty());
}

#[test]
fn the_only_ready_replica_is_not_stopped() {
    let mut script = Script::new();
    script.sees(runs(A, 1)).passes(1).sees([stop(A, 1, view())]);
    assert_eq!(script.found(), ["make before break"]);

    let mut script = Script::new();
    script.sees(runs(A, 1)).sees(runs(B, 2)).passes(1).sees([stop(A, 1, view())]);
    assert!(script.found().is_empty(), "its twin is ready");
    let mut script = Script::new();
    script.sees(runs(A, 1)).passes(1).sees([stop(A, 1, OwnView { desired: 0, ..view() })]);
    assert!(script.found().is_empty(), "nobody wants it");
    let mut script = Script::new();
    let updated = OwnView { template: TemplateId(2), ..view() };
    script.sees(runs(A, 1)).passes(1).sees([stop(A, 1, updated.clone())]);
    assert!(script.found().is_empty(), "a stop-first update");
    let mut script = Script::new();
    script.sees(runs(A, 1)).passes(1).sees([stop(A, 1, OwnView { stop_first: false, ..updated })]);
    assert_eq!(script.found(), ["make before break"], "a start-first update");
    // On the same host a new one was ready for a moment: only a loop that lags has not heard of its end.
    for strained in [false, true] {
        let beside = |what| Seen::Container { host: A, place: place(), task: task(2), what };
        let mut script = Script::new();
        script.sees([Seen::Strained { host: A, strained }]).sees(runs(A, 1)).passes(1);
        script.sees([start(A, 2, view()), beside(Became::Ready), beside(Became::NotReady)]);
        script.passes(1).sees([stop(A, 1, view())]);
        let broken = script.found().contains(&"make before break");
        assert_eq!(broken, !strained);
    }
}

#[test]
fn a_stop_that_was_right_when_it_was_decided_has_to_be_right_when_it_is_carried_out() {
    let gives_up = |n| Seen::GivesUp { host: A, task: task(n), view: Some(view()) };
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees(runs(B, 2)).passes(1).sees([gives_up(1)]);
    script.sees([became(B, 2, Became::NotReady)]).passes(20).sees([stop(A, 1, view())]);
    assert_eq!(script.found(), ["make before break"], "its twin is gone since");
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees(runs(B, 2)).passes(1).sees([gives_up(1), stop(A, 1, view())]);
    script.sees([became(B, 2, Became::NotReady)]).passes(20).sees([stop(A, 1, view())]);
    assert!(script.found().is_empty(), "the stop was under way already");
}

#[test]
fn numbers_do_not_fall() {
    let id = NodeId(1);
    let claim = |epoch| Seen::Claim {
        host: A,
        id,
        place: place(),
        epoch: Epoch(epoch),
        phase: Phase::Ready,
    };
    let published =
        |incarnation, seq| Seen::Published { id, incarnation: Incarnation(incarnation), seq };
    let mut script = Script::new();
    script.sees([claim(5), claim(5), claim(6), published(1, 1), published(1, 2), published(2, 1)]);
    assert!(script.found().is_empty());
    script.sees([claim(4)]);
    script.sees([published(1, 9)]);
    script.sees([Seen::Process { host: A, id, incarnation: Incarnation(1) }]);
    assert_eq!(script.found(), ["rising"; 3]);
}

#[test]
fn an_epoch_outlives_a_restart_with_the_containers_of_its_slot() {
    let (id, host) = (NodeId(1), A);
    let again = Seen::Process { host, id, incarnation: Incarnation(2) };
    let claim =
        |epoch| Seen::Claim { host, id, place: place(), epoch: Epoch(epoch), phase: Phase::Ready };
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees([claim(7), became(A, 1, Became::Ended), again.clone(), claim(5)]);
    assert_eq!(script.found(), ["rising"], "the container that ended tells of it");
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees([claim(7), became(A, 1, Became::Gone), again, claim(5)]);
    assert!(script.found().is_empty(), "it had been given up, and nothing tells of it");
    let mut script = Script::new();
    script.sees([start(A, 2, view()), Seen::ProcessGone { host: A }]).sees(runs(A, 1));
    script.sees([claim(7), became(A, 2, Became::Started), became(A, 2, Became::Ready), claim(5)]);
    assert!(!script.found().contains(&"rising"), "a start of long ago is carried out");
}

#[test]
fn a_host_does_not_run_more_than_it_holds() {
    let mut script = Script::new();
    script
        .sees(runs(A, 1))
        .sees([became(A, 1, Became::NotReady), became(A, 1, Became::Ended)])
        .sees(runs(A, 2));
    assert!(script.found().is_empty(), "the first has ended");
    script.sees([Seen::GivesUp { host: A, task: task(2), view: None }]).sees(runs(A, 3));
    assert_eq!(script.found(), ["capacity"]);
}

#[test]
fn a_minority_takes_no_majority_service_over() {
    let majority = OwnView { partition: Partition::Majority, ..view() };
    let cut = || [Seen::Disturbed, Seen::Parts(vec![vec![A], vec![B, C]])];
    let mut script = Script::new();
    script.sees(cut()).passes(20).sees([start(B, 1, majority.clone())]);
    assert!(script.found().is_empty(), "the larger side may");
    script.sees([start(A, 2, majority.clone())]);
    assert_eq!(script.found(), ["minority"]);
    let mut script = Script::new();
    let id = NodeId(1);
    let held = Seen::Claim { host: A, id, place: place(), epoch: Epoch(1), phase: Phase::Ready };
    script.sees([held]).sees(cut()).passes(20).sees([start(A, 2, majority)]);
    assert!(script.found().is_empty(), "its own, again");
}

#[test]
fn a_settled_cluster_is_silent() {
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees([settled()]).passes(10);
    assert!(script.found().is_empty());
    script.sees([start(B, 2, view())]);
    assert_eq!(script.found(), ["silence"]);
}

#[test]
fn what_was_kept_from_a_node_may_be_evened_out_when_that_is_over_and_nothing_else() {
    let kept_away = |service| Seen::Settled { kept_away: BTreeSet::from([ServiceId(service)]) };
    for (service, found) in [(1, vec![]), (2, vec!["silence"])] {
        let mut script = Script::new();
        script.sees(runs(A, 1)).sees([kept_away(service)]).passes(10);
        script.sees([start(B, 2, view())]);
        assert_eq!(script.found(), found);
    }
}

#[test]
fn nobody_calls_a_reachable_member_down() {
    let down = |about| Seen::Verdict { host: B, about: NodeId(about), to: MemberState::Down };
    let mut script = Script::new();
    script.passes(30).sees([Seen::ProcessGone { host: C }]).sees([down(3)]);
    assert!(script.found().is_empty(), "it is gone");
    script.sees([Seen::Disturbed, Seen::Parts(vec![vec![A], vec![B]])]).sees([down(1)]);
    assert!(script.found().is_empty(), "it is cut off");
    script.sees([Seen::Parts(vec![vec![A, B]])]).passes(30);
    script.sees([Seen::Lossy(vec![(A, B, 330)]), down(1), Seen::Lossy(Vec::new())]);
    assert!(script.found().is_empty(), "most round trips fail, and nobody else can ask");
    script.sees([down(1)]);
    assert_eq!(script.found(), ["verdicts"]);
    let mut script = Script::new();
    script.passes(30).sees([Seen::Lossy(vec![(A, B, 330), (A, C, 330)]), down(1)]);
    assert!(script.found().is_empty(), "the third host hears as little");
    script.sees([Seen::Lossy(vec![(A, B, 900)]), down(1)]);
    assert_eq!(script.found(), ["verdicts"], "the third host asks");
}

#[test]
fn what_is_asked_is_answered_and_in_a_calm_cluster_not_refused() {
    let (host, command) = (A, CommandNo(1));
    let answered = |stored| Seen::Answered { host, command, stored };
    let mut script = Script::new();
    script.sees([Seen::Asked { host, command }]).passes(60).sees([answered(true)]).passes(100);
    assert!(script.found().is_empty());
    script.sees([Seen::Disturbed, Seen::Asked { host, command }, answered(false)]);
    assert!(script.found().is_empty(), "something has just gone wrong");
    script.passes(100).sees([Seen::Asked { host, command }, answered(false)]);
    assert_eq!(script.found(), ["answers"]);
    script.sees([Seen::Asked { host, command }]).passes(100);
    assert_eq!(script.found(), ["answers"; 2]);
    script.sees([Seen::Asked { host, command }, Seen::ProcessGone { host }]).passes(100);
    assert_eq!(script.found().len(), 2, "it died over it");
}

#[test]
fn a_node_does_not_start_beside_its_own() {
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees([start(B, 2, view())]);
    assert!(script.found().is_empty(), "another node");
    script.sees([start(A, 3, view())]);
    assert!(script.found().is_empty(), "it may not have heard of it yet");
    script.passes(6).sees([start(A, 4, view())]);
    assert_eq!(script.found(), ["adopted"]);
}

#[test]
fn constraints_and_limits_hold() {
    let forbidden = OwnView { forbidden: Some("disk".to_owned()), ..view() };
    let mut script = Script::new();
    script.sees([start(A, 1, forbidden)]);
    assert_eq!(script.found(), ["limits"]);
    let slot = |n: u32, index: u32| {
        let place = Place { service: ServiceId(1), slot: Slot::Index(index) };
        let task = task(u128::from(n));
        let few = OwnView { per_node: 1, reservation: Resources::default(), ..view() };
        let (epoch, template, host) = (Epoch(1), TemplateId(1), A);
        [
            Seen::Start { host, place, task, epoch, template, view: Some(few) },
            Seen::Container { host, place, task, what: Became::Started },
        ]
    };
    let mut script = Script::new();
    script.sees(slot(1, 1)).sees(slot(2, 1));
    assert!(script.found().is_empty(), "the same slot, twice");
    script.sees(slot(3, 2));
    assert_eq!(script.found(), ["limits"]);
    let mut script = Script::new();
    let [order, late] = slot(1, 1);
    script.sees([order, Seen::CalledOff { task: task(1) }]).sees(slot(2, 2)).sees([late]);
    assert!(script.found().is_empty(), "the engine carries out what its node has called off");
    script.passes(60).sees(slot(3, 3));
    assert_eq!(script.found(), ["limits"], "by now the node knows what runs");
}

#[test]
fn nothing_moves_because_something_else_failed() {
    let down = || Seen::Verdict { host: B, about: NodeId(3), to: MemberState::Down };
    let mut script = Script::new();
    script.passes(100).sees(runs(A, 1)).passes(30).sees([start(B, 2, view())]);
    assert!(script.found().is_empty(), "a pull, in a quiet view");
    let mut script = Script::new();
    script.passes(100).sees(runs(A, 1)).passes(30).sees([Seen::ProcessGone { host: C }]);
    script.sees([down(), start(B, 2, view())]);
    assert_eq!(script.found(), ["moves"]);
    let mut script = Script::new();
    script.passes(100).sees(runs(A, 1)).passes(30).sees([Seen::ProcessGone { host: C }]);
    script.sees([Seen::Engine { host: A, well: false }, down(), start(B, 2, view())]);
    assert!(script.found().is_empty(), "its holder has trouble of its own");
    let mut script = Script::new();
    script.passes(100).sees(runs(A, 1)).passes(30).sees([Seen::ProcessGone { host: C }, down()]);
    script.sees([Seen::GivesUp { host: A, task: task(1), view: None }, start(B, 2, view())]);
    assert!(script.found().is_empty(), "its holder is about to stop it");
}

#[test]
fn who_was_removed_is_told_nothing() {
    let (host, id) = (A, NodeId(9));
    let mut script = Script::new();
    script.sees([Seen::Expelled { id }]).passes(20).sees([Seen::ToldExpelled { host, id }]);
    assert!(script.found().is_empty(), "the news travels");
    script.passes(20).sees([Seen::ToldExpelled { host, id }]);
    assert_eq!(script.found(), ["expelled"]);
}

fn settled() -> Seen {
    Seen::Settled { kept_away: BTreeSet::new() }
}

#[test]
fn a_settled_cluster_says_nothing_new() {
    let mut script = Script::new();
    script.sees([settled(), Seen::Spoke { host: A, what: "facts" }, written(B)]);
    assert_eq!(script.found(), ["silence"; 2]);
}

#[test]
fn the_smaller_part_stops_what_is_fenced() {
    let fenced = OwnView { partition: Partition::Fenced, ..view() };
    let mut script = Script::new();
    let runs = || {
        [start(A, 1, fenced.clone()), became(A, 1, Became::Started), became(A, 1, Became::Ready)]
    };
    script.sees(runs()).passes(200);
    assert!(script.found().is_empty());
    script.sees([Seen::Disturbed, Seen::Parts(vec![vec![A], vec![B, C]])]).passes(80);
    assert!(script.found().is_empty(), "the fixed time");
    script.passes(20);
    assert_eq!(script.found(), ["minority"]);
    let mut script = Script::new();
    script.sees(runs()).sees([Seen::Disturbed, Seen::Parts(vec![vec![A], vec![B, C]])]);
    for incarnation in 2..6 {
        let again = Seen::Process { host: A, id: NodeId(1), incarnation: Incarnation(incarnation) };
        script.passes(60).sees([again]);
    }
    assert!(script.found().is_empty(), "no process has known for long");
}

#[test]
fn who_has_no_token_learns_nothing_and_changes_nothing() {
    let (host, id) = (A, NodeId(9));
    let found = |seen: Vec<Seen>| {
        let mut script = Script::new();
        script.sees([Seen::Outsider { host: HostIx(3), id }, Seen::Garbage { id: 77 }]).sees(seen);
        script.found()
    };
    let put = |key: u128, writer| {
        let name = (Key { kind: Kind::Service, id: key }, Stamp { ms: 5, counter: 0 }, writer);
        let stored = Stored { name, tombstone: false, keeps: None, ended: Vec::new() };
        Seen::Written { host, records: vec![stored] }
    };
    assert!(found(vec![put(1, NodeId(1))]).is_empty());
    for seen in [
        Seen::LetIn { host, id },
        Seen::ToldOutsider { host, id },
        Seen::Verdict { host, about: id, to: MemberState::Alive },
        put(1, id),
        put(77, NodeId(1)),
    ] {
        assert_eq!(found(vec![seen.clone()]), ["outsiders"], "{seen:?}");
    }
}

#[test]
fn a_slot_of_a_job_that_is_recorded_to_have_ended_is_not_started_again() {
    let recorded = |host, template| {
        let ended = vec![(place(), TemplateId(template))];
        let name = (Key { kind: Kind::Completions, id: 1 }, Stamp { ms: 5, counter: 0 }, NodeId(1));
        let stored = Stored { name, tombstone: false, keeps: None, ended };
        Seen::Written { host, records: vec![stored] }
    };
    let mut script = Script::new();
    script.passes(60).sees([recorded(B, 1)]).passes(20).sees([start(A, 1, view())]);
    assert_eq!(script.found(), ["jobs"], "B knew for long");
    let mut script = Script::new();
    script.passes(60).sees([recorded(B, 1)]).passes(2).sees([start(A, 1, view())]);
    assert!(script.found().is_empty(), "A may not have heard yet");
    script.sees([recorded(A, 1)]).passes(2).sees([start(A, 2, view())]);
    assert_eq!(script.found(), ["jobs"], "its own disk says so");
    let mut script = Script::new();
    script.passes(60).sees([recorded(B, 2)]).passes(20).sees([start(A, 1, view())]);
    assert!(script.found().is_empty(), "that was another execution");
    let mut script = Script::new();
    script.passes(60).sees([recorded(B, 1), Seen::ProcessGone { host: B }]);
    script.passes(20).sees([start(A, 1, view())]);
    assert!(script.found().is_empty(), "nobody who knows of it lives");
    // One of its slots has ended: it is a job, and another slot is begun on two hosts.
    let mut script = Script::new();
    let ended = vec![(Place { slot: Slot::Index(0), ..place() }, TemplateId(1))];
    let name = (Key { kind: Kind::Completions, id: 1 }, Stamp { ms: 5, counter: 0 }, NodeId(1));
    let stored = Stored { name, tombstone: false, keeps: None, ended };
    script.sees([Seen::Written { host: B, records: vec![stored] }]).passes(100);
    script.sees(runs(A, 1)).passes(1).sees([start(B, 2, view())]);
    assert_eq!(script.found(), ["jobs"], "A is at it");
}
