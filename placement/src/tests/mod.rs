//! Properties of the whole, over generated clusters.

mod explaining;
mod foreseeing;
mod oracle;
mod planning;
mod rebalancing;
mod rosters;
mod sharing;
pub(crate) mod worlds;
