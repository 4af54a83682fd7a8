//! How long planning takes at the largest size we speak of: 1,000,000 replicas of 10,000 services on
//! 5,000 hosts in three zones, then the loss of one host, of one rack and of one zone.
//!
//! Hosts have 2 to 32 cores and 2, 4 or 8 GiB for each; service sizes follow Zipf's law; about half of
//! the scarcer resource is reserved. Run with `cargo bench -p placement`; the quality of what was
//! planned is printed first, the times follow.
#![allow(clippy::print_stderr, reason = "a benchmark reports to the terminal")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;

use divan::{Bencher, black_box};
use membership::id::{NodeId, ServiceId};
use membership::member::Resources;
use placement::{
    Accepts, Closed, Cluster, Held, Host, Request, Roster, plan, plan_mine, plan_my_orphans,
    plan_orphans,
};

const HOSTS: u32 = 5_000;
const SERVICES: u32 = 10_000;
const REPLICAS: u64 = 1_000_000;
const RACK: usize = 40;

/// SplitMix64: the benchmark's own numbers, the same in every run.
struct Draws(u64);

impl Draws {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % below
    }

    fn id(&mut self) -> u128 {
        u128::from(self.next(u64::MAX)) << 64 | u128::from(self.next(u64::MAX))
    }
}

struct Service {
    request: Request,
    replicas: u32,
    held: BTreeMap<u32, Held>,
}

struct World {
    hosts: Vec<Host>,
    services: Vec<Service>,
    cluster: Cluster,
}

fn hosts(draws: &mut Draws) -> Vec<Host> {
    (0..HOSTS)
        .map(|number| {
            let cores = [2, 4, 8, 16, 32][draws.next(5) as usize];
            let gib = cores * [2, 4, 8][draws.next(3) as usize];
            Host {
                id: NodeId(draws.id()),
                name: format!("host-{number}"),
                zone: ["a", "b", "c"][number as usize % 3].to_owned(),
                node_labels: BTreeMap::new(),
                engine_labels: BTreeMap::new(),
                role: "worker".to_owned(),
                os: "linux".to_owned(),
                arch: "x86_64".to_owned(),
                ip: IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number)),
                capacity: Resources { cpu_milli: cores * 1000, memory_bytes: gib << 30 },
                accepts: Accepts::Yes,
            }
        })
        .collect()
}

/// Sizes by Zipf's law, requests so that half of the cores and of the memory is reserved on average.
fn services(draws: &mut Draws, hosts: &[Host]) -> Vec<Service> {
    let cores: u64 = hosts.iter().map(|host| host.capacity.cpu_milli).sum();
    let memory: u64 = hosts.iter().map(|host| host.capacity.memory_bytes >> 20).sum();
    let harmonic: u64 = (1..=u64::from(SERVICES)).map(|rank| 1_000_000_000 / rank).sum();
    (1..=u64::from(SERVICES))
        .map(|rank| {
            let replicas = (REPLICAS * (1_000_000_000 / rank) / harmonic).max(1) as u32;
            let mut around = |mean: u64| mean * (40 + draws.next(121)) / 100;
            let cpu_milli = around(cores * 50 / 100 / REPLICAS);
            let memory_bytes = around(memory * 50 / 100 * 1024 / REPLICAS) * 1024;
            let request = Request {
                service: ServiceId(draws.id()),
                resources: Resources { cpu_milli, memory_bytes },
                ..Request::default()
            };
            Service { request, replicas, held: BTreeMap::new() }
        })
        .collect()
}

/// Plans everything from nothing; gives the number of replicas without a place.
fn place(cluster: &mut Cluster, services: &mut [Service]) -> usize {
    let mut pending = 0;
    for service in services {
        let slots: Vec<u32> = (0..service.replicas).collect();
        let plan = plan(cluster, &service.request, &BTreeMap::new(), &slots);
        pending += plan.pending.len();
        for (slot, candidates) in plan.choices {
            cluster.add_load(candidates[0], &service.request);
            service.held.insert(slot, Held { node: candidates[0], settled: true });
        }
    }
    pending
}

fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let mut draws = Draws(1);
        let hosts = hosts(&mut draws);
        let mut services = services(&mut draws, &hosts);
        let mut cluster = Cluster::new(hosts.clone());
        let pending = place(&mut cluster, &mut services);
        let replicas: usize = services.iter().map(|service| service.held.len()).sum();
        eprintln!("{replicas} replicas planned, {pending} pending; {}", quality(&cluster));
        World { hosts, services, cluster }
    })
}

/// The hottest host over the average, for cores and memory, in hundredths.
fn quality(cluster: &Cluster) -> String {
    let open = || cluster.hosts().filter(|host| host.accepts == Accepts::Yes);
    let hottest = |dimension: fn(&Resources) -> u64| {
        let of = |host: &Host| {
            let load = cluster.load(host.id).map_or(0, |load| dimension(&load.reserved));
            (load, dimension(&host.capacity))
        };
        let (load, capacity) = open().map(of).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        let average = u128::from(load) * 10_000 / u128::from(capacity).max(1);
        let max = open().map(of).map(|(load, all)| load * 10_000 / all.max(1)).max();
        let ratio = u128::from(max.unwrap_or(0)) * 100 / average.max(1);
        format!("{}% reserved, max/average {}.{:02}", average / 100, ratio / 100, ratio % 100)
    };
    let cores = hottest(|resources| resources.cpu_milli);
    format!("cores {cores}; memory {}", hottest(|resources| resources.memory_bytes))
}

/// A service that lost slots.
struct Dirty {
    /// Its place among the services.
    at: usize,
    /// Who holds the rest, slot by slot and counted.
    held: BTreeMap<u32, Held>,
    roster: Roster,
    lost: Vec<u32>,
}

struct Failure {
    /// Without the dead.
    cluster: Cluster,
    dirty: Vec<Dirty>,
    survivors: Vec<NodeId>,
}

fn failure(name: &str, lost: impl Fn(usize, &Host) -> bool) -> Failure {
    let world = world();
    let dead: BTreeSet<NodeId> =
        world.hosts.iter().enumerate().filter(|(at, h)| lost(*at, h)).map(|(_, h)| h.id).collect();
    let mut cluster = Cluster::new(world.hosts.iter().map(|host| {
        let mut host = host.clone();
        if dead.contains(&host.id) {
            host.accepts = Accepts::No(Closed::Down);
        }
        host
    }));
    for host in world.hosts.iter().filter(|host| !dead.contains(&host.id)) {
        if let Some(load) = world.cluster.load(host.id) {
            cluster.set_load(host.id, load.clone());
        }
    }
    let mut dirty = Vec::new();
    for (at, service) in world.services.iter().enumerate() {
        let orphans: Vec<u32> =
            service.held.iter().filter(|(_, h)| dead.contains(&h.node)).map(|(s, _)| *s).collect();
        if !orphans.is_empty() {
            let mut held = service.held.clone();
            held.retain(|_, held| !dead.contains(&held.node));
            let roster = Roster::of(&cluster, &held);
            dirty.push(Dirty { at, held, roster, lost: orphans });
        }
    }
    let survivors: Vec<NodeId> =
        world.hosts.iter().map(|host| host.id).filter(|id| !dead.contains(id)).collect();
    let failure = Failure { cluster, dirty, survivors };
    let orphans: usize = failure.dirty.iter().map(|dirty| dirty.lost.len()).sum();
    let mut after = failure.cluster.clone();
    let pending = recover(&mut after, &failure.dirty);
    eprintln!(
        "{name}: {orphans} orphans of {} services, {pending} pending; {}",
        failure.dirty.len(),
        quality(&after)
    );
    failure
}

fn recover(cluster: &mut Cluster, dirty: &[Dirty]) -> usize {
    let mut pending = 0;
    for dirty in dirty {
        let request = &world().services[dirty.at].request;
        let plan = plan_orphans(cluster, request, &dirty.roster, &dirty.lost);
        pending += plan.pending.len();
        for candidates in plan.choices.values() {
            cluster.add_load(candidates[0], request);
        }
    }
    pending
}

