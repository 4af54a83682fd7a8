//! What can go wrong: each fault as data, so that a run's faults can be written down, cut and replayed.
//!
//! A [`Fault`] is a kind, the hosts that it strikes, how long it lasts and how bad it is. [`draw`] makes
//! one from a seed, [`strike`] lets it happen, and what follows from it later ([`after`]) ends it. A
//! [`Mix`] says which kinds a run has and how often each strikes: every run enables its own subset (swarm
//! testing: Groce et al., 2012), because faults that always come together hide what each of them finds
//! alone. Healing ends whatever has not ended by itself.

mod after;
mod draw;
mod strike;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use after::After;
pub use draw::Ground;

use crate::chance::Chance;
use crate::time::Span;

/// The kinds. New ones are appended: the order is part of what a seed means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Power fails on one host, and comes back.
    Crash,
    /// The same, and it comes back with an empty disk: as another node.
    CrashWithDisk,
    /// Power fails everywhere at once; each host comes back when it does.
    PowerLoss,
    /// `kill -9` of shoal alone, which is started again later.
    KillShoal,
    /// SIGSTOP of shoal.
    Freeze,
    /// shoal gets so little processor time that each input takes it `amount` microseconds.
    SlowLoop,
    /// The network falls into two halves.
    Halves,
    /// A few hosts are cut off from all others.
    Minority,
    /// Packets pass in one direction only; `amount` 0: nothing leaves the host, 1: nothing reaches it.
    OneWay,
    /// Two sides that cannot talk, and one host that both can talk to: the first in the list.
    Bridge,
    /// Every link loses `amount` in a thousand datagrams.
    Loss,
    /// The links of one host do.
    HostLoss,
    /// `amount` in a thousand datagrams come late, and so after others that were sent later.
    Reorder,
    /// The engine takes calls and answers none.
    EngineHang,
    /// The engine's process ends and comes back; `amount` 1: its containers end with it.
    EngineRestart,
    /// The `amount`-th running container of the host dies.
    ContainerDies,
    /// Somebody removes it behind shoal's back.
    ContainerRemoved,
    DiskFull,
    /// Synced writes take up to `amount` milliseconds.
    DiskSlow,
    /// A wall clock is off by `amount` milliseconds.
    ClockOff,
    /// Several hosts crash one after the other, `amount` milliseconds apart.
    CrashStorm,
    /// All hosts of a rack lose power at once.
    RackLoss,
    /// All hosts of a zone do.
    ZoneLoss,
    /// The network falls into two parts and heals, again and again, every `amount` milliseconds.
    FlipFlop,
    /// One link between two hosts loses `amount` in a thousand datagrams.
    LinkLoss,
    /// One link takes up to `amount` milliseconds.
    LinkDelay,
    /// All links of one host do.
    HostDelay,
    /// `amount` in a thousand datagrams arrive twice.
    Duplicate,
    /// A wall clock jumps an hour ahead, and back at the end.
    ClockJump,
    /// Starts and stops take `amount` times as long.
    EngineSlow,
    /// Whatever is started on the host dies within seconds.
    CrashLoop,
    /// Pulling an image takes up to `amount` milliseconds on the host.
    SlowPull,
    /// The disk reports writes as done that a loss of power, which follows, takes back.
    DiskLies,
    /// Power fails in the middle of the next write; `amount` 1: the file is damaged, shoal refuses it,
    /// and the operator gives the host an empty disk.
    TornWrite,
    /// The disk is copied now, and the copy put in its place after a while: the host forgets.
    RestoredDisk,
    /// The second host comes up with a copy of the first one's disk, and so as the same node.
    ClonedNode,
    /// All hosts that were kept spare join at once.
    JoinStorm,
    /// shoal is rolled back to an older release, host by host, and forward again in the same way,
    /// `amount` milliseconds apart.
    RollingUpgrade,
    /// Hosts crash and come back without end, a new crash every `amount` milliseconds or so.
    Churn,
}

pub const KINDS: [Kind; 39] = [
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
    Kind::CrashStorm,
    Kind::RackLoss,
    Kind::ZoneLoss,
    Kind::FlipFlop,
    Kind::LinkLoss,
    Kind::LinkDelay,
    Kind::HostDelay,
    Kind::Duplicate,
    Kind::ClockJump,
    Kind::EngineSlow,
    Kind::CrashLoop,
    Kind::SlowPull,
    Kind::DiskLies,
    Kind::TornWrite,
    Kind::RestoredDisk,
    Kind::ClonedNode,
    Kind::JoinStorm,
    Kind::RollingUpgrade,
    Kind::Churn,
];

impl fmt::Display for Kind {
    /// As in files: `crash-with-disk`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, letter) in format!("{self:?}").chars().enumerate() {
            if letter.is_ascii_uppercase() && n > 0 {
                f.write_str("-")?;
            }
            write!(f, "{}", letter.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// One fault. Hosts are named by number; those that the run does not have are not struck.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    pub kind: Kind,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<u32>,
    /// Until it ends by itself.
    #[serde(default)]
    pub lasts_ms: u64,
    /// How bad it is; see each kind.
    #[serde(default)]
    pub amount: i64,
}

/// Which faults a run has, and how often each strikes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mix {
    /// With the longest pause between two strikes of the kind.
    pub rates: Vec<(Kind, Span)>,
}

/// The shortest pause between two strikes of one kind.
const SHORTEST_PAUSE: Span = Span::secs(1);

impl Mix {
    pub fn draw(chance: &mut Chance) -> Self {
        let enabled = chance.between(2, 8) as usize;
        let mut kinds = KINDS.to_vec();
        chance.shuffle(&mut kinds);
        kinds.truncate(enabled);
        kinds.sort();
        let rates = kinds.into_iter().map(|kind| (kind, Span::secs(chance.between(10, 240))));
        Self { rates: rates.collect() }
    }

    pub fn only(kinds: &[Kind], pause: (Span, Span)) -> Self {
        Self { rates: kinds.iter().map(|kind| (*kind, pause.1)).collect() }
    }

    /// The pause before the next strike of a kind: most are short, some as long as its rate says.
    pub fn pause(longest: Span, chance: &mut Chance) -> Span {
        chance.tailed(SHORTEST_PAUSE, longest.max(SHORTEST_PAUSE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_listed_once_in_its_place_and_has_the_name_that_files_use() {
        for (n, kind) in KINDS.iter().enumerate() {
            assert_eq!(*kind as usize, n);
            let fault = Fault { kind: *kind, hosts: vec![1], lasts_ms: 5, amount: -1 };
            let text = toml::to_string(&fault).unwrap_or_default();
            assert!(text.contains(&format!("\"{kind}\"")), "{text}");
            assert_eq!(toml::from_str(&text), Ok(fault));
        }
        assert_eq!(KINDS[KINDS.len() - 1], Kind::Churn);
    }
}
