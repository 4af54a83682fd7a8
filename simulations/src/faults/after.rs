//! What follows from a fault: its end, or its next blow.

use super::strike::Later;
use crate::disk::{Content, DiskManner};
use crate::links::{Cut, CutId, HostIx};
use crate::time::Span;
use crate::world::World;

/// In what state a host comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Return {
    SameDisk,
    /// As another node: the key was on the disk.
    EmptyDisk,
}

#[derive(Clone, Debug)]
pub enum After {
    PowerOn {
        host: HostIx,
        how: Return,
    },
    PowerFails {
        host: HostIx,
        back: Span,
    },
    Thaw(HostIx),
    Quick(HostIx),
    /// A cut, or bad links, are over.
    Mend(CutId),
    Engine(HostIx),
    EngineManner(HostIx),
    Disk(HostIx),
    Clock {
        host: HostIx,
        by_ms: i64,
    },
    /// An old copy of the disk takes its place.
    Restore {
        host: HostIx,
        copy: Box<Content>,
    },
    /// The operator sees that a host is a copy, and gives it an empty disk.
    Unclone(HostIx),
    Flip {
        cut: Cut,
        id: Option<CutId>,
        every: Span,
        left: u64,
    },
    /// The next of these hosts is started again: as an older release, or as the present one.
    Upgrade {
        steps: Vec<(HostIx, bool)>,
        apart: Span,
    },
    Churn {
        hosts: Vec<HostIx>,
        apart: Span,
        left: u64,
    },
}

/// How long an old disk is being put in place, and a release.
const HANDS_ON: Span = Span::secs(2);

impl After {
    /// Lets it happen; gives what follows in turn.
    pub fn apply(self, world: &mut World) -> Later {
        match self {
            Self::PowerOn { host, how } => {
                if how == Return::EmptyDisk && !world.hosts[host.i()].powered {
                    world.replace_disk(host);
                }
                world.power_on(host);
            }
            Self::PowerFails { host, back } => {
                if !world.may_lose_power(host) {
                    world.hosts[host.i()].disk.set_manner(DiskManner::default());
                    return Vec::new();
                }
                world.power_off(host);
                world.hosts[host.i()].disk.set_manner(DiskManner::default());
                return vec![(back, Self::PowerOn { host, how: Return::SameDisk })];
            }
            Self::Thaw(host) => world.freeze(host, false),
            Self::Quick(host) => world.slow_down(host, Span::ZERO),
            Self::Mend(id) => world.mend(id),
            Self::Engine(host) => {
                if world.hosts[host.i()].powered {
                    world.with_engine(host, |engine, chance, out| engine.recover(chance, out));
                }
            }
            Self::EngineManner(host) => world.hosts[host.i()].engine.manner = world.engine,
            Self::Disk(host) => world.hosts[host.i()].disk.set_manner(DiskManner::default()),
            Self::Clock { host, by_ms } => world.turn_clock(host, -by_ms),
            Self::Restore { host, copy } => {
                if !world.may_lose_power(host) {
                    return Vec::new();
                }
                world.power_off(host);
                world.restore_disk(host, *copy);
                return vec![(HANDS_ON, Self::PowerOn { host, how: Return::SameDisk })];
            }
            Self::Unclone(host) => world.unclone(host),
            Self::Flip { cut, id: Some(id), every, left } => {
                world.mend(id);
                if left > 0 {
                    return vec![(every, Self::Flip { cut, id: None, every, left })];
                }
            }
            Self::Flip { cut, id: None, every, left } => {
                let id = Some(world.cut(cut.clone()));
                return vec![(every, Self::Flip { cut, id, every, left: left.saturating_sub(2) })];
            }
            Self::Upgrade { mut steps, apart } => {
                if steps.is_empty() {
                    return Vec::new();
                }
                let (host, older) = steps.remove(0);
                world.hosts[host.i()].older = older;
                if world.hosts[host.i()].process.is_some() {
                    world.kill_process(host, Some(HANDS_ON));
                }
                return vec![(apart, Self::Upgrade { steps, apart })];
            }
            Self::Churn { hosts, apart, left } => return churn(hosts, apart, left, world),
        }
        Vec::new()
    }
}

fn churn(hosts: Vec<HostIx>, apart: Span, left: u64, world: &mut World) -> Later {
    let Some(left) = left.checked_sub(1) else { return Vec::new() };
    let next = Span(apart.0 / 2 + world.chances.hosts.below(apart.0.max(1)));
    let down = Span(apart.0 / 2 + world.chances.hosts.below(2 * apart.0.max(1)));
    let mut later = Vec::new();
    if let Some(host) = world.chances.hosts.pick(&hosts).copied()
        && world.may_lose_power(host)
    {
        world.power_off(host);
        later.push((down, After::PowerOn { host, how: Return::SameDisk }));
    }
    later.push((next, After::Churn { hosts, apart, left }));
    later
}
