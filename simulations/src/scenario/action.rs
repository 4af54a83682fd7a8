//! What a step can do: the words of a timeline, which keys each takes, and what it means.
//!
//! The list is data, so that the check at load, its messages and the documentation cannot differ.

use serde_json::Value;

use crate::links::Quality;
use crate::time::Span;

/// One word for `do`.
#[derive(Clone, Copy, Debug)]
pub struct Word {
    pub name: &'static str,
    /// Keys that must be there.
    pub needs: &'static [&'static str],
    /// Keys that may be.
    pub takes: &'static [&'static str],
    pub means: &'static str,
}

const fn word(
    name: &'static str,
    needs: &'static [&'static str],
    takes: &'static [&'static str],
    means: &'static str,
) -> Word {
    Word { name, needs, takes, means }
}

/// Every word. `at`, `every` and `times` go with each; `as` and `apart` with each that takes `on`.
pub const WORDS: [Word; 40] = [
    word(
        "create",
        &["spec"],
        &[],
        "an operator creates a service; `spec` is written like a table of [[services]]",
    ),
    word("scale", &["service", "replicas"], &[], "an operator changes the number of replicas"),
    word("update", &["service"], &[], "an operator deploys a new version of a service"),
    word("remove", &["service"], &[], "an operator removes a service"),
    word("drain", &["on"], &[], "an operator drains the nodes: their replicas move away"),
    word("activate", &["on"], &[], "an operator lets the nodes take replicas again"),
    word(
        "crash",
        &["on"],
        &["for", "disk"],
        "power fails, without a word; with `for` it comes back then, with `disk = \"new\"` as an empty host",
    ),
    word("boot", &["on"], &[], "power comes back"),
    word(
        "reboot",
        &["on"],
        &[],
        "off and on again at once; it is up after a boot of one to four seconds",
    ),
    word("kill-shoal", &["on"], &["for"], "kill -9 of the shoal process; containers go on"),
    word("start-shoal", &["on"], &[], "the shoal process starts again"),
    word(
        "freeze",
        &["on"],
        &["for"],
        "the shoal process stands still (SIGSTOP, a virtual machine that is paused)",
    ),
    word("thaw", &["on"], &[], "the shoal process goes on"),
    word(
        "slow",
        &["on", "by"],
        &["for"],
        "the shoal process takes `by` for every input: a starved processor",
    ),
    word("partition", &["on"], &["for"], "the hosts are cut off from all others, both ways"),
    word(
        "bridge",
        &["from", "to"],
        &["for"],
        "nothing passes between the two sides; all others reach both",
    ),
    word(
        "one-way",
        &["from", "to"],
        &["for"],
        "nothing passes from one side to the other; the way back works",
    ),
    word(
        "network",
        &[],
        &["on", "for", "loss", "delay", "duplicated", "reordered"],
        "the network is this bad, everywhere or at the hosts given with `on`",
    ),
    word(
        "link",
        &["from", "to"],
        &["for", "loss", "delay", "duplicated", "reordered"],
        "every link between the two sides is this bad, both ways; all others are as they were",
    ),
    word(
        "garbage",
        &["on"],
        &["for", "share"],
        "a `share` of the hosts' messages (10% where it is not given) is followed by a broken one",
    ),
    word("engine-hang", &["on"], &["for"], "the container engine takes calls and answers none"),
    word(
        "engine-restart",
        &["on"],
        &["for", "containers"],
        "the engine is gone for a while; with `containers = true` its containers go with it",
    ),
    word(
        "engine-slow",
        &["on"],
        &["for", "start", "share"],
        "starts take `start`, and a `share` of them fails",
    ),
    word(
        "slow-pull",
        &["on"],
        &["for", "by"],
        "fetching an image takes up to `by` (45 s where it is not given)",
    ),
    word("crash-loop", &["on"], &["for"], "whatever is started there ends within seconds"),
    word("container-dies", &["on"], &["service"], "the process in one container of each host ends"),
    word(
        "container-removed",
        &["on"],
        &["service"],
        "somebody removes one container of each host by hand",
    ),
    word("disk-full", &["on"], &["for"], "every write to disk fails"),
    word(
        "disk-slow",
        &["on"],
        &["for", "by"],
        "a write takes up to `by` (15 s where it is not given)",
    ),
    word("disk-lies", &["on"], &["for"], "writes are called done that a power loss will undo"),
    word(
        "torn-write",
        &["on", "for"],
        &["disk"],
        "power fails in the middle of the next write and is back after `for`; with `disk = \"damaged\"` the file is unreadable then, and an operator gives the host an empty disk",
    ),
    word(
        "copy-disk",
        &["on"],
        &[],
        "somebody takes a copy of the disk, for a later `restore-disk`",
    ),
    word(
        "restore-disk",
        &["on"],
        &[],
        "the host is switched off, and comes up two seconds later with the disk that `copy-disk` took",
    ),
    word(
        "clone",
        &["from", "to"],
        &["for"],
        "the first host of `to` comes up with a copy of the disk of the first of `from`, key and all; with `for` an operator notices and gives it an empty one",
    ),
    word(
        "downgrade",
        &["on"],
        &["for"],
        "shoal is started again as an older release, which knows an older placement",
    ),
    word("upgrade", &["on"], &[], "shoal is started again as the present release"),
    word("clock", &["on", "by"], &["for"], "the wall clock jumps by `by`, as -1h or +20s"),
    word("heal", &[], &[], "everything that steps have broken so far is mended at once"),
    word("note", &["by"], &[], "does nothing; the text in `by` is shown on the time axis"),
    word(
        "pause",
        &["on"],
        &[],
        "an operator lets the nodes keep what they run and take nothing new",
    ),
];

