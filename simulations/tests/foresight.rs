//! What a node foresees is what the cluster then does: drawn clusters, one thing done to each, and every
//! replica compared with where it was foreseen.

use std::collections::{BTreeMap, BTreeSet};

use membership::id::{NodeId, ServiceId};
use membership::member::Resources;
use node::foresight::{Change, Foresight, Picture};
use node::slot::Slot;
use serde_json::json;
use simulations::chance::{Chance, Stream};
use simulations::links::HostIx;
use simulations::operators::service;
use simulations::run::RunSpec;
use simulations::script::{Script, h};

/// Drawn clusters for each question.
const SEEDS: u64 = 8;

/// Who runs what.
type Running = BTreeMap<(ServiceId, Slot), NodeId>;

struct Drawn {
    script: Script,
    services: Vec<ServiceId>,
    chance: Chance,
    hosts: u32,
}

impl Drawn {
    /// Hosts of several sizes, in zones or not, with up to so many services of all kinds, at rest.
    fn new(seed: u64, most: u64) -> Self {
        let mut chance = Chance::new(seed, Stream::Workload);
        let hosts = chance.between(3, 9);
        let zones = chance.between(1, 3);
        let mut spec = RunSpec::plain(seed, hosts as usize);
        for (n, host) in spec.hosts.iter_mut().enumerate() {
            host.zone = if zones > 1 { format!("z{}", n as u64 % zones) } else { String::new() };
            let cores = *chance.pick(&[2, 4, 4, 8]).unwrap_or(&4);
            host.capacity = Resources { cpu_milli: cores * 1000, memory_bytes: cores << 31 };
            let disk = if n % 2 == 0 { "ssd" } else { "hdd" };
            host.labels.insert("disk".to_owned(), disk.to_owned());
        }
        let mut script = Script::with(&spec);
        let mut services = Vec::new();
        for n in 0..chance.between(1, most) {
            let replicas = chance.between(1, 3 * hosts);
            let mut spec = service(&format!("s{n}"), "sim/web", replicas);
            let nano = *chance.pick(&[0_u64, 0, 100, 250, 500, 1000]).unwrap_or(&0) * 1_000_000;
            spec["TaskTemplate"]["Resources"] = json!({ "Reservations": { "NanoCPUs": nano } });
            if chance.per_mille(200) {
                let constraint = json!({ "Constraints": ["engine.labels.disk==ssd"] });
                spec["TaskTemplate"]["Placement"] = constraint;
            }
            if chance.per_mille(150) {
                spec["Mode"] = json!({ "Global": {} });
            }
            let on = h(chance.below(hosts) as u32);
            services.push(script.create(on, spec));
        }
        let mut drawn = Self { script, services, chance, hosts: hosts as u32 };
        drawn.rest();
        drawn
    }

