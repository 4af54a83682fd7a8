//! Facts through chitchat.

use std::time::Duration;

use crate::config::Pace;

/// Up to this many members the gossip interval is the pace's own.
pub const FULL_PACE_MEMBERS: usize = 32;

/// How often a node starts an exchange with three others: the pace's interval x members / 32, at
/// least x 1 and at most x 30. Each exchange carries two digests of 66 bytes for each member, so this holds
/// the cost of an idle node at about 25 kB/s (`lan`) whatever the size. Nothing urgent waits for it: news
/// are pushed, chitchat repairs what a push missed.
pub fn gossip_interval(pace: Pace, members: usize) -> Duration {
    let base = pace.gossip_interval();
    let factor = members.clamp(FULL_PACE_MEMBERS, FULL_PACE_MEMBERS * 30);
    base * u32::try_from(factor).unwrap_or(u32::MAX) / FULL_PACE_MEMBERS as u32
}
