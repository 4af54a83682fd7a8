//! Violations of what is promised about records: acknowledged, removed, and edits that lost.

use super::*;

fn record() -> RecordName {
    (Key { kind: Kind::Service, id: 1 }, Stamp { ms: 5, counter: 0 }, NodeId(1))
}

fn told(host: HostIx) -> Seen {
    Seen::Told { host, records: vec![record()] }
}

fn acked(alive: usize) -> Seen {
    Seen::Acked { host: A, command: CommandNo(1), records: vec![record()], alive }
}

pub(super) fn written(host: HostIx) -> Seen {
    let ended = Vec::new();
    let stored = Stored { name: record(), tombstone: false, keeps: None, ended };
    Seen::Written { host, records: vec![stored] }
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
    for (secs, found) in [(2, 0), (20, 1)] {
        let mut script = Script::new();
        script.sees([written(A), written(B), Seen::DiskLost { host: B }]).passes(secs);
        script.sees([acked(3)]);
        assert_eq!(script.found().len(), found, "{secs} s after the disk that had it was lost");
    }
    let mut script = Script::new();
    script.sees([written(A), told(A), written(B), told(B)]);
    assert!(script.found().is_empty());
    script.sees([told(C)]);
    assert_eq!(script.found(), ["durable"], "C tells of what is not on its disk");
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
        records: vec![Stored { name, tombstone, keeps, ended: Vec::new() }],
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
            records: vec![Stored { name: later, tombstone: false, keeps, ended: Vec::new() }],
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
