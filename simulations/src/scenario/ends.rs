//! What ends a fault of a step.

use crate::disk::DiskManner;
use crate::engine::EngineManner;
use crate::links::{CutId, HostIx, Quality};
use crate::time::Span;
use crate::world::World;

#[derive(Clone, Debug)]
pub(super) enum Ends {
    PowerOn {
        host: HostIx,
        new_disk: bool,
    },
    StartShoal(HostIx),
    Thaw(HostIx),
    Quick(HostIx),
    Mend(CutId),
    /// The network is what the scenario says it is.
    Network(Quality),
    HostLinks(HostIx),
    Engine(HostIx),
    /// The engine is as quick as it was.
    Manner(HostIx, EngineManner),
    Disk(HostIx),
    Unclone(HostIx),
    Garbage(HostIx),
    Upgrade(HostIx),
    Clock {
        host: HostIx,
        ms: i64,
    },
}

impl Ends {
    pub(super) fn apply(&self, world: &mut World) {
        match self {
            Self::PowerOn { host, new_disk } => {
                if *new_disk && !world.hosts[host.i()].powered {
                    world.replace_disk(*host);
                }
                world.power_on(*host);
            }
            Self::StartShoal(host) => {
                let found = &world.hosts[host.i()];
                if found.powered && found.process.is_none() && !found.left {
                    world.start_process(*host);
                }
            }
            Self::Thaw(host) => world.freeze(*host, false),
            Self::Quick(host) => world.slow_down(*host, Span::ZERO),
            Self::Mend(cut) => world.mend(*cut),
            Self::Network(quality) => world.links.set_base(*quality),
            Self::HostLinks(host) => world.links.set_host(*host, None),
            Self::Engine(host) => {
                if world.hosts[host.i()].powered {
                    world.with_engine(*host, |engine, chance, out| engine.recover(chance, out));
                }
            }
            Self::Manner(host, manner) => world.hosts[host.i()].engine.manner = *manner,
            Self::Disk(host) => world.hosts[host.i()].disk.set_manner(DiskManner::default()),
            Self::Garbage(host) => world.set_garbling(*host, 0),
            Self::Unclone(host) => world.unclone(*host),
            Self::Upgrade(host) => release(world, *host, false),
            Self::Clock { host, ms } => world.turn_clock(*host, -ms),
        }
    }
}

/// How long an operator takes for a release, or for a disk.
pub(super) const HANDS_ON: Span = Span::secs(2);

/// shoal is started again: as an older release, or as the present one.
pub(super) fn release(world: &mut World, host: HostIx, older: bool) {
    world.hosts[host.i()].older = older;
    if world.hosts[host.i()].process.is_some() {
        world.kill_process(host, Some(HANDS_ON));
    }
}
