//! Suppositions and what follows from them, on pictures made by hand. That what is foreseen is what the
//! cores then do is tested where there are cores: in `simulations`.

use std::collections::BTreeMap;

use membership::id::{NodeId, ServiceId, TaskId};
use membership::member::{MemberState, Resources};
use membership::time::{Millis, Wall};
use placement::{Accepts, Closed, Constraint, Host, Request};

use super::changes::MAX_ADDED;
use super::why::Fate;
use super::*;
use crate::slot::{Epoch, Phase};

const GIB: u64 = 1 << 30;

fn node(number: u32) -> NodeId {
    NodeId(u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn member(number: u32, zone: &str) -> PicturedMember {
    let name = format!("h{number}");
    PicturedMember {
        name: name.clone(),
        state: MemberState::Alive,
        reason: String::new(),
        availability: Availability::Active,
        belongs: true,
        counted: true,
        settling: false,
        host: Some(Host {
            id: node(number),
            name,
            zone: zone.to_owned(),
            node_labels: BTreeMap::new(),
            engine_labels: BTreeMap::new(),
            role: "manager".to_owned(),
            os: "linux".to_owned(),
            arch: "x86_64".to_owned(),
            ip: [10, 0, 0, number as u8].into(),
            capacity: Resources { cpu_milli: 4000, memory_bytes: 8 * GIB },
            accepts: Accepts::Yes,
        }),
    }
}

/// So many equal hosts, in zones a and b in turn.
fn hosts(count: u32) -> Picture {
    let members = (0..count).map(|n| (node(n), member(n, ["a", "b"][n as usize % 2])));
    Picture {
        me: node(0),
        members: members.collect(),
        services: BTreeMap::new(),
        lost: 0,
        patience: Patience {
            fence_after: Millis(20_000),
            fence_wait: Millis(40_000),
            even_after: Some(Millis(30_000)),
            stagger: Millis(1_000),
        },
        caveats: Vec::new(),
    }
}

fn holding(on: u32) -> Holding {
    Holding {
        node: node(on),
        live: true,
        epoch: Epoch(9),
        phase: Phase::Ready,
        failures: 0,
        task: TaskId(1),
        created: Wall(0),
        since: Wall(0),
        error: None,
    }
}

fn wants(id: u128, replicas: u32) -> Wants {
    Wants {
        request: Request { service: ServiceId(id), ..Request::default() },
        mode: Mode::Replicated,
        replicas,
        partition: Partition::Available,
        rolling: false,
    }
}

/// A service whose slots are held by these hosts, in turn.
fn service(name: &str, wants: Wants, on: &[u32]) -> PicturedService {
    let slot = |place: usize, host: u32| match wants.mode {
        mode if mode.is_global() => Slot::Node(node(host)),
        _ => Slot::Index(place as u32 + 1),
    };
    PicturedService {
        job: None,
        name: name.to_owned(),
        claims: on
            .iter()
            .enumerate()
            .map(|(place, host)| (slot(place, *host), vec![holding(*host)]))
            .collect(),
        wants: Some(wants),
        idle: None,
        pending: BTreeMap::new(),
    }
}

/// `web`, of service id 1.
fn with_web(mut picture: Picture, wants: Wants, on: &[u32]) -> Picture {
    picture.services.insert(ServiceId(1), service("web", wants, on));
    picture
}

fn foresee(picture: &Picture, changes: &[Change]) -> Foresight {
    picture.foresee(changes).expect("it makes sense")
}

#[test]
fn a_lost_host_is_replaced_and_the_answer_says_so() {
    let picture = with_web(hosts(4), wants(1, 8), &[0, 1, 2, 3, 0, 1, 2, 3]);
    // Also asked of the host that is lost itself.
    for me in [0, 2] {
        let picture = Picture { me: node(me), ..picture.clone() };
        let found = foresee(&picture, &[Change::Kill(node(2))]);
        assert_eq!(found.supposed, "lose h2");
        assert_eq!(
            found.summary(),
            "2 replicas of lost hosts would start elsewhere; nothing would be left waiting"
        );
        let web = &found.services[0];
        assert_eq!((web.running, web.wanted), ((8, 8), (8, 8)));
        let moved: Vec<_> = web.moves.iter().map(|m| (m.slot, m.kind, m.from)).collect();
        let from = |slot| (Slot::Index(slot), MoveKind::Replaces, Some(node(2)));
        assert_eq!(moved, [from(3), from(7)]);
        // The zone that lost a host gets one of the two, each other host at most one.
        assert_eq!(web.spread[1].values().max(), Some(&3), "{:?}", web.spread);
        let lost = found.hosts.iter().find(|host| host.id == node(2)).unwrap();
        assert_eq!(lost.state, (Some(MemberState::Alive), MemberState::Down));
        assert_eq!(lost.loads.each_ref().map(|load| load.tasks), [2, 0, 0]);
        assert_eq!(found.quorum, (3, 4));
    }
}

#[test]
fn what_has_no_room_waits_with_the_reason_and_what_waits_already_is_told_apart() {
    let mut wants = wants(1, 4);
    wants.request.resources.memory_bytes = 5 * GIB;
    let picture = with_web(hosts(3), wants, &[0, 1, 2]);
    let now = foresee(&picture, &[Change::Pause(node(0))]);
    assert_eq!(now.pending(), (1, 1));
    let found = foresee(&picture, &[Change::Kill(node(1))]);
    assert_eq!(found.pending(), (2, 1));
    assert!(!found.is_whole());
    let waiting = &found.services[0].pending[0];
    assert_eq!((waiting.slot, waiting.already), (Slot::Index(2), false));
    assert!(waiting.why.contains("2 nodes have less than 5 GiB free: 3, 3 GiB"), "{}", waiting.why);
    assert!(waiting.why.contains("h1 is down"), "{}", waiting.why);
    assert!(found.summary().ends_with("2 replicas would wait for a host; 1 of these wait already"));
    // Draining instead: what finds no other host runs on.
    let found = foresee(&picture, &[Change::Drain(node(1))]);
    let stays = found.services[0].pending.iter().find(|w| w.stays_on.is_some()).unwrap();
    assert_eq!((stays.slot, stays.stays_on), (Slot::Index(2), Some(node(1))));
    assert!(stays.why.starts_with("h1 is draining: no suitable node"), "{}", stays.why);
    assert_eq!(found.services[0].running, (3, 3));
    // One host like another has room for one of them.
    let new = NewHost { like: Some(node(1)), name: "new-1".to_owned(), ..NewHost::default() };
    let found = foresee(&picture, &[Change::Add(Box::new(new))]);
    assert_eq!(found.pending(), (0, 0));
    assert!(found.hosts.iter().any(|host| host.name == "new-1" && !host.tight));
}

#[test]
fn without_a_majority_nothing_that_asks_for_one_starts_and_fenced_services_stop() {
    let kinds = [Partition::Available, Partition::Majority, Partition::Fenced];
    let mut picture = hosts(5);
    for (number, partition) in kinds.into_iter().enumerate() {
        let id = number as u128 + 1;
        let wants = Wants { partition, ..wants(id, 5) };
        picture
            .services
            .insert(ServiceId(id), service(["a", "m", "f"][number], wants, &[0, 1, 2, 3, 4]));
    }
    let found = foresee(&picture, &[0, 1, 2].map(|n| Change::Kill(node(n))));
    let by = |name: &str| found.services.iter().find(|s| s.name == name).unwrap();
    assert_eq!((by("a").moves.len(), by("a").pending.len(), by("a").running), (3, 0, (5, 5)));
    assert_eq!((by("m").moves.len(), by("m").pending.len(), by("m").running), (0, 3, (5, 2)));
    assert!(by("m").pending[0].why.contains("no majority: 2 of 5"), "{:?}", by("m").pending);
    assert_eq!((by("f").stops.len(), by("f").pending.len(), by("f").running), (2, 5, (5, 0)));
    assert!(by("f").stops[0].why.contains("it stops after 20.0 s"), "{:?}", by("f").stops);
    assert!(found.notes.iter().any(|note| note.starts_with("no majority")), "{:?}", found.notes);
    // With one more alive there is one, and the fenced service waits before it takes over.
    let found = foresee(&picture, &[0, 1].map(|n| Change::Kill(node(n))));
    let fenced = found.services.iter().find(|s| s.name == "f").unwrap();
    assert_eq!((fenced.moves.len(), fenced.stops.len()), (2, 0));
    assert!(fenced.remarks[0].contains("only after 40.0 s"), "{:?}", fenced.remarks);
}

#[test]
fn the_brake_is_foreseen_in_large_clusters_only() {
    let brakes = |hosts_there: u32, lost: u32, lately: usize| {
        let picture = Picture { lost: lately, ..hosts(hosts_there) };
        let killed: Vec<Change> = (0..lost).map(|n| Change::Kill(node(n))).collect();
        foresee(&picture, &killed).notes.iter().any(|note| note.contains("the brake would apply"))
    };
    assert!(brakes(25, 6, 0));
    assert!(!brakes(25, 5, 0));
    assert!(brakes(25, 1, 5), "five were lost a moment ago");
    assert!(!brakes(20, 10, 0));
}

#[test]
fn scaling_labels_and_global_services() {
    let mut picture = with_web(hosts(3), wants(1, 3), &[0, 1, 2]);
    let fast = Constraint::parse("node.labels.disk==ssd").unwrap();
    let mut global = Wants { mode: Mode::Global, ..wants(2, 0) };
    global.request.constraints = vec![fast];
    let host = |picture: &mut Picture, n: u32| {
        let host = picture.members.get_mut(&node(n)).unwrap().host.as_mut().unwrap();
        host.node_labels.insert("disk".to_owned(), "ssd".to_owned());
    };
    host(&mut picture, 0);
    picture.services.insert(ServiceId(2), service("agent", global, &[0]));
    let web = |found: &Foresight| found.services.iter().find(|s| s.name == "web").unwrap().clone();
    let found = foresee(&picture, &[Change::Scale { service: ServiceId(1), replicas: 1 }]);
    let stops: Vec<Slot> = web(&found).stops.iter().map(|stop| stop.slot).collect();
    assert_eq!(stops, [Slot::Index(2), Slot::Index(3)]);
    assert_eq!((web(&found).wanted, web(&found).running), ((3, 1), (3, 1)));
    let found = foresee(&picture, &[Change::Scale { service: ServiceId(1), replicas: 5 }]);
    assert_eq!(web(&found).moves.iter().filter(|m| m.kind == MoveKind::Starts).count(), 2);

    let label = |key: &str| ("disk".to_owned(), key.to_owned());
    let (key, value) = label("ssd");
    let found = foresee(
        &picture,
        &[
            Change::SetLabel { node: node(1), key: key.clone(), value },
            Change::RemoveLabel { node: node(0), key },
        ],
    );
    let agent = found.services.iter().find(|s| s.name == "agent").unwrap();
    assert_eq!(agent.moves.iter().map(|m| m.to).collect::<Vec<_>>(), [node(1)]);
    assert_eq!(agent.stops.iter().map(|s| s.node).collect::<Vec<_>>(), [node(0)]);
    assert!(agent.stops[0].why.contains("does not satisfy node.labels.disk==ssd"));
    let found = foresee(&picture, &[Change::Kill(node(0))]);
    let agent = found.services.iter().find(|s| s.name == "agent").unwrap();
    assert!(agent.stops[0].why.contains("lost with its host"), "{:?}", agent.stops);
    assert_eq!(agent.running, (1, 0));
    assert!(found.is_whole(), "a global service does not wait for other hosts");
}

#[test]
fn a_host_that_is_active_again_is_filled_later_if_that_is_switched_on() {
    let mut picture = with_web(hosts(3), wants(1, 8), &[0, 1, 0, 1, 0, 1, 0, 1]);
    let empty = picture.members.get_mut(&node(2)).unwrap();
    (empty.state, empty.availability) = (MemberState::Draining, Availability::Drain);
    empty.host.as_mut().unwrap().accepts = Accepts::No(Closed::Draining);
    let found = foresee(&picture, &[Change::Activate(node(2))]);
    assert!(found.services[0].moves.is_empty());
    assert!(found.services[0].later.iter().all(|m| m.to == node(2) && m.kind == MoveKind::Evens));
    assert!(found.moves(MoveKind::Evens) >= 2, "{}", found.summary());
    picture.patience.even_after = None;
    let found = foresee(&picture, &[Change::Activate(node(2))]);
    assert_eq!(found.moves(MoveKind::Evens), 0);
    assert!(found.notes.iter().any(|note| note.contains("switched off")), "{:?}", found.notes);
}

#[test]
fn senseless_suppositions_are_refused() {
    let mut picture = with_web(hosts(3), wants(1, 3), &[0, 1, 2]);
    picture.members.get_mut(&node(1)).unwrap().state = MemberState::Unstable;
    picture.members.get_mut(&node(2)).unwrap().host = None;
    let refused = |change: Change| picture.foresee(&[change]).unwrap_err().to_string();
    assert!(refused(Change::Kill(NodeId(7))).ends_with("is not a member"));
    assert!(refused(Change::Drain(node(1))).starts_with("node h1 is unstable"));
    let key = "rack".to_owned();
    assert!(refused(Change::RemoveLabel { node: node(0), key: key.clone() }).contains("no such"));
    let value = String::new();
    assert!(refused(Change::SetLabel { node: node(2), key, value }).contains("not been heard of"));
    let service = ServiceId(9);
    assert!(refused(Change::Scale { service, replicas: 1 }).contains("not found"));
    let (service, replicas) = (ServiceId(1), 1 << 40);
    assert!(refused(Change::Scale { service, replicas }).contains("is the most"));
    let many = vec![Change::Add(Box::default()); MAX_ADDED + 1];
    assert_eq!(picture.foresee(&many).unwrap_err(), ChangeError::TooManyHosts);
}

#[test]
fn a_replica_is_explained_by_what_becomes_of_it() {
    let mut picture = with_web(hosts(4), wants(1, 5), &[0, 1, 2, 3]);
    let fate = |picture: &Picture, slot| {
        let why = picture.explainer().why(ServiceId(1), Slot::Index(slot)).unwrap();
        (why.fate, why.text)
    };
    assert!(matches!(fate(&picture, 1).0, Fate::StaysFirst));
    assert!(matches!(fate(&picture, 5).0, Fate::Due { .. }));
    assert_eq!(fate(&picture, 6).0, Fate::Unwanted);
    assert_eq!(picture.slots(ServiceId(1)).len(), 5);

    picture.members.get_mut(&node(0)).unwrap().host.as_mut().unwrap().accepts =
        Accepts::No(Closed::Draining);
    let (drained, text) = fate(&picture, 1);
    assert!(matches!(drained, Fate::Leaves { to } if to != node(0)), "{text}");
    assert!(text.contains("h0 is draining, so it leaves"), "{text}");
    let why = picture.explainer().why(ServiceId(1), Slot::Index(1)).unwrap();
    let here = why.hosts.iter().find(|host| host.holds_it).unwrap();
    assert_eq!((here.rank, here.reason.as_str()), (None, "is draining"));
    assert_eq!(why.hosts[0].reason, "is first");

    let claims = picture.services.get_mut(&ServiceId(1)).unwrap().claims.get_mut(&Slot::Index(1));
    claims.unwrap().push(Holding { phase: Phase::Starting, ..holding(3) });
    assert_eq!(fate(&picture, 1).0, Fate::HandedOver { to: node(3) });

    let uneven = with_web(hosts(2), wants(1, 4), &[0, 0, 0, 0]);
    let pulled = (1..=4).filter(|s| matches!(fate(&uneven, *s).0, Fate::Pulled { .. })).count();
    assert_eq!(pulled, 2, "two of four");
    let sticky = (1..=4).filter(|s| fate(&uneven, *s).0 == Fate::StaysSticky).count();
    assert_eq!(sticky, 2, "for the others h1 would be the fresh choice");
}

#[test]
fn a_global_service_is_explained_on_each_host() {
    let mut global = Wants { mode: Mode::Global, ..wants(1, 0) };
    global.request.constraints = vec![Constraint::parse("node.hostname!=h2").unwrap()];
    let picture = with_web(hosts(3), global, &[0]);
    let fate = |n: u32| picture.explainer().why(ServiceId(1), Slot::Node(node(n))).unwrap().fate;
    assert_eq!(fate(0), Fate::StaysFirst);
    assert_eq!(fate(1), Fate::Due { to: node(1) });
    assert_eq!(fate(2), Fate::Waits);
    let why = picture.explainer().why(ServiceId(1), Slot::Node(node(2))).unwrap();
    assert!(why.text.contains("h2 does not satisfy node.hostname!=h2"), "{}", why.text);
    let asked = picture.explainer().why(ServiceId(1), Slot::Index(3)).unwrap();
    assert_eq!(asked.fate, Fate::Unwanted);
    assert!(picture.explainer().why(ServiceId(7), Slot::Index(1)).is_none());
}
