//! What can go wrong, and when: a mix of faults drawn from the seed.
//!
//! Each run enables its own subset of kinds (swarm testing: Groce et al., 2012), because faults that
//! always come together hide what each of them finds alone. Most faults end by themselves after a
//! while; healing ends the rest.

use crate::chance::Chance;
use crate::disk::DiskManner;
use crate::links::{Cut, CutId, HostIx, Quality};
use crate::time::Span;
use crate::world::World;

/// The kinds, as they are enabled by a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Crash,
    CrashWithDisk,
    PowerLoss,
    KillShoal,
    Freeze,
    SlowLoop,
    Halves,
    Minority,
    OneWay,
    Bridge,
    Loss,
    HostLoss,
    Reorder,
    EngineHang,
    EngineRestart,
    ContainerDies,
    ContainerRemoved,
    DiskFull,
    DiskSlow,
    ClockOff,
}

pub const KINDS: [Kind; 20] = [
    Kind::Crash,
    Kind::CrashWithDisk,
    Kind::PowerLoss,
    Kind::KillShoal,
    Kind::Freeze,
    Kind::SlowLoop,
    Kind::Halves,
    Kind::Minority,
    Kind::OneWay,
    Kind::Bridge,
    Kind::Loss,
    Kind::HostLoss,
    Kind::Reorder,
    Kind::EngineHang,
    Kind::EngineRestart,
    Kind::ContainerDies,
    Kind::ContainerRemoved,
    Kind::DiskFull,
    Kind::DiskSlow,
    Kind::ClockOff,
];

/// Which faults a run has, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    pub kinds: Vec<Kind>,
    /// Time between two faults, least and most.
    pub pause: (Span, Span),
}

impl Mix {
    pub fn draw(chance: &mut Chance) -> Self {
        let enabled = chance.between(2, 7) as usize;
        let mut kinds = KINDS.to_vec();
        chance.shuffle(&mut kinds);
        kinds.truncate(enabled);
        kinds.sort();
        let most = Span::secs(chance.between(5, 60));
        Self { kinds, pause: (Span::secs(1), most) }
    }

    pub fn only(kinds: &[Kind], pause: (Span, Span)) -> Self {
        Self { kinds: kinds.to_vec(), pause }
    }
}

/// What ends a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    PowerOn { host: HostIx, replace_disk: bool },
    Thaw(HostIx),
    Quick(HostIx),
    Mend(CutId),
    Links,
    HostLinks(HostIx),
    Engine(HostIx),
    Disk(HostIx),
    Clock(HostIx),
}

impl Undo {
    pub fn apply(&self, world: &mut World) {
        match self {
            Self::PowerOn { host, replace_disk } => {
                if *replace_disk && !world.hosts[host.i()].powered {
                    world.replace_disk(*host);
                }
                world.power_on(*host);
            }
            Self::Thaw(host) => world.freeze(*host, false),
            Self::Quick(host) => world.slow_down(*host, Span::ZERO),
            Self::Mend(cut) => world.mend(*cut),
            Self::Links => world.links.set_base(Quality::default()),
            Self::HostLinks(host) => world.links.set_host(*host, None),
            Self::Engine(host) => {
                if world.hosts[host.i()].powered {
                    world.with_engine(*host, |engine, chance, out| engine.recover(chance, out));
                }
            }
            Self::Disk(host) => world.hosts[host.i()].disk.set_manner(DiskManner::default()),
            Self::Clock(host) => world.hosts[host.i()].clock_off_ms = 0,
        }
    }
}

/// Lets a fault of some kind happen. Gives what ends it and after how long; `None` when it is a matter
/// of a moment, or finds nothing to strike.
pub fn strike(kind: Kind, world: &mut World, chance: &mut Chance) -> Option<(Span, Undo)> {
    let hosts: Vec<HostIx> = world.hosts.iter().map(|host| host.ix).collect();
    let host = chance.pick(&hosts).copied()?;
    world.trace.note(world.now, true, format_args!("fault {kind:?} {host}"));
    match kind {
        Kind::Crash
        | Kind::CrashWithDisk
        | Kind::PowerLoss
        | Kind::KillShoal
        | Kind::Freeze
        | Kind::SlowLoop => strike_host(kind, host, world, chance),
        Kind::Halves
        | Kind::Minority
        | Kind::OneWay
        | Kind::Bridge
        | Kind::Loss
        | Kind::HostLoss
        | Kind::Reorder => strike_links(kind, host, &hosts, world, chance),
        Kind::EngineHang | Kind::EngineRestart | Kind::ContainerDies | Kind::ContainerRemoved => {
            strike_engine(kind, host, world, chance)
        }
        Kind::DiskFull | Kind::DiskSlow | Kind::ClockOff => strike_rest(kind, host, world, chance),
    }
}

