//! How patient a node is. Three profiles cover what people run; each number says what it bounds.

use membership::detector::Timing;
use membership::time::Millis;

/// Settings of the core. All durations are virtual in the simulator.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Probing and verdicts.
    pub timing: Timing,
    /// How long a node that starts, or thaws, asks its peers before it takes anything over. Ends
    /// early when a peer has answered everything. Range 500 ms to 60 s.
    pub settle: Millis,
    /// Delay between two ranks of an orphan's candidates: rank k waits k times this for a better
    /// candidate's claim. Two times the time in which news reaches everybody. Range 100 ms to 10 s.
    pub stagger: Millis,
    /// The shortest pause between two planning passes: coalesces bursts. Range 1 to 100 ms.
    pub pass_interval: Millis,
    /// Container starts in flight at once. The engine's knee is at 4 to 8; more only adds latency.
    pub max_starting: usize,
    /// A start, or a first healthy report, that takes longer than this counts as failed.
    pub start_timeout: Millis,
    /// Restart delay after the first failure where the spec gives none; doubles with each further
    /// failure in a row.
    pub restart_delay: Millis,
    /// The longest restart delay (or the spec's own delay, if that is longer).
    pub restart_delay_max: Millis,
    /// A task that ran this long before it ended was a success: the failure count starts again.
    pub stable_after: Millis,
    /// Failures in a row after which a slot is given up to another node, if there is one.
    pub give_up_after: u32,
    /// How long this node is then passed over for that slot; doubles each time, up to an hour.
    pub pass_over: Millis,
    /// How long an engine may be silent before its node's replicas are started elsewhere.
    pub engine_grace: Millis,
    /// How often everything in the engine is listed, to mend what an event missed.
    pub resync: Millis,
    /// How often desired state is compared with one random peer.
    pub sync_interval: Millis,
    /// How long a change may wait for the second disk before its writer is told.
    pub store_deadline: Millis,
    /// How long the view must have been quiet before load is evened out.
    pub rebalance_after: Millis,
    /// Pause between two steps of evening out on one node; 0 turns it off.
    pub rebalance_every: Millis,
    /// `fenced` services: how long the losing side of a partition keeps its own.
    pub fence_after: Millis,
    /// `fenced` services: how long the winning side waits after its verdict; `fence_after` plus time
    /// to stop plus twice the clocks' drift.
    pub fence_wait: Millis,
    /// How long a leaving node tries to hand its replicas over.
    pub leave_timeout: Millis,
    /// Ended tasks kept for each slot, as Swarm's `TaskHistoryRetentionLimit`.
    pub history: usize,
}

impl Settings {
    /// How long a task that others send work to is known to be about to stop before it is stopped: until everybody
    /// has heard of it, and a moment for what is on its way.
    pub(crate) fn drain(&self) -> Millis {
        Millis(1_000 + self.stagger.0 / 2)
    }

    /// A few hundred hosts with round trips below some 10 ms.
    pub fn lan() -> Self {
        Self {
            timing: Timing::lan(),
            settle: Millis(4_000),
            stagger: Millis(1_000),
            pass_interval: Millis(5),
            max_starting: 8,
            start_timeout: Millis(300_000),
            restart_delay: Millis(500),
            restart_delay_max: Millis(60_000),
            stable_after: Millis(30_000),
            give_up_after: 5,
            pass_over: Millis(600_000),
            engine_grace: Millis(60_000),
            resync: Millis(30_000),
            sync_interval: Millis(2_000),
            store_deadline: Millis(10_000),
            rebalance_after: Millis(30_000),
            rebalance_every: Millis(1_000),
            fence_after: Millis(20_000),
            fence_wait: Millis(40_000),
            leave_timeout: Millis(120_000),
            history: 5,
        }
    }

    /// Several nodes on one machine: tests, the demo.
    pub fn local() -> Self {
        Self {
            timing: Timing::local(),
            settle: Millis(2_000),
            stagger: Millis(500),
            engine_grace: Millis(20_000),
            resync: Millis(10_000),
            sync_interval: Millis(1_000),
            rebalance_after: Millis(5_000),
            rebalance_every: Millis(500),
            fence_after: Millis(5_000),
            fence_wait: Millis(10_000),
            ..Self::lan()
        }
    }

    /// Hosts on several continents.
    pub fn wan() -> Self {
        Self {
            timing: Timing::wan(),
            settle: Millis(15_000),
            stagger: Millis(3_000),
            engine_grace: Millis(120_000),
            resync: Millis(60_000),
            sync_interval: Millis(5_000),
            store_deadline: Millis(20_000),
            rebalance_after: Millis(300_000),
            rebalance_every: Millis(5_000),
            fence_after: Millis(60_000),
            fence_wait: Millis(120_000),
            ..Self::lan()
        }
    }
}
