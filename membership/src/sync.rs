//! Anti-entropy of desired state.

use serde::{Deserialize, Serialize};

use crate::record::Digest;

/// One step of a comparison between two nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SyncMessage {
    /// The sender's root.
    Root(Digest),
}
