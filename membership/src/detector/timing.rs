//! The detector's settings, as three profiles.

use crate::time::Millis;

/// How fast, and how sure. All values are checked by nobody: use a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Milliseconds between two probes of one member. Traffic is proportional to 10 / interval.
    pub probe_interval: Millis,
    /// How long an answer may take, the indirect ways included; these are tried at half of it. Must
    /// exceed twice the slowest round trip.
    pub probe_timeout: Millis,
    /// How many results of an edge count.
    pub window: u32,
    /// An edge is down when so many results of the window are failures. A crash is seen after about
    /// `edge_down_at * probe_interval + probe_timeout`.
    pub edge_down_at: u32,
    /// A down edge is up again when no more than so many results of the window are failures. Far below
    /// `edge_down_at`, or a bad link comes and goes, and the member with it; the price is a return that
    /// takes `(window - edge_up_at) * probe_interval`.
    pub edge_up_at: u32,
    /// How many others are asked to try before a probe counts as failed.
    pub indirect_helpers: usize,
    /// An edge that is down is probed at every n-th interval only, until it answers once.
    pub down_probe_every: u64,
    /// A tick this late makes the probes in flight void: their answers may wait unread.
    pub loop_late: Millis,
    /// A tick this late was a freeze: the node holds back.
    pub freeze: Millis,
    /// How long a node that has reason to doubt itself holds accusations and takeovers back, counted
    /// from the first doubt. The last survivor goes on alone after this.
    pub self_suspect_hold: Millis,
    /// How long a member whose host answers but whose shoal process is gone is waited for.
    pub gone_grace: Millis,
    /// How long a return from down is remembered as a flap.
    pub flap_memory: Millis,
}

impl Timing {
    /// One machine, as in `shoal demo` and tests: a crash is agreed on in about 1 s.
    pub const fn local() -> Self {
        Self {
            probe_interval: Millis(100),
            probe_timeout: Millis(400),
            self_suspect_hold: Millis(2_000),
            gone_grace: Millis(10_000),
            ..Self::lan()
        }
    }

    /// The default: a crash is agreed on in about 2 s, a freeze of 1 s is not noticed.
    pub const fn lan() -> Self {
        Self {
            probe_interval: Millis(250),
            probe_timeout: Millis(400),
            window: 10,
            edge_down_at: 6,
            edge_up_at: 1,
            indirect_helpers: 3,
            down_probe_every: 4,
            loop_late: Millis(150),
            freeze: Millis(1_000),
            self_suspect_hold: Millis(3_000),
            gone_grace: Millis(20_000),
            flap_memory: Millis::from_secs(600),
        }
    }

    /// Between sites, round trips up to 800 ms: a crash is agreed on in about 8 s.
    pub const fn wan() -> Self {
        Self {
            probe_interval: Millis(1_000),
            probe_timeout: Millis(2_000),
            loop_late: Millis(500),
            freeze: Millis(4_000),
            self_suspect_hold: Millis(12_000),
            gone_grace: Millis(60_000),
            ..Self::lan()
        }
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::lan()
    }
}
