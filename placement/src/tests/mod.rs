//! Properties of the whole, over generated clusters.

mod oracle;
mod planning;
mod rebalancing;
mod sharing;
pub(crate) mod worlds;