/// What a step does, checked.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Create(Value),
    Scale {
        service: String,
        replicas: u64,
    },
    Update {
        service: String,
    },
    Remove {
        service: String,
    },
    /// active, pause or drain
    Availability(&'static str),
    Crash {
        new_disk: bool,
    },
    Boot,
    Reboot,
    KillShoal,
    StartShoal,
    Freeze,
    Thaw,
    Slow(Span),
    Partition,
    Bridge,
    OneWay,
    Network(Quality),
    EngineHang,
    EngineRestart {
        containers: bool,
    },
    EngineSlow {
        start: Option<(Span, Span)>,
        fails: u32,
    },
    ContainerDies {
        service: Option<String>,
    },
    ContainerRemoved {
        service: Option<String>,
    },
    DiskFull,
    DiskSlow(Span),
    DiskLies,
    /// So many messages in a thousand are followed by a broken one.
    Garbage(u32),
    /// The links between two sets of hosts.
    Link(Quality),
    /// The longest time that fetching an image takes.
    SlowPull(Span),
    CrashLoop,
    TornWrite {
        damaged: bool,
    },
    CopyDisk,
    RestoreDisk,
    Clone,
    Downgrade,
    Upgrade,
    Clock {
        ms: i64,
    },
    Heal,
    Note(String),
}

impl Action {
    /// An operator's doing, and no fault.
    pub fn is_command(&self) -> bool {
        matches!(
            self,
            Self::Create(_)
                | Self::Scale { .. }
                | Self::Update { .. }
                | Self::Remove { .. }
                | Self::Availability(_)
        )
    }

    /// Breaks something.
    pub fn is_fault(&self) -> bool {
        !self.is_command()
            && !matches!(
                self,
                Self::Boot
                    | Self::StartShoal
                    | Self::Thaw
                    | Self::Upgrade
                    | Self::CopyDisk
                    | Self::Heal
                    | Self::Note(_)
            )
    }
}

/// The word that lets a kind of fault happen in a timeline, alone or repeated with `every` and `apart`.
#[cfg(test)]
fn word_for(kind: crate::faults::Kind) -> &'static str {
    use crate::faults::Kind;
    match kind {
        Kind::Crash
        | Kind::CrashWithDisk
        | Kind::PowerLoss
        | Kind::CrashStorm
        | Kind::RackLoss
        | Kind::ZoneLoss
        | Kind::Churn => "crash",
        Kind::KillShoal => "kill-shoal",
        Kind::Freeze => "freeze",
        Kind::SlowLoop => "slow",
        Kind::Halves | Kind::Minority | Kind::FlipFlop => "partition",
        Kind::OneWay => "one-way",
        Kind::Bridge => "bridge",
        Kind::Loss | Kind::HostLoss | Kind::Reorder | Kind::HostDelay | Kind::Duplicate => {
            "network"
        }
        Kind::LinkLoss | Kind::LinkDelay => "link",
        Kind::EngineHang => "engine-hang",
        Kind::EngineRestart => "engine-restart",
        Kind::EngineSlow => "engine-slow",
        Kind::CrashLoop => "crash-loop",
        Kind::SlowPull => "slow-pull",
        Kind::ContainerDies => "container-dies",
        Kind::ContainerRemoved => "container-removed",
        Kind::DiskFull => "disk-full",
        Kind::DiskSlow => "disk-slow",
        Kind::DiskLies => "disk-lies",
        Kind::TornWrite => "torn-write",
        Kind::RestoredDisk => "restore-disk",
        Kind::ClonedNode => "clone",
        Kind::ClockOff | Kind::ClockJump => "clock",
        // Hosts of a table with `joins` are switched on by the timeline itself.
        Kind::JoinStorm => "boot",
        Kind::RollingUpgrade => "downgrade",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_fault_has_a_word() {
        for kind in crate::faults::KINDS {
            let name = word_for(kind);
            assert!(WORDS.iter().any(|word| word.name == name), "{kind}: {name}");
        }
    }
}
