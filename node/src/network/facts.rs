//! What a node says of itself about networks: which blocks of addresses it has, and which addresses its tasks.

use std::net::Ipv4Addr;

use membership::id::{NetworkId, TaskId};
use membership::time::Wall;
use membership::wire::Versioned;
use serde::{Deserialize, Serialize};

use crate::slot::Slot;

/// The value of a [`membership::fact::FactKey::Blocks`] fact: what the node has of one network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    /// The first one has the node's own address in it.
    pub blocks: Vec<Block>,
}

impl Versioned for Blocks {
    const TAG: u8 = b'b';
    const VERSION: u8 = 1;
    const LIMIT: usize = membership::fact::MAX_FACT_BYTES;
}

/// One block of a network's subnet, as its holder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Block {
    /// Which one of the subnet's.
    pub index: u32,
    /// Since when its addresses are used; `None` while the node still waits for somebody with a better right.
    pub since: Option<Wall>,
}

/// The value of a [`membership::fact::FactKey::Endpoints`] fact: some of a service's tasks on the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    pub endpoints: Vec<Endpoint>,
}

impl Versioned for Endpoints {
    const TAG: u8 = b'e';
    const VERSION: u8 = 1;
    const LIMIT: usize = membership::fact::MAX_FACT_BYTES;
}

/// How far a task with an address is. Append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointPhase {
    Starting,
    /// It serves.
    Ready,
    /// It is about to stop: what is connected goes on, nothing new is sent there.
    Draining,
}

/// One task with its addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    pub task: TaskId,
    pub slot: Slot,
    pub phase: EndpointPhase,
    pub addresses: Vec<(NetworkId, Ipv4Addr)>,
}

#[cfg(test)]
mod tests {
    use membership::id::NodeId;
    use membership::wire;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn layouts_are_what_they_were() {
        let blocks = Blocks {
            blocks: vec![
                Block { index: 9, since: Some(Wall(700)) },
                Block { index: 300, since: None },
            ],
        };
        let bytes = wire::encode(&blocks).unwrap();
        assert_eq!(hex(&bytes), "6201020901fbbc02fb2c0100");
        assert_eq!(wire::decode::<Blocks>(&bytes).unwrap(), blocks);
        let endpoints = Endpoints {
            endpoints: vec![
                Endpoint {
                    task: TaskId(1),
                    slot: Slot::Index(2),
                    phase: EndpointPhase::Ready,
                    addresses: vec![(NetworkId(3), Ipv4Addr::new(10, 5, 0, 9))],
                },
                Endpoint {
                    task: TaskId(4),
                    slot: Slot::Node(NodeId(5)),
                    phase: EndpointPhase::Draining,
                    addresses: Vec::new(),
                },
            ],
        };
        let bytes = wire::encode(&endpoints).unwrap();
        assert_eq!(hex(&bytes), "6501020100020101030a0500090401050200");
        assert_eq!(wire::decode::<Endpoints>(&bytes).unwrap(), endpoints);
    }
}
