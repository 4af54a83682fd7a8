//! How a fault of a step strikes the world.

use std::collections::BTreeSet;

use super::action::Action;
use super::ends::{Ends, release};
use crate::chance::Chance;
use crate::disk::DiskManner;
use crate::engine::EngineManner;
use crate::links::{Cut, HostIx, Quality, Scope};
use crate::time::Span;
use crate::world::World;

/// Lets it happen to these hosts. Gives what will end it, one for each part that may end by itself.
pub(super) fn strike(
    action: &Action,
    hosts: &[HostIx],
    to: &[HostIx],
    world: &mut World,
    base: Quality,
    chance: &mut Chance,
) -> Vec<Ends> {
    match action {
        Action::Partition => {
            let group = |host: &crate::host::Host| u8::from(hosts.contains(&host.ix));
            let cut = Cut::Groups(world.hosts.iter().map(group).collect());
            vec![cut_off(world, cut)]
        }
        Action::Bridge => vec![cut_off(world, Cut::Between(set(hosts), set(to)))],
        Action::OneWay => {
            vec![cut_off(world, Cut::OneWay { from: set(hosts), to: set(to) })]
        }
        Action::Link(quality) => {
            let pairs = hosts.iter().flat_map(|a| to.iter().map(move |b| (*a, *b)));
            let links = pairs.filter(|(a, b)| a != b);
            links.map(|(a, b)| Ends::Mend(world.worsen(Scope::Link(a, b), *quality))).collect()
        }
        Action::Clone => clone(hosts, to, world).into_iter().collect(),
        Action::Network(quality) if hosts.is_empty() => {
            world.links.set_base(*quality);
            vec![Ends::Network(base)]
        }
        _ => hosts.iter().filter_map(|host| strike_one(action, *host, world, chance)).collect(),
    }
}

/// One host becomes a copy of another. Of one node there is one copy at a time.
fn clone(of: &[HostIx], copy: &[HostIx], world: &mut World) -> Option<Ends> {
    let (of, copy) = (*of.first()?, *copy.iter().find(|copy| !of.contains(copy))?);
    let sound = |host: HostIx| {
        let found = &world.hosts[host.i()];
        found.powered && !found.disk.damaged && world.double_of(host).is_none()
    };
    if !sound(of) || !sound(copy) {
        return None;
    }
    world.clone_node(of, copy);
    Some(Ends::Unclone(copy))
}

fn set(hosts: &[HostIx]) -> BTreeSet<HostIx> {
    hosts.iter().copied().collect()
}

fn cut_off(world: &mut World, cut: Cut) -> Ends {
    Ends::Mend(world.cut(cut))
}

fn strike_one(
    action: &Action,
    host: HostIx,
    world: &mut World,
    chance: &mut Chance,
) -> Option<Ends> {
    let ends = match action {
        Action::Crash { new_disk } => {
            world.power_off(host);
            Ends::PowerOn { host, new_disk: *new_disk }
        }
        Action::Boot => {
            world.power_on(host);
            return None;
        }
        Action::Reboot => {
            world.power_off(host);
            world.power_on(host);
            return None;
        }
        Action::KillShoal => {
            world.kill_process(host, None);
            return Some(Ends::StartShoal(host));
        }
        Action::StartShoal => {
            Ends::StartShoal(host).apply(world);
            return None;
        }
        Action::Freeze => {
            world.freeze(host, true);
            Ends::Thaw(host)
        }
        Action::Thaw => {
            world.freeze(host, false);
            return None;
        }
        Action::Slow(by) => {
            world.slow_down(host, *by);
            Ends::Quick(host)
        }
        Action::Network(quality) => {
            world.links.set_host(host, Some(*quality));
            Ends::HostLinks(host)
        }
        Action::Clock { ms } => {
            world.turn_clock(host, *ms);
            Ends::Clock { host, ms: *ms }
        }
        Action::Garbage(share) => {
            world.set_garbling(host, *share);
            Ends::Garbage(host)
        }
        Action::Downgrade => {
            release(world, host, true);
            Ends::Upgrade(host)
        }
        Action::Upgrade => {
            release(world, host, false);
            return None;
        }
        Action::DiskFull => disk(world, host, DiskManner { full: true, ..DiskManner::default() }),
        Action::DiskLies => disk(world, host, DiskManner { lies: true, ..DiskManner::default() }),
        Action::DiskSlow(most) => {
            let write = (Span::ms(200).min(*most), *most);
            disk(world, host, DiskManner { write, ..DiskManner::default() })
        }
        _ => return strike_engine(action, host, world, chance),
    };
    Some(ends)
}

fn disk(world: &mut World, host: HostIx, manner: DiskManner) -> Ends {
    world.hosts[host.i()].disk.set_manner(manner);
    Ends::Disk(host)
}

fn strike_engine(
    action: &Action,
    host: HostIx,
    world: &mut World,
    chance: &mut Chance,
) -> Option<Ends> {
    if !world.hosts[host.i()].powered {
        return None;
    }
    match action {
        Action::EngineHang => world.with_engine(host, |engine, _, out| engine.hang(out)),
        Action::EngineRestart { containers } => {
            world.with_engine(host, |engine, chance, out| engine.stop(*containers, chance, out));
        }
        Action::EngineSlow { start, fails } => {
            return manner(world, host, |manner| {
                manner.start = start.unwrap_or(manner.start);
                manner.start_fails = *fails;
            });
        }
        Action::SlowPull(most) => {
            let start = world.hosts[host.i()].engine.manner.start;
            let start = (start.0.min(*most), *most);
            return manner(world, host, |manner| manner.start = start);
        }
        Action::CrashLoop => return manner(world, host, |manner| manner.all_crash = true),
        Action::ContainerDies { service } => {
            let container = one_container(world, host, service.as_deref(), chance)?;
            world.with_engine(host, |engine, chance, out| engine.kill(&container, chance, out));
            return None;
        }
        Action::ContainerRemoved { service } => {
            let container = one_container(world, host, service.as_deref(), chance)?;
            world.with_engine(host, |engine, chance, out| {
                engine.remove_behind(&container, chance, out);
            });
            return None;
        }
        _ => return None,
    }
    Some(Ends::Engine(host))
}

/// The engine does its work in another way, until it does it as before.
fn manner(world: &mut World, host: HostIx, change: impl FnOnce(&mut EngineManner)) -> Option<Ends> {
    let manner = &mut world.hosts[host.i()].engine.manner;
    let before = *manner;
    change(manner);
    Some(Ends::Manner(host, before))
}

fn one_container(
    world: &World,
    host: HostIx,
    service: Option<&str>,
    chance: &mut Chance,
) -> Option<String> {
    let running = world.hosts[host.i()].engine.containers().filter(|container| {
        container.is_running() && service.is_none_or(|name| container.service_name == name)
    });
    let ids: Vec<&str> = running.map(|container| container.id.as_str()).collect();
    chance.pick(&ids).map(|id| (*id).to_owned())
}
