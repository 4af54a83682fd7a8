//! Properties of the whole, over generated clusters.

mod explaining;
mod oracle;
mod planning;
mod rebalancing;
mod sharing;
pub(crate) mod worlds;