fn strike_host(
    kind: Kind,
    host: HostIx,
    world: &mut World,
    chance: &mut Chance,
) -> Option<(Span, Undo)> {
    match kind {
        Kind::Crash | Kind::CrashWithDisk => {
            let powered = world.hosts.iter().filter(|host| host.powered).count();
            if !world.hosts[host.i()].powered || powered < 2 {
                return None;
            }
            world.power_off(host);
            let replace_disk = kind == Kind::CrashWithDisk;
            Some((
                chance.tailed(Span::secs(2), Span::secs(120)),
                Undo::PowerOn { host, replace_disk },
            ))
        }
        Kind::PowerLoss => {
            // All at once; each comes back when it does.
            for host in world.hosts.iter().map(|host| host.ix).collect::<Vec<_>>() {
                if world.hosts[host.i()].powered {
                    world.power_off(host);
                    world.power_on(host);
                }
            }
            None
        }
        Kind::KillShoal => {
            world.hosts[host.i()].process.as_ref()?;
            let back = chance.tailed(Span::ms(200), Span::secs(40));
            world.kill_process(host, Some(back));
            None
        }
        Kind::Freeze => {
            if !world.hosts[host.i()].acts() {
                return None;
            }
            world.freeze(host, true);
            Some((chance.tailed(Span::ms(300), Span::secs(60)), Undo::Thaw(host)))
        }
        _ => {
            world.slow_down(host, chance.tailed(Span::ms(1), Span::ms(60)));
            Some((chance.span(Span::secs(2), Span::secs(30)), Undo::Quick(host)))
        }
    }
}

fn strike_links(
    kind: Kind,
    host: HostIx,
    hosts: &[HostIx],
    world: &mut World,
    chance: &mut Chance,
) -> Option<(Span, Undo)> {
    let mut shuffled = hosts.to_vec();
    chance.shuffle(&mut shuffled);
    let half = hosts.len().div_ceil(2);
    let lasts = chance.tailed(Span::secs(1), Span::secs(90));
    let cut = match kind {
        Kind::Halves => {
            let group = |host: &HostIx| {
                u8::from(shuffled.iter().position(|other| other == host) < Some(half))
            };
            Cut::Groups(hosts.iter().map(group).collect())
        }
        Kind::Minority => Cut::Groups(hosts.iter().map(|other| u8::from(*other == host)).collect()),
        Kind::OneWay => {
            let from = [host].into();
            let to = shuffled.iter().copied().filter(|other| *other != host).take(half).collect();
            if chance.per_mille(500) {
                Cut::OneWay { from, to }
            } else {
                Cut::OneWay { from: to, to: from }
            }
        }
        Kind::Bridge => {
            let others: Vec<HostIx> = shuffled.into_iter().filter(|other| *other != host).collect();
            let (a, b) = others.split_at(others.len() / 2);
            Cut::Between(a.iter().copied().collect(), b.iter().copied().collect())
        }
        Kind::Loss => {
            let loss = chance.between(20, 200) as u32;
            world.links.set_base(Quality { loss, ..Quality::default() });
            return Some((lasts, Undo::Links));
        }
        Kind::Reorder => {
            let quality = Quality { duplicated: 100, reordered: 300, ..Quality::default() };
            world.links.set_base(quality);
            return Some((lasts, Undo::Links));
        }
        _ => {
            let loss = chance.between(50, 200) as u32;
            let delay = (Span::ms(1), Span::ms(chance.between(2, 80)));
            world.links.set_host(host, Some(Quality { loss, delay, ..Quality::default() }));
            return Some((lasts, Undo::HostLinks(host)));
        }
    };
    let id = world.cut(cut);
    Some((lasts, Undo::Mend(id)))
}

fn strike_engine(
    kind: Kind,
    host: HostIx,
    world: &mut World,
    chance: &mut Chance,
) -> Option<(Span, Undo)> {
    if !world.hosts[host.i()].powered {
        return None;
    }
    let containers: Vec<String> = world.hosts[host.i()]
        .engine
        .containers()
        .filter(|c| c.is_running())
        .map(|c| c.id.clone())
        .collect();
    match kind {
        Kind::EngineHang => {
            world.with_engine(host, |engine, _, out| engine.hang(out));
            Some((chance.tailed(Span::secs(1), Span::secs(120)), Undo::Engine(host)))
        }
        Kind::EngineRestart => {
            let containers_too = chance.per_mille(500);
            world.with_engine(host, |engine, chance, out| engine.stop(containers_too, chance, out));
            Some((chance.span(Span::secs(1), Span::secs(20)), Undo::Engine(host)))
        }
        Kind::ContainerDies => {
            let container = chance.pick(&containers)?.clone();
            world.with_engine(host, |engine, chance, out| engine.kill(&container, chance, out));
            None
        }
        _ => {
            let container = chance.pick(&containers)?.clone();
            world.with_engine(host, |engine, chance, out| {
                engine.remove_behind(&container, chance, out)
            });
            None
        }
    }
}

fn strike_rest(
    kind: Kind,
    host: HostIx,
    world: &mut World,
    chance: &mut Chance,
) -> Option<(Span, Undo)> {
    let struck = &mut world.hosts[host.i()];
    match kind {
        Kind::DiskFull => {
            struck.disk.set_manner(DiskManner { full: true, ..DiskManner::default() });
            Some((chance.span(Span::secs(2), Span::secs(40)), Undo::Disk(host)))
        }
        Kind::DiskSlow => {
            struck.disk.set_manner(DiskManner {
                write: (Span::ms(200), Span::secs(15)),
                ..DiskManner::default()
            });
            Some((chance.span(Span::secs(2), Span::secs(40)), Undo::Disk(host)))
        }
        _ => {
            let off = i64::try_from(chance.between(0, 40_000)).unwrap_or(0) - 20_000;
            struck.clock_off_ms = off;
            Some((chance.span(Span::secs(5), Span::secs(60)), Undo::Clock(host)))
        }
    }
}
