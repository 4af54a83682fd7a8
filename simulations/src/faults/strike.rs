//! How a fault happens. Each arm is a small change of the world; what is to follow from it later is handed
//! back.

use super::after::{After, Return};
use super::{Fault, Kind};
use crate::disk::DiskManner;
use crate::engine::EngineManner;
use crate::links::{Cut, HostIx, Quality, Scope};
use crate::time::Span;
use crate::world::World;

/// What follows, and after how long.
pub(super) type Later = Vec<(Span, After)>;

impl Fault {
    /// Lets it happen. `None` when it finds nothing to strike: the host has no power already, runs no
    /// container, does not exist.
    pub fn strike(&self, world: &mut World) -> Option<Later> {
        let there = |host: &u32| (*host as usize) < world.hosts.len();
        let known = self.hosts.iter().filter(|host| there(host));
        let hosts: Vec<HostIx> =
            known.map(|host| HostIx(*host)).filter(|host| !world.hosts[host.i()].spare).collect();
        let whole = matches!(
            self.kind,
            Kind::PowerLoss | Kind::Loss | Kind::Reorder | Kind::Duplicate | Kind::JoinStorm
        );
        if hosts.is_empty() && !whole {
            return None;
        }
        world.trace.note(world.now, true, format_args!("fault {} {hosts:?}", self.kind));
        match self.kind {
            Kind::Crash
            | Kind::CrashWithDisk
            | Kind::PowerLoss
            | Kind::CrashStorm
            | Kind::RackLoss
            | Kind::ZoneLoss
            | Kind::Churn => self.strike_power(hosts, world),
            Kind::KillShoal
            | Kind::Freeze
            | Kind::SlowLoop
            | Kind::ClockOff
            | Kind::ClockJump
            | Kind::JoinStorm
            | Kind::RollingUpgrade => self.strike_shoal(hosts, world),
            Kind::EngineHang
            | Kind::EngineRestart
            | Kind::ContainerDies
            | Kind::ContainerRemoved
            | Kind::EngineSlow
            | Kind::CrashLoop
            | Kind::SlowPull => self.strike_engine(*hosts.first()?, world),
            Kind::DiskFull
            | Kind::DiskSlow
            | Kind::DiskLies
            | Kind::TornWrite
            | Kind::RestoredDisk
            | Kind::ClonedNode => self.strike_disk(&hosts, world),
            _ => self.strike_links(&hosts, world),
        }
    }

    fn lasts(&self) -> Span {
        Span::ms(self.lasts_ms)
    }

    /// The amount where it is a number of something.
    fn number(&self) -> u64 {
        u64::try_from(self.amount).unwrap_or(0)
    }

    fn per_mille(&self) -> u32 {
        u32::try_from(self.amount).unwrap_or(0).min(1000)
    }

    fn strike_power(&self, hosts: Vec<HostIx>, world: &mut World) -> Option<Later> {
        let lasts = self.lasts();
        let apart = Span::ms(self.number());
        match self.kind {
            Kind::PowerLoss => {
                // All at once; each comes back when it does.
                for host in world.hosts.iter().map(|host| host.ix).collect::<Vec<_>>() {
                    if world.hosts[host.i()].powered {
                        world.power_off(host);
                        world.power_on(host);
                    }
                }
                Some(Vec::new())
            }
            Kind::CrashStorm => {
                let storm = hosts.into_iter().enumerate().map(|(n, host)| {
                    (Span(apart.0 * n as u64), After::PowerFails { host, back: lasts })
                });
                Some(storm.collect())
            }
            Kind::Churn => {
                let left = lasts.0.checked_div(apart.0).unwrap_or(0).min(10_000);
                Some(vec![(Span::ZERO, After::Churn { hosts, apart, left })])
            }
            Kind::RackLoss | Kind::ZoneLoss => {
                let mut later = Vec::new();
                for host in hosts {
                    if world.may_lose_power(host) {
                        world.power_off(host);
                        later.push((lasts, After::PowerOn { host, how: Return::SameDisk }));
                    }
                }
                (!later.is_empty()).then_some(later)
            }
            _ => {
                let host = *hosts.first()?;
                if !world.may_lose_power(host) {
                    return None;
                }
                world.power_off(host);
                let empty = self.kind == Kind::CrashWithDisk;
                let how = if empty { Return::EmptyDisk } else { Return::SameDisk };
                Some(vec![(lasts, After::PowerOn { host, how })])
            }
        }
    }

