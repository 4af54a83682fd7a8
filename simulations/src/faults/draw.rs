//! How a fault is drawn: whom it strikes, for how long, how badly.

use super::{Fault, Kind};
use crate::chance::Chance;
use crate::host::HostSpec;
use crate::time::Span;

/// The label that says in which rack a host stands.
const RACK: &str = "rack";

/// What a fault needs to know of the hosts: how they lie together.
#[derive(Clone, Debug, Default)]
pub struct Ground {
    /// Zone and rack of each host, by number.
    places: Vec<(String, String)>,
}

impl Ground {
    pub fn of<'a>(hosts: impl Iterator<Item = &'a HostSpec>) -> Self {
        let place = |host: &HostSpec| {
            (host.zone.clone(), host.labels.get(RACK).cloned().unwrap_or_default())
        };
        Self { places: hosts.map(place).collect() }
    }

    fn all(&self) -> Vec<u32> {
        (0..self.places.len() as u32).collect()
    }

    /// Everybody in the place of one of them; that one alone where there are no such places.
    fn together(&self, one: u32, of: impl Fn(&(String, String)) -> &String) -> Vec<u32> {
        let name = |host: u32| self.places.get(host as usize).map(&of);
        if name(one).is_none_or(String::is_empty) {
            return vec![one];
        }
        self.all().into_iter().filter(|host| name(*host) == name(one)).collect()
    }
}

/// A time with a tail.
fn tailed_ms(chance: &mut Chance, low_ms: u64, high_ms: u64) -> u64 {
    chance.tailed(Span::ms(low_ms), Span::ms(high_ms)).as_ms()
}