fn node() -> &'static Failure {
    static FAILURE: OnceLock<Failure> = OnceLock::new();
    FAILURE.get_or_init(|| failure("one node", |at, _| at == 17))
}

fn rack() -> &'static Failure {
    static FAILURE: OnceLock<Failure> = OnceLock::new();
    // Every third host from one on: all of one zone.
    FAILURE.get_or_init(|| failure("one rack", |at, _| at % 3 == 1 && at / 3 < RACK))
}

fn zone() -> &'static Failure {
    static FAILURE: OnceLock<Failure> = OnceLock::new();
    FAILURE.get_or_init(|| failure("one zone", |_, host| host.zone == "b"))
}

fn whole(bencher: Bencher, failure: &Failure) {
    bencher
        .with_inputs(|| failure.cluster.clone())
        .bench_local_values(|mut cluster| black_box(recover(&mut cluster, &failure.dirty)));
}

/// One survivor looks for its own share in every service that lost something.
fn survivor(bencher: Bencher, failure: &Failure) {
    share_of_one(bencher, failure, |dirty, me| {
        let request = &world().services[dirty.at].request;
        plan_my_orphans(&failure.cluster, request, &dirty.roster, &dirty.lost, me).len()
    });
}

/// The same for a survivor that counts all that is held once more.
fn survivor_from_scratch(bencher: Bencher, failure: &Failure) {
    share_of_one(bencher, failure, |dirty, me| {
        let request = &world().services[dirty.at].request;
        plan_mine(&failure.cluster, request, &dirty.held, &dirty.lost, me).len()
    });
}

fn share_of_one(bencher: Bencher, failure: &Failure, share: impl Fn(&Dirty, NodeId) -> usize) {
    let mut turn = 0;
    bencher
        .with_inputs(|| {
            turn += 997;
            failure.survivors[turn % failure.survivors.len()]
        })
        .bench_local_values(|me| {
            black_box(failure.dirty.iter().map(|dirty| share(dirty, me)).sum::<usize>())
        });
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn a_million_replicas_from_nothing(bencher: Bencher) {
    let world = world();
    let mut draws = Draws(1);
    let hosts = hosts(&mut draws);
    let mut services = services(&mut draws, &hosts);
    bencher
        .with_inputs(|| Cluster::new(world.hosts.clone()))
        .bench_local_values(|mut cluster| black_box(place(&mut cluster, &mut services)));
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn view_of_5000_hosts(bencher: Bencher) {
    bencher.with_inputs(|| world().hosts.clone()).bench_local_values(Cluster::new);
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn node_dies_whole_batch(bencher: Bencher) {
    whole(bencher, node());
}

#[divan::bench(sample_count = 100, sample_size = 1)]
fn node_dies_one_survivor(bencher: Bencher) {
    survivor(bencher, node());
}

#[divan::bench(sample_count = 10, sample_size = 1)]
fn node_dies_one_survivor_from_scratch(bencher: Bencher) {
    survivor_from_scratch(bencher, node());
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn rack_dies_whole_batch(bencher: Bencher) {
    whole(bencher, rack());
}

#[divan::bench(sample_count = 50, sample_size = 1)]
fn rack_dies_one_survivor(bencher: Bencher) {
    survivor(bencher, rack());
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn rack_dies_one_survivor_from_scratch(bencher: Bencher) {
    survivor_from_scratch(bencher, rack());
}

#[divan::bench(sample_count = 1, sample_size = 1)]
fn zone_dies_whole_batch(bencher: Bencher) {
    whole(bencher, zone());
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn zone_dies_one_survivor(bencher: Bencher) {
    survivor(bencher, zone());
}

#[divan::bench(sample_count = 3, sample_size = 1)]
fn zone_dies_one_survivor_from_scratch(bencher: Bencher) {
    survivor_from_scratch(bencher, zone());
}

fn main() {
    divan::main();
}