    fn strike_shoal(&self, hosts: Vec<HostIx>, world: &mut World) -> Option<Later> {
        let lasts = self.lasts();
        match self.kind {
            Kind::JoinStorm => {
                let spare: Vec<HostIx> =
                    world.hosts.iter().filter(|host| host.spare).map(|host| host.ix).collect();
                spare.iter().for_each(|host| world.join(*host));
                (!spare.is_empty()).then(Vec::new)
            }
            Kind::RollingUpgrade => {
                let apart = Span::ms(self.number());
                // Down to the older release and up again.
                let steps = hosts.iter().map(|host| (*host, true));
                let steps = steps.chain(hosts.iter().map(|host| (*host, false))).collect();
                Some(vec![(Span::ZERO, After::Upgrade { steps, apart })])
            }
            Kind::KillShoal => {
                let host = *hosts.first()?;
                world.hosts[host.i()].process.as_ref()?;
                world.kill_process(host, Some(lasts));
                Some(Vec::new())
            }
            Kind::Freeze => {
                let host = *hosts.first()?;
                if !world.hosts[host.i()].acts() {
                    return None;
                }
                world.freeze(host, true);
                Some(vec![(lasts, After::Thaw(host))])
            }
            Kind::SlowLoop => {
                let host = *hosts.first()?;
                world.slow_down(host, Span::us(self.number()));
                Some(vec![(lasts, After::Quick(host))])
            }
            _ => {
                let host = *hosts.first()?;
                world.turn_clock(host, self.amount);
                Some(vec![(lasts, After::Clock { host, by_ms: self.amount })])
            }
        }
    }

    fn strike_engine(&self, host: HostIx, world: &mut World) -> Option<Later> {
        let usual = world.engine;
        let struck = &mut world.hosts[host.i()];
        if !struck.powered {
            return None;
        }
        let running = struck.engine.containers().filter(|c| c.is_running()).count();
        let chosen = (self.number() as usize).checked_rem(running);
        let running = struck.engine.containers().filter(|c| c.is_running());
        let container = chosen.and_then(|n| running.map(|c| c.id.clone()).nth(n));
        let lasts = self.lasts();
        let manner = struck.engine.manner;
        let strained = match self.kind {
            Kind::EngineHang => {
                world.with_engine(host, |engine, _, out| engine.hang(out));
                return Some(vec![(lasts, After::Engine(host))]);
            }
            Kind::EngineRestart => {
                let containers_too = self.amount == 1;
                world.with_engine(host, |engine, chance, out| {
                    engine.stop(containers_too, chance, out)
                });
                return Some(vec![(lasts, After::Engine(host))]);
            }
            Kind::ContainerDies => {
                let container = container?;
                world.with_engine(host, |engine, chance, out| engine.kill(&container, chance, out));
                return Some(Vec::new());
            }
            Kind::ContainerRemoved => {
                let container = container?;
                world.with_engine(host, |engine, chance, out| {
                    engine.remove_behind(&container, chance, out)
                });
                return Some(Vec::new());
            }
            Kind::EngineSlow => {
                let slower = |(low, high): (Span, Span)| {
                    let times = self.number().clamp(1, 60);
                    (Span(low.0 * times), Span(high.0 * times))
                };
                // Of what is usual: several such faults at once do not multiply.
                EngineManner { start: slower(usual.start), stop: slower(usual.stop), ..manner }
            }
            Kind::CrashLoop => EngineManner { all_crash: true, ..manner },
            _ => EngineManner { start: (manner.start.0, Span::ms(self.number())), ..manner },
        };
        world.hosts[host.i()].engine.manner = strained;
        Some(vec![(lasts, After::EngineManner(host))])
    }