fn amount(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Fault {
    /// One fault of a kind.
    pub fn draw(kind: Kind, ground: &Ground, chance: &mut Chance) -> Self {
        let mut all = ground.all();
        chance.shuffle(&mut all);
        let one: Vec<u32> = all.iter().copied().take(1).collect();
        let two: Vec<u32> = all.iter().copied().take(2).collect();
        let half = all.len().div_ceil(2);
        let (hosts, lasts_ms, amount) = match kind {
            Kind::Crash | Kind::CrashWithDisk => (one, tailed_ms(chance, 2_000, 120_000), 0),
            Kind::PowerLoss => (all, 0, 0),
            Kind::KillShoal => (one, tailed_ms(chance, 200, 40_000), 0),
            Kind::Freeze => (one, tailed_ms(chance, 300, 60_000), 0),
            Kind::SlowLoop => {
                let per_input = chance.tailed(Span::ms(1), Span::ms(60)).0;
                (one, chance.between(2_000, 30_000), amount(per_input))
            }
            Kind::EngineHang => (one, tailed_ms(chance, 1_000, 120_000), 0),
            Kind::EngineRestart => (one, chance.between(1_000, 20_000), amount(chance.below(2))),
            Kind::ContainerDies | Kind::ContainerRemoved => (one, 0, amount(chance.below(1_000))),
            Kind::DiskFull => (one, chance.between(2_000, 40_000), 0),
            Kind::DiskSlow => (one, chance.between(2_000, 40_000), 15_000),
            Kind::ClockOff => {
                let off = amount(chance.between(0, 40_000)) - 20_000;
                (one, chance.between(5_000, 60_000), off)
            }
            Kind::CrashStorm => {
                let most = (all.len().saturating_sub(1)).max(1) as u64;
                all.truncate(chance.between(1, most) as usize);
                let apart = amount(chance.between(100, 5_000));
                (all, tailed_ms(chance, 5_000, 90_000), apart)
            }
            Kind::RackLoss => (
                ground.together(all.first().copied().unwrap_or(0), |place| &place.1),
                tailed_ms(chance, 5_000, 90_000),
                0,
            ),
            Kind::ZoneLoss => (
                ground.together(all.first().copied().unwrap_or(0), |place| &place.0),
                tailed_ms(chance, 5_000, 90_000),
                0,
            ),
            Kind::ClockJump => (one, chance.between(5_000, 60_000), 3_600_000),
            Kind::EngineSlow => {
                (one, chance.between(10_000, 90_000), amount(chance.between(2, 12)))
            }
            Kind::CrashLoop => (one, chance.between(10_000, 60_000), 0),
            Kind::SlowPull => (one, chance.between(10_000, 90_000), 45_000),
            Kind::DiskLies => (one, chance.between(2_000, 30_000), 0),
            Kind::TornWrite => (one, tailed_ms(chance, 3_000, 60_000), amount(chance.below(4) / 3)),
            Kind::RestoredDisk => (one, chance.between(5_000, 60_000), 0),
            Kind::ClonedNode => (two, chance.between(5_000, 40_000), 0),
            Kind::JoinStorm => (Vec::new(), 0, 0),
            Kind::RollingUpgrade => {
                let apart = amount(chance.between(3_000, 20_000));
                (all, 0, apart)
            }
            Kind::Churn => {
                let apart = amount(chance.between(8_000, 40_000));
                (all, chance.between(60_000, 300_000), apart)
            }
            _ => Self::draw_network(kind, all, half, chance),
        };
        Self { kind, hosts, lasts_ms, amount }
    }

    fn draw_network(
        kind: Kind,
        mut all: Vec<u32>,
        half: usize,
        chance: &mut Chance,
    ) -> (Vec<u32>, u64, i64) {
        let lasts_ms = tailed_ms(chance, 1_000, 90_000);
        let count = all.len();
        let amount = match kind {
            Kind::OneWay => amount(chance.below(2)),
            Kind::Loss => amount(chance.between(20, 200)),
            Kind::HostLoss => amount(chance.between(50, 200)),
            Kind::LinkLoss => amount(chance.between(100, 900)),
            Kind::LinkDelay => amount(chance.between(50, 600)),
            Kind::HostDelay => amount(chance.between(2, 80)),
            Kind::Reorder => amount(chance.between(50, 400)),
            Kind::Duplicate => amount(chance.between(50, 300)),
            Kind::FlipFlop => 20_000,
            _ => 0,
        };
        let keep = match kind {
            Kind::Halves => half,
            Kind::FlipFlop => chance.between(1, half as u64) as usize,
            Kind::Minority => {
                chance.between(1, (count.saturating_sub(1) / 2).max(1) as u64) as usize
            }
            // The bridge, and the smaller of its two sides.
            Kind::Bridge => 1 + count.saturating_sub(1) / 2,
            Kind::OneWay | Kind::HostLoss | Kind::HostDelay => 1,
            Kind::LinkLoss | Kind::LinkDelay => 2,
            _ => 0,
        };
        all.truncate(keep);
        all.sort_unstable();
        if kind == Kind::Bridge {
            chance.shuffle(&mut all);
        }
        // Long enough for a few turns.
        let lasts_ms = if kind == Kind::FlipFlop { lasts_ms.max(80_000) } else { lasts_ms };
        (all, lasts_ms, amount)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use membership::member::Resources;

    use super::*;
    use crate::chance::Stream;
    use crate::faults::KINDS;

    #[test]
    fn every_kind_can_be_drawn_for_any_cluster() {
        let host = |n: usize| HostSpec {
            name: format!("h{n}"),
            zone: format!("z{}", n % 3),
            labels: BTreeMap::new(),
            capacity: Resources::default(),
        };
        let mut chance = Chance::new(1, Stream::Faults);
        for count in [1, 2, 3, 9] {
            let hosts: Vec<HostSpec> = (0..count).map(host).collect();
            let ground = Ground::of(hosts.iter());
            for kind in KINDS {
                let fault = Fault::draw(kind, &ground, &mut chance);
                assert!(fault.hosts.iter().all(|host| (*host as usize) < count), "{fault:?}");
            }
        }
        let nine: Vec<HostSpec> = (0..9).map(host).collect();
        let zone = Fault::draw(Kind::ZoneLoss, &Ground::of(nine.iter()), &mut chance);
        assert_eq!(zone.hosts.len(), 3);
    }
}
