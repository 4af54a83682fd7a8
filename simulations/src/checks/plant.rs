//! For each check: a fabricated run that keeps the promise and one with a planted violation.

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

fn record() -> RecordName {
    (Key { kind: Kind::Service, id: 1 }, Stamp { ms: 5, counter: 0 }, NodeId(1))
}

fn told(host: HostIx) -> Seen {
    Seen::Told { host, records: vec![record()] }
}

fn acked(alive: usize) -> Seen {
    Seen::Acked { host: A, command: CommandNo(1), records: vec![record()], alive }
}

fn written(host: HostIx) -> Seen {
    Seen::Written { host, records: vec![Stored { name: record(), tombstone: false, keeps: None }] }
}

#[test]
fn an_acknowledgement_means_two_disks_and_nothing_acknowledged_is_missing_at_the_end() {
    let mut script = Script::new();
    script.sees([written(A), acked(3)]);
    assert_eq!(script.found(), ["durable"]);
    let mut script = Script::new();
    script.sees([written(A), acked(1), written(B), written(C)]).ends();
    assert!(script.found().is_empty());
    let mut script = Script::new();
    script.sees([written(A), written(B), acked(3)]).ends();
    assert_eq!(script.found(), ["durable"], "C never got it");
    let mut script = Script::new();
    script
        .sees([
            written(A),
            written(B),
            acked(3),
            Seen::DiskLost { host: A },
            Seen::DiskLost { host: B },
        ])
        .ends();
    assert!(script.found().is_empty(), "both disks are gone: nobody can have it");
    let mut script = Script::new();
    script.sees([written(A), told(A), written(B), told(B)]);
    assert!(script.found().is_empty());
    script.sees([told(C)]);
    assert_eq!(script.found(), ["durable"], "C tells of what is not on its disk");
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
fn the_removed_stays_removed() {
    let mut script = Script::new();
    script
        .sees([Seen::Removed { service: ServiceId(1) }, Seen::Healed])
        .passes(40)
        .sees(runs(A, 1))
        .ends();
    assert_eq!(script.found(), ["removed"; 2]);
}

#[test]
fn a_removal_may_lose_where_it_is_kept_as_a_conflict_and_with_every_disk_that_knew_of_it() {
    let service = ServiceId(1);
    let key = Key { kind: Kind::Service, id: service.0 };
    let removal = (key, Stamp { ms: 5, counter: 0 }, NodeId(1));
    let edit = (key, Stamp { ms: 6, counter: 0 }, NodeId(2));
    let conflict = (Key { kind: Kind::Conflict, id: 9 }, removal.1, removal.2);
    let put = |host, name, tombstone, keeps| Seen::Written {
        host,
        records: vec![Stored { name, tombstone, keeps }],
    };
    let healed = |script: &mut Script| {
        script.sees([Seen::Removed { service }, Seen::Healed]).passes(40);
    };
    let mut script = Script::new();
    script.sees([put(A, removal, true, None), put(A, edit, false, None)]);
    healed(&mut script);
    script.sees(runs(A, 1)).ends();
    assert_eq!(script.found(), ["removed"; 2], "it disappeared silently");
    let mut script = Script::new();
    script.sees([put(A, removal, true, None), put(A, edit, false, None)]);
    script.sees([put(A, conflict, false, Some(removal))]);
    healed(&mut script);
    script.sees(runs(A, 1)).ends();
    assert!(script.found().is_empty(), "it is shown");
    script.sees(runs(B, 2));
    assert_eq!(script.found(), ["removed"], "not on B");
    let mut script = Script::new();
    script.sees([
        put(A, removal, true, None),
        put(B, removal, true, None),
        put(C, edit, false, None),
    ]);
    script.sees([Seen::Removed { service }, Seen::DiskLost { host: A }, Seen::Healed]).passes(40);
    script.sees(runs(C, 1));
    assert_eq!(script.found(), ["removed"], "B knows of it");
    let mut script = Script::new();
    script.sees([
        put(A, removal, true, None),
        put(B, removal, true, None),
        put(C, edit, false, None),
    ]);
    script.sees([Seen::Removed { service }]);
    script.sees([Seen::DiskLost { host: A }, Seen::DiskLost { host: B }, Seen::Healed]).passes(40);
    script.sees(runs(C, 1)).ends();
    assert!(script.found().is_empty(), "nobody can know of it");
}

#[test]
fn a_settled_cluster_is_silent() {
    let mut script = Script::new();
    script.sees(runs(A, 1)).sees([Seen::Settled]).passes(10);
    assert!(script.found().is_empty());
    script.sees([start(B, 2, view())]);
    assert_eq!(script.found(), ["silence"]);
}

#[test]
fn nobody_calls_a_reachable_member_down() {
    let down = |about| Seen::Verdict { host: B, about: NodeId(about), to: MemberState::Down };
    let mut script = Script::new();
    script.passes(30).sees([Seen::ProcessGone { host: C }]).sees([down(3)]);
    assert!(script.found().is_empty(), "it is gone");
    script.sees([Seen::Disturbed, Seen::Parts(vec![vec![A], vec![B]])]).sees([down(1)]);
    assert!(script.found().is_empty(), "it is cut off");
    script.sees([Seen::Parts(vec![vec![A, B]])]).passes(30).sees([down(1)]);
    assert_eq!(script.found(), ["verdicts"]);
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
}

#[test]
fn an_edit_that_lost_is_kept() {
    let digest = |n| membership::record::Digest(n);
    let key = record().0;
    let later: RecordName = (key, Stamp { ms: 6, counter: 0 }, NodeId(2));
    let drafted = |record, of: u128, ancestors: Vec<u128>, body| Seen::Drafted {
        record,
        lineage: crate::seen::Lineage {
            digest: digest(of),
            ancestors: ancestors.into_iter().map(digest).collect(),
            body: digest(body),
        },
    };
    let on_all = |keeps| {
        [A, B, C].map(|host| Seen::Written {
            host,
            records: vec![Stored { name: later, tombstone: false, keeps }],
        })
    };
    let run = |ancestors: Vec<u128>, body, keeps| {
        let mut script = Script::new();
        script.sees([written(A), written(B), drafted(record(), 1, vec![], 10), acked(3)]);
        script.sees([drafted(later, 2, ancestors, body)]).sees(on_all(keeps)).ends();
        script.found()
    };
    assert_eq!(run(vec![], 20, None), ["conflicts"; 3]);
    assert!(run(vec![1], 20, None).is_empty(), "written over it");
    assert!(run(vec![], 10, None).is_empty(), "says the same");
    assert!(run(vec![], 20, Some(record())).is_empty(), "kept");
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

#[test]
fn a_settled_cluster_says_nothing_new() {
    let mut script = Script::new();
    script.sees([Seen::Settled, Seen::Spoke { host: A, what: "facts" }, written(B)]);
    assert_eq!(script.found(), ["silence"; 2]);
}

#[test]
fn the_smaller_part_stops_what_is_fenced() {
    let fenced = OwnView { partition: Partition::Fenced, ..view() };
    let mut script = Script::new();
    script.sees([start(A, 1, fenced), became(A, 1, Became::Started), became(A, 1, Became::Ready)]);
    script.passes(200);
    assert!(script.found().is_empty());
    script.sees([Seen::Disturbed, Seen::Parts(vec![vec![A], vec![B, C]])]).passes(80);
    assert!(script.found().is_empty(), "the fixed time");
    script.passes(20);
    assert_eq!(script.found(), ["minority"]);
}