    fn strike_disk(&self, hosts: &[HostIx], world: &mut World) -> Option<Later> {
        let host = *hosts.first()?;
        let lasts = self.lasts();
        let manner = DiskManner::default();
        let manner = match self.kind {
            Kind::DiskFull => DiskManner { full: true, ..manner },
            Kind::DiskSlow => {
                let slowest = Span::ms(self.number().max(200));
                DiskManner { write: (Span::ms(200), slowest), ..manner }
            }
            Kind::DiskLies => {
                world.hosts[host.i()].disk.set_manner(DiskManner { lies: true, ..manner });
                let back = Span::secs(2);
                return Some(vec![(lasts, After::PowerFails { host, back })]);
            }
            Kind::TornWrite => {
                world.hosts[host.i()].process.as_ref()?;
                world.hosts[host.i()].torn = Some((lasts, self.amount == 1));
                return Some(Vec::new());
            }
            Kind::RestoredDisk => {
                let copy = Box::new(world.hosts[host.i()].disk.content().clone());
                return Some(vec![(lasts, After::Restore { host, copy })]);
            }
            Kind::ClonedNode => {
                let copy = *hosts.get(1)?;
                // One copy of a disk at a time is trouble enough.
                let sound = |ix: &HostIx| {
                    let host = &world.hosts[ix.i()];
                    host.powered && !host.disk.damaged && world.double_of(*ix).is_none()
                };
                if !sound(&host) || !sound(&copy) {
                    return None;
                }
                world.clone_node(host, copy);
                return Some(vec![(lasts, After::Unclone(copy))]);
            }
            _ => return None,
        };
        world.hosts[host.i()].disk.set_manner(manner);
        Some(vec![(lasts, After::Disk(host))])
    }

    fn strike_links(&self, hosts: &[HostIx], world: &mut World) -> Option<Later> {
        let lasts = self.lasts();
        let everybody = || world.hosts.iter().map(|host| host.ix);
        let first = hosts.first().copied();
        let group = || Cut::Groups(everybody().map(|h| u8::from(hosts.contains(&h))).collect());
        let cut = match self.kind {
            Kind::Halves | Kind::Minority => group(),
            Kind::OneWay => {
                let one = first.into_iter().collect();
                let others = everybody().filter(|other| Some(*other) != first).collect();
                if self.amount == 0 {
                    Cut::OneWay { from: one, to: others }
                } else {
                    Cut::OneWay { from: others, to: one }
                }
            }
            Kind::Bridge => {
                let others = everybody().filter(|other| !hosts.contains(other)).collect();
                Cut::Between(hosts.iter().skip(1).copied().collect(), others)
            }
            Kind::FlipFlop => {
                let every = Span::ms(self.number().max(1_000));
                let left = lasts.0.div_ceil(every.0);
                return Some(vec![(
                    Span::ZERO,
                    After::Flip { cut: group(), id: None, every, left },
                )]);
            }
            _ => return self.strike_quality(hosts, world),
        };
        let id = world.cut(cut);
        Some(vec![(lasts, After::Mend(id))])
    }

    fn strike_quality(&self, hosts: &[HostIx], world: &mut World) -> Option<Later> {
        let mild = Quality { delay: (Span::ZERO, Span::ZERO), ..Quality::default() };
        let late = Quality { delay: (Span::ms(1), Span::ms(self.number())), ..mild };
        let lossy = Quality { loss: self.per_mille(), ..mild };
        let link = || Some(Scope::Link(*hosts.first()?, *hosts.get(1)?));
        let host = || Some(Scope::Host(*hosts.first()?));
        let (scope, quality) = match self.kind {
            Kind::Loss => (Scope::All, lossy),
            Kind::HostLoss => (host()?, lossy),
            Kind::LinkLoss => (link()?, lossy),
            Kind::LinkDelay => (link()?, late),
            Kind::HostDelay => (host()?, late),
            Kind::Reorder => (Scope::All, Quality { reordered: self.per_mille(), ..mild }),
            Kind::Duplicate => (Scope::All, Quality { duplicated: self.per_mille(), ..mild }),
            _ => return None,
        };
        let id = world.worsen(scope, quality);
        Some(vec![(self.lasts(), After::Mend(id))])
    }
}