    /// Passes time until nothing has been started or stopped for longer than evening out waits.
    fn rest(&mut self) {
        for _ in 0..40 {
            let before = self.script.actions();
            self.script.pass(45);
            if self.script.actions() == before {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    fn running(&self) -> Running {
        let hosts = self.script.run.world.hosts.iter().filter(|host| host.powered);
        let containers = hosts.flat_map(|host| host.engine.containers().map(move |c| (host.id, c)));
        let ready = containers.filter(|(_, container)| container.is_ready());
        ready.map(|(id, container)| ((container.service, container.slot), id)).collect()
    }

    fn any_host(&mut self) -> HostIx {
        h(self.chance.below(u64::from(self.hosts)) as u32)
    }

    fn picture(&self, on: HostIx) -> Picture {
        let process = self.script.run.world.hosts[on.i()].process.as_ref();
        process.map(|process| process.core.picture()).expect("its shoal runs")
    }

    /// Asks a node that need not be one of those that are concerned.
    fn foresee(&mut self, changes: &[Change]) -> Foresight {
        let on = self.any_host();
        self.picture(on).foresee(changes).expect("it makes sense")
    }

    /// Waits until what was foreseen has come about, for as long as it may take; gives what runs then.
    fn outcome(&mut self, expected: &Running, secs: u64) -> Running {
        for _ in 0..secs * 2 {
            if self.running() == *expected {
                // Nothing more may follow before load is evened out.
                self.script.run.pass(simulations::time::Span::secs(5));
                break;
            }
            self.script.run.pass(simulations::time::Span::ms(500));
        }
        self.running()
    }
}

/// What runs when all that was foreseen to happen at once has happened.
fn expected(before: &Running, foresight: &Foresight, lost: &[NodeId]) -> Running {
    let mut running = before.clone();
    running.retain(|_, node| !lost.contains(node));
    for service in &foresight.services {
        for stop in &service.stops {
            running.remove(&(service.id, stop.slot));
        }
        for one in &service.moves {
            running.insert((service.id, one.slot), one.to);
        }
    }
    running
}

/// How often something went where it was foreseen to go.
#[derive(Debug, Default)]
struct Tally {
    foreseen: usize,
    elsewhere: usize,
    /// Moved though nobody foresaw it, or not moved though foreseen: never allowed.
    wrong: Vec<String>,
}

impl Tally {
    /// Compares what was foreseen with what happened.
    fn add(
        &mut self,
        seed: u64,
        before: &Running,
        foresight: &Foresight,
        lost: &[NodeId],
        found: &Running,
    ) {
        let expected = expected(before, foresight, lost);
        // Where room is short, which of the slots gets the last place is decided by who claims first.
        let short: BTreeSet<ServiceId> = foresight
            .services
            .iter()
            .filter(|service| !service.pending.is_empty())
            .map(|service| service.id)
            .collect();
        let keys: BTreeSet<_> = before.keys().chain(expected.keys()).chain(found.keys()).collect();
        for key in keys {
            let (was, foreseen, is) = (before.get(key), expected.get(key), found.get(key));
            self.foreseen += usize::from(foreseen != was && foreseen.is_some());
            if foreseen == is {
                continue;
            }
            // It moved as foreseen, but to another host: claims overtook each other.
            let moved = foreseen != was && is != was && foreseen.is_some() && is.is_some();
            if moved || short.contains(&key.0) {
                self.elsewhere += 1;
            } else {
                let text =
                    format!("seed {seed}: {key:?} was {was:?}, foreseen {foreseen:?}, is {is:?}");
                self.wrong.push(text);
            }
        }
    }

    /// So many of a hundred moves may end on another host than the foreseen one, and none may be made
    /// that was not foreseen.
    fn holds(&self, per_cent: usize) {
        assert!(self.wrong.is_empty(), "{:#?}", self.wrong);
        assert!(self.foreseen > 0, "nothing was foreseen at all");
        assert!(self.elsewhere * 100 <= self.foreseen * per_cent, "{self:?}");
    }
}

/// Crashes hosts and compares. `services` at most, `at_once` hosts.
fn crash(seed: u64, services: u64, at_once: usize, tally: &mut Tally) {
    let mut drawn = Drawn::new(seed, services);
    let mut lost: Vec<HostIx> = (0..drawn.hosts).map(h).collect();
    drawn.chance.shuffle(&mut lost);
    lost.truncate(at_once);
    let ids: Vec<NodeId> = lost.iter().map(|host| drawn.script.id(*host)).collect();
    let changes: Vec<Change> = ids.iter().copied().map(Change::Kill).collect();
    let before = drawn.running();
    let foresight = drawn.foresee(&changes);
    let wanted = expected(&before, &foresight, &ids);
    lost.iter().for_each(|host| drawn.script.crash(*host));
    let found = drawn.outcome(&wanted, 20);
    tally.add(seed, &before, &foresight, &ids, &found);
    // What waits, waits with the reason that was foreseen.
    let witness = (0..drawn.hosts).map(h).find(|host| !lost.contains(host)).expect("one lives");
    let picture = drawn.picture(witness);
    for service in &foresight.services {
        for waiting in &service.pending {
            let said = picture.services[&service.id].pending.get(&waiting.slot);
            if tally.elsewhere == 0 && waiting.stays_on.is_none() {
                assert_eq!(said, Some(&waiting.why), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_crash_moves_exactly_what_was_foreseen_to_where_it_was_foreseen() {
    let mut tally = Tally::default();
    for seed in 0..SEEDS {
        crash(seed, 1, 1, &mut tally);
    }
    tally.holds(0);
}

/// With many services at once a claim may arrive before another node has planned an earlier service:
/// the load that it sees is then not quite the foreseen one. Over 60 seeds 11 of 211 moves went elsewhere.
/// The few seeds of this test are a small sample, hence the wide bound.
#[test]
fn a_crash_under_many_services_moves_exactly_what_was_foreseen() {
    let mut tally = Tally::default();
    for seed in 100..100 + SEEDS {
        crash(seed, 5, 1, &mut tally);
    }
    tally.holds(30);
}

/// Hosts lost at one moment are found to be gone one after the other. Over 60 seeds 28 of 352 moves went
/// elsewhere.
#[test]
fn several_hosts_lost_move_exactly_what_was_foreseen_mostly_to_where_it_was() {
    let mut tally = Tally::default();
    for seed in 200..200 + SEEDS {
        crash(seed, 3, 2, &mut tally);
    }
    tally.holds(25);
}

#[test]
fn a_drain_hands_over_what_was_foreseen() {
    let mut tally = Tally::default();
    for seed in 300..300 + SEEDS {
        let mut drawn = Drawn::new(seed, 3);
        let (host, by) = (drawn.any_host(), drawn.any_host());
        let id = drawn.script.id(host);
        let before = drawn.running();
        let foresight = drawn.foresee(&[Change::Drain(id)]);
        let wanted = expected(&before, &foresight, &[]);
        drawn.script.availability(by, host, "drain");
        let found = drawn.outcome(&wanted, 25);
        tally.add(seed, &before, &foresight, &[], &found);
    }
    tally.holds(10);
}

#[test]
fn a_new_count_starts_and_stops_what_was_foreseen() {
    let mut tally = Tally::default();
    for seed in 400..400 + SEEDS {
        let mut drawn = Drawn::new(seed, 3);
        let service = drawn.services[0];
        let replicas = drawn.chance.between(0, 4 * u64::from(drawn.hosts));
        let by = drawn.any_host();
        let before = drawn.running();
        let global =
            before.keys().any(|(id, slot)| *id == service && matches!(slot, Slot::Node(_)));
        if global {
            continue;
        }
        let foresight = drawn.foresee(&[Change::Scale { service, replicas }]);
        let wanted = expected(&before, &foresight, &[]);
        assert!(drawn.script.scale(by, service, replicas).is_ok());
        let found = drawn.outcome(&wanted, 25);
        tally.add(seed, &before, &foresight, &[], &found);
    }
    tally.holds(0);
}

/// A host that takes again what it gave up is filled by pulls, as far as was foreseen. Which of two
/// pulls comes first is not foreseen, and may change who gives.
#[test]
fn evening_out_fills_a_host_as_far_as_was_foreseen() {
    let mut pulled = 0;
    for seed in 500..500 + SEEDS / 2 {
        let mut drawn = Drawn::new(seed, 2);
        let (host, by) = (drawn.any_host(), drawn.any_host());
        drawn.script.availability(by, host, "drain");
        drawn.rest();
        let id = drawn.script.id(host);
        let foresight = drawn.foresee(&[Change::Activate(id)]);
        drawn.script.availability(by, host, "active");
        drawn.rest();
        let running = drawn.running();
        for service in &foresight.services {
            let there = |node| {
                let mine = running.iter().filter(|((of, _), on)| *of == service.id && **on == node);
                u32::try_from(mine.count()).unwrap_or(u32::MAX)
            };
            let foreseen = service.spread[2].get(&id).copied().unwrap_or(0);
            assert!(foreseen.abs_diff(there(id)) <= 1, "seed {seed}: {foreseen}, {}", there(id));
            pulled += foreseen;
        }
    }
    assert!(pulled > 0, "nothing was foreseen to be pulled at all");
}
